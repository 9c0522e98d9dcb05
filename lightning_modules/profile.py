"""What a network costs and sees, measured on the module as built: by running it on tensors that hold no data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightning_modules.values import Misuse

if TYPE_CHECKING:
    import torch
    from torch import nn

    from lightning_modules.fields import Field
    from lightning_modules.spec import Network, Scale
    from lightning_modules.tracing import Row, Traced


@dataclass(frozen=True, kw_only=True)
class LayerProfile:
    """One layer that computes, or one function that was called outside of layers, such as a shortcut's addition.

    Attributes:
        place: the layer's name in the module, such as ``stage3.conv1``; of a function, the name of the module that
            calls it and its own, numbered where there are several: ``stage3.block1.add``.
        kind: the class of the layer, or the function's name.
        output: shape of its output for one image, without the batch: ``(channels, height, width)`` or ``(units,)``.
        parameters: learned numbers, biases counted; where several layers share them, the first one has them.
        multiply_adds: of one image; those of convolutions and matrix products, bias additions not counted.
        receptive_field: side in input pixels of what one output position sees, the longer one where the two differ; 0
            once positions are gone; ``None`` where it cannot be known.
        depth: convolutions and fully connected layers on the longest path from the image to its output.
    """

    place: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int
    receptive_field: int | None
    depth: int


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A network's layers in inference, and what they come to.

    Attributes:
        weight_layers: convolutions and fully connected layers on the longest path from the image to the output: a
            projection beside two convolutions does not count.
        parameters: those that inference uses; shared ones once.
        idle_parameters: those that it does not, such as GoogLeNet's auxiliary heads'.
        conv_parameters: parameters of the convolutions.
        receptive_field: of the last feature map before positions are gone, input pixels; ``None`` where an operation
            on the way moves or mixes positions in a way that is not followed.
        nonlinearities: calls of element-wise non-linear functions, in layers or not, that give a map (four dimensions);
            softmax is none.
        functions: how often each function was called outside of layers, by name; views and copies left out.
        uncounted: operations with much arithmetic that ``multiply_adds`` leaves out, because no rule covers them.
    """

    layers: tuple[LayerProfile, ...]
    weight_layers: int
    parameters: int
    idle_parameters: int
    conv_parameters: int
    multiply_adds: int
    receptive_field: int | None
    nonlinearities: int
    functions: Mapping[str, int]
    uncounted: tuple[str, ...]

    def properties(self) -> Mapping[str, int]:
        """The sums by name; what cannot be known is left out, not guessed."""
        names = ("weight_layers", "parameters", "conv_parameters", "multiply_adds", "receptive_field", "nonlinearities")
        found = {name: getattr(self, name) for name in names}
        return {name: value for name, value in found.items() if value is not None}


def profile(network: Network, scale: Scale) -> Profile:
    """The profile of a network at a scale; no weights are allocated, unless a custom network cannot do without.

    Raises:
        InvalidValue: where the resolution is too small for the network.
        Misuse: where a custom network cannot be made, fails, or gives no logits ``(batch, classes)``.
    """
    import torch

    try:
        return _profile_on(torch.device("meta"), network, scale)
    except (RuntimeError, Misuse) as error:
        if "meta" not in str(error).lower():
            raise
    with torch.random.fork_rng(devices=()):  # it asks for a tensor's content
        return _profile_on(torch.device("cpu"), network, scale)


def profile_module(module: nn.Module, image: tuple[int, int, int]) -> Profile:
    """The profile of any module for an image ``(channels, height, width)``, on the module's own device.

    The module is run once, in inference, and left as it was. How receptive fields are followed: see ``fields``.

    Raises:
        Misuse: where its forward fails on such an image.
    """
    from lightning_modules.tracing import trace

    return _summed(module, trace(module, image))


def _profile_on(device: torch.device, network: Network, scale: Scale) -> Profile:
    from lightning_modules.build import build
    from lightning_modules.tracing import trace

    with device:
        module = build(network, scale)
        traced = trace(module, (scale.channels, scale.resolution, scale.resolution))
    _require_logits(module, traced.output, scale.classes)
    return _summed(module, traced)


def _require_logits(module: nn.Module, output: object, classes: int) -> None:
    import torch

    first = output[0] if isinstance(output, tuple) and output else output
    found = f"the shape {tuple(first.shape)}" if isinstance(first, torch.Tensor) else f"a {type(first).__name__}"
    if not (isinstance(first, torch.Tensor) and tuple(first.shape) == (1, classes)):
        raise Misuse(
            f"{type(module).__name__} gives {found} for one image; expected (batch, classes), which is (1, {classes})."
        )


def _summed(module: nn.Module, traced: Traced) -> Profile:
    layers = _layers(traced.rows)
    used = sum(parameter.numel() for parameter in traced.parameters)
    return Profile(
        layers=layers,
        weight_layers=traced.seen.depth if traced.seen else 0,
        parameters=used,
        idle_parameters=sum(parameter.numel() for parameter in module.parameters()) - used,
        conv_parameters=sum(each.numel() for each, convolves in traced.parameters.items() if convolves),
        multiply_adds=sum(layer.multiply_adds for layer in layers),
        receptive_field=_last_side(traced.seen.field) if traced.seen else None,
        nonlinearities=traced.nonlinearities,
        functions=dict(sorted(traced.functions.items())),
        uncounted=tuple(sorted(traced.uncounted)),
    )


def _layers(rows: Sequence[Row]) -> tuple[LayerProfile, ...]:
    total = Counter(row.place for row in rows if row.is_function)
    so_far: Counter[str] = Counter()
    layers = []
    for row in rows:
        so_far[row.place] += 1
        number = str(so_far[row.place]) if row.is_function and total[row.place] > 1 else ""
        layers.append(
            LayerProfile(
                place=row.place + number,
                kind=row.kind,
                output=row.output,
                parameters=row.parameters,
                multiply_adds=row.multiply_adds,
                receptive_field=_side(row.field, row.output),
                depth=row.depth,
            )
        )
    return tuple(layers)


def _side(field: Field, output: Sequence[int]) -> int | None:
    """Of the positions that an output shows; 0 where they are gone, or one dimension holds them with the channels."""
    from lightning_modules.fields import Positions

    if field is None:
        return None
    return field.side if isinstance(field, Positions) and field.dims((1, *output)) is not None else 0


def _last_side(field: Field) -> int | None:
    return None if field is None else field.side
