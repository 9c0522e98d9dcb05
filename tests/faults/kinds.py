"""Every fault: how it is done to a study that runs, at a moment drawn at random."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults import ground
from tests.faults.ground import Command, Place

DISK_BYTES = 48 * 2**20
HANG_SECONDS = 20.0  # a busy machine may leave an honest trial without a step for ten
OK, FAILED, INTERRUPTED = 0, 1, 130


@dataclass
class Told:
    """What a fault says of itself.

    Attributes:
        struck: the phase in which it fell: ``starting``, ``training``, or ``over`` where the study was faster.
        exits: the exit code that the command gave under it.
        allowed: those that it may give.
        studies: what was run there.
        what: how it was done, where there are several ways.
        once: whether a trial must have been begun only once.
    """

    struck: str
    exits: int
    allowed: tuple[int, ...] = (OK,)
    studies: tuple[str, ...] = ("rates",)
    what: str = ""
    once: bool = False


@dataclass(frozen=True)
class Fault:
    """A fault.

    Attributes:
        strikes: does it, and sees the command to its end; the note of what had been trained is taken by calling
            the second argument, just before.
        around: what the place needs before and after.
        needs: whether it can be done here; else the reason why not.
    """

    strikes: Callable[[Place, Callable[[], None]], Told]
    around: Callable[[Place], contextlib.AbstractContextManager[None]] = lambda _: contextlib.nullcontext()
    needs: Callable[[], str] = lambda: ""


FAULTS: dict[str, Fault] = {}


def fault(name: str, **keywords: Any) -> Callable[[Any], Any]:
    """Enter a function as a fault."""

    def enter(strikes: Any) -> Any:
        FAULTS[name] = Fault(strikes, **keywords)
        return strikes

    return enter


@fault("driver killed")
def kill_driver(at: Place, note: Callable[[], None]) -> Told:
    command = at.start()
    struck = at.wait_for_a_moment(command)
    note()
    with contextlib.suppress(ProcessLookupError):
        os.kill(command.pid, signal.SIGKILL)
    return Told(struck, command.ended(), (-signal.SIGKILL, OK))


@fault("worker killed")
def kill_worker(at: Place, note: Callable[[], None]) -> Told:
    """A trial's process, or the Ray worker that listens to it."""
    command = at.start()
    what = at.random.choice(("trial", "Ray worker"))
    at.wait_for_a_moment(command)
    note()

    def strikes() -> bool:
        """One may end by itself in between: then the next one is struck."""
        if what == "trial":
            found = list(ground.trial_processes(at.runs).values())
        else:
            found = [pid for pid, line in ground.below(command.pid).items() if line.startswith("ray::_Worker")]
        return bool(found) and kill(at.random.choice(sorted(found)))

    struck = "training" if at.wait_for(strikes, command) else "over"
    return Told(struck, command.ended(), what=what)


@contextlib.contextmanager
def with_a_server_of_its_own(at: Place) -> Iterator[None]:
    """Trials are forked from the command's own server of processes, as everywhere but here."""
    at.environment = {"FAULTS_SERVER": ""}
    yield


@fault("server of processes killed", around=with_a_server_of_its_own)
def kill_server_of_processes(at: Place, note: Callable[[], None]) -> Told:
    """The process from which trials are forked: those that run go on, the next ones come from another."""
    return kill_below(at, note, "fork_server.run_server(", (OK,))


def kill_below(at: Place, note: Callable[[], None], words: str, allowed: tuple[int, ...]) -> Told:
    """At a random moment, a process below the driver whose command line has these words."""
    command = at.start()
    at.wait_for_a_moment(command)
    note()

    def strikes() -> bool:
        found = [pid for pid, line in ground.below(command.pid).items() if words in line]
        return any(kill(pid) for pid in found)

    struck = "training" if at.wait_for(strikes, command) else "over"
    return Told(struck, command.ended(), allowed)


def kill(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


@fault("raylet killed")
def kill_raylet(at: Place, note: Callable[[], None]) -> Told:
    """Ray's process on this node: nothing more can be started there."""
    return kill_below(at, note, "/raylet/raylet ", (OK, FAILED))


@contextlib.contextmanager
def tracked(at: Place) -> Iterator[None]:
    """With an MLflow server of its own."""
    port = ground.free_port()
    at.server = Server(at, port)
    at.environment = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
    at.server.start()
    try:
        yield
    finally:
        at.server.stop()


@dataclass
class Server:
    """An MLflow server, which comes and goes."""

    at: Place
    port: int
    processes: list[Any] = field(default_factory=list)

    def start(self) -> None:
        """Come."""
        log = self.at.folder / "server.log"
        self.processes.append(self.at.ground.fork(ground.serve, self.at.runs, self.port, log))
        deadline = time.monotonic() + 60
        while not ground.answers(self.port):
            assert self.processes[-1].is_alive(), log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """Go, at once."""
        for process in self.processes:
            process.kill()
            process.join()


@fault("MLflow server away", around=tracked)
def server_away(at: Place, note: Callable[[], None]) -> Told:
    """Killed; and back after a while, which may be after the study's end."""
    command = at.start()
    struck = at.wait_for_a_moment(command)
    note()
    at.server.stop()
    away = at.random.choice((at.random.uniform(0.2, 4.0), ground.LONGEST_SECONDS))
    at.wait_for(lambda: False, command, within=away)
    exits = None if command.runs else command.ended()
    at.server.start()
    return Told(struck, command.ended() if exits is None else exits, (OK, FAILED), what=f"{away:.0f} s")


@contextlib.contextmanager
def small_disk(at: Place) -> Iterator[None]:
    """With the run folder on a small disk of its own."""
    mount(at.runs, DISK_BYTES)
    try:
        shutil.copy(at.ground.folder / "expected" / "runs" / "mlflow.db", at.database)
        yield
    finally:
        unmount(at.runs)


def mount(folder: Path, size: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={size}".encode()):
        raise OSError(ctypes.get_errno(), "cannot mount a tmpfs")


def unmount(folder: Path) -> None:
    ctypes.CDLL(None).umount2(os.fsencode(folder), 2)  # MNT_DETACH


def cannot_mount() -> str:
    if os.geteuid() != 0:
        return "only root can mount a small disk"
    folder = Path("/tmp") / f"mount-{os.getpid()}"
    folder.mkdir(exist_ok=True)
    try:
        mount(folder, 2**20)
        unmount(folder)
    except OSError as error:
        return str(error)
    finally:
        folder.rmdir()
    return ""


@fault("disk full", around=small_disk, needs=cannot_mount)
def fill_disk(at: Place, note: Callable[[], None]) -> Told:
    """Filled to the last byte; some is freed after a while, which may be after the study's end."""
    command = at.start()
    struck = at.wait_for_a_moment(command)
    note()
    ballast = at.runs / "ballast"
    fill(ballast)
    away = at.random.choice((at.random.uniform(0.1, 3.0), ground.LONGEST_SECONDS))
    at.wait_for(lambda: False, command, within=away)
    exits = None if command.runs else command.ended()
    ballast.unlink()
    return Told(struck, command.ended() if exits is None else exits, (OK, FAILED, 2), what=f"{away:.0f} s")


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as opened, contextlib.suppress(OSError):
        size = 2**20
        while size:
            try:
                while True:
                    opened.write(b"\0" * size)
            except OSError:
                size //= 2


@fault("SQLite locked")
def lock_store(at: Place, note: Callable[[], None]) -> Told:
    """By another writer, for longer than MLflow waits (20 s) in one round of four."""
    command = at.start()
    struck = at.wait_for_a_moment(command)
    note()
    seconds = at.random.uniform(21.0, 24.0) if at.random.random() < 1 / 4 else at.random.uniform(0.5, 5.0)
    with contextlib.closing(sqlite3.connect(at.database, timeout=60, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        at.wait_for(lambda: False, command, within=seconds)
        other.execute("ROLLBACK")
    return Told(struck, command.ended(), (OK, FAILED), what=f"{seconds:.0f} s")


@fault("data vanish")
def data_vanish(at: Place, note: Callable[[], None]) -> Told:
    command = at.start()
    struck = at.wait_for_a_moment(command)
    note()
    away = at.folder / "data-away"
    (at.folder / "data").rename(away)
    at.wait_for(lambda: False, command, within=at.random.choice((at.random.uniform(0.1, 3.0), ground.LONGEST_SECONDS)))
    exits = None if command.runs else command.ended()
    away.rename(at.folder / "data")
    return Told(struck, command.ended() if exits is None else exits, (OK, FAILED, 2))


@fault("Ctrl-C once")
def interrupt(at: Place, note: Callable[[], None]) -> Told:
    command = at.start()
    struck = at.wait_for_a_moment(command)
    note()
    began = time.monotonic()
    command.signal(signal.SIGINT)
    exits = command.ended()
    return Told(struck, exits, (INTERRUPTED, OK), what=f"ends in {time.monotonic() - began:.0f} s")


@fault("Ctrl-C twice")
def interrupt_twice(at: Place, note: Callable[[], None]) -> Told:
    command = at.start()
    struck = at.wait_for_a_moment(command)
    note()
    began = time.monotonic()
    command.signal(signal.SIGINT)
    time.sleep(at.random.uniform(0.0, 1.5))
    command.signal(signal.SIGINT)
    exits = command.ended()
    return Told(struck, exits, (INTERRUPTED, OK), what=f"ends in {time.monotonic() - began:.0f} s")


def ordered(at: Place, note: Callable[[], None], what: str) -> tuple[str, Command]:
    """Order the next trial that trains to misbehave; gives back whether one did."""
    command = at.start()
    at.wait_for_a_moment(command)
    note()
    partial = at.folder / "order.partial"
    partial.write_text(what)
    partial.rename(at.folder / "order")
    taken = at.wait_for((at.folder / "order-taken").exists, command)
    (at.folder / "order").unlink(missing_ok=True)
    return "training" if taken else "over", command


@fault("out of memory")
def out_of_memory(at: Place, note: Callable[[], None]) -> Told:
    what = at.random.choice(("bytes", "tensors"))
    struck, command = ordered(at, note, what)
    return Told(struck, command.ended(), what=what)


@fault("trial raises")
def raises(at: Place, note: Callable[[], None]) -> Told:
    struck, command = ordered(at, note, "raise")
    return Told(struck, command.ended(), (OK,) if struck == "over" else (FAILED,))


@fault("trial hangs")
def hangs(at: Place, note: Callable[[], None]) -> Told:
    """It sleeps and sleeps; or its process is stopped, as on a host that swaps or is suspended."""
    at.options = ("--hang-after", str(HANG_SECONDS))
    if at.random.random() < 1 / 2:
        struck, command = ordered(at, note, "hang")
        return Told(struck, command.ended(), what="asleep")
    command = at.start()
    at.wait_for_a_moment(command)
    note()

    def strikes() -> bool:
        for pid in ground.trial_processes(at.runs).values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                return True
        return False

    struck = "training" if at.wait_for(strikes, command) else "over"
    return Told(struck, command.ended(), what="stopped")


@fault("two at once")
def two_at_once(at: Place, note: Callable[[], None]) -> Told:
    """Two studies that have four trials in common, on a store that is not there yet."""
    at.database.unlink()
    first = at.start("rates")
    time.sleep(at.random.choice((0.0, at.random.uniform(0.0, 4.0))))
    second = at.start("more_rates")
    exits = first.ended() or second.ended()
    return Told("training", exits, studies=("rates", "more_rates"), once=True)
