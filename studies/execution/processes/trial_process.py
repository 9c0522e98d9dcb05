"""A process that trains a trial, or a bundle of them at once: its body, and the handle of its worker.

The trials of a bundle are those of one arm under several seeds. Each has a thread, and on a GPU a stream, to itself, so
that their kernels run at once; each keeps its lease, folder, checkpoint and result, and ends by itself.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import platform
import select
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from ablations import protect_own_packages
from studies.execution.jobs import TrialJob, TrialMessage
from studies.hardware import Machine, device_name
from studies.records.digests import collect_class_paths, user_code_digest
from studies.settings import INSTALL_ROOT, Settings
from studies.storage.dataset_download import ensure_local_data, uses_data_root
from studies.storage.lease import Heartbeat, Lease, LeaseHolder, LeaseLost, acquire_lease, find_holder
from studies.storage.object_store import ObjectStore, open_object_store
from studies.storage.status_files import write_progress
from studies.storage.trial_folder import TrialFolder

if TYPE_CHECKING:
    from lightning_modules.data.image_index import ImageFileDataset
    from lightning_modules.data.types import InMemoryDataset
    from lightning_modules.distributed import DataParallelRank
    from lightning_modules.specs.setup import Setup

EDITED_CODE_HINT = (
    "the code has changed since the study started. Expected the same files until the last trial has started. Run "
    "`ablate run` again to train the code as it is now."
)

LEASE_LOST_EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h; neither Python nor a signal ends a process with it
PIPE_HEARTBEAT_SECONDS = 2.0  # a step takes milliseconds: a heartbeat for each would cost more than it tells

_loading_lock = threading.Lock()  # file locks keep processes apart, and not the threads of one
_loaded: dict[object, InMemoryDataset | ImageFileDataset | None] = {}  # by data, scale and folders; read-only


class HardwareMismatch(RuntimeError):
    """A node with another CPU or GPU model than the study was planned for."""


def run_trial_process(jobs: Sequence[TrialJob], settings: Settings, machine: Machine, sender: Connection) -> None:
    """Train the jobs of a bundle in this process, each unless another one trains it, and send how they ended.

    A lost lease ends the process at once, without cleanup: another process owns the trial's folder now.
    """
    prepare_process(jobs[0])
    machine = replace(machine, bundle_size=len(jobs))
    senders = _message_senders(sender, len(jobs))
    if len(jobs) == 1:
        _run_job(jobs[0], settings, machine, sender, senders[0])
        return
    from studies.training.network_training import ignore_expected_warnings

    with ignore_expected_warnings():  # for all threads: Python's filters belong to the process
        threads = [
            threading.Thread(target=_run_job, args=(job, settings, machine, sender, send), name=job.folder.name)
            for job, send in zip(jobs, senders, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _run_job(
    job: TrialJob, settings: Settings, machine: Machine, sender: Connection, send: Callable[[TrialMessage], None]
) -> None:
    """Train one job under its lease, and send how it ended."""
    try:
        lease = acquire_lease(job.folder)
        if lease is None:
            send(TrialMessage("elsewhere", str(find_holder(job.folder) or "another process")))
            return
        with Heartbeat(lease, on_lost=lambda: os._exit(LEASE_LOST_EXIT_CODE), is_wanted=lambda: _has_listener(sender)):
            train_job(job, settings, machine, lease, send)
    except LeaseLost:
        os._exit(LEASE_LOST_EXIT_CODE)
    except Exception:  # an exception of the trial itself is recorded as its result; what arrives here is the machine's
        send(TrialMessage("fault", traceback.format_exc()))
        return
    send(TrialMessage("ended"))


def prepare_process(job: TrialJob) -> None:
    """Prepare a process for training: import paths, start method of data loader workers, log level."""
    import warnings

    # On a node of a cluster the paths are relative to this package; an absolute path is left as it is by the join.
    protect_own_packages()
    sys.path[:0] = [str(INSTALL_ROOT / path) for path in job.import_paths]
    multiprocessing.set_start_method(None, force=True)  # the platform's default instead of the fork server's "fork"
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=r".*LeafSpec.*")


def train_job(
    job: TrialJob,
    settings: Settings,
    machine: Machine,
    lease: Lease,
    send: Callable[[TrialMessage], None],
    dp_rank: DataParallelRank | None = None,
) -> None:
    """Train a trial, unless it has ended while it was queued.

    Args:
        job: the trial and where its files are.
        settings: data, cache and storage.
        machine: the device and the number of threads.
        lease: held by this process, or by rank 0 of several workers.
        send: sends a message to the worker or, for data-parallel trials, to the actor of the trainer.
        dp_rank: this process among several workers; ``None`` for a single process.

    Raises:
        HardwareMismatch: for another CPU or GPU model than the study was planned for.
        LeaseLost: where another process has taken over the trial.
    """
    from lightning_modules.distributed import DataParallelRank
    from lightning_modules.profiling.evaluation_cost import inference_multiply_adds
    from studies.training.train import train_trial

    dp_rank = dp_rank or DataParallelRank()
    object_store = open_object_store(settings)
    heartbeat = _make_heartbeat(send)
    if not dp_rank.broadcast(dp_rank.is_rank_zero and _start_attempt(job, lease, object_store)):
        return
    require_device_model(job, machine)
    if object_store:
        _fetch_remote_files(job, object_store, dp_rank)
    with _loading_turn(heartbeat):
        if uses_data_root(job.trial.setup):
            ensure_local_data(settings, heartbeat)
        examples = _load_examples(job.trial.setup, settings, heartbeat)
    train_trial(
        job.trial,
        examples,
        job.folder,
        digests=job.digests,
        machine=machine,
        dependency_folders=job.dependency_folders,
        on_epoch=_epoch_reporter(job, machine.bundle_size, send),
        log=lambda text: send(TrialMessage("note", text)),
        heartbeat=heartbeat,
        guard=lease.check,
        remote_copy=object_store.remote_trial(job.folder) if object_store else None,
        checkpoint_seconds=settings.checkpoint_seconds,
        dp_rank=dp_rank,
        count_multiply_adds=inference_multiply_adds,
    )


def _load_examples(
    setup: Setup, settings: Settings, heartbeat: Callable[[], None]
) -> InMemoryDataset | ImageFileDataset | None:
    """Load a setup's examples, or take those that another seed of this process has loaded; under the lock."""
    from lightning_modules.data.inventory import load_dataset

    key = (setup.data, setup.scale, settings.data_root, settings.cache_folder)
    if key not in _loaded:
        _loaded.clear()  # the seeds of a bundle have one setup
        _loaded[key] = load_dataset(setup, settings.data_root, settings.cache_folder, lambda _: heartbeat())
    return _loaded[key]


@contextmanager
def _loading_turn(heartbeat: Callable[[], None]) -> Iterator[None]:
    """Load data while no other trial of this process does, with heartbeats while waiting for that."""
    while not _loading_lock.acquire(timeout=PIPE_HEARTBEAT_SECONDS):
        heartbeat()
    try:
        yield
    finally:
        _loading_lock.release()


def _start_attempt(job: TrialJob, lease: Lease, object_store: ObjectStore | None) -> bool:
    """Begin an attempt; return whether there is anything to train.

    There is nothing where the trial has ended, nor where the user's code was edited: then the trial is recorded as
    failed, as its result would not belong to the digest under which it is looked up.
    """
    from studies.records.results import failed_result

    remote_copy = object_store.remote_trial(job.folder) if object_store else None
    if remote_copy:
        remote_copy.reconcile()
    trial_folder = TrialFolder(job.folder, guard=lease.check, remote_copy=remote_copy)
    if trial_folder.is_complete(trains=job.trial.setup.has_training) and not job.retrain:
        return False
    trial_folder.start_attempt(str(lease.holder))
    if not _is_code_edited(job):
        return True
    reason = f"{', '.join(collect_class_paths([job.trial.setup]))}: {EDITED_CODE_HINT}"
    trial_folder.write_result(failed_result(job.trial.fingerprint, job.digests, reason))
    return False


def _fetch_remote_files(job: TrialJob, object_store: ObjectStore, dp_rank: DataParallelRank) -> None:
    """Fetch what other machines have written: weights of the trials it depends on, and rank 0's checkpoint.

    All ranks must resume from the same checkpoint, and only rank 0 has reconciled its folder with the remote copy.
    """
    for dependency in job.dependency_folders:
        if not TrialFolder(dependency).weights.exists():
            object_store.remote_trial(dependency).fetch("weights.pt", "result.json")
    checkpoint = TrialFolder(job.folder).checkpoint
    stamp_of_rank_zero = dp_rank.broadcast(_file_stamp(checkpoint))
    if stamp_of_rank_zero is None:
        checkpoint.unlink(missing_ok=True)
    elif stamp_of_rank_zero != _file_stamp(checkpoint):
        object_store.remote_trial(job.folder).fetch(checkpoint.name)


def _file_stamp(file: Path) -> tuple[int, int] | None:
    """Size in bytes and modification time in nanoseconds of a file; ``None`` where there is none."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns


def _message_senders(sender: Connection, num_trials: int) -> list[Callable[[TrialMessage], None]]:
    """Make a function for each trial that sends its messages, and ends the process if the worker is gone."""
    lock = threading.Lock()  # two threads' messages must not mix in the pipe

    def make_sender(position: int) -> Callable[[TrialMessage], None]:
        def send(message: TrialMessage) -> None:
            try:
                with lock:
                    sender.send(replace(message, position=position))
            except OSError:
                os._exit(1)  # nothing is lost: the next attempt resumes from the checkpoint

        return send

    return [make_sender(position) for position in range(num_trials)]


def _epoch_reporter(
    job: TrialJob, bundle_size: int, send: Callable[[TrialMessage], None]
) -> Callable[[Mapping[str, float]], None]:
    """Make a function that reports an epoch to the worker and in the trial's progress file."""
    num_attempts = TrialFolder(job.folder).num_attempts
    epoch_seconds: list[float] = []

    def report(values: Mapping[str, float]) -> None:
        epoch_seconds.append(values["seconds"])
        write_progress(
            job.folder,
            {
                "epoch": int(values["epoch"]) + 1,
                "epochs": job.trial.epochs,
                "validation_error": values["validation_error"],
                "pace": sum(epoch_seconds) / len(epoch_seconds),
                "node": platform.node(),
                "attempts": num_attempts,
                "bundle_size": bundle_size,
            },
        )
        send(TrialMessage("epoch", text=platform.node(), values=dict(values)))

    return report


def _make_heartbeat(send: Callable[[TrialMessage], None]) -> Callable[[], None]:
    """Make a function that sends a heartbeat, at most every ``PIPE_HEARTBEAT_SECONDS``."""
    sent_at = 0.0

    def heartbeat() -> None:
        nonlocal sent_at
        if time.monotonic() - sent_at > PIPE_HEARTBEAT_SECONDS:
            sent_at = time.monotonic()
            send(TrialMessage("beat"))

    return heartbeat


def _has_listener(sender: Connection) -> bool:
    """Whether the worker still holds its end of the pipe, which the kernel closes however the worker dies."""
    poller = select.poll()
    poller.register(sender.fileno(), 0)  # no event asked for: hang-ups and errors are always reported
    return not poller.poll(0)


def require_device_model(job: TrialJob, machine: Machine) -> None:
    """Refuse a machine on which the trial would not be bit-for-bit what its platform digest claims.

    Raises:
        HardwareMismatch: for a device of none of the models that the study was planned for.
    """
    if not job.device_models:
        return
    model = device_name(machine.device)
    if model not in job.device_models:
        planned = " or ".join(job.device_models)
        raise HardwareMismatch(
            f"the node {platform.node()} has a {model}, but the study was planned for {planned}: the node joined "
            "later. Run `ablate run` again, which queries all nodes anew."
        )


def _is_code_edited(job: TrialJob) -> bool:
    """Whether the user's code has changed since the driver computed its digest."""
    class_paths = collect_class_paths([job.trial.setup])
    try:
        return bool(class_paths) and user_code_digest(class_paths) != job.digests.get("user_code", "")
    except (SyntaxError, ValueError):  # a file that is being edited right now
        return True


def find_training_process(job: TrialJob) -> LeaseHolder | None:
    """Find the process that trains a job now, on any host; ``None`` where none does."""
    return find_holder(job.folder)
