"""How many seeds trained: an exact interval for one arm, an exact test between two."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True, kw_only=True)
class Share:
    """``count`` of ``run`` seeds, with the Clopper-Pearson interval for the share behind it (between 0 and 1)."""

    count: int
    run: int
    low: float
    high: float


def share(count: int, run: int, *, alpha: float = 0.05) -> Share:
    """A share of seeds with its exact two-sided interval; each bound alone is one-sided at ``alpha / 2``.

    Raises:
        ValueError: unless ``0 <= count <= run``.

    Source: Clopper & Pearson 1934.
    """
    if not 0 <= count <= run:
        raise ValueError(f"count is {count} of {run}; expected a count between 0 and {run}.")
    low = float(stats.beta.ppf(alpha / 2, count, run - count + 1)) if count else 0.0
    high = float(stats.beta.ppf(1 - alpha / 2, count + 1, run - count)) if count < run else 1.0
    return Share(count=count, run=run, low=low, high=high)


def fisher(first: Share, second: Share) -> float:
    """Two-sided p of Fisher's exact test that two arms train equally often; 1 where one of them has no seeds.

    With 3 seeds each it is never below 0.10; with 5 each it takes 4 against 0.
    """
    table = np.array([[each.count, each.run - each.count] for each in (first, second)])
    return float(stats.fisher_exact(table).pvalue)


def gain_interval(over: Share, arm: Share, *, alpha: float = 0.05) -> tuple[float, float]:
    """Conservative two-sided interval for ``share(arm) - share(over)``: exact for each arm at half of ``alpha``."""
    first, second = (share(each.count, each.run, alpha=alpha / 2) for each in (over, arm))
    return second.low - first.high, second.high - first.low


def decidable(seeds: int, *, alpha: float = 0.05) -> bool:
    """Whether all of ``seeds`` against none of as many, the plainest outcome there is, could tell two arms apart."""
    return fisher(share(seeds, seeds), share(0, seeds)) <= alpha


def fewest_seeds(*, alpha: float = 0.05) -> int:
    """The fewest seeds per arm with which two arms can be told apart at all: 4 at the level of 0.05."""
    return next(seeds for seeds in itertools.count(1) if decidable(seeds, alpha=alpha))
