"""Augmentation of whole batches, by random numbers that belong to (seed, epoch, example)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from lightning_modules.spec import Augmentation
from lightning_modules.streams import generator


@dataclass(frozen=True)
class Draw:
    """What happens to each example of one epoch.

    Attributes:
        shifts: examples x 2, rows and columns, from 0 to twice the margin; the margin itself means no shift.
        flips: examples, true where the image is mirrored.
    """

    margin: int
    shifts: npt.NDArray[np.int64]
    flips: npt.NDArray[np.bool_]

    @classmethod
    def of_epoch(cls, augmentation: Augmentation, seed: int, epoch: int, examples: int, side: int) -> Draw:
        """The draw for all examples of an epoch: neither batch size nor number of workers moves it."""
        random = generator(seed, "augmentation", epoch)
        margin = 0 if augmentation == "none" else max(1, side // 8)
        shifts = random.integers(0, 2 * margin + 1, size=(examples, 2))
        flips = random.random(examples) < (0.5 if augmentation == "shift-flip" else 0)
        return cls(margin, shifts, flips)


def augment(images: torch.Tensor, shifts: torch.Tensor, flips: torch.Tensor, margin: int) -> torch.Tensor:
    """Shift and mirror a batch of uint8 images, batch x height x width x channels; what moves in is black."""
    if margin == 0 and not bool(flips.any()):
        return images
    padded = functional.pad(images, (0, 0, margin, margin, margin, margin))
    if images.device.type == "cpu":
        return torch.from_numpy(_by_windows(padded, shifts.numpy(), flips.numpy(), margin))
    return _by_pixels(padded, shifts, flips, margin)


def _by_windows(padded: torch.Tensor, shifts: np.ndarray, flips: np.ndarray, margin: int) -> np.ndarray:
    """Mirror whole images, then cut a window out of each: rows of bytes are copied, eight times as fast on a CPU."""
    batch, high, wide, channels = padded.shape
    height, width = high - 2 * margin, wide - 2 * margin
    pixels = padded.numpy()
    mirrored = np.flatnonzero(flips)
    chosen = padded.index_select(0, torch.from_numpy(mirrored))
    pixels[mirrored] = chosen.permute(0, 3, 1, 2).flip(3).permute(0, 2, 3, 1).numpy()
    columns = np.where(flips, 2 * margin - shifts[:, 1], shifts[:, 1])
    every = np.lib.stride_tricks.as_strided(
        pixels,
        (batch, 2 * margin + 1, 2 * margin + 1, height, width * channels),
        (pixels.strides[0], wide * channels, channels, wide * channels, 1),
    )  # the windows at every row and column of every image, without a copy
    shown: np.ndarray = every[np.arange(batch), shifts[:, 0], columns]
    return shown.reshape(batch, height, width, channels)


def _by_pixels(padded: torch.Tensor, shifts: torch.Tensor, flips: torch.Tensor, margin: int) -> torch.Tensor:
    """Gather every pixel from where it is: one kernel on a GPU."""
    batch, height, width = len(padded), padded.shape[1] - 2 * margin, padded.shape[2] - 2 * margin
    rows = torch.arange(height, device=padded.device)
    columns = torch.arange(width, device=padded.device).expand(batch, width)
    columns = torch.where(flips[:, None], columns.flip(1), columns)
    return padded[
        torch.arange(batch, device=padded.device)[:, None, None],
        (shifts[:, 0, None] + rows)[:, :, None],
        (shifts[:, 1, None] + columns)[:, None, :],
    ]
