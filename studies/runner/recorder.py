"""Show and log what running trials report, and where their runs belong in the tracking store."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lightning_modules.specs.text import format_count
from studies.console.progress import StudyProgress
from studies.design.trial import Trial
from studies.execution.jobs import TrialJob, TrialListener
from studies.records.results import Result
from studies.runner.trial_store import TrialStore
from studies.settings import redact_credentials
from studies.tracking.background import BackgroundWriter, Write
from studies.tracking.errors import STORE_ERRORS, root_cause
from studies.tracking.runs import STUDY_RUN_TAG

# Per trial. A write of 1,000 values takes 57 ms of the driver's processor: see `tracking` in benchmarks/README.md.
LOG_INTERVAL_SECONDS = 5.0

# After a failed write: each attempt blocks the writer for MLflow's whole time-out.
STORE_RETRY_SECONDS = 10.0
MAX_REASON_LENGTH = 200  # characters, about two lines of a terminal


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Parent run, tags and label of a trial's run.

    Attributes:
        tags: of the trial, beside the study's.
        label: of the trial in progress output, before its seed.
    """

    parent_run_id: str
    tags: Mapping[str, str]
    label: str

    @property
    def group(self) -> str:
        """Line of the progress display that counts the trial: its arm, or the rung of its search."""
        if "rung" in self.tags:
            return f"{self.tags['search']}, rung {int(self.tags['rung']) + 1}"
        return self.label


def candidate_placement(trial: Trial, arm: str, rung: int, search_run_id: str, study_run_id: str) -> Placement:
    """Placement of a candidate, or of a network that it starts from, below its search.

    Args:
        arm: whose search the candidate serves; the trial's own name differs if it is a source network.
        rung: of successive halving, from 0.
    """
    tags = {
        "kind": "candidate",
        "search": arm,
        "candidate": str(trial.candidate),
        "rung": str(rung),
        STUDY_RUN_TAG: study_run_id,
    }
    return Placement(parent_run_id=search_run_id, tags=tags, label=f"{trial.arm}, candidate {trial.candidate}")


def tuned_placement(trial: Trial, study_run_id: str) -> Placement:
    """Placement of a trial under the recipe that its arm was tuned to."""
    return Placement(parent_run_id=study_run_id, tags={"recipe": "tuned"}, label=f"{trial.arm}, tuned")


class TrialRuns(Protocol):
    """Runs of trials in the tracking store, as a recorder logs them."""

    def placement_of(self, trial: Trial) -> Placement:
        """Where a trial's run belongs."""

    def start_trial(self, trial: Trial) -> str:
        """Create the run of a trial that starts now; returns its id."""

    def log_epochs(self, run_id: str, epochs: Iterable[Mapping[str, float]]) -> None:
        """Log the metrics of some epochs of a running trial."""

    def log_result(self, run_id: str, trial: Trial, result: Result, *, with_curves: bool) -> None:
        """Log a trial's result, with its curves unless they were logged while it ran."""

    def cancel_reasons(self, trials: Sequence[Trial]) -> Mapping[Trial, str]:
        """The trials of these that the user has cancelled, and those that depend on one, each with its reason."""

    def log_cancelled_trial(self, trial: Trial, reason: str) -> None:
        """Log that the user has cancelled a trial."""


class RunRecorder(TrialListener):
    """Shows progress, and logs it in the background; what the store refuses, the next start logs from the folders.

    No thread waits for another: ``run_ids``, ``logged_epochs``, ``incompletely_logged`` and ``retry_at`` belong to the
    writer's thread, ``unlogged_ends`` to both, all other attributes to the dispatcher's.
    """

    def __init__(
        self, runs: TrialRuns, trial_store: TrialStore, progress: StudyProgress, writer: BackgroundWriter
    ) -> None:
        self.runs, self.trial_store, self.progress, self.writer = runs, trial_store, progress, writer
        self.run_ids: dict[Trial, str] = {}
        self.logged_epochs: dict[Trial, set[int]] = {}
        self.incompletely_logged: set[Trial] = set()
        self.unlogged_ends: dict[Trial, Write] = {}
        self.retry_at = 0.0
        self.pending_epochs: dict[Trial, list[Mapping[str, float]]] = {}
        self.logged_at: dict[Trial, float] = {}
        self.trained_elsewhere: set[Trial] = set()

    # -- reports of the dispatcher -------------------------------------------------------------------------------

    def on_start(self, job: TrialJob, bundle_size: int) -> None:
        """Show that a trial has a worker, and create its run."""
        self.progress.start_trial(job.folder.name, bundle_size)
        self.pending_epochs.pop(job.trial, None)  # of an attempt that failed
        self._enqueue_write(job.trial, lambda: self._start_run(job.trial))

    def on_epoch(self, job: TrialJob, values: Mapping[str, float], node: str) -> None:
        """Show an epoch, and log it with others every few seconds."""
        trial = job.trial
        self.progress.log_epoch(job.folder.name, values, node)
        self.trained_elsewhere.discard(trial)
        self.pending_epochs.setdefault(trial, []).append(values)
        if time.monotonic() - self.logged_at.get(trial, 0.0) > LOG_INTERVAL_SECONDS:
            self.logged_at[trial] = time.monotonic()
            epochs = self.pending_epochs.pop(trial)
            self._enqueue_write(trial, lambda: self._log_epochs(trial, epochs))

    def on_note(self, job: TrialJob, text: str) -> None:
        """Print a message of a trial."""
        self.progress.print_message(f"{self._describe(job.trial)}: {text}")

    def on_elsewhere(self, job: TrialJob, who: str) -> None:
        """Print once that a trial is waited for."""
        self.progress.wait_for_trial(job.folder.name)
        if job.trial not in self.trained_elsewhere:  # reported again and again while it is waited for
            self.progress.print_message(f"{self._describe(job.trial)} is being trained by {who}: waiting for it")
        self.trained_elsewhere.add(job.trial)

    def on_end(self, job: TrialJob) -> None:
        """Show and log a trial's result."""
        self.trial_store.fetch_result(job.trial)
        self._record_end(job, self.trial_store.read_result(job.trial))

    def on_fault(self, job: TrialJob, reason: str, tries: int, most: int) -> None:
        """Record a fault after which the trial is tried again."""
        message = last_line(reason)
        self.trial_store.record_fault(job.trial, message)
        self.progress.print_message(f"{self._describe(job.trial)}: {message} (tried again: {tries + 1} of {most})")

    def on_lost(self, job: TrialJob, reason: str) -> None:
        """Record a failed result for a trial that used up its attempts."""
        self.trial_store.record_fault(job.trial, last_line(reason))
        self._record_end(job, self.trial_store.fail_trial(job, reason))

    def on_cancel(self, job: TrialJob) -> None:
        """Record that the user has cancelled a trial."""
        self.pending_epochs.pop(job.trial, None)
        reason = self.runs.cancel_reasons([job.trial]).get(job.trial)
        if reason:  # else the cancellation was taken back meanwhile: the next start trains the trial
            self._enqueue_end(job.trial, lambda: self.runs.log_cancelled_trial(job.trial, reason))
        self.progress.finish_trial(job.folder.name, "cancelled", None)

    def _record_end(self, job: TrialJob, result: Result) -> None:
        epochs = self.pending_epochs.pop(job.trial, [])
        self._enqueue_end(job.trial, lambda: self._end_run(job.trial, result, epochs))
        error = result.metrics.get("validation_error" if job.trial.is_candidate else "test_error")
        self.progress.finish_trial(job.folder.name, result.status, error)

    def _describe(self, trial: Trial) -> str:
        return f"{self.runs.placement_of(trial).label}, seed {trial.seed}"

    # -- writes, in the background thread ------------------------------------------------------------------------

    def _start_run(self, trial: Trial) -> None:
        self.run_ids[trial] = self.runs.start_trial(trial)
        self.logged_epochs[trial] = set()

    def _log_epochs(self, trial: Trial, epochs: Sequence[Mapping[str, float]]) -> None:
        if trial in self.run_ids:  # else the store refused its start
            self.runs.log_epochs(self.run_ids[trial], epochs)
            self.logged_epochs[trial].update(int(values["epoch"]) for values in epochs)

    def _end_run(self, trial: Trial, result: Result, epochs: Sequence[Mapping[str, float]]) -> None:
        if trial not in self.run_ids:
            self._start_run(trial)
        if trial not in self.incompletely_logged:  # else all epochs are logged below
            self._log_epochs(trial, epochs)
        # Epochs are missing where the store refused some, or another process trained the trial: log all of them.
        is_incomplete = self.logged_epochs[trial] != set(range(len(result.times)))
        with_curves = trial in self.incompletely_logged or is_incomplete
        self.runs.log_result(self.run_ids[trial], trial, result, with_curves=with_curves)

    def log_missed_ends(self) -> None:
        """Log the results and cancellations that the store refused; called once no write is waiting.

        Without them, a report or an interim analysis would be of fewer trials than have ended. Where the store still
        refuses one, the next start logs it.
        """
        for trial, write in [*self.unlogged_ends.items()]:
            try:
                self._log_end(trial, write)
            except STORE_ERRORS as error:
                reason = _failure_reason(error)
                trials = format_count(len(self.unlogged_ends), "ended trial")
                self.progress.print_message(
                    f"{trials} could not be logged: the tracking store failed ({reason}); the next start logs them"
                )
                return

    def _enqueue_end(self, trial: Trial, write: Write) -> None:
        self.unlogged_ends[trial] = write
        self._enqueue_write(trial, lambda: self._log_end(trial, write))

    def _log_end(self, trial: Trial, write: Write) -> None:
        write()
        if self.unlogged_ends.get(trial) is write:  # else it was tried again, and has another end
            del self.unlogged_ends[trial]

    def _enqueue_write(self, trial: Trial, write: Write) -> None:
        self.writer.add(lambda: self._write_or_defer(trial, write))

    def _write_or_defer(self, trial: Trial, write: Write) -> None:
        if time.monotonic() < self.retry_at:
            self.incompletely_logged.add(trial)
            return
        try:
            write()
        except STORE_ERRORS as error:
            if trial not in self.incompletely_logged:
                reason = _failure_reason(error)
                self.progress.print_message(
                    f"{self._describe(trial)}: the tracking store failed ({reason}); what it missed is logged later"
                )
            self.incompletely_logged.add(trial)
            self.retry_at = time.monotonic() + STORE_RETRY_SECONDS


def _failure_reason(error: Exception) -> str:
    return redact_credentials(last_line(root_cause(error)))


def last_line(reason: str) -> str:
    """Last line of a reason, which may be a traceback."""
    lines = reason.strip().splitlines() or ["no reason given"]
    return textwrap.shorten(lines[-1], MAX_REASON_LENGTH, placeholder=" ...")
