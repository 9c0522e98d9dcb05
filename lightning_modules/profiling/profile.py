"""Profile a network by a run on tensors without data.

Parameters, multiply-adds, receptive field, depth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightning_modules.specs.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from lightning_modules.profiling.receptive_field import ReceptiveField
    from lightning_modules.profiling.tracer import ModuleTrace, OperatorCall
    from lightning_modules.specs.networks import Network
    from lightning_modules.specs.scale import Scale


@dataclass(frozen=True, kw_only=True)
class LayerProfile:
    """A layer that computes, or a function called outside of layers.

    Such a function is the addition of a shortcut.

    Attributes:
        place: layer path, such as ``stage3.conv1``; of a function, the path of the calling module and the function's
            name, numbered if there are several: ``stage3.block1.add``.
        kind: the class of the layer, or the function's name.
        output: shape of its output for one image, without the batch: ``(channels, height, width)`` or ``(units,)``.
        parameters: learned numbers, biases included; those that several layers share count for the first one.
        multiply_adds: per image, of convolutions and matrix products; the addition of biases is not counted.
        receptive_field: side of an output position's receptive field in input pixels, the longer one if the two
            differ; 0 once there are no positions left; ``None`` if unknown.
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
    """A network's layers in inference, and their sums.

    Attributes:
        weight_layers: convolutions and fully connected layers on the longest path from the image to the output: a
            projection beside two convolutions does not count.
        parameters: those that inference uses; shared ones count once.
        idle_parameters: those that inference does not use, such as GoogLeNet's auxiliary heads'.
        conv_parameters: parameters of the convolutions.
        receptive_field: of the last feature map that has positions, input pixels; ``None`` if an operation before it
            moves or mixes positions in a way that no rule covers.
        nonlinearities: calls of element-wise nonlinear functions, in layers or not, on maps (four dimensions): of
            activations, clamps, maxima (maxout included), and choices by a condition on the map. Softmax, powers, roots
            and exponentials do not count, as normalizations are made of them; nor does a clamp by a small positive
            number, which keeps a divisor from zero. Each call is judged by itself, and values of tensors are not read:
            one that only serves a normalization counts where it is a clamp at 0 or at a tensor, a maximum with a tensor
            (``functional.cosine_similarity`` has two) or an absolute value (``x / x.abs().mean()``). A maximum over
            all channels at once does not count.
        functions: calls of each function outside of layers, by name; views and copies excluded.
        uncounted: operators with much arithmetic that ``multiply_adds`` does not include, as no rule covers them.
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
        """Return the sums by name; unknown ones are left out."""
        properties = {
            "weight_layers": self.weight_layers,
            "parameters": self.parameters,
            "conv_parameters": self.conv_parameters,
            "multiply_adds": self.multiply_adds,
            "receptive_field": self.receptive_field,
            "nonlinearities": self.nonlinearities,
        }
        return {name: value for name, value in properties.items() if value is not None}


def profile_spec(network: Network, scale: Scale) -> Profile:
    """Profile a network at a scale, on the meta device.

    No weights are allocated, unless a custom network needs them.

    Raises:
        InvalidValue: for a resolution that is too small for the network.
        UserError: for a custom network that cannot be built, fails, or gives no logits ``(batch, classes)``.
    """
    import torch

    try:
        return _profile_on_device(torch.device("meta"), network, scale)
    except (RuntimeError, UserError) as error:
        if "meta" not in str(error).lower():
            raise
    # A custom network that reads a tensor's content fails on the meta device. Its initialization must not move the
    # caller's random numbers.
    with torch.random.fork_rng(devices=()):
        return _profile_on_device(torch.device("cpu"), network, scale)


def profile_module(module: nn.Module, image_shape: tuple[int, int, int]) -> Profile:
    """Profile any module for an image ``(channels, height, width)``.

    It runs on the module's own device.

    The module is run once, in inference, and left as it was. For the rules of receptive fields see
    :mod:`lightning_modules.profiling.field_rules`.

    Raises:
        UserError: for a forward pass that fails on such an image.
    """
    from lightning_modules.profiling.tracer import trace_module

    return _make_profile(module, trace_module(module, image_shape))


def _profile_on_device(device: torch.device, network: Network, scale: Scale) -> Profile:
    from lightning_modules.networks.build import build_network
    from lightning_modules.profiling.tracer import trace_module

    with device:
        module = build_network(network, scale)
        trace = trace_module(module, scale.image_shape)
    _require_logits(module, trace.output, scale.classes)
    return _make_profile(module, trace)


def _require_logits(module: nn.Module, output: object, num_classes: int) -> None:
    import torch

    # Further outputs are those of auxiliary heads.
    logits = output[0] if isinstance(output, tuple) and output else output
    if not isinstance(logits, torch.Tensor):
        description = f"a {type(logits).__name__}"
    elif tuple(logits.shape) != (1, num_classes):
        description = f"the shape {tuple(logits.shape)}"
    else:
        return
    raise UserError(
        f"{type(module).__name__} gives {description} for one image; expected (batch, classes), which is "
        f"(1, {num_classes})."
    )


def _make_profile(module: nn.Module, trace: ModuleTrace) -> Profile:
    layers = _layer_profiles(trace.calls)
    num_used = num_convolved = 0
    for parameter, is_convolution in trace.used_parameters.items():
        num_used += parameter.numel()
        num_convolved += parameter.numel() if is_convolution else 0
    output = trace.observed_output  # None for an output that does not depend on the image
    field = output.receptive_field if output else None
    return Profile(
        layers=layers,
        weight_layers=output.depth if output else 0,
        parameters=num_used,
        idle_parameters=sum(parameter.numel() for parameter in module.parameters()) - num_used,
        conv_parameters=num_convolved,
        multiply_adds=sum(layer.multiply_adds for layer in layers),
        receptive_field=None if field is None else field.size,
        nonlinearities=trace.num_nonlinearities,
        functions=dict(sorted(trace.function_counts.items())),
        uncounted=tuple(sorted(trace.uncounted_operators)),
    )


def _layer_profiles(calls: Sequence[OperatorCall]) -> tuple[LayerProfile, ...]:
    # A function that a module calls several times gets a number; a layer that runs several times keeps its path.
    num_calls = Counter(call.layer_path for call in calls if call.is_function)
    num_so_far: Counter[str] = Counter()
    layers = []
    for call in calls:
        num_so_far[call.layer_path] += 1
        is_numbered = call.is_function and num_calls[call.layer_path] > 1
        number = str(num_so_far[call.layer_path]) if is_numbered else ""
        layers.append(
            LayerProfile(
                place=call.layer_path + number,
                kind=call.kind,
                output=call.output_shape,
                parameters=call.num_parameters,
                multiply_adds=call.multiply_adds,
                receptive_field=_visible_field_size(call.receptive_field, call.output_shape),
                depth=call.depth,
            )
        )
    return tuple(layers)


def _visible_field_size(field: ReceptiveField, output_shape: Sequence[int]) -> int | None:
    """Return a field's size; 0 for an output without positions.

    Positions that share a dimension with channels count as none.
    """
    from lightning_modules.profiling.receptive_field import SpatialField

    if field is None:
        return None
    has_positions = isinstance(field, SpatialField) and field.position_dims((1, *output_shape)) is not None
    return field.size if has_positions else 0
