"""Download image data from a URI.

Once for all trials of a machine, and never used while incomplete.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath

from lightning_modules.data.types import DataError
from lightning_modules.file_lock import exclusive_lock, make_folder_once
from lightning_modules.specs.data import Data
from lightning_modules.specs.setup import Setup
from studies.settings import Settings, SettingsError
from studies.storage.object_store import MAX_CONCURRENT_REQUESTS, ObjectInfo, ObjectStore, ObjectStoreError

IMAGE_FOLDERS = ("train", "val", "test")
TIME_TOLERANCE_NS = 2_000_000_000  # FAT keeps times in steps of two seconds


def _do_nothing(*_: object) -> None:
    """Ignore whatever is reported."""


def uses_data_root(setup: Setup) -> bool:
    """Whether a setup reads image data from the data root."""
    # The digits come with scikit-learn, and a user's data module reads its own.
    return isinstance(setup.data, Data) and setup.data.source != "digits"


def with_local_data(settings: Settings, log: Callable[[str], None] = _do_nothing) -> Settings:
    """Settings whose data root is a local copy of the data at their URI.

    The copy is downloaded unless it exists. Its files that are missing or were changed since, by their sizes and times,
    are downloaded again, and images that do not belong to it are removed.

    Args:
        log: called before a download.

    Raises:
        DataError: where there are no data at the URI, or they cannot be downloaded.
    """
    if not settings.data_uri:
        return settings
    files = _list_remote_files(settings.data_uri)
    local_root = settings.cache_folder / "fetched" / _content_name(settings.data_uri, files)
    if not local_root.is_dir():
        megabytes = sum(file.num_bytes for file in files.values()) / 1e6
        log(
            f"downloading {settings.redacted_data_location}: {len(files):,} files, {megabytes:,.1f} MB, "
            "once for this machine"
        )
        _download_once(settings.data_uri, files, local_root)
    else:
        _repair_copy(settings.data_uri, files, local_root, log)
    return replace(settings, data_root=local_root)


def ensure_local_data(settings: Settings, heartbeat: Callable[[], None] = _do_nothing) -> None:
    """Download the study's data, where this machine does not have them yet.

    Args:
        heartbeat: called repeatedly during the download.

    Raises:
        DataError: where the data at the URI have changed since the study was started.
    """
    if not settings.data_uri or settings.data_root.is_dir():
        return
    files = _list_remote_files(settings.data_uri)
    if _content_name(settings.data_uri, files) != settings.data_root.name:
        raise DataError(
            f"the data at {settings.redacted_data_location} have changed since the study was started. "
            "Call `ablate run` again, which uses the present data."
        )
    _download_once(settings.data_uri, files, settings.data_root, heartbeat)


def _list_remote_files(uri: str) -> dict[str, ObjectInfo]:
    object_store = ObjectStore(uri)
    try:
        files = object_store.list_files()
    except (ObjectStoreError, SettingsError) as error:
        reason = str(error).removesuffix(".")
        raise DataError(f"cannot download the data: {reason}. Give another location with --data-root.") from error
    if not files:
        raise DataError(
            f"there are no files at {object_store.address}. Expected a folder with train/<class>/ and test/<class>/ "
            "(or val/<class>/), or with torchvision's files: give another location with --data-root."
        )
    # Keys of an object store are arbitrary text: `..` in one would write outside of the folder.
    for name in files:
        if ".." in PurePosixPath(name).parts or name.startswith("/"):
            raise DataError(
                f"{object_store.address} holds a file that lies outside of the folder ({name!r}): remove it."
            )
    return files


def _content_name(uri: str, files: Mapping[str, ObjectInfo]) -> str:
    """A digest of the address and of all files' paths, sizes and times.

    Other data get another folder.
    """
    digest = hashlib.sha256(f"{ObjectStore(uri).address}\n".encode())
    for name, file in sorted(files.items()):
        digest.update(f"{name}|{file.num_bytes}|{file.modified_ns}\n".encode())
    return digest.hexdigest()[:16]


def _download_once(
    uri: str, files: Mapping[str, ObjectInfo], target: Path, heartbeat: Callable[[], None] = _do_nothing
) -> None:
    """Download files into a folder, which gets its name when it is complete.

    Of several processes, one downloads.

    Raises:
        DataError: where a file cannot be downloaded.
    """

    def fill(folder: Path) -> None:
        _download_files(ObjectStore(uri), files, folder, heartbeat)
        os.sync()  # content before name: the folder must be complete after a loss of power too

    try:
        make_folder_once(target, lambda folder: folder if folder.is_dir() else None, fill, heartbeat)
    except (FileNotFoundError, ObjectStoreError) as error:
        raise DataError(f"cannot download the data: {error}. Try again later.") from error


def _repair_copy(uri: str, files: Mapping[str, ObjectInfo], folder: Path, log: Callable[[str], None]) -> None:
    """Bring a local copy back to what is listed, by its files' sizes and times.

    Raises:
        DataError: where a file cannot be downloaded.
    """
    changed = {name: listed for name, listed in files.items() if not _is_unchanged(folder / name, listed)}
    # Of image folders alone: torchvision unpacks its archives beside them.
    found = [path for part in IMAGE_FOLDERS for path in (folder / part).rglob("*") if path.is_file()]
    strays = [path for path in found if path.relative_to(folder).as_posix() not in files]
    for path in strays:
        log(f"removed {path}: it is none of the files at {ObjectStore(uri).address}")
        path.unlink(missing_ok=True)
    if not changed:
        return
    log(
        f"{len(changed):,} files of {folder} are missing or changed, such as {next(iter(changed))}: "
        "downloading them again"
    )
    try:
        with exclusive_lock(folder.with_name(f".{folder.name}.repair")):
            _download_files(ObjectStore(uri), changed, folder, _do_nothing)
    except (OSError, ObjectStoreError) as error:
        raise DataError(f"cannot download the data: {error}. Try again later.") from error


def _is_unchanged(file: Path, listed: ObjectInfo) -> bool:
    try:
        status = file.lstat()
    except FileNotFoundError:
        return False
    is_of_its_time = abs(status.st_mtime_ns - listed.modified_ns) < TIME_TOLERANCE_NS
    return stat.S_ISREG(status.st_mode) and status.st_size == listed.num_bytes and is_of_its_time


def _download_files(
    object_store: ObjectStore, files: Mapping[str, ObjectInfo], folder: Path, heartbeat: Callable[[], None]
) -> None:
    for parent in {(folder / name).parent for name in files}:
        parent.mkdir(parents=True, exist_ok=True)

    def download(name: str) -> None:
        file, listed = folder / name, files[name]
        partial = file.with_name(f".{file.name}.partial")
        with partial.open("wb") as target:
            target.writelines(object_store.read_chunks(name))
        num_bytes = partial.stat().st_size
        if num_bytes != listed.num_bytes:
            reason = f"{name} has {num_bytes} bytes, and {listed.num_bytes} when it was listed"
            raise ObjectStoreError(object_store.uri, reason)
        # The cache of decoded images recognizes unchanged files by their time, on every machine.
        os.utime(partial, ns=(listed.modified_ns, listed.modified_ns))
        partial.replace(file)

    with ThreadPoolExecutor(MAX_CONCURRENT_REQUESTS) as pool:
        try:
            for _ in pool.map(download, files):
                heartbeat()
        except BaseException:  # else leaving the context would first download all other files
            pool.shutdown(cancel_futures=True)
            raise
