"""Factorial designs: two factors, every combination of whose levels is an arm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, combinations

from ablations._differences import compare_setups
from ablations._errors import InvalidAblation
from lightning_modules.specs.notebook_html import describe_object
from lightning_modules.specs.setup import Setup


@dataclass(frozen=True, kw_only=True)
class Factor:
    """One factor of a factorial design with its levels; effects are measured against the first level."""

    name: str
    levels: tuple[str, ...]

    def __repr__(self) -> str:
        return describe_object(self, f"{self.name}: {', '.join(self.levels)}")


@dataclass(frozen=True, kw_only=True)
class Factorial:
    """Two crossed factors: every combination of their levels is an arm.

    Attributes:
        cells: arm names, one row per level of ``rows``; in each row, one arm per level of ``columns``.

    Raises:
        InvalidAblation: if a factor has fewer than two levels or two of one name, or a cell is missing or used twice.
    """

    rows: Factor
    columns: Factor
    cells: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        num_rows, num_columns = len(self.rows.levels), len(self.columns.levels)
        if min(num_rows, num_columns) < 2:
            raise InvalidAblation("a factorial needs at least two levels of each factor.")
        for factor in (self.rows, self.columns):
            if len(set(factor.levels)) < len(factor.levels):
                raise InvalidAblation(
                    f"the factor {factor.name} has the levels {', '.join(factor.levels)}; expected different ones."
                )
        row_lengths = [len(row) for row in self.cells]
        if row_lengths != [num_columns] * num_rows or len(set(self.arms)) < len(self.arms):
            raise InvalidAblation(
                f"the factorial {self.rows.name} × {self.columns.name} needs a row of {num_columns} different arms for "
                f"each of {', '.join(self.rows.levels)}; it has {[list(row) for row in self.cells]}."
            )

    def __repr__(self) -> str:
        return describe_object(self, f"{self.rows.name} × {self.columns.name} in {len(self.arms)} arms")

    @property
    def arms(self) -> tuple[str, ...]:
        """The arm names of all cells, row by row."""
        return tuple(chain.from_iterable(self.cells))

    def changed_paths(self, setups: Mapping[str, Setup]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Paths in which the setups of cells differ between levels of ``rows``, and between levels of ``columns``."""
        columns_of_cells = tuple(zip(*self.cells, strict=True))
        return _paths_within(columns_of_cells, setups), _paths_within(self.cells, setups)


def _paths_within(lines: Iterable[tuple[str, ...]], setups: Mapping[str, Setup]) -> tuple[str, ...]:
    paths: dict[str, None] = {}  # a dict as an ordered set
    for line in lines:
        for first, second in combinations(line, 2):
            paths |= dict.fromkeys(change.path for change in compare_setups(setups[first], setups[second]))
    return tuple(paths)
