"""What one seed shows: a statement about two trained networks, never about the methods that trained them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Wrong = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class TwoNetworks:
    """Two trained networks on the same test examples.

    Attributes:
        over_only: examples that only ``over`` gets wrong.
        arm_only: examples that only ``arm`` gets wrong.
        difference: error of ``over`` minus error of ``arm``, percentage points; positive where ``arm`` errs less.
        low, high: its 95% interval over examples, for these two networks.
        p_exact, p_mid: McNemar's test, two-sided; the mid-p version is the less conservative.
    """

    over_only: int
    arm_only: int
    examples: int
    difference: float
    low: float
    high: float
    p_exact: float
    p_mid: float

    @property
    def sentence(self) -> str:
        """The strongest that one seed allows."""
        half = (self.high - self.low) / 2
        return (
            f"These two trained networks differ on images like these by {self.difference:.2f} ± {half:.2f} points "
            f"(McNemar's mid-p {self.p_mid:.2g}); one seed each says nothing about the methods."
        )


def two_networks(wrong_over: Wrong, wrong_arm: Wrong) -> TwoNetworks:
    """Compare two networks example by example.

    Args:
        wrong_over: per test example, whether ``over`` errs.
        wrong_arm: the same of ``arm``, in the same order.

    Raises:
        ValueError: unless both have the same length, and at least one example.

    Source: McNemar 1947; Fagerland, Lydersen & Laake 2013 (mid-p).
    """
    if wrong_over.shape != wrong_arm.shape or wrong_over.ndim != 1 or not len(wrong_over):
        raise ValueError(f"shapes {wrong_over.shape} and {wrong_arm.shape}; expected the same examples, one or more.")
    examples = len(wrong_over)
    first, second = int(np.sum(wrong_over & ~wrong_arm)), int(np.sum(wrong_arm & ~wrong_over))
    half = 1.96 * math.sqrt(first + second - (first - second) ** 2 / examples)
    scale, exact = 100 / examples, _mcnemar(first, second)
    return TwoNetworks(
        over_only=first,
        arm_only=second,
        examples=examples,
        difference=scale * (first - second),
        low=scale * (first - second - half),
        high=scale * (first - second + half),
        p_exact=min(exact, 1.0),
        p_mid=exact - float(stats.binom.pmf(min(first, second), first + second, 0.5)),
    )


@dataclass(frozen=True, kw_only=True)
class NoiseRatio:
    """φ: the SD over seeds, over the SD that independent flips of single images would give; 1 where seeds only flip.

    Where φ is 1, comparing two networks says what comparing two methods would; at 2 it is wrong one time in three.
    """

    ratio: float
    low: float
    high: float
    degrees_of_freedom: int


def noise_ratio(wrong: Sequence[Wrong]) -> NoiseRatio:
    """φ with its 95% interval, pooled over arms.

    The variance from flips is the mean pairwise disagreement between seeds, over twice the number of examples.

    Args:
        wrong: per arm, seeds x examples: whether a network errs. Arms with one seed, or whose seeds agree on every
            example, tell nothing, and are passed over.

    Source: Jordan 2023, for the comparison; the interval is that of a variance (χ²).
    """
    told = [(len(arm) - 1, *_variances(arm)) for arm in wrong if len(arm) >= 2]
    told = [each for each in told if each[2] > 0]
    freedom = sum(each[0] for each in told)
    if not freedom:
        return NoiseRatio(ratio=math.nan, low=0.0, high=math.inf, degrees_of_freedom=0)
    square = sum(weight * seeds / flips for weight, seeds, flips in told) / freedom
    low, high = (math.sqrt(freedom * square / float(stats.chi2.ppf(tail, freedom))) for tail in (0.975, 0.025))
    return NoiseRatio(ratio=math.sqrt(square), low=low, high=high, degrees_of_freedom=freedom)


def _variances(arm: Wrong) -> tuple[float, float]:
    """Of the error share: the variance over seeds, and that which independent flips of single examples would give."""
    seeds, examples = arm.shape
    often = arm.sum(axis=0)
    disagreement = float(np.mean(often * (seeds - often))) * 2 / (seeds * (seeds - 1))
    return float(np.var(arm.mean(axis=1), ddof=1)), disagreement / (2 * examples)


def _mcnemar(first: int, second: int) -> float:
    """Twice the smaller tail of the binomial; above one where both are equal."""
    return 2 * float(stats.binom.cdf(min(first, second), first + second, 0.5))
