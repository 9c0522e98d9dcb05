"""Index an image folder that is decoded on the fly.

Records digests, errors and pixel sums, and makes resized copies.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image, features

from lightning_modules.data.decoding import convert_color_mode, decode_checked_file, resize_and_center_crop
from lightning_modules.data.image_folder import (
    ImageFolder,
    append_findings,
    describe_duplicates,
    file_stamp,
    list_bad_files,
    list_image_folder,
    refuse_bad_files,
    require_readable_images,
)
from lightning_modules.data.types import Labels
from lightning_modules.file_lock import exclusive_lock
from lightning_modules.specs.data import Data
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.text import printable_path
from lightning_modules.stored_files import hash_bytes

INSPECTION_SCHEMA = 2  # to be raised when other files count as bad: all are then inspected again
MAX_COPY_SIDE_RATIO = 16 / 7  # of the resolution: 512 pixels at 224, the largest side of the VGG paper
JPEG_QUALITY = 95  # of resized copies, JPEG with chroma at half the resolution
FILES_PER_COMMIT = 256  # files inspected between two writes to the index: what a killed process loses
LOG_INTERVAL_SECONDS = 10.0
CROPPING_RULE = "torchvision"  # how rescaled lengths and center crops are rounded; another rule, other pixel sums


@dataclass(frozen=True, kw_only=True)
class ImageFileDataset:
    """An image folder whose files are decoded at each use.

    Attributes:
        train_files, test_files: the files to decode: originals, or resized copies of them.
        train_labels, test_labels: int64 class indices.
        channel_sums: int64, training examples x channels: sums of each image's pixels at the scale's resolution.
        channel_products: int64, training examples x channels x channels: sums there of products of two channels.
        class_names: in the order of the class indices.
        origin: where the images came from, in words.
        digest: of all labels, of the bytes of all files, and of what decodes them.
        excluded_files: bad files, each with what is wrong with it.
        notices: ignored entries and duplicates, a line for each kind.
    """

    train_files: tuple[Path, ...]
    train_labels: Labels
    test_files: tuple[Path, ...]
    test_labels: Labels
    channel_sums: npt.NDArray[np.int64]
    channel_products: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    origin: str
    digest: str
    excluded_files: tuple[str, ...]
    notices: tuple[str, ...]


@dataclass(frozen=True)
class InspectedImage:
    """The findings of one file's inspection.

    Attributes:
        digest: of its bytes.
        error: what is wrong with it; empty for a good file.
        is_resized: whether a resized copy is decoded in its place.
        pixel_moments: int64: the channels' sums, then the flattened channels x channels sums of products.
    """

    digest: str
    error: str
    is_resized: bool
    pixel_moments: npt.NDArray[np.int64]


def index_image_folder(
    data: Data, scale: Scale, root: Path, cache: Path, log: Callable[[str], None] = lambda _: None
) -> ImageFileDataset:
    """Index an image folder.

    Each file is read, decoded and hashed once. It is read again when its size, times or inode have changed, and decoded
    again when its bytes have.

    An interrupted inspection resumes where it was.

    Args:
        root: folder with ``train/<class>/*`` and ``test/<class>/*`` (or ``val/``).
        cache: folder for the index, and for the resized copies.
        log: receives progress messages, every few seconds.

    Raises:
        DataError: for a missing or empty folder, fewer than two classes or another number than the scale says, and bad
            files, unless the data say that they be left out.
    """
    folder = list_image_folder(root)
    folder.require_classes(scale.classes)
    files = folder.files
    index = ImageIndex(data, scale, cache)
    inspected = index.inspect_files(files, log)
    errors_by_file = {file: image.error for file, image in inspected.items()}
    errors = list_bad_files(folder, errors_by_file)
    bad_files_list = index.write_bad_files(root, errors)
    if errors and data.bad_files == "refuse":
        refuse_bad_files(folder, errors, f" (all of them in {bad_files_list})")
    require_readable_images(folder, errors_by_file)
    train_files, train_labels = _readable_files(folder.train_files, inspected)
    test_files, test_labels = _readable_files(folder.test_files, inspected)
    notices = folder.describe_ignored()
    good_digests = {file: image.digest for file, image in inspected.items() if not image.error}
    notices += describe_duplicates(folder, good_digests)
    moments = np.stack([inspected[file].pixel_moments for file in train_files])
    return ImageFileDataset(
        train_files=tuple(index.path_to_decode(file, inspected[file]) for file in train_files),
        train_labels=train_labels,
        test_files=tuple(index.path_to_decode(file, inspected[file]) for file in test_files),
        test_labels=test_labels,
        channel_sums=moments[:, : scale.channels],
        channel_products=moments[:, scale.channels :].reshape(-1, scale.channels, scale.channels),
        class_names=folder.class_names,
        origin=_describe_origin(folder, index, errors, notices),
        digest=_dataset_digest(index, ((train_files, train_labels), (test_files, test_labels)), inspected),
        excluded_files=errors,
        notices=tuple(notices),
    )


class ImageIndex:
    """Findings about files, by path and stamp; see :func:`file_stamp`.

    One database serves all folders that are decoded alike.

    Attributes:
        max_copy_side: files with a longer shorter side are decoded from a resized copy; 0: none is.
        decoding_key: what decides the pixel sums and the copies; another key is another index.
    """

    def __init__(self, data: Data, scale: Scale, cache: Path) -> None:
        self.scale = scale
        self.max_copy_side = round(MAX_COPY_SIDE_RATIO * scale.resolution) if data.keep == "resized" else 0
        decoder = f"Pillow {PIL.__version__}, libjpeg {features.version('libjpeg_turbo') or features.version('jpg')}"
        sides = f"{scale.resolution} x {scale.channels}, up to {self.max_copy_side}, quality {JPEG_QUALITY}"
        self.decoding_key = f"{sides}, {decoder}, {CROPPING_RULE}"
        self.folder = cache / f"pictures-{hashlib.sha256(self.decoding_key.encode()).hexdigest()[:16]}"
        self.database_path = self.folder / "index.db"

    def inspect_files(self, files: Sequence[Path], log: Callable[[str], None]) -> dict[Path, InspectedImage]:
        """Return findings about files; inspect those new or changed. A damaged index is made again."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # Taken before reading: a later change is noticed.
        stamps = {file: f"{INSPECTION_SCHEMA}|{file_stamp(file)}" for file in files}
        try:
            return self._inspect_files(files, stamps, log)
        except sqlite3.Error as error:
            if not _is_damage(error):
                raise
            log(f"{self.database_path} cannot be used ({error}): all images are inspected again")
            self.database_path.unlink(missing_ok=True)
            return self._inspect_files(files, stamps, log)

    def _inspect_files(
        self, files: Sequence[Path], stamps: Mapping[Path, str], log: Callable[[str], None]
    ) -> dict[Path, InspectedImage]:
        with closing(sqlite3.connect(self.database_path, timeout=60)) as database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS files "
                "(path TEXT PRIMARY KEY, state TEXT, digest TEXT, fault TEXT, is_resized INTEGER, moments BLOB, "
                "checksum TEXT)"
            )
            if "checksum" not in {row[1] for row in database.execute("PRAGMA table_info(files)")}:
                database.execute("ALTER TABLE files ADD COLUMN checksum TEXT")  # of an earlier version's index
            inspected, _ = self._read_known_files(database, stamps)
            if len(inspected) == len(stamps):
                return inspected
            with exclusive_lock(self.folder / ".lock", _wait_logger(log)):
                inspected, former = self._read_known_files(database, stamps)  # another process may have inspected them
                missing = [file for file in files if file not in inspected]
                for batch in self._inspect_in_batches(missing, former, len(files), log):
                    inspected |= batch
                    _write_batch(database, batch, stamps)
        return inspected

    def _read_known_files(
        self, database: sqlite3.Connection, stamps: Mapping[Path, str]
    ) -> tuple[dict[Path, InspectedImage], dict[Path, InspectedImage]]:
        """Read the findings about files that have not changed, and those about files whose stamp has.

        A finding whose resized copy is gone, or whose checksum is not its own, is left out; so is one of other rules.
        """
        rows = {row[0]: row for row in database.execute("SELECT * FROM files")}
        known: dict[Path, InspectedImage] = {}
        former: dict[Path, InspectedImage] = {}
        for file, key in _index_keys(stamps).items():
            row = rows.get(key)
            if row is None:
                continue
            *content, checksum = row
            _, recorded_stamp, digest, error, is_resized, moments = content
            if checksum is not None and checksum != _hash_row(content):
                continue
            if is_resized and not self._copy_path(digest).exists():
                continue
            image = InspectedImage(digest, error, bool(is_resized), np.frombuffer(moments, dtype=np.int64))
            if recorded_stamp == stamps[file]:
                known[file] = image
            elif str(recorded_stamp).startswith(f"{INSPECTION_SCHEMA}|"):
                former[file] = image
        return known, former

    def write_bad_files(self, root: Path, errors: Sequence[str]) -> Path:
        """List a folder's bad files beside the index, or remove the list where there are none; return its path."""
        place = root.resolve()
        bad_files_list = self.folder / f"bad_files-{hash_bytes(os.fsencode(place))[:16]}.txt"
        if errors:
            lines = [f"{printable_path(place)}/{error}\n" for error in errors]
            bad_files_list.write_text("".join(lines), encoding="utf-8")
        else:
            bad_files_list.unlink(missing_ok=True)
        return bad_files_list

    def path_to_decode(self, file: Path, inspected: InspectedImage) -> Path:
        """Return the resized copy of a file where it has one, else the file."""
        return self._copy_path(inspected.digest) if inspected.is_resized else file

    def _inspect_in_batches(
        self,
        files: Sequence[Path],
        former: Mapping[Path, InspectedImage],
        num_files: int,
        log: Callable[[str], None],
    ) -> Iterator[dict[Path, InspectedImage]]:
        start_time = last_log_time = time.monotonic()
        num_known = num_files - len(files)
        # All cores: nothing else runs while the folder is indexed.
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            for start in range(0, len(files), FILES_PER_COMMIT):
                batch = files[start : start + FILES_PER_COMMIT]
                former_findings = map(former.get, batch)
                yield dict(zip(batch, pool.map(self._inspect_file, batch, former_findings), strict=True))
                now, num_done = time.monotonic(), start + len(batch)
                if now - last_log_time > LOG_INTERVAL_SECONDS:
                    last_log_time, rate = now, num_done / (now - start_time)
                    log(f"inspected {num_known + num_done:,} of {num_files:,} images, {rate:,.0f} a second")

    def _inspect_file(self, file: Path, former: InspectedImage | None) -> InspectedImage:
        """Inspect a file, or keep the former finding about equal bytes, as after `chmod` or from another mount."""
        if former and former.digest == _hash_readable_file(file):
            return former
        checked = decode_checked_file(file, self.scale)
        image, digest = checked.image, checked.digest
        if image is None:
            return InspectedImage(digest, checked.error, False, np.zeros(0, dtype=np.int64))
        pixels = resize_and_center_crop(image, self.scale).reshape(-1, self.scale.channels).astype(np.float64)
        is_resized = 0 < self.max_copy_side < min(image.size)
        if is_resized:
            self._save_resized_copy(image, digest)
        # Exact: the floats are whole numbers below 2^53, and their product is many times as fast as that of integers.
        moments = np.concatenate([pixels.sum(0), (pixels.T @ pixels).ravel()]).astype(np.int64)
        return InspectedImage(digest, "", is_resized, moments)

    def _copy_path(self, digest: str) -> Path:
        return self.folder / digest[:2] / f"{digest}.jpg"

    def _save_resized_copy(self, image: Image.Image, digest: str) -> None:
        """Save a resized copy atomically, by renaming a temporary file."""
        copy, shorter = self._copy_path(digest), min(image.size)
        copy.parent.mkdir(exist_ok=True)
        width, height = (round(length * self.max_copy_side / shorter) for length in image.size)
        resized = convert_color_mode(image, self.scale).resize((width, height), Image.Resampling.BILINEAR)
        with tempfile.NamedTemporaryFile(dir=copy.parent, suffix=".partial", delete=False) as partial:
            resized.save(partial, "JPEG", quality=JPEG_QUALITY, subsampling="4:2:0")
        Path(partial.name).replace(copy)


def _wait_logger(log: Callable[[str], None]) -> Callable[[], None]:
    """Make a function that says every few seconds that another process is inspecting the images."""
    next_log_time = time.monotonic() + LOG_INTERVAL_SECONDS

    def on_wait() -> None:
        nonlocal next_log_time
        if time.monotonic() > next_log_time:
            next_log_time = time.monotonic() + LOG_INTERVAL_SECONDS
            log("waiting for another process that inspects images")

    return on_wait


def _write_batch(
    database: sqlite3.Connection, batch: Mapping[Path, InspectedImage], stamps: Mapping[Path, str]
) -> None:
    rows = []
    keys = _index_keys(batch)
    for file, image in batch.items():
        moments = image.pixel_moments.tobytes()
        row = (keys[file], stamps[file], image.digest, image.error, int(image.is_resized), moments)
        rows.append((*row, _hash_row(row)))
    with database:  # one transaction
        database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


def _index_keys(files: Iterable[Path]) -> dict[Path, str | bytes]:
    """The paths of files as the index holds them, by file.

    A link has its own path, since a finding is also about the file's extension; its target is in its stamp.
    """
    files = tuple(files)
    # Resolving a path looks up each of its parents; there are far fewer class folders than files.
    resolved_folders = {folder: folder.resolve() for folder in {file.parent for file in files}}
    return {file: _storable_path(resolved_folders[file.parent] / file.name) for file in files}


def _storable_path(path: Path) -> str | bytes:
    """A path as text, or as the bytes of one that is not UTF-8, which SQLite takes for no text."""
    return str(path) if printable_path(path) == str(path) else os.fsencode(path)


def _hash_readable_file(file: Path) -> str | None:
    """Hash a file's bytes; ``None`` where they cannot be read."""
    try:
        return hash_bytes(file.read_bytes())
    except OSError:
        return None


def _hash_row(row: Sequence[object]) -> str:
    return hash_bytes(repr(tuple(row)).encode())


def _is_damage(error: sqlite3.Error) -> bool:
    """Whether an error is of the index's content, unlike a lock or a full disk."""
    text = str(error).lower()
    is_of_content = any(words in text for words in ("no such", "has no column", "could not decode", "columns but"))
    return not isinstance(error, sqlite3.OperationalError) or is_of_content


def _readable_files(
    files_by_class: Iterable[Iterable[Path]], inspected: Mapping[Path, InspectedImage]
) -> tuple[list[Path], Labels]:
    """Return the files that can be read, and their labels."""
    files: list[Path] = []
    labels: list[int] = []
    for label, class_files in enumerate(files_by_class):
        readable = [file for file in class_files if not inspected[file].error]
        files += readable
        labels += [label] * len(readable)
    return files, np.array(labels, dtype=np.int64)


def _describe_origin(folder: ImageFolder, index: ImageIndex, errors: Sequence[str], notices: Sequence[str]) -> str:
    origin = f"an image folder ({folder.describe_formats()}), decoded at each use"
    if index.max_copy_side:
        origin += f"; copies of a shorter side of {index.max_copy_side}, JPEG {JPEG_QUALITY}, of larger ones"
    return append_findings(origin, errors, notices)


def _dataset_digest(
    index: ImageIndex,
    splits: Iterable[tuple[Sequence[Path], Labels]],
    inspected: Mapping[Path, InspectedImage],
) -> str:
    digest = hashlib.sha256(index.decoding_key.encode())
    for files, labels in splits:
        digest.update(labels.tobytes())
        for file in files:
            digest.update(inspected[file].digest.encode())
    return digest.hexdigest()[:16]
