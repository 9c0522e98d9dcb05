"""Image data at a URI, as a folder here: fetched once for all trials of a machine, and never used half fetched."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

from lightning_modules.data import DataError
from lightning_modules.spec import Data, Setup
from studies.bucket import AT_ONCE, Bucket, BucketFault, Seen
from studies.settings import Settings, SettingsError

LOOK_EVERY_SECONDS = 0.2
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


def _nothing(*_: object) -> None:
    return


def is_read_from_a_folder(setup: Setup) -> bool:
    """Whether a setup's data lie in the data root: digits are in a package, and a foreign module reads its own."""
    return isinstance(setup.data, Data) and setup.data.source != "digits"


def with_data(settings: Settings, say: Callable[[str], None] = _nothing) -> Settings:
    """Settings whose data root is a folder here: what lies at the URI now, fetched unless it was before.

    Args:
        say: hears of it where there is something to fetch.

    Raises:
        DataError: where there is nothing, or nothing that can be fetched.
    """
    if not settings.data_uri:
        return settings
    files = _listed(settings.data_uri)
    place = settings.cache / "fetched" / _name_of(settings.data_uri, files)
    if not place.is_dir():
        size = sum(file.size for file in files.values()) / 1e6
        say(f"fetching {settings.told_data}: {len(files):,} files, {size:,.1f} MB, once for this machine")
        _fetch(settings.data_uri, files, place)
    return replace(settings, data_root=place)


def require_data(settings: Settings, beat: Callable[[], None] = _nothing) -> None:
    """See that the data root that was settled on is here as well: fetch it where this machine has not done so yet.

    Args:
        beat: called again and again meanwhile: a sign of life.

    Raises:
        DataError: where the data at the URI are no longer those that were settled on.
    """
    if not settings.data_uri or settings.data_root.is_dir():
        return
    files = _listed(settings.data_uri)
    if _name_of(settings.data_uri, files) != settings.data_root.name:
        raise DataError(
            f"the data at {settings.told_data} have changed since the study was started. Call `ablate run` again, "
            "which reads what is there now."
        )
    _fetch(settings.data_uri, files, settings.data_root, beat)


def _listed(uri: str) -> dict[str, Seen]:
    bucket = Bucket(uri)
    try:
        files = bucket.files()
    except (BucketFault, SettingsError) as error:
        told = str(error).removesuffix(".")
        raise DataError(f"cannot fetch the data: {told}. Give another place with --data-root.") from error
    if not files:
        raise DataError(
            f"there is nothing at {bucket.address}. Expected a folder with train/<class>/ and test/<class>/ (or "
            "val/<class>/), or with torchvision's files: give another place with --data-root."
        )
    if any(".." in PurePosixPath(name).parts or name.startswith("/") for name in files):
        raise DataError(f"{bucket.address} holds names that lead out of the folder (with `..`): remove these.")
    return files


def _name_of(uri: str, files: Mapping[str, Seen]) -> str:
    """A name for what lies at a URI now: of its files, paths, sizes and times."""
    digest = hashlib.sha256(f"{Bucket(uri).address}\n".encode())
    for name, file in sorted(files.items()):
        digest.update(f"{name}|{file.size}|{file.written}\n".encode())
    return digest.hexdigest()[:16]


def _fetch(uri: str, files: Mapping[str, Seen], place: Path, beat: Callable[[], None] = _nothing) -> None:
    """Fetch files into a folder, which has its name when they are all there; of several processes, one does."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with _alone(place.parent / f".{place.name}.lock", beat) as alone:
        if place.is_dir():
            return
        for left in place.parent.glob(f".{place.name}.*.partial") if alone else ():  # by a process that was ended
            shutil.rmtree(left, ignore_errors=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".partial", dir=place.parent))
        try:
            _copy(Bucket(uri), files, partial, beat)
            os.sync()  # what bears the name is whole, also after a loss of power
            partial.rename(place)
        except (FileNotFoundError, BucketFault) as error:
            raise DataError(f"cannot fetch the data: {error}. Call again later.") from error
        except FileExistsError:  # another process was first, with the same content
            return
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _copy(bucket: Bucket, files: Mapping[str, Seen], folder: Path, beat: Callable[[], None]) -> None:
    for parent in {(folder / name).parent for name in files}:
        parent.mkdir(parents=True, exist_ok=True)

    def fetch(name: str) -> None:
        with (folder / name).open("wb") as target:
            target.writelines(bucket.read(name))
        found, expected = (folder / name).stat().st_size, files[name].size
        if found != expected:
            raise BucketFault(bucket.uri, f"{name} has {found} bytes, and {expected} when it was listed")
        os.utime(folder / name, ns=(files[name].written, files[name].written))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            for _ in pool.map(fetch, files):
                beat()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def _alone(file: Path, beat: Callable[[], None]) -> Iterator[bool]:
    """Whether, for as long as this lasts, no other process is in it: a lock that ends with its process."""
    with file.open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                beat()
                time.sleep(LOOK_EVERY_SECONDS)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                yield False  # a file system without locks: at worst several fetch, and one names its copy
                return
            else:
                yield True
                return
