"""What moved between two networks as built, and whether their contrast is clean or a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Property = Literal[
    "weight_layers", "parameters", "conv_parameters", "multiply_adds", "receptive_field", "nonlinearities"
]
PROPERTIES: tuple[Property, ...] = get_args(Property)
PROPERTY_WORDS: dict[Property, str] = {
    "weight_layers": "weight layers",
    "parameters": "parameters",
    "conv_parameters": "convolutional parameters",
    "multiply_adds": "multiply-adds",
    "receptive_field": "receptive field",
    "nonlinearities": "non-linearities",
}
CLEAN_WITHIN = 0.05  # of the value before


@dataclass(frozen=True, kw_only=True)
class Move:
    """A measured property that differs by more than 5% between two networks."""

    name: Property
    before: int
    after: int


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """What moved from one network to another.

    Attributes:
        moved: measured properties that differ by more than 5%.
        studied: the property that the ablation is about, where it is one that is measured; it may move.
        unknown: properties that could not be measured on one of the two, or on both.
        forced: paths that had to change with what is studied, and did: more than one thing differs.
    """

    moved: tuple[Move, ...]
    studied: Property | None = None
    unknown: tuple[Property, ...] = ()
    forced: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether nothing moved beside the property studied, or one property at most, and nothing was forced."""
        return not self.forced and (len(self.beside) == 0 or len(self.moved) == 1)

    @property
    def beside(self) -> tuple[Move, ...]:
        """What moved beside the property studied."""
        return tuple(move for move in self.moved if move.name != self.studied)


def contrast(
    before: Mapping[str, int],
    after: Mapping[str, int],
    studied: Property | None = None,
    forced: Sequence[str] = (),
) -> Contrast:
    """Compare two networks by the properties measured on them.

    Parameters of convolutions are told where the sum of all parameters hides them, and not beside it.

    Args:
        forced: paths that differ beside what is studied, as ``forced_with`` finds them.
    """
    known = [name for name in PROPERTIES if name in before and name in after]
    moved = [
        Move(name=name, before=before[name], after=after[name])
        for name in known
        if abs(after[name] - before[name]) > CLEAN_WITHIN * abs(before[name])
    ]
    names = {move.name for move in moved}
    if {"parameters", "conv_parameters"} <= names:
        moved = [move for move in moved if move.name != "conv_parameters"]
    unknown = tuple(name for name in PROPERTIES if name not in known)
    return Contrast(moved=tuple(moved), studied=studied, unknown=unknown, forced=tuple(forced))
