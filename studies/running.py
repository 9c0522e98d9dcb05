"""From a name to a recorded study: one straight line through planning, dispatch and the record."""

from __future__ import annotations

import getpass
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from filelock import FileLock, Timeout

from lightning_modules.data import prepare
from lightning_modules.values import Leaf
from studies import protocols
from studies.declaring import declare, register
from studies.digests import code_digest, platform_digest
from studies.dispatch import Job, Resources, Watcher, dispatch
from studies.fits import Fit
from studies.live import Progressing, Row
from studies.planning import Plan, Reuse, plan
from studies.records import Identity, Start, StudyRecord
from studies.results import Result
from studies.settings import Settings, SettingsError
from studies.spool import Spool
from studies.tracking import Store
from studies.trials import Study, longest_first

REPORTED_VERSIONS = ("torch", "torchvision", "pytorch-lightning", "ray", "mlflow", "numpy", "scipy", "scikit-learn")


@dataclass
class Driver:
    """One start of a study: what it needs to plan, to train and to record."""

    study: Study
    settings: Settings
    resources: Resources
    say: Callable[[str], None]
    began: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self.settings.make()
        self.store = Store(self.settings)
        base = next(iter(self.study.setups().values()))
        self.say(f"reading {base.data.source}")
        self.examples = prepare(base.data, base.scale, self.settings.data_root, self.settings.cache)
        device = "cuda" if self.resources.gpus_per_trial else "cpu"
        self.digests = {
            "data": self.examples.digest,
            "code": code_digest(),
            "platform": platform_digest(device, self.resources.cpus_per_trial),
        }
        self.revision, self.clean = git_revision()
        self.tags = {
            "study": self.study.name,
            "protocol": self.study.protocol.name,
            "revision": self.revision,
            "mlflow.source.name": command(),
            "mlflow.source.type": "LOCAL",
            "mlflow.user": getpass.getuser(),
        }
        self.registration = register(self.study, self.examples)
        self.parent = ""

    def identity(self, fit: Fit) -> Identity:
        """What must agree before an ended trial is used again."""
        return Identity.of(fit.fingerprint, self.digests)

    def spool(self, fit: Fit) -> Spool:
        """The trial's folder."""
        digests = "-".join(self.digests[name][:6] for name in ("data", "code", "platform"))
        return Spool(self.settings.trials / f"{fit.fingerprint}-{digests}")

    def plan(self, reuse: Reuse = "matching") -> Plan:
        """What is left to do."""

        def is_spooled(fit: Fit) -> bool:
            result = self.spool(fit).result()
            return result is not None and result.status != "failed"

        return plan(self.study.trials(), self.identity, self.store.ended(), is_spooled, self.parent, reuse)

    def run(self, reuse: Reuse = "matching", *, quiet: bool = False) -> StudyRecord:
        """Do what is left, and read the study back.

        Raises:
            SettingsError: where another process runs the same study in the same folder.
        """
        try:
            with FileLock(self.settings.runs / f"{self.study.name}.lock", timeout=0):
                return self._run(reuse, quiet=quiet)
        except Timeout as error:
            raise SettingsError(
                f"another process runs {self.study.name} in {self.settings.runs}. Wait for it, follow it with "
                f"`ablate status {self.study.name}`, or give another --runs."
            ) from error

    def _run(self, reuse: Reuse, *, quiet: bool) -> StudyRecord:
        conditions = self.study.conditions(self.examples.digest)
        self.parent = self.store.register(self.registration, conditions, self.tags)
        todo = self.plan(reuse)
        self.say(describe(todo))
        for fit, original in todo.elsewhere:
            self.store.reuse(self.parent, fit, original, self.tags)
        for fit in todo.spooled:
            self._log(self._begin(fit), fit, curves=True)
        complete = False
        try:
            if todo.train:
                self._train(todo.train, quiet=quiet)
            complete = True
        finally:
            self.store.close(self.parent, self._start(), self.examples.test_labels, complete=complete)
        return self.store.read(self.study.name, run_id=self.parent)

    def _train(self, fits: Sequence[Fit], *, quiet: bool) -> None:
        costs = {arm: values["multiply_adds"] for arm, values in self.registration.properties.items()}
        ordered = longest_first(fits, costs)
        jobs = [Job(fit=fit, folder=self.spool(fit).folder, digests=self.digests) for fit in ordered]
        for job in jobs:
            (job.folder / "result.json").unlink(missing_ok=True)
        rows = [Row(arm=fit.arm, seed=fit.seed, epochs=fit.setup.recipe.epochs) for fit in fits]
        runs: dict[Fit, str] = {}
        with Progressing(rows, len(os.sched_getaffinity(0)), quiet=quiet) as view:

            def on_start(job: Job) -> None:
                view.started(job.fit.arm, job.fit.seed)
                runs[job.fit] = self._begin(job.fit)

            def on_epoch(job: Job, values: Mapping[str, float]) -> None:
                view.epoch(job.fit.arm, job.fit.seed, values)
                self.store.log_epoch(runs[job.fit], values)

            def on_end(job: Job) -> None:
                result = self._log(runs[job.fit], job.fit)
                view.finished(job.fit.arm, job.fit.seed, result.status, result.metrics.get("test_error"))

            def on_lost(job: Job, reason: str) -> None:
                self.spool(job.fit).write(_lost(job, reason))
                on_end(job)

            dispatch(jobs, self.settings, self.resources, Watcher(on_start, on_epoch, on_end, on_lost))

    def _begin(self, fit: Fit) -> str:
        return self.store.begin(self.parent, fit, self.identity(fit), self.tags)

    def _log(self, run_id: str, fit: Fit, *, curves: bool = False) -> Result:
        result = self.spool(fit).result()
        if result is None:
            raise RuntimeError(f"{self.spool(fit).folder} holds no result, though its trial was said to have ended")
        if curves:
            self.store.log_curves(run_id, result)
        self.store.end(run_id, result)
        return result

    def _start(self) -> Start:
        return Start(
            time=datetime.fromtimestamp(self.began, UTC).isoformat(timespec="seconds"),
            command=command(),
            revision=self.revision,
            clean=self.clean,
            versions={"python": platform.python_version()}
            | {name: metadata.version(name) for name in REPORTED_VERSIONS},
            hardware=hardware(self.resources),
            seeds=self.study.seeds,
            wall_seconds=round(time.time() - self.began, 1),
        )


def run(
    name: str,
    protocol: str = protocols.DEFAULT,
    *,
    seeds: Sequence[int] | None = None,
    overrides: Mapping[str, Leaf] | None = None,
    data_root: str | Path | None = None,
    runs: str | Path | None = None,
    tracking_uri: str | None = None,
    resources: Resources | None = None,
    reuse: Reuse = "matching",
    quiet: bool = False,
    say: Callable[[str], None] | None = None,
) -> StudyRecord:
    """Run what is left of a study and give it back as recorded. Running it twice trains nothing the second time.

    Args:
        seeds: the same for every arm; the protocol's own by default.
        overrides: dotted paths and values, applied to every arm alike.
        data_root, runs, tracking_uri: see :class:`studies.settings.Settings`.
        reuse: which ended trials are used again; see :func:`studies.planning.plan`.
        quiet: show no progress.
        say: takes one line of news at a time; ``print`` by default.

    Raises:
        ValueError: for anything misdeclared; the text says what was given, what is expected and what to do.
        TrackingError: where the tracking store does not answer.
        KeyboardInterrupt: after a Ctrl-C; what had ended is recorded, and the next call goes on from there.
    """
    study = declare(name, protocol, seeds, overrides)
    settings = Settings.of(runs, data_root, tracking_uri)
    driver = Driver(study, settings, resources or Resources(), say or (_silent if quiet else _print))
    return driver.run(reuse, quiet=quiet)


def describe(todo: Plan) -> str:
    """A plan in a sentence."""
    total = len(todo.recorded) + len(todo.elsewhere) + len(todo.spooled) + len(todo.train)
    if not todo.train:
        news = f"nothing to train: all {total} trials have ended"
    else:
        news = f"{len(todo.train)} of {total} trials to train"
    if todo.elsewhere:
        news += f"; {len(todo.elsewhere)} taken over from other studies"
    if todo.spooled:
        news += f"; {len(todo.spooled)} logged that were trained before"
    if todo.outdated:
        news += (
            f"; {len(todo.outdated)} of them are recorded as trained by other code, data or platform, "
            "and are trained again (--reuse any keeps them)"
        )
    return news


def command() -> str:
    """The command line of this process, without the folder of the program."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def git_revision() -> tuple[str, bool]:
    """The revision of this code, and whether the tree is clean; ``("unknown", False)`` outside a repository."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD"), not git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown", False


def hardware(resources: Resources) -> str:
    """The machine in words."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    gpu = f", {resources.gpus_per_trial:g} of a {_gpu_name()} per trial" if resources.gpus_per_trial else ", no GPU"
    words = f"{len(os.sched_getaffinity(0))} CPU cores ({platform.machine()}), {memory:.0f} GiB memory"
    return words + gpu


def _gpu_name() -> str:
    import torch

    return torch.cuda.get_device_name()


def _lost(job: Job, reason: str) -> Result:
    return Result(
        fingerprint=job.fit.fingerprint,
        digests=job.digests,
        status="failed",
        metrics={},
        curves={},
        times=(),
        cost={},
        environment={},
        evidence={},
        error=reason,
    )


def _print(news: str) -> None:
    sys.stdout.write(news + "\n")


def _silent(news: str) -> None:
    del news
