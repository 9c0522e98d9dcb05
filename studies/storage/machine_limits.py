"""Limits of the machine that a study meets: free space and inodes on its disks, and a shell's limit of memory."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

from studies.settings import Settings, SettingsError

MIN_FREE_BYTES = 4 * 2**20  # an empty tracking database has 1 MB, and a small network's trial as much
MIN_FREE_INODES = 100  # a trial has about ten files
MIN_ADDRESS_SPACE_BYTES = 16 * 2**30  # Ray's raylet maps 13.4 GB on a machine of 48 GB, and uses a fraction of it
FULL_DISK_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_DISK_TEXTS = (*map(os.strerror, FULL_DISK_ERRNOS), "database or disk is full")


def require_room(settings: Settings) -> None:
    """Refuse a start that could not write its first files, or whose processes could not map their memory.

    Raises:
        SettingsError: with what was found, what is expected and what to do.
    """
    for folder in {settings.runs_folder, settings.shared_folder}:
        shortage = _describe_shortage(folder, MIN_FREE_BYTES)
        if shortage:
            raise SettingsError(
                f"cannot write to the run folder {folder}: {shortage}. Free space there, for example with "
                f"`ablate gc{settings.command_options}`, "
                "or give another folder with --runs."
            )
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < MIN_ADDRESS_SPACE_BYTES:
        raise SettingsError(
            f"this shell limits the address space of a process to {limit / 2**30:.1f} GiB (`ulimit -v`); expected at "
            f"least {MIN_ADDRESS_SPACE_BYTES / 2**30:.0f} GiB, as Ray and torch map far more than they use. "
            "Lift it with `ulimit -v unlimited`."
        )


def is_full_disk(error: BaseException | str) -> bool:
    """Whether an error, one that it came from, or the text of one says that a disk is full."""
    if isinstance(error, str):
        return any(text in error for text in FULL_DISK_TEXTS)
    return any(is_full_disk(str(link)) for link in _chain(error))


def describe_full_disk(settings: Settings, num_trials_left: int) -> str:
    """Say which folder has no room, how much is needed, what frees it, and how to go on."""
    folders = {settings.runs_folder, settings.shared_folder}
    folder = min(folders, key=lambda folder: _free_space(folder)[0])
    largest = max(map(_num_bytes, settings.trials_folder.glob("[!.]*-*")), default=0)
    # A file is written beside the one that it replaces, and the tracking store holds a copy of each result.
    needed = max(MIN_FREE_BYTES, 2 * largest * num_trials_left)
    shortage = _describe_shortage(folder, needed) or f"expected {_in_megabytes(needed)}"
    trials = f"{num_trials_left} trials" if num_trials_left > 1 else "trial"
    return (
        f"the disk of {folder} is full: {shortage} for the {trials} left. Free space there, for example with "
        f"`ablate gc{settings.command_options}`, and give the same command again: trials that have ended are kept, and "
        "the others resume from their last checkpoints."
    )


def _describe_shortage(folder: Path, needed_bytes: int) -> str:
    """What the disk of a folder lacks; empty where nothing."""
    free_bytes, free_inodes = _free_space(folder)
    if free_inodes < MIN_FREE_INODES:
        return f"its disk has {free_inodes} inodes left (files that can be made); expected {MIN_FREE_INODES} or more"
    if free_bytes < needed_bytes:
        return f"its disk has {_in_megabytes(free_bytes)} left; expected at least {_in_megabytes(needed_bytes)}"
    return ""


def _free_space(folder: Path) -> tuple[int, float]:
    """Bytes and inodes that this user may still take on the disk of a folder, which need not exist yet."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    disk = os.statvfs(existing)
    # Some file systems have no fixed number of inodes, and say 0.
    return disk.f_bavail * disk.f_frsize, disk.f_favail if disk.f_files else float("inf")


def _num_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*") if file.is_file())


def _in_megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB"


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link:
        yield link
        link = link.__cause__ or link.__context__
