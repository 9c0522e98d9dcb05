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
    batch, height, width, _ = images.shape
    padded = functional.pad(images, (0, 0, margin, margin, margin, margin))
    rows = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device).expand(batch, width)
    columns = torch.where(flips[:, None], columns.flip(1), columns)
    return padded[
        torch.arange(batch, device=images.device)[:, None, None],
        (shifts[:, 0, None] + rows)[:, :, None],
        (shifts[:, 1, None] + columns)[:, None, :],
    ]
