"""Ray Tune, in this one file: which trial runs where and when. What it dispatches writes its own durable results."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # see studies.resources.choose_ray
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the record is MLflow's, not Tune's
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "1000")  # the line lets in only whom there is room for
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")  # see studies.cluster

from ray import tune
from ray.tune.search import Searcher

from studies import cluster, forks
from studies.child import LAST, Child, NeverBegun
from studies.forks import Forks, NoChild
from studies.jobs import Job, Watcher
from studies.line import Line
from studies.machine import Machine
from studies.resources import Need, Resources, share_of
from studies.settings import Settings
from studies.waiting import wait_for_others

if TYPE_CHECKING:
    from studies.together import Together

RETRIES = 2  # of a trial that met a fault of the machine; an exception of its own is a result and is not retried here
COUNT_NODES_EVERY_SECONDS = 2.0
HARDLY_ANYTHING = 0.001  # of a resource that every cluster's head node has, once


def dispatch(jobs: Sequence[Job], settings: Settings, resources: Resources, watcher: Watcher) -> None:
    """Run all jobs over the CPUs and GPUs there are: donors before those who start from them, else in their order.

    Raises:
        KeyboardInterrupt: after a Ctrl-C, once the running trials have been stopped; what had ended stays ended.
    """
    with cluster.engine(resources, jobs[0].import_paths if jobs else ()), _turns_are_short():
        remaining = list(jobs)
        while remaining:
            line = _run(remaining, settings, resources, watcher)
            elsewhere = [job for job in remaining if job.folder in line.elsewhere]
            remaining = [*wait_for_others(elsewhere, watcher, until_one=bool(line.held)), *line.held]


@contextmanager
def _turns_are_short() -> Iterator[None]:
    """The thread that writes to the record holds up the one that starts trials for half a millisecond, not for five."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def _run(jobs: Sequence[Job], settings: Settings, resources: Resources, watcher: Watcher) -> Line:
    """Run jobs, save those that another process is training and those that start from such a one."""
    scratch = _scratch(settings, resources)
    line = Line(jobs, _share(resources), resources.max_concurrent, RETRIES)
    needs = [resources.of(job.fit.arm) for job in jobs]
    kinds = list(dict.fromkeys(needs))
    taken = [_taken_by(need) for need in kinds]  # few: Tune unpickles them once more for every trial
    worker = tune.with_resources(
        tune.with_parameters(
            _Worker,
            jobs=_as_sent(jobs, resources),
            settings=_public(settings),
            resources=resources,
            scratch=scratch,
            server="" if resources.address else forks.address(),
        ),
        lambda config: taken[config["need"]],
    )
    tuner = tune.Tuner(
        worker,
        tune_config=tune.TuneConfig(
            reuse_actors=True,
            num_samples=len(jobs) * (1 + RETRIES),
            search_alg=_Next(line, [kinds.index(need) for need in needs]),
        ),
        run_config=tune.RunConfig(
            name="dispatch",
            storage_path=str(scratch),
            callbacks=[_Report(line, watcher)],
            failure_config=tune.FailureConfig(max_failures=0),  # the line tries again: also whose worker died before
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        with cluster.handler_kept():
            tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if line.running or not line.is_over:
        raise KeyboardInterrupt
    return line


def _scratch(settings: Settings, resources: Resources) -> Path:
    """Where Tune and Ray Train keep what they need while they run; on one machine not on the disk of the trials.

    Where trials are kept in a bucket, nodes need share no folder: the nodes write nothing there that others read.
    """
    shared = settings.shared if resources.address and not settings.bucket else Path(tempfile.gettempdir())
    return shared / f"ray-{platform.node()}-{os.getpid()}"


def _as_sent(jobs: Sequence[Job], resources: Resources) -> list[Job]:
    """The jobs as their workers see them: on a cluster the user's modules lie beside this package."""
    if not resources.address:
        return list(jobs)
    return [replace(job, import_paths=cluster.sent(job.import_paths)) for job in jobs]


def _public(settings: Settings) -> Settings:
    """Without the store's address, which may hold a password: workers do not reach the store."""
    return replace(settings, tracking_uri="")


def _share(resources: Resources) -> Callable[[Job], float]:
    """Which share of all machines a job takes; the machines of a cluster come and go."""
    counted_at, nodes = 0.0, cluster.present()

    def share(job: Job) -> float:
        nonlocal counted_at, nodes
        if resources.address and time.monotonic() - counted_at > COUNT_NODES_EVERY_SECONDS:
            counted_at, nodes = time.monotonic(), cluster.present()
        return share_of(resources.of(job.fit.arm), nodes)

    return share


def _taken_by(need: Need) -> tune.PlacementGroupFactory:
    """What Tune sets aside for a trial; for several workers nothing: Ray Train sets aside what they take."""
    if need.workers_per_trial > 1:
        return tune.PlacementGroupFactory([{"node:__internal_head__": HARDLY_ANYTHING}])
    bundle = {"CPU": float(need.cpus_per_trial)}
    return tune.PlacementGroupFactory([bundle | ({"GPU": need.gpus_per_trial} if need.gpus_per_trial else {})])


class _Next(Searcher):
    """Tells Tune which trial starts next."""

    def __init__(self, line: Line, needs: Sequence[int]) -> None:
        super().__init__()
        self.line, self.needs = line, needs

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles it for a restore that is never asked for."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """The next trial's configuration; ``None`` where there is no room, or its donor is being trained."""
        number = self.line.start()
        if number is not None:
            return {"job": number, "need": self.needs[number]}
        return Searcher.FINISHED if self.line.is_over and not self.line.running else None

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """There is nothing to search for."""
        return True

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The report has noted it."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to keep."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing was kept."""


class _Worker(tune.Trainable):
    """An actor that lives on from trial to trial and forks a clean child for each, from a server with torch loaded."""

    def setup(  # type: ignore[override]
        self,
        config: dict[str, Any],
        jobs: list[Job],
        settings: Settings,
        resources: Resources,
        scratch: Path,
        server: str,
    ) -> None:
        self.jobs, self.settings, self.resources, self.scratch, self.server = jobs, settings, resources, scratch, server
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        last = self.child
        if isinstance(last, Child):
            self._begin(new_config)  # what has ended is still giving back its memory
            last.stop()
        else:
            last.stop()
            self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """The next epochs of the child, or its end; a fault of the machine is its end as well, and the worker lives."""
        told = self.child.listen()
        return {"told": told, "done": told[-1].kind in LAST}

    def cleanup(self) -> None:
        self.child.stop()
        if "forks" in vars(self):
            self.forks.close()

    @cached_property
    def forks(self) -> Forks:
        """Where its children come from; workers of a trial that several train are Ray's."""
        return Forks(self.server)

    def _begin(self, config: dict[str, Any]) -> None:
        job = self.jobs[config["job"]]
        need = self.resources.of(job.fit.arm)
        self.child: Child | NeverBegun | Together = (
            self._together(job, need) if need.workers_per_trial > 1 else self._alone(job, need)
        )

    def _alone(self, job: Job, need: Need) -> Child | NeverBegun:
        machine = Machine(
            device=need.device, threads=need.cpus_per_trial, gpu_share=min(1.0, need.gpus_per_trial or 1.0)
        )
        try:
            return Child(self.forks, job, self.settings, machine)
        except NoChild as error:
            return NeverBegun(str(error))

    def _together(self, job: Job, need: Need) -> Together:
        from studies.together import Together  # Ray Train, which takes a second to load

        return Together(job, self.settings, need, self.scratch, loopback=not self.resources.address)


class _Report(tune.Callback):  # the signatures are Tune's
    """Tune's events, as the driver's watcher wants them."""

    def __init__(self, line: Line, watcher: Watcher) -> None:
        self.line, self.watcher = line, watcher

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks for a restore that is never asked for, and views hold locks."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.watcher.on_start(self._job(trial))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        job = self._job(trial)
        for message in result["told"]:
            if message.kind == "epoch":
                self.watcher.on_epoch(job, message.values, message.text)
            elif message.kind == "note":
                self.watcher.on_note(job, message.text)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        job, message = self._job(trial), trial.last_result["told"][-1]
        if message.kind == "fault":
            self._fault(trial, message.text)
            return
        self.line.end(trial.config["job"], elsewhere=message.kind == "elsewhere")
        if message.kind == "elsewhere":
            self.watcher.on_elsewhere(job, message.text)
        else:
            self.watcher.on_end(job)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._fault(trial, "its worker died")

    def _fault(self, trial: Any, reason: str) -> None:
        tries = self.line.fault(trial.config["job"])
        if tries:
            self.watcher.on_fault(self._job(trial), reason, tries, 1 + RETRIES)
        else:
            self.watcher.on_lost(self._job(trial), reason)

    def _job(self, trial: Any) -> Job:
        job: Job = self.line.jobs[trial.config["job"]]
        return job
