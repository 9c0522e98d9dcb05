"""From a spec to the module: layers with names that say their place, and initial weights drawn by place."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator

import torch
from torch import nn

from lightning_modules.spec import Initialiser, Scale, Stage, Vgg, realise
from lightning_modules.streams import generator

Layer = nn.Conv2d | nn.Linear

# The weights' standard deviation, from a layer's inputs and outputs per unit of its output or input map.
DEVIATIONS: dict[Initialiser, Callable[[int, int], float]] = {
    "he": lambda fan_in, fan_out: math.sqrt(2 / fan_in),  # noqa: ARG005 - He et al. 2015, eq. 10
    "glorot": lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)),  # Glorot & Bengio 2010, eq. 12
}


def build(network: Vgg, scale: Scale) -> nn.Module:
    """The network as a module, on the default device, with PyTorch's own initial weights.

    Maps a batch of images ``(N, channels, resolution, resolution)`` to logits ``(N, classes)``. Layers are named by
    their place: ``stage3.conv1``, ``head.fc2``.

    Raises:
        InvalidValue: where the resolution is too small for the network.
    """
    network = realise(network, scale)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = scale.channels
    for number, stage in enumerate(network.stages, 1):
        layers[f"stage{number}"] = _stage(stage, channels, normalised=network.norm == "lrn-first" and number == 1)
        channels = stage.width
    side = scale.resolution // 2 ** len(network.stages)
    layers["flatten"] = nn.Flatten()
    layers["head"] = _head(network, channels * side**2, scale.classes)
    return nn.Sequential(layers)


def _stage(stage: Stage, channels: int, *, normalised: bool) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, conv in enumerate(stage.convs, 1):
        layers[f"conv{number}"] = nn.Conv2d(channels, stage.width, conv.kernel, padding=conv.kernel // 2)
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
        if normalised and number == 1:
            layers["lrn"] = local_response_norm()
        channels = stage.width
    layers["pool"] = nn.MaxPool2d(2)
    return nn.Sequential(layers)


def _head(network: Vgg, features: int, classes: int) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, width in enumerate(network.head.widths, 1):
        layers[f"fc{number}"] = nn.Linear(features, width)
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
        layers[f"dropout{number}"] = nn.Dropout(network.head.dropout)
        features = width
    layers[f"fc{len(network.head.widths) + 1}"] = nn.Linear(features, classes)
    return nn.Sequential(layers)


def local_response_norm() -> nn.LocalResponseNorm:
    """AlexNet's: n = 5, k = 2, alpha = 1e-4, beta = 0.75 (Krizhevsky et al. 2012, Sect. 3.3).

    PyTorch divides alpha by n, the paper does not: hence 5e-4.
    """
    return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)


def weight_layers(module: nn.Module) -> Iterator[tuple[str, Layer]]:
    """The convolutions and fully connected layers with their places, in order."""
    for place, layer in module.named_modules():
        if isinstance(layer, Layer):
            yield place, layer


@torch.no_grad()
def initialise(module: nn.Module, initialiser: Initialiser, seed: int) -> None:
    """Draw every layer's weights from (seed, place, shape) as unit normals, and scale them; biases are zero.

    A layer that two networks share, by place and by shape, starts equal in both, whatever lies around it.
    """
    for place, layer in weight_layers(module):
        shape = tuple(layer.weight.shape)
        unit = generator(seed, "weights", place, *shape).standard_normal(shape, dtype="float32")
        field = math.prod(shape[2:])
        deviation = DEVIATIONS[initialiser](shape[1] * field, shape[0] * field)
        layer.weight.copy_(torch.from_numpy(unit) * deviation)
        if layer.bias is not None:
            layer.bias.zero_()
