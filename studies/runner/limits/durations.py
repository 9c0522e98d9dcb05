"""How long trials take: the longest measured, scaled or estimated for kinds of trials that are not measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from studies.design.trial import Trial
from studies.records.results import Result
from studies.records.study_record import bundle_size_of

# Of a trial, beside its epochs: a forked process, the data, the last evaluations, the result.
OVERHEAD_SECONDS = 2.0


class TrialKind(NamedTuple):
    """Trials that take about equally long: those of an arm, for as many epochs, in bundles of as many seeds."""

    arm: str
    epochs: int
    bundle_size: int


class TrialDurations:
    """Measured seconds by kind of trial.

    Args:
        estimate: seconds of a trial of which nothing is measured, on its own; not-a-number where it is unknown.
    """

    def __init__(self, estimate: Callable[[Trial], float]) -> None:
        self.estimate = estimate
        self.longest: dict[TrialKind, float] = {}
        self.examples: dict[TrialKind, Trial] = {}
        self.estimates: dict[tuple[str, int], float] = {}

    def record(self, trial: Trial, seconds: float, bundle_size: int = 1) -> None:
        """Record the seconds of a trial from its start to its end."""
        kind = TrialKind(trial.arm, trial.epochs, bundle_size)
        self.longest[kind] = max(seconds, self.longest.get(kind, 0.0))
        self.examples[kind] = trial

    def record_result(self, trial: Trial, result: Result) -> None:
        """Record a trial that an earlier start has trained, on the same kind of machine."""
        epoch_seconds = result.curves.get("seconds", ())
        if result.status != "failed" and epoch_seconds:
            self.record(trial, sum(epoch_seconds) + OVERHEAD_SECONDS, bundle_size_of(result))

    def seconds_of(self, trial: Trial, bundle_size: int = 1) -> float:
        """Expected seconds of a trial; not-a-number where nothing is known."""
        candidates: list[float] = []
        for kind, seconds in self.longest.items():
            if kind.arm == trial.arm and kind.epochs and trial.epochs:
                # A smaller bundle takes no longer than a larger one, a larger one no longer than its trials in turn.
                scale = trial.epochs / kind.epochs * max(1.0, bundle_size / kind.bundle_size)
                candidates.append(seconds * scale)
            elif kind.arm == trial.arm and kind.epochs == trial.epochs:  # an evaluation
                candidates.append(seconds)
        exact = self.longest.get(TrialKind(trial.arm, trial.epochs, bundle_size))
        if exact is not None:
            return exact
        if candidates:
            return min(candidates)
        return bundle_size * self._estimate(trial) * self._slowness()

    def _estimate(self, trial: Trial) -> float:
        key = trial.arm, trial.epochs
        if key not in self.estimates:
            self.estimates[key] = self.estimate(trial)
        return self.estimates[key]

    def _slowness(self) -> float:
        """How many times longer than estimated the measured trials took, at most; 1 where nothing is measured."""
        ratios = []
        for kind, seconds in self.longest.items():
            estimate = kind.bundle_size * self._estimate(self.examples[kind])
            if estimate > 0 and math.isfinite(estimate):
                ratios.append(seconds / estimate)
        return max(ratios, default=1.0)
