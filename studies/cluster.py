"""Ray, on this machine or on a cluster: its start, the code that goes to the nodes, and what the nodes are."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any

os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # see studies.resources.choose_ray
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves the machine unasked
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # who takes no GPU may still ask which there are
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # a worker is started when there is a trial for it
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")  # a user's relative paths mean what they mean in the driver

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from studies.bucket import Bucket
from studies.digests import FIRST_PARTY
from studies.machine import cores
from studies.resources import Node, Resources
from studies.settings import SettingsError

LEFT_OUT = frozenset(("runs", "data", "node_modules", "__pycache__", "build", "dist"))
LARGEST_FILE = 2**20  # bytes; of what lies beside the user's modules, such as tables they read
MOST_BYTES = 100 * 2**20  # of all that is sent
SAME_EVERYWHERE = ("torch", "numpy", "pytorch-lightning")
ANSWER_SECONDS = 120.0
CONNECT_SECONDS = 10.0
USERS_CODE = "users-{}"
SAME_ENVIRONMENT = ("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "RAY_CHDIR_TO_TRIAL_DIR")


@contextmanager
def engine(resources: Resources | None = None, import_paths: Sequence[str] = ()) -> Iterator[None]:
    """Ray, for as long as this lasts: what dispatches several times within it starts Ray once.

    Args:
        import_paths: folders of the user's modules; to a cluster they are sent along with this package.

    Raises:
        SettingsError: where there is no cluster at the address, or it does not let us in.
    """
    if ray.is_initialized():
        yield
        return
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # faults reach the user as results, with their traceback
    address = resources.address if resources else ""
    with ExitStack() as stack:
        with _interrupts_kept():
            stack.enter_context(_connected(address, import_paths) if address else _started())
        yield


def _is_main_thread() -> bool:
    """Whether this is the thread that a Ctrl-C interrupts, and that may set its handler."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def handler_kept() -> Iterator[None]:
    """Whoever handles a Ctrl-C before this does so after it: Tune leaves behind a handler that swallows the next."""
    if not _is_main_thread():
        yield
        return
    usual = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


@contextmanager
def _interrupts_kept() -> Iterator[None]:
    """A Ctrl-C within this is raised, at its end at the latest.

    As Ray starts its processes, Python runs callbacks around each fork, and drops what is raised in one: there a Ctrl-C
    would be lost, and the study would go on.
    """
    interrupted = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        signal.default_int_handler(number, frame)

    with handler_kept():
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler and _is_main_thread():
            signal.signal(signal.SIGINT, note)
        yield
    if interrupted:
        raise KeyboardInterrupt


@contextmanager
def _started() -> Iterator[None]:
    quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.CRITICAL}
    ray.init(address="local", num_cpus=cores(), **quiet)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _connected(address: str, import_paths: Sequence[str]) -> Iterator[None]:
    if os.environ.get("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER") == "0":
        raise SettingsError(
            f"the cluster {address} cannot be joined: this process has loaded Ray for this machine alone. "
            "Set RAY_ADDRESS before Python starts, or call `ablate run` with --ray-address."
        )
    _require_answer(address)
    os.environ.setdefault("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")  # where this is itself a job of the cluster
    with tempfile.TemporaryDirectory() as folder:
        gather(import_paths, Path(folder))
        try:
            ray.init(
                address=address,
                runtime_env={
                    "working_dir": folder,
                    "env_vars": {name: os.environ[name] for name in SAME_ENVIRONMENT},
                },
                log_to_driver=False,
                logging_level=logging.CRITICAL,
            )
        except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise SettingsError(_no_cluster(address, str(error).strip().splitlines()[0])) from error
    try:
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Refuse an address at which nothing listens: Ray itself would try again and again."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if "/" in host or not (host and port.isdecimal()):
        raise SettingsError(
            f"the Ray address is {address!r}; expected host:port, as `ray start --head` prints it, or auto."
        )
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise SettingsError(_no_cluster(address, error.strerror or str(error))) from error


def _no_cluster(address: str, reason: str) -> str:
    return (
        f"no Ray cluster answers at {address} ({reason}). Start one with `ray start --head`, and where it asks for a "
        "token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH here as well."
    )


def gather(import_paths: Sequence[str], target: Path) -> None:
    """Copy what the nodes need to import: this package, and the user's folders, each under a name of its own.

    Of the user's, folders of runs, data, environments and caches are left out, and large files.

    Raises:
        SettingsError: where all that is too much to send.
    """
    room = MOST_BYTES
    for name in FIRST_PARTY:
        room = _copy(Path(__file__).parent.parent / name, target / name, room)
    for number, path in enumerate(import_paths):
        room = _copy(Path(path), target / USERS_CODE.format(number), room)


def sent(import_paths: Sequence[str]) -> tuple[str, ...]:
    """Where a worker finds the user's folders: beside this package, in the folder in which Ray starts it."""
    return tuple(USERS_CODE.format(number) for number in range(len(import_paths)))


def _copy(source: Path, target: Path, room: int) -> int:
    """Copy a folder; gives back how many bytes may still follow."""
    target.mkdir(parents=True, exist_ok=True)
    for entry in sorted(source.iterdir()):
        if entry.name.startswith(".") or entry.name in LEFT_OUT or entry.is_symlink():
            continue
        if entry.is_dir() and not (entry / "pyvenv.cfg").exists():
            room = _copy(entry, target / entry.name, room)
        elif entry.is_file() and entry.stat().st_size <= LARGEST_FILE:
            room -= entry.stat().st_size
            shutil.copy2(entry, target / entry.name)
        if room < 0:
            raise SettingsError(
                f"the modules beside your ablation are to be sent to the cluster, and come to more than "
                f"{MOST_BYTES // 2**20} MB (as far as {entry}). Put the ablation and what it imports into a folder of "
                "their own."
            )
    return room


def survey(
    resources: Resources,
    seen: Sequence[Path],
    import_paths: Sequence[str] = (),
    made: Sequence[Path] = (),
    bucket: str = "",
) -> tuple[Node, ...]:
    """The machines of a cluster that train, each asked by a task that runs there.

    Args:
        seen: folders that all of them must see at the path that they have here, and with what is written here.
        made: folders that each must be able to make and write, at the path that they have here.
        bucket: URI of one that all of them must be able to write; empty for none.

    Raises:
        SettingsError: for nodes with other versions than here, or that do not see or cannot write such a place.
        InvalidValue: where the trials take more than there is.
    """
    with engine(resources, import_paths), ExitStack() as stack:
        nodes = tuple(_asked([stack.enter_context(_left_behind(folder)) for folder in seen], made, bucket))
    if not nodes:
        raise SettingsError(f"the cluster {resources.address} has no node with a CPU to give. Add one, and run again.")
    resources.require_room(nodes)
    return nodes


@contextmanager
def _left_behind(folder: Path) -> Iterator[Path]:
    """A small file by which a node shows that it sees a folder; the folder itself where nothing can be written."""
    mark = folder / f".seen-{secrets.token_hex(4)}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        mark.touch()
    except OSError:
        mark = folder
    try:
        yield mark
    finally:
        if mark != folder:
            mark.unlink(missing_ok=True)


def _asked(marks: Sequence[Path], made: Sequence[Path], bucket: str) -> Iterator[Node]:
    found = [node for node in _alive() if node["Resources"].get("CPU", 0) > 0]
    answers = {node["NodeID"]: _answer(node["NodeID"], (marks, made, bucket)) for node in found}
    try:
        told = dict(zip(answers, ray.get(list(answers.values()), timeout=ANSWER_SECONDS), strict=True))
    except ray.exceptions.GetTimeoutError as error:
        raise SettingsError(f"the cluster's nodes did not answer within {ANSWER_SECONDS:.0f} s.") from error
    here = versions()
    for node in found:
        answer, name = told[node["NodeID"]], f"the node {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        if answer["versions"] != here:
            raise SettingsError(
                f"{name} has {_listed(answer['versions'])}, and here is {_listed(here)}. Install the same everywhere."
            )
        for mark in answer["unseen"]:
            raise SettingsError(
                f"{name} does not see what is written here to {mark.parent}. Expected a shared file system, at one "
                "path on all nodes: give a folder of it as --runs, and of the data as --data-root."
            )
        if answer["refused"]:
            raise SettingsError(f"{name} {answer['refused']}")
        yield replace(answer["node"], name=name, cpus=node["Resources"]["CPU"], gpus=node["Resources"].get("GPU", 0.0))


def _answer(node_id: str, asked_for: tuple[Sequence[Path], Sequence[Path], str]) -> Any:
    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    asked: Any = ray.remote(_about).options(num_cpus=0, scheduling_strategy=there, max_retries=0)
    return asked.remote(*asked_for)


def _about(marks: Sequence[Path], made: Sequence[Path], bucket: str) -> dict[str, Any]:
    unseen = [mark for mark in marks if not mark.exists()]
    return {"node": Node.here(), "versions": versions(), "unseen": unseen, "refused": _refused(made, bucket)}


def _refused(made: Sequence[Path], bucket: str) -> str:
    """What this node cannot write, in words; empty where there is nothing."""
    for folder in made:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            return (
                f"cannot write to {folder} ({error.strerror}). Beside the bucket, each node has a folder of its own "
                "for what it trains, at one path on all nodes: give one that they all can make as --runs."
            )
    try:
        if bucket:
            Bucket(bucket).require_writable()
    except SettingsError as error:
        return f"says: {error}"
    return ""


def versions() -> dict[str, str]:
    """Of what decides bits, as installed here."""
    return {name: metadata.version(name) for name in SAME_EVERYWHERE}


def _listed(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())


def present() -> tuple[Node, ...]:
    """The machines of the cluster as they are now, without asking them."""
    return tuple(
        Node(
            name=node["NodeManagerAddress"],
            cpus=node["Resources"].get("CPU", 0.0),
            gpus=node["Resources"].get("GPU", 0.0),
            model={},
        )
        for node in _alive()
    )


def _alive() -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"]]
