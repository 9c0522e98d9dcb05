"""This process's folder for temporary files: sockets, Ray's session, copies of downloads.

All that this package and Ray write to the system's temporary folder lies below one folder per process. It goes when the
process ends; that of a killed process is found by its lock, which the kernel has released, and goes at the next start
of a study or by ``ablate gc``.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import util
from pathlib import Path

from lightning_modules.specs.errors import UserError

PREFIX = "ablate-"
LOCK_NAME = "lock"
NUM_NAME_DIGITS = 6  # of the hexadecimal number after the prefix
# The kernel allows 107 bytes for the path of a Unix socket. Ray's longest one below its folder is
# /session_2026-11-27_09-15-56_922734_4194304/sockets/plasma_store.
MAX_PARENT_LENGTH = 107 - len(f"/{PREFIX}123456/session_2026-11-27_09-15-56_922734_4194304/sockets/plasma_store")

_own_folders: dict[int, Path] = {}  # by process id: a forked child must not use that of its parent


def process_folder() -> Path:
    """The folder of this process, which only its user may open; made at the first call.

    It lies in ``RAY_TMPDIR`` or ``TMPDIR``, and in ``/tmp`` where their paths are too long for the sockets in it.

    Raises:
        UserError: where none of these can be written to.
    """
    process_id = os.getpid()
    if process_id not in _own_folders:
        _own_folders[process_id] = _make_folder()
        atexit.register(_remove_own, process_id)
        util.Finalize(None, _remove_own, (process_id,), exitpriority=0)  # a child of multiprocessing skips atexit
    return _own_folders[process_id]


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder below that of this process, which is removed at the end of the block."""
    with tempfile.TemporaryDirectory(dir=process_folder()) as folder:
        yield Path(folder)


def find_abandoned() -> Iterator[Path]:
    """The folders of this user's processes that have ended without removing them."""
    for parent in _parents():
        # Exactly the names that `_make_locked_folder` gives: a user's own /tmp/ablate-results is no scratch folder.
        for folder in parent.glob(f"{PREFIX}{'[0-9a-f]' * NUM_NAME_DIGITS}"):
            with suppress(OSError):  # another process removes it
                is_own = folder.lstat().st_uid == os.getuid() and folder.is_dir() and not folder.is_symlink()
                if is_own and _is_abandoned(folder):
                    yield folder


def remove_abandoned() -> None:
    """Remove what killed processes of this user have left."""
    for folder in find_abandoned():
        shutil.rmtree(folder, ignore_errors=True)


def _parents() -> list[Path]:
    """Folders in which a process may make its own, the preferred one first."""
    named = [os.environ.get("RAY_TMPDIR", ""), tempfile.gettempdir(), "/tmp", "/var/tmp"]
    parents = [Path(name).absolute() for name in named if name]
    return [parent for parent in dict.fromkeys(parents) if len(os.fsencode(parent)) <= MAX_PARENT_LENGTH]


def _make_folder() -> Path:
    reasons: list[str] = []
    for parent in _parents():
        try:
            return _make_locked_folder(parent)
        except OSError as error:
            reasons.append(f"{parent}: {error.strerror}")
    raise UserError(
        f"there is no folder for temporary files ({'; '.join(reasons)}). Free space there, or set TMPDIR to a folder "
        f"that can be written to, whose path has at most {MAX_PARENT_LENGTH} characters: the sockets below it have "
        "longer ones."
    )


def _make_locked_folder(parent: Path) -> Path:
    name = f"{PREFIX}{secrets.token_hex(NUM_NAME_DIGITS // 2)}"
    unnamed = parent / f".{name}"
    unnamed.mkdir(mode=0o700)
    try:
        # Never closed: the kernel releases the lock when this process has ended, however it does.
        descriptor = os.open(unnamed / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Under its name only when it is locked: until then any process would take it for abandoned.
        return unnamed.rename(parent / name)
    except OSError:
        shutil.rmtree(unnamed, ignore_errors=True)
        raise


def _is_abandoned(folder: Path) -> bool:
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR)
    except FileNotFoundError:
        # Ray's processes outlive a killed one by seconds, and wrote here after its removal. Anything else is not ours.
        return all(entry.name.startswith("session_") for entry in folder.iterdir())
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _remove_own(process_id: int) -> None:
    if os.getpid() == process_id:  # a forked child ends before its parent
        shutil.rmtree(_own_folders[process_id], ignore_errors=True)
