"""Exact inference on the share of seeds that train, and the statements that it allows.

Clopper-Pearson intervals for one arm, Fisher's exact test between two arms. Counts of 3 to 10 seeds are far too small
for normal approximations.

Source: Clopper & Pearson 1934; Fisher 1935.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from reports.statistics.evidence import EndpointAnalysis, ImprovementBounds, Statement
from reports.statistics.families import ArmPair


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


class BinaryEndpointAnalysis(EndpointAnalysis):
    """Analysis of trainability, a share of seeds per arm.

    Direction by Fisher's exact test, margins by Clopper-Pearson intervals, Bonferroni over the family.
    """

    def bounds(self, pair: ArmPair, individual: bool) -> ImprovementBounds:
        """Return the Clopper-Pearson interval, made to exclude zero exactly where Fisher's test rejects."""
        over, arm = self._trained_proportion(pair[0]), self._trained_proportion(pair[1])
        level = self._significance_level(individual)
        low, high = difference_interval(over, arm, alpha=level)
        # A two-sided interval at twice the level has one-sided bounds at the level.
        low_one_sided, high_one_sided = difference_interval(over, arm, alpha=2 * level)
        rejects = fisher_p_value(over, arm) <= level
        gains = arm.count * over.total > over.count * arm.total  # shares compared without division: totals may be 0
        smallest = math.ulp(0.0)  # the smallest positive float
        low = max(low, smallest) if rejects and gains else min(low, 0.0)
        high = min(high, -smallest) if rejects and not gains else max(high, 0.0)
        return ImprovementBounds(low=low, high=high, low_one_sided=low_one_sided, high_one_sided=high_one_sided)

    def observed_improvement(self, pair: ArmPair) -> float:
        """Return the difference of the shares; 0 where an arm has not run."""
        over, arm = self._trained_proportion(pair[0]), self._trained_proportion(pair[1])
        return arm.count / arm.total - over.count / over.total if over.total and arm.total else 0.0

    def trend(self, order: Sequence[str], *, rises: bool, individual: bool = False) -> Statement:
        """State the fall, or the rise, by the first arm against the last."""
        pair = self.decreasing_pair((order[0], order[-1]))
        if rises:
            return self.inferiority(pair, individual=individual)
        return self.superiority(pair, individual=individual)

    def decreasing_pair(self, pair: ArmPair) -> ArmPair:
        """Return the pair reversed: the share of seeds that train falls where the arm trains *less* often."""
        return pair[1], pair[0]

    def notes(self, pairs: Iterable[ArmPair]) -> tuple[str, ...]:
        """Return, per arm, how many seeds trained."""
        notes = {}
        for pair in pairs:
            for arm in pair:
                notes[arm] = f"{arm}: {self._describe_proportion(self._trained_proportion(arm))}"
        return tuple(notes.values())

    def _missing_pairs_reason(self, pair: ArmPair) -> str:
        empty = [arm for arm in pair if self._trained_proportion(arm).total == 0]
        return f"no seed of {' and '.join(empty)} has run" if empty else ""

    def _describe_effect(self, pair: ArmPair, individual: bool) -> str:
        over, arm = self._trained_proportion(pair[0]), self._trained_proportion(pair[1])
        counts = f"{arm.count} of {arm.total} seeds of {pair[1]} train, {over.count} of {over.total} of {pair[0]}"
        p_value, level = fisher_p_value(over, arm), self._significance_level(individual)
        return f"{counts} (Fisher's exact p = {p_value:.2g}, needed {level:.2g})"

    def _describe_direction(self, pair: ArmPair, individual: bool) -> str:
        return self._describe_effect(pair, individual)

    def _significance_level(self, individual: bool) -> float:
        return self.alpha if individual else self.alpha / len(self.family)

    def _trained_proportion(self, arm: str) -> Proportion:
        row = self.arms.index(arm)
        lost = self.evidence.lost_to_divergence[row]
        run = int(np.sum(lost | np.isfinite(self.evidence.values[row])))
        return estimate_proportion(run - int(np.sum(lost)), run, alpha=self.alpha)

    def _describe_proportion(self, proportion: Proportion) -> str:
        interval = f"{self.confidence_level} interval {proportion.low:.0%} to {proportion.high:.0%}"
        return f"{proportion.count} of {proportion.total} seeds trained ({interval})"
