"""The gate before each start of a trial: whole seeds start while their end is expected within the budget."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lightning_modules.specs.errors import DamagedFileError
from lightning_modules.specs.text import format_count, name_seeds
from studies.design.budget import RunBudget, Spending
from studies.execution.jobs import TrialJob
from studies.runner.limits.durations import TrialDurations
from studies.runner.limits.forecast import (
    CLOSING_SECONDS,
    RAY_START_SECONDS,
    SAFETY_FACTOR,
    Load,
    forecast_spending,
)
from studies.storage.status_files import load_progress
from studies.storage.trial_folder import TrialFolder
from studies.storage.trial_requests import list_cancelled, take_retries

REQUESTS_SECONDS = 1.0  # between two readings of the user's requests
REFUSAL_SECONDS = 1.0  # a refusal holds so long: the queue asks many times a second
TUNING_ROUND = "the tuning round"

Unit = int | str  # a seed of the comparison, or a round of the tuning: what starts as a whole or not at all


class BudgetExhausted(Exception):
    """No further whole seed is expected to end within the budget; the text is the reason in a sentence."""


@dataclass(frozen=True)
class _RunningBundle:
    jobs: tuple[TrialJob, ...]
    started_at: float
    share_left: float  # of its epochs, as it started


@dataclass(frozen=True)
class _Refusal:
    units: tuple[Unit, ...]
    num_trials: int
    forecast: Spending
    decided_at: float


class BudgetGate:
    """Admits whole seeds: all arms of a seed, or none; so pairing stays balanced.

    A round of the tuning is admitted as a whole too, so that all arms spend the same on it.

    Args:
        started_at: of the study's start, seconds since 1970.
        gpus_of: GPUs that a trial holds.
        max_running: how many trials may run at once; 0 for as many as fit.
        log: prints a line.
        study_folder: where the user's requests of cancelling and retrying lie.
    """

    def __init__(
        self,
        budget: RunBudget,
        started_at: float,
        durations: TrialDurations,
        gpus_of: Callable[[TrialJob], float],
        max_running: int,
        log: Callable[[str], None],
        clock: Callable[[], float] = time.time,
        study_folder: Path | None = None,
    ) -> None:
        self.budget, self.started_at, self.durations = budget, started_at, durations
        self.gpus_of, self.max_running, self.log, self.clock = gpus_of, max_running, log, clock
        self.study_folder, self.requests_read_at = study_folder, -math.inf
        self.cancelled: frozenset[str] = frozenset()
        self.retried: frozenset[str] = frozenset()
        self.admitted: set[Unit] = set()
        self.trained: set[Unit] = set()  # in this start, at least one trial of it
        self.running: dict[Path, _RunningBundle] = {}  # by the folder of their first trial
        self.ended_gpu_seconds = 0.0
        self.refusal: _Refusal | None = None

    @property
    def spent(self) -> Spending:
        """What this start has spent so far."""
        now = self.clock()
        gpu_seconds = self.ended_gpu_seconds
        for bundle in self.running.values():
            gpu_seconds += self.gpus_of(bundle.jobs[0]) * (now - bundle.started_at)
        return Spending(seconds=now - self.started_at, gpu_hours=gpu_seconds / 3_600)

    # -- asked by the queue --------------------------------------------------------------------------------------

    def read_cancelled(self) -> frozenset[str]:
        """Fingerprints of the trials that the user has cancelled."""
        self._read_requests()
        return self.cancelled

    def take_retries(self) -> frozenset[str]:
        """Fingerprints of the trials that the user wants trained again, each once."""
        self._read_requests()
        retried, self.retried = self.retried, frozenset()
        return retried

    def _read_requests(self) -> None:
        if self.study_folder and self.clock() - self.requests_read_at >= REQUESTS_SECONDS:
            self.requests_read_at = self.clock()
            self.cancelled = list_cancelled(self.study_folder)
            self.retried |= take_retries(self.study_folder)

    def admit(
        self,
        bundle: Sequence[TrialJob],
        waiting: Sequence[Sequence[TrialJob]],
        share_of: Callable[[TrialJob], float],
    ) -> bool:
        """Whether a bundle may start now.

        Args:
            waiting: all bundles that have not started, this one among them.
            share_of: the share of all machines that a trial takes.
        """
        if self.is_admitted(bundle):
            return True
        if self.refusal and self.clock() - self.refusal.decided_at < REFUSAL_SECONDS:
            return False
        units = _join_units(bundle, waiting)
        own = [jobs for jobs in waiting if _units_of(jobs) <= units]
        earlier = [jobs for jobs in waiting if self.is_admitted(jobs)]
        running = [self._running_load(running_bundle, share_of) for running_bundle in self.running.values()]
        loads = [self._load(jobs, share_of) for jobs in own]
        queued = [self._load(jobs, share_of) for jobs in earlier]
        if any(math.isnan(load.seconds) for load in (*running, *queued, *loads)):
            is_admitted = self._admit_unmeasured(units)
        else:
            forecast = forecast_spending(self._spent_with_reserve(), running, [*queued, *loads], self.max_running)
            is_admitted = not self.budget.exceeded_by(forecast)
            self.refusal = _Refusal(tuple(units), sum(map(len, own)), forecast, self.clock())
        if is_admitted:
            self.admitted |= units
            self.refusal = None
        return is_admitted

    def is_admitted(self, bundle: Iterable[TrialJob]) -> bool:
        """Whether the seeds of a bundle are among those that started."""
        return not self.budget.is_limited or _units_of(bundle) <= self.admitted

    def on_start(self, bundle: Sequence[TrialJob]) -> None:
        """Note the start of a bundle."""
        share_left = max(map(_share_left, bundle)) if self.budget.is_limited else 1.0
        self.running[bundle[0].folder] = _RunningBundle(tuple(bundle), self.clock(), share_left)
        self.trained |= _units_of(bundle)

    def on_trial_end(self, job: TrialJob, bundle: Sequence[TrialJob]) -> None:
        """Measure a trial that has ended."""
        start = self.running.get(bundle[0].folder)
        if start and self.budget.is_limited and _has_run_whole(job):
            self.durations.record(job.trial, self.clock() - start.started_at, len(bundle))

    def on_end(self, bundle: Sequence[TrialJob]) -> None:
        """Note the end of a bundle."""
        start = self.running.pop(bundle[0].folder, None)
        if start:
            self.ended_gpu_seconds += self.gpus_of(bundle[0]) * (self.clock() - start.started_at)

    # -- the stop ------------------------------------------------------------------------------------------------

    def require_first_admitted(self, jobs: Sequence[TrialJob], share_of: Callable[[TrialJob], float]) -> None:
        """Admit the first seed of jobs that are about to be queued, before anything is started for them.

        Raises:
            BudgetExhausted: where it does not fit.
        """
        if jobs and not self.admit(jobs[:1], [(job,) for job in jobs], share_of):
            raise BudgetExhausted(self._describe_stop())

    def require_all_admitted(self, jobs: Iterable[TrialJob]) -> None:
        """Stop the study where some of its trials were not admitted.

        Raises:
            BudgetExhausted: with the reason.
        """
        left_out = [job for job in jobs if not self.is_admitted([job])]
        if left_out:
            raise BudgetExhausted(self._describe_stop())

    def _describe_stop(self) -> str:
        budget, spent = self.budget, self.spent
        text = f"stopped at its budget of {budget.describe()}"
        seeds = sorted(unit for unit in self.trained if isinstance(unit, int))
        if seeds:
            text += f", after {format_count(len(seeds), 'seed')} in {budget.describe_spending(spent)}"
        refusal = self.refusal
        if refusal is None:
            return f"{text}: the time of the next trials is not known"
        needed = refusal.forecast
        trials = format_count(refusal.num_trials, "trial")
        extra = Spending(seconds=needed.seconds - spent.seconds, gpu_hours=needed.gpu_hours - spent.gpu_hours)
        next_trials = f"{_format_units(refusal.units)} ({trials})"
        if seeds:
            text += f": {next_trials} and the end of the study would take {budget.describe_spending(extra)} more"
            return f"{text}. The same command goes on, with a budget of its own"
        text += f": the study would take {budget.describe_spending(needed)} with {next_trials}"
        return f"{text}. Nothing was started; it takes about {budget.describe_remedy(needed)}"

    # -- forecasts -----------------------------------------------------------------------------------------------

    def _spent_with_reserve(self) -> Spending:
        spent = self.spent
        reserve = CLOSING_SECONDS if self.trained else CLOSING_SECONDS + RAY_START_SECONDS
        return replace(spent, seconds=spent.seconds + reserve)

    def _admit_unmeasured(self, units: set[Unit]) -> bool:
        """Admit the first trials where nothing is known of their time, and by which all others are forecast."""
        if self.admitted or self.budget.exceeded_by(self.spent):
            return False
        self.log(
            f"budget: the time of these trials cannot be estimated: {_format_units(tuple(units))} starts, and the rest "
            "is decided by its time"
        )
        return True

    def _load(self, bundle: Sequence[TrialJob], share_of: Callable[[TrialJob], float]) -> Load:
        after: set[Hashable] = set()
        seconds = 0.0
        for job in bundle:
            expected = SAFETY_FACTOR * self.durations.seconds_of(job.trial, len(bundle))
            seconds = max(seconds, expected * _share_left(job), key=_nan_last)
            after |= set(job.dependency_folders)
        gpus = self.gpus_of(bundle[0])
        name = bundle[0].folder
        share, others = share_of(bundle[0]), frozenset(after - {name})
        return Load(name=name, seconds=seconds, share=share, gpus=gpus, after=others, num_trials=len(bundle))

    def _running_load(self, bundle: _RunningBundle, share_of: Callable[[TrialJob], float]) -> Load:
        first, size = bundle.jobs[0], len(bundle.jobs)
        durations = [self.durations.seconds_of(job.trial, size) for job in bundle.jobs]
        expected = SAFETY_FACTOR * bundle.share_left * max(durations, key=_nan_last)
        # One that takes longer than expected may end at any moment, or not: a tenth of its time is assumed.
        remaining = max(expected - (self.clock() - bundle.started_at), expected / 10)
        gpus = self.gpus_of(first)
        return Load(name=first.folder, seconds=remaining, share=share_of(first), gpus=gpus, num_trials=size)


def _nan_last(seconds: float) -> float:
    return math.inf if math.isnan(seconds) else seconds


def _units_of(bundle: Iterable[TrialJob]) -> set[Unit]:
    return {TUNING_ROUND if job.trial.is_candidate else job.trial.seed for job in bundle}


def _join_units(bundle: Iterable[TrialJob], waiting: Sequence[Sequence[TrialJob]]) -> set[Unit]:
    """The seeds of a bundle, with those that share a bundle with one of them."""
    units = _units_of(bundle)
    while True:
        joined = set(units)
        for other in waiting:
            if _units_of(other) & joined:
                joined |= _units_of(other)
        if joined == units:
            return units
        units = joined


def _share_left(job: TrialJob) -> float:
    """Share of a trial's epochs that is left: less than 1 for one that resumes from a checkpoint."""
    folder = TrialFolder(job.folder)
    if job.retrain or not job.trial.epochs or not folder.checkpoint.exists():
        return 1.0
    num_trained = int(load_progress(job.folder / "progress.json", []).get("epoch", 0))
    return max(0.05, 1 - num_trained / job.trial.epochs)


def _has_run_whole(job: TrialJob) -> bool:
    """Whether a trial was trained from its first epoch to a result, in one go."""
    folder = TrialFolder(job.folder)
    try:
        result = folder.load_result()
    except DamagedFileError:
        return False
    return result is not None and result.status != "failed" and folder.num_attempts <= 1


def _format_units(units: Sequence[Unit]) -> str:
    seeds = sorted(unit for unit in units if isinstance(unit, int))
    if not seeds:
        return f"the next {TUNING_ROUND.removeprefix('the ')}"
    return name_seeds(seeds)
