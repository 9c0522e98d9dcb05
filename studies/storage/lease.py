"""Leases: one process at a time works in a folder, on all its hosts.

A lease is a numbered file in the folder; the highest number holds the lease. To take over from a holder that stopped
renewing, a process creates the file of the next number, in which only one can succeed. Ages are compared by the file
system's clock alone, since hosts' clocks differ. A process is identified by host, PID namespace and start time, since
PIDs are reused. (Gray & Cheriton 1989 describe leases; the number serves as a fencing token.)
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType

from lightning_modules.specs.errors import DamagedFileError
from lightning_modules.stored_files import dump_json, read_json

LEASE_SCHEMA = 1
LEASE_REMEDY = "Delete it where no process works in its folder any more; it times out by itself after a minute."
LEASE_SHAPE = {"host": str, "machine": str, "process": int, "born": str, "token": str, "schema": int}

# Twelve missed renewals: a network file system may hang for some seconds, and the holder itself gives up at half.
LEASE_TIMEOUT_SECONDS = 60.0  # for holders on other hosts; one on this host is known dead at once
HEARTBEAT_SECONDS = 5.0

# What file systems without hard links answer: FAT and SMB (EPERM), FUSE (ENOSYS, EOPNOTSUPP), exhausted links (EMLINK).
NO_HARD_LINK_ERRNOS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)


class LeaseLost(BaseException):
    """Another process has taken the lease over.

    This one must not write any more.

    Not an ``Exception``: a trial that lost its lease has not failed, and no handler may record this as its result.
    """


@dataclass(frozen=True, kw_only=True)
class LeaseHolder:
    """The process that holds a lease, identified among those of all hosts.

    Attributes:
        machine: the host's boot ID and PID namespace; empty where the system has none.
        process: PID.
        born: start time of the process, in clock ticks since boot.
        token: random, one per lease: a process that takes a lease again is another holder.
    """

    host: str
    machine: str
    process: int
    born: str
    token: str
    schema: int = LEASE_SCHEMA

    @classmethod
    def of_this_process(cls) -> LeaseHolder:
        """This process as a holder, with a new token."""
        return cls(
            host=platform.node(),
            machine=_machine_id(),
            process=os.getpid(),
            born=_process_start(os.getpid()),
            token=secrets.token_hex(8),
        )

    @property
    def is_known_dead(self) -> bool:
        """Whether the process ran on this host and has ended.

        ``False`` for processes of other hosts.
        """
        is_local = bool(self.machine) and self.machine == _machine_id()
        return is_local and _process_start(self.process) != self.born

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


@dataclass(frozen=True)
class Lease:
    """A lease that this process took.

    Another process may have taken it over since.
    """

    folder: Path
    number: int
    holder: LeaseHolder

    @property
    def file(self) -> Path:
        """File of the lease; its modification time is that of the last renewal."""
        return self.folder / f"lease-{self.number:06d}.json"

    def check(self) -> None:
        """Check that the lease is still held, before a write that matters.

        Raises:
            LeaseLost: where it is not.
        """
        is_latest = _lease_numbers(self.folder)[-1:] == [self.number]
        if not is_latest or _read_holder(self.file) != self.holder:
            raise LeaseLost(f"the lease on {self.folder} was taken over")

    @property
    def is_held(self) -> bool:
        """Whether this process still holds the lease."""
        try:
            self.check()
        except LeaseLost:
            return False
        return True

    def renew(self) -> None:
        """Renew the lease, so that others know its holder alive.

        Raises:
            LeaseLost: where the lease is no longer held.
        """
        self.check()
        try:
            os.utime(self.file)
        except FileNotFoundError:
            raise LeaseLost(f"the lease on {self.folder} was taken over") from None

    def release(self) -> None:
        """Release the lease, if it is still held."""
        try:
            self.check()
        except LeaseLost:
            return
        self.file.unlink(missing_ok=True)


def acquire_lease(folder: Path) -> Lease | None:
    """Take the lease on a folder; ``None`` where another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    # Listed once: of several processes that see the same numbers, only one can create the next.
    numbers = _lease_numbers(folder)
    if numbers and _live_holder(folder, numbers[-1]) is not None:
        return None
    lease = Lease(folder, (numbers[-1] if numbers else 0) + 1, LeaseHolder.of_this_process())
    if not _create_lease_file(lease):
        return None
    for number in numbers:
        Lease(folder, number, lease.holder).file.unlink(missing_ok=True)
    return lease


def find_holder(folder: Path) -> LeaseHolder | None:
    """The live holder of the lease on a folder.

    ``None`` where there is none, or it died or stopped renewing.
    """
    numbers = _lease_numbers(folder)
    return _live_holder(folder, numbers[-1]) if numbers else None


def _live_holder(folder: Path, number: int) -> LeaseHolder | None:
    """The holder of the lease of a number, unless it died or stopped renewing."""
    file = Lease(folder, number, LeaseHolder.of_this_process()).file
    holder = _read_holder(file)
    if holder is None or holder.is_known_dead or _seconds_since_renewal(file) > LEASE_TIMEOUT_SECONDS:
        return None
    return holder


def is_lease_expired(folder: Path) -> bool:
    """Whether a folder has a lease without a live holder.

    The holder ended without releasing it.
    """
    return bool(_lease_numbers(folder)) and find_holder(folder) is None


def remove_expired_lease(folder: Path) -> None:
    """Remove the lease of a process that ended without releasing it; one that is held stays."""
    if not is_lease_expired(folder):
        return
    lease = acquire_lease(folder)
    if lease:
        lease.release()


class Heartbeat:
    """A context that renews a lease from a thread and reports its loss.

    Args:
        on_lost: called in that thread; a trial ends its process there.
        is_wanted: asked every second; work that nobody waits for counts as a lost lease.
    """

    def __init__(self, lease: Lease, on_lost: Callable[[], None], is_wanted: Callable[[], bool] = lambda: True) -> None:
        self.lease, self.on_lost, self.is_wanted = lease, on_lost, is_wanted
        self.stop_event = threading.Event()
        self.thread = threading.Thread(target=self._renew_until_stopped, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        self.thread.start()
        return self.lease

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_event.set()
        self.thread.join()
        self.lease.release()

    def _renew_until_stopped(self) -> None:
        renewed_at = time.monotonic()
        while not self.stop_event.wait(min(1.0, HEARTBEAT_SECONDS)):
            if not self.is_wanted():
                self.on_lost()
                return
            if time.monotonic() - renewed_at < HEARTBEAT_SECONDS:
                continue
            try:
                self.lease.renew()
                renewed_at = time.monotonic()
            except LeaseLost:
                self.on_lost()
                return
            except OSError:  # a file system may fail for a while; well before others take over, this process must stop
                if time.monotonic() - renewed_at > LEASE_TIMEOUT_SECONDS / 2:
                    self.on_lost()
                    return


def _create_lease_file(lease: Lease) -> bool:
    """Create a lease's file, complete, unless there is one of its number."""
    partial = lease.folder / f".lease-{lease.holder.token}"
    try:
        partial.write_bytes(dump_json(asdict(lease.holder)))
        _link_file(partial, lease.file)
    except FileExistsError:
        return False
    finally:
        partial.unlink(missing_ok=True)
    return True


def _link_file(partial: Path, file: Path) -> None:
    """Give a complete file its name, where that is free.

    Raises:
        FileExistsError: where it is taken.
    """
    # A hard link fails where the name exists, on NFS too, and the file appears with its content. Exclusive creation
    # fails there as well, but readers may see the file empty for a moment: see `_read_holder`.
    try:
        os.link(partial, file)
    except OSError as error:
        if error.errno not in NO_HARD_LINK_ERRNOS:
            raise
        with file.open("x") as target:
            target.write(partial.read_text())


def _lease_numbers(folder: Path) -> list[int]:
    """Numbers of the leases in a folder, ascending."""
    numbers = []
    for file in folder.glob("lease-*.json"):
        match = re.fullmatch(r"lease-(\d+)\.json", file.name)
        if match:
            numbers.append(int(match[1]))
    return sorted(numbers)


def _read_holder(file: Path) -> LeaseHolder | None:
    """The holder that a lease's file names; ``None`` where the file is gone."""
    unknown = f"an unknown host (its lease {file} cannot be read)"
    # A file that is being written, is damaged, or is of another version still belongs to someone: it holds the lease
    # until it times out.
    try:
        holder = LeaseHolder(**read_json(file, LEASE_SHAPE, LEASE_REMEDY))
    except FileNotFoundError:
        return None
    except DamagedFileError:
        return LeaseHolder(host=unknown, machine="", process=0, born="", token="", schema=0)
    return holder if holder.schema == LEASE_SCHEMA else replace(holder, host=unknown, machine="", token="")


def verify_lease(file: Path) -> None:
    """Check that a lease's file can be read.

    Raises:
        DamagedFileError: where it cannot.
    """
    with contextlib.suppress(FileNotFoundError):
        read_json(file, LEASE_SHAPE, LEASE_REMEDY)


def _seconds_since_renewal(file: Path) -> float:
    """Time since a file was modified, by the clock of its file system."""
    probe = file.with_name(f".clock-{secrets.token_hex(4)}")
    try:
        probe.touch()
        return probe.stat().st_mtime - file.stat().st_mtime
    except OSError:
        return 0.0  # without access to the file system nobody can be declared dead
    finally:
        probe.unlink(missing_ok=True)


def _machine_id() -> str:
    """Boot ID and PID namespace; empty outside Linux.

    Within them a PID and a start time identify a process.
    """
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot_id} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _process_start(process_id: int) -> str:
    """Start time of a process on this host, in clock ticks since boot.

    Empty where it has ended or is unknown.
    """
    try:
        # proc(5): the second field, the command, may hold spaces and parentheses: what follows the last one counts.
        fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    state, start_time = fields[0], fields[19]
    return "" if state in ("Z", "X") else start_time  # a zombie's work is over
