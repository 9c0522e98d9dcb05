"""What a network costs and sees, measured on the module as built: by running it on tensors that hold no data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

    from lightning_modules.spec import Network, Scale


@dataclass(frozen=True, kw_only=True)
class LayerProfile:
    """One layer that computes: a convolution, a pooling, a fully connected layer, a norm or a non-linearity.

    Attributes:
        place: the layer's name in the module, such as ``stage3.conv1``.
        kind: the class of the layer.
        output: shape of its output for one image, without the batch: ``(channels, height, width)`` or ``(units,)``.
        parameters: learned numbers, biases counted.
        multiply_adds: of one image; those of convolutions and fully connected layers, bias additions not counted.
        receptive_field: side in input pixels of what one output position sees; 0 once positions are gone.
    """

    place: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int
    receptive_field: int


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A network's layers, and their sums.

    Attributes:
        weight_layers: convolutions and fully connected layers.
        conv_parameters: parameters of the convolutions.
        receptive_field: of the last feature map before the head, input pixels.
        nonlinearities: element-wise non-linear layers before the head.
    """

    layers: tuple[LayerProfile, ...]
    weight_layers: int
    parameters: int
    conv_parameters: int
    multiply_adds: int
    receptive_field: int
    nonlinearities: int

    def properties(self) -> Mapping[str, int]:
        """The sums by name."""
        names = ("weight_layers", "parameters", "conv_parameters", "multiply_adds", "receptive_field", "nonlinearities")
        return {name: getattr(self, name) for name in names}


def profile(network: Network, scale: Scale) -> Profile:
    """The profile of a network at a scale; no weights are allocated.

    Raises:
        InvalidValue: where the resolution is too small for the network.
    """
    import torch

    from lightning_modules.build import build

    with torch.device("meta"):
        return profile_module(build(network, scale), (scale.channels, scale.resolution, scale.resolution))


def profile_module(module: nn.Module, image: tuple[int, int, int]) -> Profile:
    """The profile of a sequential module, for an image ``(channels, height, width)``, on the module's own device.

    Receptive fields are composed along the order in which layers run (Araujo et al. 2019, eq. 2): exact for a chain.
    """
    import torch
    from torch import nn

    layers: list[LayerProfile] = []
    seen = _Field()

    def record(place: str) -> Any:
        def hook(layer: nn.Module, _: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            seen.pass_through(layer, output)
            layers.append(_layer(place, layer, output, seen.side))

        return hook

    handles = [
        layer.register_forward_hook(record(place))
        for place, layer in module.named_modules()
        if not any(layer.children()) and not isinstance(layer, (nn.Dropout, nn.Flatten, nn.Identity))
    ]
    mode = module.training
    try:
        device = next(module.parameters()).device
        with torch.no_grad():
            module.eval()(torch.empty(1, *image, device=device))
    finally:
        module.train(mode)
        for handle in handles:
            handle.remove()
    return _summed(tuple(layers))


class _Field:
    """The receptive field so far: its side, and the distance of neighbouring outputs, both in input pixels."""

    def __init__(self) -> None:
        self.side, self.jump = 1, 1

    def pass_through(self, layer: nn.Module, output: torch.Tensor) -> None:
        if output.dim() < 4:
            self.side = 0
            return
        kernel, stride = _first(getattr(layer, "kernel_size", 1)), _first(getattr(layer, "stride", 1))
        self.side += (kernel - 1) * self.jump
        self.jump *= stride


def _first(size: int | tuple[int, ...]) -> int:
    return size[0] if isinstance(size, tuple) else size


def _layer(place: str, layer: nn.Module, output: torch.Tensor, receptive_field: int) -> LayerProfile:
    shape = tuple(output.shape[1:])
    return LayerProfile(
        place=place,
        kind=type(layer).__name__,
        output=shape,
        parameters=sum(parameter.numel() for parameter in layer.parameters()),
        multiply_adds=_multiply_adds(layer, shape),
        receptive_field=receptive_field,
    )


def _multiply_adds(layer: nn.Module, output: tuple[int, ...]) -> int:
    from torch import nn

    if not isinstance(layer, (nn.Conv2d, nn.Linear)):
        return 0
    inputs_of_one_output = math.prod(layer.weight.shape[1:])
    return math.prod(output) * inputs_of_one_output


def _summed(layers: tuple[LayerProfile, ...]) -> Profile:
    maps = [layer for layer in layers if len(layer.output) == 3]
    convolutions = [layer for layer in layers if layer.kind == "Conv2d"]
    connected = [layer for layer in layers if layer.kind == "Linear"]
    return Profile(
        layers=layers,
        weight_layers=len(convolutions) + len(connected),
        parameters=sum(layer.parameters for layer in layers),
        conv_parameters=sum(layer.parameters for layer in convolutions),
        multiply_adds=sum(layer.multiply_adds for layer in layers),
        receptive_field=maps[-1].receptive_field if maps else 0,
        nonlinearities=sum(layer.kind == "ReLU" for layer in maps),
    )
