"""Splits and data module that decode image files on the fly."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from lightning_modules.data.augmentation import CropParams, ShiftFlipParams, shift_and_flip
from lightning_modules.data.datamodule import EVALUATION_BATCH_SIZE, SplitDataModule, images_per_batch, rescale_images
from lightning_modules.data.decoding import (
    array_to_image,
    center_crop_start,
    decode_center_crop,
    decode_image,
    decode_indexed_image,
    image_to_array,
    rescale_image,
    resize_and_center_crop,
)
from lightning_modules.data.image_folder import find_test_folder, list_class_names, list_image_folder, list_images
from lightning_modules.data.image_index import ImageFileDataset
from lightning_modules.data.normalization import PixelNormalization, compute_color_components, mean_and_std
from lightning_modules.data.types import Images, Indices, Labels
from lightning_modules.device_transfer import allocate_for_transfer, send_ahead
from lightning_modules.distributed import Batch, DataParallelRank
from lightning_modules.specs.data import Data
from lightning_modules.specs.recipe import Recipe
from lightning_modules.specs.scale import Scale

CROP_BATCH_SIZE = 128
NUM_PREFETCHED_BATCHES = 2  # decoded, or being decoded, while the network computes one
IMAGES_PER_TASK = 8  # per task of a thread: one image each would spend more time on handing over than it gains
MAX_RESCALED_BATCH_SIZE = 32  # images of one shape in a batch of a training or validation split
NUM_PENDING_IMAGES = 64  # decoded ahead where images keep their shapes, so that no batch is known in advance
Item = TypeVar("Item")
Output = TypeVar("Output")


class StreamedSplit(ABC):
    """A split of image files that are decoded at each use.

    Attributes:
        files: image files, in the order of the examples.
        labels: int64 class indices, on the device.
        max_batch_size: images of equal shape that are evaluated at once, at most.
    """

    max_batch_size: int

    def __init__(self, files: Sequence[Path], labels: Labels, scale: Scale, device: torch.device) -> None:
        self.files, self.scale, self.device = files, scale, device
        self.labels = torch.from_numpy(np.array(labels)).to(device)

    def __len__(self) -> int:
        return len(self.files)

    @property
    def num_threads(self) -> int:
        """Threads that decode."""
        return torch.get_num_threads()

    @abstractmethod
    def _load_rescaled(self, index: int, side: int) -> torch.Tensor:
        """Decode an example and rescale it to a shorter side in pixels."""

    @abstractmethod
    def _stack_images(self, images: Sequence[torch.Tensor]) -> torch.Tensor:
        """Make loaded images of equal shape one normalized batch on the device."""

    def rescaled_batches(self, side: int) -> Iterator[Batch]:
        """Yield all examples once, in order, rescaled to a shorter side.

        A batch holds consecutive examples of equal shape.
        """
        images = map_in_order(
            range(len(self)), lambda index: self._load_rescaled(index, side), NUM_PENDING_IMAGES, self.num_threads
        )
        first_index, pending = 0, list[torch.Tensor]()
        for image in images:
            max_size = images_per_batch(image.numel() // self.scale.channels, self.max_batch_size)
            if pending and (pending[0].shape != image.shape or len(pending) >= max_size):
                yield self._make_batch(pending, first_index)
                first_index, pending = first_index + len(pending), []
            pending.append(image)
        if pending:
            yield self._make_batch(pending, first_index)

    def _make_batch(self, images: Sequence[torch.Tensor], first_index: int) -> Batch:
        return self._stack_images(images), self.labels[first_index : first_index + len(images)]


# Why two splits with two decoders: a trial rescales uint8 pixels, as its training crops are, of a JPEG that may have
# been decoded at a reduced size. `ablate evaluate` decodes every pixel and rescales normalized float pixels, without
# rounding. The two differ by about one gray level, more for large JPEGs: one class for both would change results.


class ImageFileSplit(StreamedSplit):
    """A split of a trial that trains on image files.

    It is an :class:`lightning_modules.data.trial_data.AugmentableSplit`.

    As many threads decode as torch computes with: a trial keeps to its share of the machine. For a GPU, which would
    wait for them, all cores decode that are its share. The images are the same for any number of threads.

    Attributes:
        side: shorter side to which images are rescaled where their centers are evaluated, pixels; 0: the resolution.
    """

    max_batch_size = MAX_RESCALED_BATCH_SIZE

    def __init__(
        self,
        files: Sequence[Path],
        labels: Labels,
        scale: Scale,
        normalization: PixelNormalization,
        side: int,
        device: torch.device,
    ) -> None:
        super().__init__(files, labels, scale, device)
        self.normalization, self.side = normalization, side
        self.resolution, self.channels = scale.resolution, scale.channels

    @property
    def num_threads(self) -> int:
        """Threads that decode."""
        num_threads = super().num_threads
        return num_threads if self.device.type == "cpu" else max(num_threads, count_cores_per_gpu())

    def evaluation_batches(self) -> Iterator[Batch]:
        """Yield the center crops of all examples once, in order, unaugmented."""
        index_batches = np.split(np.arange(len(self)), range(CROP_BATCH_SIZE, len(self), CROP_BATCH_SIZE))
        centers = CropParams.center_crops(self.side, len(self), self.channels)
        decode = self._make_cropper(centers) if self.side else self._decode_center_crop
        decoded = ((images,) for images in self._decode_batches(index_batches, decode))
        for indices, (images,) in zip(index_batches, send_ahead(decoded, self.device), strict=True):
            yield self._normalize(images), self.labels[indices[0] : indices[-1] + 1]

    def augmented_images(
        self, index_batches: Sequence[Indices], params: ShiftFlipParams | CropParams
    ) -> Iterator[torch.Tensor]:
        """Yield each batch's augmented images.

        See :class:`lightning_modules.data.trial_data.AugmentableSplit`.
        """
        if isinstance(params, CropParams):
            yield from self._cropped_images(index_batches, params)
        else:
            yield from self._shifted_images(index_batches, params)

    def _cropped_images(self, index_batches: Sequence[Indices], crops: CropParams) -> Iterator[torch.Tensor]:
        all_coefficients = (torch.from_numpy(crops.color_coefficients[indices]) for indices in index_batches)
        batches = zip(self.cropped_images(index_batches, crops), all_coefficients, strict=True)
        for images, coefficients in send_ahead(batches, self.device):
            yield self.normalization.normalize_with_color_shift(images, coefficients)

    def _shifted_images(self, index_batches: Sequence[Indices], params: ShiftFlipParams) -> Iterator[torch.Tensor]:
        all_shifts = (torch.from_numpy(params.shifts[indices]) for indices in index_batches)
        all_flips = (torch.from_numpy(params.flips[indices]) for indices in index_batches)
        centers = self._decode_batches(index_batches, self._decode_center_crop)
        for images, shifts, flips in send_ahead(zip(centers, all_shifts, all_flips, strict=True), self.device):
            # Asked of the host's draws: a value of the device would be waited for.
            is_moved = params.margin > 0 or bool(params.flips.any())
            yield self._normalize(shift_and_flip(images, shifts, flips, params.margin) if is_moved else images)

    def cropped_images(self, index_batches: Sequence[Indices], crops: CropParams) -> Iterator[torch.Tensor]:
        """Yield each batch's crops as they are sent to the device.

        Uint8 (batch, height, width, channels).
        """
        return self._decode_batches(index_batches, self._make_cropper(crops))

    def _load_rescaled(self, index: int, side: int) -> torch.Tensor:
        """Return uint8 (height, width, channels)."""
        image = array_to_image(decode_indexed_image(self.files[index], self.scale, side))
        return torch.from_numpy(image_to_array(rescale_image(image, side)))

    def _stack_images(self, images: Sequence[torch.Tensor]) -> torch.Tensor:
        return self._normalize(torch.stack(list(images)))

    def _decode_center_crop(self, index: int) -> Images:
        pixels = decode_indexed_image(self.files[index], self.scale, self.resolution)
        return resize_and_center_crop(array_to_image(pixels), self.scale)

    def _make_cropper(self, crops: CropParams) -> Callable[[int], Images]:
        def crop_example(index: int) -> Images:
            pixels = decode_indexed_image(self.files[index], self.scale, int(crops.sides[index]))
            return crops.crop_image(pixels, index, self.resolution)

        return crop_example

    def _decode_batches(
        self, index_batches: Sequence[Indices], decode: Callable[[int], Images]
    ) -> Iterator[torch.Tensor]:
        """Yield each batch's decoded examples.

        Uint8 (batch, resolution, resolution, channels).
        """
        tasks: list[Indices] = []
        for indices in index_batches:
            tasks.extend(indices[start : start + IMAGES_PER_TASK] for start in range(0, len(indices), IMAGES_PER_TASK))
        largest_batch = max(map(len, index_batches), default=0)
        max_pending = NUM_PREFETCHED_BATCHES * largest_batch // IMAGES_PER_TASK + 1

        def decode_task(indices: Indices) -> list[Images]:
            return [decode(int(index)) for index in indices]

        decoded_tasks = map_in_order(tasks, decode_task, max_pending, self.num_threads)
        for indices in index_batches:
            shape = (len(indices), self.resolution, self.resolution, self.channels)
            images = allocate_for_transfer(shape, torch.uint8, self.device)
            pixels = images.numpy()
            for start in range(0, len(indices), IMAGES_PER_TASK):
                for position, image in enumerate(next(decoded_tasks), start):
                    pixels[position] = image
            yield images

    def _normalize(self, images: torch.Tensor) -> torch.Tensor:
        return self.normalization.normalize(images.to(self.device))


class ImageFolderSplit(StreamedSplit):
    """The test images of a folder, to be evaluated.

    Files are ``<folder>/test/<class>/*`` or, without such a folder, ``<folder>/val/<class>/*``.

    Attributes:
        class_names: in the order of the class indices: those of ``<folder>/train``, where it exists.

    Raises:
        DataError: for a folder without such images, and for test classes that are not among those of training.
    """

    max_batch_size = EVALUATION_BATCH_SIZE

    def __init__(self, folder: Path, scale: Scale, device: torch.device) -> None:
        self.folder = folder
        self.class_names, files_by_class = _list_test_images(folder)
        files: list[Path] = []
        labels: list[int] = []
        for label, class_files in enumerate(files_by_class):
            files += class_files
            labels += [label] * len(class_files)
        super().__init__(files, np.array(labels, dtype=np.int64), scale, device)
        self.set_normalization([0.0], [1.0])

    @property
    def num_threads(self) -> int:
        """Threads that decode: all cores, as nothing else runs meanwhile."""
        return os.cpu_count() or 1

    def set_normalization(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Set the statistics by which images are normalized.

        Mean and standard deviation per channel, of pixels from 0 to 255.
        """
        self.mean = torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1)
        self.std = torch.tensor(std, dtype=torch.float32).view(-1, 1, 1)

    def training_statistics(self) -> tuple[list[float], list[float]]:
        """Compute mean and standard deviation of the training images.

        Per channel, of the center crops in ``<folder>/train/<class>/``.

        Raises:
            DataError: for a folder without training images.
        """
        train = self.folder / "train"
        files: list[Path] = []
        for name in list_class_names(train):
            files += list_images(train / name)
        counts = np.zeros((self.scale.channels, 256), dtype=np.int64)
        with ThreadPoolExecutor(self.num_threads) as pool:
            for image in pool.map(lambda file: decode_center_crop(file, self.scale), files):
                for channel in range(self.scale.channels):
                    counts[channel] += np.bincount(image[..., channel].ravel(), minlength=256)
        mean, std = mean_and_std(counts)
        return mean.tolist(), std.tolist()

    def evaluation_batches(self) -> Iterator[Batch]:
        """Yield the center crops of all images, rescaled to the crop's own side."""
        crop = self.scale.resolution
        for images, labels in self.rescaled_batches(crop):
            top, left = (center_crop_start(length, crop) for length in images.shape[2:])
            yield images[:, :, top : top + crop, left : left + crop], labels

    def _load_rescaled(self, index: int, side: int) -> torch.Tensor:
        """Return normalized float32 (channels, height, width)."""
        pixels = torch.from_numpy(decode_image(self.files[index], self.scale)).permute(2, 0, 1).float()
        return rescale_images((pixels.sub_(self.mean) / self.std)[None], side)[0]

    def _stack_images(self, images: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.stack(list(images)).to(self.device).contiguous(memory_format=torch.channels_last)


def _list_test_images(folder: Path) -> tuple[tuple[str, ...], Sequence[Sequence[Path]]]:
    """Return class names and test images by class, labeled as when training on the folder."""
    if (folder / "train").is_dir():
        listing = list_image_folder(folder)
        return listing.class_names, listing.test_files
    test = find_test_folder(folder)
    class_names = list_class_names(test)
    return class_names, [list_images(test / name) for name in class_names]


def count_cores_per_gpu() -> int:
    """Cores of this process, divided by the GPUs of the machine: other trials may train on these."""
    num_gpus = len(list(Path("/dev").glob("nvidia[0-9]*")))
    return max(1, len(os.sched_getaffinity(0)) // max(1, num_gpus))


def map_in_order(
    items: Iterable[Item], function: Callable[[Item], Output], max_pending: int, num_threads: int | None = None
) -> Iterator[Output]:
    """Yield ``function`` of each item, in order, computed ahead by threads.

    Args:
        max_pending: results that are ready or being computed before the next one is asked for, at most.
        num_threads: threads; those that torch computes with where none are given.

    Raises:
        Exception: what the first item that fails raises; running calls are waited for, and no further one starts.
    """
    pending = deque[Future[Output]]()
    pool = ThreadPoolExecutor(num_threads or torch.get_num_threads())
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > max_pending:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class ImageFileDataModule(SplitDataModule):
    """A trial's data as image files that are decoded at each use."""

    train: ImageFileSplit
    validation: ImageFileSplit

    def __init__(
        self,
        dataset: ImageFileDataset,
        data: Data,
        recipe: Recipe,
        scale: Scale,
        seed: int,
        device: torch.device,
        dp_rank: DataParallelRank | None = None,
    ) -> None:
        super().__init__(dataset.train_labels, data, recipe, seed, dp_rank)
        statistics = pixel_statistics(dataset, self.train_indices, scale)
        normalization = PixelNormalization.on_device(*statistics, device)
        side = round(recipe.mean_side * scale.resolution)

        def make_split(files: Sequence[Path], labels: Labels) -> ImageFileSplit:
            return ImageFileSplit(files, labels, scale, normalization, side, device)

        def make_train_split(indices: Indices) -> ImageFileSplit:
            files = [dataset.train_files[index] for index in indices]
            return make_split(files, dataset.train_labels[indices])

        self.train = make_train_split(self.train_indices)
        self.validation = make_train_split(self.validation_indices)
        self.test = make_split(dataset.test_files, dataset.test_labels)


def pixel_statistics(
    dataset: ImageFileDataset, indices: Indices, scale: Scale
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute the pixel statistics of the chosen training images.

    Mean and standard deviation per channel, and the color components.

    Each image counts as its center crop at the scale's resolution, so that large images weigh as much as small ones:
    the figures are those of the same images in memory.
    """
    num_pixels = len(indices) * scale.resolution**2
    mean = dataset.channel_sums[indices].sum(0) / num_pixels
    products = dataset.channel_products[indices].sum(0) / num_pixels
    variance = np.maximum(np.diagonal(products) - mean**2, 0)  # rounding may make a constant channel's negative
    return mean, np.sqrt(variance) + 1e-6, compute_color_components(mean, products)
