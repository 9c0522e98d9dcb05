"""Families of contrasts whose intervals hold simultaneously: all that the claims on one endpoint read.

A difference is one contrast, whichever way round it is asked for; so is the change along an order of arms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ablations import Claim, Endpoint, Metric
from reports.statistics.contrasts import Contrast, Estimate, estimate_combinations, pairwise_coefficients
from reports.statistics.critical_values import Array

ArmPair = tuple[str, str]  # (over, arm)


@dataclass(frozen=True, kw_only=True)
class ContrastFamily:
    """Contrasts of one endpoint, each once.

    Attributes:
        pairs: differences ``(over, arm)``, in the direction in which they are asked for first.
        trends: orders of three arms or more, whose fitted change is a contrast of its own.
    """

    pairs: tuple[ArmPair, ...]
    trends: tuple[tuple[str, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.pairs) + len(self.trends)

    def has_pair(self, over: str, arm: str) -> bool:
        """Whether the difference of two arms belongs to the family, whichever way round."""
        return (over, arm) in self.pairs or (arm, over) in self.pairs

    def coefficients(self, arms: Sequence[str]) -> Array:
        """Contrasts x arms: the pairs, then the trends."""
        trends = [trend_coefficients(arms, order) for order in self.trends]
        return np.vstack([pairwise_coefficients(arms, self.pairs), *trends])


def make_family(pairs: Iterable[ArmPair], trends: Iterable[tuple[str, ...]] = ()) -> ContrastFamily:
    """Collect contrasts into a family, without those that are others turned round."""
    all_pairs = [*pairs]
    long_orders = []
    for order in trends:
        if len(order) == 2:  # the fitted change of two arms is their difference
            all_pairs.append((order[0], order[1]))
        else:
            long_orders.append(order)
    distinct_pairs: dict[frozenset[str], ArmPair] = {}
    for pair in all_pairs:
        distinct_pairs.setdefault(frozenset(pair), pair)
    distinct_trends: dict[tuple[str, ...], tuple[str, ...]] = {}
    for order in long_orders:
        distinct_trends.setdefault(min(order, order[::-1]), order)
    return ContrastFamily(pairs=tuple(distinct_pairs.values()), trends=tuple(distinct_trends.values()))


def claimed_family(claims: Iterable[Claim], endpoint: Endpoint | Metric) -> ContrastFamily:
    """Collect all contrasts that claims read on one endpoint."""
    pairs: list[ArmPair] = []
    trends: list[tuple[str, ...]] = []
    for claim in claims:
        for conjunct in claim.conjuncts:
            if conjunct.endpoint == endpoint:
                pairs += conjunct.contrasts
                trends += conjunct.trends
    return make_family(pairs, trends)


def study_family(claims: Sequence[Claim], arms: Sequence[str]) -> ContrastFamily:
    """Return the family of the claims on test error; without any, all differences to the baseline (the first arm)."""
    family = claimed_family(claims, "test_error")
    return family if len(family) else make_family((arms[0], arm) for arm in arms[1:])


def trend_coefficients(arms: Sequence[str], order: Sequence[str]) -> Array:
    """Weights of the fall of the least-squares line from the first arm of an order to its last, 1 x arms.

    The arms of the order are equally spaced.
    """
    weights = (len(order) - 1) / 2 - np.arange(len(order))
    row = np.zeros((1, len(arms)))
    # Slope of the line times the number of steps.
    row[0, [list(arms).index(arm) for arm in order]] = weights * (len(order) - 1) / (weights @ weights)
    return row


class FamilyEstimates:
    """Estimates of a family with simultaneous intervals, looked up in either direction."""

    def __init__(
        self,
        values: npt.ArrayLike,
        arms: Sequence[str],
        family: ContrastFamily,
        *,
        alpha: float,
        resolution: float,
        limit: float,
    ) -> None:
        """Estimate a family.

        Args:
            values: arms x seeds; non-finite values are missing.
            arms: names of the rows.
            family: the contrasts.
            alpha: familywise level.
            resolution: smallest step between two values, see :func:`estimate_combinations`.
            limit: largest possible difference, at which bounds are cut; infinite where there is none.
        """
        rows = family.coefficients(arms)
        estimates = estimate_combinations(values, rows, alpha=alpha, resolution=resolution)
        # The largest possible value of a contrast: all arms of one sign at the limit, all others at 0.
        largest = np.maximum(rows, 0).sum(axis=1)
        clipped = []
        for estimate, weight in zip(estimates, largest.tolist(), strict=True):
            clipped.append(estimate.clip(limit * weight))
        self._pairs: dict[ArmPair, Contrast] = {}
        for (over, arm), estimate in zip(family.pairs, clipped, strict=False):
            contrast = Contrast(over=over, arm=arm, **vars(estimate))
            self._pairs[over, arm] = contrast
            self._pairs[arm, over] = contrast.reverse()
        self._trends: dict[tuple[str, ...], Estimate] = {}
        for order, estimate in zip(family.trends, clipped[len(family.pairs) :], strict=True):
            self._trends[order] = estimate
            self._trends[order[::-1]] = estimate.reverse()

    def pair(self, over: str, arm: str) -> Contrast:
        """Return the contrast of two arms, positive where ``arm`` is lower."""
        return self._pairs[over, arm]

    def trend(self, order: Sequence[str]) -> Estimate:
        """Return the fall of the fitted line from the first arm of an order to its last."""
        return self._pairs[order[0], order[1]] if len(order) == 2 else self._trends[tuple(order)]
