"""Receptive fields, tensor by tensor: what a position sees of the image, and what every operation makes of it.

A position's field along one side of the image is an interval of pixels, padding included. Windows widen it and where
paths meet the intervals are united: exact for branches and shortcuts, not only for chains (Araujo et al. 2019). Norms
pass it on: the statistics that some of them take over the map are not counted as seeing. Where an operation shuffles
positions in a way that no rule here covers, or mixes all of them and gives the mix back to each (attention,
squeeze-and-excitation), the field is unknown from there on: left open, not guessed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

# Matrix products, and what PyTorch calls their two matrices.
MATRICES = {
    "mm": ("self", "mat2"),
    "addmm": ("mat1", "mat2"),
    "bmm": ("self", "mat2"),
    "baddbmm": ("batch1", "batch2"),
}


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Along one side of the image: the pixels that position 0 sees, from first to last, and the step to position 1."""

    first: int = 0
    last: int = 0
    jump: int = 1

    @property
    def side(self) -> int:
        """How many pixels a position sees."""
        return self.last - self.first + 1

    def window(self, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> Axis:
        """What a position sees through a window that slides over this axis."""
        return Axis(
            first=self.first - padding * self.jump,
            last=self.last + ((kernel - 1) * dilation - padding) * self.jump,
            jump=self.jump * stride,
        )

    def join(self, other: Axis) -> Axis | None:
        """What is seen through either; ``None`` where the steps differ."""
        if self.jump != other.jump:
            return None
        return Axis(first=min(self.first, other.first), last=max(self.last, other.last), jump=self.jump)


@dataclass(frozen=True, kw_only=True)
class Positions:
    """A tensor that has the positions of a map, in memory order with ``after`` numbers for each.

    Attributes:
        axes: of height and width, tracked apart, so that windows need not be square.
        shape: how many positions there are, height and width.
        after: 1 in a map ``(N, channels, height, width)``; the number of channels in ``(N, height, width, channels)``.
    """

    axes: tuple[Axis, Axis]
    shape: tuple[int, int]
    after: int = 1

    @property
    def side(self) -> int:
        """Of the field, in pixels: the longer one of its two."""
        return max(axis.side for axis in self.axes)

    def dims(self, shape: Sequence[int]) -> tuple[int, ...] | None:
        """The dimensions of a shape that are the positions: height and width, or both in one; else ``None``."""
        for length, held in ((2, self.shape), (1, (math.prod(self.shape),))):
            for start in range(len(shape) - length, -1, -1):
                end = start + length
                if tuple(shape[start:end]) == held and math.prod(shape[end:]) == self.after:
                    return tuple(range(start, end))
        return None


@dataclass(frozen=True, kw_only=True)
class Gone:
    """Positions no longer there; ``side`` is the field's when they were last."""

    side: int


Field = Positions | Gone | None  # None: unknown


@dataclass(frozen=True, kw_only=True)
class Call:
    """An operation that was called: its arguments by name, its inputs that come from the image, one output."""

    name: str
    pointwise: bool
    arguments: Mapping[str, Any]
    inputs: Sequence[tuple[torch.Tensor, Field]]
    output: torch.Tensor


def image_field(image: torch.Tensor) -> Positions:
    """Every pixel sees itself."""
    return Positions(axes=(Axis(), Axis()), shape=(image.shape[-2], image.shape[-1]))


def field_after(call: Call) -> Field:
    """What the output's positions see."""
    fields = [field for _, field in call.inputs]
    if any(field is None for field in fields):
        return None
    gone = [field for field in fields if isinstance(field, Gone)]
    if gone:
        return Gone(side=max(field.side for field in gone)) if len(gone) == len(fields) else None
    if call.pointwise:
        return _united(call)
    if _is_reduction(call):
        return _reduced(call)
    rule = RULES.get(call.name)
    return rule(call) if rule else None


def aligned(field: Field, shape: Sequence[int], output: Sequence[int]) -> Field:
    """A field as it is after broadcasting to another shape: dimensions correspond from the last one on."""
    if not isinstance(field, Positions) or tuple(shape) == tuple(output):
        return field
    dims = field.dims(shape)
    if dims is None:
        return None
    shift = len(output) - len(shape)
    if dims[0] + shift < 0 or any(output[dim + shift] != shape[dim] for dim in dims):
        return None
    return replace(field, after=math.prod(output[dims[-1] + 1 + shift :]))


def united(fields: Sequence[Field]) -> Field:
    """What is seen through any of several tensors of one shape."""
    joined, *others = fields
    for other in others:
        if not (isinstance(joined, Positions) and isinstance(other, Positions)):
            return joined if joined == other else None
        axes = tuple(one.join(two) for one, two in zip(joined.axes, other.axes, strict=True))
        if (joined.shape, joined.after) != (other.shape, other.after) or axes[0] is None or axes[1] is None:
            return None
        joined = replace(joined, axes=(axes[0], axes[1]))
    return joined


def _united(call: Call) -> Field:
    return united([aligned(field, tensor.shape, call.output.shape) for tensor, field in call.inputs])


def _only(call: Call) -> tuple[torch.Tensor, Positions]:
    """The first input that comes from the image, which has positions."""
    tensor, field = call.inputs[0]
    assert isinstance(field, Positions)
    return tensor, field


def _passed(call: Call) -> Field:
    """Of a norm: its input's field, whatever its statistics are taken over."""
    tensor, field = _only(call)
    return aligned(field, tensor.shape, call.output.shape)


def _relabelled(call: Call) -> Field:
    """Of a view or copy: the order in memory stays."""
    return _only(call)[1]


def _slid(call: Call, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Field:
    tensor, field = _only(call)
    if field.dims(tensor.shape) != (tensor.dim() - 2, tensor.dim() - 1):
        return None
    settings = zip(*map(_of_both, (kernel, stride or kernel, padding, dilation)), strict=True)
    axes = tuple(axis.window(*each) for axis, each in zip(field.axes, settings, strict=True))
    return Positions(axes=(axes[0], axes[1]), shape=(call.output.shape[-2], call.output.shape[-1]))


def _of_both(size: Any) -> tuple[int, int]:
    """A setting for height and width, the last two that it is given for."""
    sizes = (size,) if isinstance(size, int) else tuple(size)
    return (sizes[-2], sizes[-1]) if len(sizes) > 1 else (sizes[0], sizes[0])


def _convolved(call: Call) -> Field:
    given = call.arguments
    if given["transposed"] or len(given["stride"]) != 2 or len(call.inputs) > 1:
        return None
    return _slid(call, given["weight"].shape[2:], given["stride"], given["padding"], given["dilation"])


def _pooled(call: Call) -> Field:
    given = call.arguments
    return _slid(call, given["kernel_size"], given["stride"], given["padding"], given.get("dilation", 1))


def _pooled_to_a_size(call: Call) -> Field:
    """Windows of equal size where the input's side is a multiple of the output's; others differ from place to place."""
    tensor, field = _only(call)
    if tuple(call.output.shape[-2:]) == (1, 1):
        return Gone(side=field.side)
    height, width = (divmod(old, new) for old, new in zip(tensor.shape[-2:], call.output.shape[-2:], strict=True))
    if height[1] or width[1]:
        return None
    return _slid(call, (height[0], width[0]), (height[0], width[0]), 0, 1)


def _padded(call: Call) -> Field:
    tensor, field = _only(call)
    dims = field.dims(tensor.shape)
    if dims is None or len(dims) == 1:
        return aligned(field, tensor.shape, call.output.shape)
    given = call.arguments[_PADDING[call.name]]
    before = {tensor.dim() - 1 - place: size for place, size in enumerate(given[::2])}
    height, width = (axis.window(1, padding=before.get(dim, 0)) for axis, dim in zip(field.axes, dims, strict=True))
    return _placed(replace(field, axes=(height, width)), dims, call.output.shape)


_PADDING = {name: "pad" if name == "constant_pad_nd" else "padding" for name in (
    "constant_pad_nd", "reflection_pad2d", "replication_pad2d",
)}  # fmt: skip


def _placed(field: Positions, dims: Sequence[int], shape: Sequence[int]) -> Field:
    """A field whose positions are these dimensions, height before width, of a shape."""
    if list(dims) != list(range(dims[0], dims[0] + len(dims))):
        return None
    sizes = (shape[dims[0]], shape[dims[1]]) if len(dims) == 2 else field.shape
    return replace(field, shape=sizes, after=math.prod(shape[dims[-1] + 1 :]))


def _sliced(call: Call) -> Field:
    tensor, field = _only(call)
    if tensor.shape == call.output.shape:
        return field
    dim, dims = _dim(call, tensor), field.dims(tensor.shape)
    if dims is None or (len(dims) == 1 and dim in dims):
        return None
    if dim in dims:
        wanted = slice(call.arguments["start"], call.arguments["end"], call.arguments["step"])
        start, _, step = wanted.indices(tensor.shape[dim])
        axes = list(field.axes)
        axes[dim - dims[0]] = axes[dim - dims[0]].window(1, stride=step, padding=-start)
        field = replace(field, axes=(axes[0], axes[1]))
    return _placed(field, dims, call.output.shape)


def _parted(call: Call) -> Field:
    """Of a split, concatenation, softmax: the field, unless it goes along the positions."""
    apart = []
    for tensor, field in call.inputs:
        assert isinstance(field, Positions)
        dims = field.dims(tensor.shape)
        if dims is None or _dim(call, tensor) in dims:
            return None
        apart.append(_placed(field, dims, call.output.shape))
    return united(apart)


def _stacked(call: Call) -> Field:
    dim = _dim(call, call.output)
    apart = []
    for tensor, field in call.inputs:
        assert isinstance(field, Positions)
        dims = field.dims(tensor.shape)
        if dims is None:
            return None
        apart.append(_placed(field, [place + (place >= dim) for place in dims], call.output.shape))
    return united(apart)


def _selected(call: Call) -> Field:
    tensor, field = _only(call)
    return _without(field, tensor, call.output, {_dim(call, tensor)}, kept=False)


def _is_reduction(call: Call) -> bool:
    return "keepdim" in call.arguments or call.output.dim() == 0


def _reduced(call: Call) -> Field:
    tensor, field = _only(call)
    given = call.arguments.get("dim")
    lost = {dim % tensor.dim() for dim in ([given] if isinstance(given, int) else given or range(tensor.dim()))}
    positions = field.dims(tensor.shape) or [dim for dim, size in enumerate(tensor.shape) if size > 1]
    if lost.issuperset(positions):
        return Gone(side=field.side)
    return _without(field, tensor, call.output, lost, kept=bool(call.arguments.get("keepdim")))


def _without(field: Positions, tensor: torch.Tensor, output: torch.Tensor, lost: set[int], *, kept: bool) -> Field:
    """The field once dimensions are reduced to one number, or ``kept`` with the size 1."""
    dims = field.dims(tensor.shape)
    if dims is None or lost & set(dims):
        return None
    moved = [dim if kept else dim - sum(other < dim for other in lost) for dim in dims]
    return _placed(field, moved, output.shape)


def _permuted(call: Call) -> Field:
    tensor, field = _only(call)
    dims = field.dims(tensor.shape)
    order = list(range(tensor.dim()))
    if call.name == "permute":
        order = [dim % tensor.dim() for dim in call.arguments["dims"]]
    else:
        one, two = (call.arguments["dim0"], call.arguments["dim1"]) if call.name == "transpose" else (0, -1)
        order[one], order[two] = order[two], order[one]
    return None if dims is None else _placed(field, [order.index(dim) for dim in dims], call.output.shape)


def _multiplied(call: Call) -> Field:
    """Of a matrix product by a weight: positions stay beside the contracted dimension, and are gone within it."""
    tensor, field = _only(call)
    if len(call.inputs) > 1 or tensor is not call.arguments[MATRICES[call.name][0]]:
        return None
    contracted = tensor.shape[-1]
    if field.after % contracted == 0:
        return replace(field, after=field.after // contracted * call.output.shape[-1])
    within = contracted % (field.after * math.prod(field.shape)) == 0
    return Gone(side=field.side) if within else None


def _dim(call: Call, tensor: torch.Tensor) -> int:
    return int(call.arguments["dim"]) % tensor.dim()


RULES: dict[str, Callable[[Call], Field]] = {
    name: rule
    for rule, names in (
        (_convolved, ("convolution",)),
        (_pooled, ("max_pool2d", "max_pool2d_with_indices", "avg_pool2d", "avg_pool3d")),
        (_pooled_to_a_size, ("_adaptive_avg_pool2d", "adaptive_max_pool2d")),
        (_padded, tuple(_PADDING)),
        (_sliced, ("slice",)),
        (_parted, ("cat", "split", "split_with_sizes", "_softmax", "_safe_softmax", "_log_softmax")),
        (_stacked, ("stack",)),
        (_selected, ("select", "unbind")),
        (_permuted, ("permute", "transpose", "t")),
        (_multiplied, tuple(MATRICES)),
        (_passed, ("native_batch_norm", "native_group_norm", "native_layer_norm", "_fused_rms_norm")),
        (_passed, ("_native_batch_norm_legit", "_native_batch_norm_legit_no_training")),
        (_relabelled, ("view", "_unsafe_view", "_reshape_alias", "unsqueeze", "squeeze", "alias", "detach")),
        (_relabelled, ("lift_fresh", "_to_copy", "native_channel_shuffle")),
        (_united, ("expand", "repeat", "_prelu_kernel", "hardswish", "log_sigmoid_forward", "rrelu_with_noise")),
    )
    for name in names
}
