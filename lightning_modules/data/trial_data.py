"""Interfaces of a trial's data module and of its splits."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import pytorch_lightning as lightning
import torch

from lightning_modules.data.augmentation import CropParams, ShiftFlipParams
from lightning_modules.data.types import Indices
from lightning_modules.distributed import Batch
from lightning_modules.networks.memory_layout import MemoryLayout, make_contiguous


class ReadableSplit(Protocol):
    """A split of a trial's data that can be evaluated."""

    def evaluation_batches(self) -> Iterator[Batch]:
        """Yield all examples once."""

    def rescaled_batches(self, side: int) -> Iterator[Batch]:
        """Yield all examples once, in order, rescaled to a shorter side.

        Isotropically and unaugmented; the side is in pixels.

        Nothing is cropped; a batch holds consecutive examples of equal shape.
        """


class WithheldSplit:
    """A split that must not be read: the test split while a recipe is tuned."""

    def evaluation_batches(self) -> Iterator[Batch]:
        """Refuse to be read.

        Raises:
            PermissionError: always.
        """
        raise PermissionError(
            "the test split is withheld from trials that tune: tuning on it would bias the test error"
        )

    def rescaled_batches(self, side: int) -> Iterator[Batch]:
        """Refuse to be read, as :meth:`evaluation_batches` does.

        Raises:
            PermissionError: always.
        """
        del side
        return self.evaluation_batches()


class ReiterableBatches:
    """Batches that are read anew at each iteration."""

    def __init__(self, make_iterator: Callable[[], Iterator[Batch]]) -> None:
        self.make_iterator = make_iterator

    def __iter__(self) -> Iterator[Batch]:
        return self.make_iterator()


def arrange_batches(batches: Iterator[Batch], layout: MemoryLayout) -> Iterator[Batch]:
    """Bring batches, which are channels-last, into a layout."""
    for images, labels in batches:
        yield (make_contiguous(images) if layout == "contiguous" else images), labels


class TrialDataModule(lightning.LightningDataModule):
    """The data of a trial, whoever provides them.

    Set the trainer's ``reload_dataloaders_every_n_epochs=1``: every epoch has its own order. The loader that
    ``train_dataloader`` returns has ``order_hash``, ``augmentation_hash`` and ``num_examples_seen`` of what it yielded.

    Attributes:
        layout: memory layout of the batches that the trainer is given.
        gives_whole_epochs: whether the trainer is given a whole epoch as if it were one batch; a user's data module
            gives batches all the same.
    """

    layout: MemoryLayout = "channels-last"
    gives_whole_epochs = False
    train: ReadableSplit
    validation: ReadableSplit
    test: ReadableSplit

    def withhold_test(self) -> None:
        """Make the test split unreadable, for a trial that chooses a recipe."""
        self.test = WithheldSplit()

    def release(self) -> None:
        """Call the ``teardown`` of a user's data module, once nothing reads it any more; others hold nothing.

        Raises:
            UserError: where it fails.
        """

    @property
    @abstractmethod
    def split_digest(self) -> str:
        """Digest of the validation split."""

    def val_dataloader(self) -> ReiterableBatches:
        """Return the validation split, for modules that validate by themselves."""
        return ReiterableBatches(lambda: arrange_batches(self.validation.evaluation_batches(), self.layout))


class AugmentableSplit(ReadableSplit, Protocol):
    """A split of a trial's data that this package augments.

    Attributes:
        labels: int64, on the device.
        resolution, channels: of the images that the network receives.
    """

    labels: torch.Tensor
    resolution: int
    channels: int

    def __len__(self) -> int:
        """Return the number of examples."""

    def augmented_images(
        self, index_batches: Sequence[Indices], params: ShiftFlipParams | CropParams
    ) -> Iterator[torch.Tensor]:
        """Yield each batch's augmented, normalized images.

        Float32 ``(batch, channels, height, width)``.

        Args:
            index_batches: the example indices of every batch, known in advance so that decoding can run ahead.
            params: the augmentation of all examples of the epoch.
        """
