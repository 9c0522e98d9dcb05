"""Factorial designs: two factors, every combination of whose levels is an arm."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, combinations

from ablations._differences import compare_setups
from ablations._errors import InvalidAblation
from lightning_modules.specs.notebook_html import describe_object
from lightning_modules.specs.setup import Setup
from lightning_modules.specs.values import Leaf, flatten_fields


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

    def require_orientation(self, setups: Mapping[str, Setup]) -> None:
        """Check that rows and columns of the cells are not exchanged, as far as names and settings tell.

        Counted are the levels that the arms' names and changed settings mention, and the factors' names among the
        paths that change; the cells are refused where more of these agree after an exchange. Where names and settings
        mention neither, as of arms A, B, C and D, an exchange cannot be seen.

        Args:
            setups: of all arms, by name.

        Raises:
            InvalidAblation: where the cells look exchanged.
        """
        if len(self.rows.levels) != len(self.columns.levels):
            return  # the lengths of the rows have told it
        exchanged = Factorial(rows=self.rows, columns=self.columns, cells=tuple(zip(*self.cells, strict=True)))
        if exchanged._count_mentions(setups) > self._count_mentions(setups):
            column = " and ".join(map(repr, next(zip(*self.cells, strict=True))))
            raise InvalidAblation(
                f"the cells of the factorial {self.rows.name} × {self.columns.name} look exchanged, by the names and "
                f"settings of the arms: {column} stand in the column {self.columns.levels[0]!r} of "
                f"{self.columns.name}. Expected a row of cells per level of {self.rows.name}: exchange `rows` and "
                "`columns`, or the cells; or name levels and arms alike."
            )

    def _count_mentions(self, setups: Mapping[str, Setup]) -> int:
        """Count levels and factors that the arms' names, settings and changed paths mention where they belong."""
        row_paths, column_paths = self.changed_paths(setups)
        row_words, column_words = _words_of_paths(row_paths), _words_of_paths(column_paths)
        count: int = _mentions_factor(self.rows, row_words - column_words)
        count += _mentions_factor(self.columns, column_words - row_words)
        for row, cells in zip(self.rows.levels, self.cells, strict=True):
            for column, arm in zip(self.columns.levels, cells, strict=True):
                leaves = flatten_fields(setups[arm], with_omitted=True)
                values = {_leaf_word(leaves[path]) for path in (*row_paths, *column_paths) if path in leaves}
                count += _mentions_level(self.rows, row, arm, values)
                count += _mentions_level(self.columns, column, arm, values)
        return count


def _paths_within(lines: Iterable[tuple[str, ...]], setups: Mapping[str, Setup]) -> tuple[str, ...]:
    paths: dict[str, None] = {}  # a dict as an ordered set
    for line in lines:
        for first, second in combinations(line, 2):
            paths |= dict.fromkeys(change.path for change in compare_setups(setups[first], setups[second]))
    return tuple(paths)


def _words_of_paths(paths: Iterable[str]) -> set[str]:
    return {word.removesuffix("s") for path in paths for word in re.split(r"[._]", path)}


def _mentions_factor(factor: Factor, path_words: set[str]) -> bool:
    return any(word.removesuffix("s") in path_words for word in factor.name.lower().replace("_", " ").split())


def _mentions_level(factor: Factor, level: str, arm: str, values: set[str]) -> bool:
    """Whether the name of an arm or one of its values mentions a level, and no longer level that contains it."""
    text = arm.lower()
    for other in sorted(factor.levels, key=len, reverse=True):
        if level.lower() in other.lower() and other != level:
            text = text.replace(other.lower(), " ")
    in_name = re.search(rf"(?<!\w){re.escape(level.lower())}(?!\w)", text) is not None
    return in_name or not values.isdisjoint((level.lower(), *level.lower().split()))


def _leaf_word(leaf: Leaf) -> str:
    return f"{leaf:g}" if isinstance(leaf, float) else str(leaf).lower()
