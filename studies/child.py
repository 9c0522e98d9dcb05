"""One trial in a process of its own, under its lease: what that process does, and how its worker listens to it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import platform
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from studies.board import note_progress
from studies.bucket import Bucket, bucket_of
from studies.digests import class_paths, user_code_digest
from studies.fetching import is_read_from_a_folder, require_data
from studies.forks import Forks
from studies.jobs import Job
from studies.leases import Beating, Holder, Lease, LeaseLost, acquire, holder
from studies.machine import Machine, device_name
from studies.settings import Settings
from studies.spool import Spool

if TYPE_CHECKING:
    from lightning_modules.sharing import Share

EDITED = (
    "the code behind it is not what it was as the study started. Expected the same files until the last trial has "
    "started: call `ablate run` again, which trains what is there now."
)
LOST_LEASE = 75  # the exit code of a process whose trial another one has taken over
BEAT_SECONDS = 2.0  # between two signs of life on the pipe
GATHERED_SECONDS = 0.5

Kind = Literal["epoch", "beat", "note", "ended", "elsewhere", "fault"]
LAST: tuple[Kind, ...] = ("ended", "elsewhere", "fault")


class WrongMachine(RuntimeError):
    """A node of another kind than the study was planned for."""


@dataclass(frozen=True)
class Message:
    """What a trial's process tells its worker.

    Attributes:
        kind: ``epoch`` with its values, and the node's name as text; ``beat``, a sign of life; ``note``, news in words;
            ``ended``: the result is written; ``elsewhere``: another process trains this trial; ``fault``: the process
            died, hung, or met a fault of the machine, with its traceback: the trial has no result, and is tried again.
    """

    kind: Kind
    text: str = ""
    values: Mapping[str, float] = field(default_factory=dict)


class Child:
    """A trial's process, as its worker sees it. It is no daemon: a user's data loader may want workers."""

    def __init__(self, forks: Forks, job: Job, settings: Settings, machine: Machine) -> None:
        self.hang_after_seconds = settings.hang_after_seconds
        self.fork = forks.fork(train_in_child, job, settings, machine)

    def listen(self) -> list[Message]:
        """What it tells next, signs of life apart: one message, and those that follow it within half a second.

        Each list costs the driver some milliseconds, and epochs of small networks come faster than anybody reads.
        """
        told = [self._next()]
        until = time.monotonic() + GATHERED_SECONDS
        while told[-1].kind not in LAST and self.fork.connection.poll(max(0.0, until - time.monotonic())):
            message = self._received()
            if message.kind != "beat":
                told.append(message)
        return told

    def _next(self) -> Message:
        """The next message that is more than a sign of life; a fault where it is silent for too long: it is killed."""
        while self.fork.connection.poll(self.hang_after_seconds or None):
            message = self._received()
            if message.kind != "beat":
                return message
        self.stop()
        return Message("fault", hung(self.hang_after_seconds))

    def _received(self) -> Message:
        try:
            message: Message = self.fork.connection.recv()
        except (EOFError, ConnectionError):
            return self._ended()
        return message

    def stop(self) -> None:
        """End the process; what it has written stays."""
        self.fork.kill()

    def _ended(self) -> Message:
        exitcode = self.fork.join()
        if exitcode == LOST_LEASE:
            return Message("elsewhere", "another process, which took it over")
        if exitcode == -signal.SIGKILL:
            return Message("fault", "the trial's process was killed, as the system does where memory runs out")
        return Message("fault", f"the trial's process ended with exit code {exitcode} and left no result")


class NeverBegun:
    """In the place of a trial's process that there is not, with the reason."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def listen(self) -> list[Message]:
        """The reason."""
        return [Message("fault", self.reason)]

    def stop(self) -> None:
        """There is nothing to stop."""


def hung(seconds: float) -> str:
    """Why a trial that was silent for too long was killed."""
    return (
        f"the trial gave no sign of life for {seconds:g} s (no step, no batch evaluated) and was killed. Where a "
        "single step may take longer, give a larger --hang-after."
    )


def train_in_child(job: Job, settings: Settings, machine: Machine, sender: Connection) -> None:
    """Train a job in this process, unless another one is at it, and tell how it went."""
    prepare_process(job)
    tell = _teller(sender)
    try:
        lease = acquire(job.folder)
        if lease is None:
            tell(Message("elsewhere", str(holder(job.folder) or "another process")))
            return
        with Beating(lease, on_lost=lambda: os._exit(LOST_LEASE), is_wanted=lambda: _is_listened_to(sender)):
            train_once(job, settings, machine, lease, tell)
    except LeaseLost:
        os._exit(LOST_LEASE)
    except Exception:  # what reaches this place is no result of the trial
        tell(Message("fault", traceback.format_exc()))
        return
    tell(Message("ended"))


def prepare_process(job: Job) -> None:
    """Make a process one that trains: it finds the user's modules, and its frameworks are quiet."""
    import warnings

    # On a cluster's node the user's folders lie beside this package, and are named by that.
    sys.path[:0] = [str(Path(__file__).parent.parent / path) for path in job.import_paths]
    multiprocessing.set_start_method(None, force=True)  # the platform's own, for data loaders that have workers
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=r".*LeafSpec.*")


def train_once(
    job: Job,
    settings: Settings,
    machine: Machine,
    lease: Lease,
    tell: Callable[[Message], None],
    share: Share | None = None,
) -> None:
    """Train, unless the trial has ended while it waited for its turn.

    Args:
        lease: of this process, or of the first of several workers.
    """
    from lightning_modules.reading import examples_of
    from lightning_modules.sharing import Share
    from studies.training import train

    share, bucket, beat = share or Share(), bucket_of(settings), _beat(tell)
    if not share.told_by_the_first(share.leads and _is_to_be_trained(job, lease, bucket)):
        return
    require_model(job, machine)
    if bucket:
        _fetch(job, bucket, share)
    if is_read_from_a_folder(job.fit.setup):
        require_data(settings, beat)
    examples = examples_of(job.fit.setup, settings.data_root, settings.cache, lambda _: beat())
    train(
        job.fit,
        examples,
        job.folder,
        digests=job.digests,
        machine=machine,
        donors=job.donors,
        report=_reporter(job, tell),
        note=lambda text: tell(Message("note", text)),
        beat=beat,
        guard=lease.check,
        mirror=bucket.of_trial(job.folder) if bucket else None,
        checkpoint_seconds=settings.checkpoint_seconds,
        share=share,
    )


def _is_to_be_trained(job: Job, lease: Lease, bucket: Bucket | None) -> bool:
    """Begin an attempt; not where the trial has ended, nor where its code was edited, which is its result then."""
    from studies.results import failed

    twin = bucket.of_trial(job.folder) if bucket else None
    if twin:
        twin.settle()
    spool = Spool(job.folder, guard=lease.check, mirror=twin)
    if spool.is_complete(trains=job.fit.setup.trains) and not job.again:
        return False
    spool.begin(str(lease.holder))
    if not _is_edited(job):
        return True
    reason = f"{', '.join(class_paths([job.fit.setup]))}: {EDITED}"
    spool.write(failed(job.fit.fingerprint, job.digests, reason))
    return False


def _fetch(job: Job, bucket: Bucket, share: Share) -> None:
    """What another machine has written: the donors' weights; and to workers beside the first one, the checkpoint."""
    for donor in job.donors:
        if not Spool(donor).weights.exists():
            bucket.of_trial(donor).fetch("weights.pt", "result.json")
    checkpoint = Spool(job.folder).checkpoint
    told = share.told_by_the_first(_seen(checkpoint))
    if told is None:
        checkpoint.unlink(missing_ok=True)
    elif told != _seen(checkpoint):
        bucket.of_trial(job.folder).fetch(checkpoint.name)


def _seen(file: Path) -> tuple[int, int] | None:
    """What tells a file from another one of its name; ``None`` where there is none."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns


def _teller(sender: Connection) -> Callable[[Message], None]:
    """Tells the worker; where nobody listens any more, ends at once: the next start goes on from the checkpoint."""

    def tell(message: Message) -> None:
        try:
            sender.send(message)
        except OSError:
            os._exit(1)

    return tell


def _reporter(job: Job, tell: Callable[[Message], None]) -> Callable[[Mapping[str, float]], None]:
    """Tells of an epoch: the worker, and whoever looks into the trial's folder."""
    attempts, seconds, epochs = Spool(job.folder).attempts, list[float](), job.fit.epochs

    def report(values: Mapping[str, float]) -> None:
        seconds.append(values["seconds"])
        note_progress(
            job.folder,
            {
                "epoch": int(values["epoch"]) + 1,
                "epochs": epochs,
                "validation_error": values["validation_error"],
                "pace": sum(seconds) / len(seconds),
                "node": platform.node(),
                "attempts": attempts,
            },
        )
        tell(Message("epoch", text=platform.node(), values=dict(values)))

    return report


def _beat(tell: Callable[[Message], None]) -> Callable[[], None]:
    """A sign of life, passed on every few seconds at most."""
    told_at = 0.0

    def beat() -> None:
        nonlocal told_at
        if time.monotonic() - told_at > BEAT_SECONDS:
            told_at = time.monotonic()
            tell(Message("beat"))

    return beat


def _is_listened_to(sender: Connection) -> bool:
    """Whether the worker still has its end of the pipe: it closes when the worker dies, however that happens."""
    watched = select.poll()
    watched.register(sender.fileno(), 0)
    return not watched.poll(0)


def require_model(job: Job, machine: Machine) -> None:
    """Refuse a machine on which the trial's bits would not be what its digest says: a node that came later.

    Raises:
        WrongMachine: where it is none of the models that the study was planned for.
    """
    found = device_name(machine.device) if job.models else ""
    if job.models and found not in job.models:
        raise WrongMachine(
            f"the node {platform.node()} has a {found}, and the study was planned for {' or '.join(job.models)}: a "
            "node that joined later. Call `ablate run` again, which asks all nodes anew."
        )


def _is_edited(job: Job) -> bool:
    """Whether the user's code is no longer what the driver saw."""
    paths = class_paths([job.fit.setup])
    try:
        return bool(paths) and user_code_digest(paths) != job.digests.get("user_code", "")
    except (SyntaxError, ValueError):  # in the middle of an edit
        return True


def who_trains(job: Job) -> Holder | None:
    """The process that trains a job now, anywhere; ``None`` where none does."""
    return holder(job.folder)
