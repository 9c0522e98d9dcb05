"""Data sets in memory: read once, cached on disk, with a digest.

Images are kept as uint8.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image

from lightning_modules.data.decoding import decode_checked_file, resize_and_center_crop
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
from lightning_modules.data.types import DataError, Images, Indices, InMemoryDataset, Labels
from lightning_modules.file_lock import exclusive_lock, make_folder_once
from lightning_modules.rng import seeded_generator
from lightning_modules.specs.data import BadFilesPolicy, Data, DataSourceName
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.text import format_count
from lightning_modules.stored_files import dump_json, read_json, require_array_size

TRAIN_DIGITS_PER_CLASS = 60  # 600 of 1,797; the other 1,197 are the test split
MAX_MEMORY_FRACTION = 0.5  # of the machine's memory, for the decoded images: the trials need the rest
ABOUT_FILE = "about.json"
ABOUT_SHAPE = {"classes": [str], "form": str, "digest": str, "bad_files": [str], "notices": [str]}
CACHE_SCHEMA = 3  # to be raised when the same files are to be decoded to other pixels, or hashed otherwise
ARRAY_NAMES = ("train_images", "train_labels", "test_images", "test_labels")


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DatasetReader:
    """A source of data other than an image folder: its files, and how its examples are read."""

    list_files: Callable[[Path], list[Path]]
    read: Callable[[Scale, Path], InMemoryDataset]
    num_classes: int


def prepare_dataset(data: Data, scale: Scale, root: Path, cache: Path) -> InMemoryDataset:
    """Read a source's examples at a scale, or take them from the cache.

    Args:
        root: folder with ``train/<class>/*`` and ``test/<class>/*``, or where torchvision keeps its downloads.
        cache: folder for the decoded images; all processes of a machine map the same files into memory.

    Raises:
        DataError: an empty or missing folder, unreadable images, fewer than two classes, another number of classes than
            the scale says, or images that do not fit into memory.
    """
    if data.source == "folder" or (data.source != "digits" and (root / "train").is_dir()):
        return _prepare_image_folder(data, scale, root, cache)
    reader = DATASET_READERS[data.source]
    if reader.num_classes != scale.classes:  # before anything is downloaded
        raise DataError(
            f"{data.source} has {reader.num_classes} classes, but the protocol says {scale.classes}. "
            f"Give `--set scale.classes={reader.num_classes}`."
        )
    key = _cache_key(root, reader.list_files(root), scale)
    return _read_through_cache(cache / f"{data.source}-{key}", lambda: reader.read(scale, root))


def _prepare_image_folder(data: Data, scale: Scale, root: Path, cache: Path) -> InMemoryDataset:
    """Read an image folder, and add what was found about its files to the description."""
    folder = list_image_folder(root)
    folder.require_classes(scale.classes)  # decoding a large folder may take an hour, listing it takes seconds
    key = _cache_key(root, folder.files, scale, data.bad_files)
    dataset = _read_through_cache(cache / f"{data.source}-{key}", lambda: _read_image_folder(data, scale, folder))
    notices = (*folder.describe_ignored(), *dataset.notices)
    return replace(dataset, origin=append_findings(dataset.origin, dataset.excluded_files, notices), notices=notices)


def _read_through_cache(folder: Path, read: Callable[[], InMemoryDataset]) -> InMemoryDataset:
    reasons: list[str] = []

    def fill(partial: Path) -> None:
        if folder.is_dir():
            logger.warning("%s: the cached images are dropped and decoded again.", reasons[-1])
        _write_cache(partial, read())

    # Read back even by the process that decoded it: mapped, so that no process holds a copy of its own.
    dataset = make_folder_once(folder, lambda cached: _read_cache(cached, reasons), fill)
    if dataset is None:
        raise DataError(f"the cache {folder} cannot be read although it was just written: its disk fails.")
    with suppress(OSError):  # of another user's cache
        os.utime(folder / ABOUT_FILE)  # when it was last used: `find_unused_caches` goes by it
    return dataset


def find_unused_caches(cache: Path, unused_seconds: float) -> Iterator[Path]:
    """Find decoded images that nothing has read for some time, as after a change of their files."""
    for file in sorted(cache.glob(f"*/{ABOUT_FILE}")):
        if time.time() - file.stat().st_mtime > unused_seconds:
            yield file.parent


def split_train_validation(
    labels: Labels, data: Data, seed: int, class_names: Sequence[str] = ()
) -> tuple[Indices, Indices]:
    """Split the training examples into training and validation indices.

    Both are stratified by class.

    Args:
        class_names: in the order of the class indices, for the error; without them it has the index.

    Raises:
        DataError: where a class has too few examples to be in both.
    """
    labels = np.asarray(labels)
    is_used = np.ones(len(labels), dtype=bool)
    if data.train_fraction < 1:
        # The same examples under every seed: a smaller data set is one data set, not one per trial.
        is_used = stratified_mask(labels, data.train_fraction, np.random.Generator(np.random.PCG64(0)))
    pool = np.flatnonzero(is_used)
    counts = np.bincount(labels[pool], minlength=len(class_names))
    if counts.min() < 2:
        smallest = int(counts.argmin())
        raise DataError(
            f"class {class_names[smallest] if class_names else smallest} has "
            f"{format_count(int(counts.min()), 'training example')} to divide into training and validation; "
            "expected 2 or more. Give more images, or a larger data.train_fraction."
        )
    is_validation = stratified_mask(labels[pool], data.validation_fraction, seeded_generator(seed, "split"))
    return pool[~is_validation], pool[is_validation]


def _read_digits(scale: Scale, _: Path) -> InMemoryDataset:
    """Read scikit-learn's 1,797 handwritten digits, 8 x 8.

    Alpaydin & Kaynak 1998; 600 are drawn to train on.
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    _require_memory(len(labels), scale)
    images = np.round(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)  # gray levels from 0 to 16
    resized = _fit_arrays(images, scale)
    # The source has no test split; this one is the same in every study.
    generator = np.random.Generator(np.random.PCG64(0))
    is_train = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        is_train[generator.permutation(np.flatnonzero(labels == label))[:TRAIN_DIGITS_PER_CLASS]] = True
    return _make_dataset(
        (resized[is_train], labels[is_train]),
        (resized[~is_train], labels[~is_train]),
        tuple(map(str, range(10))),
        "scikit-learn's handwritten digits",
    )


def _torchvision_reader(class_name: str, folder: str, num_classes: int) -> DatasetReader:
    """Make a reader of a torchvision data set, which is downloaded if its folder is missing."""

    def load(root: Path, *, train: bool) -> Any:
        from torchvision import datasets

        try:
            return getattr(datasets, class_name)(root, train=train, download=True)
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"{class_name} is not at {root}, and it could not be downloaded ({error}). Put torchvision's files "
                "there, or give --data-root a folder with train/<class>/ and test/<class>/."
            ) from error

    def download_once(root: Path) -> None:
        lock_file = root / f".{folder}.lock"
        # With the lock's file there, another process may still be unpacking.
        if (root / folder).is_dir() and not lock_file.exists():
            return
        try:
            root.mkdir(parents=True, exist_ok=True)
            with exclusive_lock(lock_file):
                if not (root / folder).is_dir():
                    load(root, train=True)
        except OSError as error:
            raise DataError(f"{class_name} cannot be downloaded to {root} ({error.strerror}).") from error

    def list_files(root: Path) -> list[Path]:
        download_once(root)
        return sorted(file for file in (root / folder).iterdir() if file.is_file())

    def read(scale: Scale, root: Path) -> InMemoryDataset:
        train, test = load(root, train=True), load(root, train=False)
        _require_memory(len(train) + len(test), scale)
        return _make_dataset(
            (_fit_arrays(train.data, scale), np.asarray(train.targets)),
            (_fit_arrays(test.data, scale), np.asarray(test.targets)),
            tuple(train.classes),
            f"torchvision's {class_name}",
        )

    return DatasetReader(list_files, read, num_classes)


def _fit_arrays(images: Sequence[Images], scale: Scale) -> Images:
    return np.stack([resize_and_center_crop(Image.fromarray(image), scale) for image in images])


def _read_image_folder(data: Data, scale: Scale, folder: ImageFolder) -> InMemoryDataset:
    """Decode an image folder: shorter side resized, center kept.

    Raises:
        DataError: for bad files, unless the data say that they be left out, and for too many images.
    """
    files = folder.files
    _require_memory(len(files), scale)
    images = np.empty((len(files), scale.resolution, scale.resolution, scale.channels), dtype=np.uint8)
    digests: dict[Path, str] = {}
    errors: dict[Path, str] = {}

    def decode_into_array(index: int) -> None:
        checked = decode_checked_file(files[index], scale)
        digests[files[index]], errors[files[index]] = checked.digest, checked.error
        if checked.image is not None:
            images[index] = resize_and_center_crop(checked.image, scale)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # threads: Pillow decodes without the interpreter's lock
        for _ in pool.map(decode_into_array, range(len(files))):
            pass  # iterating raises the first exception
    bad_files = list_bad_files(folder, errors)
    if bad_files and data.bad_files == "refuse":
        refuse_bad_files(folder, bad_files)
    num_train = sum(map(len, folder.train_files))
    class_sizes = [len(class_files) for class_files in (*folder.train_files, *folder.test_files)]
    labels = np.repeat(np.tile(np.arange(len(folder.class_names)), 2), class_sizes)
    is_good = np.array([not errors[file] for file in files])
    is_train = np.arange(len(files)) < num_train
    require_readable_images(folder, errors)
    dataset = _make_dataset(
        (images[is_good & is_train], labels[is_good & is_train]),
        (images[is_good & ~is_train], labels[is_good & ~is_train]),
        folder.class_names,
        f"an image folder ({folder.describe_formats()})",
    )
    good_digests = {file: digest for file, digest in digests.items() if not errors[file]}
    return replace(dataset, excluded_files=bad_files, notices=tuple(describe_duplicates(folder, good_digests)))


# Training examples of each class, known before anything is read.
CLASS_SIZES: dict[DataSourceName, list[int]] = {
    "digits": [TRAIN_DIGITS_PER_CLASS] * 10,
    "cifar10": [5_000] * 10,
    "cifar100": [500] * 100,
}

DATASET_READERS: dict[DataSourceName, DatasetReader] = {
    "digits": DatasetReader(lambda _: [], _read_digits, 10),
    "cifar10": _torchvision_reader("CIFAR10", "cifar-10-batches-py", 10),
    "cifar100": _torchvision_reader("CIFAR100", "cifar-100-python", 100),
}


def stratified_mask(labels: Labels, fraction: float, generator: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Draw the same share of every class; return a mask.

    At least one example, and never all of two or more.
    """
    mask = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(1, round(fraction * len(members))), max(1, len(members) - 1))
        mask[generator.permutation(members)[:count]] = True
    return mask


def _require_memory(num_images: int, scale: Scale) -> None:
    needed = num_images * scale.resolution**2 * scale.channels
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * MAX_MEMORY_FRACTION
    if needed > available:
        raise DataError(
            f"{num_images:,} images at {scale.resolution} pixels take {needed / 2**30:.1f} GiB as uint8, more than "
            "half of this machine's memory. Give a smaller `--set scale.resolution=...`."
        )


def _make_dataset(
    train: tuple[Images, Labels], test: tuple[Images, Labels], class_names: tuple[str, ...], origin: str
) -> InMemoryDataset:
    return InMemoryDataset(
        train_images=train[0],
        train_labels=train[1].astype(np.int64),
        test_images=test[0],
        test_labels=test[1].astype(np.int64),
        class_names=class_names,
        origin=origin,
        digest=_hash_examples((*train, *test)),
    )


def _hash_examples(arrays: Iterable[Images | Labels]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def _cache_key(root: Path, files: Sequence[Path], scale: Scale, bad_files: BadFilesPolicy = "refuse") -> str:
    """Hash what decides the decoded pixels, their labels and their splits.

    That is the files' paths and stamps, the scale, what is done with bad files, and Pillow's version. Of a link
    both paths count: that below the root is its split and its class, that of its target is its content.
    """
    header = f"{CACHE_SCHEMA}|{PIL.__version__}|{scale.resolution}|{scale.channels}|{bad_files}\n"
    digest = hashlib.sha256(header.encode())
    for file in files:
        names = b"|".join(map(os.fsencode, (file.relative_to(root), file.resolve())))
        digest.update(names + f"|{file_stamp(file)}\n".encode())
    return digest.hexdigest()[:16]


def _write_cache(folder: Path, dataset: InMemoryDataset) -> None:
    for name in ARRAY_NAMES:
        np.save(folder / f"{name}.npy", getattr(dataset, name))
    about = {
        "classes": dataset.class_names,
        "form": dataset.origin,
        "digest": dataset.digest,
        "bad_files": dataset.excluded_files,
        "notices": dataset.notices,
    }
    (folder / ABOUT_FILE).write_bytes(dump_json(about))


def _read_cache(folder: Path, reasons: list[str]) -> InMemoryDataset | None:
    """Map a cached data set into memory; ``None`` if there is none, or a damaged one, whose reason is added."""
    try:
        about = read_json(folder / ABOUT_FILE, ABOUT_SHAPE, "")
        arrays = {}
        for name in ARRAY_NAMES:
            require_array_size(folder / f"{name}.npy", "")
            arrays[name] = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        # As fast as the disk reads, and what training reads next.
        if _hash_examples(arrays.values()) != about["digest"]:
            raise ValueError("the images or labels are not those that were decoded")
        return InMemoryDataset(
            **arrays,
            class_names=tuple(about["classes"]),
            origin=about["form"],
            digest=about["digest"],
            excluded_files=tuple(about["bad_files"]),
            notices=tuple(about["notices"]),
        )
    except Exception as error:  # whatever damaged content makes of its readers
        reasons.append(f"{folder} cannot be used ({error})")
        return None
