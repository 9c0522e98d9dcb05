"""A foreign ``LightningDataModule`` as a trial's data: its own loaders, their random numbers set apart and seeded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Literal

import pytorch_lightning as lightning
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException

from lightning_modules.batches import TrialData, images_per_batch, rescale
from lightning_modules.chance import Chance
from lightning_modules.custom import call
from lightning_modules.networks import filled
from lightning_modules.sharing import Batch, Share
from lightning_modules.spec import ForeignData, Scale
from lightning_modules.streams import generator
from lightning_modules.values import Misuse

LoaderName = Literal["train", "val", "test"]


class Opened:
    """A data module, made and set up for one seed: what it draws then, such as a split, belongs to the seed.

    Raises:
        Misuse: where it cannot be made, or is no data module.
    """

    def __init__(
        self, data: ForeignData, scale: Scale, seed: int, device: torch.device, *, prepare: bool = False
    ) -> None:
        """Make it and set it up; with ``prepare`` call its ``prepare_data`` before, which downloads: once per study."""
        self.data, self.scale, self.seed, self.device = data, scale, seed, device
        with Chance(generator(seed, "split")):
            self.module = _made(data, scale)
            if prepare:
                self.module.prepare_data()
            self.module.setup("fit")
            self.module.setup("test")

    def batches(self, name: LoaderName, *keys: int | str) -> ForeignBatches:
        """Those of one of its loaders; what the loader draws belongs to the seed and the keys."""
        return ForeignBatches(self, name, Chance(generator(self.seed, "order", *keys)))


class ForeignBatches:
    """One pass over a loader, as it is, on the device. It tells what it gave out.

    Attributes:
        share: whose part of the images it gives; every worker reads them all. Labels are those of the whole batch.
        seen_order: hash of the labels in their order.
        seen_augmentation: hash of the pixels, as the loader gave them.
    """

    def __init__(self, opened: Opened, name: LoaderName, chance: Chance) -> None:
        self.opened, self.chance = opened, chance
        self.told = f"{opened.data.class_path}'s {name}_dataloader"
        with chance:
            self.loader = self._loader(f"{name}_dataloader")
            _reseed(self.loader)
        self.seen_order, self.seen_augmentation, self.seen_examples = hashlib.sha256(), hashlib.sha256(), 0
        self.share = Share()

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        with self.chance:
            batches = iter(self.loader)
        while True:
            with self.chance:
                given = next(batches, None)
            if given is None:
                return
            batch = self._checked(given)
            self._count(*batch)
            with self.chance:
                images, labels = self._moved(batch)
            yield images[self.share.part(len(images))], labels

    @property
    def digest(self) -> str:
        """Of all labels and pixels so far."""
        return hashlib.sha256(self.seen_order.digest() + self.seen_augmentation.digest()).hexdigest()[:16]

    def _count(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.seen_order.update(labels.cpu().numpy().tobytes())
        self.seen_augmentation.update(images.cpu().contiguous().numpy().tobytes())
        self.seen_examples += len(labels)

    def _moved(self, batch: Batch) -> Batch:
        """On the device, by the data module's own hooks."""
        module = self.opened.module
        batch = module.on_before_batch_transfer(batch, 0)
        batch = module.transfer_batch_to_device(batch, self.opened.device, 0)
        images, labels = module.on_after_batch_transfer(batch, 0)
        return images, labels

    def _loader(self, name: str) -> Any:
        try:
            loader = getattr(self.opened.module, name)()
        except MisconfigurationException as error:
            raise Misuse(f"{self.told} is missing: a study trains, validates and tests.") from error
        if isinstance(loader, (list, tuple, dict)) or not (hasattr(loader, "__iter__") and hasattr(loader, "__len__")):
            raise Misuse(
                f"{self.told} returned a {type(loader).__name__}; expected one loader with a length, such as a "
                "DataLoader."
            )
        return loader

    def _checked(self, given: Any) -> Batch:
        pair = tuple(given) if isinstance(given, (tuple, list)) else ()
        tensors = [each for each in pair if isinstance(each, torch.Tensor)]
        if [len(pair), *((each.dim(), each.is_floating_point()) for each in tensors)] != [2, (4, True), (1, False)]:
            raise Misuse(
                f"{self.told} yields {_described(given)}; expected (images, labels): float32 (batch, channels, "
                "height, width) and int64 (batch,)."
            )
        images, labels = tensors
        scale = self.opened.scale
        expected = (scale.channels, scale.resolution, scale.resolution)
        if tuple(images.shape[1:]) != expected:
            raise Misuse(
                f"{self.told} gives images of the shape {tuple(images.shape[1:])}, but the protocol's scale says "
                f"{expected}. Resize them there, or give `--set scale.channels=... --set scale.resolution=...`."
            )
        return images.float(), labels.long()


class ForeignPart:
    """One part of a trial's data, by one of a foreign module's loaders."""

    def __init__(self, opened: Opened, name: LoaderName) -> None:
        self.opened, self.name = opened, name
        self.digest = ""

    def evaluation(self) -> Iterator[Batch]:
        """All that the loader gives, with the same random numbers each time."""
        batches = self.opened.batches(self.name, "evaluation")
        yield from batches
        self.digest = batches.digest

    def rescaled(self, side: int) -> Iterator[Batch]:
        """All that the loader gives, in its order, rescaled to a side in pixels from the protocol's resolution."""
        for images, labels in self.evaluation():
            size = images_per_batch(side * side)
            for start in range(0, len(labels), size):
                window = slice(start, start + size)
                yield rescale(images[window], side), labels[window]


class ForeignTrialData(TrialData):
    """A trial's data from a foreign module."""

    validation: ForeignPart

    def __init__(
        self, data: ForeignData, scale: Scale, seed: int, device: torch.device, share: Share | None = None
    ) -> None:
        super().__init__()
        self.share = share or Share()
        self.opened = Opened(data, scale, seed, device)
        self.train = ForeignPart(self.opened, "train")
        self.validation = ForeignPart(self.opened, "val")
        self.test = ForeignPart(self.opened, "test")

    @property
    def split_digest(self) -> str:
        """Of the validation loader's labels and pixels, once it has been read."""
        return self.validation.digest

    def train_dataloader(self) -> ForeignBatches:
        """The batches of the trainer's current epoch."""
        self.opened.module.trainer = self.trainer
        epoch = self.trainer.current_epoch if self.trainer else 0
        batches = self.opened.batches("train", epoch)
        batches.share = self.share
        sampler: Any = getattr(batches.loader, "sampler", None)
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        return batches


def _made(data: ForeignData, scale: Scale) -> lightning.LightningDataModule:
    module = call(data.class_path, dict(filled(data.init_args, scale)))
    if not isinstance(module, lightning.LightningDataModule):
        raise Misuse(f"{data.class_path} returned a {type(module).__name__}; expected a LightningDataModule.")
    return module


def _reseed(loader: Any) -> None:
    """Seed a loader's private generators from the global one, which is seeded."""
    seed = int(torch.randint(2**62, ()))
    for owner in (loader, getattr(loader, "sampler", None)):
        private = getattr(owner, "generator", None)
        if isinstance(private, torch.Generator):
            private.manual_seed(seed)


def _described(batch: Any) -> str:
    if isinstance(batch, torch.Tensor):
        return f"{str(batch.dtype).removeprefix('torch.')} {tuple(batch.shape)}"
    if isinstance(batch, (tuple, list)):
        return f"({', '.join(map(_described, batch))})"
    return f"a {type(batch).__name__}"
