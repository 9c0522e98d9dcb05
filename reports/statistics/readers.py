"""What one endpoint's numbers allow to be said of a pair of arms: measured endpoints by intervals, counts exactly."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ablations import Endpoint
from reports.statistics.contrasts import Contrast, Estimate, contrasts, estimates, pair_rows
from reports.statistics.critical import Array
from reports.statistics.trainability import Share, fisher, gain_interval, share

Pair = tuple[str, str]  # (over, arm)
Favours = Literal["over", "arm", "neither"]

ALPHA = 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """One endpoint's numbers.

    Attributes:
        values: arms x seeds, in ``unit``; NaN where a trial did not finish. Memory, time and gradient norm are compared
            by differences in their unit; whoever means ratios gives logarithms. For trainability any number will do: a
            cell that is finite or ``untrained`` was run.
        untrained: arms x seeds; true where the trial diverged and so says nothing of the endpoint. A diverged trial
            whose value is known (a gradient, say) is not lost to it.
        smallest_effect: ε, in ``unit``; a share between 0 and 1 for trainability.
        unit: as printed: ``points``, ``s``, ``MB``.
        selected_on_test: the metric is a best-over-epochs value of the test split.
    """

    values: Array
    untrained: npt.NDArray[np.bool_]
    smallest_effect: float
    unit: str
    selected_on_test: bool = False

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape != self.untrained.shape:
            raise ValueError(
                f"values have shape {self.values.shape} and untrained {self.untrained.shape}; "
                "expected both to be arms x seeds."
            )


@dataclass(frozen=True, kw_only=True)
class Statement:
    """Something that could be said of a pair of arms.

    Attributes:
        about: the pair, as printed.
        text: the numbers that decide.
        holds: whether they show it.
        obstacle: why it may not be said although they do; else empty.
    """

    about: str
    text: str
    holds: bool
    obstacle: str = ""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Of an improvement: a two-sided interval for direction, two one-sided bounds for margins."""

    low: float
    high: float
    low_one_sided: float
    high_one_sided: float


class Reader(ABC):
    """Statements about one endpoint at the familywise level ``alpha``; ``own`` reads a pair as if it stood alone."""

    def __init__(
        self, evidence: Evidence, arms: Sequence[str], family: Sequence[Pair], *, alpha: float = ALPHA
    ) -> None:
        self.evidence, self.arms, self.family = evidence, tuple(arms), tuple(dict.fromkeys(family))
        self.alpha = alpha
        self.seeds = evidence.values.shape[1]
        self.found: dict[Pair, Contrast] = {}
        self.lost = dict.fromkeys(self.arms, 0)

    def better(self, pair: Pair, *, own: bool = False) -> Statement:
        """``arm`` improves on ``over``."""
        return self._direction(pair, own, self.bounds(pair, own).low > 0, "arm")

    def worse(self, pair: Pair, *, own: bool = False) -> Statement:
        """``arm`` is worse than ``over``."""
        return self._direction(pair, own, self.bounds(pair, own).high < 0, "over")

    def beyond(self, pair: Pair, *, low: float = -math.inf, high: float = math.inf) -> Statement:
        """The improvement lies above ``low`` and below ``high``, by the two-sided interval."""
        bounds = self.bounds(pair, False)
        holds = bounds.low > low and bounds.high < high
        edge = f"above {self.number(low)}" if math.isfinite(low) else f"below {self.number(high)}"
        verb = "lies" if holds else "does not lie"
        text = f"the {self.level}{self.together(False)} interval {self.span(bounds)} {verb} {edge}"
        return self._statement(pair, text, holds, "arm" if math.isfinite(low) else "over", margin=True)

    def between(self, pair: Pair, low: float, high: float, favours: Favours, *, own: bool = False) -> Statement:
        """The improvement lies above ``low`` and below ``high``, by the one-sided bounds."""
        bounds = self.bounds(pair, own)
        holds = bounds.low_one_sided > low and bounds.high_one_sided < high
        text = f"the one-sided {self.level}{self.together(own)} {self._within(bounds, low, high, holds)}"
        return self._statement(pair, text, holds, favours, margin=True)

    def equivalent(self, pair: Pair, *, own: bool = False) -> Statement:
        """The improvement lies within ±ε."""
        smallest = self.evidence.smallest_effect
        return self.between(pair, -smallest, smallest, "neither", own=own)

    def not_better(self, pair: Pair, *, own: bool = False) -> Statement:
        """The improvement is smaller than ε."""
        return self.between(pair, -math.inf, self.evidence.smallest_effect, "over", own=own)

    def not_worse(self, pair: Pair, *, own: bool = False) -> Statement:
        """The worsening is smaller than ε."""
        return self.between(pair, -self.evidence.smallest_effect, math.inf, "arm", own=own)

    def falling(self, pair: Pair) -> Pair:
        """The pair in that order in which an improvement is a fall of the endpoint."""
        return pair

    def silence(self) -> str:
        """Why nothing at all may be said; empty where something may."""
        if self.evidence.selected_on_test:
            return "selected on test: the metric is the best of several looks at the test split"
        if self.seeds < 2:
            return f"{'one seed' if self.seeds else 'no seed'}: it takes two to see how much a method varies"
        return ""

    def number(self, value: float) -> str:
        """A number as printed: hundredths of a point, three digits of anything else."""
        return f"{value:.2f}" if self.evidence.unit == "points" else f"{value:.3g}"

    def amount(self, value: float) -> str:
        """A number with its unit."""
        return f"{self.number(value)} {self.evidence.unit}"

    @property
    def level(self) -> str:
        """The confidence level as printed: ``95%``, or ``98.3%`` at one of three looks."""
        return f"{100 * (1 - self.alpha):.3g}%"

    def span(self, bounds: Bounds) -> str:
        """The two-sided interval as printed."""
        return f"[{self.number(bounds.low)}, {self.number(bounds.high)}] {self.evidence.unit}"

    def together(self, own: bool) -> str:
        """Whether bounds are simultaneous, as an adjective."""
        return " simultaneous" if len(self.family) > 1 and not own else ""

    @abstractmethod
    def bounds(self, pair: Pair, own: bool) -> Bounds:
        """Bounds of the improvement of ``arm`` on ``over``."""

    @abstractmethod
    def falls(self, order: Sequence[str], *, own: bool) -> Statement:
        """The endpoint falls along the order as a whole."""

    @abstractmethod
    def notes(self, pairs: Iterable[Pair]) -> tuple[str, ...]:
        """What a reader must know about the numbers of these pairs."""

    def shown(self, pairs: Iterable[Pair]) -> tuple[Contrast, ...]:
        """The contrasts to print; none where seeds are counted."""
        return tuple(self.found[pair] for pair in dict.fromkeys(pairs) if pair in self.found)

    @abstractmethod
    def _gap(self, pair: Pair) -> str: ...

    @abstractmethod
    def _direction_text(self, pair: Pair, own: bool) -> str: ...

    def _direction(self, pair: Pair, own: bool, holds: bool, favours: Favours) -> Statement:
        return self._statement(pair, self._direction_text(pair, own), holds, favours, margin=False)

    def _statement(self, pair: Pair, text: str, holds: bool, favours: Favours, *, margin: bool) -> Statement:
        obstacle = self._obstacle(pair, favours, margin=margin) if holds else ""
        return Statement(
            about=f"{pair[1]} over {pair[0]}", text=self._gap(pair) or text, holds=holds, obstacle=obstacle
        )

    def _obstacle(self, pair: Pair, favours: Favours, *, margin: bool) -> str:
        """Why a statement in favour of one of the two, or of neither, may not be made."""
        other, favoured = pair if favours == "arm" else pair[::-1]
        unequal = self.lost[favoured] != self.lost[other]
        if self.lost[favoured] > self.lost[other] or (unequal and favours == "neither"):
            counts = " and ".join(f"{self.lost[arm]} of {self.seeds} of {arm}" for arm in pair)
            return f"{counts} diverged: the rest cannot speak for all"
        if margin and pair in self.found and self.found[pair].pairs == 2:
            return "two seeds: they can show a direction, no margin"
        return ""

    def _within(self, bounds: Bounds, low: float, high: float, holds: bool) -> str:
        unit, verb = self.evidence.unit, "is" if holds else "is not"
        if math.isinf(low):
            return f"upper bound {self.number(bounds.high_one_sided)} {unit} {verb} below {self.number(high)}"
        if math.isinf(high):
            return f"lower bound {self.number(bounds.low_one_sided)} {unit} {verb} above {self.number(low)}"
        found = f"bounds ({self.number(bounds.low_one_sided)}, {self.number(bounds.high_one_sided)}) {unit}"
        within = (
            f"within ({self.number(low)}, {self.number(high)})" if low < high else f"exactly at {self.number(high)}"
        )
        return f"{found} {'lie' if holds else 'do not lie'} {within}"


class Measured(Reader):
    """An endpoint that is a number per trial: contrasts paired by seed, on one family of intervals."""

    def __init__(
        self, evidence: Evidence, arms: Sequence[str], family: Sequence[Pair], *, alpha: float = ALPHA
    ) -> None:
        super().__init__(evidence, arms, family, alpha=alpha)
        found = contrasts(evidence.values, self.arms, self.family, alpha=alpha)
        self.found = dict(zip(self.family, found, strict=True))
        self.lost = dict(zip(self.arms, np.sum(evidence.untrained, axis=1).tolist(), strict=True))

    def bounds(self, pair: Pair, own: bool) -> Bounds:
        """Those of the contrast."""
        return _bounds(self.found[pair], own)

    def falls(self, order: Sequence[str], *, own: bool) -> Statement:
        """By the linear contrast, scaled to the fall of the fitted line from the first arm to the last."""
        weights = (len(order) - 1) / 2 - np.arange(len(order))
        linear = np.zeros((1, len(self.arms)))
        linear[0, [self.arms.index(arm) for arm in order]] = weights * (len(order) - 1) / (weights @ weights)
        rows = np.vstack([pair_rows(self.arms, self.family), linear])
        found = estimates(self.evidence.values, rows, alpha=self.alpha)[-1]
        bounds, together = _bounds(found, own), "" if own else " simultaneous"
        relation = "lies below 0: the fitted line rises" if bounds.high < 0 else _relation(bounds)
        text = f"the {self.level}{together} interval of the fitted fall {self.span(bounds)} {relation}"
        if found.pairs < 2:
            text = f"{found.pairs} of {self.seeds} seeds are complete along the order: there is no interval"
        obstacle = self._obstacle((order[0], order[-1]), "arm", margin=False)
        return Statement(about=f"{order[0]} to {order[-1]}", text=text, holds=bounds.low > 0, obstacle=obstacle)

    def interaction(self, first: Pair, second: Pair) -> str:
        """How much more the second pair gains than the first, with the interval of this contrast alone, as printed."""
        first_row, second_row = pair_rows(self.arms, (first, second))
        (found,) = estimates(self.evidence.values, [second_row - first_row], alpha=self.alpha)
        return f"{self.number(found.estimate)} {self.span(_bounds(found, own=True))}"

    def notes(self, pairs: Iterable[Pair]) -> tuple[str, ...]:
        """Pairs that are missing, arms that are noisy, intervals without width."""
        return tuple(dict.fromkeys(note for pair in pairs for note in self._notes(pair)))

    def _notes(self, pair: Pair) -> Iterable[str]:
        contrast, (over, arm) = self.found[pair], pair
        if contrast.pairs < self.seeds:
            condition = "conditional on convergence, " if self.lost[over] + self.lost[arm] else ""
            yield f"{arm} over {over}: {condition}{contrast.pairs} of {self.seeds} pairs"
        if contrast.noisy:
            yield f"{arm} over {over}: one of the two is noisier than the other arms, and the interval allows for it"
        if contrast.pairs >= 2 and contrast.standard_error == 0:
            yield f"{arm} over {over}: every seed gave the same difference, so that the interval has no width"

    def _gap(self, pair: Pair) -> str:
        pairs = self.found[pair].pairs
        return "" if pairs >= 2 else f"{pairs} of {self.seeds} pairs are complete: there is no interval"

    def _direction_text(self, pair: Pair, own: bool) -> str:
        bounds = self.bounds(pair, own)
        return f"the {self.level}{self.together(own)} interval {self.span(bounds)} {_relation(bounds)}"


class Counted(Reader):
    """Trainability: a share of seeds per arm. Direction by Fisher's test, margins by Clopper-Pearson; Bonferroni."""

    def bounds(self, pair: Pair, own: bool) -> Bounds:
        """The Clopper-Pearson interval, made to exclude zero exactly where Fisher's test rejects."""
        over, arm = self._share(pair[0]), self._share(pair[1])
        level = self._level(own)
        low, high = gain_interval(over, arm, alpha=level)
        low_one_sided, high_one_sided = gain_interval(over, arm, alpha=2 * level)
        rejects, gains = fisher(over, arm) <= level, arm.count * over.run > over.count * arm.run
        smallest = math.ulp(0.0)
        low = max(low, smallest) if rejects and gains else min(low, 0.0)
        high = min(high, -smallest) if rejects and not gains else max(high, 0.0)
        return Bounds(low=low, high=high, low_one_sided=low_one_sided, high_one_sided=high_one_sided)

    def falls(self, order: Sequence[str], *, own: bool) -> Statement:
        """By the first arm against the last."""
        return self.better(self.falling((order[0], order[-1])), own=own)

    def falling(self, pair: Pair) -> Pair:
        """A share of seeds that train falls where the arm trains *less* often."""
        return pair[1], pair[0]

    def notes(self, pairs: Iterable[Pair]) -> tuple[str, ...]:
        """Per arm, how many seeds trained."""
        named = dict.fromkeys(arm for pair in pairs for arm in pair)
        return tuple(f"{arm}: {self._words(self._share(arm))}" for arm in named)

    def _gap(self, pair: Pair) -> str:
        empty = [arm for arm in pair if self._share(arm).run == 0]
        return f"no seed of {' and '.join(empty)} has run" if empty else ""

    def _direction_text(self, pair: Pair, own: bool) -> str:
        over, arm = self._share(pair[0]), self._share(pair[1])
        found = f"{arm.count} of {arm.run} seeds of {pair[1]} train, {over.count} of {over.run} of {pair[0]}"
        return f"{found} (Fisher's exact p = {fisher(over, arm):.2g}, needed {self._level(own):.2g})"

    def _level(self, own: bool) -> float:
        return self.alpha if own else self.alpha / len(self.family)

    def _share(self, arm: str) -> Share:
        row = self.arms.index(arm)
        lost = self.evidence.untrained[row]
        run = int(np.sum(lost | np.isfinite(self.evidence.values[row])))
        return share(run - int(np.sum(lost)), run, alpha=self.alpha)

    def _words(self, found: Share) -> str:
        return f"{found.count} of {found.run} seeds trained ({self.level} interval {found.low:.0%} to {found.high:.0%})"


def reader(
    endpoint: Endpoint, evidence: Evidence, arms: Sequence[str], family: Sequence[Pair], *, alpha: float = ALPHA
) -> Reader:
    """The reader of an endpoint."""
    return (Counted if endpoint == "trainability" else Measured)(evidence, arms, family, alpha=alpha)


def _bounds(found: Estimate, own: bool) -> Bounds:
    if own:
        return Bounds(
            low=found.low_own_two_sided,
            high=found.high_own_two_sided,
            low_one_sided=found.low_own,
            high_one_sided=found.high_own,
        )
    return Bounds(
        low=found.low, high=found.high, low_one_sided=found.low_one_sided, high_one_sided=found.high_one_sided
    )


def _relation(bounds: Bounds) -> str:
    return "excludes 0" if bounds.low > 0 or bounds.high < 0 else "includes 0"
