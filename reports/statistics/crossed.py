"""Seeds crossed with examples: how a difference would turn out with other seeds *and* other images of this kind."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats


@dataclass(frozen=True, kw_only=True)
class CrossedInterval:
    """A difference in percentage points with the interval for the population of seeds and of images.

    Attributes:
        estimate: error of ``over`` minus error of ``arm``.
        low, high: two-sided 95%; infinite below two seeds or two examples.
        standard_error: of both sources of chance together.
        image_standard_error: the part that no number of seeds removes. A smallest effect of interest below it asks
            more than this test set can answer.
        degrees_of_freedom: Satterthwaite's, and no fewer than the seeds alone would have; not a whole number.
    """

    estimate: float
    low: float
    high: float
    standard_error: float
    image_standard_error: float
    degrees_of_freedom: float


def crossed_interval(differences: npt.ArrayLike, *, alpha: float = 0.05) -> CrossedInterval:
    """The interval of the crossed random-effects model ``d[s, i] = δ + a_s + b_i + e_si``.

    Its variance is (MS_seed + max(MS_example - MS_residual, 0)) / (seeds · examples). A bootstrap over images, the
    seed mean taken as fixed, covers 40% where seeds vary coherently; one over both counts the residual twice.

    Args:
        differences: seeds x examples, ``wrong[over] - wrong[arm]``: -1, 0 or 1.
        alpha: level.

    Raises:
        ValueError: unless it is a table with at least one cell.

    Source: Dorfman, Berbaum & Metz 1992, with seeds as readers and images as cases.
    """
    table = np.asarray(differences, dtype=np.float64)
    if table.ndim != 2 or not table.size:
        raise ValueError(f"differences have shape {table.shape}; expected seeds x examples, one of each or more.")
    estimate = 100 * float(table.mean())
    if min(table.shape) < 2:
        return CrossedInterval(
            estimate=estimate,
            low=-math.inf,
            high=math.inf,
            standard_error=math.inf,
            image_standard_error=math.nan,
            degrees_of_freedom=0.0,
        )
    by_seed, by_image, freedom = _components(table)
    error = 100 * math.sqrt((by_seed + by_image) / table.size)
    half = float(stats.t.ppf(1 - alpha / 2, freedom)) * error if error else 0.0
    return CrossedInterval(
        estimate=estimate,
        low=estimate - half,
        high=estimate + half,
        standard_error=error,
        image_standard_error=100 * math.sqrt(by_image / table.size),
        degrees_of_freedom=freedom,
    )


def _components(table: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """MS_seed, max(MS_example - MS_residual, 0) and the degrees of freedom of their sum."""
    seeds, examples = table.shape
    freedoms = seeds - 1, examples - 1, (seeds - 1) * (examples - 1)
    row, column, mean = table.mean(axis=1, keepdims=True), table.mean(axis=0, keepdims=True), table.mean()
    squares = (
        examples * np.sum((row - mean) ** 2),
        seeds * np.sum((column - mean) ** 2),
        np.sum((table - row - column + mean) ** 2),
    )
    seed, example, residual = (float(total) / freedom for total, freedom in zip(squares, freedoms, strict=True))
    image = max(example - residual, 0.0)
    terms = (seed, example, residual) if image else (seed,)
    spread = sum(term**2 / freedom for term, freedom in zip(terms, freedoms, strict=False))
    # Where both components come out small by chance, Satterthwaite's fall towards 0, and the interval has no bounds.
    return seed, image, max((seed + image) ** 2 / spread, freedoms[0]) if spread else math.inf
