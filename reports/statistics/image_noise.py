"""What the choice of test images adds to a difference: two networks on the same images, and seeds crossed with images.

Two trained networks: McNemar's test (exact and mid-p) on the examples that only one of the two gets wrong, and the
noise ratio φ of seeds to independent flips of single examples. With one seed this is a statement about two trained
networks, never about the methods that trained them.

Seeds crossed with images: the interval generalizes a difference of two arms to other seeds *and* other images of the
same kind. It is the multi-reader multi-case analysis of variance of radiology, with seeds as readers and images as
cases; the degrees of freedom of its sum of mean squares are Satterthwaite's.

Source: McNemar 1947; Fagerland, Lydersen & Laake 2013 (mid-p); Jordan 2023 (seed variance and independent flips);
Dorfman, Berbaum & Metz 1992; Satterthwaite 1946.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Misclassified = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class NetworkDifference:
    """Two trained networks on the same test examples.

    Attributes:
        num_only_over_wrong: examples that only ``over`` gets wrong.
        num_only_arm_wrong: examples that only ``arm`` gets wrong.
        difference: error of ``over`` minus error of ``arm``, percentage points; positive where ``arm`` errs less.
        low, high: its 95% interval over examples, for these two networks.
        p_exact, p_mid: McNemar's test, two-sided; the mid-p version is the less conservative.
    """

    num_only_over_wrong: int
    num_only_arm_wrong: int
    num_examples: int
    difference: float
    low: float
    high: float
    p_exact: float
    p_mid: float

    @property
    def sentence(self) -> str:
        """The strongest statement that one seed allows."""
        half = (self.high - self.low) / 2
        return (
            f"These two trained networks differ on images like these by {self.difference:.2f} ± {half:.2f} points "
            f"(McNemar's mid-p {self.p_mid:.2g}); one seed each says nothing about the methods."
        )


def compare_networks(misclassified_over: Misclassified, misclassified_arm: Misclassified) -> NetworkDifference:
    """Compare two networks example by example.

    Args:
        misclassified_over: per test example, whether ``over`` errs.
        misclassified_arm: the same of ``arm``, in the same order.

    Raises:
        ValueError: unless both have the same length, and at least one example.

    Source: McNemar 1947; Fagerland, Lydersen & Laake 2013 (mid-p).
    """
    has_same_examples = misclassified_over.shape == misclassified_arm.shape
    if not has_same_examples or misclassified_over.ndim != 1 or not len(misclassified_over):
        raise ValueError(
            f"shapes {misclassified_over.shape} and {misclassified_arm.shape}; expected the same examples, one or more."
        )
    examples = len(misclassified_over)
    first = int(np.sum(misclassified_over & ~misclassified_arm))
    second = int(np.sum(misclassified_arm & ~misclassified_over))
    # Wald interval of a difference of paired proportions; only discordant examples carry information.
    half = 1.96 * math.sqrt(first + second - (first - second) ** 2 / examples)
    scale, exact = 100 / examples, _mcnemar_p_value(first, second)
    return NetworkDifference(
        num_only_over_wrong=first,
        num_only_arm_wrong=second,
        num_examples=examples,
        difference=scale * (first - second),
        low=scale * (first - second - half),
        high=scale * (first - second + half),
        p_exact=min(exact, 1.0),
        # Mid-p counts the observed outcome half in each tail: minus its probability once.
        p_mid=exact - float(stats.binom.pmf(min(first, second), first + second, 0.5)),
    )


@dataclass(frozen=True, kw_only=True)
class NoiseRatio:
    """φ: SD over seeds, divided by the SD under independent flips of single images.

    Where φ is 1, a comparison of two networks is as good as one of two methods; at 2 it is wrong one time in three.
    """

    ratio: float
    low: float
    high: float
    degrees_of_freedom: int


def noise_ratio(misclassified: Sequence[Misclassified]) -> NoiseRatio:
    """φ with its 95% interval, pooled over arms.

    The variance under flips is the mean pairwise disagreement between seeds, over twice the number of examples.

    Args:
        misclassified: per arm, seeds x examples: whether a network errs. Arms with one seed, or whose seeds agree on
            every example, are skipped.

    Source: Jordan 2023, for the comparison; the interval is that of a variance (χ²).
    """
    freedom, weighted_ratios = 0, 0.0
    for arm in misclassified:
        if len(arm) < 2:
            continue
        seed_variance, flip_variance = _error_variances(arm)
        if flip_variance > 0:
            freedom += len(arm) - 1
            weighted_ratios += (len(arm) - 1) * seed_variance / flip_variance
    if not freedom:
        return NoiseRatio(ratio=math.nan, low=0.0, high=math.inf, degrees_of_freedom=0)
    square = weighted_ratios / freedom
    low = math.sqrt(freedom * square / float(stats.chi2.ppf(0.975, freedom)))
    high = math.sqrt(freedom * square / float(stats.chi2.ppf(0.025, freedom)))
    return NoiseRatio(ratio=math.sqrt(square), low=low, high=high, degrees_of_freedom=freedom)


def _error_variances(arm: Misclassified) -> tuple[float, float]:
    """Variances of the error share: over seeds, and under independent flips of single examples."""
    seeds, examples = arm.shape
    num_wrong = arm.sum(axis=0)
    # Per example, wrong x right seeds is the number of pairs of seeds that disagree on it.
    disagreement = float(np.mean(num_wrong * (seeds - num_wrong))) * 2 / (seeds * (seeds - 1))
    return float(np.var(arm.mean(axis=1), ddof=1)), disagreement / (2 * examples)


def _mcnemar_p_value(first: int, second: int) -> float:
    """Twice the smaller tail of the binomial; above 1 where both counts are equal."""
    return 2 * float(stats.binom.cdf(min(first, second), first + second, 0.5))


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
