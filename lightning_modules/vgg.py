"""The VGG family as a module: a chain of stages, and a head."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from lightning_modules.layers import (
    ACTIVATIONS,
    AFTER_ACTIVATION,
    BEFORE_ACTIVATION,
    halved,
    local_response_norm,
    stem_7x7,
)
from lightning_modules.networks import Stage, Vgg, narrowed
from lightning_modules.spec import Scale

STEM_WIDTH = 64


def build_vgg(network: Vgg, scale: Scale) -> nn.Module:
    """A realised network as a module; places are ``stem.conv``, ``stage3.conv1``, ``head.fc2``."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels, side = scale.channels, scale.resolution
    if network.stem == "7x7":
        width = narrowed(STEM_WIDTH, scale)
        layers["stem"] = nn.Sequential(stem_7x7(channels, width, network.norm, network.activation, bias=True))
        channels, side = width, halved(halved(side, rounded_up=True), rounded_up=True)
    for number, stage in enumerate(network.stages, 1):
        layers[f"stage{number}"] = _stage(network, stage, channels, first=number == 1)
        channels, side = stage.width, halved(side, rounded_up=network.pooling == "strided")
    if network.head.pooling == "average":
        layers["average"] = nn.AdaptiveAvgPool2d(1)
        side = 1
    layers["flatten"] = nn.Flatten()
    layers["head"] = _head(network, channels * side**2, scale.classes)
    return nn.Sequential(layers)


def _stage(network: Vgg, stage: Stage, channels: int, *, first: bool) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    strided = network.pooling == "strided"
    for number, conv in enumerate(stage.convs, 1):
        stride = 2 if strided and number == len(stage.convs) else 1
        layers[f"conv{number}"] = nn.Conv2d(channels, stage.width, conv.kernel, stride, padding=conv.kernel // 2)
        if network.norm in BEFORE_ACTIVATION:
            layers[f"norm{number}"] = BEFORE_ACTIVATION[network.norm](stage.width)
        if conv.activate:
            layers[f"{network.activation}{number}"] = ACTIVATIONS[network.activation]()
        if network.norm in AFTER_ACTIVATION:
            layers[f"lrn{number}"] = AFTER_ACTIVATION[network.norm]()
        if network.norm == "lrn-first" and first and number == 1:
            layers["lrn"] = local_response_norm()
        channels = stage.width
    if not strided:
        layers["pool"] = nn.MaxPool2d(2) if network.pooling == "max" else nn.AvgPool2d(2)
    return nn.Sequential(layers)


def _head(network: Vgg, features: int, classes: int) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, width in enumerate(network.head.widths, 1):
        layers[f"fc{number}"] = nn.Linear(features, width)
        layers[f"{network.activation}{number}"] = ACTIVATIONS[network.activation]()
        layers[f"dropout{number}"] = nn.Dropout(network.head.dropout)
        features = width
    layers[f"fc{len(network.head.widths) + 1}"] = nn.Linear(features, classes)
    return nn.Sequential(layers)
