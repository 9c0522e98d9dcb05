"""From a spec to the module: layers with names that say their place."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from lightning_modules.custom import build_custom
from lightning_modules.networks import Custom, Network, ResNet, Vgg, realise
from lightning_modules.resnet import build_resnet
from lightning_modules.spec import Scale
from lightning_modules.values import Misuse
from lightning_modules.vgg import build_vgg

Layer = nn.Conv2d | nn.Linear


def build(network: Network, scale: Scale) -> nn.Module:
    """The network as a module, on the default device, with PyTorch's own initial weights.

    Maps a batch of images ``(N, channels, resolution, resolution)`` to logits ``(N, classes)``.

    Raises:
        InvalidValue: where the resolution is too small for the network.
        Misuse: where a custom network cannot be made.
    """
    realised = realise(network, scale)
    if isinstance(realised, Vgg):
        return build_vgg(realised, scale)
    if isinstance(realised, ResNet):
        return build_resnet(realised, scale)
    assert isinstance(realised, Custom)
    return build_custom(realised)


def hollow(network: Network, scale: Scale) -> nn.Module:
    """The network without memory for its weights, to be looked at; a custom one that cannot be made so gives it up."""
    try:
        with torch.device("meta"):
            return build(network, scale)
    except Misuse:
        if not isinstance(network, Custom):
            raise
        return build(network, scale).to("meta")


def weight_layers(module: nn.Module) -> Iterator[tuple[str, Layer]]:
    """The convolutions and fully connected layers with their places, in order."""
    for place, layer in module.named_modules():
        if isinstance(layer, Layer):
            yield place, layer
