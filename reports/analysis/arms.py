"""Summaries of arms and differences of two arms, as a report shows them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from reports.analysis.confounds import NetworkChanges
from reports.analysis.endpoints import (
    EndpointValues,
    endpoint_values,
    read_cost,
    read_metric,
    source_train_seconds,
    tabulate_trials,
)
from reports.formatting import (
    NO_INTERVAL,
    Interval,
    clip_interval,
    format_contrast,
    format_interval,
    format_plus_minus,
)
from reports.statistics import arm_interval
from studies.records.study_record import RecordedTrial, StudyRecord


@dataclass(frozen=True, kw_only=True)
class ArmDifference:
    """Difference of two arms in test error, in percentage points.

    Positive where ``arm`` has the lower error.

    Attributes:
        estimate: mean over complete pairs of seeds with its simultaneous 95% interval.
        is_registered: whether a registered claim reads it; only then it has a verdict.
        num_pairs: complete pairs of seeds.
        num_planned: planned pairs.
        is_noisy: whether the noise guard widened the interval.
        equivalence_margin: the smallest effect of interest at which these data would show equivalence, points.
        seed_image_interval: the same difference with its interval over seeds and images; unbounded without predictions.
        image_standard_error: the component of that interval's standard error that no number of seeds removes, points.
        network_changes: properties and settings in which the two instantiated networks differ.
        is_control: whether the arm is a placebo, whose interval is its own and no part of a family.
    """

    over: str
    arm: str
    estimate: Interval
    is_registered: bool
    num_pairs: int
    num_planned: int
    is_noisy: bool
    equivalence_margin: float
    seed_image_interval: Interval
    image_standard_error: float
    network_changes: NetworkChanges
    is_control: bool = False

    def __repr__(self) -> str:
        return f"<ArmDifference {format_contrast(self.over, self.arm)}: {format_interval(self.estimate, 2)} points>"

    def reverse(self) -> ArmDifference:
        """Return the same difference, asked for the other way round; what changed is told as it was."""
        return replace(
            self,
            over=self.arm,
            arm=self.over,
            estimate=self.estimate.reverse(),
            seed_image_interval=self.seed_image_interval.reverse(),
        )


@dataclass(frozen=True)
class CostSpread:
    """A cost of an arm, measured on each of its finished trials.

    Attributes:
        values: in ascending order, without missing ones.
    """

    values: tuple[float, ...]

    @classmethod
    def of_values(cls, values: Iterable[float]) -> CostSpread:
        """Collect the finite values."""
        return cls(tuple(sorted(value for value in map(float, values) if math.isfinite(value))))

    @property
    def median(self) -> float:
        """The median, which one trial beside another process does not move; NaN without values."""
        return statistics.median(self.values) if self.values else math.nan

    @property
    def smallest(self) -> float:
        """The smallest value; NaN without values."""
        return self.values[0] if self.values else math.nan

    @property
    def largest(self) -> float:
        """The largest value; NaN without values."""
        return self.values[-1] if self.values else math.nan

    @property
    def has_outlier(self) -> bool:
        """Whether a trial differs from the median by a factor of two or more."""
        if not self.values:
            return False
        # The lower and the upper one: of two trials, one that takes twice as long as the other is an outlier as well.
        lower, upper = statistics.median_low(self.values), statistics.median_high(self.values)
        return 0 < 2 * lower <= self.largest or 0 < 2 * self.smallest <= upper

    def scale(self, factor: float) -> CostSpread:
        """Return the costs divided by ``factor``."""
        return CostSpread(tuple(value / factor for value in self.values))


@dataclass(frozen=True, kw_only=True)
class ArmSummary:
    """An arm: errors per planned seed (percent, NaN if missing), outcomes, cost.

    Attributes:
        mean_error: mean test error with the arm's own 95% interval.
        difference: to the baseline; ``None`` for the baseline itself.
        num_without_error: finished trials whose test error is not finite.
        num_not_started: planned trials that were never started.
        properties: measured on the instantiated network; unknown ones are absent.
        source_arms: the arm whose trained networks this one starts from, the source of that one, and so on; empty for
            an arm trained from scratch.
        source_epochs: epochs of all of them, charged to this arm.
        train_seconds: of finished trials, including their source networks.
        donor_seconds: the share of the source networks in that.
        images_per_second, peak_memory_bytes: of training.
        inference_images_per_second, inference_peak_memory_bytes: of the pass over the test examples.
        published_value: the value in the literature, in its own unit and on its own data.
        top5: mean top-5 error with the arm's own 95% interval; without a value where no trial measured it.
        evaluated_arms: the arms whose trained networks it evaluates; empty for an arm that trains.
    """

    name: str
    errors: tuple[float, ...]
    mean_error: Interval
    difference: ArmDifference | None
    num_finished: int
    num_nonfinite: int
    num_at_chance: int
    num_failed: int
    num_cancelled: int
    num_running: int
    num_not_started: int
    num_without_error: int
    properties: Mapping[str, int]
    source_arms: tuple[str, ...]
    source_epochs: int
    train_seconds: CostSpread
    donor_seconds: CostSpread
    images_per_second: CostSpread
    peak_memory_bytes: CostSpread
    inference_images_per_second: CostSpread
    inference_peak_memory_bytes: CostSpread
    published_value: float
    top5: Interval
    evaluated_arms: tuple[str, ...]

    def __repr__(self) -> str:
        return (
            f"<ArmSummary {self.name}: test error {format_plus_minus(self.mean_error, 2)} %, {self.describe_outcomes}>"
        )

    @property
    def num_ended(self) -> int:
        """Trials that ended, whatever their outcome."""
        return self.num_finished + self.num_nonfinite + self.num_at_chance + self.num_failed

    @property
    def describe_outcomes(self) -> str:
        """Outcomes in words: ``3 of 5 (1 at chance, 1 failed)``, unfinished trials included."""
        counts = (
            (self.num_nonfinite, "non-finite"), (self.num_at_chance, "at chance"), (self.num_failed, "failed"),
            (self.num_cancelled, "cancelled"),
            (self.num_running, "running"), (self.num_not_started, "not started"),
            (self.num_without_error, "without a test error"),
        )  # fmt: skip
        exceptions = ", ".join(f"{count} {state}" for count, state in counts if count)
        outcomes = f"{self.num_finished} of {self.num_ended}"
        return f"{outcomes} ({exceptions})" if exceptions else outcomes


def summarize_arms(
    record: StudyRecord,
    trials: tuple[RecordedTrial, ...],
    errors: EndpointValues,
    differences: tuple[ArmDifference, ...],
) -> tuple[ArmSummary, ...]:
    """Summarize all registered arms, the baseline first."""
    top5 = tabulate_trials(record, lambda trial: read_metric(trial, "test_top5_error"))
    trial_costs = _trial_costs(record)
    baseline = record.registration.baseline
    # A claim may also read a difference between two other arms; rows show that to the baseline.
    to_baseline = {}
    for difference in differences:
        if difference.over == baseline:
            to_baseline[difference.arm] = difference
        elif difference.arm == baseline:
            to_baseline[difference.over] = difference.reverse()
    summaries = []
    for index, arm in enumerate(record.registration.arms):
        costs = {name: CostSpread.of_values(values[index]) for name, values in trial_costs.items()}
        summary = _summarize_arm(record, arm, errors[index], trials, costs)
        top5_error = arm_mean_interval(top5[index])
        summaries.append(replace(summary, difference=to_baseline.get(arm), top5=top5_error))
    return tuple(summaries)


def arm_mean_interval(errors: EndpointValues) -> Interval:
    """Mean error of one arm with its own 95% t interval, cut at 0 and 100%; without an interval below two values."""
    finite = errors[np.isfinite(errors)]
    if finite.size < 2:  # one value has no variance
        return Interval(value=float(finite[0])) if finite.size else NO_INTERVAL
    interval = arm_interval(finite)
    whole = Interval(value=float(interval.mean), low=float(interval.low), high=float(interval.high))
    return clip_interval(whole, 0.0, 100.0)


_COST_NAMES = (
    "images_per_second", "peak_memory_bytes", "inference_images_per_second", "inference_peak_memory_bytes",
)  # fmt: skip


def _trial_costs(record: StudyRecord) -> dict[str, EndpointValues]:
    """Costs of each trial, arms x planned seeds; time includes source networks."""
    measured = {name: tabulate_trials(record, partial(_read_measured_cost, name=name)) for name in _COST_NAMES}
    return measured | {"train_seconds": endpoint_values(record, "time"), "donor_seconds": source_train_seconds(record)}


def _read_measured_cost(trial: RecordedTrial, name: str) -> float:
    return read_cost(trial, name) or math.nan  # 0: never measured


def _summarize_arm(
    record: StudyRecord,
    arm: str,
    errors: EndpointValues,
    trials: tuple[RecordedTrial, ...],
    costs: Mapping[str, CostSpread],
) -> ArmSummary:
    """Summarize an arm's errors, outcomes and costs; difference and top-5 error are added by the caller."""
    states = [trial.state for trial in trials if trial.arm == arm]
    reference = record.registration.reference
    published_value = float(reference.values.get(arm, math.nan)) if reference else math.nan
    finished = states.count("finished")
    return ArmSummary(
        name=arm,
        errors=tuple(map(float, errors)),
        mean_error=arm_mean_interval(errors),
        difference=None,  # added by `summarize_arms`
        num_finished=finished,
        num_nonfinite=states.count("non-finite"),
        num_at_chance=states.count("at chance"),
        num_failed=states.count("failed"),
        num_cancelled=states.count("cancelled"),
        num_running=states.count("running"),
        num_not_started=len(errors) - len(states),  # errors have one entry per planned seed
        num_without_error=finished - int(np.isfinite(errors).sum()),
        properties=dict(record.registration.properties.get(arm, {})),
        source_arms=record.registration.source_chain(arm),
        source_epochs=record.registration.donor_epochs.get(arm, 0),
        top5=NO_INTERVAL,
        evaluated_arms=record.registration.tested.get(arm, ()),
        published_value=published_value,
        **costs,
    )
