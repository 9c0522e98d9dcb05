"""The object store that machines share, and the folders' copies in it.

A trial works in a local folder; each file that is renamed into place there is uploaded, the result last. A process that
starts a trial first fetches what other machines uploaded. Anything that `pyarrow.fs` opens can be the store: S3, Google
Cloud Storage, Azure, or a folder (``file:///...``).
"""

from __future__ import annotations

import contextlib
import errno
import re
import secrets
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from studies.scratch import temporary_folder
from studies.settings import Settings, SettingsError, redact_credentials, require_plain_name
from studies.storage.atomic import AtomicWriter
from studies.storage.lease import find_holder
from studies.storage.trial_folder import TrialFolder

CHUNK_BYTES = 8 * 2**20  # above S3's least size of a part of a multipart upload, 5 MiB
MAX_CONCURRENT_REQUESTS = 16  # small files wait for the network, not for the CPU
MAX_REASON_LENGTH = 300  # characters of the client's message, which may quote a whole HTTP response

# Google's client would retry for 15 minutes, longer than anybody waits at a prompt; S3's gives up after about 6 s.
GCS_RETRY_SECONDS = 60
ATOMIC_ON_CLOSE = ("s3", "gcs", "abfs")  # a file becomes visible when its stream is closed, and not before
RESULT_FILES = ("predictions.npy", "faults.jsonl", "attempts.jsonl", "result.json")  # what a driver reads of a trial

# In the order of copying: the result, whose presence says that the trial has ended, is last.
TRIAL_FILES = ("weights.pt", "classifier.npz", "checkpoint.ckpt", *RESULT_FILES)
ADDRESS_HINT = "expected s3://bucket/folder, gs://bucket/folder, or another URI that pyarrow.fs opens."

ACCESS_HINT = (
    "Expected an existing bucket, and credentials that may list, read, write and delete in it, such as "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role of the machine."
)


class ObjectStoreError(OSError):
    """An object store that does not answer, or refuses.

    A fault of the machine, as a disk's would be.
    """

    def __init__(self, address: str, reason: object) -> None:
        message = textwrap.shorten(redact_credentials(str(reason)), MAX_REASON_LENGTH, placeholder=" ...")
        # EIO: training takes it for a fault of the machine, so the trial is tried again instead of counting as failed.
        super().__init__(errno.EIO, f"the bucket {redact_credentials(address)} fails: {message}")

    def __reduce__(self) -> tuple[Any, ...]:
        return OSError, self.args  # pickled as its base: the constructors' arguments differ

    def __str__(self) -> str:
        return str(self.strerror)


@dataclass(frozen=True)
class ObjectInfo:
    """A file in an object store.

    Its size in bytes, and its modification time in nanoseconds since 1970.
    """

    num_bytes: int
    modified_ns: int


@dataclass(frozen=True)
class ObjectStore:
    """A folder in an object store, by its URI, which may hold credentials.

    Raises:
        ObjectStoreError: from every method that asks the store, where it does not answer, or refuses.
    """

    uri: str = field(repr=False)

    @property
    def address(self) -> str:
        """The URI as it may be shown and recorded."""
        return re.sub(r"(?<=[^:/])/+$", "", redact_credentials(self.uri))

    @cached_property
    def _filesystem_and_root(self) -> tuple[Any, str]:
        from pyarrow import ArrowInvalid, fs

        try:
            with self._translate_errors(passed_through=ArrowInvalid):
                filesystem, root = fs.FileSystem.from_uri(_with_retry_limit(self.uri))
        except ArrowInvalid as error:
            raise SettingsError(f"{self.address!r} cannot be read as a bucket's address; {ADDRESS_HINT}") from error
        if not root.strip("/"):
            raise SettingsError(f"{self.address!r} names no bucket; {ADDRESS_HINT}")
        return filesystem, root.rstrip("/")

    @contextmanager
    def _translate_errors(self, passed_through: type[Exception] = FileNotFoundError) -> Iterator[None]:
        """Turn the client's exceptions into :class:`ObjectStoreError`."""
        from pyarrow import ArrowException

        try:
            yield
        except (passed_through, ObjectStoreError):
            raise
        except (OSError, ArrowException) as error:
            raise ObjectStoreError(self.uri, error) from error

    @contextmanager
    def as_settings_errors(self) -> Iterator[None]:
        """Turn a failure into a settings error, shown in one line.

        Raises:
            SettingsError: where the store fails.
        """
        try:
            yield
        except ObjectStoreError as error:
            raise SettingsError(
                f"{error}. {ACCESS_HINT} Give another one with --storage, or try again later."
            ) from error

    def require_writable(self) -> None:
        """Write, read and delete a small file.

        So a study fails at its start, and not after its first trial.

        Raises:
            SettingsError: where that fails.
        """
        probe = f".probe-{secrets.token_hex(6)}"
        with self.as_settings_errors():
            with self._open_output(probe) as stream:
                stream.write(b"here")
            if b"".join(self.read_chunks(probe)) != b"here":
                raise ObjectStoreError(self.uri, "it does not return what was written to it")
            self.delete(probe)

    def read_chunks(self, key: str) -> Iterator[bytes]:
        """A file's content in chunks.

        Raises:
            FileNotFoundError: where there is none.
        """
        filesystem, root = self._filesystem_and_root
        with self._translate_errors():
            stream = filesystem.open_input_stream(f"{root}/{key}")
        try:
            while True:
                with self._translate_errors():  # around the read alone: what the consumer raises is not the store's
                    chunk = stream.read(CHUNK_BYTES)
                if not chunk:
                    return
                yield chunk
        finally:
            stream.close()

    def upload(self, key: str, file: Path) -> None:
        """Upload a file, completely or not at all."""
        with file.open("rb") as source, self._open_output(key) as stream:
            while chunk := source.read(CHUNK_BYTES):
                with self._translate_errors():
                    stream.write(chunk)

    @contextmanager
    def _open_output(self, key: str) -> Iterator[Any]:
        """Stream to a file that becomes visible when the block succeeds."""
        filesystem, root = self._filesystem_and_root
        is_atomic = filesystem.type_name in ATOMIC_ON_CLOSE
        target = f"{root}/{key}"
        written = target if is_atomic else f"{target}.{secrets.token_hex(6)}.partial"
        with self._translate_errors():
            if not is_atomic:  # file systems have folders; object stores have keys only
                filesystem.create_dir(written.rpartition("/")[0], recursive=True)
            stream = filesystem.open_output_stream(written)
        try:
            yield stream
            with self._translate_errors():
                stream.close()
                if not is_atomic:
                    filesystem.move(written, target)
        except ObjectStoreError:
            with contextlib.suppress(Exception):
                stream.close()
            raise
        except BaseException:  # the local file failed, or Ctrl-C: closing the stream would publish a part of the file
            with contextlib.suppress(Exception):
                stream.close()
                filesystem.delete_file(written)
            raise

    def delete(self, key: str) -> None:
        """Delete a file, if it exists."""
        filesystem, root = self._filesystem_and_root
        with contextlib.suppress(FileNotFoundError), self._translate_errors():
            filesystem.delete_file(f"{root}/{key}")

    def delete_folder(self, prefix: str) -> None:
        """Delete a folder and all files in it."""
        filesystem, root = self._filesystem_and_root
        with contextlib.suppress(FileNotFoundError), self._translate_errors():
            filesystem.delete_dir(f"{root}/{prefix}")

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """The size of each file, in bytes; ``None`` where there is none."""
        filesystem, root = self._filesystem_and_root
        with self._translate_errors():
            entries = filesystem.get_file_info([f"{root}/{key}" for key in keys])
        return [entry.size if entry.is_file else None for entry in entries]

    def list_files(self, prefix: str = "") -> dict[str, ObjectInfo]:
        """All files below a folder, by their paths relative to it.

        Empty where there is no folder.
        """
        from pyarrow import fs

        filesystem, root = self._filesystem_and_root
        folder = f"{root}/{prefix}".rstrip("/")
        with self._translate_errors():
            entries = filesystem.get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True))
        files = {}
        for entry in entries:
            name = entry.path[len(folder) + 1 :]
            if entry.is_file and name:  # some stores list an empty object of the folder's own name
                files[name] = ObjectInfo(entry.size, entry.mtime_ns or 0)
        return files

    def list_folders(self, prefix: str) -> list[str]:
        """Sorted names of the folders in a folder.

        Raises:
            SettingsError: for a name that would lead out of a local folder.
        """
        from pyarrow import fs

        filesystem, root = self._filesystem_and_root
        with self._translate_errors():
            entries = filesystem.get_file_info(fs.FileSelector(f"{root}/{prefix}", allow_not_found=True))
        names = [entry.base_name for entry in entries if entry.type == fs.FileType.Directory]
        return sorted(require_plain_name(name, f"a folder in {self.address}") for name in names)

    def remote_trial(self, folder: Path) -> RemoteFolder:
        """A trial's folder and its remote copy."""
        return RemoteFolder(self, folder, f"trials/{folder.name}")

    def remote_study(self, folder: Path) -> RemoteFolder:
        """A study's folder and its remote copy."""
        return RemoteFolder(self, folder, f"studies/{folder.name}")

    def fetch_trials(self, folders: Iterable[Path], *, may_upload: bool = False) -> None:
        """Fetch trials' results, without weights, where the local ones differ.

        Args:
            folders: local folders of the trials.
            may_upload: whether to upload the results that only this machine has.
        """
        remote_folders = [self.remote_trial(folder) for folder in dict.fromkeys(folders)]
        # One request for all sizes: most results are here already, and need no request of their own.
        remote_sizes = self.sizes([remote.key_of("result.json") for remote in remote_folders])

        def reconcile_result(remote: RemoteFolder, remote_size: int | None) -> None:
            result = remote.folder / "result.json"
            local_size = result.stat().st_size if result.exists() else None
            is_wanted = remote_size is not None or may_upload
            if local_size != remote_size and is_wanted and not find_holder(remote.folder):
                remote.reconcile(with_weights=False, may_upload=may_upload)

        with ThreadPoolExecutor(MAX_CONCURRENT_REQUESTS) as pool:
            for _ in pool.map(reconcile_result, remote_folders, remote_sizes):
                pass  # iterating raises what a thread raised


def _with_retry_limit(uri: str) -> str:
    if not uri.startswith(("gs://", "gcs://")) or "retry_limit_seconds=" in uri:
        return uri
    separator = "&" if "?" in uri else "?"
    return f"{uri}{separator}retry_limit_seconds={GCS_RETRY_SECONDS}"


@dataclass(frozen=True)
class RemoteFolder:
    """A local folder and its remote copy.

    It is the ``remote_copy`` of a :class:`studies.storage.trial_folder.TrialFolder`.
    """

    object_store: ObjectStore
    folder: Path
    prefix: str

    def key_of(self, name: str) -> str:
        """The object key of one of its files."""
        return f"{self.prefix}/{name}"

    def upload(self, file: Path) -> None:
        """Upload one of its files."""
        self.object_store.upload(self.key_of(file.name), file)

    def delete(self, file: Path) -> None:
        """Delete the remote copy of one of its files."""
        self.object_store.delete(self.key_of(file.name))

    def fetch(self, *names: str, into: Path | None = None) -> None:
        """Download files in this order, each atomically.

        Missing ones are skipped, and leave local ones alone.
        """
        folder = into or self.folder
        for name in names:
            chunks = self.object_store.read_chunks(self.key_of(name))
            try:
                first = next(chunks, b"")  # a missing file is noticed here, before a local one is opened
            except FileNotFoundError:
                continue
            folder.mkdir(parents=True, exist_ok=True)
            with AtomicWriter(folder / name) as partial, partial.open("wb") as file:
                file.write(first)
                file.writelines(chunks)

    def has_file(self, name: str) -> bool:
        """Whether a file has a remote copy."""
        return self.object_store.sizes([self.key_of(name)]) != [None]

    def reconcile(self, *, with_weights: bool = True, may_upload: bool = True) -> None:
        """Copy the trial from where it is further, locally or remotely.

        Ended, or else with more attempts.

        Where neither is further, files that one side lacks are copied from the other. Local files are never replaced:
        they equal the remote ones, or could not be uploaded when they were written.

        Args:
            with_weights: whether to fetch weights and checkpoint too.
            may_upload: whether to upload where the local trial is further.
        """
        local = TrialFolder(self.folder)
        with temporary_folder() as temporary:
            remote = TrialFolder(temporary / self.folder.name)  # its logs name the trial's folder
            remote.folder.mkdir()
            self.fetch("attempts.jsonl", "predictions.npy", "result.json", into=remote.folder)
            remote_progress = (remote.has_ended, remote.num_attempts)
        local_progress = (local.has_ended, local.num_attempts)
        remote_has_ended, local_has_ended = remote_progress[0], local_progress[0]

        names = list(TRIAL_FILES if with_weights else RESULT_FILES)
        if remote_progress > local_progress:
            if remote_has_ended and with_weights:
                names.remove("checkpoint.ckpt")  # a leftover: nothing resumes from it any more
            self.fetch(*names)
        elif remote_progress == local_progress:
            self.fetch(*(name for name in names if not (self.folder / name).exists()))
        if local_progress >= remote_progress and may_upload:
            self._upload_all(has_ended=local_has_ended, only_missing=local_progress == remote_progress)
        if local.has_ended:
            local.checkpoint.unlink(missing_ok=True)

    def _upload_all(self, *, has_ended: bool, only_missing: bool) -> None:
        """Upload the trial's files.

        With ``only_missing``, those whose remote copy is missing or of another size.
        """
        names = [name for name in TRIAL_FILES if (self.folder / name).exists()]
        if has_ended and "checkpoint.ckpt" in names:
            names.remove("checkpoint.ckpt")
        sizes = self.object_store.sizes([self.key_of(name) for name in names]) if names else []
        for name, remote_size in zip(names, sizes, strict=True):
            has_same_size = remote_size == (self.folder / name).stat().st_size
            # Checkpoints of one trial all have the same size, so their size says nothing.
            if only_missing and has_same_size and name != "checkpoint.ckpt":
                continue
            self.upload(self.folder / name)
        if has_ended:
            self.object_store.delete(self.key_of("checkpoint.ckpt"))


def open_object_store(settings: Settings) -> ObjectStore | None:
    """The object store of the settings.

    ``None`` where trials are stored in a folder.
    """
    return ObjectStore(settings.object_store_uri) if settings.object_store_uri else None
