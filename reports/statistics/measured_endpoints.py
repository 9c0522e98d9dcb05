"""Statements about an endpoint with one number per trial, from paired and simultaneous intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from reports.formatting import SCIENTIFIC, choose_decimals, decimals_off_zero, format_fixed
from reports.statistics.contrasts import Estimate, estimate_combinations, pairwise_coefficients
from reports.statistics.critical_values import Array
from reports.statistics.evidence import (
    ALPHA,
    EndpointAnalysis,
    Evidence,
    FavoredSide,
    ImprovementBounds,
    Statement,
)
from reports.statistics.families import ArmPair, ContrastFamily, FamilyEstimates


class ContinuousEndpointAnalysis(EndpointAnalysis):
    """Analysis of an endpoint with one number per trial: contrasts paired by seed, one family of intervals."""

    def __init__(
        self, evidence: Evidence, arms: Sequence[str], family: ContrastFamily, *, alpha: float = ALPHA
    ) -> None:
        super().__init__(evidence, arms, family, alpha=alpha)
        self.estimates: FamilyEstimates = FamilyEstimates(
            self.falling_values,
            self.arms,
            self.family,
            alpha=alpha,
            resolution=evidence.resolution,
            limit=evidence.largest_difference,
        )
        self.num_lost = dict(zip(self.arms, np.sum(evidence.lost_to_divergence, axis=1).tolist(), strict=True))

    @property
    def falling_values(self) -> Array:
        """The values, arms x seeds, with their sign turned where a rise is better: an improvement is a fall."""
        return -self.evidence.values if self.evidence.higher_is_better else self.evidence.values

    def bounds(self, pair: ArmPair, individual: bool) -> ImprovementBounds:
        """Return the bounds of the contrast."""
        return _select_bounds(self.estimates.pair(*pair), individual)

    def observed_improvement(self, pair: ArmPair) -> float:
        """Return the mean difference."""
        return self.estimates.pair(*pair).estimate

    def trend(self, order: Sequence[str], *, rises: bool, individual: bool = False) -> Statement:
        """State a fall or rise by the linear contrast of equally spaced arms, as fitted from the first to the last."""
        estimate = self.estimates.trend(order)
        bounds = _select_bounds(estimate, individual)
        holds = bounds.high < 0 if rises else bounds.low > 0
        shown = individual and (estimate.estimate < 0) == rises
        if estimate.num_pairs < 2:
            complete = f"{estimate.num_pairs} of {self.num_seeds} {self.evidence.replicates[1]}"
            effect = text = f"cannot be estimated: {complete} have a value in all {len(order)} arms"
        else:
            effect = f"fitted change from {order[0]} to {order[-1]} {self._format_change(estimate, shown)}"
            text = f"the {self._level(shown)} interval of the fitted change {_relation_to_zero(estimate, shown)}"
        obstacle = self._find_trend_obstacle(order, "over" if rises else "arm") if holds else ""
        return Statement(subject=f"{order[0]} to {order[-1]}", effect=effect, text=text, holds=holds, obstacle=obstacle)

    def _find_trend_obstacle(self, order: Sequence[str], favored: FavoredSide) -> str:
        """Like a difference, a trend says nothing in favor of an arm that lost more seeds than one it is favored over.

        The fitted change weighs the first half of the order against the last; an arm in the middle has no weight.
        """
        half = len(order) // 2
        obstacles = []
        for over in order[:half]:
            for arm in order[len(order) - half :]:
                obstacles.append(self._find_obstacle((over, arm), favored, margin=False))
        return next(filter(None, obstacles), "")

    def describe_interaction(self, first: ArmPair, second: ArmPair) -> str:
        """Format the gain of the second pair minus that of the first, with its own interval."""
        first_row, second_row = pairwise_coefficients(self.arms, (first, second))
        (estimate,) = estimate_combinations(
            self.falling_values,
            [second_row - first_row],
            alpha=self.alpha,
            resolution=self.evidence.resolution,
        )
        if estimate.num_pairs < 2:
            return f"cannot be estimated: {estimate.num_pairs} of {self.num_seeds} seeds are complete in all four arms"
        # A difference of two differences may be twice as large as one.
        gain = estimate.clip(2 * self.evidence.largest_difference)
        # Printed as a gain: positive where the second pair improves by more, whichever way the endpoint improves.
        return self._format_change(gain if self.evidence.higher_is_better else gain.reverse(), individual=True)

    def notes(self, pairs: Iterable[ArmPair]) -> tuple[str, ...]:
        """Return notes on missing pairs, noisy arms, and intervals without width or cut at what is possible."""
        return tuple(dict.fromkeys(note for pair in pairs for note in self._pair_notes(pair)))

    def _pair_notes(self, pair: ArmPair) -> Iterable[str]:
        contrast, (over, arm) = self.estimates.pair(*pair), pair
        if contrast.num_pairs < self.num_seeds:
            # The mean over complete pairs is a mean over the seeds under which both arms converged.
            condition = "conditional on convergence, " if self.num_lost[over] + self.num_lost[arm] else ""
            yield f"{arm} over {over}: {condition}{contrast.num_pairs} of {self.num_seeds} pairs"
        if contrast.is_noisy:
            yield f"{arm} over {over}: one of the two is noisier than the other arms, and the interval allows for it"
        if contrast.num_pairs >= 2 and contrast.standard_error == 0:
            replicate = self.evidence.replicates[0]
            yield f"{arm} over {over}: every {replicate} gave the same difference, so that the interval has no width"
        limit = self.evidence.largest_difference
        if contrast.num_pairs >= 2 and limit in (-contrast.low, contrast.high):
            yield f"{arm} over {over}: the interval is cut at ±{limit:g} {self.evidence.unit}, the largest possible"

    def _missing_pairs_reason(self, pair: ArmPair) -> str:
        pairs = self.estimates.pair(*pair).num_pairs
        return "" if pairs >= 2 else f"cannot be estimated: {pairs} of {self.num_seeds} pairs are complete"

    def _describe_effect(self, pair: ArmPair, individual: bool) -> str:
        return f"change from {pair[0]} to {pair[1]} {self._format_change(self.estimates.pair(*pair), individual)}"

    def _describe_bounded_effect(self, pair: ArmPair, low: float, high: float, individual: bool) -> str:
        contrast = self.estimates.pair(*pair)
        bounds = _select_bounds(contrast, individual)
        limits, margins = (bounds.low_one_sided, bounds.high_one_sided), (low, high)
        if not self.evidence.higher_is_better:  # an improvement is a fall
            limits, margins = (-limits[1], -limits[0]), (-high, -low)
        printed = " to ".join(self._format_bound(limit, margins) for limit in limits)
        change = self._format_mean_change(contrast, individual)
        return f"change from {pair[0]} to {pair[1]} {change} (one-sided {self._level(individual)} bounds {printed})"

    def _describe_direction(self, pair: ArmPair, individual: bool) -> str:
        contrast = self.estimates.pair(*pair)
        limits = f"{self._format_limits(contrast, individual)} {self.evidence.unit}".strip()
        relation = _relation_to_zero(contrast, individual)
        return f"the {self._level(individual)} interval of the change, {limits}, {relation}"

    def _format_change(self, estimate: Estimate, individual: bool) -> str:
        """Format as ``+1.9 points (simultaneous 95% interval −0.8 to 4.6)``: positive where the endpoint rises."""
        limits = self._format_limits(estimate, individual)
        return f"{self._format_mean_change(estimate, individual)} ({self._level(individual)} interval {limits})"

    def _format_mean_change(self, estimate: Estimate, individual: bool) -> str:
        mean = estimate.estimate if self.evidence.higher_is_better else -estimate.estimate
        change = format_fixed(mean, self._num_decimals(estimate, individual), sign=True)
        return f"{change} {self.evidence.unit}".strip()

    def _format_limits(self, estimate: Estimate, individual: bool) -> str:
        bounds, decimals = _select_bounds(estimate, individual), self._num_decimals(estimate, individual)
        limits = (bounds.low, bounds.high) if self.evidence.higher_is_better else (-bounds.high, -bounds.low)
        return f"{format_fixed(limits[0], decimals)} to {format_fixed(limits[1], decimals)}"

    def _num_decimals(self, estimate: Estimate, individual: bool) -> int:
        """Choose decimals by the width of the interval, enough to show on which side of 0 its limits are."""
        bounds = _select_bounds(estimate, individual)
        minimum = 1 if self.evidence.unit == "points" else 0
        decimals = choose_decimals([(bounds.high - bounds.low) / 2], minimum=minimum, maximum=SCIENTIFIC)
        return decimals_off_zero((bounds.low, bounds.high), decimals)


def _select_bounds(estimate: Estimate, individual: bool) -> ImprovementBounds:
    if individual:
        return ImprovementBounds(
            low=estimate.low_individual,
            high=estimate.high_individual,
            low_one_sided=estimate.low_individual_one_sided,
            high_one_sided=estimate.high_individual_one_sided,
        )
    return ImprovementBounds(
        low=estimate.low,
        high=estimate.high,
        low_one_sided=estimate.low_one_sided,
        high_one_sided=estimate.high_one_sided,
    )


def _relation_to_zero(estimate: Estimate, individual: bool) -> str:
    bounds = _select_bounds(estimate, individual)
    return "excludes 0" if bounds.low > 0 or bounds.high < 0 else "includes 0"
