"""Rules of receptive fields: from an operator's inputs to its output, one rule per kind of operator.

Normalization layers leave a field as it is: the statistics that some of them take over the map do not count. After an
operator that shuffles positions in a way that no rule covers, or mixes all of them and gives the mix back to each
(attention, squeeze-and-excitation), the field is unknown: it is left open, not guessed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from lightning_modules.profiling.receptive_field import (
    MATRIX_OPERANDS,
    AppliedOperator,
    CollapsedField,
    ReceptiveField,
    SpatialField,
    broadcast_field,
    unite_fields,
)

FieldRule = Callable[[AppliedOperator], ReceptiveField]


def receptive_field_after(operator: AppliedOperator) -> ReceptiveField:
    """Return the receptive field of an operator's output.

    ``None`` if unknown, as without a rule for the operator.
    """
    fields = [field for _, field in operator.inputs]
    if None in fields:
        return None
    collapsed_sizes = [field.size for field in fields if isinstance(field, CollapsedField)]
    if len(collapsed_sizes) == len(fields):
        return CollapsedField(size=max(collapsed_sizes))
    if collapsed_sizes:  # such as squeeze-and-excitation: what all positions gave is given back to each
        return None
    if operator.is_pointwise:
        return _elementwise_rule(operator)
    if _is_reduction(operator):
        return _reduction_rule(operator)
    rule = FIELD_RULES.get(operator.name)
    return rule(operator) if rule else None


def _elementwise_rule(operator: AppliedOperator) -> ReceptiveField:
    shape = operator.output.shape
    return unite_fields([broadcast_field(field, tensor.shape, shape) for tensor, field in operator.inputs])


def _first_input(operator: AppliedOperator) -> tuple[torch.Tensor, SpatialField]:
    """Return the first input that depends on the image.

    Its field has positions where rules are applied.
    """
    tensor, field = operator.inputs[0]
    assert isinstance(field, SpatialField)
    return tensor, field


def _normalization_rule(operator: AppliedOperator) -> ReceptiveField:
    """Keep the field, whatever the statistics are taken over."""
    tensor, field = _first_input(operator)
    return broadcast_field(field, tensor.shape, operator.output.shape)


def _view_rule(operator: AppliedOperator) -> ReceptiveField:
    """Keep the field of a view or copy: the order in memory is the same."""
    return _first_input(operator)[1]


def _slide_window(operator: AppliedOperator, kernel: Any, stride: Any, padding: Any, dilation: Any) -> ReceptiveField:
    tensor, field = _first_input(operator)
    if field.position_dims(tensor.shape) != (tensor.dim() - 2, tensor.dim() - 1):
        return None
    kernels, strides = _height_and_width(kernel), _height_and_width(stride or kernel)  # pooling strides by its window
    paddings, dilations = _height_and_width(padding), _height_and_width(dilation)
    height = field.axes[0].slide_window(kernels[0], strides[0], paddings[0], dilations[0])
    width = field.axes[1].slide_window(kernels[1], strides[1], paddings[1], dilations[1])
    return SpatialField(axes=(height, width), shape=(operator.output.shape[-2], operator.output.shape[-1]))


def _height_and_width(size: Any) -> tuple[int, int]:
    """Return a setting's values for height and width.

    One number is for both; of several, the last two.
    """
    if isinstance(size, int):
        return size, size
    sizes = tuple(size)
    return sizes[-min(2, len(sizes))], sizes[-1]


def _convolution_rule(operator: AppliedOperator) -> ReceptiveField:
    arguments = operator.arguments
    # Two inputs: the kernels depend on the image, too.
    if arguments["transposed"] or len(arguments["stride"]) != 2 or len(operator.inputs) > 1:
        return None
    kernel = arguments["weight"].shape[2:]
    return _slide_window(operator, kernel, arguments["stride"], arguments["padding"], arguments["dilation"])


def _pooling_rule(operator: AppliedOperator) -> ReceptiveField:
    arguments = operator.arguments
    dilation = arguments.get("dilation", 1)  # average pooling has none
    return _slide_window(operator, arguments["kernel_size"], arguments["stride"], arguments["padding"], dilation)


def _adaptive_pooling_rule(operator: AppliedOperator) -> ReceptiveField:
    """Slide windows of equal size.

    ``None`` where the input's sides are no multiples of the output's: then windows differ in size by position.
    """
    tensor, field = _first_input(operator)
    if tuple(operator.output.shape[-2:]) == (1, 1):
        return CollapsedField(size=field.size)
    height, height_rest = divmod(tensor.shape[-2], operator.output.shape[-2])
    width, width_rest = divmod(tensor.shape[-1], operator.output.shape[-1])
    if height_rest or width_rest:
        return None
    return _slide_window(operator, (height, width), (height, width), 0, 1)


def _padding_rule(operator: AppliedOperator) -> ReceptiveField:
    tensor, field = _first_input(operator)
    dims = field.position_dims(tensor.shape)
    if dims is None or len(dims) == 1:
        return broadcast_field(field, tensor.shape, operator.output.shape)
    # Pairs of sizes, before and after, from the last dimension backwards; only those before shift positions.
    sizes_before = operator.arguments[_PADDING_ARGUMENTS[operator.name]][::2]
    padding_by_dim = {tensor.dim() - 1 - index: size for index, size in enumerate(sizes_before)}
    height = field.axes[0].slide_window(1, padding=padding_by_dim.get(dims[0], 0))
    width = field.axes[1].slide_window(1, padding=padding_by_dim.get(dims[1], 0))
    return _field_at_dims(replace(field, axes=(height, width)), dims, operator.output.shape)


# Operators that pad, and PyTorch's name of the argument with the sizes.
_PADDING_ARGUMENTS = {"constant_pad_nd": "pad", "reflection_pad2d": "padding", "replication_pad2d": "padding"}


def _field_at_dims(field: SpatialField, dims: Sequence[int], shape: Sequence[int]) -> ReceptiveField:
    """Return a field whose positions are these dimensions of a shape.

    ``None`` unless they are adjacent, height before width.
    """
    if list(dims) != list(range(dims[0], dims[0] + len(dims))):
        return None
    sizes = (shape[dims[0]], shape[dims[1]]) if len(dims) == 2 else field.shape
    return replace(field, shape=sizes, inner_size=math.prod(shape[dims[-1] + 1 :]))


def _slice_rule(operator: AppliedOperator) -> ReceptiveField:
    tensor, field = _first_input(operator)
    if tensor.shape == operator.output.shape:
        return field
    dim, dims = _dim_argument(operator, tensor), field.position_dims(tensor.shape)
    if dims is None or (len(dims) == 1 and dim in dims):
        return None
    if dim in dims:
        positions = slice(operator.arguments["start"], operator.arguments["end"], operator.arguments["step"])
        start, _, step = positions.indices(tensor.shape[dim])
        axes = list(field.axes)
        axes[dim - dims[0]] = axes[dim - dims[0]].slide_window(1, stride=step, padding=-start)
        field = replace(field, axes=(axes[0], axes[1]))
    return _field_at_dims(field, dims, operator.output.shape)


def _along_dim_rule(operator: AppliedOperator) -> ReceptiveField:
    """Unite the fields after a split, concatenation or softmax.

    ``None`` for one along the positions.
    """
    fields = []
    for tensor, field in operator.inputs:
        assert isinstance(field, SpatialField)
        dims = field.position_dims(tensor.shape)
        if dims is None or _dim_argument(operator, tensor) in dims:
            return None
        fields.append(_field_at_dims(field, dims, operator.output.shape))
    return unite_fields(fields)


def _stack_rule(operator: AppliedOperator) -> ReceptiveField:
    new_dim = _dim_argument(operator, operator.output)
    fields = []
    for tensor, field in operator.inputs:
        assert isinstance(field, SpatialField)
        dims = field.position_dims(tensor.shape)
        if dims is None:
            return None
        moved_dims = [dim + 1 if dim >= new_dim else dim for dim in dims]
        fields.append(_field_at_dims(field, moved_dims, operator.output.shape))
    return unite_fields(fields)


def _select_rule(operator: AppliedOperator) -> ReceptiveField:
    tensor, field = _first_input(operator)
    return _remove_dims(field, tensor, operator.output, {_dim_argument(operator, tensor)}, keepdim=False)


def _is_reduction(operator: AppliedOperator) -> bool:
    # Every reduction of PyTorch's over chosen dimensions has this argument; those over all of them give a scalar.
    return "keepdim" in operator.arguments or operator.output.dim() == 0


def _reduction_rule(operator: AppliedOperator) -> ReceptiveField:
    tensor, field = _first_input(operator)
    argument = operator.arguments.get("dim")
    if isinstance(argument, int):
        argument = [argument]
    removed_dims = {dim % tensor.dim() for dim in argument or range(tensor.dim())}
    # Without dimensions of their own, positions are in any that is longer than 1.
    positions = field.position_dims(tensor.shape) or [dim for dim, size in enumerate(tensor.shape) if size > 1]
    if removed_dims.issuperset(positions):
        return CollapsedField(size=field.size)
    return _remove_dims(field, tensor, operator.output, removed_dims, keepdim=bool(operator.arguments.get("keepdim")))


def _remove_dims(
    field: SpatialField, tensor: torch.Tensor, output: torch.Tensor, removed_dims: set[int], *, keepdim: bool
) -> ReceptiveField:
    """Return a field after dimensions are removed.

    Dimensions other than the positions, or kept with the size 1.
    """
    dims = field.position_dims(tensor.shape)
    if dims is None or removed_dims & set(dims):
        return None
    if keepdim:
        return _field_at_dims(field, dims, output.shape)
    remaining_dims = sorted(set(range(tensor.dim())) - removed_dims)
    return _field_at_dims(field, [remaining_dims.index(dim) for dim in dims], output.shape)


def _permute_rule(operator: AppliedOperator) -> ReceptiveField:
    tensor, field = _first_input(operator)
    dims = field.position_dims(tensor.shape)
    if dims is None:
        return None
    order = list(range(tensor.dim()))
    if operator.name == "permute":
        order = [dim % tensor.dim() for dim in operator.arguments["dims"]]
    elif operator.name == "transpose":
        first, second = operator.arguments["dim0"], operator.arguments["dim1"]
        order[first], order[second] = order[second], order[first]
    else:  # t, of a matrix
        order.reverse()
    return _field_at_dims(field, [order.index(dim) for dim in dims], operator.output.shape)


def _matmul_rule(operator: AppliedOperator) -> ReceptiveField:
    """Apply a weight matrix.

    Positions outside of the contracted dimension remain, those within it are summed.
    """
    tensor, field = _first_input(operator)
    left_operand = operator.arguments[MATRIX_OPERANDS[operator.name][0]]
    if len(operator.inputs) > 1 or tensor is not left_operand:
        return None
    contracted = tensor.shape[-1]
    if field.inner_size % contracted == 0:
        return replace(field, inner_size=field.inner_size // contracted * operator.output.shape[-1])
    numbers_of_map = field.inner_size * math.prod(field.shape)
    return CollapsedField(size=field.size) if contracted % numbers_of_map == 0 else None


def _dim_argument(operator: AppliedOperator, tensor: torch.Tensor) -> int:
    return int(operator.arguments["dim"]) % tensor.dim()


_RULES_WITH_OPERATORS: tuple[tuple[FieldRule, tuple[str, ...]], ...] = (
    (_convolution_rule, ("convolution",)),
    (_pooling_rule, ("max_pool2d", "max_pool2d_with_indices", "avg_pool2d", "avg_pool3d")),
    (_adaptive_pooling_rule, ("_adaptive_avg_pool2d", "adaptive_max_pool2d")),
    (_padding_rule, tuple(_PADDING_ARGUMENTS)),
    (_slice_rule, ("slice",)),
    (_along_dim_rule, ("cat", "split", "split_with_sizes", "_softmax", "_safe_softmax", "_log_softmax")),
    (_stack_rule, ("stack",)),
    (_select_rule, ("select", "unbind")),
    (_permute_rule, ("permute", "transpose", "t")),
    (_matmul_rule, tuple(MATRIX_OPERANDS)),
    (_normalization_rule, ("native_batch_norm", "native_group_norm", "native_layer_norm", "_fused_rms_norm")),
    (_normalization_rule, ("_native_batch_norm_legit", "_native_batch_norm_legit_no_training")),
    (_view_rule, ("view", "_unsafe_view", "_reshape_alias", "unsqueeze", "squeeze", "alias", "detach")),
    (_view_rule, ("lift_fresh", "_to_copy", "native_channel_shuffle")),
    # Element-wise, though PyTorch does not tag them so.
    (_elementwise_rule, ("expand", "repeat", "_prelu_kernel", "hardswish", "log_sigmoid_forward", "rrelu_with_noise")),
)

FIELD_RULES = {name: rule for rule, names in _RULES_WITH_OPERATORS for name in names}
