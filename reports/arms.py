"""One arm of a study as the report shows it, and the difference of two arms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from reports.changes import properties_moved
from reports.endpoints import Values, cost, table
from reports.numbers import NOTHING, Estimate
from reports.statistics import arm_interval
from studies.records import StudyRecord, TrialRecord


@dataclass(frozen=True, kw_only=True)
class PairDifference:
    """The difference of two arms in test error, percentage points; positive where ``arm`` has the lower error.

    Attributes:
        estimate: mean over complete pairs of seeds with its simultaneous 95% interval.
        registered: whether a registered claim reads it; only then it has a verdict.
        pairs: complete pairs of seeds.
        planned: planned pairs.
        noisy: whether the noise guard widened the interval.
        equivalent_from: the smallest effect of interest at which these data would show equivalence, points.
        crossed: the same difference with its interval over seeds and images; without limits where predictions lack.
        image_noise: the part of that interval's standard error that no number of seeds removes, points.
        moved: properties of the networks that differ by more than 5%.
    """

    over: str
    arm: str
    estimate: Estimate
    registered: bool
    pairs: int
    planned: int
    noisy: bool
    equivalent_from: float
    crossed: Estimate
    image_noise: float
    moved: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ArmRow:
    """An arm: its errors per planned seed (percent, NaN where there is none), what became of its trials, its cost.

    Attributes:
        error: mean test error with the arm's own 95% interval.
        difference: to the baseline; ``None`` for the baseline itself.
        without_figure: finished trials whose test error is not finite.
        absent: planned trials that were never started.
        properties: measured on the network as built.
        train_seconds, images_per_second, peak_memory_bytes: means over finished trials.
        published: the figure in the literature, in its own unit and on its own data.
    """

    name: str
    errors: tuple[float, ...]
    error: Estimate
    difference: PairDifference | None
    finished: int
    diverged: int
    failed: int
    running: int
    absent: int
    without_figure: int
    properties: Mapping[str, int]
    train_seconds: float
    images_per_second: float
    peak_memory_bytes: float
    published: float

    @property
    def ended(self) -> int:
        """Trials that came to an end, whatever it was."""
        return self.finished + self.diverged + self.failed

    @property
    def trained(self) -> str:
        """``3 of 5 (1 diverged, 1 failed)``; whatever has not ended is named as well."""
        counts = (
            (self.diverged, "diverged"), (self.failed, "failed"), (self.running, "running"),
            (self.absent, "not started"), (self.without_figure, "without a figure"),
        )  # fmt: skip
        named = ", ".join(f"{count} {what}" for count, what in counts if count)
        return f"{self.finished} of {self.ended}" + (f" ({named})" if named else "")


def arm_rows(
    record: StudyRecord, trials: tuple[TrialRecord, ...], errors: Values, differences: tuple[PairDifference, ...]
) -> tuple[ArmRow, ...]:
    """The rows of all registered arms, the baseline first."""
    means = {name: _means(table(record, lambda trial, name=name: cost(trial, name))) for name in _COSTS}  # type: ignore[misc]
    baseline = record.registration.baseline
    to_baseline = {difference.arm: difference for difference in differences if difference.over == baseline}
    return tuple(
        replace(
            _counted(record, arm, errors[index], trials),
            difference=to_baseline.get(arm),
            **{name: means[name][index] for name in _COSTS},  # type: ignore[arg-type]
        )
        for index, arm in enumerate(record.registration.arms)
    )


def moved_between(record: StudyRecord, over: str, arm: str) -> tuple[str, ...]:
    """What else differs between two arms' networks, by more than 5%."""
    properties = record.registration.properties
    return properties_moved(properties.get(over, {}), properties.get(arm, {}))


def own_interval(errors: Values) -> Estimate:
    """Mean of one arm with its own 95% interval; no interval below two figures."""
    finite = errors[np.isfinite(errors)]
    if finite.size < 2:
        return Estimate(value=float(finite[0])) if finite.size else NOTHING
    interval = arm_interval(finite)
    return Estimate(value=float(interval.mean), low=float(interval.low), high=float(interval.high))


_COSTS = ("train_seconds", "images_per_second", "peak_memory_bytes")


def _counted(record: StudyRecord, arm: str, errors: Values, trials: tuple[TrialRecord, ...]) -> ArmRow:
    """An arm's errors and what became of its trials."""
    states = [trial.state for trial in trials if trial.arm == arm]
    reference = record.registration.reference
    finished = states.count("finished")
    return ArmRow(
        name=arm,
        errors=tuple(map(float, errors)),
        error=own_interval(errors),
        difference=None,
        finished=finished,
        diverged=states.count("diverged"),
        failed=states.count("failed"),
        running=states.count("running"),
        absent=len(errors) - len(states),
        without_figure=finished - int(np.isfinite(errors).sum()),
        properties=dict(record.registration.properties.get(arm, {})),
        train_seconds=math.nan,
        images_per_second=math.nan,
        peak_memory_bytes=math.nan,
        published=float(reference.values.get(arm, math.nan)) if reference else math.nan,
    )


def _means(values: Values) -> list[float]:
    return [float(row[np.isfinite(row)].mean()) if np.isfinite(row).any() else math.nan for row in values]
