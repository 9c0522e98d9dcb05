"""Augment batches of images.

All random numbers depend on (seed, epoch, example) alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from lightning_modules.data.decoding import CENTER_OFFSET, crop_square, crop_starts
from lightning_modules.rng import seeded_generator
from lightning_modules.specs.recipe import CROP_AUGMENTATIONS, Augmentation, Recipe

COLOR_COEFFICIENT_STD = 0.1  # of the color shift (Krizhevsky et al. 2012, Sect. 4.1)


@dataclass(frozen=True)
class ShiftFlipParams:
    """Shifts and mirrorings of every example of one epoch.

    Attributes:
        margin: the largest shift, pixels.
        shifts: examples x 2, rows and columns, from 0 to twice the margin; the margin itself means no shift.
        flips: examples, true where the image is mirrored.
    """

    margin: int
    shifts: npt.NDArray[np.int64]
    flips: npt.NDArray[np.bool_]

    @classmethod
    def sample_epoch(
        cls, augmentation: Augmentation, seed: int, epoch: int, num_examples: int, side: int
    ) -> ShiftFlipParams:
        """Draw for all examples of an epoch at once.

        Neither batch size nor number of workers changes the draw.
        """
        generator = seeded_generator(seed, "augmentation", epoch)
        margin = 0 if augmentation == "none" else max(1, side // 8)  # 4 pixels of 32, as usual on CIFAR
        flip_probability = 0.5 if augmentation == "shift-flip" else 0.0
        # Both are always drawn, so that recipes with and without flips share the shifts.
        shifts = generator.integers(0, 2 * margin + 1, size=(num_examples, 2))
        flips = generator.random(num_examples) < flip_probability
        return cls(margin, shifts, flips)

    def to_bytes(self, indices: npt.NDArray[np.int64]) -> tuple[bytes, ...]:
        """Return some examples' draws, one kind after the other, for hashing."""
        return self.shifts[indices].tobytes(), self.flips[indices].tobytes()

    def device_arrays(self, resolution: int) -> dict[str, np.ndarray]:  # noqa: ARG002 - as for crops
        """Return what a device needs to augment by itself, by name; nothing where images stay as they are."""
        return {"shifts": self.shifts, "flips": self.flips} if self.margin or self.flips.any() else {}


@dataclass(frozen=True)
class CropParams:
    """Scale, crop, mirroring and color shift of one epoch's examples.

    Attributes:
        sides: examples; the shorter side to which each is rescaled before it is cropped, pixels.
        offsets: examples x 2, rows and columns, in [0, 1): where the crop begins, as a fraction of the possible
            positions.
        flips: examples, true where the crop is mirrored.
        color_coefficients: examples x channels, float32; of the principal components; 0 for no color shift.
    """

    sides: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.float64]
    flips: npt.NDArray[np.bool_]
    color_coefficients: npt.NDArray[np.float32]

    @classmethod
    def sample_epoch(
        cls, recipe: Recipe, seed: int, epoch: int, num_examples: int, resolution: int, channels: int
    ) -> CropParams:
        """Draw for all examples of an epoch.

        Recipes that differ in one kind of draw share all others.
        """

        def generator_of(kind: str) -> np.random.Generator:
            return seeded_generator(seed, "augmentation", epoch, kind)

        min_side, max_side = round(recipe.side_from * resolution), round(recipe.side_to * resolution)
        color_std = COLOR_COEFFICIENT_STD if recipe.augmentation == "crop-flip-colour" else 0.0
        color_draws = generator_of("colour").standard_normal((num_examples, channels))
        return cls(
            sides=generator_of("side").integers(min_side, max_side + 1, size=num_examples),
            offsets=generator_of("place").random((num_examples, 2)),
            flips=generator_of("flip").random(num_examples) < 0.5,
            color_coefficients=(color_std * color_draws).astype(np.float32),
        )

    @classmethod
    def center_crops(cls, side: int, num_examples: int, channels: int) -> CropParams:
        """Return the center crops of examples that are evaluated."""
        return cls(
            sides=np.full(num_examples, side),
            offsets=np.full((num_examples, 2), CENTER_OFFSET),
            flips=np.zeros(num_examples, dtype=bool),
            color_coefficients=np.zeros((num_examples, channels), dtype=np.float32),
        )

    def to_bytes(self, indices: npt.NDArray[np.int64]) -> tuple[bytes, ...]:
        """Return some examples' draws, one kind after the other, for hashing."""
        kinds = (self.sides, self.offsets, self.flips, self.color_coefficients)
        return tuple(draws[indices].tobytes() for draws in kinds)

    def device_arrays(
        self, resolution: int, indices: npt.NDArray[np.int64] | slice = slice(None)
    ) -> dict[str, np.ndarray]:
        """Return what a device needs to crop some examples by itself, by name."""
        sides, offsets = self.sides[indices], self.offsets[indices]
        first_pixels = [crop_starts(offsets[:, axis], sides, resolution) for axis in (0, 1)]
        return {
            "sides": sides,
            "first_pixels": np.stack(first_pixels, axis=1),
            "flips": self.flips[indices],
            "color_coefficients": self.color_coefficients[indices],
        }

    def crop_image(self, pixels: npt.NDArray[np.uint8], index: int, resolution: int) -> npt.NDArray[np.uint8]:
        """Crop an example's whole image to the resolution; uint8."""
        side, flip = int(self.sides[index]), bool(self.flips[index])
        return crop_square(pixels, side, self.offsets[index], flip=flip, resolution=resolution)


def sample_augmentation(
    recipe: Recipe, seed: int, epoch: int, num_examples: int, resolution: int, channels: int
) -> ShiftFlipParams | CropParams:
    """Draw a recipe's augmentation of every example of one epoch."""
    if recipe.augmentation in CROP_AUGMENTATIONS:
        return CropParams.sample_epoch(recipe, seed, epoch, num_examples, resolution, channels)
    return ShiftFlipParams.sample_epoch(recipe.augmentation, seed, epoch, num_examples, resolution)


def crop_batch(
    images: torch.Tensor, crops: CropParams, indices: npt.NDArray[np.int64], resolution: int
) -> torch.Tensor:
    """Rescale square images, each to its own side, and crop them.

    Bilinear, antialiased.

    Args:
        images: uint8, batch x height x width x channels, height and width alike.
        crops: of all examples of the epoch.
        indices: the examples that the images belong to.

    Returns:
        batch x resolution x resolution x channels, whole values from 0 to 255.
    """
    # One by one is many times as fast on a CPU at 224 pixels; the two differ by one gray level at most.
    if images.device.type == "cpu":
        return _crop_one_by_one(images, crops, indices, resolution)
    arrays = crops.device_arrays(resolution, indices)
    chosen = {name: torch.from_numpy(array).to(images.device) for name, array in arrays.items()}
    return crop_by_matrices(images, chosen["sides"], chosen["first_pixels"], chosen["flips"], resolution)


def _crop_one_by_one(
    images: torch.Tensor, crops: CropParams, indices: npt.NDArray[np.int64], resolution: int
) -> torch.Tensor:
    cropped = np.empty((len(indices), resolution, resolution, images.shape[3]), dtype=np.uint8)
    for position, (index, pixels) in enumerate(zip(indices, images.numpy(), strict=True)):
        cropped[position] = crops.crop_image(pixels, int(index), resolution)
    return torch.from_numpy(cropped)


def crop_by_matrices(
    images: torch.Tensor, sides: torch.Tensor, first_pixels: torch.Tensor, flips: torch.Tensor, resolution: int
) -> torch.Tensor:
    """Rescale and crop square images by two batched matrix products.

    On a GPU these are few kernels, whatever the sides.

    Args:
        images: uint8, batch x height x width x channels.
        sides: batch; the side to which each is rescaled.
        first_pixels: batch x 2; row and column of the rescaled image at which the crop begins.
        flips: batch; whether the crop is mirrored.
        resolution: of the crop.
    """
    stored_length = images.shape[1]
    first_rows, first_columns = first_pixels.unbind(1)
    row_weights = _resampling_weights(stored_length, sides, first_rows, resolution)
    column_weights = _resampling_weights(stored_length, sides, first_columns, resolution)
    column_weights = torch.where(flips[:, None, None], column_weights.flip(1), column_weights)
    pixels = images.permute(0, 3, 1, 2).float()
    cropped = row_weights[:, None] @ pixels @ column_weights.transpose(1, 2)[:, None]
    return cropped.permute(0, 2, 3, 1).round().contiguous()


def _resampling_weights(
    stored_length: int, sides: torch.Tensor, first_pixels: torch.Tensor, length: int
) -> torch.Tensor:
    """Compute the weights of stored pixels in each crop's pixels.

    The filter is a triangle, antialiased: its half-width is the larger of a stored and of a rescaled pixel.

    Args:
        sides: examples; length of the whole rescaled axis.
        first_pixels: examples; first rescaled pixel of the crop.

    Returns:
        float32, examples x length x stored_length; every row adds up to 1.
    """
    scale = stored_length / sides[:, None].double()  # stored pixels per rescaled one
    centers = (first_pixels[:, None] + torch.arange(length, device=sides.device) + 0.5) * scale
    distances = (torch.arange(stored_length, device=sides.device) + 0.5 - centers[..., None]).abs()
    weights = (1 - distances / scale.clamp(min=1)[..., None]).clamp(min=0)
    return (weights / weights.sum(-1, keepdim=True)).float()


def shift_and_flip(images: torch.Tensor, shifts: torch.Tensor, flips: torch.Tensor, margin: int) -> torch.Tensor:
    """Shift and mirror uint8 images; pixels shifted in are black.

    Images are batch x height x width x channels.
    """
    if margin == 0 and not bool(flips.any()):
        return images
    if images.device.type == "cpu":
        return torch.from_numpy(_shift_by_windows(_pad_black(images, margin), shifts.numpy(), flips.numpy(), margin))
    return shift_by_gathering(images, shifts, flips, margin)


def _pad_black(images: torch.Tensor, margin: int) -> torch.Tensor:
    return functional.pad(images, (0, 0, margin, margin, margin, margin))


def _shift_by_windows(padded: torch.Tensor, shifts: np.ndarray, flips: np.ndarray, margin: int) -> np.ndarray:
    """Mirror whole images, then cut a window out of each.

    Copying rows is eight times as fast on a CPU as gathering.
    """
    batch, padded_height, padded_width, channels = padded.shape
    height, width = padded_height - 2 * margin, padded_width - 2 * margin
    pixels = padded.numpy()
    mirrored = np.flatnonzero(flips)
    mirrored_images = padded.index_select(0, torch.from_numpy(mirrored))
    pixels[mirrored] = mirrored_images.permute(0, 3, 1, 2).flip(3).permute(0, 2, 3, 1).numpy()
    # The image is mirrored before it is shifted, so the shift of a mirrored one goes the other way.
    columns = np.where(flips, 2 * margin - shifts[:, 1], shifts[:, 1])
    row_stride = padded_width * channels
    # A view of the windows at every row and column of every image, without a copy.
    windows = np.lib.stride_tricks.as_strided(
        pixels,
        (batch, 2 * margin + 1, 2 * margin + 1, height, width * channels),
        (pixels.strides[0], row_stride, channels, row_stride, 1),
    )
    shifted: np.ndarray = windows[np.arange(batch), shifts[:, 0], columns]
    return shifted.reshape(batch, height, width, channels)


def shift_by_gathering(images: torch.Tensor, shifts: torch.Tensor, flips: torch.Tensor, margin: int) -> torch.Tensor:
    """Shift and mirror as :func:`shift_and_flip`, pixel by pixel: one kernel on a GPU, and no value of the host."""
    padded = _pad_black(images, margin)
    batch, height, width = len(padded), padded.shape[1] - 2 * margin, padded.shape[2] - 2 * margin
    rows = torch.arange(height, device=padded.device)
    columns = torch.arange(width, device=padded.device).expand(batch, width)
    columns = torch.where(flips[:, None], columns.flip(1), columns)
    return padded[
        torch.arange(batch, device=padded.device)[:, None, None],
        (shifts[:, 0, None] + rows)[:, :, None],
        (shifts[:, 1, None] + columns)[:, None, :],
    ]
