"""Real images in memory: read once, kept as uint8, cached on disk, and named by a digest of their pixels and labels."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lightning_modules.spec import Data, Scale, Source

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm")
DIGITS_PER_CLASS = 60  # to train on; the other 1,197 are tested on
LARGEST_SHARE_OF_MEMORY = 0.5
CACHE_SCHEMA = 1


class DataError(ValueError):
    """Data that cannot be trained on; the text says where, what is expected and what to do."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """A data set in memory.

    Attributes:
        train_images: uint8, examples x height x width x channels; likewise ``test_images``.
        train_labels: int64 class indices; likewise ``test_labels``.
        classes: class names, in the order of the indices.
        form: where they came from, in words: ``an image folder (JPEG)``.
        digest: of all pixels and labels.
    """

    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    classes: tuple[str, ...]
    form: str
    digest: str


def prepare(data: Data, scale: Scale, root: Path, cache: Path) -> Examples:
    """The examples of a source at a scale's resolution and channels, from the cache where they were read before.

    Args:
        root: folder with ``train/<class>/*`` and ``test/<class>/*``, or where torchvision keeps its downloads.
        cache: folder for the decoded images; other processes map the same files.

    Raises:
        DataError: an empty or missing folder, unreadable images, fewer than two classes, another number of classes than
            the scale says, or images that do not fit into memory.
    """
    place = cache / _cache_name(data.source, scale, root)
    if not (place / "about.json").exists():
        _write_cache(place, READERS[data.source](scale, root))
    examples = _read_cache(place)
    if len(examples.classes) != scale.classes:
        raise DataError(
            f"{data.source} at {root} has {len(examples.classes)} classes, but the protocol says {scale.classes}. "
            f"Give `--set scale.classes={len(examples.classes)}`, or another --data-root."
        )
    return examples


def _read_digits(scale: Scale, root: Path) -> Examples:  # noqa: ARG001 - the images lie inside scikit-learn
    """scikit-learn's 1,797 handwritten digits, 8 x 8 (Alpaydin & Kaynak 1998): 600 to train on, 1,197 to test on."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = np.round(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    resized = np.stack([_fitted(image, scale) for image in images])
    random = np.random.Generator(np.random.PCG64(0))
    chosen = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        chosen[random.permutation(np.flatnonzero(labels == label))[:DIGITS_PER_CLASS]] = True
    return _examples(
        (resized[chosen], labels[chosen]),
        (resized[~chosen], labels[~chosen]),
        tuple(map(str, range(10))),
        "scikit-learn's handwritten digits",
    )


def _read_cifar(name: str) -> Callable[[Scale, Path], Examples]:
    def read(scale: Scale, root: Path) -> Examples:
        if (root / "train").is_dir():
            return _read_folder(scale, root)
        from torchvision import datasets

        try:
            train, test = (getattr(datasets, name)(root, train=part, download=True) for part in (True, False))
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"{name} is not at {root}, and it could not be downloaded ({error}). Put torchvision's files there, "
                "or give --data-root a folder with train/<class>/ and test/<class>/."
            ) from error
        parts = [
            (np.stack([_fitted(image, scale) for image in part.data]), np.asarray(part.targets))
            for part in (train, test)
        ]
        return _examples(parts[0], parts[1], tuple(train.classes), f"torchvision's {name}")

    return read


def _read_folder(scale: Scale, root: Path) -> Examples:
    """Any images as ``train/<class>/*`` and ``test/<class>/*`` (or ``val/``): shorter side resized, centre kept."""
    test = root / "test" if (root / "test").is_dir() else root / "val"
    classes = _class_names(root / "train")
    strangers = sorted(set(_class_names(test)) - set(classes))
    if strangers:
        raise DataError(f"{test} has classes that {root / 'train'} has not: {', '.join(strangers[:5])}.")
    files = {part: [_images_in(part / name) for name in classes] for part in (root / "train", test)}
    _check_memory(sum(len(group) for groups in files.values() for group in groups), scale)
    parts = [_read_files(groups, scale) for groups in files.values()]
    kinds = sorted({_kind(file) for groups in files.values() for group in groups for file in group})
    return _examples(parts[0], parts[1], classes, f"an image folder ({', '.join(kinds)})")


READERS: dict[Source, Callable[[Scale, Path], Examples]] = {
    "digits": _read_digits,
    "cifar10": _read_cifar("CIFAR10"),
    "cifar100": _read_cifar("CIFAR100"),
    "folder": _read_folder,
}


def stratified(labels: Labels, share: float, generator: np.random.Generator) -> npt.NDArray[np.bool_]:
    """A mask that draws the same share of every class: at least one example, never all of two or more."""
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(1, round(share * len(members))), max(1, len(members) - 1))
        chosen[generator.permutation(members)[:count]] = True
    return chosen


def _class_names(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        raise DataError(
            f"no folder {folder}. Expected train/<class>/ and test/<class>/ (or val/<class>/) with images below "
            f"--data-root {folder.parent}."
        )
    names = tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir()))
    if len(names) < 2:
        found = ", ".join(names) or "none"
        raise DataError(f"{folder} has {len(names)} classes ({found}); expected two or more folders, one per class.")
    return names


def _images_in(folder: Path) -> list[Path]:
    files = (
        sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES) if folder.is_dir() else []
    )
    if not files:
        raise DataError(f"no images in {folder}; expected files ending in {', '.join(IMAGE_SUFFIXES)}.")
    return files


def _check_memory(count: int, scale: Scale) -> None:
    needed = count * scale.resolution**2 * scale.channels
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * LARGEST_SHARE_OF_MEMORY
    if needed > available:
        raise DataError(
            f"{count:,} images at {scale.resolution} pixels take {needed / 2**30:.1f} GiB as uint8, more than half of "
            f"this machine's memory. Give a smaller `--set scale.resolution=...`."
        )


def _read_files(groups: Sequence[Sequence[Path]], scale: Scale) -> tuple[Images, Labels]:
    files = [file for group in groups for file in group]
    images = np.empty((len(files), scale.resolution, scale.resolution, scale.channels), dtype=np.uint8)

    def read(index: int) -> None:
        images[index] = _decoded(files[index], scale)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(read, range(len(files))):
            pass
    return images, np.repeat(np.arange(len(groups)), [len(group) for group in groups])


def _decoded(file: Path, scale: Scale) -> Images:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            return _fitted(np.asarray(image.convert("L" if scale.channels == 1 else "RGB")), scale)
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise DataError(f"cannot read the image {file}: {error}. Mend or remove it.") from error


def _fitted(image: npt.NDArray[np.uint8], scale: Scale) -> Images:
    """An image (height x width, or x channels) as resolution x resolution x channels."""
    from PIL import Image

    picture = Image.fromarray(image).convert("L" if scale.channels == 1 else "RGB")
    side, shorter = scale.resolution, min(picture.size)
    if picture.size != (side, side):
        width, height = (max(side, round(length * side / shorter)) for length in picture.size)
        left, top = (width - side) // 2, (height - side) // 2
        picture = picture.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + side, top + side))
    return np.asarray(picture).reshape(side, side, scale.channels)


def _kind(file: Path) -> str:
    return {".jpg": "JPEG", ".jpeg": "JPEG"}.get(file.suffix.lower(), file.suffix[1:].upper())


def _examples(
    train: tuple[Images, Labels], test: tuple[Images, Labels], classes: tuple[str, ...], form: str
) -> Examples:
    digest = hashlib.sha256()
    for array in (*train, *test):
        digest.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    return Examples(
        train_images=train[0],
        train_labels=train[1].astype(np.int64),
        test_images=test[0],
        test_labels=test[1].astype(np.int64),
        classes=classes,
        form=form,
        digest=digest.hexdigest()[:16],
    )


def _cache_name(source: Source, scale: Scale, root: Path) -> str:
    """Names the files read: their paths, sizes and times, so that a changed folder is read again."""
    digest = hashlib.sha256(f"{CACHE_SCHEMA}|{source}|{scale.resolution}|{scale.channels}".encode())
    if source != "digits":
        digest.update(str(root.resolve()).encode())
        for folder, names, files in os.walk(root):
            names.sort()
            for name in sorted(files):
                status = (Path(folder) / name).stat()
                digest.update(f"{folder}/{name}|{status.st_size}|{status.st_mtime_ns}\n".encode())
    return f"{source}-{digest.hexdigest()[:16]}"


def _write_cache(place: Path, examples: Examples) -> None:
    partial = place.with_name(f"{place.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        np.save(partial / f"{name}.npy", getattr(examples, name))
    about = {"classes": examples.classes, "form": examples.form, "digest": examples.digest}
    (partial / "about.json").write_text(json.dumps(about))
    try:
        partial.rename(place)
    except OSError:  # another process was first, with the same content
        shutil.rmtree(partial)


def _read_cache(place: Path) -> Examples:
    about = json.loads((place / "about.json").read_text())
    arrays = {
        name: np.load(place / f"{name}.npy", mmap_mode="r")
        for name in ("train_images", "train_labels", "test_images", "test_labels")
    }
    return Examples(**arrays, classes=tuple(about["classes"]), form=about["form"], digest=about["digest"])
