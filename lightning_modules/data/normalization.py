"""Channel statistics of a training split, and normalization by them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from lightning_modules.data.types import Images, Indices

STATISTICS_BATCH_SIZE = 1024  # images whose pixels are widened at once, so that a large split need not fit twice


@dataclass(frozen=True)
class PixelNormalization:
    """Statistics of the training split's pixels, to normalize all splits.

    Float32, on the device.

    Attributes:
        mean, std: per channel, of pixels from 0 to 255.
        color_components: channels x channels; each column is a principal component of the pixels, times its variance
            where pixels go from 0 to 1, in units of 0 to 255: what a color shift of the coefficient 1 adds.
    """

    mean: torch.Tensor
    std: torch.Tensor
    color_components: torch.Tensor

    @classmethod
    def on_device(
        cls, mean: np.ndarray, std: np.ndarray, color_components: np.ndarray, device: torch.device
    ) -> PixelNormalization:
        """Make a normalization of arrays, as float32 on a device."""
        tensors = [torch.tensor(array, dtype=torch.float32, device=device) for array in (mean, std, color_components)]
        return cls(*tensors)

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        """Normalize pixels from 0 to 255.

        Maps ``(batch, height, width, channels)`` to ``(batch, channels, height, width)``.
        """
        width = images.shape[2]  # whole rows of pixels: a longer innermost loop than the three channels of one pixel
        rows = images.flatten(2).float().sub_(self.mean.repeat(width)).div_(self.std.repeat(width))
        return rows.view(images.shape).permute(0, 3, 1, 2)

    def normalize_with_color_shift(self, images: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
        """Normalize images and shift their colors.

        As :meth:`normalize`, with coefficients ``(batch, channels)`` of the color components.

        The shift is that of Krizhevsky et al. 2012, Sect. 4.1.
        """
        shifts = coefficients @ self.color_components.T
        if images.device.type != "cpu":
            return self.normalize(images).add_((shifts / self.std)[:, :, None, None])
        # On a CPU in two passes over uint8, image by image in its cache: three times as fast as step by step.
        width = images.shape[2]
        factors = (1 / self.std).repeat(width).numpy()
        offsets = ((shifts - self.mean) / self.std).repeat(1, width).numpy()
        rows = images.flatten(2).numpy()
        normalized = np.empty(rows.shape, dtype=np.float32)
        for pixels, offset, image in zip(rows, offsets, normalized, strict=True):
            np.add(np.multiply(pixels, factors, out=image), offset, out=image)
        return torch.from_numpy(normalized).view(images.shape).permute(0, 3, 1, 2)


def channel_statistics(images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Compute mean and standard deviation per channel of uint8 images, images x height x width x channels.

    Exact on any device, by counting the 256 values.
    """
    counts = torch.zeros(images.shape[-1], 256, dtype=torch.int64, device=images.device)
    for batch in torch.split(images, STATISTICS_BATCH_SIZE):
        for channel in range(len(counts)):
            counts[channel] += torch.bincount(batch[..., channel].flatten(), minlength=256)
    return mean_and_std(counts.cpu().numpy())


def mean_and_std(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute mean and standard deviation from counts of values.

    ``counts`` is channels x 256.
    """
    values, total = np.arange(256), counts.sum(1)
    mean = counts @ values / total
    variance = counts @ values**2 / total - mean**2
    # Rounding may make the variance of a constant channel negative; the summand keeps its pixels from dividing by 0.
    return mean, np.sqrt(np.maximum(variance, 0)) + 1e-6


def compute_color_components(mean: np.ndarray, products: np.ndarray) -> np.ndarray:
    """Compute the principal components of pixels, as columns.

    Each is multiplied by its variance where pixels go from 0 to 1.

    The paper (Krizhevsky et al. 2012, Sect. 4.1) names no unit; its shifts grow with the unit's square. Here they move
    colors by one or two hundredths of the range, as the widely used constants for ImageNet do (0.2175, 0.0188,
    0.0045).

    Args:
        mean: per channel, of pixels from 0 to 255.
        products: channels x channels, the mean of the products of two channels.
    """
    variances, directions = np.linalg.eigh((products - np.outer(mean, mean)) / 255**2)
    # LAPACK leaves the sign of an eigenvector open; the largest coordinate positive makes it the same everywhere.
    largest = np.abs(directions).argmax(0)
    signs = np.sign(directions[largest, np.arange(len(largest))])
    components: np.ndarray = 255 * (directions * signs * variances)[:, ::-1]
    return components


def channel_products(images: Images, indices: Indices) -> np.ndarray:
    """Compute the mean products of two channels of chosen images.

    Exact up to the division.
    """
    channels = images.shape[-1]
    total = np.zeros((channels, channels), dtype=np.int64)
    for start in range(0, len(indices), STATISTICS_BATCH_SIZE):
        pixels = images[indices[start : start + STATISTICS_BATCH_SIZE]].reshape(-1, channels)
        total += _sum_channel_products(pixels)
    mean: np.ndarray = total / (len(indices) * images.shape[1] * images.shape[2])
    return mean


def _sum_channel_products(pixels: Images) -> npt.NDArray[np.int64]:
    # Whole numbers below 2^53 are exact as floats, whose matrix product is many times as fast as that of integers.
    wide = pixels.astype(np.float64)
    return (wide.T @ wide).astype(np.int64)
