"""Ray Tune, in this one file: which trial runs where and when. What it dispatches writes its own durable results."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
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
from studies.digests import class_paths, user_code_digest
from studies.fits import Fit
from studies.machine import cores
from studies.settings import Settings
from studies.spool import Spool

EDITED = (
    "the code behind it is not what it was as the study started. Expected the same files until the last trial has "
    "started: call `ablate run` again, which trains what is there now."
)
RETRIES = 2  # of a trial whose worker died; an exception inside a trial is a result and is not retried here


@dataclass(frozen=True, kw_only=True)
class Job:
    """A fit with all that a worker needs to train it anywhere.

    Attributes:
        donor: folder of the trial that it starts from, where it does.
        import_paths: folders in which Python finds the user's modules.
    """

    fit: Fit
    folder: Path
    digests: Mapping[str, str]
    donor: Path | None = None
    import_paths: tuple[str, ...] = ()


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
        """A trial's process died, again and again, without a result."""


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
            _run(generation, settings, resources, watcher)


def generations(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs in groups, one after the other: none starts from a donor that is in its own group or in a later one."""
    waiting, groups = list(jobs), []
    while waiting:
        folders = {job.folder for job in waiting}
        groups.append([job for job in waiting if job.donor not in folders])
        waiting = [job for job in waiting if job.donor in folders]
    return groups


def _run(jobs: Sequence[Job], settings: Settings, resources: Resources, watcher: Watcher) -> None:
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
    """An actor that lives on from trial to trial and forks a clean child for each, from a server with torch loaded.

    The child is no daemon: those may have no children, and a user's data loader may want workers.
    """

    def setup(self, config: dict[str, Any], jobs: list[Job], settings: Settings, resources: Resources) -> None:  # type: ignore[override]
        self.jobs, self.settings, self.resources = jobs, settings, resources
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["studies.training"])
        self.child: Any = None
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._stop_child()
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """The next epoch of the child, or its end."""
        try:
            return {"values": self.receiver.recv(), "done": False}
        except EOFError:
            self.child.join()
        if Spool(self.job.folder).result() is None:
            raise RuntimeError(f"the trial's process ended with exit code {self.child.exitcode} and left no result")
        return {"values": None, "done": True}

    def cleanup(self) -> None:
        self._stop_child()

    def _begin(self, config: dict[str, Any]) -> None:
        self.job = self.jobs[config["job"]]
        self.receiver, sender = self.context.Pipe(duplex=False)
        self.child = self.context.Process(
            target=_train_in_child, args=(self.job, self.settings, self.resources, sender)
        )
        self.child.start()
        sender.close()

    def _stop_child(self) -> None:
        if self.child is not None and self.child.is_alive():
            self.child.terminate()
            self.child.join()


def _train_in_child(job: Job, settings: Settings, resources: Resources, sender: Connection) -> None:
    import warnings

    sys.path[:0] = job.import_paths
    multiprocessing.set_start_method(None, force=True)  # the platform's own, for data loaders that have workers
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=r".*LeafSpec.*")

    from lightning_modules.reading import examples_of
    from studies.results import failed
    from studies.training import Machine, train

    if _is_edited(job):
        reason = f"{', '.join(class_paths([job.fit.setup]))}: {EDITED}"
        Spool(job.folder).write(failed(job.fit.fingerprint, job.digests, reason))
        return
    machine = Machine(device=resources.device, threads=resources.cpus_per_trial)
    examples = examples_of(job.fit.setup, settings.data_root, settings.cache)

    def report(epoch: Mapping[str, float]) -> None:
        try:
            sender.send(dict(epoch))
        except OSError:  # nobody listens any more: end at once; the next start goes on from the checkpoint
            os._exit(1)

    train(job.fit, examples, job.folder, digests=job.digests, machine=machine, donor=job.donor, report=report)
    sender.close()


def _is_edited(job: Job) -> bool:
    """Whether the user's code is no longer what the driver saw."""
    paths = class_paths([job.fit.setup])
    try:
        return bool(paths) and user_code_digest(paths) != job.digests.get("user_code", "")
    except (SyntaxError, ValueError):  # in the middle of an edit
        return True


class _Report(tune.Callback):  # the signatures are Tune's
    """Tune's events, as the driver's watcher wants them."""

    def __init__(self, jobs: Sequence[Job], watcher: Watcher) -> None:
        self.jobs, self.watcher = jobs, watcher
        self.ended: set[int] = set()

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
        if result.get("values"):
            self.watcher.on_epoch(self.jobs[trial.config["job"]], result["values"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.ended.add(trial.config["job"])
        self.watcher.on_end(self.jobs[trial.config["job"]])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.ended.add(trial.config["job"])
        reason = str(trial.get_error() or "its worker died")
        self.watcher.on_lost(self.jobs[trial.config["job"]], reason)
