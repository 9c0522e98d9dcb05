"""Open a setup's data: an inventory, or one trial's data module."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from lightning_modules.data.datasets import CLASS_SIZES, prepare_dataset, split_train_validation
from lightning_modules.data.image_folder import list_class_names, list_image_folder, require_class_count
from lightning_modules.data.image_index import ImageFileDataset, index_image_folder
from lightning_modules.data.types import DataError, InMemoryDataset, Labels
from lightning_modules.distributed import DataParallelRank
from lightning_modules.rng import redraw_seed
from lightning_modules.specs.data import Data, ForeignData
from lightning_modules.specs.errors import UserError
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.setup import Setup
from lightning_modules.user_code.errors import describe_error

if TYPE_CHECKING:  # Lightning takes two seconds to import, and an inventory does not need it
    from lightning_modules.data.external import SeededDataModule
    from lightning_modules.data.trial_data import TrialDataModule
    from lightning_modules.user_code.trainer import LoaderName


LogFunction = Callable[[str], None]


def _ignore_message(*_: object) -> None:
    return


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """The facts about a setup's data that a study records before it trains.

    Attributes:
        name: of the source, or the class path of the user's data module.
        origin: where the examples came from, in words.
        split_sizes: examples in ``train``, ``validation`` and ``test``.
        class_counts: examples of each class, by its name, in ``train`` and ``test``.
        test_labels: int64 class indices, in the order of the predictions.
        digest: of the examples' content.
        train_batch_sizes: sizes of the batches that a user's data module trains on; empty where the recipe decides.
        excluded_files: bad files, each with what is wrong with it.
        notices: ignored entries and duplicates of an image folder, a line for each kind.
    """

    name: str
    origin: str
    num_classes: int
    split_sizes: Mapping[str, int]
    class_counts: Mapping[str, Mapping[str, int]]
    test_labels: Labels
    digest: str
    train_batch_sizes: frozenset[int] = frozenset()
    excluded_files: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


def make_inventory(
    setup: Setup, seeds: Sequence[int], root: Path, cache: Path, log: LogFunction = _ignore_message
) -> Inventory:
    """Read a setup's data once, and list what there is.

    A user's data module has its ``prepare_data`` called here, and nowhere else.

    Args:
        log: receives progress messages where that takes long.

    Raises:
        UserError: for data that cannot be trained on, or that do not fit the scale.
    """
    if isinstance(setup.data, ForeignData):
        return _external_inventory(setup, setup.data, seeds)
    setup.require_consistent()
    return _own_inventory(_load_own_dataset(setup.data, setup.scale, root, cache, log), setup.data, seeds)


def check_classes(setup: Setup, root: Path) -> None:
    """Check the classes of an image folder, if it is there, without opening a file.

    Raises:
        DataError: for a folder with fewer than two classes, or another number than the scale says.
    """
    data = setup.data
    if isinstance(data, ForeignData) or data.source == "digits" or not (root / "train").is_dir():
        return
    require_class_count(root, list_class_names(root / "train"), setup.scale.classes)


def count_training_examples(setup: Setup, root: Path) -> int | None:
    """Count the examples that a setup trains on, without opening an image.

    ``None`` for a user's data module, and for an image folder that is not there or cannot be trained on.
    """
    data = setup.data
    if isinstance(data, ForeignData):
        return None
    if data.source != "folder" and (data.source == "digits" or not (root / "train").is_dir()):
        class_sizes = CLASS_SIZES[data.source]
    else:
        try:
            class_sizes = [len(files) for files in list_image_folder(root).train_files]
        except DataError:  # told where the folder is read
            return None
    labels = np.repeat(np.arange(len(class_sizes)), class_sizes)
    try:
        train, _ = split_train_validation(labels, data, seed=0)  # every seed's split has the same sizes
    except DataError:
        return None
    return len(train)


def load_dataset(
    setup: Setup, root: Path, cache: Path, log: LogFunction = _ignore_message
) -> InMemoryDataset | ImageFileDataset | None:
    """Load the examples of a setup's source.

    ``None`` for a user's data module, which reads its own.
    """
    if isinstance(setup.data, ForeignData):
        return None
    return _load_own_dataset(setup.data, setup.scale, root, cache, log)


def _load_own_dataset(
    data: Data, scale: Scale, root: Path, cache: Path, log: LogFunction
) -> InMemoryDataset | ImageFileDataset:
    if data.keep == "fitted":
        return prepare_dataset(data, scale, root, cache)
    return index_image_folder(data, scale, root, cache, log)


def make_data_module(
    setup: Setup,
    dataset: InMemoryDataset | ImageFileDataset | None,
    seed: int,
    device: torch.device,
    dp_rank: DataParallelRank | None = None,
) -> TrialDataModule:
    """Make the data module of one trial.

    Training batches hold the rank's share of the images.
    """
    from lightning_modules.data.datamodule import InMemoryDataModule
    from lightning_modules.data.external import ExternalDataModule
    from lightning_modules.data.streaming import ImageFileDataModule

    setup.require_consistent()
    seed = redraw_seed(seed, setup.redraws, setup.redraw_name)
    if isinstance(setup.data, ForeignData):
        return ExternalDataModule(setup.data, setup.scale, seed, device, dp_rank, setup.recipe.epochs)
    if dataset is None:
        raise TypeError(f"a trial on {setup.data.source} needs its examples")
    if isinstance(dataset, ImageFileDataset):
        return ImageFileDataModule(dataset, setup.data, setup.recipe, setup.scale, seed, device, dp_rank)
    return InMemoryDataModule(dataset, setup.data, setup.recipe, seed, device, dp_rank)


def _own_inventory(dataset: InMemoryDataset | ImageFileDataset, data: Data, seeds: Sequence[int]) -> Inventory:
    # Every seed's split, so that classes too small to be split are refused before the study starts.
    splits = [split_train_validation(dataset.train_labels, data, seed, dataset.class_names) for seed in seeds]
    train, validation = splits[0]
    return Inventory(
        name=data.source,
        origin=dataset.origin,
        num_classes=len(dataset.class_names),
        split_sizes={"train": len(train), "validation": len(validation), "test": len(dataset.test_labels)},
        class_counts=_count_classes(dataset.class_names, dataset.train_labels[train], dataset.test_labels),
        test_labels=dataset.test_labels,
        digest=dataset.digest,
        excluded_files=dataset.excluded_files,
        notices=dataset.notices,
    )


def _count_classes(class_names: Sequence[str], train: Labels, test: Labels) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    train_counts = np.bincount(np.asarray(train), minlength=len(class_names))
    test_counts = np.bincount(np.asarray(test), minlength=len(class_names))
    for name, num_train, num_test in zip(class_names, train_counts, test_counts, strict=True):
        counts[str(name)] = {"train": int(num_train), "test": int(num_test)}
    return counts


class _SplitReading(NamedTuple):
    """What one pass over a user's loader gave."""

    labels: Labels
    digest: str
    batch_sizes: tuple[int, ...]


def _external_inventory(setup: Setup, data: ForeignData, seeds: Sequence[int]) -> Inventory:
    """Read a user's data module under seed 0, whichever are planned.

    So further seeds leave the digest as it is.
    """

    @contextmanager
    def open_module(seed: int, *, prepare: bool = False) -> Iterator[SeededDataModule]:
        from lightning_modules.data.external import SeededDataModule

        device, max_epochs = torch.device("cpu"), setup.recipe.epochs
        data_module = SeededDataModule(data, setup.scale, seed, device, max_epochs=max_epochs, prepare=prepare)
        yield data_module
        data_module.tear_down()

    with open_module(0, prepare=True) as data_module:
        train = _read_train_split(data_module, open_module)
        validation = _read_fixed_split(data_module, "val")
        test = _read_fixed_split(data_module, "test")
    all_labels = np.concatenate((train.labels, validation.labels, test.labels))
    num_classes = 1 + int(all_labels.max())
    _require_class_labels(data, all_labels, setup.scale.classes)
    for seed in seeds:
        if seed != data_module.seed:
            with open_module(seed) as other:
                _require_same_test_split(other, test.digest, data_module.seed)
    return Inventory(
        name=data.class_path,
        origin="a LightningDataModule of the user's",
        num_classes=num_classes,
        split_sizes={
            "train": len(train.labels),
            "validation": len(validation.labels),
            "test": len(test.labels),
        },
        class_counts=_count_classes([str(index) for index in range(num_classes)], train.labels, test.labels),
        test_labels=test.labels,
        digest=hashlib.sha256("|".join((train.digest, validation.digest, test.digest)).encode()).hexdigest()[:16],
        train_batch_sizes=frozenset(train.batch_sizes),
    )


def _require_class_labels(data: ForeignData, labels: Labels, num_classes: int) -> None:
    """Check the labels of all splits against the protocol's number of classes."""
    least, largest = int(labels.min()), int(labels.max())
    if least < 0:
        raise UserError(
            f"{data.class_path} gives labels from {least} to {largest}; expected those of {num_classes} classes, from "
            f"0 to {num_classes - 1}. Fix the labels: they count from 0."
        )
    if largest == 0:
        raise UserError(
            f"{data.class_path} gives every image the label 0; expected those of {num_classes} classes, from 0 to "
            f"{num_classes - 1}. Fix the labels: with a single class there is nothing to learn."
        )
    if largest != num_classes - 1:
        raise UserError(
            f"{data.class_path} gives labels up to {largest}, so {largest + 1} classes, but the protocol says "
            f"{num_classes}. Give `--set scale.classes={largest + 1}`, or fix the labels: they count from 0."
        )


def _read_train_split(
    data_module: SeededDataModule, open_module: Callable[[int], AbstractContextManager[SeededDataModule]]
) -> _SplitReading:
    """Read the training split, which must be the same at every opening under one seed.

    Raises:
        UserError: where the loader has no length or a wrong one, or a second opening gives other batches.
    """
    num_batches = _read_length(data_module)
    reading = _read_split(data_module, "train", max_batches=num_batches)
    num_read = len(reading.batch_sizes)
    if num_batches != num_read:
        yielded = "more" if num_read > num_batches else f"{num_read}"
        raise UserError(
            f"{data_module.data.class_path}'s train_dataloader says by __len__ that it has {num_batches} batches, and "
            f"yields {yielded}; expected as many as it says: steps and learning-rate schedules follow the length. "
            "Correct the __len__ of the loader or of its IterableDataset, which each of its workers reads."
        )
    with open_module(data_module.seed) as other:
        again = _read_split(other, "train")
    if reading.digest != again.digest:
        raise UserError(
            f"{data_module.data.class_path}'s train_dataloader is not determined by the seed: opened and read twice "
            "under the same seed, it gives different batches. Expected randomness from the global generators of torch, "
            "numpy and random, which are seeded, or a generator with a fixed seed: not default_rng() or os.urandom."
        )
    return reading


def _read_length(data_module: SeededDataModule) -> int:
    """Return the number of training batches, from which learning-rate schedules are computed."""
    batches = data_module.batches("train")
    try:
        return len(batches)
    except Exception as error:  # a TypeError of a DataLoader on an IterableDataset; anything of a user's own
        raise UserError(
            f"{batches.loader_label} has no length ({describe_error(error)}), from which the learning-rate schedule is "
            "computed. Give its IterableDataset a __len__, the number of its examples."
        ) from error


def _require_same_test_split(data_module: SeededDataModule, expected_digest: str, first_seed: int) -> None:
    if _read_split(data_module, "test").digest != expected_digest:
        raise UserError(
            f"{data_module.data.class_path}'s test_dataloader gives other examples under seed {data_module.seed} than "
            f"under {first_seed}: its test split depends on the seed. Expected the same test split for all seeds: fix "
            "it, e.g. by random_split with a generator of its own, torch.Generator().manual_seed(0)."
        )


def _read_fixed_split(data_module: SeededDataModule, loader_name: LoaderName) -> _SplitReading:
    """Read a split that must not vary.

    Raises:
        UserError: where a second reading gives other batches.
    """
    reading = _read_split(data_module, loader_name)
    again = _read_split(data_module, loader_name, "again")  # the key gives it other random numbers
    if reading.digest != again.digest:
        raise UserError(
            f"{data_module.data.class_path}'s {loader_name}_dataloader shuffles, or changes its images at random: read "
            "twice, it gives different batches. Expected shuffle=False, and no random transform; in a transfer hook, "
            "one only `if self.trainer.training`."
        )
    return reading


def _read_split(
    data_module: SeededDataModule, loader_name: LoaderName, *keys: str, max_batches: int | None = None
) -> _SplitReading:
    """Read a split; of one that has more than some number of batches, which may be endless, one more."""
    batches = data_module.batches(loader_name, *keys)
    num_read = None if max_batches is None else max_batches + 1
    batch_labels: list[Labels] = []
    for images, labels in islice(batches, num_read):
        if not bool(torch.isfinite(images).all()):
            raise UserError(
                f"{batches.loader_label} yields pixels that are NaN or infinite, in batch {len(batch_labels)}; "
                "expected finite numbers: no loss could be computed. Look for images of one color that are divided by "
                "their own standard deviation."
            )
        batch_labels.append(labels.cpu().numpy())
    if not batch_labels:
        raise UserError(f"{batches.loader_label} yields nothing; expected one batch or more.")
    return _SplitReading(np.concatenate(batch_labels), batches.digest, tuple(map(len, batch_labels)))
