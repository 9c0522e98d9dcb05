"""Comparison of two trained networks on the same test examples.

McNemar's test (exact and mid-p) on the examples that only one of the two gets wrong, and the noise ratio φ of seeds to
independent flips of single examples. With one seed this is a statement about two trained networks, never about the
methods that trained them.

Source: McNemar 1947; Fagerland, Lydersen & Laake 2013 (mid-p); Jordan 2023 (seed variance and independent flips).
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
