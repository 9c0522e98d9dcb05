"""The data module: seeded split, order and augmentation over images that stay on the device as uint8."""

from __future__ import annotations

import hashlib
import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pytorch_lightning as lightning
import torch
from torch.nn import functional

from lightning_modules.augment import Crops, Draw, augment, cropped, draw
from lightning_modules.data import Examples, Images, Indices, Labels, lengths_at, split
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
    lengths = images.shape[2:]
    if min(lengths) == side:
        return images
    return functional.interpolate(images, lengths_at(side, lengths), mode="bilinear", antialias=True)


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


class Augmented(Readable, Protocol):
    """A part of a trial's data that this package augments by itself.

    Attributes:
        labels: int64, on the device.
        resolution, channels: of the images as the network sees them.
    """

    labels: torch.Tensor
    resolution: int
    channels: int

    def __len__(self) -> int:
        """Examples."""

    def augmented(self, cuts: Sequence[Indices], drawn: Draw | Crops) -> Iterator[torch.Tensor]:
        """The images of one batch after the other, each of the examples in its cut, as the network sees them."""


@dataclass(frozen=True)
class Pixels:
    """What is known of the training part's pixels, by which all parts are normalised; float32, on the device.

    Attributes:
        mean, deviation: per channel.
        components: channels x channels; each column is a principal component of the pixels, times the variance along
            it where they go from 0 to 1, in their own units: what a colour shift of the coefficient 1 adds.
    """

    mean: torch.Tensor
    deviation: torch.Tensor
    components: torch.Tensor

    @classmethod
    def of(cls, mean: np.ndarray, deviation: np.ndarray, components: np.ndarray, device: torch.device) -> Pixels:
        """On a device."""
        return cls(*(torch.tensor(each, dtype=torch.float32, device=device) for each in (mean, deviation, components)))

    def normalised(self, images: torch.Tensor) -> torch.Tensor:
        """Images ``(batch, height, width, channels)`` of values from 0 to 255 as the network sees them."""
        width = images.shape[2]  # of a row of pixels: a longer innermost loop than the three channels of one
        rows = images.flatten(2).float().sub_(self.mean.repeat(width)).div_(self.deviation.repeat(width))
        return rows.view(images.shape).permute(0, 3, 1, 2)

    def shifted(self, images: torch.Tensor, coefficients: np.ndarray) -> torch.Tensor:
        """Images as of :meth:`normalised`, each shifted in colour by coefficients ``(batch, channels)``.

        On a CPU in two passes over uint8, image by image in its cache: three times as fast as by steps.
        """
        moved = torch.from_numpy(coefficients).to(images.device) @ self.components.T
        if images.device.type != "cpu":
            return self.normalised(images).add_((moved / self.deviation)[:, :, None, None])
        width = images.shape[2]
        factors = (1 / self.deviation).repeat(width).numpy()
        offsets = ((moved - self.mean) / self.deviation).repeat(1, width).numpy()
        rows = images.flatten(2).numpy()
        shown = np.empty(rows.shape, dtype=np.float32)
        for pixels, offset, image in zip(rows, offsets, shown, strict=True):
            np.add(np.multiply(pixels, factors, out=image), offset, out=image)
        return torch.from_numpy(shown).view(images.shape).permute(0, 3, 1, 2)


class Part:
    """A part of the data on the device, with the statistics that normalise its pixels.

    Batches come out as float32 images ``(batch, channels, height, width)`` in channels-last memory, of zero mean and
    unit deviation per channel over the training examples, and int64 labels ``(batch,)``.

    Attributes:
        side: shorter side to which images are rescaled where their centres are shown, pixels; 0: as they are stored.
    """

    def __init__(
        self,
        images: torch.Tensor,
        labels: torch.Tensor,
        mean: torch.Tensor,
        deviation: torch.Tensor,
        components: torch.Tensor | None = None,
        side: int = 0,
    ) -> None:
        if components is None:
            components = torch.zeros(len(mean), len(mean), device=mean.device)
        self.images, self.labels, self.side = images, labels, side
        self.pixels = Pixels(mean, deviation, components)
        self.resolution, self.channels = images.shape[1], images.shape[3]

    def __len__(self) -> int:
        return len(self.labels)

    def normalised(self, images: torch.Tensor) -> torch.Tensor:
        """Pixels as the network sees them."""
        return self.pixels.normalised(images)

    def evaluation(self) -> Iterator[Batch]:
        """All examples once, in their own order, unaugmented."""
        centres = Crops.of_centres(self.side, len(self), self.channels)
        for start in range(0, len(self), EVALUATION_BATCH):
            window = slice(start, start + EVALUATION_BATCH)
            if self.side:
                yield self._cropped(np.arange(len(self))[window], centres), self.labels[window]
            else:
                yield self.normalised(self.images[window]), self.labels[window]

    def augmented(self, cuts: Sequence[Indices], drawn: Draw | Crops) -> Iterator[torch.Tensor]:
        """The images of one batch after the other; see :class:`Augmented`."""
        for chosen in cuts:
            if isinstance(drawn, Crops):
                yield self._cropped(chosen, drawn)
                continue
            index, shift, flip = (self._here(each) for each in (chosen, drawn.shifts[chosen], drawn.flips[chosen]))
            yield self.normalised(augment(self.images.index_select(0, index), shift, flip, drawn.margin))

    def _cropped(self, chosen: Indices, crops: Crops) -> torch.Tensor:
        images = self.images.index_select(0, self._here(chosen))
        return self.pixels.shifted(cropped(images, crops, chosen, self.resolution), crops.colours[chosen])

    def _here(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.images.device)

    def rescaled(self, side: int) -> Iterator[Batch]:
        """All examples once, in their own order, unaugmented, rescaled to a side in pixels, to whole values."""
        size = images_per_batch(side * side)
        for start in range(0, len(self), size):
            window = slice(start, start + size)
            whole = rescale(self.images[window].permute(0, 3, 1, 2).float(), side).round_()
            yield self.normalised(whole.permute(0, 2, 3, 1)), self.labels[window]


class SeenAugmentation:
    """A running hash of each kind of draw for itself: however an epoch is cut into batches, it is the same."""

    def __init__(self) -> None:
        self.kinds: list[hashlib._Hash] = []

    def update(self, *drawn: bytes) -> None:
        """Take in those of one batch: always the same kinds, in their order."""
        self.kinds = self.kinds or [hashlib.sha256() for _ in drawn]
        for kind, draws in zip(self.kinds, drawn, strict=True):
            kind.update(draws)

    def hexdigest(self) -> str:
        """Of all draws so far."""
        return hashlib.sha256(b"".join(kind.digest() for kind in self.kinds)).hexdigest()


class Epoch:
    """One epoch of training batches; its order and augmentation depend on (seed, epoch, example) alone.

    A batch is the images of this worker's part of it, and the labels of all of it. What it tells of itself is of all.
    """

    def __init__(self, part: Augmented, recipe: Recipe, seed: int, epoch: int, share: Share | None = None) -> None:
        self.part, self.recipe, self.share = part, recipe, share or Share()
        self.order = generator(seed, "order", epoch).permutation(len(part))
        self.draw = draw(recipe, seed, epoch, len(part), part.resolution, part.channels)
        self.seen_order, self.seen_augmentation, self.seen_examples = hashlib.sha256(), SeenAugmentation(), 0

    def __len__(self) -> int:
        return math.ceil(len(self.part) / self.recipe.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        size = self.recipe.batch_size
        cuts = [self.order[start : start + size] for start in range(0, len(self.order), size)]
        mine = [chosen[self.share.part(len(chosen))] for chosen in cuts]
        for chosen, images in zip(cuts, self.part.augmented(mine, self.draw), strict=True):
            self.seen_order.update(chosen.tobytes())
            self.seen_augmentation.update(*self.draw.seen(chosen))
            self.seen_examples += len(chosen)
            yield images, self.part.labels[torch.from_numpy(chosen).to(self.part.labels.device)]


def channel_statistics(images: Images, chosen: Indices) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every channel over the chosen images; exact, by counting the 256 values."""
    counts = np.zeros((images.shape[-1], 256), dtype=np.int64)
    for start in range(0, len(chosen), STATISTICS_BATCH):
        block = images[chosen[start : start + STATISTICS_BATCH]]
        for channel in range(len(counts)):
            counts[channel] += np.bincount(block[..., channel].ravel(), minlength=256)
    return mean_and_deviation(counts)


def mean_and_deviation(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of every channel, from how often each of the 256 values is there: ``counts``, channels x 256."""
    values, total = np.arange(256), counts.sum(1)
    mean = counts @ values / total
    variance = counts @ values**2 / total - mean**2
    return mean, np.sqrt(np.maximum(variance, 0)) + 1e-6


def components(mean: np.ndarray, products: np.ndarray) -> np.ndarray:
    """The principal components of pixels, as columns, each times its variance where pixels go from 0 to 1.

    The paper names no unit; its shifts grow with the unit's square. Here they move colours by one or two hundredths of
    the range, as in the constants that are handed down for ImageNet (0.2175, 0.0188, 0.0045).

    Args:
        mean: per channel, of pixels from 0 to 255.
        products: channels x channels, the mean of the products of two channels.
    """
    variances, directions = np.linalg.eigh((products - np.outer(mean, mean)) / 255**2)
    largest = np.abs(directions).argmax(0)
    signs = np.sign(directions[largest, np.arange(len(largest))])  # LAPACK leaves open which of the two it is
    found: np.ndarray = 255 * (directions * signs * variances)[:, ::-1]
    return found


def channel_products(images: Images, chosen: Indices) -> np.ndarray:
    """Of pixels, the mean of the products of every two channels over the chosen images; exact up to the division."""
    channels = images.shape[-1]
    total = np.zeros((channels, channels), dtype=np.int64)
    for start in range(0, len(chosen), STATISTICS_BATCH):
        flat = images[chosen[start : start + STATISTICS_BATCH]].reshape(-1, channels)
        total += _products(flat)
    mean: np.ndarray = total / (len(chosen) * images.shape[1] * images.shape[2])
    return mean


def _products(flat: Images) -> npt.NDArray[np.int64]:
    """By floats, which are whole numbers below 2^53 here, and many times as fast as products of integers."""
    wide = flat.astype(np.float64)
    return (wide.T @ wide).astype(np.int64)


class SplitData(TrialData):
    """Training, validation and test parts of one trial, of examples that this package reads.

    The validation part is drawn from the training examples by seed, stratified; the test part is the source's own.
    """

    train: Augmented

    def __init__(self, labels: Labels, data: Data, recipe: Recipe, seed: int, share: Share | None = None) -> None:
        super().__init__()
        self.recipe, self.seed, self.share = recipe, seed, share or Share()
        self.used, self.held = split(labels, data, seed)

    @property
    def split_digest(self) -> str:
        """Of the indices that are held out for validation."""
        return hashlib.sha256(self.held.tobytes()).hexdigest()[:16]

    def train_dataloader(self) -> Epoch:
        """The batches of the trainer's current epoch."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        return Epoch(self.train, self.recipe, self.seed, epoch, self.share)


class ClassificationData(SplitData):
    """A trial's data in memory, on the device."""

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
        super().__init__(examples.train_labels, data, recipe, seed, share)
        mean, deviation = channel_statistics(examples.train_images, self.used)
        shifts = np.zeros((len(mean), len(mean)))
        if recipe.augmentation == "crop-flip-colour":
            shifts = components(mean, channel_products(examples.train_images, self.used))
        pixels = Pixels.of(mean, deviation, shifts, device)
        side = round(recipe.mean_side * examples.train_images.shape[1])

        def part(images: np.ndarray, labels: np.ndarray) -> Part:
            here, their_labels = (torch.from_numpy(np.array(array)).to(device) for array in (images, labels))
            return Part(here, their_labels, pixels.mean, pixels.deviation, pixels.components, side)

        self.train = part(examples.train_images[self.used], examples.train_labels[self.used])
        self.validation = part(examples.train_images[self.held], examples.train_labels[self.held])
        self.test = part(examples.test_images, examples.test_labels)
