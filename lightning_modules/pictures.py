"""Image files that are decoded at each use: what a folder holds, looked at once; and a square cut out of a picture."""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL
import torch
from PIL import ExifTags, Image, ImageOps, features

from lightning_modules.data import (
    DataError,
    Images,
    Labels,
    by_class_of,
    class_names,
    eight_bits,
    fitted,
    kind_of,
    lengths_at,
    strangers_in,
)
from lightning_modules.spec import Data, Scale

try:
    import simplejpeg
except ImportError:  # pixels are the same without it, and come more slowly
    simplejpeg = None

LARGEST_KEPT = 16 / 7  # of the resolution: 512 pixels at 224, the largest side of the VGG paper
QUALITY = 95  # of resized copies, JPEG with chroma at half the resolution
AT_ONCE = 256  # files looked at between two writes to the index: what a kill costs
SAY_EVERY_SECONDS = 10.0
NEARLY_WHOLE = 0.01  # pixels
NAMED = 10  # bad files in a text; a file beside the index names them all
NAMES = {
    ".jpg": ("JPEG", "MPO"),
    ".jpeg": ("JPEG", "MPO"),
    ".png": ("PNG",),
    ".bmp": ("BMP", "DIB"),
    ".gif": ("GIF",),
    ".ppm": ("PPM",),
    ".tif": ("TIFF",),
    ".tiff": ("TIFF",),
    ".webp": ("WEBP",),
}  # formats by suffix, as Pillow calls them; MPO is a JPEG with further pictures behind it


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """An image folder whose files are decoded at each use.

    Attributes:
        train_files: what is decoded; likewise ``test_files``.
        train_labels: int64 class indices; likewise ``test_labels``.
        sums: int64, training examples x channels, of the pixels of each, fitted to the scale's resolution.
        products: int64, training examples x channels x channels, of the products of two channels there.
        classes: class names, in the order of the indices.
        form: where they came from, in words.
        digest: of all labels and of the bytes of all files, and of what decodes them.
        left_out: bad files, each with what is wrong with it.
    """

    train_files: tuple[Path, ...]
    train_labels: Labels
    test_files: tuple[Path, ...]
    test_labels: Labels
    sums: npt.NDArray[np.int64]
    products: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    form: str
    digest: str
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Seen:
    """What one look at a file found.

    Attributes:
        digest: of its bytes.
        fault: what is wrong with it; empty where nothing is.
        is_resized: whether a copy is read in its place.
        moments: int64, channels of sums and channels x channels of products, one after the other.
    """

    digest: str
    fault: str
    is_resized: bool
    moments: npt.NDArray[np.int64]


def pictures(
    data: Data, scale: Scale, root: Path, cache: Path, say: Callable[[str], None] = lambda _: None
) -> Pictures:
    """What a folder holds: each file is read, decoded and hashed once, and again where its size or time has changed.

    A look that was cut off goes on where it was.

    Args:
        root: folder with ``train/<class>/*`` and ``test/<class>/*`` (or ``val/``).
        cache: folder for the index, and for the resized copies.
        say: hears of the progress, every few seconds.

    Raises:
        DataError: a missing or empty folder, fewer than two classes or another number than the scale says, and bad
            files, unless the data say that they be left out.
    """
    parts = by_class_of(root)
    files = [file for groups in parts for group in groups for file in group]
    index = Index(data, scale, cache)
    seen = index.look(files, say)
    faults = tuple(f"{file.relative_to(root)}: {seen[file].fault}" for file in files if seen[file].fault)
    told = _told(faults)
    if faults:
        (index.place / "bad_files.txt").write_text("\n".join(faults) + "\n", encoding="utf-8")
    if faults and data.bad_files == "refuse":
        raise DataError(
            f"{len(faults)} of {len(files):,} images at {root} are bad: {told} (all of them in "
            f"{index.place / 'bad_files.txt'}). Mend or remove them, or give `--set data.bad_files='leave out'`."
        )
    (train, train_labels), (test, test_labels) = (_good(groups, seen) for groups in parts)
    for name, part in (("training", train), ("test", test)):
        if not part:
            raise DataError(f"no {name} image at {root} can be read: {told}.")
    classes = class_names(root / "train")
    if len(classes) != scale.classes:
        raise DataError(
            f"{data.source} at {root} has {len(classes)} classes, but the protocol says {scale.classes}. "
            f"Give `--set scale.classes={len(classes)}`, or another --data-root."
        )
    moments = np.stack([seen[file].moments for file in train])
    return Pictures(
        train_files=tuple(index.read_from(file, seen[file]) for file in train),
        train_labels=train_labels,
        test_files=tuple(index.read_from(file, seen[file]) for file in test),
        test_labels=test_labels,
        sums=moments[:, : scale.channels],
        products=moments[:, scale.channels :].reshape(-1, scale.channels, scale.channels),
        classes=classes,
        form=_form(files, index, told, len(faults)),
        digest=_digest(index, ((train, train_labels), (test, test_labels)), seen),
        left_out=faults,
    )


class Index:
    """What is known of files, by path, size and time; one database for all folders that are read alike."""

    def __init__(self, data: Data, scale: Scale, cache: Path) -> None:
        self.scale, self.limit = scale, round(LARGEST_KEPT * scale.resolution) if data.keep == "resized" else 0
        decoder = f"Pillow {PIL.__version__}, libjpeg {features.version('libjpeg_turbo') or features.version('jpg')}"
        self.reading = f"{scale.resolution} x {scale.channels}, up to {self.limit}, quality {QUALITY}, {decoder}"
        self.place = cache / f"pictures-{hashlib.sha256(self.reading.encode()).hexdigest()[:16]}"
        self.database = self.place / "index.db"

    def look(self, files: Sequence[Path], say: Callable[[str], None]) -> dict[Path, Seen]:
        """What is known of files, once all that is not has been looked at."""
        self.place.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.database, timeout=60)) as database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS files "
                "(path TEXT PRIMARY KEY, state TEXT, digest TEXT, fault TEXT, is_resized INTEGER, moments BLOB)"
            )
            known = {row[0]: row[1:] for row in database.execute("SELECT * FROM files")}
            folders = {folder: folder.resolve() for folder in {file.parent for file in files}}
            names = {file: str(folders[file.parent] / file.name) for file in files}
            states = {file: _state(file) for file in files}
            found = {
                file: Seen(digest, fault, bool(is_resized), np.frombuffer(moments, dtype=np.int64))
                for file in files
                for state, digest, fault, is_resized, moments in (known.get(names[file], ("", "", "", 0, b"")),)
                if state == states[file] and not (is_resized and not self._copy(digest).exists())
            }
            for batch in self._batches([file for file in files if file not in found], len(files), say):
                found |= batch
                rows = [
                    (
                        str(file.resolve()),
                        states[file],
                        seen.digest,
                        seen.fault,
                        seen.is_resized,
                        seen.moments.tobytes(),
                    )
                    for file, seen in batch.items()
                ]
                with database:
                    database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", rows)
        return found

    def read_from(self, file: Path, seen: Seen) -> Path:
        """What is decoded in a file's place."""
        return self._copy(seen.digest) if seen.is_resized else file

    def _batches(self, new: Sequence[Path], total: int, say: Callable[[str], None]) -> Iterator[dict[Path, Seen]]:
        began = said = time.monotonic()
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            for start in range(0, len(new), AT_ONCE):
                batch = new[start : start + AT_ONCE]
                yield dict(zip(batch, pool.map(self._look_at, batch), strict=True))
                now, done = time.monotonic(), start + len(batch)
                if now - said > SAY_EVERY_SECONDS:
                    said, known = now, total - len(new)
                    say(f"looked at {known + done:,} of {total:,} images, {done / (now - began):,.0f} a second")

    def _look_at(self, file: Path) -> Seen:
        content = file.read_bytes()
        digest, none = hashlib.sha256(content).hexdigest(), np.zeros(0, dtype=np.int64)
        try:
            picture, kind = _whole(content)
            pixels = fitted(picture, self.scale).reshape(-1, self.scale.channels).astype(np.float64)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            return Seen(digest, f"cannot be read ({_reason(error)})", False, none)
        if kind not in NAMES[file.suffix.lower()]:
            return Seen(digest, f"is a {kind} by its content", False, none)
        is_resized = 0 < self.limit < min(picture.size)
        if is_resized:
            self._resize(picture, digest)
        moments = np.concatenate([pixels.sum(0), (pixels.T @ pixels).ravel()]).astype(np.int64)  # whole, below 2^53
        return Seen(digest, "", is_resized, moments)

    def _copy(self, digest: str) -> Path:
        return self.place / digest[:2] / f"{digest}.jpg"

    def _resize(self, picture: Image.Image, digest: str) -> None:
        """Keep a copy, which has its name once it is whole."""
        copy, shorter = self._copy(digest), min(picture.size)
        copy.parent.mkdir(exist_ok=True)
        width, height = (round(length * self.limit / shorter) for length in picture.size)
        small = coloured(picture, self.scale).resize((width, height), Image.Resampling.BILINEAR)
        with tempfile.NamedTemporaryFile(dir=copy.parent, suffix=".partial", delete=False) as partial:
            small.save(partial, "JPEG", quality=QUALITY, subsampling="4:2:0")
        Path(partial.name).replace(copy)


def _reason(error: Exception) -> str:
    """What Pillow says, without the address of what it read from."""
    return re.sub(r" ?<_io\.BytesIO[^>]*>", "", str(error))


def coloured(picture: Image.Image, scale: Scale) -> Image.Image:
    """A picture of any mode in the scale's channels."""
    mode = "L" if scale.channels == 1 else "RGB"
    return picture if picture.mode == mode else picture.convert(mode)


def decoded(file: Path, scale: Scale, side: int) -> Images:
    """A file's picture, upright, in the scale's channels: uint8, height x width x channels.

    A JPEG whose shorter side is twice ``side`` or more is decoded at a half, a quarter or an eighth of its size, not
    below ``side``: what is rescaled to that takes an average over the pixels anyhow.

    Raises:
        DataError: where it cannot be read any more.
    """
    try:
        content = file.read_bytes()
        with Image.open(io.BytesIO(content)) as picture:
            if simplejpeg and _is_plain(picture, scale):
                return _by_simplejpeg(content, picture.size, side)
            width, height = picture.size
            shorter = min(width, height)
            picture.draft(None, (max(1, side * width // shorter), max(1, side * height // shorter)))
            shown = np.array(coloured(_upright(picture), scale))
            return shown.reshape(*shown.shape[:2], scale.channels)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"cannot read the image {file}, which could be read before: {error}.") from error


def _is_plain(picture: Image.Image, scale: Scale) -> bool:
    """Whether it is a JPEG in colours that needs no turning, and no conversion."""
    is_colourful = picture.mode == "RGB" and scale.channels == 3
    return picture.format == "JPEG" and is_colourful and picture.getexif().get(ExifTags.Base.Orientation, 1) == 1


def _by_simplejpeg(content: bytes, size: tuple[int, int], side: int) -> Images:
    """The same library and the same pixels as Pillow's, without what these pass through on their way into an array."""
    part = next(part for part in (8, 4, 2, 1) if part == 1 or min(size) // part >= side)
    width, height = (math.ceil(length / part) for length in size)
    shown: Images = simplejpeg.decode_jpeg(content, "RGB", min_height=height, min_width=width, min_factor=part)
    return shown


def square(
    pixels: Images, side: int, place: Sequence[float] | npt.NDArray[np.float64], *, flip: bool, resolution: int
) -> Images:
    """A square cut out of a picture that is rescaled to a shorter side, in one pass over the pixels that it shows.

    It is what the crop of the whole picture rescaled would show, shifted by less than a hundredth of a pixel.

    Args:
        pixels: uint8, height x width x channels.
        side: shorter side, pixels, not below the resolution.
        place: row and column of the crop, from 0 up to, not including, 1, among the possible ones.

    Returns:
        uint8, resolution x resolution x channels.
    """
    shape = pixels.shape[:2]
    lengths = lengths_at(side, shape)
    windows = [
        _window(int(start), stored, length, resolution)
        for start, stored, length in zip(starts(np.asarray(place), lengths, resolution), shape, lengths, strict=True)
    ]
    rows, columns = windows
    part = torch.from_numpy(pixels[rows.stored, columns.stored]).permute(2, 0, 1)[None]
    scales = [length / stored for length, stored in zip(lengths, shape, strict=True)]
    shown = torch.ops.aten._upsample_bilinear2d_aa(part, [rows.rescaled, columns.rescaled], False, *scales)
    cut: Images = shown[0, :, rows.crop, columns.crop].permute(1, 2, 0).numpy()
    return cut[:, ::-1] if flip else cut


@dataclass(frozen=True)
class Window:
    """Along one axis: which stored pixels are rescaled, to how many, and which of these are the crop."""

    stored: slice
    rescaled: int
    crop: slice


def _window(start: int, stored: int, length: int, crop: int) -> Window:
    """The window for a crop that begins at ``start`` of an axis whose ``stored`` pixels are rescaled to ``length``.

    Rescaling begins at a whole stored pixel. So the window begins at the last rescaled one before the crop, a filter's
    reach away, that lies at such a pixel but for a hundredth: at the picture's first pixel, where there is none.
    """
    scale = stored / length
    reach = max(1.0, scale)  # of the filter, stored pixels to each side
    before = np.arange(start - math.ceil(reach / scale), 0, -1)
    aligned = before[np.abs(before * scale - np.rint(before * scale)) < NEARLY_WHOLE]
    begin = int(aligned[0]) if len(aligned) else 0
    first, last = round(begin * scale), min(stored, math.ceil((start + crop) * scale + reach))
    rescaled = start + crop - begin
    if rescaled == last - first:
        rescaled += 1  # PyTorch takes an axis that keeps its length for one that is not rescaled
    return Window(slice(first, last), rescaled, slice(start - begin, start - begin + crop))


def starts(
    places: npt.NDArray[np.float64], lengths: Sequence[int] | npt.NDArray[np.int64], resolution: int
) -> npt.NDArray[np.int64]:
    """The first row, or column, of each crop in a picture of so many of them: each is as likely as the others."""
    found: npt.NDArray[np.int64] = (places * (np.asarray(lengths) - resolution + 1)).astype(np.int64)
    return found


def _whole(content: bytes) -> tuple[Image.Image, str]:
    """A picture, decoded to its last pixel, upright; and its format."""
    with Image.open(io.BytesIO(content)) as picture:
        kind = picture.format or "picture of no known format"
        return _upright(picture), kind


def _upright(picture: Image.Image) -> Image.Image:
    ImageOps.exif_transpose(picture, in_place=True)
    picture.load()
    return eight_bits(picture)


def _good(groups: Iterable[Iterable[Path]], seen: dict[Path, Seen]) -> tuple[list[Path], Labels]:
    """The files that can be read, and their labels."""
    pairs = [(file, label) for label, group in enumerate(groups) for file in group if not seen[file].fault]
    return [file for file, _ in pairs], np.array([label for _, label in pairs], dtype=np.int64)


def _told(faults: Sequence[str]) -> str:
    more = f"; and {len(faults) - NAMED:,} more" if len(faults) > NAMED else ""
    return f"{'; '.join(faults[:NAMED])}{more}"


def _form(files: Sequence[Path], index: Index, told: str, bad: int) -> str:
    kinds = ", ".join(sorted({kind_of(file) for file in files}))
    others = sum(strangers_in(file) for file in {file.parent for file in files})
    copies = f"; copies of a shorter side of {index.limit}, JPEG {QUALITY}, of larger ones" if index.limit else ""
    return (
        f"an image folder ({kinds}{f'; {others} other files left out' if others else ''}), decoded at each use"
        f"{copies}{f'; {bad:,} bad files left out: {told}' if bad else ''}"
    )


def _digest(index: Index, parts: Iterable[tuple[Sequence[Path], Labels]], seen: dict[Path, Seen]) -> str:
    digest = hashlib.sha256(index.reading.encode())
    for files, labels in parts:
        digest.update(labels.tobytes())
        for file in files:
            digest.update(seen[file].digest.encode())
    return digest.hexdigest()[:16]


def _state(file: Path) -> str:
    status = file.stat()
    return f"{status.st_size}|{status.st_mtime_ns}"
