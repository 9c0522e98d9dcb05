"""Statements that one endpoint's numbers allow about pairs of arms.

Measured endpoints are read from simultaneous, paired intervals, and printed as changes of the endpoint from one arm to
the other; how seeds are counted for trainability is in :mod:`reports.statistics.proportions`.

Source: Dunnett 1955; Schuirmann 1987 (margins by one-sided bounds).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from reports.formatting import MINUS, choose_decimals, format_fixed, format_significant
from reports.statistics.contrasts import Contrast, Estimate, estimate_combinations, pairwise_coefficients
from reports.statistics.critical_values import Array
from reports.statistics.families import ArmPair, ContrastFamily, FamilyEstimates

FavoredSide = Literal["over", "arm", "neither"]
ALPHA = 0.05  # familywise error rate of one endpoint
MAX_DECIMALS = 6


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """One endpoint's numbers, from which its statements are derived.

    Attributes:
        values: arms x seeds, in ``unit``; NaN where a trial did not finish. Memory, time and gradient norm are compared
            by differences in their unit; for ratios, pass logarithms. For trainability any number will do: a cell that
            is finite or lost to divergence was run.
        lost_to_divergence: arms x seeds; true where the trial diverged and has no value of the endpoint. A diverged
            trial whose value is known (a gradient, say) is not lost.
        smallest_effect: ε, in ``unit``; a share between 0 and 1 for trainability.
        unit: as printed: ``points``, ``s``, ``MiB``.
        resolution: smallest step between two values; 0 where it is not known, or there is none.
    """

    values: Array
    lost_to_divergence: npt.NDArray[np.bool_]
    smallest_effect: float
    unit: str
    resolution: float = 0.0

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape != self.lost_to_divergence.shape:
            raise ValueError(
                f"values have shape {self.values.shape} and lost_to_divergence {self.lost_to_divergence.shape}; "
                "expected both to be arms x seeds."
            )

    @property
    def largest_difference(self) -> float:
        """Largest possible difference of two arms: 100 points of error, infinite for other units."""
        return 100.0 if self.unit == "points" else math.inf


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A statement about a pair of arms, and whether it may be made.

    Attributes:
        subject: the pair, as printed.
        effect: the observed effect with the interval that decides.
        text: what the bounds show.
        holds: whether they show it.
        obstacle: why it may not be made although they do; else empty.
    """

    subject: str
    effect: str
    text: str
    holds: bool
    obstacle: str = ""


@dataclass(frozen=True, kw_only=True)
class ImprovementBounds:
    """Bounds of an improvement: two-sided interval for direction, one-sided bounds for margins."""

    low: float
    high: float
    low_one_sided: float
    high_one_sided: float


class EndpointAnalysis(ABC):
    """Statements about one endpoint at the familywise level ``alpha``.

    ``individual`` reads a pair at its own level, without correction for the family: for conjuncts (Berger 1982).
    """

    def __init__(
        self, evidence: Evidence, arms: Sequence[str], family: ContrastFamily, *, alpha: float = ALPHA
    ) -> None:
        self.evidence = evidence
        self.arms = tuple(arms)
        self.family = family
        self.alpha = alpha
        self.num_seeds = evidence.values.shape[1]
        self.num_lost = dict.fromkeys(self.arms, 0)
        self.estimates: FamilyEstimates | None = None

    def superiority(self, pair: ArmPair, *, individual: bool = False) -> Statement:
        """State that ``arm`` improves on ``over``."""
        holds = self.bounds(pair, individual).low > 0
        # Where the arm looks worse, only the contradiction is near, and that is read from the simultaneous interval.
        shown = individual and self.observed_improvement(pair) >= 0
        text = self._describe_direction(pair, shown)
        return self._make_statement(pair, text, holds, "arm", individual=shown, margin=False)

    def inferiority(self, pair: ArmPair, *, individual: bool = False) -> Statement:
        """State that ``arm`` is worse than ``over``."""
        holds = self.bounds(pair, individual).high < 0
        shown = individual and self.observed_improvement(pair) <= 0
        text = self._describe_direction(pair, shown)
        return self._make_statement(pair, text, holds, "over", individual=shown, margin=False)

    def beyond_margin(self, pair: ArmPair, *, low: float = -math.inf, high: float = math.inf) -> Statement:
        """State that the improvement lies above ``low`` and below ``high``, by the two-sided interval."""
        bounds = self.bounds(pair, False)
        holds = bounds.low > low and bounds.high < high
        edge = f"above {self.format_margin(low)}" if math.isfinite(low) else f"below {self.format_margin(high)}"
        limits = f"{self._format_bound(bounds.low)} to {self._format_bound(bounds.high)} {self.evidence.unit}"
        verb = "lies" if holds else "does not lie"
        text = f"the {self._level(individual=False)} interval of the improvement, {limits}, {verb} {edge}"
        favors: FavoredSide = "arm" if math.isfinite(low) else "over"
        return self._make_statement(pair, text, holds, favors, individual=False, margin=True)

    def within_margins(
        self, pair: ArmPair, low: float, high: float, favors: FavoredSide, *, individual: bool = False
    ) -> Statement:
        """State that the improvement lies above ``low`` and below ``high``, by the one-sided bounds."""
        bounds = self.bounds(pair, individual)
        holds = bounds.low_one_sided > low and bounds.high_one_sided < high
        text = self._describe_margins(bounds, low, high, holds, individual)
        return self._make_statement(pair, text, holds, favors, individual=individual, margin=True)

    def equivalence(self, pair: ArmPair, *, individual: bool = False) -> Statement:
        """State that the improvement lies within ±ε: two one-sided tests (Schuirmann 1987)."""
        smallest = self.evidence.smallest_effect
        return self.within_margins(pair, -smallest, smallest, "neither", individual=individual)

    def non_superiority(self, pair: ArmPair, *, individual: bool = False) -> Statement:
        """State that the improvement is smaller than ε."""
        return self.within_margins(pair, -math.inf, self.evidence.smallest_effect, "over", individual=individual)

    def non_inferiority(self, pair: ArmPair, *, individual: bool = False) -> Statement:
        """State that the worsening is smaller than ε."""
        return self.within_margins(pair, -self.evidence.smallest_effect, math.inf, "arm", individual=individual)

    def decreasing_pair(self, pair: ArmPair) -> ArmPair:
        """Return the pair in the order in which an improvement is a fall of the endpoint."""
        return pair

    def blocking_reason(self) -> str:
        """Return why no statement at all may be made; empty where some may."""
        if self.num_seeds >= 2:
            return ""
        seeds = "one seed" if self.num_seeds else "no seed"
        return f"{seeds}: it takes two to see how much a method varies"

    def format_margin(self, value: float) -> str:
        """Format a margin with its unit."""
        return f"{_format_margin(value)} {self.evidence.unit}".strip()

    @property
    def confidence_level(self) -> str:
        """The confidence level as printed: ``95%``, or ``98.3%`` at one of three interim analyses."""
        return f"{100 * (1 - self.alpha):.3g}%"

    def _level(self, individual: bool) -> str:
        """``simultaneous 95%`` where the bounds are simultaneous, else ``95%``."""
        is_simultaneous = len(self.family) > 1 and not individual
        return f"{'simultaneous ' if is_simultaneous else ''}{self.confidence_level}"

    @abstractmethod
    def bounds(self, pair: ArmPair, individual: bool) -> ImprovementBounds:
        """Return bounds of the improvement of ``arm`` on ``over``."""

    @abstractmethod
    def observed_improvement(self, pair: ArmPair) -> float:
        """Return the observed improvement of ``arm`` on ``over``."""

    @abstractmethod
    def trend(self, order: Sequence[str], *, rises: bool, individual: bool = False) -> Statement:
        """State that the endpoint falls, or rises, along the order as a whole."""

    @abstractmethod
    def notes(self, pairs: Iterable[ArmPair]) -> tuple[str, ...]:
        """Return notes that a reader of the numbers of these pairs needs."""

    def displayed_contrasts(self, pairs: Iterable[ArmPair]) -> tuple[Contrast, ...]:
        """Return the contrasts to print, each once; none where seeds are counted."""
        if self.estimates is None:
            return ()
        return tuple(self.estimates.pair(*pair) for pair in dict.fromkeys(pairs))

    @abstractmethod
    def _missing_pairs_reason(self, pair: ArmPair) -> str: ...

    @abstractmethod
    def _describe_effect(self, pair: ArmPair, individual: bool) -> str: ...

    @abstractmethod
    def _describe_direction(self, pair: ArmPair, individual: bool) -> str: ...

    def _make_statement(
        self, pair: ArmPair, text: str, holds: bool, favors: FavoredSide, *, individual: bool, margin: bool
    ) -> Statement:
        obstacle = self._find_obstacle(pair, favors, margin=margin) if holds else ""
        missing = self._missing_pairs_reason(pair)
        return Statement(
            subject=f"{pair[1]} over {pair[0]}",
            effect=missing or self._describe_effect(pair, individual),
            text=missing or text,
            holds=holds,
            obstacle=obstacle,
        )

    def _find_obstacle(self, pair: ArmPair, favors: FavoredSide, *, margin: bool) -> str:
        """Return why a statement in favor of one of the two, or of neither, may not be made."""
        other, favored = pair if favors == "arm" else pair[::-1]
        is_unequal = self.num_lost[favored] != self.num_lost[other]
        # The seeds that an arm lost to divergence are likely its worst: the rest flatters it.
        if self.num_lost[favored] > self.num_lost[other] or (is_unequal and favors == "neither"):
            counts = " and ".join(f"{self.num_lost[arm]} of {self.num_seeds} of {arm}" for arm in pair)
            return f"{counts} did not train: the rest cannot speak for all"
        # From two pairs the standard deviation is uncertain by a factor of 0.45 to 32 (95%, χ² with 1 df).
        if margin and self.estimates is not None and self.estimates.pair(*pair).num_pairs == 2:
            return "two seeds: they can show a direction, no margin"
        return ""

    def _describe_margins(
        self, bounds: ImprovementBounds, low: float, high: float, holds: bool, individual: bool
    ) -> str:
        level = f"one-sided {self._level(individual)}"
        if math.isinf(low):
            side = self._describe_bound(bounds.high_one_sided, "better", "worse")
            return f"{side} ({level} bound), {'below' if holds else 'not below'} {self.format_margin(high)}"
        if math.isinf(high):
            side = self._describe_bound(-bounds.low_one_sided, "worse", "better")
            return f"{side} ({level} bound), {'below' if holds else 'not below'} {self.format_margin(-low)}"
        lower, upper = self._format_bound(bounds.low_one_sided), self._format_bound(bounds.high_one_sided)
        if low == -high:
            within = f"within ±{self.format_margin(high)}"
        else:
            within = f"within {_format_margin(low)} to {self.format_margin(high)}"
        verb = "lie" if holds else "do not lie"
        return f"the {level} bounds of the improvement, {lower} to {upper} {self.evidence.unit}, {verb} {within}"

    def _describe_bound(self, bound: float, word: str, opposite: str) -> str:
        """Describe an upper bound: ``worse by at most 0.4 points``, or that it is better by at least that."""
        amount = f"{self._format_bound(abs(bound))} {self.evidence.unit}".strip()
        return f"{word} by at most {amount}" if bound >= 0 else f"{opposite} by at least {amount}"

    def _format_bound(self, value: float) -> str:
        """Format a bound by its own size."""
        minimum = 2 if self.evidence.unit == "points" else 0
        return format_fixed(value, choose_decimals([abs(value)], minimum=minimum))


class ContinuousEndpointAnalysis(EndpointAnalysis):
    """Analysis of an endpoint with one number per trial: contrasts paired by seed, one family of intervals."""

    def __init__(
        self, evidence: Evidence, arms: Sequence[str], family: ContrastFamily, *, alpha: float = ALPHA
    ) -> None:
        super().__init__(evidence, arms, family, alpha=alpha)
        self.estimates: FamilyEstimates = FamilyEstimates(
            evidence.values,
            self.arms,
            self.family,
            alpha=alpha,
            resolution=evidence.resolution,
            limit=evidence.largest_difference,
        )
        self.num_lost = dict(zip(self.arms, np.sum(evidence.lost_to_divergence, axis=1).tolist(), strict=True))

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
            text = f"cannot be estimated: {estimate.num_pairs} of {self.num_seeds} seeds are complete along the order"
            effect = text
        else:
            effect = f"fitted change from {order[0]} to {order[-1]} {self._format_change(estimate, shown)}"
            text = f"the {self._level(shown)} interval of the fitted change {_relation_to_zero(estimate, shown)}"
        # Like a difference, a trend says nothing in favor of the arm that lost more seeds.
        favored: FavoredSide = "over" if rises else "arm"
        obstacle = self._find_obstacle((order[0], order[-1]), favored, margin=False) if holds else ""
        return Statement(subject=f"{order[0]} to {order[-1]}", effect=effect, text=text, holds=holds, obstacle=obstacle)

    def describe_interaction(self, first: ArmPair, second: ArmPair) -> str:
        """Format the gain of the second pair minus that of the first, with its own interval."""
        first_row, second_row = pairwise_coefficients(self.arms, (first, second))
        (estimate,) = estimate_combinations(
            self.evidence.values,
            [second_row - first_row],
            alpha=self.alpha,
            resolution=self.evidence.resolution,
        )
        if estimate.num_pairs < 2:
            return f"cannot be estimated: {estimate.num_pairs} of {self.num_seeds} seeds are complete in all four arms"
        # A difference of two differences may be twice as large as one.
        gain = estimate.clip(2 * self.evidence.largest_difference).reverse()
        return self._format_change(gain, individual=True)

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
            yield f"{arm} over {over}: every seed gave the same difference, so that the interval has no width"
        limit = self.evidence.largest_difference
        if contrast.num_pairs >= 2 and limit in (-contrast.low, contrast.high):
            yield f"{arm} over {over}: the interval is cut at ±{limit:g} {self.evidence.unit}, the largest possible"

    def _missing_pairs_reason(self, pair: ArmPair) -> str:
        pairs = self.estimates.pair(*pair).num_pairs
        return "" if pairs >= 2 else f"cannot be estimated: {pairs} of {self.num_seeds} pairs are complete"

    def _describe_effect(self, pair: ArmPair, individual: bool) -> str:
        return f"change from {pair[0]} to {pair[1]} {self._format_change(self.estimates.pair(*pair), individual)}"

    def _describe_direction(self, pair: ArmPair, individual: bool) -> str:
        contrast = self.estimates.pair(*pair)
        limits = f"{self._format_limits(contrast, individual)} {self.evidence.unit}".strip()
        relation = _relation_to_zero(contrast, individual)
        return f"the {self._level(individual)} interval of the change, {limits}, {relation}"

    def _format_change(self, estimate: Estimate, individual: bool) -> str:
        """Format as ``+1.9 points (simultaneous 95% interval −0.8 to 4.6)``: positive where the endpoint rises."""
        change = format_fixed(-estimate.estimate, self._num_decimals(estimate, individual), sign=True)
        limits = self._format_limits(estimate, individual)
        return f"{f'{change} {self.evidence.unit}'.strip()} ({self._level(individual)} interval {limits})"

    def _format_limits(self, estimate: Estimate, individual: bool) -> str:
        bounds, decimals = _select_bounds(estimate, individual), self._num_decimals(estimate, individual)
        return f"{format_fixed(-bounds.high, decimals)} to {format_fixed(-bounds.low, decimals)}"

    def _num_decimals(self, estimate: Estimate, individual: bool) -> int:
        """Choose decimals by the width of the interval, enough to show on which side of 0 its limits are."""
        bounds = _select_bounds(estimate, individual)
        decimals = choose_decimals([(bounds.high - bounds.low) / 2], minimum=1 if self.evidence.unit == "points" else 0)
        for limit in (bounds.low, bounds.high):
            while limit and decimals < MAX_DECIMALS and format_fixed(limit, decimals).strip(f"0.,{MINUS}") == "":
                decimals += 1
        return decimals


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


def _format_margin(value: float) -> str:
    text = format_significant(value)
    return text.rstrip("0").rstrip(".") if "." in text else text
