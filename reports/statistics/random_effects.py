"""Crossed random effects of seeds and test images (Dorfman-Berbaum-Metz, Satterthwaite).

The interval generalizes a difference of two arms to other seeds *and* other images of the same kind. It is the
multi-reader multi-case analysis of variance of radiology, with seeds as readers and images as cases; the degrees of
freedom of its sum of mean squares are Satterthwaite's.

Source: Dorfman, Berbaum & Metz 1992; Satterthwaite 1946.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats


@dataclass(frozen=True, kw_only=True)
class CrossedInterval:
    """Difference in percentage points with its interval over seeds and images.

    Attributes:
        estimate: error of ``over`` minus error of ``arm``.
        low, high: two-sided 95%; infinite below two seeds or two examples.
        standard_error: of both sources of chance together.
        image_standard_error: the component that no number of seeds removes. This test set cannot resolve a smallest
            effect of interest below it.
        degrees_of_freedom: Satterthwaite's, at least those of the seeds alone; not an integer.
    """

    estimate: float
    low: float
    high: float
    standard_error: float
    image_standard_error: float
    degrees_of_freedom: float


def crossed_interval(differences: npt.ArrayLike, *, alpha: float = 0.05) -> CrossedInterval:
    """Interval of δ in the crossed random-effects model ``d[s, i] = δ + a_s + b_i + e_si``.

    Its variance is (MS_seed + max(MS_example - MS_residual, 0)) / (seeds · examples). A bootstrap over images, the
    seed mean taken as fixed, covers 40% where the errors of a seed are correlated over images; one over both counts the
    residual twice.

    Args:
        differences: seeds x examples, ``misclassified[over] - misclassified[arm]``: -1, 0 or 1.
        alpha: level.

    Raises:
        ValueError: unless it is a table with at least one cell.

    Source: Dorfman, Berbaum & Metz 1992, with seeds as readers and images as cases.
    """
    table = np.asarray(differences, dtype=np.float64)
    if table.ndim != 2 or not table.size:
        raise ValueError(f"differences have shape {table.shape}; expected seeds x examples, one of each or more.")
    estimate = 100 * float(table.mean())
    if min(table.shape) < 2:  # one seed or one image has no variance to estimate
        return CrossedInterval(
            estimate=estimate,
            low=-math.inf,
            high=math.inf,
            standard_error=math.inf,
            image_standard_error=math.nan,
            degrees_of_freedom=0.0,
        )
    by_seed, by_image, freedom = _variance_components(table)
    error = 100 * math.sqrt((by_seed + by_image) / table.size)
    # Where nothing varies, the interval has no width, whatever the degrees of freedom.
    half = float(stats.t.ppf(1 - alpha / 2, freedom)) * error if error else 0.0
    return CrossedInterval(
        estimate=estimate,
        low=estimate - half,
        high=estimate + half,
        standard_error=error,
        image_standard_error=100 * math.sqrt(by_image / table.size),
        degrees_of_freedom=freedom,
    )


def _variance_components(table: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Return MS_seed, max(MS_example - MS_residual, 0) and the degrees of freedom of their sum."""
    seeds, examples = table.shape
    seed_freedom, example_freedom = seeds - 1, examples - 1
    residual_freedom = seed_freedom * example_freedom
    row, column, mean = table.mean(axis=1, keepdims=True), table.mean(axis=0, keepdims=True), table.mean()
    seed_square = float(examples * np.sum((row - mean) ** 2)) / seed_freedom
    example_square = float(seeds * np.sum((column - mean) ** 2)) / example_freedom
    residual_square = float(np.sum((table - row - column + mean) ** 2)) / residual_freedom
    # A negative estimate of the image component counts as zero, and then only MS_seed is left in the sum.
    image = max(example_square - residual_square, 0.0)
    spread = seed_square**2 / seed_freedom
    if image:
        spread += example_square**2 / example_freedom
        spread += residual_square**2 / residual_freedom
    if not spread:
        return seed_square, image, math.inf
    # Satterthwaite's degrees of freedom approach 0 where both components are small by chance, and the interval would be
    # unbounded: those of the seeds alone are the floor.
    satterthwaite = (seed_square + image) ** 2 / spread
    return seed_square, image, max(satterthwaite, seed_freedom)
