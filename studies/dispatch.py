"""Ray Tune, in this one file: which trial runs where and when. What it dispatches writes its own durable results."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # bind to the loopback interface alone
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the record is MLflow's, not Tune's
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves the machine unasked
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray import tune

from lightning_modules.values import check, require
from studies.child import Child
from studies.jobs import Job
from studies.machine import Machine, cores
from studies.settings import Settings
from studies.waiting import wait_for_others

RETRIES = 2  # of a trial that met a fault of the machine; an exception of its own is a result and is not retried here


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one trial takes, and how many may run at once (0: as many as fit).

    Raises:
        InvalidValue: for more than this machine has: such a trial would wait for ever.
    """

    cpus_per_trial: int = 1
    gpus_per_trial: float = 0.0
    max_concurrent: int = 0

    def __post_init__(self) -> None:
        check(self)
        require(1 <= self.cpus_per_trial <= cores(), self, "cpus_per_trial", f"1 to this machine's {cores()} cores")
        require(0 <= self.gpus_per_trial <= 1, self, "gpus_per_trial", "0 (no GPU), a share of one, or 1")
        require(self.max_concurrent >= 0, self, "max_concurrent", "0 (as many as fit) or more")
        if self.gpus_per_trial:
            import torch

            require(torch.cuda.is_available(), self, "gpus_per_trial", "0: no GPU is visible to this process")

    @property
    def device(self) -> str:
        """``cuda`` where a trial takes a GPU or a share of one, else ``cpu``."""
        return "cuda" if self.gpus_per_trial else "cpu"


class Watcher(Protocol):
    """What the driver wants to know while trials run; called in the driver's own thread."""

    def on_start(self, job: Job) -> None:
        """A trial has a worker; called again where its process died and it is tried once more."""

    def on_epoch(self, job: Job, values: Mapping[str, float]) -> None:
        """A trial has trained an epoch."""

    def on_end(self, job: Job) -> None:
        """A trial has written its result."""

    def on_lost(self, job: Job, reason: str) -> None:
        """A trial met a fault of the machine again and again, and has no result."""

    def on_elsewhere(self, job: Job, who: str) -> None:
        """A trial is being trained by another process, of another study or host: it is waited for."""

    def on_note(self, job: Job, text: str) -> None:
        """A trial has news in words."""


@contextmanager
def engine() -> Iterator[None]:
    """Ray, for as long as this lasts: what dispatches several times within it starts Ray once."""
    if ray.is_initialized():
        yield
        return
    _start_ray()
    try:
        yield
    finally:
        ray.shutdown()


def dispatch(jobs: Sequence[Job], settings: Settings, resources: Resources, watcher: Watcher) -> None:
    """Run all jobs over the CPUs and GPUs there are: donors before those who start from them, else in their order.

    Raises:
        KeyboardInterrupt: after a Ctrl-C, once the running trials have been stopped; what had ended stays ended.
    """
    with engine():
        for generation in generations(jobs):
            remaining = list(generation)
            while remaining:
                elsewhere = _run(remaining, settings, resources, watcher)
                remaining = wait_for_others(elsewhere, watcher)


def generations(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs in groups, one after the other: none starts from a donor that is in its own group or in a later one."""
    waiting, groups = list(jobs), []
    while waiting:
        folders = {job.folder for job in waiting}
        groups.append([job for job in waiting if job.donor not in folders])
        waiting = [job for job in waiting if job.donor in folders]
    return groups


def _run(jobs: Sequence[Job], settings: Settings, resources: Resources, watcher: Watcher) -> list[Job]:
    """Run jobs; gives back those that another process was training."""
    scratch = settings.runs / f"ray-{os.getpid()}"
    worker = tune.with_resources(
        tune.with_parameters(_Worker, jobs=list(jobs), settings=settings, resources=resources),
        {"cpu": resources.cpus_per_trial, "gpu": resources.gpus_per_trial},
    )
    report = _Report(jobs, watcher)
    tuner = tune.Tuner(
        worker,
        param_space={"job": tune.grid_search(list(range(len(jobs))))},
        tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=resources.max_concurrent or None),
        run_config=tune.RunConfig(
            name="dispatch",
            storage_path=str(scratch),
            callbacks=[report],
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if report.interrupted:
        raise KeyboardInterrupt
    return report.elsewhere


def _start_ray() -> None:
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # faults reach the user as results, with their traceback
    ray.init(
        address="local",
        num_cpus=cores(),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )


class _Worker(tune.Trainable):
    """An actor that lives on from trial to trial and forks a clean child for each, from a server with torch loaded."""

    def setup(self, config: dict[str, Any], jobs: list[Job], settings: Settings, resources: Resources) -> None:  # type: ignore[override]
        self.jobs, self.settings = jobs, settings
        self.machine = Machine(device=resources.device, threads=resources.cpus_per_trial)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["studies.training", "studies.child"])
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.child.stop()
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """The next epoch of the child, or its end."""
        message = self.child.listen()
        return {"message": message, "done": message.kind in ("ended", "elsewhere")}

    def cleanup(self) -> None:
        self.child.stop()

    def _begin(self, config: dict[str, Any]) -> None:
        self.child = Child(self.context, self.jobs[config["job"]], self.settings, self.machine)


class _Report(tune.Callback):  # the signatures are Tune's
    """Tune's events, as the driver's watcher wants them."""

    def __init__(self, jobs: Sequence[Job], watcher: Watcher) -> None:
        self.jobs, self.watcher = jobs, watcher
        self.ended: set[int] = set()
        self.elsewhere: list[Job] = []

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks for a restore that is never asked for, and views hold locks."""
        return {}

    @property
    def interrupted(self) -> bool:
        """Whether Tune returned before every job had come to an end."""
        return len(self.ended) < len(self.jobs)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.watcher.on_start(self.jobs[trial.config["job"]])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        job, message = self.jobs[trial.config["job"]], result["message"]
        if message.kind == "epoch":
            self.watcher.on_epoch(job, message.values)
        elif message.kind == "note":
            self.watcher.on_note(job, message.text)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.ended.add(trial.config["job"])
        job, message = self.jobs[trial.config["job"]], trial.last_result["message"]
        if message.kind == "elsewhere":
            self.elsewhere.append(job)
            self.watcher.on_elsewhere(job, message.text)
        else:
            self.watcher.on_end(job)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.ended.add(trial.config["job"])
        reason = str(trial.get_error() or "its worker died")
        self.watcher.on_lost(self.jobs[trial.config["job"]], reason)
