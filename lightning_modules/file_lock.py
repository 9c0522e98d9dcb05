"""Locks that the kernel releases, and shared folders that one process makes while the others wait."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

LOCK_POLL_SECONDS = 0.2  # rather than blocking in flock: a waiting trial must send heartbeats

# What file systems without locks answer; NFS without its lock daemon says ENOLCK, and EBADF for a read-only file.
NO_LOCK_ERRNOS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF)
NAME_TAKEN_ERRNOS = (errno.EEXIST, errno.ENOTEMPTY)  # of a rename onto a folder that holds files

Content = TypeVar("Content")


def _do_nothing() -> None:
    """Wait without a word."""


@contextmanager
def exclusive_lock(file: Path, on_wait: Callable[[], None] = _do_nothing) -> Iterator[bool]:
    """Hold a lock that the kernel releases when the process ends; its file is removed at the end.

    Args:
        file: its folder must exist.
        on_wait: called several times a second while another process holds the lock.

    Yields whether the file system has locks.
    """
    descriptor = _open_lock_file(file)
    is_exclusive = _wait_for_lock(descriptor, on_wait)
    while is_exclusive and not _is_current(descriptor, file):  # its holder has removed it meanwhile
        os.close(descriptor)
        descriptor = _open_lock_file(file)
        is_exclusive = _wait_for_lock(descriptor, on_wait)
    try:
        yield is_exclusive
    finally:
        with suppress(OSError):
            file.unlink()
        os.close(descriptor)


def _is_current(descriptor: int, file: Path) -> bool:
    """Whether an open file is still the one of its name."""
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def _open_lock_file(file: Path) -> int:
    try:
        return os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EROFS):
            raise
        return os.open(file, os.O_RDONLY)  # of another user of a shared folder, who created it


def _wait_for_lock(descriptor: int, on_wait: Callable[[], None]) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            time.sleep(LOCK_POLL_SECONDS)
        except OSError as error:
            if error.errno not in NO_LOCK_ERRNOS:
                raise
            return False
        else:
            return True


def make_folder_once(
    folder: Path,
    read: Callable[[Path], Content | None],
    fill: Callable[[Path], None],
    on_wait: Callable[[], None] = _do_nothing,
) -> Content | None:
    """Read a shared folder, which one process makes first where it is missing or unreadable.

    The folder gets its name once it is complete. Where the file system has no locks, several processes may fill a
    folder each, and the first gives its own the name.

    Args:
        read: returns the folder's content; ``None`` where it is missing or unreadable.
        fill: writes the content into an empty folder beside it.
        on_wait: called several times a second while another process makes the folder.

    Returns:
        What ``read`` returns at the end.
    """
    content = read(folder)
    if content is not None:
        return content
    folder.parent.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(folder.with_name(f".{folder.name}.lock"), on_wait) as is_exclusive:
        content = read(folder)
        if content is not None:
            return content  # another process was first
        if is_exclusive:
            for leftover in folder.parent.glob(f".{folder.name}.*.partial"):  # of a process that was killed
                shutil.rmtree(leftover, ignore_errors=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
        try:
            fill(partial)
            _give_name(partial, folder, read)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return read(folder)


def _give_name(partial: Path, folder: Path, read: Callable[[Path], Content | None]) -> None:
    """Give a complete folder its name; what another process made meanwhile keeps it, and what is unreadable goes."""
    try:
        partial.rename(folder)
    except OSError as error:
        if error.errno not in NAME_TAKEN_ERRNOS:
            raise
        if read(folder) is None:
            unreadable = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
            folder.rename(unreadable)
            partial.rename(folder)
            shutil.rmtree(unreadable, ignore_errors=True)
