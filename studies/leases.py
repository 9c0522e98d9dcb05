"""Who may work in a folder now: one holder at a time, also where several hosts share the file system.

A lease is a numbered file in the folder. To take over from a holder that fell silent is to make the file of the next
number, which only one can do; whoever holds the highest number holds the lease. Nobody's clock but the file system's
counts, and a process is known by its host, its place in the host's table of processes and its start, not by its number.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

SCHEMA = 1
EXPIRES_SECONDS = 60.0  # after the last sign of life of a holder that cannot be asked otherwise
BEAT_SECONDS = 5.0
NO_HARD_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)


class LeaseLost(BaseException):
    """Another process has taken the lease over: what this one does now must not be written.

    No ``Exception``: a trial that lost its lease has not failed, and nothing may take this for its result.
    """


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A process, known among those of all hosts that see the same folder.

    Attributes:
        machine: the host's present start, and the table in which its processes are numbered.
        born: when the process started, in the ticks of that start.
        token: drawn at random for one lease.
    """

    host: str
    machine: str
    process: int
    born: str
    token: str
    schema: int = SCHEMA

    @classmethod
    def me(cls) -> Holder:
        """This process, with a new token."""
        return cls(
            host=platform.node(),
            machine=_machine(),
            process=os.getpid(),
            born=_born(os.getpid()),
            token=secrets.token_hex(8),
        )

    @property
    def is_known_dead(self) -> bool:
        """Whether the process ran here and has ended; of another host's, nothing is known."""
        return bool(self.machine) and self.machine == _machine() and _born(self.process) != self.born

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


@dataclass(frozen=True)
class Lease:
    """A lease that was taken: as good as its file, which others may overtake."""

    folder: Path
    number: int
    holder: Holder

    @property
    def file(self) -> Path:
        """Whose age says when the holder last gave a sign of life."""
        return self.folder / f"lease-{self.number:06d}.json"

    def check(self) -> None:
        """Ask whether the lease is still held: before anything that matters is written.

        Raises:
            LeaseLost: where it is not.
        """
        if _numbers(self.folder)[-1:] != [self.number] or _read(self.file) != self.holder:
            raise LeaseLost(f"the lease on {self.folder} was taken over")

    def renew(self) -> None:
        """Give a sign of life.

        Raises:
            LeaseLost: where the lease is no longer held.
        """
        self.check()
        try:
            os.utime(self.file)
        except FileNotFoundError:
            raise LeaseLost(f"the lease on {self.folder} was taken over") from None

    def release(self) -> None:
        """Give the lease back, if it is still held."""
        try:
            self.check()
        except LeaseLost:
            return
        self.file.unlink(missing_ok=True)


def acquire(folder: Path) -> Lease | None:
    """Take the lease on a folder; ``None`` where someone else holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = _numbers(folder)  # asked once: of several who see the same ones, one makes the next
    if numbers and _holds(folder, numbers[-1]) is not None:
        return None
    lease = Lease(folder, (numbers[-1] if numbers else 0) + 1, Holder.me())
    if not _make(lease):
        return None
    for number in numbers:
        Lease(folder, number, lease.holder).file.unlink(missing_ok=True)
    return lease


def holder(folder: Path) -> Holder | None:
    """Who holds the lease on a folder now; ``None`` where nobody does, or one who is dead or was silent too long."""
    numbers = _numbers(folder)
    return _holds(folder, numbers[-1]) if numbers else None


def _holds(folder: Path, number: int) -> Holder | None:
    """Who holds the lease of a number."""
    file = Lease(folder, number, Holder.me()).file
    found = _read(file)
    if found is None or found.is_known_dead or _silent_seconds(file) > EXPIRES_SECONDS:
        return None
    return found


def expired(folder: Path) -> bool:
    """Whether a lease lies in a folder that nobody holds: its holder ended without giving it back."""
    return bool(_numbers(folder)) and holder(folder) is None


class Beating:
    """Keeps a lease alive from a thread of its own, and tells at once when it is lost. Use it as a context.

    Args:
        on_lost: called in that thread; a trial ends its process there.
        is_wanted: asked at every beat; where nobody wants the work any more, that counts as lost.
    """

    def __init__(self, lease: Lease, on_lost: Callable[[], None], is_wanted: Callable[[], bool] = lambda: True) -> None:
        self.lease, self.on_lost, self.is_wanted = lease, on_lost, is_wanted
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        self.thread.start()
        return self.lease

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self.thread.join()
        self.lease.release()

    def _beat(self) -> None:
        renewed = time.monotonic()
        while not self.ended.wait(min(1.0, BEAT_SECONDS)):
            if not self.is_wanted():
                self.on_lost()
                return
            if time.monotonic() - renewed < BEAT_SECONDS:
                continue
            try:
                self.lease.renew()
                renewed = time.monotonic()
            except LeaseLost:
                self.on_lost()
                return
            except OSError:  # the file system falters: tried again until others may think this process dead
                if time.monotonic() - renewed > EXPIRES_SECONDS / 2:
                    self.on_lost()
                    return


def _make(lease: Lease) -> bool:
    """Make a lease's file, whole and only where there is none of its number."""
    partial = lease.folder / f".lease-{lease.holder.token}"
    try:
        partial.write_text(json.dumps(asdict(lease.holder)))
        _link(partial, lease.file)
    except FileExistsError:
        return False
    finally:
        partial.unlink(missing_ok=True)
    return True


def _link(partial: Path, file: Path) -> None:
    """Give a whole file its name where that is free; where there are no hard links, make it and fill it after."""
    try:
        os.link(partial, file)
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        with file.open("x") as target:
            target.write(partial.read_text())


def _numbers(folder: Path) -> list[int]:
    names = (re.fullmatch(r"lease-(\d+)\.json", entry.name) for entry in folder.glob("lease-*.json"))
    return sorted(int(name[1]) for name in names if name)


def _read(file: Path) -> Holder | None:
    """A lease's holder; ``None`` where the file is gone. One of another schema is somebody unknown."""
    try:
        data = json.loads(file.read_text())
    except FileNotFoundError:
        return None
    except ValueError:  # it is being written
        data = {}
    if data.get("schema") != SCHEMA:
        return Holder(host="an unknown host", machine="", process=0, born="", token="", schema=0)
    return Holder(**data)


def _silent_seconds(file: Path) -> float:
    """Time since a file was touched, by the clock of the file system that holds it."""
    probe = file.with_name(f".clock-{secrets.token_hex(4)}")
    try:
        probe.touch()
        return probe.stat().st_mtime - file.stat().st_mtime
    except OSError:
        return 0.0  # nothing can be written or read here: so nobody can be said to be silent
    finally:
        probe.unlink(missing_ok=True)


def _machine() -> str:
    try:
        start = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{start} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _born(process: int) -> str:
    """When a process of this host started; empty where it has ended, or nothing tells."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in ("Z", "X") else fields[19]
