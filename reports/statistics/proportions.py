"""Exact inference on the share of seeds that train.

Clopper-Pearson intervals for one arm, Fisher's exact test between two arms. Counts of 3 to 10 seeds are far too small
for normal approximations.

Source: Clopper & Pearson 1934; Fisher 1935.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True, kw_only=True)
class Proportion:
    """``count`` of ``total`` seeds with the Clopper-Pearson interval of the share (0 to 1)."""

    count: int
    total: int
    low: float
    high: float


def estimate_proportion(count: int, total: int, *, alpha: float = 0.05) -> Proportion:
    """Estimate a share of seeds with its exact two-sided interval.

    Each bound alone is a one-sided bound at ``alpha / 2``.

    Raises:
        ValueError: unless ``0 <= count <= total``.

    Source: Clopper & Pearson 1934.
    """
    if not 0 <= count <= total:
        raise ValueError(f"count is {count} of {total}; expected a count between 0 and {total}.")
    # The beta quantile is undefined at the edges, where the exact bound is 0 or 1.
    low = float(stats.beta.ppf(alpha / 2, count, total - count + 1)) if count else 0.0
    high = float(stats.beta.ppf(1 - alpha / 2, count + 1, total - count)) if count < total else 1.0
    return Proportion(count=count, total=total, low=low, high=high)


def fisher_p_value(first: Proportion, second: Proportion) -> float:
    """Two-sided p-value of Fisher's exact test that two arms train equally often.

    1 where one of the arms has no seeds. With 3 seeds each it is never below 0.10; with 5 each it takes 4 against 0.
    """
    # Arms x (trained, not trained).
    table = np.array([[first.count, first.total - first.count], [second.count, second.total - second.count]])
    return float(stats.fisher_exact(table).pvalue)


def difference_interval(over: Proportion, arm: Proportion, *, alpha: float = 0.05) -> tuple[float, float]:
    """Conservative two-sided interval for ``share(arm) - share(over)``.

    Bonferroni over the two arms: both exact intervals, each at half of ``alpha``, cover together.
    """
    over_share = estimate_proportion(over.count, over.total, alpha=alpha / 2)
    arm_share = estimate_proportion(arm.count, arm.total, alpha=alpha / 2)
    return arm_share.low - over_share.high, arm_share.high - over_share.low


def is_decidable(num_seeds: int, *, alpha: float = 0.05) -> bool:
    """Whether the most extreme outcome, all seeds of one arm against none of the other, is significant."""
    return fisher_p_value(estimate_proportion(num_seeds, num_seeds), estimate_proportion(0, num_seeds)) <= alpha


def fewest_seeds(*, alpha: float = 0.05) -> int:
    """Fewest seeds per arm with which Fisher's test can reject at all: 4 at ``alpha`` 0.05."""
    return next(seeds for seeds in itertools.count(1) if is_decidable(seeds, alpha=alpha))
