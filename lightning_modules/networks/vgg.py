"""Build networks of the VGG family: a chain of stages, and a head."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from lightning_modules.networks.layers import (
    ACTIVATIONS,
    NORMS_AFTER_ACTIVATION,
    NORMS_BEFORE_ACTIVATION,
    Dropout,
    build_stem_7x7,
    halve_side,
    local_response_norm,
)
from lightning_modules.specs.networks import Stage, Vgg
from lightning_modules.specs.scale import Scale, scaled_width

STEM_WIDTH = 64  # of ResNet's 7×7 stem (He et al. 2016, Table 1)


def build_vgg(network: Vgg, scale: Scale) -> nn.Module:
    """Build a scaled VGG network; its layer paths are ``stem.conv``, ``stage3.conv1``, ``head.fc2``."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels, side = scale.channels, scale.resolution
    if network.stem == "7x7":
        width = scaled_width(STEM_WIDTH, scale)
        layers["stem"] = nn.Sequential(build_stem_7x7(channels, width, network.norm, network.activation, bias=True))
        side = halve_side(halve_side(side, round_up=True), round_up=True)  # by its convolution and by its pooling
        channels = width
    for number, stage in enumerate(network.stages, 1):
        layers[f"stage{number}"] = _build_stage(network, stage, channels, is_first=number == 1)
        # Of an odd side, a pooling drops the last row, but a padded convolution of stride 2 keeps it.
        side = halve_side(side, round_up=network.pooling == "strided")
        channels = stage.width
    if network.head.pooling == "average":
        layers["average"] = nn.AdaptiveAvgPool2d(1)
        side = 1
    layers["flatten"] = nn.Flatten()
    layers["head"] = _build_head(network, channels * side**2, scale.classes)
    return nn.Sequential(layers)


def _build_stage(network: Vgg, stage: Stage, in_channels: int, *, is_first: bool) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    is_strided = network.pooling == "strided"
    for number, conv in enumerate(stage.convs, 1):
        is_last = number == len(stage.convs)
        stride = 2 if is_strided and is_last else 1
        layers[f"conv{number}"] = nn.Conv2d(in_channels, stage.width, conv.kernel, stride, padding=conv.kernel // 2)
        if network.norm in NORMS_BEFORE_ACTIVATION:
            # The convolution keeps its bias under a norm, so that arms with and without differ in the norm alone.
            layers[f"norm{number}"] = NORMS_BEFORE_ACTIVATION[network.norm](stage.width)
        if conv.activate:
            layers[f"{network.activation}{number}"] = ACTIVATIONS[network.activation]()
        if network.norm in NORMS_AFTER_ACTIVATION:
            layers[f"lrn{number}"] = NORMS_AFTER_ACTIVATION[network.norm]()
        if network.norm == "lrn-first" and is_first and number == 1:
            layers["lrn"] = local_response_norm()
        in_channels = stage.width
    if not is_strided:
        layers["pool"] = nn.MaxPool2d(2) if network.pooling == "max" else nn.AvgPool2d(2)
    return nn.Sequential(layers)


def _build_head(network: Vgg, in_features: int, num_classes: int) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, width in enumerate(network.head.widths, 1):
        layers[f"fc{number}"] = nn.Linear(in_features, width)
        layers[f"{network.activation}{number}"] = ACTIVATIONS[network.activation]()
        layers[f"dropout{number}"] = Dropout(network.head.dropout)
        in_features = width
    layers[f"fc{len(network.head.widths) + 1}"] = nn.Linear(in_features, num_classes)
    return nn.Sequential(layers)
