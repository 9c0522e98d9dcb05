"""A recorded study: its trials, starts and tuning, as read back from the tracking store."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from lightning_modules.specs.notebook_html import describe_object, render_line, render_list, render_table, render_view
from lightning_modules.specs.values import Leaf
from studies.design.budget import RunBudget, Spending
from studies.latency.measurement import LatencyMeasurement
from studies.records.registration import Registration
from studies.records.registration_log import RegistrationCheck
from studies.records.results import Result

# What training came to is a result of the arm, a failure one of the machine or the code: only that is tried again.
TrialState = Literal["finished", "non-finite", "at chance", "failed", "cancelled", "running"]
MAX_SHOWN_SEEDS = 10  # columns of the table that a notebook shows


@dataclass(frozen=True, kw_only=True)
class RecordedTrial:
    """A trial of a study, as read back from the tracking store.

    Attributes:
        state: the result's status, or ``running`` where the trial has not ended.
        reused_from: run that trained it, where another study did; else empty.
        progress: last values logged by a running trial.
        recipe: ``shared`` by all arms, or ``tuned`` for this arm.
        num_attempts: number of starts: more than 1 where it failed, or was interrupted and resumed.
        faults: machine faults, one line each; after each one the trial was tried again or given up.
        revision: Git commit of the start that trained it; empty where it is not recorded.
        working_tree: ``clean``, or ``uncommitted changes`` at that start; empty where it is not recorded.
        cancel_reason: who cancelled it, when and why; empty unless its state is ``cancelled``.
    """

    arm: str
    seed: int
    run_id: str
    state: TrialState
    result: Result | None
    reused_from: str = ""
    progress: Mapping[str, float] = field(default_factory=dict)
    recipe: Literal["shared", "tuned"] = "shared"
    num_attempts: int = 1
    faults: tuple[str, ...] = ()
    revision: str = ""
    working_tree: str = ""
    cancel_reason: str = ""

    def __repr__(self) -> str:
        error = self.result.metrics.get("test_error", math.nan) if self.result else math.nan
        outcome = self.state if math.isnan(error) else f"{self.state}, test error {error:.2f} %"
        return f"<RecordedTrial {self.arm}, seed {self.seed}: {outcome}>"


def bundle_size_of(result: Result) -> int:
    """Trials that one process trained at once, this one among them."""
    return max(1, int(result.environment.get("bundle_size", 1)))


def device_of(result: Result) -> str:
    """The kind of device that trained: ``cpu`` or ``cuda``; empty where it is not recorded."""
    return str(result.environment.get("device", ""))


@dataclass(frozen=True, kw_only=True)
class StudyStart:
    """One ``ablate run`` of a study: time, command, code and machine.

    Attributes:
        time: ISO 8601.
        revision: Git commit of the code.
        clean: whether the working tree had no uncommitted changes.
        seeds: planned seeds at this start.
        wall_seconds: duration of the command; ``None`` where its end was not recorded, as for one that was killed.
        user, host: who started it, and where; empty in older records.
        code: digest of the training code; empty in older records, and where nothing was trained.
        claims: sentences of the claims that the ablation's file made at this start; ``None`` where none was read.
        budget: what it was allowed to spend; ``None`` without a limit.
        gpu_hours: that its trials held; ``None`` where no GPU was used, or its end was not recorded.
        stop_reason: why it stopped before all of its trials had started; empty where it did not.
    """

    time: str
    command: str
    revision: str
    clean: bool
    versions: Mapping[str, str]
    hardware: str
    seeds: tuple[int, ...]
    wall_seconds: float | None
    user: str = ""
    host: str = ""
    code: str = ""
    claims: tuple[str, ...] | None = None
    budget: RunBudget | None = None
    gpu_hours: float | None = None
    stop_reason: str = ""

    def __repr__(self) -> str:
        duration = "end not recorded" if self.wall_seconds is None else f"{self.wall_seconds:.0f} s"
        return describe_object(self, f"{self.time}: {len(self.seeds)} seeds, {duration}")

    @property
    def spent(self) -> Spending:
        """What the start spent, as far as it is recorded."""
        return Spending(seconds=self.wall_seconds or 0.0, gpu_hours=self.gpu_hours or 0.0)


@dataclass(frozen=True, kw_only=True)
class RecordedCandidate:
    """A trial of one candidate of an arm's search, or of the source network that it starts from.

    Attributes:
        number: the candidate's number, from 0; number 0 is the shared recipe, where the space contains it.
        rung: round of halving, from 0.
        epochs: planned epochs of the rung.
        epochs_trained: epochs trained before the trial ended.
        validation_error: percent; NaN where there is none.
        validation_loss: nats; NaN where there is none.
        values: tuned values as text, by path.
        num_attempts: runs of this trial, failed ones included.
        is_source: whether this trial trains the candidate's source network.
        has_test_metrics: whether the trial read the test split, which no candidate may.
    """

    arm: str
    number: int
    rung: int
    seed: int
    epochs: int
    epochs_trained: int
    state: TrialState
    validation_error: float
    validation_loss: float
    seconds: float
    values: Mapping[str, str]
    run_id: str
    num_attempts: int = 1
    is_source: bool = False
    has_test_metrics: bool = False

    def __repr__(self) -> str:
        outcome = f"{self.state}, validation error {self.validation_error:.2f} %"
        return describe_object(self, f"{self.number} of {self.arm}, rung {self.rung}, seed {self.seed}: {outcome}")


@dataclass(frozen=True, kw_only=True)
class RecordedTuning:
    """The tuning of a study: candidates, tuned recipes, and the trials under them.

    Attributes:
        candidates: every trial spent on tuning.
        best_values: per arm, the best candidate's values by path; an arm without a finite error is missing.
        best_candidates: per arm, the number of that candidate.
        importance: per arm, each path's share of the importance (PED-ANOVA), adding up to 1; empty where there are too
            few candidates.
        trials: trials of every arm under its tuned recipe and the planned seeds.
    """

    candidates: tuple[RecordedCandidate, ...]
    best_values: Mapping[str, Mapping[str, Leaf]]
    best_candidates: Mapping[str, int]
    importance: Mapping[str, Mapping[str, float]]
    trials: tuple[RecordedTrial, ...]

    def __repr__(self) -> str:
        return describe_object(
            self, f"of {len(self.best_candidates)} arms: {len(self.candidates)} trials of candidates"
        )


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """A study as read back from the tracking store: everything that a report needs.

    Attributes:
        trials: trials under the recipe that all arms share.
        labels: true class of every test example, ``uint16`` of shape ``(examples,)``; ``None`` where no trial stored
            predictions.
        run_id: the study's own run, parent of its trials' runs.
        tuning: the comparison under tuned recipes, where recipes were tuned.
        damages: of stored content that could not be used, a line for each; what it held is left out.
        is_own: whether the runs folder that reads the store has started the study's run.
        other_runs: the study's other runs that could have been meant, in words, the latest first.
        registration_check: whether the copies of the registration agree; ``None`` where an earlier version made it.
        latency: of the arms' networks, as measured last; ``None`` where it was not.
    """

    registration: Registration
    trials: tuple[RecordedTrial, ...]
    starts: tuple[StudyStart, ...]
    labels: npt.NDArray[np.uint16] | None
    run_id: str
    experiment_id: str
    tracking_uri: str
    tuning: RecordedTuning | None = None
    damages: tuple[str, ...] = ()
    is_own: bool = True
    other_runs: tuple[str, ...] = ()
    registration_check: RegistrationCheck | None = None
    latency: LatencyMeasurement | None = None

    def __repr__(self) -> str:
        registration = self.registration
        num_planned = len(registration.arms) * len(registration.seeds)
        title = f"{registration.study} under {registration.protocol}"
        return f"<StudyRecord {title}: {self._count_finished()} of {num_planned} trials finished>"

    def _repr_html_(self) -> str:
        registration, errors = self.registration, self.metric_table()
        rows = []
        for arm, errors_of_arm in zip(registration.arms, errors, strict=True):
            rows.append(
                (arm, *map(_format_error, errors_of_arm[:MAX_SHOWN_SEEDS]), _format_error(_mean(errors_of_arm)))
            )
        shown_seeds = registration.seeds[:MAX_SHOWN_SEEDS]
        # A table of a hundred columns is cut off by the notebook, and the mean with it.
        num_hidden = len(registration.seeds) - len(shown_seeds)
        hidden = f" Of {len(registration.seeds)} seeds the first {MAX_SHOWN_SEEDS} are shown." if num_hidden else ""
        header = ("arm", *(f"seed {seed}" for seed in shown_seeds), "mean")
        return render_view(
            f"{registration.study} under {registration.protocol}: {registration.question}",
            render_line(f"Test error, %: {self._count_finished()} of {errors.size} trials finished.{hidden}"),
            render_table(header, rows, numbers=range(1, len(header))),
            render_list(self.damages),
            render_line(
                f"reports.load({registration.study!r}, {registration.protocol!r}) gives the verdicts.", quiet=True
            ),
        )

    def _count_finished(self) -> int:
        """Finished trials among the planned ones, the source networks of arms left out."""
        arms, seeds = self.registration.arms, self.registration.seeds
        # By arm and seed, not by run: a trial that was logged twice has finished once.
        finished = {(trial.arm, trial.seed) for trial in self.trials if trial.state == "finished"}
        return sum((arm, seed) in finished for arm in arms for seed in seeds)

    @property
    def failed_trials(self) -> tuple[RecordedTrial, ...]:
        """Trials that failed, under the shared recipe and under tuned ones."""
        failed: dict[str, RecordedTrial] = {}
        for trial in (*self.trials, *(self.tuning.trials if self.tuning else ())):
            if trial.state == "failed":  # an arm that is tuned to the shared recipe has its trials in both
                failed.setdefault(trial.run_id, trial)
        return tuple(failed.values())

    @property
    def owner(self) -> str:
        """User and host that started the study; empty for older records, which do not tell."""
        return next(iter(list_starters(self.starts)), "")

    @property
    def stop_reason(self) -> str:
        """Why the last start stopped before all of its trials had started; empty where it did not."""
        # The last start's alone: what stopped an earlier one has been taken up since.
        return self.starts[-1].stop_reason if self.starts else ""

    @property
    def open_seeds(self) -> tuple[int, ...]:
        """Registered seeds under which an arm has no trial that has ended."""
        ended = {(trial.arm, trial.seed) for trial in self.trials if trial.state != "running"}
        arms, seeds = self.registration.arms, self.registration.seeds
        return tuple(seed for seed in seeds if any((arm, seed) not in ended for arm in arms))

    def find_trial(self, arm: str, seed: int) -> RecordedTrial | None:
        """Return the trial of an arm under a seed, if there is one."""
        for trial in self.trials:
            if (trial.arm, trial.seed) == (arm, seed):
                return trial
        return None

    def metric_table(self, metric: str = "test_error") -> npt.NDArray[np.float64]:
        """Return a final metric as an array of shape ``(arms, planned seeds)``, in the registration's order.

        NaN where a trial did not finish: the error of an untrained network is no measurement of its arm.
        """
        # Missing trials stay NaN, so that rows keep their pairing by seed.
        table = np.full((len(self.registration.arms), len(self.registration.seeds)), np.nan)
        for row, arm in enumerate(self.registration.arms):
            for column, seed in enumerate(self.registration.seeds):
                trial = self.find_trial(arm, seed)
                if trial and trial.state == "finished" and trial.result and metric in trial.result.metrics:
                    table[row, column] = trial.result.metrics[metric]
        return table


def _mean(values: npt.NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else math.nan


def _format_error(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "–"


def list_starters(starts: Iterable[StudyStart]) -> tuple[str, ...]:
    """Users and hosts that started a study, each once, the first one first."""
    return tuple(dict.fromkeys(f"{start.user} on {start.host}" for start in starts if start.user))
