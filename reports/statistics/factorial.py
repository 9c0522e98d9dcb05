"""Main effects and interactions of two crossed factors.

Every effect is a linear combination of arms, so that all of them form one max-t family (see
:mod:`reports.statistics.contrasts`). The first level of each factor is the reference ("treatment" coding, but averaged
over the other factor for main effects).

Source: Hothorn, Bretz & Westfall 2008, for the simultaneous intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
import numpy.typing as npt

from reports.statistics.contrasts import Estimate, estimate_combinations
from reports.statistics.critical_values import Array
from reports.statistics.evidence import ALPHA

EffectKind = Literal["rows", "columns", "interaction"]


@dataclass(frozen=True, kw_only=True)
class EffectEstimate(Estimate):
    """An effect in the endpoint's units, positive where the endpoint falls.

    Attributes:
        kind: ``rows``, ``columns`` or ``interaction``.
        levels: the level of the row factor, of the column factor, or of both, against the first level of each.
    """

    kind: EffectKind
    levels: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Effect:
    """An effect as weights of the layout's cells, rows x columns."""

    kind: EffectKind
    levels: tuple[str, ...]
    cell_weights: Array


def estimate_effects(
    values: npt.ArrayLike,
    arms: Sequence[str],
    layout: Sequence[Sequence[str]],
    row_levels: Sequence[str],
    column_levels: Sequence[str],
    *,
    alpha: float = ALPHA,
    resolution: float = 0.0,
) -> tuple[EffectEstimate, ...]:
    """Estimate main effects and interactions with simultaneous intervals.

    The family has rows · columns - 1 contrasts. A main effect is the first level minus the level, averaged over the
    other factor. An interaction is the improvement that a column level brings at a row level, minus the one it brings
    at the first row level: its variance is twice that of a difference of two arms, so it needs twice the seeds.

    Args:
        values: arms x seeds; non-finite values are missing.
        arms: names of the rows of ``values``; arms outside the layout contribute to the pooled variance.
        layout: the name of the arm in every cell.
        row_levels: names of the rows of the layout.
        column_levels: names of its columns.
        alpha: level of the family.
        resolution: smallest step between two values; 0 for continuous ones.

    Raises:
        ValueError: where the layout does not match the levels, or a cell names an unknown arm or one named before.
    """
    cells = list(chain.from_iterable(layout))
    row_lengths = [len(row) for row in layout]
    if row_lengths != [len(column_levels)] * len(row_levels):
        raise ValueError(f"the layout has rows of {row_lengths} cells; expected one cell per level.")
    # An arm in two cells would be compared with itself.
    if len(set(cells)) < len(cells) or not set(cells) <= set(arms):
        raise ValueError(f"the layout names {', '.join(cells)}; expected each once, out of: {', '.join(arms)}.")
    effects = _list_effects(row_levels, column_levels)
    arm_of_cell = [list(arms).index(cell) for cell in cells]
    # Arms outside of the layout keep the weight 0, and still tell of the noise.
    coefficients = np.zeros((len(effects), len(arms)))
    for row, effect in zip(coefficients, effects, strict=True):
        row[arm_of_cell] = effect.cell_weights.ravel()
    estimates = []
    combinations = estimate_combinations(values, coefficients, alpha=alpha, resolution=resolution)
    for effect, estimate in zip(effects, combinations, strict=True):
        estimates.append(EffectEstimate(kind=effect.kind, levels=effect.levels, **vars(estimate)))
    return tuple(estimates)


def effect_coefficients(num_rows: int, num_columns: int) -> Array:
    """Weights of all effects, effects x cells; the cells row by row."""
    rows, columns = list(map(str, range(num_rows))), list(map(str, range(num_columns)))
    return np.array([effect.cell_weights.ravel() for effect in _list_effects(rows, columns)])


def _list_effects(rows: Sequence[str], columns: Sequence[str]) -> list[_Effect]:
    """List the main effects of rows, those of columns, then all interactions."""
    row_mean = np.full(len(rows), 1 / len(rows))
    column_mean = np.full(len(columns), 1 / len(columns))
    row_effects, column_effects, interactions = [], [], []
    for row_index, row in enumerate(rows[1:], 1):
        weights = np.outer(_first_minus_level(row_index, len(rows)), column_mean)
        row_effects.append(_Effect(kind="rows", levels=(row,), cell_weights=weights))
    for column_index, column in enumerate(columns[1:], 1):
        weights = np.outer(row_mean, _first_minus_level(column_index, len(columns)))
        column_effects.append(_Effect(kind="columns", levels=(column,), cell_weights=weights))
    for row_index, row in enumerate(rows[1:], 1):
        for column_index, column in enumerate(columns[1:], 1):
            row_weights = _first_minus_level(row_index, len(rows))
            column_weights = _first_minus_level(column_index, len(columns))
            # The sign makes an interaction positive where the column level helps more under this row level.
            weights = -np.outer(row_weights, column_weights)
            interactions.append(_Effect(kind="interaction", levels=(row, column), cell_weights=weights))
    return [*row_effects, *column_effects, *interactions]


def _first_minus_level(index: int, num_levels: int) -> Array:
    """Return weights of the levels: 1 for the first, -1 for the one at ``index``."""
    weights = np.zeros(num_levels)
    weights[0], weights[index] = 1.0, -1.0
    return weights
