"""A bucket as the storage of trials: what takes its place in a folder here is put there too, and is fetched from there.

Whoever trains works in a local folder. The bucket is what machines share: a trial's files are there before the trial
says that it has ended, and who begins a trial first fetches what is there of it. Whatever `pyarrow.fs` opens is a
bucket: S3, Google Cloud Storage, Azure, or a folder (``file:///...``).
"""

from __future__ import annotations

import contextlib
import errno
import re
import secrets
import tempfile
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from studies.leases import holder
from studies.settings import Settings, SettingsError, plain, without_credentials
from studies.spool import Spool, replacing

CHUNK = 8 * 2**20  # bytes read at once
AT_ONCE = 16  # requests
MOST_TOLD = 300  # characters of what a bucket's client says
PATIENCE_SECONDS = 60  # with Google's, whose client would try for 15 minutes; S3's gives up after about 6 seconds
WHOLE_WHEN_CLOSED = ("s3", "gcs", "abfs")  # there a file that is written is seen when it is closed, and not before
TOLD = ("predictions.npy", "faults.jsonl", "attempts.jsonl", "result.json")  # what a driver reads of a trial
# In the order of copying: what says that it has ended is last.
OF_A_TRIAL = ("weights.pt", "classifier.npz", "checkpoint.ckpt", *TOLD)
ADDRESS = "expected s3://bucket/folder, gs://bucket/folder, or another that pyarrow.fs opens."
EXPECTED = (
    "Expected a bucket that is there, and credentials that may list, read, write and delete in it, such as "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role of the machine."
)


class BucketFault(OSError):
    """A bucket that does not answer, or not as it should: a fault of the machine, like a disk's."""

    def __init__(self, address: str, reason: object) -> None:
        told = textwrap.shorten(without_credentials(str(reason)), MOST_TOLD, placeholder=" ...")
        super().__init__(errno.EIO, f"the bucket {without_credentials(address)} fails: {told}")

    def __reduce__(self) -> tuple[Any, ...]:
        return OSError, self.args

    def __str__(self) -> str:
        return str(self.strerror)


@dataclass(frozen=True)
class Seen:
    """A file in a bucket: its size in bytes, and when it was written, in nanoseconds since 1970."""

    size: int
    written: int


@dataclass(frozen=True)
class Bucket:
    """A place in a bucket, by its URI, which may hold credentials.

    Raises:
        BucketFault: from whatever asks the bucket, where it does not answer, or refuses.
    """

    uri: str = field(repr=False)

    @property
    def address(self) -> str:
        """The URI as it may be shown and recorded."""
        return re.sub(r"(?<=[^:/])/+$", "", without_credentials(self.uri))

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        from pyarrow import ArrowInvalid, fs

        try:
            with self._faults(but=ArrowInvalid):
                filesystem, root = fs.FileSystem.from_uri(_with_patience(self.uri))
        except ArrowInvalid as error:
            raise SettingsError(f"{self.address!r} cannot be read as a bucket's address; {ADDRESS}") from error
        if not root.strip("/"):
            raise SettingsError(f"{self.address!r} names no bucket; {ADDRESS}")
        return filesystem, root.rstrip("/")

    @contextmanager
    def _faults(self, but: type[Exception] = FileNotFoundError) -> Iterator[None]:
        """What the bucket itself raises, as its fault; that a file is not there is none."""
        from pyarrow import ArrowException

        try:
            yield
        except (but, BucketFault):
            raise
        except (OSError, ArrowException) as error:
            raise BucketFault(self.uri, error) from error

    @contextmanager
    def needed(self) -> Iterator[None]:
        """Tell a fault within this in one line, as that of a setting.

        Raises:
            SettingsError: where the bucket fails.
        """
        try:
            yield
        except BucketFault as error:
            raise SettingsError(f"{error}. {EXPECTED} Give another one with --storage, or call again later.") from error

    def require_writable(self) -> None:
        """Write, read and delete a small file.

        Raises:
            SettingsError: where that cannot be done.
        """
        probe = f".probe-{secrets.token_hex(6)}"
        with self.needed():
            with self._writing(probe) as stream:
                stream.write(b"here")
            if b"".join(self.read(probe)) != b"here":
                raise BucketFault(self.uri, "it does not give back what is written to it")
            self.delete(probe)

    def read(self, place: str) -> Iterator[bytes]:
        """A file's content, piece by piece.

        Raises:
            FileNotFoundError: where there is none.
        """
        filesystem, root = self._opened
        with self._faults():
            stream = filesystem.open_input_stream(f"{root}/{place}")
        try:
            while True:
                with self._faults():
                    piece = stream.read(CHUNK)
                if not piece:
                    return
                yield piece
        finally:
            stream.close()

    def write(self, place: str, file: Path) -> None:
        """Put a file there, whole or not at all."""
        with file.open("rb") as source, self._writing(place) as stream:
            while piece := source.read(CHUNK):
                with self._faults():
                    stream.write(piece)

    @contextmanager
    def _writing(self, place: str) -> Iterator[Any]:
        filesystem, root = self._opened
        at_once = filesystem.type_name in WHOLE_WHEN_CLOSED
        target = f"{root}/{place}"
        written = target if at_once else f"{target}.{secrets.token_hex(6)}.partial"
        with self._faults():
            if not at_once:
                filesystem.create_dir(written.rpartition("/")[0], recursive=True)
            stream = filesystem.open_output_stream(written)
        try:
            yield stream
            with self._faults():
                stream.close()
                if not at_once:
                    filesystem.move(written, target)
        except BucketFault:
            with contextlib.suppress(Exception):
                stream.close()
            raise
        except BaseException:  # of our own: to close the stream is to keep a part of the file, so that goes as well
            with contextlib.suppress(Exception):
                stream.close()
                filesystem.delete_file(written)
            raise

    def delete(self, place: str) -> None:
        """Remove a file, if there is one."""
        filesystem, root = self._opened
        with contextlib.suppress(FileNotFoundError), self._faults():
            filesystem.delete_file(f"{root}/{place}")

    def delete_folder(self, place: str) -> None:
        """Remove a folder with all that is in it."""
        filesystem, root = self._opened
        with contextlib.suppress(FileNotFoundError), self._faults():
            filesystem.delete_dir(f"{root}/{place}")

    def sizes(self, places: Sequence[str]) -> list[int | None]:
        """The size of each file, in bytes; ``None`` where there is none."""
        filesystem, root = self._opened
        with self._faults():
            found = filesystem.get_file_info([f"{root}/{place}" for place in places])
        return [info.size if info.is_file else None for info in found]

    def files(self, place: str = "") -> dict[str, Seen]:
        """All files below a folder, by their paths from there; none where there is no folder."""
        from pyarrow import fs

        filesystem, root = self._opened
        folder = f"{root}/{place}".rstrip("/")
        with self._faults():
            found = filesystem.get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True))
        files = {info.path[len(folder) + 1 :]: info for info in found if info.is_file}
        return {name: Seen(info.size, info.mtime_ns or 0) for name, info in files.items() if name}

    def folders(self, place: str) -> list[str]:
        """Names of the folders in a folder, as plain as those of studies and trials are."""
        from pyarrow import fs

        filesystem, root = self._opened
        with self._faults():
            found = filesystem.get_file_info(fs.FileSelector(f"{root}/{place}", allow_not_found=True))
        kind = fs.FileType.Directory
        return sorted(plain(info.base_name, f"a folder in {self.address}") for info in found if info.type == kind)

    def of_trial(self, folder: Path) -> Twin:
        """A trial's folder, here and there."""
        return Twin(self, folder, f"trials/{folder.name}")

    def of_study(self, folder: Path) -> Twin:
        """A study's folder, here and there."""
        return Twin(self, folder, f"studies/{folder.name}")

    def bring(self, folders: Iterable[Path], *, both_ways: bool = False) -> None:
        """Have the results of trials here that are there.

        Args:
            folders: the trials', here.
            both_ways: put there as well what has ended here alone.
        """
        twins = [self.of_trial(folder) for folder in dict.fromkeys(folders)]
        sizes = self.sizes([twin.at("result.json") for twin in twins])

        def settle(twin: Twin, there: int | None) -> None:
            file = twin.folder / "result.json"
            here = file.stat().st_size if file.exists() else None
            if here != there and (there is not None or both_ways) and not holder(twin.folder):
                twin.settle(whole=False, puts=both_ways)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in pool.map(settle, twins, sizes):
                pass


def _with_patience(uri: str) -> str:
    if not uri.startswith(("gs://", "gcs://")) or "retry_limit_seconds=" in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}retry_limit_seconds={PATIENCE_SECONDS}"


@dataclass(frozen=True)
class Twin:
    """A folder here and its counterpart in a bucket; the mirror of a :class:`studies.spool.Spool`."""

    bucket: Bucket
    folder: Path
    place: str

    def at(self, name: str) -> str:
        """Where one of its files is in the bucket."""
        return f"{self.place}/{name}"

    def put(self, file: Path) -> None:
        """Put a file there that has taken its place here."""
        self.bucket.write(self.at(file.name), file)

    def drop(self, file: Path) -> None:
        """Remove a file there."""
        self.bucket.delete(self.at(file.name))

    def fetch(self, *names: str, into: Path | None = None) -> None:
        """Fetch files in this order, each whole; those that are not there are left as they are here."""
        folder = into or self.folder
        for name in names:
            pieces = self.bucket.read(self.at(name))
            try:
                first = next(pieces, b"")
            except FileNotFoundError:
                continue
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(folder / name) as partial, partial.open("wb") as file:
                file.write(first)
                file.writelines(pieces)

    def has(self, name: str) -> bool:
        """Whether a file is there."""
        return self.bucket.sizes([self.at(name)]) != [None]

    def settle(self, *, whole: bool = True, puts: bool = True) -> None:
        """Have here and there alike what the trial that is further has: one that has ended, else one begun more often.

        Where neither is further, what is here counts: it is what is there, or what could not be put there.

        Args:
            whole: fetch weights and checkpoint as well.
            puts: where what is here is further, put it there.
        """
        here = Spool(self.folder)
        with tempfile.TemporaryDirectory() as folder:
            there = Spool(Path(folder))
            self.fetch("attempts.jsonl", "result.json", into=there.folder)
            ranks = [(each.has_ended, each.attempts) for each in (here, there)]
        names = OF_A_TRIAL if whole else TOLD
        if ranks[1] > ranks[0]:
            self.fetch(*(name for name in names if name != "checkpoint.ckpt" or not ranks[1][0]))
        elif ranks[1] == ranks[0]:
            self.fetch(*(name for name in names if not (self.folder / name).exists()))
        if ranks[0] >= ranks[1] and puts:
            self._put_all(ended=ranks[0][0], only_missing=ranks[0] == ranks[1])
        if here.has_ended:
            here.checkpoint.unlink(missing_ok=True)

    def _put_all(self, *, ended: bool, only_missing: bool) -> None:
        names = [name for name in OF_A_TRIAL if (self.folder / name).exists()]
        sizes = dict(zip(names, self.bucket.sizes([self.at(name) for name in names]), strict=True)) if names else {}
        for name in names:
            same = sizes[name] == (self.folder / name).stat().st_size and name != "checkpoint.ckpt"
            if not (ended and name == "checkpoint.ckpt") and not (only_missing and same):
                self.put(self.folder / name)
        if ended:
            self.bucket.delete(self.at("checkpoint.ckpt"))


def bucket_of(settings: Settings) -> Bucket | None:
    """The bucket in which trials are kept; ``None`` where they are kept in a folder alone."""
    return Bucket(settings.bucket) if settings.bucket else None
