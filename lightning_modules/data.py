"""Real images in memory: read once, kept as uint8, cached on disk, and named by a digest of their pixels and labels."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image, ImageOps

from lightning_modules.spec import Data, Scale
from lightning_modules.spec import Source as SourceName
from lightning_modules.streams import generator
from lightning_modules.values import Misuse

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Indices = npt.NDArray[np.int64]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".tif", ".tiff", ".webp")
DIGITS_PER_CLASS = 60  # to train on; the other 1,197 are tested on
LARGEST_SHARE_OF_MEMORY = 0.5
CACHE_SCHEMA = 1
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


class DataError(Misuse):
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


@dataclass(frozen=True)
class Source:
    """How a source is read: the files that decide its content, and its examples."""

    files: Callable[[Path], list[Path]]
    read: Callable[[Scale, Path], Examples]


def prepare(data: Data, scale: Scale, root: Path, cache: Path) -> Examples:
    """The examples of a source at a scale's resolution and channels, from the cache where they were read before.

    Args:
        root: folder with ``train/<class>/*`` and ``test/<class>/*``, or where torchvision keeps its downloads.
        cache: folder for the decoded images; other processes map the same files.

    Raises:
        DataError: an empty or missing folder, unreadable images, fewer than two classes, another number of classes than
            the scale says, or images that do not fit into memory.
    """
    source = SOURCES[data.source]
    place = cache / f"{data.source}-{_name_of(source.files(root), scale)}"
    examples = _read_cache(place)
    if examples is None:
        _write_cache(place, source.read(scale, root))
        examples = _read_cache(place)
    if examples is None:
        raise DataError(f"the cache {place} cannot be read although it was just written; is the disk full?")
    if len(examples.classes) != scale.classes:
        raise DataError(
            f"{data.source} at {root} has {len(examples.classes)} classes, but the protocol says {scale.classes}. "
            f"Give `--set scale.classes={len(examples.classes)}`, or another --data-root."
        )
    return examples


def split(labels: Labels, data: Data, seed: int) -> tuple[Indices, Indices]:
    """Indices of the training and of the validation part, both stratified by class; validation is drawn by seed.

    Raises:
        DataError: where a class has no example left for one of the two.
    """
    labels = np.asarray(labels)
    used = np.ones(len(labels), dtype=bool)
    if data.train_fraction < 1:
        used = stratified(labels, data.train_fraction, np.random.Generator(np.random.PCG64(0)))
    pool = np.flatnonzero(used)
    counts = np.bincount(labels[pool])
    if counts.min() < 2:
        raise DataError(
            f"class {int(counts.argmin())} has {counts.min()} training example to divide into training and validation; "
            "expected 2 or more. Give more images, or a larger data.train_fraction."
        )
    held = stratified(labels[pool], data.validation_fraction, generator(seed, "split"))
    return pool[~held], pool[held]


def _read_digits(scale: Scale, _: Path) -> Examples:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 (Alpaydin & Kaynak 1998): 600 to train on, 1,197 to test on."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    _check_memory(len(labels), scale)
    images = np.round(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    resized = np.stack([fitted(Image.fromarray(image), scale) for image in images])
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


def _torchvision(name: str, folder: str) -> Source:
    """A data set of torchvision, downloaded where its folder is missing; or an image folder in its place."""

    def load(root: Path, *, train: bool) -> Any:
        from torchvision import datasets

        try:
            return getattr(datasets, name)(root, train=train, download=True)
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"{name} is not at {root}, and it could not be downloaded ({error}). Put torchvision's files there, "
                "or give --data-root a folder with train/<class>/ and test/<class>/."
            ) from error

    def files(root: Path) -> list[Path]:
        if (root / "train").is_dir():
            return _folder_files(root)
        if not (root / folder).is_dir():
            load(root, train=True)
        return sorted(file for file in (root / folder).iterdir() if file.is_file())

    def read(scale: Scale, root: Path) -> Examples:
        if (root / "train").is_dir():
            return _read_folder(scale, root)
        train, test = load(root, train=True), load(root, train=False)
        _check_memory(len(train) + len(test), scale)
        parts = [
            (np.stack([fitted(Image.fromarray(image), scale) for image in part.data]), np.asarray(part.targets))
            for part in (train, test)
        ]
        return _examples(parts[0], parts[1], tuple(train.classes), f"torchvision's {name}")

    return Source(files, read)


def _read_folder(scale: Scale, root: Path) -> Examples:
    """Any images as ``train/<class>/*`` and ``test/<class>/*`` (or ``val/``): shorter side resized, centre kept."""
    parts = by_class_of(root)
    files = [file for groups in parts for group in groups for file in group]
    _check_memory(len(files), scale)
    train, test = (_read_files(groups, scale) for groups in parts)
    kinds = ", ".join(sorted({kind_of(file) for file in files}))
    others = sum(strangers_in(file) for file in {file.parent for file in files})
    left_out = f"; {others} other files left out" if others else ""
    return _examples(train, test, class_names(root / "train"), f"an image folder ({kinds}{left_out})")


def by_class_of(root: Path) -> tuple[list[list[Path]], list[list[Path]]]:
    """The images of training and test, by class."""
    train, test = root / "train", root / "test" if (root / "test").is_dir() else root / "val"
    classes = class_names(train)
    strangers = sorted(set(class_names(test)) - set(classes))
    if strangers:
        raise DataError(f"{test} has classes that {train} has not: {', '.join(strangers[:5])}.")
    by_class = ([images_in(part / name) for name in classes] for part in (train, test))
    return next(by_class), next(by_class)


def _folder_files(root: Path) -> list[Path]:
    return [file for groups in by_class_of(root) for group in groups for file in group]


SOURCES: dict[SourceName, Source] = {
    "digits": Source(lambda _: [], _read_digits),
    "cifar10": _torchvision("CIFAR10", "cifar-10-batches-py"),
    "cifar100": _torchvision("CIFAR100", "cifar-100-python"),
    "folder": Source(_folder_files, _read_folder),
}


def stratified(labels: Labels, share: float, generator: np.random.Generator) -> npt.NDArray[np.bool_]:
    """A mask that draws the same share of every class: at least one example, never all of two or more."""
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(1, round(share * len(members))), max(1, len(members) - 1))
        chosen[generator.permutation(members)[:count]] = True
    return chosen


def class_names(folder: Path) -> tuple[str, ...]:
    """The names of a folder's folders, one per class.

    Raises:
        DataError: where there are fewer than two.
    """
    if not folder.is_dir():
        raise DataError(
            f"no folder {folder}. Expected train/<class>/ and test/<class>/ (or val/<class>/) with images below "
            f"--data-root {folder.parent}."
        )
    names = tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not _hidden(entry)))
    if len(names) < 2:
        found = ", ".join(names) or "none"
        raise DataError(f"{folder} has {len(names)} classes ({found}); expected two or more folders, one per class.")
    return names


def images_in(folder: Path) -> list[Path]:
    """The images in a folder, by name.

    Raises:
        DataError: where there are none.
    """
    files = sorted(file for file in folder.iterdir() if _is_image(file)) if folder.is_dir() else []
    if not files:
        raise DataError(f"no images in {folder}; expected files ending in {', '.join(IMAGE_SUFFIXES)}.")
    return files


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES and not _hidden(file)


def _hidden(entry: Path) -> bool:
    return entry.name.startswith(".")


def strangers_in(folder: Path) -> int:
    """Entries of a class's folder that are no images."""
    return sum(not _is_image(entry) and not _hidden(entry) for entry in folder.iterdir())


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
        images[index] = decoded(files[index], scale)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(read, range(len(files))):
            pass
    return images, np.repeat(np.arange(len(groups)), [len(group) for group in groups])


def decoded(file: Path, scale: Scale) -> Images:
    """A file's image at a scale: shorter side resized, centre kept.

    Raises:
        DataError: where it cannot be read.
    """
    try:
        with Image.open(file) as image:
            return fitted(eight_bits(ImageOps.exif_transpose(image)), scale)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot read the image {file}: {error}. Mend or remove it.") from error


def eight_bits(image: Image.Image) -> Image.Image:
    """An image of any mode with 8 bits per channel; what is transparent becomes black."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are of mode {image.mode!r}, whose range is not known")
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(opaque, image.convert("RGBA"))
    return image


def lengths_at(side: int, lengths: Sequence[int]) -> tuple[int, ...]:
    """Lengths of an image, in their order, once it is rescaled isotropically to a shorter side in pixels."""
    return tuple(max(side, round(length * side / min(lengths))) for length in lengths)


def fitted(picture: Image.Image, scale: Scale) -> Images:
    """An image as resolution x resolution x channels: shorter side resized, centre kept."""
    picture = picture.convert("L" if scale.channels == 1 else "RGB")
    side = scale.resolution
    if picture.size != (side, side):
        width, height = lengths_at(side, picture.size)
        left, top = (width - side) // 2, (height - side) // 2
        picture = picture.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + side, top + side))
    return np.asarray(picture).reshape(side, side, scale.channels)


def kind_of(file: Path) -> str:
    """A file's format by its name, in words."""
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


def _name_of(files: Sequence[Path], scale: Scale) -> str:
    """A name for the content of files at a scale: their paths, sizes and times, and what decodes them."""
    digest = hashlib.sha256(f"{CACHE_SCHEMA}|{PIL.__version__}|{scale.resolution}|{scale.channels}\n".encode())
    for file in files:
        status = file.stat()
        digest.update(os.fsencode(file.resolve()) + f"|{status.st_size}|{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _write_cache(place: Path, examples: Examples) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        for name in ARRAYS:
            np.save(partial / f"{name}.npy", getattr(examples, name))
        about = {"classes": examples.classes, "form": examples.form, "digest": examples.digest}
        (partial / "about.json").write_text(json.dumps(about))
        shutil.rmtree(place, ignore_errors=True)  # what is there could not be read
        partial.rename(place)
    except FileExistsError:  # another process was first, with the same content
        return
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _read_cache(place: Path) -> Examples | None:
    """What the cache holds; ``None`` where it holds nothing that can be read."""
    try:
        about = json.loads((place / "about.json").read_text())
        arrays = {name: np.load(place / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ARRAYS}
        return Examples(**arrays, classes=tuple(about["classes"]), form=about["form"], digest=about["digest"])
    except (OSError, ValueError, EOFError, KeyError):
        return None
