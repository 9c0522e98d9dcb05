"""Dispatch of jobs over CPUs and GPUs by Ray Tune, which is used in this file alone.

The order is decided by :class:`studies.execution.cluster.queue.TrialQueue` instead of Tune, and each trial writes its
own result, so that nothing is lost with Tune's state.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before Ray is imported: it reads some of these as it loads.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # see studies.execution.resources.configure_ray
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # MLflow holds the record
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "1000")  # the queue starts only jobs that fit
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")  # see studies.execution.cluster.ray_cluster

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from studies.execution.cluster import ray_cluster
from studies.execution.cluster.queue import TrialQueue, bundle_jobs, wait_for_others
from studies.execution.interrupts import keep_interrupt_handler, waiting_for_ray
from studies.execution.jobs import StartGate, TrialJob, TrialListener, TrialMessage
from studies.execution.processes import fork_server
from studies.execution.processes.bundle_process import FailedStart, TrialProcess
from studies.execution.processes.bundle_size import can_join_bundle
from studies.execution.processes.fork_server import ForkClient, ForkError
from studies.execution.resources import ResourceRequest, Resources
from studies.hardware import Machine
from studies.scratch import process_folder
from studies.settings import Settings

if TYPE_CHECKING:
    from studies.execution.processes.data_parallel import DataParallelWorkers

    TrialHandle = TrialProcess | FailedStart | DataParallelWorkers

MAX_RETRIES = 2  # after faults of the machine; an exception of the trial itself is its result, and is not retried here
MAX_USER_RETRIES = 1_000  # by `ablate retry`, and of bundles of which a trial was cancelled
HEAD_NODE_RESOURCE = "node:__internal_head__"  # Ray gives 1.0 of it to each cluster's head node
NEGLIGIBLE_AMOUNT = 0.001  # Tune wants a resource for each actor; a thousand data-parallel trials fit
SWITCH_INTERVAL_SECONDS = 0.0005  # Python's default is ten times as long


def dispatch_jobs(
    jobs: Sequence[TrialJob],
    settings: Settings,
    resources: Resources,
    listener: TrialListener,
    bundle_size: int = 1,
    gate: StartGate | None = None,
) -> None:
    """Run all jobs on the available CPUs and GPUs, in their order, each after the jobs that it depends on.

    Up to ``bundle_size`` trials of an arm share a process and its GPU. Jobs that the gate does not admit are left.

    Jobs that another process trains are waited for; those that it gives up are run here.

    Raises:
        KeyboardInterrupt: after a Ctrl-C, once the running trials have been stopped; what had ended stays ended.
    """
    with ray_cluster.ray_session(resources, jobs[0].import_paths if jobs else ()), _short_switch_interval():
        remaining = list(jobs)
        while remaining:
            queue = _run_queue(remaining, settings, resources, listener, bundle_size, gate)
            elsewhere = [job for job in remaining if job.folder in queue.trained_elsewhere]
            blocked = queue.blocked_jobs
            unfinished = wait_for_others(elsewhere, listener, return_on_first_end=bool(blocked))
            remaining = [*unfinished, *blocked]


@contextmanager
def _short_switch_interval() -> Iterator[None]:
    """Let Python switch threads more often: a thread that logs to MLflow delays the one that starts trials less."""
    previous = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(previous)


def _run_queue(
    jobs: Sequence[TrialJob],
    settings: Settings,
    resources: Resources,
    listener: TrialListener,
    bundle_size: int,
    gate: StartGate | None,
) -> TrialQueue:
    """Run jobs with Tune, except those that another process trains and those that depend on one of these."""
    scratch = _scratch_folder(settings, resources)
    bundles = bundle_jobs(jobs, lambda job: bundle_size if can_join_bundle(job.trial.setup) else 1)
    cluster_share = ray_cluster.make_share_function(resources)
    queue = TrialQueue(jobs, cluster_share, resources.max_concurrent, MAX_RETRIES, bundles, gate)
    requests = [resources.request_of(job.trial.arm) for job in jobs]
    # Tune pickles these with every trial, so equal requests share one placement group.
    distinct_requests = list(dict.fromkeys(requests))
    placement_groups = [_placement_group(request) for request in distinct_requests]
    worker = tune.with_resources(
        tune.with_parameters(
            _TrialWorker,
            jobs=_with_sent_paths(jobs, resources),
            settings=_without_tracking_uri(settings),
            resources=resources,
            scratch=scratch,
            server="" if resources.address else fork_server.server_address(),
        ),
        lambda config: placement_groups[config["request"]],
    )
    tuner = tune.Tuner(
        worker,
        tune_config=tune.TuneConfig(
            reuse_actors=True,  # a new actor takes seconds
            num_samples=len(jobs) * (1 + MAX_RETRIES) + MAX_USER_RETRIES,
            search_alg=_QueueSearcher(queue, listener, [distinct_requests.index(request) for request in requests]),
            scheduler=_CancelScheduler(queue),
        ),
        run_config=tune.RunConfig(
            name="dispatch",
            storage_path=str(scratch),
            callbacks=[_ListenerCallback(queue, listener)],
            # The queue retries, so that a worker that died and a process that died are counted alike.
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
            # In a notebook Tune would choose a reporter that clears the output of the cell, even if it reports nothing.
            progress_reporter=tune.CLIReporter(),
        ),
    )
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        with keep_interrupt_handler(), waiting_for_ray():
            tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if queue.running or not queue.is_over:
        raise KeyboardInterrupt  # Tune returns normally after a Ctrl-C
    return queue


def _scratch_folder(settings: Settings, resources: Resources) -> Path:
    """Folder for the temporary files of Tune and Ray Train.

    It is shared by the nodes of a cluster, unless an object store holds the trials: then no node reads what another one
    has written there. On one machine it is off the trials' disk, which may be slow.
    """
    if not resources.address:
        return process_folder() / "tune"
    parent = Path(tempfile.gettempdir()) if settings.object_store_uri else settings.shared_folder
    return parent / f"ray-{platform.node()}-{os.getpid()}"


def _with_sent_paths(jobs: Sequence[TrialJob], resources: Resources) -> list[TrialJob]:
    """Adapt the jobs to their workers: on a cluster the user's modules lie beside this package."""
    if not resources.address:
        return list(jobs)
    return [replace(job, import_paths=ray_cluster.sent_import_paths(job.import_paths)) for job in jobs]


def _without_tracking_uri(settings: Settings) -> Settings:
    """Drop the tracking store's address, which may hold a password: workers do not access the store."""
    return replace(settings, tracking_uri="")


def _placement_group(request: ResourceRequest) -> tune.PlacementGroupFactory:
    """Resources that Tune reserves for a trial; next to none for several workers, as Ray Train reserves theirs."""
    if request.workers_per_trial > 1:
        return tune.PlacementGroupFactory([{HEAD_NODE_RESOURCE: NEGLIGIBLE_AMOUNT}])
    bundle = {"CPU": float(request.cpus_per_trial)}
    if request.gpus_per_trial:
        bundle["GPU"] = request.gpus_per_trial
    return tune.PlacementGroupFactory([bundle])


class _QueueSearcher(Searcher):
    """Tune's searcher interface to the queue: "suggests" the next job.

    Attributes:
        request_indices: of each job, the index of its resource request among the distinct ones.
    """

    def __init__(self, queue: TrialQueue, listener: TrialListener, request_indices: Sequence[int]) -> None:
        super().__init__()
        self.queue, self.listener = queue, listener
        self.request_indices = request_indices

    def __getstate__(self) -> dict[str, Any]:
        """Return an empty state: Tune pickles its searcher for a restore that is never requested."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """Start the next bundle and return its configuration; ``None`` where none can start yet."""
        for index in self.queue.apply_requests():
            self.listener.on_cancel(self.queue.jobs[index])
        bundle = self.queue.start_next()
        if bundle is not None:
            return {"jobs": bundle, "request": self.request_indices[bundle[0]]}
        has_finished = self.queue.is_over and not self.queue.running  # a running job may meet a fault, and be retried
        return Searcher.FINISHED if has_finished else None

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Accept whatever is to be optimized: nothing is."""
        return True

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: the callback records the end."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: there is no state to save."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: there is no state to restore."""


class _CancelScheduler(FIFOScheduler):
    """Stops a running bundle of which a trial is cancelled, at its next message."""

    def __init__(self, queue: TrialQueue) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.queue = queue

    def __getstate__(self) -> dict[str, Any]:
        return {}  # as that of the searcher

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide whether a trial of Tune goes on."""
        if not self.queue.must_stop(trial.config["jobs"]):
            return str(TrialScheduler.CONTINUE)
        # Tune keeps the actor for another trial: without one, the training would go on to its end unseen.
        trial.temporary_state.ray_actor.stop_jobs.remote()
        return str(TrialScheduler.STOP)


class _TrialWorker(tune.Trainable):
    """Ray actor that trains one trial or bundle after the other, each in a new process or by several workers.

    The process is forked from a server that has torch loaded: no trial sees the state that another one left behind, and
    none waits seconds for the imports.
    """

    def setup(  # type: ignore[override]
        self,
        config: dict[str, Any],
        jobs: list[TrialJob],
        settings: Settings,
        resources: Resources,
        scratch: Path,
        server: str,
    ) -> None:
        self.jobs = jobs
        self.settings = settings
        self.resources = resources
        self.scratch = scratch
        self.server = server
        # Started by the first step: where another actor becomes free while this one is being set up, Tune gives the
        # trial to that one and drops this one, whose process would train the same trial, and be killed at any moment.
        self.trial_process: TrialHandle | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        previous = self.trial_process
        if isinstance(previous, TrialProcess):
            self._start_jobs(new_config)  # the new process starts while the previous one still frees its memory
            previous.stop()
        else:
            self.stop_jobs()  # first: the workers hold the CPUs and GPUs that the next trial may need
            self._start_jobs(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Wait for the next messages of the trial.

        A fault of the machine ends the trial, not this actor: a new actor would take seconds.
        """
        process = self.trial_process or self._start_jobs(self.config)
        messages = process.listen()
        return {"messages": messages, "done": process.has_ended}

    def cleanup(self) -> None:
        self.stop_jobs()
        if "forks" in vars(self):  # do not start a server in order to close it
            self.forks.close()

    @cached_property
    def forks(self) -> ForkClient:
        """Client of the fork server; created when the first single-process trial starts."""
        return ForkClient(self.server)

    def _start_jobs(self, config: dict[str, Any]) -> TrialHandle:
        jobs = [self.jobs[index] for index in config["jobs"]]
        request = self.resources.request_of(jobs[0].trial.arm)
        if request.workers_per_trial > 1:
            self.trial_process = self._start_data_parallel(jobs[0], request)
        else:
            self.trial_process = self._start_process(jobs, request)
        return self.trial_process

    def stop_jobs(self) -> None:
        """Kill the process of the last trial, if it has not ended."""
        if self.trial_process:
            self.trial_process.stop()

    def _start_process(self, jobs: Sequence[TrialJob], request: ResourceRequest) -> TrialProcess | FailedStart:
        machine = Machine(
            device=request.device,
            num_threads=request.cpus_per_trial,
            gpu_memory_fraction=min(1.0, request.gpus_per_trial or 1.0),
        )
        try:
            return TrialProcess(self.forks, jobs, self.settings, machine)
        except ForkError as error:
            return FailedStart(len(jobs), str(error))

    def _start_data_parallel(self, job: TrialJob, request: ResourceRequest) -> DataParallelWorkers:
        from studies.execution.processes.data_parallel import DataParallelWorkers  # imports Ray Train: a second

        return DataParallelWorkers(job, self.settings, request, self.scratch, loopback=not self.resources.address)


class _ListenerCallback(tune.Callback):  # the signatures are Tune's
    """Forward Tune's events to the queue and to the driver's listener."""

    def __init__(self, queue: TrialQueue, listener: TrialListener) -> None:
        self.queue = queue
        self.listener = listener

    def __getstate__(self) -> dict[str, Any]:
        """Return an empty state: Tune pickles callbacks for a restore that is never requested; listeners hold locks."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        for job in self._jobs_of(trial):
            self.listener.on_start(job, len(trial.config["jobs"]))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        messages: list[TrialMessage] = result["messages"]
        bundle: tuple[int, ...] = trial.config["jobs"]
        for message in messages:
            index = bundle[message.position]
            job = self.queue.jobs[index]
            if message.kind == "epoch":
                self.listener.on_epoch(job, message.values, message.text)
            elif message.kind == "note":
                self.listener.on_note(job, message.text)
            elif message.kind == "ended":
                self.queue.mark_ended(index)
                self.listener.on_end(job)
            elif message.kind == "elsewhere":
                self.queue.mark_ended(index, is_elsewhere=True)
                self.listener.on_elsewhere(job, message.text)
        faults = {bundle[message.position]: message.text for message in messages if message.kind == "fault"}
        self._handle_faults(faults)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        unfinished = [index for index in trial.config["jobs"] if index in self.queue.running]
        self._handle_faults(dict.fromkeys(unfinished, "the trial's worker died"))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        for index in self.queue.mark_stopped(trial.config["jobs"]):
            self.listener.on_cancel(self.queue.jobs[index])

    def _handle_faults(self, reasons: Mapping[int, str]) -> None:
        """Handle faults of jobs of one bundle, by index."""
        all_failed_starts = self.queue.record_faults(list(reasons))
        for (index, reason), failed_starts in zip(reasons.items(), all_failed_starts, strict=True):
            job = self.queue.jobs[index]
            if failed_starts:
                self.listener.on_fault(job, reason, failed_starts, 1 + MAX_RETRIES)
            else:
                self.listener.on_lost(job, reason)

    def _jobs_of(self, trial: Any) -> list[TrialJob]:
        return [self.queue.jobs[index] for index in trial.config["jobs"]]
