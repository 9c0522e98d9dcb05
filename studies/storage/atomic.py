"""Atomic, durable file writes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol


def no_guard() -> None:
    """Allow every write."""


class RemoteCopy(Protocol):
    """A second place for the files of a folder.

    Raises:
        OSError: from both methods, where the file cannot be stored or deleted there: a fault of the machine.
    """

    def upload(self, file: Path) -> None:
        """Store a file that has been renamed into place, durably."""

    def delete(self, file: Path) -> None:
        """Delete the copy of a file."""


class AtomicWriter:
    """A context for writing one file.

    To a temporary name, renamed into place durably when the block succeeds.

    Readers see the old file or the new one, never a part of it, also after a crash or a loss of power.
    """

    def __init__(
        self, target: Path, guard: Callable[[], None] = no_guard, remote_copy: RemoteCopy | None = None
    ) -> None:
        self.target, self.guard, self.remote_copy = target, guard, remote_copy
        # In the same folder, since a rename is atomic within one file system only; a random name, since a process that
        # lost the lease may still be writing.
        self.partial = target.with_name(f"{target.name}.{secrets.token_hex(6)}.partial")

    def __enter__(self) -> Path:
        return self.partial

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._commit()
        finally:
            self.partial.unlink(missing_ok=True)

    def _commit(self) -> None:
        # Content before name: after a loss of power a renamed file could otherwise be empty.
        sync_to_disk(self.partial)
        self.guard()  # as late as possible: a lease may be lost during a long write
        self.partial.rename(self.target)
        sync_to_disk(self.target.parent)
        if self.remote_copy:
            self.remote_copy.upload(self.target)


def sync_to_disk(path: Path) -> None:
    """Make a file's content, or a folder's entries, survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
