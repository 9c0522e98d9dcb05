"""Two factors crossed: what each does on average, and whether one changes what the other does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reports.statistics.contrasts import Estimate, estimates
from reports.statistics.critical import Array


@dataclass(frozen=True, kw_only=True)
class Effect(Estimate):
    """An effect in the endpoint's units, positive where the endpoint falls.

    Attributes:
        kind: ``rows``, ``columns`` or ``interaction``.
        levels: the level of the row factor, of the column factor, or of both, against the first level of each.
    """

    kind: str
    levels: tuple[str, ...]


def factorial(
    values: npt.ArrayLike,
    arms: Sequence[str],
    layout: Sequence[Sequence[str]],
    row_levels: Sequence[str],
    column_levels: Sequence[str],
) -> tuple[Effect, ...]:
    """Main effects and interactions with simultaneous intervals: one family of rows · columns - 1 contrasts.

    A main effect is the first level minus the level, averaged over the other factor. An interaction is the improvement
    that a column level brings at a row level, minus the one it brings at the first row level: its variance is twice
    that of a difference of two arms, so that it takes twice the seeds.

    Args:
        values: arms x seeds; what is not finite is missing.
        arms: names of the rows of ``values``; arms outside the layout lend their noise to the pooled variance.
        layout: the name of the arm in every cell.
        row_levels: names of the rows of the layout.
        column_levels: names of its columns.

    Raises:
        ValueError: where the layout does not fit the levels, or a cell names no arm, or one named before.
    """
    cells = [arm for row in layout for arm in row]
    if [len(row) for row in layout] != [len(column_levels)] * len(row_levels):
        raise ValueError(f"the layout has rows of {[len(row) for row in layout]} cells; expected one cell per level.")
    if len(set(cells)) < len(cells) or not set(cells) <= set(arms):
        raise ValueError(f"the layout names {', '.join(cells)}; expected each once, out of: {', '.join(arms)}.")
    named = _weights(row_levels, column_levels)
    table = np.zeros((len(named), len(arms)))
    table[:, [list(arms).index(cell) for cell in cells]] = np.array([weights.ravel() for _, _, weights in named])
    found = estimates(values, table)
    return tuple(
        Effect(kind=kind, levels=levels, **vars(each)) for (kind, levels, _), each in zip(named, found, strict=True)
    )


def _weights(rows: Sequence[str], columns: Sequence[str]) -> list[tuple[str, tuple[str, ...], Array]]:
    """Kind, levels and cell weights (rows x columns) of every effect."""
    of_rows = [(name, _first_minus(index, len(rows))) for index, name in enumerate(rows) if index]
    of_columns = [(name, _first_minus(index, len(columns))) for index, name in enumerate(columns) if index]
    level_row, level_column = np.full(len(rows), 1 / len(rows)), np.full(len(columns), 1 / len(columns))
    return [
        *(("rows", (name,), np.outer(weights, level_column)) for name, weights in of_rows),
        *(("columns", (name,), np.outer(level_row, weights)) for name, weights in of_columns),
        *(
            ("interaction", (row, column), -np.outer(row_weights, column_weights))
            for row, row_weights in of_rows
            for column, column_weights in of_columns
        ),
    ]


def _first_minus(index: int, levels: int) -> Array:
    weights = np.zeros(levels)
    weights[0], weights[index] = 1.0, -1.0
    return weights
