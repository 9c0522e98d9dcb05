"""Statements that one endpoint's numbers allow about pairs of arms.

Measured endpoints are read from simultaneous, paired intervals, and printed as changes of the endpoint from one arm to
the other; how seeds are counted for trainability is in :mod:`reports.statistics.proportions`.

Source: Dunnett 1955; Schuirmann 1987 (margins by one-sided bounds).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from reports.formatting import MAX_DECIMALS, SCIENTIFIC, choose_decimals, format_fixed, format_significant
from reports.statistics.contrasts import Contrast
from reports.statistics.critical_values import Array
from reports.statistics.families import ArmPair, ContrastFamily, FamilyEstimates

FavoredSide = Literal["over", "arm", "neither"]
ALPHA = 0.05  # familywise error rate of one endpoint


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """One endpoint's numbers, from which its statements are derived.

    Attributes:
        values: arms x seeds (of latency, arms x processes), in ``unit``; NaN where a trial did not finish. Memory, time
            and gradient norm are compared by differences in their unit; for ratios, pass logarithms. For trainability
            any number will do: a cell that is finite or lost to divergence was run.
        lost_to_divergence: arms x seeds; true where the trial diverged and has no value of the endpoint. A diverged
            trial whose value is known (a gradient, say) is not lost.
        smallest_effect: ε, in ``unit``; a share between 0 and 1 for trainability.
        unit: as printed: ``points``, ``s``, ``MiB``.
        resolution: smallest step between two values; 0 where it is not known, or there is none.
        higher_is_better: whether a rise of the values is an improvement.
        largest_difference: largest possible difference of two arms, at which intervals are cut; infinite without one.
        replicates: what a column is, and several of them.
        missing_measurement: what to do where nothing was measured at all.
        blocking_reason: why nothing may be stated whatever the numbers are; empty for no such reason.
    """

    values: Array
    lost_to_divergence: npt.NDArray[np.bool_]
    smallest_effect: float
    unit: str
    resolution: float = 0.0
    higher_is_better: bool = False
    largest_difference: float = math.inf
    replicates: tuple[str, str] = ("seed", "seeds")
    missing_measurement: str = ""
    blocking_reason: str = ""

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
        printed = [self._format_bound(bound, (low, high)) for bound in (bounds.low, bounds.high)]
        limits = f"{' to '.join(printed)} {self.evidence.unit}".strip()
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
        statement = self._make_statement(pair, text, holds, favors, individual=individual, margin=True)
        if holds and not (low < bounds.low and bounds.high < high):
            # The two-sided interval, which is wider, reaches beyond a margin: printed alone it would seem to refute.
            return replace(statement, effect=self._describe_bounded_effect(pair, low, high, individual))
        return statement

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
        if self.evidence.blocking_reason:
            return self.evidence.blocking_reason
        if self.num_seeds >= 2:
            return ""
        if self.evidence.missing_measurement:
            return self.evidence.missing_measurement
        seeds = f"{'one' if self.num_seeds else 'no'} {self.evidence.replicates[0]}"
        return f"{seeds}: it takes two to see how much a method varies"

    def format_margin(self, value: float) -> str:
        """Format a margin with its unit."""
        text = _format_margin(value)
        unit = "point" if text == "1" and self.evidence.unit == "points" else self.evidence.unit
        return f"{text} {unit}".strip()

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

    def _describe_bounded_effect(self, pair: ArmPair, low: float, high: float, individual: bool) -> str:
        """Describe the effect with the one-sided bounds that show it to lie within margins of the improvement."""
        del low, high
        return self._describe_effect(pair, individual)

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
            return f"two {self.evidence.replicates[1]}: they can show a direction, no margin"
        return ""

    def _describe_margins(
        self, bounds: ImprovementBounds, low: float, high: float, holds: bool, individual: bool
    ) -> str:
        level = f"one-sided {self._level(individual)}"
        if math.isinf(low):
            return self._describe_bound(bounds.high_one_sided, high, ("better", "worse"), level, holds)
        if math.isinf(high):
            return self._describe_bound(-bounds.low_one_sided, -low, ("worse", "better"), level, holds)
        printed = [self._format_bound(bound, (low, high)) for bound in (bounds.low_one_sided, bounds.high_one_sided)]
        limits = f"{' to '.join(printed)} {self.evidence.unit}".strip()
        if low == -high:
            within = f"within ±{self.format_margin(high)}"
        else:
            within = f"within {_format_margin(low)} to {self.format_margin(high)}"
        verb = "lie" if holds else "do not lie"
        return f"the {level} bounds of the improvement, {limits}, {verb} {within}"

    def _describe_bound(self, bound: float, margin: float, words: tuple[str, str], level: str, holds: bool) -> str:
        """Describe an upper bound beside its margin: ``worse by at most 0.4 points (…), not below 0.3 points``.

        One that is below 0 is on the other side: ``better by at least 0.1 points (…)``.
        """
        word, opposite = words
        if bound < 0:
            amount = f"{self._format_bound(-bound, (-margin,))} {self.evidence.unit}".strip()
            return f"{opposite} by at least {amount} ({level} bound)"
        amount = f"{self._format_bound(bound, (margin,))} {self.evidence.unit}".strip()
        relation = "below" if holds else "not below"
        return f"{word} by at most {amount} ({level} bound), {relation} {self.format_margin(margin)}"

    def _format_bound(self, value: float, margins: Sequence[float]) -> str:
        """Format a bound by its own size, with enough decimals to show on which side of each margin it lies."""
        minimum = 2 if self.evidence.unit == "points" else 0
        decimals = choose_decimals([abs(value)], minimum=minimum, maximum=SCIENTIFIC)
        while decimals < MAX_DECIMALS and any(_looks_beyond(value, margin, decimals) for margin in margins):
            decimals += 1
        return format_fixed(value, decimals)


def _looks_beyond(value: float, margin: float, num_decimals: int) -> bool:
    """Whether a rounded value is on another side of a margin than the value itself, or on the margin."""
    if not math.isfinite(margin) or math.isclose(value, margin, rel_tol=1e-9):  # equal but for rounding errors
        return False
    rounded = round(value, num_decimals)
    return rounded == margin or (rounded < margin) != (value < margin)


def _format_margin(value: float) -> str:
    text = format_significant(value)
    return text.rstrip("0").rstrip(".") if "." in text else text
