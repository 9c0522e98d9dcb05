"""Receptive fields of tensors: intervals of image pixels, their union and broadcasting.

A position's field along one side of the image is an interval of pixels, padding included. Windows widen the interval,
and where paths meet the intervals are united: exact for branches and shortcuts, not only for chains (Araujo et al.
2019).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

# Names of the two factors in ATen's schemas; a product sees what its factors see.
MATRIX_OPERANDS = {
    "mm": ("self", "mat2"),
    "addmm": ("mat1", "mat2"),
    "bmm": ("self", "mat2"),
    "baddbmm": ("batch1", "batch2"),
}


@dataclass(frozen=True, kw_only=True)
class AxisInterval:
    """The receptive field along one side of the image, pixels.

    The interval of position 0, and the step to that of position 1.
    """

    first_pixel: int = 0
    last_pixel: int = 0
    jump: int = 1

    @property
    def size(self) -> int:
        """Number of pixels in a position's field."""
        return self.last_pixel - self.first_pixel + 1

    def slide_window(self, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> AxisInterval:
        """Return the interval after a window slides over this axis.

        The window is a kernel of a convolution or of pooling.
        """
        return AxisInterval(
            first_pixel=self.first_pixel - padding * self.jump,
            last_pixel=self.last_pixel + ((kernel - 1) * dilation - padding) * self.jump,
            jump=self.jump * stride,
        )

    def union(self, other: AxisInterval) -> AxisInterval | None:
        """Return the smallest interval that covers both.

        ``None`` if their steps differ.
        """
        # Fields of unequal steps drift apart from position to position: no one interval describes their union.
        if self.jump != other.jump:
            return None
        return AxisInterval(
            first_pixel=min(self.first_pixel, other.first_pixel),
            last_pixel=max(self.last_pixel, other.last_pixel),
            jump=self.jump,
        )


@dataclass(frozen=True, kw_only=True)
class SpatialField:
    """The receptive field of a tensor that still has the positions of a map.

    Attributes:
        axes: intervals of height and width, tracked separately, so that windows need not be square.
        shape: number of positions, height and width.
        inner_size: numbers per position that follow it in memory: 1 in a map ``(N, channels, height, width)``, the
            number of channels in ``(N, height, width, channels)``.
    """

    axes: tuple[AxisInterval, AxisInterval]
    shape: tuple[int, int]
    inner_size: int = 1

    @property
    def size(self) -> int:
        """Side of the field, pixels; the longer one of height and width."""
        return max(axis.size for axis in self.axes)

    def position_dims(self, shape: Sequence[int]) -> tuple[int, ...] | None:
        """Return the dimensions of a shape that are the positions.

        Height and width, or both in one; ``None`` if there are none.
        """
        flattened = (math.prod(self.shape),)
        for position_shape in (self.shape, flattened):
            length = len(position_shape)
            # From the last dimensions backwards, where maps have their positions in PyTorch's own layout.
            for start in range(len(shape) - length, -1, -1):
                end = start + length
                # The size alone is ambiguous: channels may be as many as rows. What follows in memory tells them apart.
                if tuple(shape[start:end]) == position_shape and math.prod(shape[end:]) == self.inner_size:
                    return tuple(range(start, end))
        return None


@dataclass(frozen=True, kw_only=True)
class CollapsedField:
    """The receptive field of a tensor without positions.

    Its ``size`` is that of the last one with positions.
    """

    size: int


ReceptiveField = SpatialField | CollapsedField | None  # None: unknown


@dataclass(frozen=True, kw_only=True)
class AppliedOperator:
    """A call of an operator.

    Attributes:
        is_pointwise: whether PyTorch tags the operator as element-wise.
        arguments: by name.
        inputs: the tensors that depend on the image, with their receptive fields.
        output: one of its outputs.
    """

    name: str
    is_pointwise: bool
    arguments: Mapping[str, Any]
    inputs: Sequence[tuple[torch.Tensor, ReceptiveField]]
    output: torch.Tensor


def image_receptive_field(image: torch.Tensor) -> SpatialField:
    """Return the field of the image itself: every pixel sees one pixel."""
    return SpatialField(axes=(AxisInterval(), AxisInterval()), shape=(image.shape[-2], image.shape[-1]))


def broadcast_field(field: ReceptiveField, shape: Sequence[int], output_shape: Sequence[int]) -> ReceptiveField:
    """Return a field after broadcasting to another shape.

    Dimensions correspond from the last one backwards.
    """
    if not isinstance(field, SpatialField) or tuple(shape) == tuple(output_shape):
        return field
    dims = field.position_dims(shape)
    if dims is None:
        return None
    shift = len(output_shape) - len(shape)
    if dims[0] + shift < 0 or any(output_shape[dim + shift] != shape[dim] for dim in dims):
        return None
    return replace(field, inner_size=math.prod(output_shape[dims[-1] + 1 + shift :]))


def unite_fields(fields: Sequence[ReceptiveField]) -> ReceptiveField:
    """Return the union of the fields of tensors of one shape."""
    united, *others = fields
    for other in others:
        if not (isinstance(united, SpatialField) and isinstance(other, SpatialField)):
            return united if united == other else None
        if (united.shape, united.inner_size) != (other.shape, other.inner_size):
            return None
        height = united.axes[0].union(other.axes[0])
        width = united.axes[1].union(other.axes[1])
        if height is None or width is None:
            return None
        united = replace(united, axes=(height, width))
    return united
