"""The data module: seeded split, order and augmentation over images that stay on the device as uint8."""

from __future__ import annotations

import hashlib
import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import pytorch_lightning as lightning
import torch
from torch.nn import functional

from lightning_modules.augment import Draw, augment
from lightning_modules.data import Examples, Images, Indices, split
from lightning_modules.sharing import Batch, Share
from lightning_modules.spec import Data, Recipe
from lightning_modules.streams import generator

EVALUATION_BATCH = 512
EVALUATION_PIXELS = 2**20  # of a batch of larger images: four of 512 × 512, whose first maps in VGG take 268 MB
STATISTICS_BATCH = 1024


def images_per_batch(pixels: int) -> int:
    """How many images of so many pixels are tested at once."""
    return max(1, min(EVALUATION_BATCH, EVALUATION_PIXELS // pixels))


def rescale(images: torch.Tensor, side: int) -> torch.Tensor:
    """Images ``(batch, channels, height, width)``, isotropically, to a shorter side; bilinear, without aliasing."""
    height, width = images.shape[2:]
    shorter = min(height, width)
    if shorter == side:
        return images
    size = [max(side, round(length * side / shorter)) for length in (height, width)]
    return functional.interpolate(images, size, mode="bilinear", antialias=True)


class Readable(Protocol):
    """A part of a trial's data."""

    def evaluation(self) -> Iterator[Batch]:
        """All its examples once."""

    def rescaled(self, side: int) -> Iterator[Batch]:
        """All its examples once, in their own order, unaugmented, rescaled isotropically to a shorter side in pixels.

        Nothing is cropped; a batch holds consecutive examples of equal shape.
        """


class Withheld:
    """A part that is there and must not be read: the test part, while a recipe is tuned."""

    def evaluation(self) -> Iterator[Batch]:
        """Refused.

        Raises:
            PermissionError: always.
        """
        raise PermissionError("the test part is withheld from a fit that tunes: it would choose what it is judged by")

    def rescaled(self, side: int) -> Iterator[Batch]:
        """Refused, as :meth:`evaluation` is.

        Raises:
            PermissionError: always.
        """
        del side
        return self.evaluation()


class Repeated:
    """Batches that are read anew each time."""

    def __init__(self, read: Callable[[], Iterator[Batch]]) -> None:
        self.read = read

    def __iter__(self) -> Iterator[Batch]:
        return self.read()


class TrialData(lightning.LightningDataModule):
    """What a trial reads, whoever provides it.

    Set the trainer's ``reload_dataloaders_every_n_epochs=1``: every epoch has its own order. What ``train_dataloader``
    gives tells by ``seen_order``, ``seen_augmentation`` (hashes) and ``seen_examples`` what it gave out.
    """

    train: Readable
    validation: Readable
    test: Readable

    def withhold_test(self) -> None:
        """Put the test part out of reach, for a fit that chooses a recipe."""
        self.test = Withheld()

    @property
    @abstractmethod
    def split_digest(self) -> str:
        """Of what is validated on."""

    def val_dataloader(self) -> Repeated:
        """The validation part, for modules that validate by themselves."""
        return Repeated(self.validation.evaluation)


class Part:
    """A part of the data on the device, with the statistics that normalise its pixels.

    Batches come out as float32 images ``(batch, channels, height, width)`` in channels-last memory, of zero mean and
    unit deviation per channel over the training examples, and int64 labels ``(batch,)``.
    """

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        self.images, self.labels = images, labels
        width = images.shape[2]  # of a row of pixels: a longer innermost loop than the three channels of one
        self.mean, self.deviation = mean.repeat(width), deviation.repeat(width)

    def __len__(self) -> int:
        return len(self.labels)

    def normalised(self, images: torch.Tensor) -> torch.Tensor:
        """Pixels as the network sees them."""
        rows = images.flatten(2).float().sub_(self.mean).div_(self.deviation)
        return rows.view(images.shape).permute(0, 3, 1, 2)

    def evaluation(self) -> Iterator[Batch]:
        """All examples once, in their own order, unaugmented."""
        for start in range(0, len(self), EVALUATION_BATCH):
            window = slice(start, start + EVALUATION_BATCH)
            yield self.normalised(self.images[window]), self.labels[window]

    def rescaled(self, side: int) -> Iterator[Batch]:
        """All examples once, in their own order, unaugmented, rescaled to a side in pixels."""
        size = images_per_batch(side * side)
        for start in range(0, len(self), size):
            window = slice(start, start + size)
            yield rescale(self.normalised(self.images[window]), side), self.labels[window]


class SeenAugmentation:
    """A running hash of shifts and of flips, each for itself: however an epoch is cut into batches, it is the same."""

    def __init__(self) -> None:
        self.shifts, self.flips = hashlib.sha256(), hashlib.sha256()

    def update(self, shifts: bytes, flips: bytes) -> None:
        """Take in those of one batch."""
        self.shifts.update(shifts)
        self.flips.update(flips)

    def hexdigest(self) -> str:
        """Of all shifts and all flips so far."""
        return hashlib.sha256(self.shifts.digest() + self.flips.digest()).hexdigest()


class Epoch:
    """One epoch of training batches; its order and augmentation depend on (seed, epoch, example) alone.

    A batch is the images of this worker's part of it, and the labels of all of it. What it tells of itself is of all.
    """

    def __init__(self, part: Part, recipe: Recipe, seed: int, epoch: int, share: Share | None = None) -> None:
        self.part, self.recipe, self.share = part, recipe, share or Share()
        self.order = generator(seed, "order", epoch).permutation(len(part))
        self.draw = Draw.of_epoch(recipe.augmentation, seed, epoch, len(part), part.images.shape[1])
        self.seen_order, self.seen_augmentation, self.seen_examples = hashlib.sha256(), SeenAugmentation(), 0

    def __len__(self) -> int:
        return math.ceil(len(self.part) / self.recipe.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        device = self.part.images.device
        for start in range(0, len(self.order), self.recipe.batch_size):
            chosen = self.order[start : start + self.recipe.batch_size]
            shifts, flips = self.draw.shifts[chosen], self.draw.flips[chosen]
            self.seen_order.update(chosen.tobytes())
            self.seen_augmentation.update(shifts.tobytes(), flips.tobytes())
            self.seen_examples += len(chosen)
            index, shift, flip = (torch.from_numpy(array).to(device) for array in (chosen, shifts, flips))
            mine = self.share.part(len(chosen))
            chosen_images = self.part.images.index_select(0, index[mine])
            images = augment(chosen_images, shift[mine], flip[mine], self.draw.margin)
            yield self.part.normalised(images), self.part.labels[index]


def channel_statistics(images: Images, chosen: Indices) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every channel over the chosen images; exact, by counting the 256 values."""
    counts = np.zeros((images.shape[-1], 256), dtype=np.int64)
    for start in range(0, len(chosen), STATISTICS_BATCH):
        block = images[chosen[start : start + STATISTICS_BATCH]]
        for channel in range(len(counts)):
            counts[channel] += np.bincount(block[..., channel].ravel(), minlength=256)
    values, total = np.arange(256), counts.sum(1)
    mean = counts @ values / total
    variance = counts @ values**2 / total - mean**2
    return mean, np.sqrt(np.maximum(variance, 0)) + 1e-6


class ClassificationData(TrialData):
    """Training, validation and test parts of one trial.

    The validation part is drawn from the training examples by seed, stratified; the test part is the source's own.
    """

    train: Part
    validation: Part

    def __init__(
        self,
        examples: Examples,
        data: Data,
        recipe: Recipe,
        seed: int,
        device: torch.device,
        share: Share | None = None,
    ) -> None:
        super().__init__()
        self.recipe, self.seed, self.share = recipe, seed, share or Share()
        train, self.held = split(examples.train_labels, data, seed)
        statistics = [
            torch.tensor(values, dtype=torch.float32, device=device)
            for values in channel_statistics(examples.train_images, train)
        ]

        def part(images: np.ndarray, labels: np.ndarray) -> Part:
            on_device = (torch.from_numpy(np.array(array)).to(device) for array in (images, labels))
            return Part(*on_device, *statistics)

        self.train = part(examples.train_images[train], examples.train_labels[train])
        self.validation = part(examples.train_images[self.held], examples.train_labels[self.held])
        self.test = part(examples.test_images, examples.test_labels)

    @property
    def split_digest(self) -> str:
        """Of the indices that are held out for validation."""
        return hashlib.sha256(self.held.tobytes()).hexdigest()[:16]

    def train_dataloader(self) -> Epoch:
        """The batches of the trainer's current epoch."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        return Epoch(self.train, self.recipe, self.seed, epoch, self.share)
