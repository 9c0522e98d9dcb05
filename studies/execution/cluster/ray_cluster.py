"""Start Ray on this machine or connect to a cluster, send it the code, and survey its nodes."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

# Before Ray is imported: it reads some of these as it loads.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # see studies.execution.resources.configure_ray
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry without consent
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # keep the GPUs visible to workers that reserve none
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # start a worker when a trial needs it
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")  # resolve a user's relative paths as in the driver

import ray
from ray.job_config import JobConfig
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from studies.execution.cluster.ray_shutdown import shut_down_ray, watch_control_process
from studies.execution.interrupts import keep_termination_handler, record_interrupts
from studies.execution.jobs import TrialJob
from studies.execution.resources import Node, Resources, cluster_share_of
from studies.hardware import count_cores, count_gpus
from studies.records.digests import FIRST_PARTY_PACKAGES
from studies.scratch import process_folder, temporary_folder
from studies.settings import INSTALL_ROOT, SettingsError
from studies.storage.object_store import ObjectStore

CACHE_NAMES = frozenset(("__pycache__",))
USER_EXCLUDED_NAMES = CACHE_NAMES | {"runs", "data", "node_modules", "build", "dist"}  # large, and rarely code
MAX_FILE_BYTES = 2**20  # of a file beside the user's modules, for example a table that they read
MAX_TOTAL_BYTES = 100 * 2**20  # of all files sent to the cluster; Ray itself refuses more than a few hundred MB
MATCHED_PACKAGES = ("torch", "numpy", "pytorch-lightning")  # their versions decide whether results are reproducible
SURVEY_TIMEOUT_SECONDS = 120.0  # a node may have to unpack the code and import this package from a slow disk first
CONNECT_TIMEOUT_SECONDS = 10.0
USER_CODE_FOLDER = "users-{}"  # folders of several import paths may have the same name
NODE_COUNT_INTERVAL_SECONDS = 2.0  # the share of a job is computed many times a second; nodes come and go in minutes
FORWARDED_VARIABLES = ("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "RAY_CHDIR_TO_TRIAL_DIR")


@dataclass(frozen=True, kw_only=True)
class _NodeAnswer:
    """Answer of a node to the survey.

    Attributes:
        node: its devices and memory.
        versions: versions of the packages that must be the same everywhere.
        unseen_files: marker files that the node does not see.
        refusal: which folder or object store it cannot write; empty for none.
    """

    node: Node
    versions: Mapping[str, str]
    unseen_files: Sequence[Path]
    refusal: str


@contextmanager
def ray_session(resources: Resources | None = None, import_paths: Sequence[str] = ()) -> Iterator[None]:
    """Keep Ray initialized within the block; nested sessions use the outermost one.

    Args:
        resources: where to run; ``None`` for this machine.
        import_paths: folders of the user's modules, sent to a cluster together with this package.

    Raises:
        SettingsError: where no cluster answers at the address, or it refuses the connection.
        KeyboardInterrupt: after a Ctrl-C during the start.
    """
    if ray.is_initialized():
        yield
        return
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # faults are reported with their traceback by the listener
    address = resources.address if resources else ""
    with ExitStack() as stack:
        with record_interrupts() as interrupted:
            stack.enter_context(_connect_to_cluster(address, import_paths) if address else _start_local_ray())
        if interrupted.is_set():  # Python may have dropped the exception, see `record_interrupts`
            raise KeyboardInterrupt
        yield


@contextmanager
def _start_local_ray() -> Iterator[None]:
    quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.CRITICAL}
    # Ray puts the current folder on its workers' path, and a user's `studies/` there must not hide this package.
    job_config = JobConfig(_py_driver_sys_path=[str(INSTALL_ROOT)])
    try:
        with keep_termination_handler():
            ray.init(
                address="local",
                num_cpus=count_cores(),
                num_gpus=count_gpus(),  # as the capacity that was checked: Ray counts GPUs in a way of its own
                job_config=job_config,
                _temp_dir=str(process_folder()),  # Ray itself leaves its sessions in /tmp/ray for good
                **quiet,
            )
    except Exception as error:  # Ray raises nothing narrower, as where one of its processes dies meanwhile
        raise SettingsError(
            f"Ray did not start on this machine ({str(error).strip() or type(error).__name__}). Nothing is lost: give "
            "the same command again; `ablate doctor` checks the machine."
        ) from error
    watch_control_process()
    try:
        yield
    finally:
        shut_down_ray()


@contextmanager
def _connect_to_cluster(address: str, import_paths: Sequence[str]) -> Iterator[None]:
    if os.environ.get("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER") == "0":
        raise SettingsError(
            f"cannot connect to the cluster {address}: this process has imported Ray for local use only. "
            "Set RAY_ADDRESS before Python starts, or run `ablate run` with --ray-address."
        )
    _require_reachable(address)
    os.environ.setdefault("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")  # needed where this process is itself a Ray job
    with temporary_folder() as folder:
        collect_code(import_paths, folder)
        try:
            with keep_termination_handler():
                ray.init(
                    address=address,
                    runtime_env={
                        "working_dir": str(folder),
                        "env_vars": {name: os.environ[name] for name in FORWARDED_VARIABLES},
                    },
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                )
        except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise SettingsError(_describe_unreachable(address, str(error).strip().splitlines()[0])) from error
    try:
        yield
    finally:
        shut_down_ray()


def _require_reachable(address: str) -> None:
    """Check that something listens at the address; Ray itself would retry many times.

    Raises:
        SettingsError: for an address of another form, or without a listener.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if "/" in host or not (host and port.isdecimal()):
        raise SettingsError(
            f"the Ray address is {address!r}; expected host:port, as printed by `ray start --head`, or auto."
        )
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_SECONDS).close()
    except OSError as error:
        raise SettingsError(_describe_unreachable(address, error.strerror or str(error))) from error


def _describe_unreachable(address: str, reason: str) -> str:
    return (
        f"no Ray cluster answers at {address} ({reason}). Start one with `ray start --head`. If it requires a token, "
        "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH here as well."
    )


def collect_code(import_paths: Sequence[str], target: Path) -> None:
    """Copy the code that the nodes import: this package, and each of the user's folders under its own name.

    Hidden files, symbolic links, large files, environments and caches are left out; of the user's folders also those
    that usually hold runs, data or builds (this package has a folder ``data`` that is code).

    Raises:
        SettingsError: for more than ``MAX_TOTAL_BYTES`` in all.
    """
    remaining_bytes = MAX_TOTAL_BYTES
    for name in FIRST_PARTY_PACKAGES:
        remaining_bytes = _copy_folder(INSTALL_ROOT / name, target / name, remaining_bytes, CACHE_NAMES)
    for index, path in enumerate(import_paths):
        folder = target / USER_CODE_FOLDER.format(index)
        remaining_bytes = _copy_folder(Path(path), folder, remaining_bytes, USER_EXCLUDED_NAMES)


def sent_import_paths(import_paths: Sequence[str]) -> tuple[str, ...]:
    """Import paths of the user's folders on a node, relative to the folder in which Ray unpacks the code."""
    return tuple(USER_CODE_FOLDER.format(index) for index in range(len(import_paths)))


def _copy_folder(source: Path, target: Path, remaining_bytes: int, excluded_names: frozenset[str]) -> int:
    """Copy a folder; return how many bytes may still be copied."""
    target.mkdir(parents=True, exist_ok=True)
    for entry in sorted(source.iterdir()):
        if entry.name.startswith(".") or entry.name in excluded_names or entry.is_symlink():
            continue
        if entry.is_dir() and not (entry / "pyvenv.cfg").exists():  # the mark of a virtual environment
            remaining_bytes = _copy_folder(entry, target / entry.name, remaining_bytes, excluded_names)
        elif entry.is_file() and entry.stat().st_size <= MAX_FILE_BYTES:
            remaining_bytes -= entry.stat().st_size
            shutil.copy2(entry, target / entry.name)
        if remaining_bytes < 0:
            raise SettingsError(
                f"the modules beside your ablation, which are sent to the cluster, come to more than "
                f"{MAX_TOTAL_BYTES // 2**20} MB (at {entry}). Move the ablation and what it imports into a folder of "
                "their own."
            )
    return remaining_bytes


def survey_nodes(
    resources: Resources,
    readable_folders: Sequence[Path],
    import_paths: Sequence[str] = (),
    writable_folders: Sequence[Path] = (),
    object_store_uri: str = "",
) -> tuple[Node, ...]:
    """Describe the nodes of a cluster that train, each by a task that runs there.

    Args:
        resources: the cluster's address and the trials' requests.
        readable_folders: folders that every node must see at the same path, with the files written here.
        import_paths: folders of the user's modules, sent along.
        writable_folders: folders that every node must be able to create and write at the same path.
        object_store_uri: an object store that every node must be able to write; empty for none.

    Raises:
        SettingsError: for nodes with other package versions than here, or without access to a folder or the store.
        InvalidValue: for trials that request more than there is.
    """
    with ray_session(resources, import_paths), ExitStack() as stack:
        marker_files = [stack.enter_context(_marker_file(folder)) for folder in readable_folders]
        nodes = tuple(_query_nodes(marker_files, writable_folders, object_store_uri))
    if not nodes:
        raise SettingsError(
            f"the cluster {resources.address} has no node with a CPU for trials. Add one and run again."
        )
    resources.require_capacity(nodes)
    return nodes


@contextmanager
def _marker_file(folder: Path) -> Iterator[Path]:
    """Create an empty file whose presence shows that a node sees a folder; yield a read-only folder itself."""
    marker = folder / f".seen-{secrets.token_hex(4)}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        marker.touch()
    except OSError:
        marker = folder
    try:
        yield marker
    finally:
        if marker != folder:
            marker.unlink(missing_ok=True)


def _query_nodes(
    marker_files: Sequence[Path], writable_folders: Sequence[Path], object_store_uri: str
) -> Iterator[Node]:
    """Query all nodes with a CPU at once, and check their answers in turn."""
    nodes = [node for node in _alive_nodes() if node["Resources"].get("CPU", 0) > 0]
    queries = [_query_node(node["NodeID"], (marker_files, writable_folders, object_store_uri)) for node in nodes]
    try:
        answers: list[_NodeAnswer] = ray.get(queries, timeout=SURVEY_TIMEOUT_SECONDS)
    except ray.exceptions.GetTimeoutError as error:
        raise SettingsError(f"the cluster's nodes did not answer within {SURVEY_TIMEOUT_SECONDS:.0f} s.") from error
    for node, answer in zip(nodes, answers, strict=True):
        name = f"the node {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        _require_usable(name, answer)
        resources = node["Resources"]
        yield replace(answer.node, name=name, cpus=resources["CPU"], gpus=resources.get("GPU", 0.0))


def _require_usable(name: str, answer: _NodeAnswer) -> None:
    """Raise ``SettingsError`` for a node on which trials could not run, or would give other results."""
    here = installed_versions()
    if answer.versions != here:
        raise SettingsError(
            f"{name} has {_format_versions(answer.versions)}, but this machine has {_format_versions(here)}. "
            "Install the same versions everywhere."
        )
    if answer.unseen_files:
        raise SettingsError(
            f"{name} does not see files written here to {answer.unseen_files[0].parent}. Expected a shared file "
            "system, at the same path on all nodes: give a folder on it as --runs, and for the data as --data-root."
        )
    if answer.refusal:
        raise SettingsError(f"{name} {answer.refusal}")


def _query_node(node_id: str, query: tuple[Sequence[Path], Sequence[Path], str]) -> Any:
    """Start a task on a node; return Ray's reference to its answer."""
    strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
    task: Any = ray.remote(_inspect_node).options(num_cpus=0, scheduling_strategy=strategy, max_retries=0)
    return task.remote(*query)


def _inspect_node(marker_files: Sequence[Path], writable_folders: Sequence[Path], object_store_uri: str) -> _NodeAnswer:
    """Answer the survey; runs on the node."""
    return _NodeAnswer(
        node=Node.this_machine(),
        versions=installed_versions(),
        unseen_files=[marker for marker in marker_files if not marker.exists()],
        refusal=_describe_unwritable(writable_folders, object_store_uri),
    )


def _describe_unwritable(writable_folders: Sequence[Path], object_store_uri: str) -> str:
    """Say which folder or object store this node cannot write; empty where it can write all."""
    for folder in writable_folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            return (
                f"cannot write to {folder} ({error.strerror}). Besides the object store, each node needs a local "
                "folder for its trials, at the same path on all nodes: give one that they all can create as --runs."
            )
    try:
        if object_store_uri:
            ObjectStore(object_store_uri).require_writable()
    except SettingsError as error:
        return f"reports: {error}"
    return ""


def installed_versions() -> dict[str, str]:
    """Versions of the packages on which bit-for-bit reproducibility depends, as installed here."""
    return {name: metadata.version(name) for name in MATCHED_PACKAGES}


def _format_versions(versions_by_package: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions_by_package.items())


def current_nodes() -> tuple[Node, ...]:
    """Describe the nodes that are alive now by what Ray knows of them, without a query; their models are left out."""
    return tuple(
        Node(
            name=node["NodeManagerAddress"],
            cpus=node["Resources"].get("CPU", 0.0),
            gpus=node["Resources"].get("GPU", 0.0),
            device_models={},
        )
        for node in _alive_nodes()
    )


def make_share_function(resources: Resources) -> Callable[[TrialJob], float]:
    """Make a function that gives the share of all machines that a job takes; a cluster's nodes come and go."""
    counted_at = 0.0
    nodes = current_nodes()

    def cluster_share(job: TrialJob) -> float:
        nonlocal counted_at, nodes
        if resources.address and time.monotonic() - counted_at > NODE_COUNT_INTERVAL_SECONDS:
            counted_at = time.monotonic()
            nodes = current_nodes()
        return cluster_share_of(resources.request_of(job.trial.arm), nodes)

    return cluster_share


def _alive_nodes() -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"]]
