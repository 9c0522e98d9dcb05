"""Build the ``nn.Module`` of a network spec; layer paths such as ``stage3.conv1`` are the same in all networks."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from lightning_modules.networks.custom import build_custom
from lightning_modules.networks.resnet import build_resnet
from lightning_modules.networks.vgg import build_vgg
from lightning_modules.specs.errors import UserError
from lightning_modules.specs.networks import Custom, Network, ResNet, Vgg
from lightning_modules.specs.scale import Scale, apply_scale

WeightLayer = nn.Conv2d | nn.Linear


def build_network(network: Network, scale: Scale) -> nn.Module:
    """Build a network at a scale, on the default device, with PyTorch's own initial weights.

    The module maps images ``(N, channels, resolution, resolution)`` to logits ``(N, classes)``.

    Raises:
        InvalidValue: if the resolution is too small for the network.
        UserError: if a custom network cannot be built.
    """
    scaled = apply_scale(network, scale)
    if isinstance(scaled, Vgg):
        return build_vgg(scaled, scale)
    if isinstance(scaled, ResNet):
        return build_resnet(scaled, scale)
    assert isinstance(scaled, Custom)
    return build_custom(scaled, scale.image_shape)


def build_meta_network(network: Network, scale: Scale) -> nn.Module:
    """Build a network on torch's meta device: shapes without memory for weights.

    A custom network that cannot be built there is built in memory and moved.
    """
    try:
        with torch.device("meta"):
            return build_network(network, scale)
    except UserError:
        if not isinstance(network, Custom):
            raise
        return build_network(network, scale).to("meta")


def weight_layers(module: nn.Module) -> Iterator[tuple[str, WeightLayer]]:
    """Iterate over the convolutions and fully connected layers with their layer paths, in order."""
    for layer_path, layer in module.named_modules():
        if isinstance(layer, WeightLayer):
            yield layer_path, layer
