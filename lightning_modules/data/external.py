"""A user's ``LightningDataModule`` as a trial's data.

Its loaders run under seeded random state of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Literal

import pytorch_lightning as lightning
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException

from lightning_modules.data.datamodule import images_per_batch, rescale_images
from lightning_modules.data.trial_data import TrialDataModule
from lightning_modules.distributed import Batch, DataParallelRank
from lightning_modules.networks.class_paths import call_class_path
from lightning_modules.rng import RngState, seeded_generator
from lightning_modules.specs.data import ForeignData
from lightning_modules.specs.errors import UserError
from lightning_modules.specs.scale import Scale, fill_arguments

LoaderName = Literal["train", "val", "test"]


class SeededDataModule:
    """A user's data module, built and set up under one seed.

    What it draws then, such as a split, follows the seed.

    Args:
        prepare: whether to call its ``prepare_data``, which downloads, before: once per study.

    Raises:
        UserError: for a class path that cannot be called, or gives no data module.
    """

    def __init__(
        self, data: ForeignData, scale: Scale, seed: int, device: torch.device, *, prepare: bool = False
    ) -> None:
        self.data, self.scale, self.seed, self.device = data, scale, seed, device
        with RngState(seeded_generator(seed, "split")):
            self.module = _make_module(data, scale)
            if prepare:
                self.module.prepare_data()
            self.module.setup("fit")
            self.module.setup("test")

    def batches(self, loader_name: LoaderName, *keys: int | str) -> ExternalBatches:
        """Return one pass over a loader, under the seed and the keys."""
        return ExternalBatches(self, loader_name, RngState(seeded_generator(self.seed, "order", *keys)))


class ExternalBatches:
    """One pass over a user's loader.

    Batches are checked, hashed and moved to the device.

    Attributes:
        dp_rank: whose share of the images is yielded; every worker reads them all. Labels are those of the whole batch.
        order_hash: of the labels in their order.
        augmentation_hash: of the pixels as the loader gave them.
        num_examples_seen: examples yielded so far.
    """

    def __init__(self, data_module: SeededDataModule, loader_name: LoaderName, rng_state: RngState) -> None:
        self.data_module, self.rng_state = data_module, rng_state
        self.loader_label = f"{data_module.data.class_path}'s {loader_name}_dataloader"
        with rng_state:
            self.loader = self._make_loader(f"{loader_name}_dataloader")
            _reseed_loader(self.loader)
        self.order_hash, self.augmentation_hash, self.num_examples_seen = hashlib.sha256(), hashlib.sha256(), 0
        self.dp_rank = DataParallelRank()

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        # The loader's random state is current only while the user's code runs, so that neither training nor another
        # loader moves what it draws.
        with self.rng_state:
            batches = iter(self.loader)
        while True:
            with self.rng_state:
                loaded = next(batches, None)
            if loaded is None:
                return
            batch = self._check_batch(loaded)
            self._update_hashes(*batch)
            with self.rng_state:
                images, labels = self._transfer_batch(batch)
            yield images[self.dp_rank.local_slice(len(images))], labels

    @property
    def digest(self) -> str:
        """Digest of all labels and pixels so far."""
        return hashlib.sha256(self.order_hash.digest() + self.augmentation_hash.digest()).hexdigest()[:16]

    def _update_hashes(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.order_hash.update(labels.cpu().numpy().tobytes())
        self.augmentation_hash.update(images.cpu().contiguous().numpy().tobytes())
        self.num_examples_seen += len(labels)

    def _transfer_batch(self, batch: Batch) -> Batch:
        """Move a batch to the device by the data module's own hooks."""
        module = self.data_module.module
        batch = module.on_before_batch_transfer(batch, 0)
        batch = module.transfer_batch_to_device(batch, self.data_module.device, 0)
        images, labels = module.on_after_batch_transfer(batch, 0)
        return images, labels

    def _make_loader(self, method_name: str) -> Any:
        try:
            loader = getattr(self.data_module.module, method_name)()
        except MisconfigurationException as error:
            raise UserError(f"{self.loader_label} is missing: a study trains, validates and tests.") from error
        is_sized_iterable = hasattr(loader, "__iter__") and hasattr(loader, "__len__")
        if isinstance(loader, (list, tuple, dict)) or not is_sized_iterable:
            raise UserError(
                f"{self.loader_label} returned a {type(loader).__name__}; expected one loader with a length, such as a "
                "DataLoader."
            )
        return loader

    def _check_batch(self, batch: Any) -> Batch:
        if not _is_image_label_pair(batch):
            raise UserError(
                f"{self.loader_label} yields {_describe_batch(batch)}; expected (images, labels): float32 (batch, "
                "channels, height, width) and int64 (batch,)."
            )
        images, labels = batch
        scale = self.data_module.scale
        expected = scale.image_shape
        if tuple(images.shape[1:]) != expected:
            raise UserError(
                f"{self.loader_label} gives images of the shape {tuple(images.shape[1:])}, but the protocol's scale "
                f"says {expected}. Resize them there, or give `--set scale.channels=... --set scale.resolution=...`."
            )
        return images.float(), labels.long()


class ExternalSplit:
    """A split of a trial's data, read by one of a user's loaders.

    Attributes:
        digest: of the labels and pixels of the last complete evaluation; empty before.
    """

    def __init__(self, data_module: SeededDataModule, loader_name: LoaderName) -> None:
        self.data_module, self.loader_name = data_module, loader_name
        self.digest = ""

    def evaluation_batches(self) -> Iterator[Batch]:
        """Yield all that the loader gives, with the same random numbers each time."""
        batches = self.data_module.batches(self.loader_name, "evaluation")
        yield from batches
        self.digest = batches.digest

    def rescaled_batches(self, side: int) -> Iterator[Batch]:
        """Yield all that the loader gives, rescaled to a side in pixels.

        Its images have the protocol's resolution.
        """
        for images, labels in self.evaluation_batches():
            size = images_per_batch(side * side)
            for start in range(0, len(labels), size):
                window = slice(start, start + size)
                yield rescale_images(images[window], side), labels[window]


class ExternalDataModule(TrialDataModule):
    """A trial's data from a user's data module."""

    validation: ExternalSplit

    def __init__(
        self, data: ForeignData, scale: Scale, seed: int, device: torch.device, dp_rank: DataParallelRank | None = None
    ) -> None:
        super().__init__()
        self.dp_rank = dp_rank or DataParallelRank()
        self.data_module = SeededDataModule(data, scale, seed, device)
        self.train = ExternalSplit(self.data_module, "train")
        self.validation = ExternalSplit(self.data_module, "val")
        self.test = ExternalSplit(self.data_module, "test")

    @property
    def split_digest(self) -> str:
        """Digest of the validation labels and pixels, once they are read."""
        return self.validation.digest

    def train_dataloader(self) -> ExternalBatches:
        """Return the batches of the trainer's current epoch."""
        self.data_module.module.trainer = self.trainer
        epoch = self.trainer.current_epoch if self.trainer else 0
        batches = self.data_module.batches("train", epoch)
        batches.dp_rank = self.dp_rank
        sampler: Any = getattr(batches.loader, "sampler", None)
        if hasattr(sampler, "set_epoch"):  # as Lightning would, which does not see this loader
            sampler.set_epoch(epoch)
        return batches


def _make_module(data: ForeignData, scale: Scale) -> lightning.LightningDataModule:
    module = call_class_path(data.class_path, dict(fill_arguments(data.init_args, scale)))
    if not isinstance(module, lightning.LightningDataModule):
        raise UserError(f"{data.class_path} returned a {type(module).__name__}; expected a LightningDataModule.")
    return module


def _reseed_loader(loader: Any) -> None:
    """Seed a loader's private generators from the global one, which is seeded."""
    # A generator that the user made once, at import or in __init__, would otherwise continue from pass to pass.
    seed = int(torch.randint(2**62, ()))
    for owner in (loader, getattr(loader, "sampler", None)):
        generator = getattr(owner, "generator", None)
        if isinstance(generator, torch.Generator):
            generator.manual_seed(seed)


def _is_image_label_pair(batch: Any) -> bool:
    if not (isinstance(batch, (tuple, list)) and len(batch) == 2):
        return False
    images, labels = batch
    if not (isinstance(images, torch.Tensor) and isinstance(labels, torch.Tensor)):
        return False
    return images.dim() == 4 and images.is_floating_point() and labels.dim() == 1 and not labels.is_floating_point()


def _describe_batch(batch: Any) -> str:
    if isinstance(batch, torch.Tensor):
        return f"{str(batch.dtype).removeprefix('torch.')} {tuple(batch.shape)}"
    if isinstance(batch, (tuple, list)):
        return f"({', '.join(map(_describe_batch, batch))})"
    return f"a {type(batch).__name__}"
