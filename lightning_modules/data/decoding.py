"""Decode image files to upright 8-bit pixels; rescale and crop pixels."""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import ExifTags, Image

from lightning_modules.data.image_folder import FORMATS_BY_SUFFIX
from lightning_modules.data.types import DataError, Images
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.text import printable_path
from lightning_modules.stored_files import hash_bytes

try:
    import simplejpeg
except ImportError:  # optional: the pixels are the same without it, only slower to get
    simplejpeg = None

# What Pillow and simplejpeg raise on a bad file; SyntaxError is Pillow's for broken PNG and TIFF headers, and
# struct.error and TypeError for EXIF entries of another type than their tag's.
DECODING_ERRORS = (OSError, ValueError, SyntaxError, TypeError, struct.error, Image.DecompressionBombError)
# A file of few bytes may be a line of 60,000 pixels: rescaled to a shorter side of 224, it would take gigabytes.
MAX_ASPECT_RATIO = 100
# How to turn upright what is stored with an EXIF orientation; 1 is upright.
UPRIGHT_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
JPEG_REDUCTIONS = (8, 4, 2)  # libjpeg can decode at 1/8, 1/4 or 1/2 of the size without the full inverse transform
CENTER_OFFSET = np.nextafter(0.5, 0)  # of a center crop; no random offset, since those are multiples of 2^-53
ALIGNMENT_TOLERANCE = 0.01  # stored pixels by which a resampling window may miss a whole pixel


# Two decoders with one interface. They differ in what may be assumed of the file:
#
# - `decode_image` always uses Pillow and decodes every pixel. Its callers keep the pixels (the cache of decoded data
#   sets is keyed by Pillow's version) or compute statistics of them.
# - `decode_indexed_image` reads a file that the image index has checked, over and over while a network trains. It may
#   decode a JPEG at a fraction of its size, and uses simplejpeg where that is installed: decoding is what such a trial
#   waits for. A reduced JPEG, rescaled, differs from the full one, so neither decoder can replace the other without
#   changing results.


def decode_image(file: Path, scale: Scale) -> Images:
    """Decode every pixel of an image file.

    Returns uint8 (height, width, channels), upright, in the scale's channels.

    Raises:
        DataError: for a file that cannot be read.
    """
    with _report_bad_file(printable_path(file), remedy=" Fix or remove it."), Image.open(file) as image:
        return image_to_array(convert_color_mode(_load_upright(image), scale))


def decode_indexed_image(file: Path, scale: Scale, min_side: int) -> Images:
    """Decode a file of the image index, a large JPEG at a reduced size.

    Otherwise as :func:`decode_image`.

    A JPEG whose shorter side is twice ``min_side`` or more is decoded at a half, a quarter or an eighth of its size,
    never below ``min_side``: rescaling to ``min_side`` averages over these pixels anyway.

    Raises:
        DataError: for a file that can no longer be read.
    """
    with _report_bad_file(f"{printable_path(file)}, which could be read before"):
        content = file.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            if simplejpeg and _is_plain_jpeg(image, scale):
                with suppress(ValueError):  # a warning of libjpeg, where Pillow decodes what there is
                    return _decode_with_simplejpeg(content, image.size, min_side)
            _request_reduced_size(image, min_side)
            return image_to_array(convert_color_mode(_load_upright(image), scale))


@dataclass(frozen=True)
class CheckedFile:
    """A file of an image folder, as found.

    Attributes:
        digest: of its bytes; empty where they cannot be read.
        image: upright, with the channels of the scale; ``None`` for a bad file.
        error: what is wrong with a bad file; empty for a good one.
    """

    digest: str
    image: Image.Image | None
    error: str


def decode_checked_file(file: Path, scale: Scale) -> CheckedFile:
    """Read, hash and fully decode a file of an image folder.

    A file is bad if it cannot be read or decoded, or has another format than its extension says.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        return CheckedFile("", None, f"cannot be read ({error.strerror})")
    digest = hash_bytes(content)
    try:
        image, format_name = decode_upright(content)
        image = convert_color_mode(image, scale)
    except DECODING_ERRORS as error:
        # Pillow's message names the memory address of a buffer; the text must be equal at every inspection.
        reason = re.sub(r" ?<_io\.BytesIO[^>]*>", "", str(error))
        return CheckedFile(digest, None, f"cannot be read ({reason})")
    if format_name not in FORMATS_BY_SUFFIX[file.suffix.lower()]:
        return CheckedFile(digest, None, f"is a {format_name} by its content")
    return CheckedFile(digest, image, "")


def decode_center_crop(file: Path, scale: Scale) -> Images:
    """Decode a file and fit it to the scale.

    Decoded by :func:`decode_image`; shorter side rescaled, center kept.

    Raises:
        DataError: for a file that cannot be read.
    """
    return resize_and_center_crop(array_to_image(decode_image(file, scale)), scale)


def decode_upright(content: bytes) -> tuple[Image.Image, str]:
    """Decode every pixel of a file's content; also return its format.

    The image is upright, with 8 bits per channel.
    """
    with Image.open(io.BytesIO(content)) as image:
        format_name = image.format or "picture of no known format"
        return _load_upright(image), format_name


@contextmanager
def _report_bad_file(description: str, remedy: str = "") -> Iterator[None]:
    """Raise a DataError that describes the file for whatever a decoder raises."""
    try:
        yield
    except DECODING_ERRORS as error:
        raise DataError(f"cannot read the image {description}: {error}.{remedy}") from error


def _load_upright(image: Image.Image) -> Image.Image:
    """Decode an opened image, upright, to 8 bits per channel.

    Raises:
        ValueError: for an image whose sides differ by more than ``MAX_ASPECT_RATIO``.
    """
    if max(image.size) > MAX_ASPECT_RATIO * min(image.size):
        raise ValueError(f"one side is more than {MAX_ASPECT_RATIO} times the other: {image.width} x {image.height}")
    image.load()  # before its orientation is read: Pillow turns a TIFF by itself, and then drops the entry
    # Not ImageOps.exif_transpose: it writes all other EXIF entries again, and fails where one is malformed.
    transpose = UPRIGHT_TRANSPOSES.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return convert_to_eight_bit(image if transpose is None else image.transpose(transpose))


def convert_to_eight_bit(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to 8 bits per channel.

    What is transparent becomes black.

    Raises:
        ValueError: for 32-bit integer or float pixels, whose range is not known.
    """
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))  # 65535 / 257 = 255
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are of mode {image.mode!r}, whose range is not known")
    if image.has_transparency_data:
        opaque_black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(opaque_black, image.convert("RGBA"))
    return image


def convert_color_mode(image: Image.Image, scale: Scale) -> Image.Image:
    """Convert an image of any mode to the scale's channels."""
    mode = "L" if scale.channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def image_to_array(image: Image.Image) -> Images:
    """Copy a gray or RGB image to an array (height, width, channels)."""
    pixels = np.array(image)
    return pixels.reshape(image.height, image.width, -1)


def array_to_image(pixels: Images) -> Image.Image:
    """Make a gray or RGB image of a uint8 array (height, width, channels)."""
    # Pillow takes gray pixels without an axis of channels.
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _request_reduced_size(image: Image.Image, min_side: int) -> None:
    """Have Pillow decode a JPEG at a reduced size, not below a side.

    Other formats stay whole.
    """
    width, height = image.size
    shorter = min(width, height)
    image.draft(None, (max(1, min_side * width // shorter), max(1, min_side * height // shorter)))


def _is_plain_jpeg(image: Image.Image, scale: Scale) -> bool:
    """Whether a file is an RGB JPEG that needs no conversion."""
    needs_no_conversion = image.mode == "RGB" and scale.channels == 3
    return image.format == "JPEG" and needs_no_conversion and image.getexif().get(ExifTags.Base.Orientation, 1) == 1


def _decode_with_simplejpeg(content: bytes, size: tuple[int, int], min_side: int) -> Images:
    """Decode a JPEG to the same pixels as Pillow does.

    It is the same libjpeg-turbo, without Pillow's copies on the way to an array.
    """
    reduction = 1
    for candidate in JPEG_REDUCTIONS:
        if min(size) // candidate >= min_side:
            reduction = candidate
            break
    width, height = (math.ceil(length / reduction) for length in size)
    pixels: Images = simplejpeg.decode_jpeg(content, "RGB", min_height=height, min_width=width, min_factor=reduction)
    return pixels


def rescaled_lengths(side: int, lengths: Sequence[int]) -> tuple[int, ...]:
    """Return lengths after isotropic rescaling to a shorter side.

    In pixels, in the order of ``lengths``. The longer side is rounded down, as by ``torchvision.transforms.Resize``:
    published errors of torchvision's weights were measured so.
    """
    shortest = min(lengths)
    return tuple(int(side * length / shortest) for length in lengths)


def center_crop_start(length: int, crop_length: int) -> int:
    """Return the first row, or column, of a center crop.

    Half pixels are rounded to even, as by ``torchvision.transforms.CenterCrop``.
    """
    return int(center_crop_starts(np.asarray(length), crop_length))


def center_crop_starts(lengths: npt.NDArray[np.int64], crop_length: int) -> npt.NDArray[np.int64]:
    """Return the first row, or column, of each center crop; see :func:`center_crop_start`."""
    return np.rint((lengths - crop_length) / 2).astype(np.int64)


def rescale_image(image: Image.Image, side: int) -> Image.Image:
    """Rescale an image isotropically to a shorter side.

    In pixels; bilinear, antialiased.
    """
    width, height = rescaled_lengths(side, image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR)


def resize_and_center_crop(image: Image.Image, scale: Scale) -> Images:
    """Fit an image to the scale: shorter side rescaled, center kept.

    Returns uint8 (resolution, resolution, channels).
    """
    image = convert_color_mode(image, scale)
    side = scale.resolution
    if image.size != (side, side):
        image = rescale_image(image, side)
        left, top = center_crop_start(image.width, side), center_crop_start(image.height, side)
        image = image.crop((left, top, left + side, top + side))
    return np.asarray(image).reshape(side, side, scale.channels)


def crop_square(
    pixels: Images, side: int, offset: Sequence[float] | npt.NDArray[np.float64], *, flip: bool, resolution: int
) -> Images:
    """Cut a square out of an image rescaled to a shorter side.

    Pixels outside of the square are not rescaled.

    The square is that of the whole image rescaled, but for a shift of less than a hundredth of a pixel.

    Args:
        pixels: uint8, height x width x channels.
        side: shorter side after rescaling, pixels; not below the resolution.
        offset: row and column of the crop as fractions in [0, 1) of the possible ones.
        flip: whether to mirror the square.
        resolution: side of the square, pixels.

    Returns:
        uint8, resolution x resolution x channels.
    """
    stored_lengths = pixels.shape[:2]
    lengths = rescaled_lengths(side, stored_lengths)
    first_row, first_column = crop_starts(np.asarray(offset), lengths, resolution)
    rows = _resampling_window(int(first_row), stored_lengths[0], lengths[0], resolution)
    columns = _resampling_window(int(first_column), stored_lengths[1], lengths[1], resolution)
    window = torch.from_numpy(pixels[rows.stored_pixels, columns.stored_pixels]).permute(2, 0, 1)[None]
    # The operator behind `interpolate`: only called directly does it take sizes and scale factors that do not agree,
    # as those of a window, which is rescaled by the factor of the whole image.
    rescaled = torch.ops.aten._upsample_bilinear2d_aa(
        window,
        [rows.rescaled_length, columns.rescaled_length],
        False,
        lengths[0] / stored_lengths[0],
        lengths[1] / stored_lengths[1],
    )
    square: Images = rescaled[0, :, rows.crop, columns.crop].permute(1, 2, 0).numpy()
    return square[:, ::-1] if flip else square


@dataclass(frozen=True)
class ResamplingWindow:
    """The part of one axis that is rescaled for a crop.

    Attributes:
        stored_pixels: the stored pixels that are rescaled.
        rescaled_length: how many pixels they are rescaled to.
        crop: which of the rescaled pixels are the crop.
    """

    stored_pixels: slice
    rescaled_length: int
    crop: slice


def _resampling_window(start: int, stored_length: int, rescaled_length: int, crop_length: int) -> ResamplingWindow:
    """Find the part of an axis to rescale for a crop.

    Rescaling begins at a whole stored pixel. So the window begins at the last rescaled pixel before the crop, at least
    the filter's reach away, whose edge lies within ``ALIGNMENT_TOLERANCE`` of a stored pixel's; without one, at 0.
    """
    scale = stored_length / rescaled_length
    reach = max(1.0, scale)  # of the triangle filter, stored pixels to each side
    candidates = np.arange(start - math.ceil(reach / scale), 0, -1)
    misalignment = np.abs(candidates * scale - np.rint(candidates * scale))
    aligned = candidates[misalignment < ALIGNMENT_TOLERANCE]
    begin = int(aligned[0]) if len(aligned) else 0
    first, last = round(begin * scale), min(stored_length, math.ceil((start + crop_length) * scale + reach))
    rescaled = start + crop_length - begin
    if rescaled == last - first:
        rescaled += 1  # PyTorch would skip the filter on an axis that keeps its length
    return ResamplingWindow(slice(first, last), rescaled, slice(start - begin, start - begin + crop_length))


def crop_starts(
    offsets: npt.NDArray[np.float64], lengths: Sequence[int] | npt.NDArray[np.int64], resolution: int
) -> npt.NDArray[np.int64]:
    """Return the first row, or column, of each crop.

    Offsets uniform in [0, 1) make all positions equally likely; ``CENTER_OFFSET`` is the center crop.
    """
    lengths = np.asarray(lengths)
    starts = (offsets * (lengths - resolution + 1)).astype(np.int64)
    return np.where(offsets == CENTER_OFFSET, center_crop_starts(lengths, resolution), starts)
