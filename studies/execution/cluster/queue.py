"""Queue of a study's jobs: which trial may start next, and the wait for trials of other processes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from studies.execution.jobs import StartGate, TrialJob
from studies.execution.processes.trial_process import find_training_process
from studies.storage.trial_folder import TrialFolder

SHARE_TOLERANCE = 1e-6  # rounding: three jobs that take a third each must fit together
POLL_SECONDS = 1.0

Bundle = tuple[int, ...]  # jobs that one process trains at once


def bundle_jobs(jobs: Sequence[TrialJob], size_of: Callable[[TrialJob], int]) -> list[Bundle]:
    """Put jobs of one arm under several seeds together, in the order of each bundle's first job.

    Args:
        size_of: how many trials like a job one process may train at once.
    """
    bundles: list[list[int]] = []
    open_bundles: dict[str, list[int]] = {}
    for index, job in enumerate(jobs):
        size = size_of(job)
        bundle = open_bundles.get(job.trial.arm)
        if size == 1:  # must be alone: it joins no bundle, and none is opened for it
            bundles.append([index])
            continue
        if bundle is None or len(bundle) >= size:
            bundle = open_bundles[job.trial.arm] = []
            bundles.append(bundle)
        bundle.append(index)
    return [tuple(bundle) for bundle in bundles]


class TrialQueue:
    """First-in, first-out queue of jobs with dependencies and a limit on what runs at once.

    A job is ready once every job of this queue that it depends on has ended. No backfilling: the first ready job blocks
    the queue until it fits, so large jobs cannot starve.

    A job is named by its index in ``jobs``. Jobs are started in bundles, which one process trains; most are of one.

    Attributes:
        fault_counts: how many faults of the machine each job has met.
        waiting: bundles of jobs that have not started, in the order in which they may start.
        running: the jobs that run now, each with its bundle.
        unfinished: folders of all jobs that have not ended here, those trained elsewhere included.
        trained_elsewhere: folders of the jobs that another process trains.
        cancelled: the jobs that the user has cancelled, and those that depend on one.
    """

    def __init__(
        self,
        jobs: Sequence[TrialJob],
        cluster_share: Callable[[TrialJob], float],
        max_running: int = 0,
        max_retries: int = 0,
        bundles: Sequence[Bundle] | None = None,
        gate: StartGate | None = None,
    ) -> None:
        """Queue all jobs in their order.

        Args:
            jobs: the jobs to run; a job may depend on a later one.
            cluster_share: the share of all present machines that a job takes, from 0 to 1; a bundle takes as much.
            max_running: how many jobs may run at once; 0 for as many as fit.
            max_retries: how often a job that met a fault of the machine is started again.
            bundles: which jobs start together; each alone where none are given.
            gate: asked before each start; without one, all jobs start.
        """
        self.jobs = tuple(jobs)
        self.cluster_share = cluster_share
        self.max_running = max_running
        self.max_retries = max_retries
        self.gate = gate
        self.fault_counts: Counter[int] = Counter()
        single_jobs: list[Bundle] = [(index,) for index in range(len(self.jobs))]
        self.waiting = single_jobs if bundles is None else list(bundles)
        self.running: dict[int, Bundle] = {}
        self.unfinished = {job.folder for job in self.jobs}
        self.trained_elsewhere: set[Path] = set()
        self.cancelled: set[int] = set()

    def start_next(self) -> Bundle | None:
        """Start the next bundle and return it; ``None`` where none can start now."""
        bundle = self._first_ready()
        if bundle is None or not self._has_room_for(bundle):
            return None
        if self.gate and not self._is_admitted(bundle, self.gate):
            if not self.running:  # while trials run, the gate is asked again instead
                self.waiting = [other for other in self.waiting if self.gate.is_admitted(self._jobs_of(other))]
            return None
        self.waiting.remove(bundle)
        self.running.update(dict.fromkeys(bundle, bundle))
        if self.gate:
            self.gate.on_start(self._jobs_of(bundle))
        return bundle

    def _jobs_of(self, bundle: Bundle) -> tuple[TrialJob, ...]:
        return tuple(self.jobs[index] for index in bundle)

    def _is_admitted(self, bundle: Bundle, gate: StartGate) -> bool:
        jobs = self._jobs_of(bundle)
        return gate.is_admitted(jobs) or gate.admit(jobs, [*map(self._jobs_of, self.waiting)], self.cluster_share)

    def _first_ready(self) -> Bundle | None:
        for bundle in self.waiting:
            if not any(self._has_dependency_in(self.unfinished, index) for index in bundle):
                return bundle
        return None

    def _has_dependency_in(self, folders: Collection[Path], index: int) -> bool:
        return any(dependency in folders for dependency in self.jobs[index].dependency_folders)

    def _has_room_for(self, bundle: Bundle) -> bool:
        if not self.running:
            return True  # also where a node left the cluster and the job now takes more than all the others
        if self.max_running and len(self.running) + len(bundle) > self.max_running:
            return False
        running_bundles = set(self.running.values())
        taken = sum(self._share_of(running) for running in running_bundles)
        return taken + self._share_of(bundle) <= 1 + SHARE_TOLERANCE

    def _share_of(self, bundle: Bundle) -> float:
        return self.cluster_share(self.jobs[bundle[0]])

    def mark_ended(self, index: int, *, is_elsewhere: bool = False) -> None:
        """Record that a job has ended here, or that another process trains it."""
        bundle = self.running.get(index)
        if self.gate and bundle and not is_elsewhere:
            self.gate.on_trial_end(self.jobs[index], self._jobs_of(bundle))
        self._stop_running(index)
        if is_elsewhere:
            self.trained_elsewhere.add(self.jobs[index].folder)
        else:
            self.unfinished.discard(self.jobs[index].folder)

    def _stop_running(self, index: int) -> None:
        bundle = self.running.pop(index, None)
        if self.gate and bundle and bundle not in self.running.values():
            self.gate.on_end(self._jobs_of(bundle))

    def record_faults(self, indices: Sequence[int]) -> list[int]:
        """Record a fault of the machine that jobs of a bundle have met; queue again those with retries left.

        They start together once more, and alone after that: the bundle may have been too large for the memory.

        Returns:
            Of each job, how many of its starts have failed, if it is started again; 0 where it is given up.
        """
        failed_starts: list[int] = []
        retried: list[int] = []
        for index in indices:
            self.fault_counts[index] += 1
            if self.fault_counts[index] > self.max_retries:
                self.mark_ended(index)  # unblocks the jobs that depend on it; they fail for want of its weights
                failed_starts.append(0)
                continue
            self._stop_running(index)
            retried.append(index)
            failed_starts.append(self.fault_counts[index])
        is_first = all(self.fault_counts[index] == 1 for index in retried)
        self.waiting[:0] = [tuple(retried)] if retried and is_first else [(index,) for index in retried]
        return failed_starts

    # -- requests of the user ------------------------------------------------------------------------------------

    def apply_requests(self) -> list[int]:
        """Queue again what is to be trained again, and drop waiting jobs that are cancelled; returns these."""
        if not self.gate:
            return []
        retried = self.gate.take_retries()
        for index, job in enumerate(self.jobs if retried else ()):
            is_idle = index not in self.running and not any(index in bundle for bundle in self.waiting)
            if job.trial.fingerprint in retried and is_idle:
                self.cancelled.discard(index)
                self.unfinished.add(job.folder)
                self.waiting.insert(0, (index,))
        cancelled = self.gate.read_cancelled()
        waiting = [index for bundle in self.waiting for index in bundle if cancelled]
        return self._cancel(index for index in waiting if self._is_named_in(cancelled, index))

    def must_stop(self, bundle: Bundle) -> bool:
        """Whether a running job of a bundle is cancelled."""
        if not self.gate:
            return False
        cancelled = self.gate.read_cancelled()
        return any(index in self.running and self._is_named_in(cancelled, index) for index in bundle)

    def mark_stopped(self, bundle: Bundle) -> list[int]:
        """Drop the cancelled jobs of a stopped bundle, and queue the others again; returns the dropped ones."""
        cancelled = self.gate.read_cancelled() if self.gate else frozenset()
        stopped = [index for index in bundle if index in self.running]
        for index in stopped:
            self._stop_running(index)
        others = tuple(index for index in stopped if not self._is_named_in(cancelled, index))
        if others:
            self.waiting.insert(0, others)
        return self._cancel(index for index in stopped if index not in others)

    def _is_named_in(self, fingerprints: Collection[str], index: int) -> bool:
        return self.jobs[index].trial.fingerprint in fingerprints

    def _cancel(self, indices: Iterable[int]) -> list[int]:
        """Drop jobs, and the waiting ones that depend on them, directly or not: these would lack its weights."""
        dropped = list(indices)
        for index in dropped:  # grows: a dependent may have dependents of its own
            waiting = [other for bundle in self.waiting for other in bundle if other not in dropped]
            dropped += [other for other in waiting if self._has_dependency_in({self.jobs[index].folder}, other)]
        kept = [tuple(index for index in bundle if index not in dropped) for bundle in self.waiting]
        self.waiting = [bundle for bundle in kept if bundle]
        self.unfinished -= {self.jobs[index].folder for index in dropped}
        self.cancelled.update(dropped)
        return dropped

    @property
    def blocked_jobs(self) -> list[TrialJob]:
        """Waiting jobs that depend, directly or not, on a trial trained elsewhere."""
        folders = set(self.trained_elsewhere)
        blocked: list[TrialJob] = []
        for index in self._topological_order():
            if self._has_dependency_in(folders, index):
                folders.add(self.jobs[index].folder)
                blocked.append(self.jobs[index])
        return blocked

    @property
    def is_over(self) -> bool:
        """Whether no waiting job can start any more."""
        num_waiting = sum(map(len, self.waiting))
        return not num_waiting or (bool(self.trained_elsewhere) and num_waiting == len(self.blocked_jobs))

    def _topological_order(self) -> list[int]:
        """Order the waiting jobs, each after the jobs that it depends on."""
        ordered: list[int] = []
        remaining = [index for bundle in self.waiting for index in bundle]
        while remaining:
            folders = {self.jobs[index].folder for index in remaining}
            later: list[int] = []
            for index in remaining:
                if self._has_dependency_in(folders, index):
                    later.append(index)
                else:
                    ordered.append(index)
            remaining = later
        return ordered


class EndListener(Protocol):
    """Receiver of the trials that have ended in another process."""

    def on_end(self, job: TrialJob) -> None:
        """Handle a trial whose result has been written."""


def _pause() -> None:
    time.sleep(POLL_SECONDS)


def wait_for_others(
    jobs: Sequence[TrialJob],
    listener: EndListener,
    pause: Callable[[], None] = _pause,
    *,
    return_on_first_end: bool = False,
) -> list[TrialJob]:
    """Wait until other processes have trained the jobs, or have given one up.

    Args:
        jobs: jobs that other processes were training.
        listener: called with each job that has ended.
        pause: called between two readings of the trials' folders.
        return_on_first_end: return as soon as any job has ended: others depend on it.

    Returns:
        The jobs that have not ended, those that no process trains any more first; empty where all have ended.
    """
    remaining = list(jobs)
    abandoned: list[TrialJob] = []
    while remaining and not abandoned:
        if return_on_first_end and len(remaining) < len(jobs):
            break
        # Leases are read before results: the other way round, a job that ends in between would count as abandoned.
        held = [job for job in remaining if find_training_process(job)]
        for job in remaining:
            if job in held:
                continue
            if has_job_ended(job):
                listener.on_end(job)
            else:
                abandoned.append(job)
        remaining = held
        if remaining and not abandoned:
            pause()
    return [*abandoned, *remaining]


def has_job_ended(job: TrialJob) -> bool:
    """Whether a trial has ended without failing, with its weights in its folder if it trains any."""
    return TrialFolder(job.folder).is_complete(trains=job.trial.setup.has_training)
