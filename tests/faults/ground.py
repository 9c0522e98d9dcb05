"""Where faults are tried: one preloaded process, from which drivers, trials and servers are forked; and the bits."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import socket
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from typing import Any

from studies.execution.processes import fork_server

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PRELOADED = (
    "uvicorn", "sklearn.datasets", "ray.tune", "mlflow", "mlflow.server.fastapi_app", "studies.cli.app",
    "studies.runner.driver", "studies.training.train", "studies.execution.processes.trial_process", "reports",
    "tests.faults.ground",
)  # fmt: skip
SEEDS, EPOCHS = (0, 1), 8
SETTINGS = {
    "data.source": "folder",
    "scale.resolution": 32,
    "recipe.epochs": EPOCHS,
    "recipe.batch_size": 32,
    "recipe.learning_rate": 0.1,
}
IMAGES_PER_CLASS = {"train": 40, "test": 20}
LONGEST_SECONDS = 150.0  # of one command, on a busy machine
LINES = tuple(word for path, value in SETTINGS.items() for word in ("--set", f"{path}={value}"))

Key = tuple[str, int]  # arm, seed


@dataclass
class Ground:
    """What all rounds share: see the module. Use :func:`prepared`.

    Attributes:
        server: address of a server of processes, from which all studies fork their trials: only the seconds are saved
            in which each would load torch.
        expected: folder of every trial that was trained without a fault, Ray or MLflow, by arm and seed.
        training_seconds: how long that took, per trial.
    """

    folder: Path
    context: Any
    server: str
    expected: dict[Key, Path] = field(default_factory=dict)
    training_seconds: float = 0.0

    def fork(self, target: Callable[..., None], *arguments: object) -> BaseProcess:
        """A clean process with everything loaded."""
        process: BaseProcess = self.context.Process(target=target, args=arguments)
        process.start()
        return process


@contextlib.contextmanager
def prepared() -> Iterator[Ground]:
    """The ground, with its data, an empty store to copy, and the bits to expect; removed afterwards."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    with tempfile.TemporaryDirectory(prefix="faults-") as name, fork_server.prestart_fork_server():
        ground = Ground(Path(name), context, fork_server.server_address())
        write_images(ground.folder / "data")
        lay_out(ground.folder / "expected", ground)
        report = ground.folder / "expected.json"
        process = ground.fork(train_all, ground.folder, report)
        process.join(LONGEST_SECONDS)
        told = json.loads(report.read_text())
        ground.expected = {(arm, seed): Path(path) for arm, seed, path in told["trials"]}
        ground.training_seconds = told["seconds"]
        yield ground


def write_images(folder: Path) -> None:
    """scikit-learn's digits as an image folder: data that can vanish."""
    from PIL import Image
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    for label in range(10):
        images = iter(pixels[labels == label].reshape(-1, 8, 8) * (255 / 16))
        for part, count in IMAGES_PER_CLASS.items():
            place = folder / part / str(label)
            place.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(next(images).round().astype("uint8")).save(place / f"{number:03d}.png")


def lay_out(folder: Path, ground: Ground) -> None:
    """A user's folder with the studies in it."""
    shutil.copytree(HERE / "study", folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ground.folder / "data", folder / "data", copy_function=os.link)


def train_all(folder: Path, report: Path) -> None:
    """Train every trial of the larger study in this process, without Ray and MLflow; and make an empty store."""
    import logging
    import warnings

    from lightning_modules.data.inventory import load_dataset
    from studies.design.declare import declare
    from studies.hardware import Machine
    from studies.settings import Settings
    from studies.tracking.store import open_store
    from studies.training.train import train_trial

    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    place = folder / "expected"
    study = declare(str(place / "more_rates.py"), "digits", SEEDS, SETTINGS)
    sys.path[:0] = study.import_paths
    settings = Settings.from_environment(place / "runs", place / "data")
    settings.create_folders()
    open_store(settings)
    trials, began = [], time.monotonic()
    for fit in study.trials():
        examples = load_dataset(fit.setup, settings.data_root, settings.cache_folder)
        trained = settings.trials_folder / f"{fit.arm}-{fit.seed}"
        train_trial(fit, examples, trained, digests={}, machine=Machine())
        trials.append((fit.arm, fit.seed, str(trained)))
    seconds = (time.monotonic() - began) / len(trials)
    report.write_text(json.dumps({"trials": trials, "seconds": seconds}))


@dataclass
class Command:
    """An ``ablate`` command in a process of its own, as a shell would have started it."""

    process: BaseProcess
    log: Path

    @property
    def pid(self) -> int:
        """Of the driver."""
        assert self.process.pid
        return self.process.pid

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.process.is_alive()

    def ended(self, within: float = LONGEST_SECONDS) -> int:
        """Wait for its end; gives back the exit code."""
        self.process.join(within)
        if self.process.exitcode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            raise AssertionError(f"still at it after {within:.0f} s:\n{self.output}")
        return self.process.exitcode

    def signal(self, which: signal.Signals) -> None:
        """Send a signal to the whole group, as the terminal's Ctrl-C does; to one that has ended nothing."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, which)

    @property
    def output(self) -> str:
        """What it printed."""
        return self.log.read_text()


@dataclass
class Place:
    """A user's folder for one round, and what may be done in it."""

    ground: Ground
    folder: Path
    random: Random
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)
    server: Any = None

    @property
    def runs(self) -> Path:
        """The run folder."""
        return self.folder / "runs"

    @property
    def database(self) -> Path:
        """The store's file."""
        return self.runs / "mlflow.db"

    def start(self, study: str = "rates") -> Command:
        """Start `ablate run` there."""
        arguments = (
            "run",
            f"./{study}.py",
            "--seeds",
            str(len(SEEDS)),
            *LINES,
            "--checkpoint-every",
            "0",
            *self.options,
        )
        log = self.folder / f"command-{len(self.commands)}.log"
        environment = {
            "FAULTS_SERVER": self.ground.server,
            "PYTHONPATH": str(ROOT),
            "RAY_TMPDIR": str(self.folder / "ray"),
            "TMPDIR": str(self.folder / "temporary"),
            "ABLATE_RUNS": str(self.runs),
            "ABLATE_DATA_ROOT": str(self.folder / "data"),
            **self.environment,
        }
        command = Command(self.ground.fork(drive, arguments, self.folder, log, environment), log)
        self.commands.append(command)
        return command

    def trials(self) -> list[Path]:
        """The folders of trials that were begun."""
        return sorted(file.parent for file in self.runs.glob("trials/*/attempts.jsonl"))

    def wait_for(self, happened: Callable[[], Any], command: Command, within: float = LONGEST_SECONDS) -> bool:
        """Wait until something is so; gives back whether it came before the command's end."""
        deadline = time.monotonic() + within
        while command.runs and time.monotonic() < deadline:
            if happened():
                return True
            time.sleep(0.01)
        return bool(happened())

    def wait_for_a_moment(self, command: Command) -> str:
        """Wait for a random moment of the command; gives back in which phase it lies.

        One in eight lies before the first trial has begun, all others in the training, of whichever epoch.
        """
        if self.random.random() < 1 / 8:
            time.sleep(self.random.uniform(0.0, 3.0))
            return "training" if self.trials() else "starting"
        epochs = Epochs(self.runs)
        wanted = self.random.randrange(len(SEEDS) * 2 * (EPOCHS - 1))
        self.wait_for(lambda: self.trials() and epochs.count() >= wanted, command)
        time.sleep(self.random.uniform(0.0, self.ground.training_seconds / EPOCHS))
        return "training" if command.runs else "over"


class Epochs:
    """Counts the epochs that trials have trained, by their checkpoints: each begins with one, save the first."""

    def __init__(self, runs: Path) -> None:
        self.runs, self.seen = runs, set[tuple[str, int]]()

    def count(self) -> int:
        """How many since the first call; to be called often."""
        for file in self.runs.glob("trials/*/checkpoint.ckpt"):
            with contextlib.suppress(FileNotFoundError):
                self.seen.add((file.parent.name, file.stat().st_mtime_ns))
        return len(self.seen)


@contextlib.contextmanager
def place(ground: Ground, random: Random, **keywords: Any) -> Iterator[Place]:
    """A folder for one round; whatever is left running in it is ended, and it is removed."""
    folder = Path(tempfile.mkdtemp(prefix="fault-", dir=ground.folder.parent))
    lay_out(folder / "it", ground)
    made = Place(ground, folder / "it", random, **keywords)
    made.runs.mkdir()
    (made.folder / "temporary").mkdir()
    shutil.copy(ground.folder / "expected" / "runs" / "mlflow.db", made.database)
    try:
        yield made
    finally:
        for command in made.commands:
            command.signal(signal.SIGKILL)
            command.process.join()
        end_all(made.folder)
        shutil.rmtree(folder, ignore_errors=True)


def drive(arguments: tuple[str, ...], folder: Path, log: Path, environment: Mapping[str, str]) -> None:
    """The body of a driver's process: `ablate` with these arguments."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(opened, 1)
    os.dup2(opened, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    os.environ.update(environment)
    os.chdir(folder)
    tempfile.tempdir = None  # asked anew: what a killed process leaves goes with the folder
    sys.argv = ["ablate", *arguments]
    if environment["FAULTS_SERVER"]:
        fork_server.register_server(environment["FAULTS_SERVER"])
    import warnings

    warnings.simplefilter("ignore")
    from studies.cli.app import main

    main(list(arguments))


def serve(runs: Path, port: int, log: Path) -> None:
    """The body of an MLflow server's process, on a database and an artifact folder."""
    os.setsid()
    opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(opened, 1)
    os.dup2(opened, 2)
    from mlflow import server

    os.environ[server.BACKEND_STORE_URI_ENV_VAR] = f"sqlite:///{runs}/mlflow.db"
    os.environ[server.ARTIFACT_ROOT_ENV_VAR] = "mlflow-artifacts:/"
    os.environ[server.ARTIFACTS_DESTINATION_ENV_VAR] = str(runs / "artifacts")
    os.environ[server.SERVE_ARTIFACTS_ENV_VAR] = "true"
    import uvicorn

    uvicorn.run("mlflow.server.fastapi_app:app", host="127.0.0.1", port=port, log_level="warning")


def free_port() -> int:
    """A port of the loopback interface that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Whether somebody listens at a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def rows(database: Path, query: str) -> list[Any]:
    """Rows of the store's database, read without MLflow."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)) as connection:
        return connection.execute(query).fetchall()


def below(pid: int) -> dict[int, str]:
    """The command lines of all processes below one."""
    parents, lines = {}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            lines[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    found, known = {}, {pid}
    while True:
        new = {child for child, parent in parents.items() if parent in known and child not in known}
        if not new:
            return found
        known |= new
        found |= {child: lines.get(child, "") for child in new}


def trial_processes(runs: Path) -> dict[Path, int]:
    """The processes that train, by trial: their leases name them."""
    found = {}
    for file in runs.glob("trials/*/lease-*.json"):
        with contextlib.suppress(OSError, ValueError):
            found[file.parent] = int(json.loads(file.read_text())["process"])
    return found


def end_all(folder: Path) -> None:
    """End what a round's drivers have started: it carries their folder in its environment. Trials end by themselves."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{folder}/ray".encode() in (entry / "environ").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)
