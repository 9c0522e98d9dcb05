"""One arm of a study as the report shows it, and the difference of two arms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from reports.endpoints import Values, cost, donor_seconds, metric, table, values
from reports.moved import Moved
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
        moved: what moved between the two networks as built.
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
    moved: Moved


@dataclass(frozen=True, kw_only=True)
class ArmRow:
    """An arm: its errors per planned seed (percent, NaN where there is none), what became of its trials, its cost.

    Attributes:
        error: mean test error with the arm's own 95% interval.
        difference: to the baseline; ``None`` for the baseline itself.
        without_figure: finished trials whose test error is not finite.
        absent: planned trials that were never started.
        properties: measured on the network as built; what cannot be known of it is left out.
        donors: the arm whose trials this one's start from, the one that those start from, and so on; empty for a start
            from scratch.
        donor_epochs: epochs of all of them, charged to this arm.
        train_seconds: mean over finished trials, the donors' time included.
        donor_seconds: the donors' part of that.
        images_per_second, peak_memory_bytes: of training, means over finished trials.
        inference_images_per_second, inference_peak_memory_bytes: of the pass over the test examples; NaN where no
            trial has measured it.
        published: the figure in the literature, in its own unit and on its own data.
        top5: mean top-5 error with the arm's own 95% interval; nothing where no trial has counted it.
        tests: the arms whose trained networks it tests; empty for an arm that trains.
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
    donors: tuple[str, ...]
    donor_epochs: int
    train_seconds: float
    donor_seconds: float
    images_per_second: float
    peak_memory_bytes: float
    inference_images_per_second: float
    inference_peak_memory_bytes: float
    published: float
    top5: Estimate
    tests: tuple[str, ...]

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
    top5 = table(record, lambda trial: metric(trial, "test_top5_error"))
    costs = {name: _means(each) for name, each in _costs(record).items()}
    baseline = record.registration.baseline
    to_baseline = {difference.arm: difference for difference in differences if difference.over == baseline}
    return tuple(
        replace(
            _row(record, arm, errors[index], trials, {name: means[index] for name, means in costs.items()}),
            difference=to_baseline.get(arm),
            top5=own_interval(top5[index]),
        )
        for index, arm in enumerate(record.registration.arms)
    )


def own_interval(errors: Values) -> Estimate:
    """Mean of one arm with its own 95% interval; no interval below two figures."""
    finite = errors[np.isfinite(errors)]
    if finite.size < 2:
        return Estimate(value=float(finite[0])) if finite.size else NOTHING
    interval = arm_interval(finite)
    return Estimate(value=float(interval.mean), low=float(interval.low), high=float(interval.high))


_MEASURED = (
    "images_per_second", "peak_memory_bytes", "inference_images_per_second", "inference_peak_memory_bytes",
)  # fmt: skip


def _costs(record: StudyRecord) -> dict[str, Values]:
    """What each trial cost, arms x planned seeds; time with the donor's."""
    measured = {name: table(record, partial(cost, name=name)) for name in _MEASURED}
    return measured | {"train_seconds": values(record, "time"), "donor_seconds": donor_seconds(record)}


def _row(
    record: StudyRecord, arm: str, errors: Values, trials: tuple[TrialRecord, ...], costs: Mapping[str, float]
) -> ArmRow:
    """An arm's errors, what became of its trials, and what they cost; not yet its difference."""
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
        donors=record.registration.chain(arm),
        donor_epochs=record.registration.donor_epochs.get(arm, 0),
        top5=NOTHING,
        tests=record.registration.tested.get(arm, ()),
        published=float(reference.values.get(arm, math.nan)) if reference else math.nan,
        **costs,
    )


def _means(values: Values) -> list[float]:
    return [float(row[np.isfinite(row)].mean()) if np.isfinite(row).any() else math.nan for row in values]
