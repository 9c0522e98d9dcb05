"""Data module of images in memory: seeded split, order, augmentation.

Pixels are on the device as uint8.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from torch.nn import functional

from lightning_modules.data.augmentation import (
    CropParams,
    ShiftFlipParams,
    crop_batch,
    crop_by_matrices,
    sample_augmentation,
    shift_and_flip,
    shift_by_gathering,
)
from lightning_modules.data.datasets import split_train_validation
from lightning_modules.data.decoding import rescaled_lengths
from lightning_modules.data.normalization import (
    PixelNormalization,
    channel_products,
    channel_statistics,
    compute_color_components,
)
from lightning_modules.data.trial_data import AugmentableSplit, TrialDataModule
from lightning_modules.data.types import Indices, InMemoryDataset, Labels
from lightning_modules.distributed import Batch, DataParallelRank
from lightning_modules.networks.memory_layout import MemoryLayout, make_contiguous
from lightning_modules.rng import seeded_generator
from lightning_modules.specs.data import Data
from lightning_modules.specs.recipe import Recipe

EVALUATION_BATCH_SIZE = 512
# Per batch on a GPU, at least: 2,500 images of 32 × 32. The host takes 11 ms to launch a forward pass of ResNet-56,
# whatever the batch, and an H200 as long to compute one of 1,300 images.
GPU_EVALUATION_PIXELS = 2_560_000
MAX_EVALUATION_PIXELS = 2**20  # per batch: four images of 512 × 512, whose first maps in VGG take 268 MB


def images_per_batch(pixels_per_image: int, max_size: int = EVALUATION_BATCH_SIZE) -> int:
    """Return how many images of a size are evaluated at once."""
    return max(1, min(max_size, MAX_EVALUATION_PIXELS // pixels_per_image))


def rescale_images(images: torch.Tensor, side: int) -> torch.Tensor:
    """Rescale a batch of images isotropically to a shorter side.

    Images are ``(batch, channels, height, width)``; bilinear, antialiased.
    """
    lengths = images.shape[2:]
    if min(lengths) == side:
        return images
    return functional.interpolate(images, rescaled_lengths(side, lengths), mode="bilinear", antialias=True)


class DataSplit:
    """A split of the data on the device, with its pixel normalization.

    Batches are float32 images ``(batch, channels, height, width)`` in channels-last memory, of zero mean and unit
    standard deviation per channel over the training examples, and int64 labels ``(batch,)``.

    Attributes:
        images: uint8, examples x height x width x channels.
        side: shorter side to which images are rescaled where their centers are evaluated, pixels; 0: as stored.
    """

    def __init__(
        self,
        images: torch.Tensor,
        labels: torch.Tensor,
        mean: torch.Tensor,
        std: torch.Tensor,
        color_components: torch.Tensor | None = None,
        side: int = 0,
    ) -> None:
        if color_components is None:
            color_components = torch.zeros(len(mean), len(mean), device=mean.device)
        self.images, self.labels, self.side = images, labels, side
        self.normalization = PixelNormalization(mean, std, color_components)
        self.resolution, self.channels = images.shape[1], images.shape[3]

    @cached_property
    def buffers(self) -> EpochBuffers:
        """The draws of the current epoch on the device."""
        return EpochBuffers(self)

    def __len__(self) -> int:
        return len(self.labels)

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        """Normalize pixels to what the network receives."""
        return self.normalization.normalize(images)

    def evaluation_batches(self) -> Iterator[Batch]:
        """Yield all examples once, in order, unaugmented."""
        centers = CropParams.center_crops(self.side, len(self), self.channels)
        batch_size = EVALUATION_BATCH_SIZE
        if self.images.is_cuda:
            batch_size = max(batch_size, GPU_EVALUATION_PIXELS // self.resolution**2)
        for start in range(0, len(self), batch_size):
            window = slice(start, start + batch_size)
            if self.side:
                yield self._crop_images(np.arange(len(self))[window], centers), self.labels[window]
            else:
                yield self.normalize(self.images[window]), self.labels[window]

    def augmented_images(
        self, index_batches: Sequence[Indices], params: ShiftFlipParams | CropParams
    ) -> Iterator[torch.Tensor]:
        """Yield each batch's augmented images.

        See :class:`lightning_modules.data.trial_data.AugmentableSplit`.
        """
        for indices in index_batches:
            if isinstance(params, CropParams):
                yield self._crop_images(indices, params)
            else:
                yield self._shift_images(indices, params)

    def _crop_images(self, indices: Indices, crops: CropParams) -> torch.Tensor:
        images = self.images.index_select(0, self._to_device(indices))
        return self.normalization.normalize_with_color_shift(
            crop_batch(images, crops, indices, self.resolution), self._to_device(crops.color_coefficients[indices])
        )

    def _shift_images(self, indices: Indices, params: ShiftFlipParams) -> torch.Tensor:
        images = self.images.index_select(0, self._to_device(indices))
        shifts, flips = self._to_device(params.shifts[indices]), self._to_device(params.flips[indices])
        return self.normalize(shift_and_flip(images, shifts, flips, params.margin))

    def augment_on_device(self, indices: torch.Tensor, draws: Mapping[str, torch.Tensor], margin: int) -> torch.Tensor:
        """Return examples' augmented images, without a value of the host.

        Args:
            indices: int64, on the device.
            draws: of all examples of the epoch, as their ``device_arrays`` are named.
            margin: largest shift, pixels.
        """
        images = self.images.index_select(0, indices)
        chosen = {name: values.index_select(0, indices) for name, values in draws.items()}
        if "shifts" in chosen:
            return self.normalize(shift_by_gathering(images, chosen["shifts"], chosen["flips"], margin))
        if "sides" in chosen:
            cropped = crop_by_matrices(
                images, chosen["sides"], chosen["first_pixels"], chosen["flips"], self.resolution
            )
            return self.normalization.normalize_with_color_shift(cropped, chosen["color_coefficients"])
        return self.normalize(images)

    def _to_device(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.images.device)

    def rescaled_batches(self, side: int) -> Iterator[Batch]:
        """Yield all examples once, in order, rescaled to a shorter side.

        Unaugmented; pixels are rounded to whole values.
        """
        size = images_per_batch(side * side)
        for start in range(0, len(self), size):
            window = slice(start, start + size)
            # Rounded because splits that are decoded from files rescale uint8 pixels: both read the same images.
            rescaled = rescale_images(self.images[window].permute(0, 3, 1, 2).float(), side).round_()
            yield self.normalize(rescaled.permute(0, 2, 3, 1)), self.labels[window]


class EpochBuffers:
    """The order and the augmentation of an epoch on the device, and the place of the next batch.

    They keep their memory from epoch to epoch, so that a captured step finds those of the current one.
    """

    def __init__(self, split: DataSplit) -> None:
        self.split, self.device = split, split.labels.device
        self.order = torch.zeros(len(split), dtype=torch.int64, device=self.device)
        self.position = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.draws: dict[str, torch.Tensor] = {}
        self.margin = 0

    def load(self, order: Indices, params: ShiftFlipParams | CropParams) -> None:
        """Send an epoch's draws, and begin at its first batch."""
        self.order.copy_(torch.from_numpy(order))
        self.margin = params.margin if isinstance(params, ShiftFlipParams) else 0
        for name, array in params.device_arrays(self.split.resolution).items():
            values = torch.from_numpy(array)
            if name in self.draws:
                self.draws[name].copy_(values)
            else:
                self.draws[name] = values.to(self.device, copy=True)
        self.position.zero_()

    def cut_batch(self, size: int, local_slice: slice) -> Batch:
        """Cut the next batch: the images of a slice of it, and all labels."""
        indices = self.order.index_select(0, self.position + torch.arange(size, device=self.device))
        self.position += size
        images = self.split.augment_on_device(indices[local_slice], self.draws, self.margin)
        return images, self.split.labels.index_select(0, indices)


class AugmentationHash:
    """A running hash per kind of draw.

    The result does not depend on how an epoch is cut into batches.
    """

    def __init__(self) -> None:
        self.hashes: list[hashlib._Hash] = []

    def update(self, *draws: bytes) -> None:
        """Add one batch's draws: always the same kinds, in the same order."""
        self.hashes = self.hashes or [hashlib.sha256() for _ in draws]
        for kind_hash, kind_draws in zip(self.hashes, draws, strict=True):
            kind_hash.update(kind_draws)

    def hexdigest(self) -> str:
        """Return the digest of all draws so far."""
        return hashlib.sha256(b"".join(kind_hash.digest() for kind_hash in self.hashes)).hexdigest()


class EpochLoader:
    """One epoch of training batches.

    Order and augmentation depend on (seed, epoch, example) alone.

    A batch holds this rank's images and the labels of the global batch. The hashes cover the global batches.

    Attributes:
        order: example indices in the order of this epoch.
        batch_sizes: of the global batches, in their order.
        order_hash, augmentation_hash: of the order and the augmentation of all batches, once they are read.
        num_examples_seen: examples of the batches that were read.
    """

    def __init__(
        self,
        split: AugmentableSplit,
        recipe: Recipe,
        seed: int,
        epoch: int,
        dp_rank: DataParallelRank | None = None,
        layout: MemoryLayout = "channels-last",
    ) -> None:
        self.layout = layout
        self.split, self.recipe, self.dp_rank = split, recipe, dp_rank or DataParallelRank()
        self.order = seeded_generator(seed, "order", epoch).permutation(len(split))
        self.params = sample_augmentation(recipe, seed, epoch, len(split), split.resolution, split.channels)
        self.batch_sizes = recipe.batch_sizes(len(split))
        self.order_hash, self.augmentation_hash, self.num_examples_seen = hashlib.sha256(), AugmentationHash(), 0

    def __len__(self) -> int:
        return len(self.batch_sizes)

    def __iter__(self) -> Iterator[Batch]:
        self.record_draws()
        stops = np.cumsum(self.batch_sizes)
        windows = [slice(start, stop) for start, stop in pairwise((0, *stops))]
        global_batches = [self.order[window] for window in windows]
        local_batches = [indices[self.dp_rank.local_slice(len(indices))] for indices in global_batches]
        labels = self.split.labels[torch.from_numpy(self.order).to(self.split.labels.device)]
        augmented = self.split.augmented_images(local_batches, self.params)
        for window, images in zip(windows, augmented, strict=True):
            arranged = make_contiguous(images) if self.layout == "contiguous" else images
            yield arranged, labels[window]

    def record_draws(self) -> None:
        """Count and hash the examples and the augmentation of the epoch's batches."""
        used = self.order[: sum(self.batch_sizes)]  # a recipe may drop the remainder
        self.order_hash.update(used.tobytes())
        self.augmentation_hash.update(*self.params.to_bytes(used))
        self.num_examples_seen += len(used)

    # -- the same batches, cut on the device -------------------------------------------------------------------------

    @property
    def device_epoch(self) -> EpochLoader | None:
        """The epoch, if its examples lie on the device."""
        return self if isinstance(self.split, DataSplit) else None

    def load_draws(self) -> None:
        """Send the epoch's order and augmentation to the device, and begin at its start."""
        self.record_draws()
        self._device_buffers.load(self.order, self.params)

    def cut_batch(self, size: int) -> Batch:
        """Cut the next batch, without reading a value on the host."""
        return self._device_buffers.cut_batch(size, self.dp_rank.local_slice(size))

    @property
    def state_tensors(self) -> list[torch.Tensor]:
        """The place of the next batch."""
        return [self._device_buffers.position]

    @property
    def _device_buffers(self) -> EpochBuffers:
        if not isinstance(self.split, DataSplit):
            raise TypeError(f"the examples of a {type(self.split).__name__} do not lie on the device")
        return self.split.buffers


class WholeEpoch:
    """An epoch as the only item of a loader, for a module that runs the steps itself.

    Attributes:
        num_steps: number of batches in the epoch.
    """

    def __init__(self, batches: EpochLoader) -> None:
        self.batches, self.num_steps = batches, len(batches)

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[EpochLoader]:
        yield self.batches


class SplitDataModule(TrialDataModule):
    """Splits of one trial, of examples that this package reads.

    The validation split is drawn from the training examples by seed, stratified; the test split is the source's own.
    """

    train: AugmentableSplit

    def __init__(
        self, labels: Labels, data: Data, recipe: Recipe, seed: int, dp_rank: DataParallelRank | None = None
    ) -> None:
        super().__init__()
        self.recipe, self.seed, self.dp_rank = recipe, seed, dp_rank or DataParallelRank()
        self.train_indices, self.validation_indices = split_train_validation(labels, data, seed)

    @property
    def split_digest(self) -> str:
        """Digest of the indices that are held out for validation."""
        return hashlib.sha256(self.validation_indices.tobytes()).hexdigest()[:16]

    def train_dataloader(self) -> EpochLoader | WholeEpoch:
        """Return the batches of the trainer's current epoch."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        batches = EpochLoader(self.train, self.recipe, self.seed, epoch, self.dp_rank, self.layout)
        return WholeEpoch(batches) if self.gives_whole_epochs else batches


class InMemoryDataModule(SplitDataModule):
    """A trial's data in memory, on the device."""

    train: DataSplit
    validation: DataSplit

    def __init__(
        self,
        dataset: InMemoryDataset,
        data: Data,
        recipe: Recipe,
        seed: int,
        device: torch.device,
        dp_rank: DataParallelRank | None = None,
    ) -> None:
        super().__init__(dataset.train_labels, data, recipe, seed, dp_rank)
        train_images = torch.from_numpy(dataset.train_images[self.train_indices]).to(device)
        mean, std = channel_statistics(train_images)
        color_components = np.zeros((len(mean), len(mean)))
        if recipe.augmentation == "crop-flip-colour":  # costs another pass over all training pixels
            products = channel_products(dataset.train_images, self.train_indices)
            color_components = compute_color_components(mean, products)
        normalization = PixelNormalization.on_device(mean, std, color_components, device)
        side = round(recipe.mean_side * dataset.train_images.shape[1])

        def make_split(images: torch.Tensor, labels: np.ndarray) -> DataSplit:
            return DataSplit(
                images.to(device),
                torch.from_numpy(np.array(labels)).to(device),
                normalization.mean,
                normalization.std,
                normalization.color_components,
                side,
            )

        train, validation = self.train_indices, self.validation_indices
        validation_images = torch.from_numpy(dataset.train_images[validation])
        self.train = make_split(train_images, dataset.train_labels[train])
        self.validation = make_split(validation_images, dataset.train_labels[validation])
        # A copy: the test images may be a read-only map of a file.
        self.test = make_split(torch.from_numpy(np.array(dataset.test_images)), dataset.test_labels)
