"""Statements that one endpoint's numbers allow about pairs of arms.

Measured endpoints are read from simultaneous, paired intervals (Dunnett, max-t); trainability is a count of seeds, read
from Fisher's exact test (direction) and Clopper-Pearson intervals (margins) with Bonferroni over the family.

Source: Dunnett 1955; Schuirmann 1987 (margins by one-sided bounds); Fisher 1935; Clopper & Pearson 1934.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ablations import Endpoint
from reports.statistics.contrasts import (
    Contrast,
    Estimate,
    estimate_combinations,
    estimate_contrasts,
    pairwise_coefficients,
)
from reports.statistics.critical_values import Array
from reports.statistics.proportions import Proportion, difference_interval, estimate_proportion, fisher_p_value

ArmPair = tuple[str, str]  # (over, arm)
FavoredSide = Literal["over", "arm", "neither"]
ALPHA = 0.05  # familywise error rate of one endpoint


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
    """

    values: Array
    lost_to_divergence: npt.NDArray[np.bool_]
    smallest_effect: float
    unit: str

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape != self.lost_to_divergence.shape:
            raise ValueError(
                f"values have shape {self.values.shape} and lost_to_divergence {self.lost_to_divergence.shape}; "
                "expected both to be arms x seeds."
            )


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A statement about a pair of arms, and whether it may be made.

    Attributes:
        subject: the pair, as printed.
        text: the numbers that decide.
        holds: whether they show it.
        obstacle: why it may not be made although they do; else empty.
    """

    subject: str
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
        self, evidence: Evidence, arms: Sequence[str], family: Sequence[ArmPair], *, alpha: float = ALPHA
    ) -> None:
        self.evidence = evidence
        self.arms = tuple(arms)
        self.family = tuple(dict.fromkeys(family))
        self.alpha = alpha
        self.num_seeds = evidence.values.shape[1]
        self.contrasts_by_pair: dict[ArmPair, Contrast] = {}
        self.num_lost = dict.fromkeys(self.arms, 0)

    def superiority(self, pair: ArmPair, *, individual: bool = False) -> Statement:
        """State that ``arm`` improves on ``over``."""
        holds = self.bounds(pair, individual).low > 0
        return self._make_statement(pair, self._describe_direction(pair, individual), holds, "arm", margin=False)

    def inferiority(self, pair: ArmPair, *, individual: bool = False) -> Statement:
        """State that ``arm`` is worse than ``over``."""
        holds = self.bounds(pair, individual).high < 0
        return self._make_statement(pair, self._describe_direction(pair, individual), holds, "over", margin=False)

    def beyond_margin(self, pair: ArmPair, *, low: float = -math.inf, high: float = math.inf) -> Statement:
        """State that the improvement lies above ``low`` and below ``high``, by the two-sided interval."""
        bounds = self.bounds(pair, False)
        holds = bounds.low > low and bounds.high < high
        edge = f"above {self.format_number(low)}" if math.isfinite(low) else f"below {self.format_number(high)}"
        verb = "lies" if holds else "does not lie"
        text = f"{self._interval_text(bounds, individual=False)} {verb} {edge}"
        return self._make_statement(pair, text, holds, "arm" if math.isfinite(low) else "over", margin=True)

    def within_margins(
        self, pair: ArmPair, low: float, high: float, favors: FavoredSide, *, individual: bool = False
    ) -> Statement:
        """State that the improvement lies above ``low`` and below ``high``, by the one-sided bounds."""
        bounds = self.bounds(pair, individual)
        holds = bounds.low_one_sided > low and bounds.high_one_sided < high
        level = f"{self.confidence_level}{self.simultaneity_adjective(individual)}"
        text = f"the one-sided {level} {self._describe_margins(bounds, low, high, holds)}"
        return self._make_statement(pair, text, holds, favors, margin=True)

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

    def format_number(self, value: float) -> str:
        """Format a number: hundredths of a point, three digits of anything else."""
        return f"{value:.2f}" if self.evidence.unit == "points" else f"{value:.3g}"

    def format_with_unit(self, value: float) -> str:
        """Format a number with its unit."""
        return f"{self.format_number(value)} {self.evidence.unit}"

    @property
    def confidence_level(self) -> str:
        """The confidence level as printed: ``95%``, or ``98.3%`` at one of three interim analyses."""
        return f"{100 * (1 - self.alpha):.3g}%"

    def format_interval(self, bounds: ImprovementBounds) -> str:
        """Format the two-sided interval with its unit."""
        return f"[{self.format_number(bounds.low)}, {self.format_number(bounds.high)}] {self.evidence.unit}"

    def simultaneity_adjective(self, individual: bool) -> str:
        """Return `` simultaneous`` where the bounds are, else an empty text."""
        return " simultaneous" if len(self.family) > 1 and not individual else ""

    @abstractmethod
    def bounds(self, pair: ArmPair, individual: bool) -> ImprovementBounds:
        """Return bounds of the improvement of ``arm`` on ``over``."""

    @abstractmethod
    def decreasing_trend(self, order: Sequence[str], *, individual: bool) -> Statement:
        """State that the endpoint falls along the order as a whole."""

    @abstractmethod
    def notes(self, pairs: Iterable[ArmPair]) -> tuple[str, ...]:
        """Return notes that a reader of the numbers of these pairs needs."""

    def displayed_contrasts(self, pairs: Iterable[ArmPair]) -> tuple[Contrast, ...]:
        """Return the contrasts to print; none where seeds are counted."""
        distinct_pairs = dict.fromkeys(pairs)
        return tuple(self.contrasts_by_pair[pair] for pair in distinct_pairs if pair in self.contrasts_by_pair)

    @abstractmethod
    def _missing_pairs_reason(self, pair: ArmPair) -> str: ...

    @abstractmethod
    def _describe_direction(self, pair: ArmPair, individual: bool) -> str: ...

    def _interval_text(self, bounds: ImprovementBounds, individual: bool) -> str:
        level = f"{self.confidence_level}{self.simultaneity_adjective(individual)}"
        return f"the {level} interval {self.format_interval(bounds)}"

    def _make_statement(self, pair: ArmPair, text: str, holds: bool, favors: FavoredSide, *, margin: bool) -> Statement:
        obstacle = self._find_obstacle(pair, favors, margin=margin) if holds else ""
        return Statement(
            subject=f"{pair[1]} over {pair[0]}",
            text=self._missing_pairs_reason(pair) or text,
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
            return f"{counts} diverged: the rest cannot speak for all"
        # From two pairs the standard deviation is uncertain by a factor of 0.45 to 32 (95%, χ² with 1 df).
        if margin and pair in self.contrasts_by_pair and self.contrasts_by_pair[pair].num_pairs == 2:
            return "two seeds: they can show a direction, no margin"
        return ""

    def _describe_margins(self, bounds: ImprovementBounds, low: float, high: float, holds: bool) -> str:
        unit = self.evidence.unit
        lower_bound, upper_bound = self.format_number(bounds.low_one_sided), self.format_number(bounds.high_one_sided)
        lower_margin, upper_margin = self.format_number(low), self.format_number(high)
        if math.isinf(low):
            return f"upper bound {upper_bound} {unit} {'is' if holds else 'is not'} below {upper_margin}"
        if math.isinf(high):
            return f"lower bound {lower_bound} {unit} {'is' if holds else 'is not'} above {lower_margin}"
        # A claim of an exact improvement, without tolerance, has margins without width: no interval lies within.
        within = f"within ({lower_margin}, {upper_margin})" if low < high else f"exactly at {upper_margin}"
        return f"bounds ({lower_bound}, {upper_bound}) {unit} {'lie' if holds else 'do not lie'} {within}"


class ContinuousEndpointAnalysis(EndpointAnalysis):
    """Analysis of an endpoint with one number per trial: contrasts paired by seed, one family of intervals."""

    def __init__(
        self, evidence: Evidence, arms: Sequence[str], family: Sequence[ArmPair], *, alpha: float = ALPHA
    ) -> None:
        super().__init__(evidence, arms, family, alpha=alpha)
        contrasts = estimate_contrasts(evidence.values, self.arms, self.family, alpha=alpha)
        self.contrasts_by_pair = dict(zip(self.family, contrasts, strict=True))
        self.num_lost = dict(zip(self.arms, np.sum(evidence.lost_to_divergence, axis=1).tolist(), strict=True))

    def bounds(self, pair: ArmPair, individual: bool) -> ImprovementBounds:
        """Return the bounds of the contrast."""
        return _select_bounds(self.contrasts_by_pair[pair], individual)

    def decreasing_trend(self, order: Sequence[str], *, individual: bool) -> Statement:
        """State the fall by the linear contrast of equally spaced arms.

        It is scaled to the fall of the fitted line from the first arm to the last, and joins the family.
        """
        weights = (len(order) - 1) / 2 - np.arange(len(order))
        linear = np.zeros((1, len(self.arms)))
        # Slope of the least-squares line times the number of steps.
        linear[0, [self.arms.index(arm) for arm in order]] = weights * (len(order) - 1) / (weights @ weights)
        rows = np.vstack([pairwise_coefficients(self.arms, self.family), linear])
        estimate = estimate_combinations(self.evidence.values, rows, alpha=self.alpha)[-1]
        bounds = _select_bounds(estimate, individual)
        if estimate.num_pairs < 2:
            text = f"{estimate.num_pairs} of {self.num_seeds} seeds are complete along the order: there is no interval"
        else:
            level = f"{self.confidence_level}{'' if individual else ' simultaneous'}"
            relation = "lies below 0: the fitted line rises" if bounds.high < 0 else _relation_to_zero(bounds)
            text = f"the {level} interval of the fitted fall {self.format_interval(bounds)} {relation}"
        obstacle = self._find_obstacle((order[0], order[-1]), "arm", margin=False)
        return Statement(subject=f"{order[0]} to {order[-1]}", text=text, holds=bounds.low > 0, obstacle=obstacle)

    def describe_interaction(self, first: ArmPair, second: ArmPair) -> str:
        """Format the gain of the second pair minus that of the first, with its own interval."""
        first_row, second_row = pairwise_coefficients(self.arms, (first, second))
        (estimate,) = estimate_combinations(self.evidence.values, [second_row - first_row], alpha=self.alpha)
        interval = self.format_interval(_select_bounds(estimate, individual=True))
        return f"{self.format_number(estimate.estimate)} {interval}"

    def notes(self, pairs: Iterable[ArmPair]) -> tuple[str, ...]:
        """Return notes on missing pairs, noisy arms and intervals without width."""
        return tuple(dict.fromkeys(note for pair in pairs for note in self._pair_notes(pair)))

    def _pair_notes(self, pair: ArmPair) -> Iterable[str]:
        contrast, (over, arm) = self.contrasts_by_pair[pair], pair
        if contrast.num_pairs < self.num_seeds:
            # The mean over complete pairs is a mean over the seeds under which both arms converged.
            condition = "conditional on convergence, " if self.num_lost[over] + self.num_lost[arm] else ""
            yield f"{arm} over {over}: {condition}{contrast.num_pairs} of {self.num_seeds} pairs"
        if contrast.is_noisy:
            yield f"{arm} over {over}: one of the two is noisier than the other arms, and the interval allows for it"
        if contrast.num_pairs >= 2 and contrast.standard_error == 0:
            yield f"{arm} over {over}: every seed gave the same difference, so that the interval has no width"

    def _missing_pairs_reason(self, pair: ArmPair) -> str:
        pairs = self.contrasts_by_pair[pair].num_pairs
        return "" if pairs >= 2 else f"{pairs} of {self.num_seeds} pairs are complete: there is no interval"

    def _describe_direction(self, pair: ArmPair, individual: bool) -> str:
        bounds = self.bounds(pair, individual)
        return f"{self._interval_text(bounds, individual)} {_relation_to_zero(bounds)}"


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

    def decreasing_trend(self, order: Sequence[str], *, individual: bool) -> Statement:
        """State the fall by the first arm against the last."""
        return self.superiority(self.decreasing_pair((order[0], order[-1])), individual=individual)

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

    def _describe_direction(self, pair: ArmPair, individual: bool) -> str:
        over, arm = self._trained_proportion(pair[0]), self._trained_proportion(pair[1])
        counts = f"{arm.count} of {arm.total} seeds of {pair[1]} train, {over.count} of {over.total} of {pair[0]}"
        p_value, level = fisher_p_value(over, arm), self._significance_level(individual)
        return f"{counts} (Fisher's exact p = {p_value:.2g}, needed {level:.2g})"

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


def analyze_endpoint(
    endpoint: Endpoint, evidence: Evidence, arms: Sequence[str], family: Sequence[ArmPair], *, alpha: float = ALPHA
) -> EndpointAnalysis:
    """Analyze an endpoint: trainability as a count, any other as a measurement."""
    analysis_class = BinaryEndpointAnalysis if endpoint == "trainability" else ContinuousEndpointAnalysis
    return analysis_class(evidence, arms, family, alpha=alpha)


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


def _relation_to_zero(bounds: ImprovementBounds) -> str:
    return "excludes 0" if bounds.low > 0 or bounds.high < 0 else "includes 0"
