"""Open a setup's data: an inventory, or one trial's data module."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from lightning_modules.data.datasets import prepare_dataset, split_train_validation
from lightning_modules.data.image_folder import list_class_names, require_class_count
from lightning_modules.data.image_index import ImageFileDataset, index_image_folder
from lightning_modules.data.types import InMemoryDataset, Labels
from lightning_modules.distributed import DataParallelRank
from lightning_modules.specs.data import Data, ForeignData
from lightning_modules.specs.errors import UserError
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.setup import Setup

if TYPE_CHECKING:  # Lightning takes two seconds to import, and an inventory does not need it
    from lightning_modules.data.external import LoaderName, SeededDataModule
    from lightning_modules.data.trial_data import TrialDataModule


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
        return _external_inventory(setup.data, setup.scale, seeds)
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
    if isinstance(setup.data, ForeignData):
        return ExternalDataModule(setup.data, setup.scale, seed, device, dp_rank)
    if dataset is None:
        raise TypeError(f"a trial on {setup.data.source} needs its examples")
    if isinstance(dataset, ImageFileDataset):
        return ImageFileDataModule(dataset, setup.data, setup.recipe, setup.scale, seed, device, dp_rank)
    return InMemoryDataModule(dataset, setup.data, setup.recipe, seed, device, dp_rank)


def _own_inventory(dataset: InMemoryDataset | ImageFileDataset, data: Data, seeds: Sequence[int]) -> Inventory:
    # Every seed's split, so that classes too small to be split are refused before the study starts.
    splits = [split_train_validation(dataset.train_labels, data, seed) for seed in seeds]
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


def _external_inventory(data: ForeignData, scale: Scale, seeds: Sequence[int]) -> Inventory:
    """Read a user's data module under seed 0, whichever are planned.

    So further seeds leave the digest as it is.
    """
    data_module = _open_module(data, scale, prepare=True)
    train, train_digest = _read_train_split(data_module)
    validation, validation_digest = _read_fixed_split(data_module, "val")
    test, test_digest = _read_fixed_split(data_module, "test")
    all_labels = np.concatenate((train, validation, test))
    num_classes = 1 + int(all_labels.max())
    if num_classes != scale.classes or all_labels.min() < 0:
        raise UserError(
            f"{data.class_path} gives labels up to {num_classes - 1}, so {num_classes} classes, but the protocol says "
            f"{scale.classes}. Give `--set scale.classes={num_classes}`, or fix the labels: they count from 0."
        )
    _require_fixed_test_split(data_module, test_digest, seeds)
    return Inventory(
        name=data.class_path,
        origin="a LightningDataModule of the user's",
        num_classes=num_classes,
        split_sizes={"train": len(train), "validation": len(validation), "test": len(test)},
        class_counts=_count_classes([str(index) for index in range(num_classes)], train, test),
        test_labels=test,
        digest=hashlib.sha256("|".join((train_digest, validation_digest, test_digest)).encode()).hexdigest()[:16],
    )


def _open_module(data: ForeignData, scale: Scale, seed: int = 0, *, prepare: bool = False) -> SeededDataModule:
    from lightning_modules.data.external import SeededDataModule

    return SeededDataModule(data, scale, seed, torch.device("cpu"), prepare=prepare)


def _read_train_split(data_module: SeededDataModule) -> tuple[Labels, str]:
    """Read labels and digest of the training split.

    They must be the same at every opening under one seed.

    Raises:
        UserError: where a second opening gives other batches.
    """
    _require_known_length(data_module)
    labels, digest = _read_split(data_module, "train")
    _, second_digest = _read_split(_open_module(data_module.data, data_module.scale), "train")
    if digest != second_digest:
        raise UserError(
            f"{data_module.data.class_path}'s train_dataloader is not determined by the seed: opened and read twice "
            "under the same seed, it gives different batches. Expected randomness from the global generators of torch, "
            "numpy and random, which are seeded, or a generator with a fixed seed: not default_rng() or os.urandom."
        )
    return labels, digest


def _require_known_length(data_module: SeededDataModule) -> None:
    """Check that the number of training batches is known: learning-rate schedules are computed from it."""
    batches = data_module.batches("train")
    try:
        len(batches)
    except TypeError:  # of a DataLoader on an IterableDataset
        raise UserError(
            f"{batches.loader_label} has no length, from which the learning-rate schedule is computed: its dataset is "
            "an IterableDataset without __len__. Give that one, the number of its examples."
        ) from None


def _require_fixed_test_split(data_module: SeededDataModule, expected_digest: str, seeds: Sequence[int]) -> None:
    for seed in seeds:
        if seed == data_module.seed:
            continue
        _, digest = _read_split(_open_module(data_module.data, data_module.scale, seed), "test")
        if digest != expected_digest:
            raise UserError(
                f"{data_module.data.class_path}'s test_dataloader gives other examples under seed {seed} than under "
                f"{data_module.seed}: its test split depends on the seed. Expected the same test split for all seeds: "
                "fix it, e.g. by random_split with a generator of its own, torch.Generator().manual_seed(0)."
            )


def _read_fixed_split(data_module: SeededDataModule, loader_name: LoaderName) -> tuple[Labels, str]:
    """Read labels and digest of a split that must not vary.

    Raises:
        UserError: where a second reading gives other batches.
    """
    labels, digest = _read_split(data_module, loader_name)
    _, second_digest = _read_split(data_module, loader_name, "again")  # the key gives it other random numbers
    if digest != second_digest:
        raise UserError(
            f"{data_module.data.class_path}'s {loader_name}_dataloader shuffles, or changes its images at random: read "
            "twice, it gives different batches. Expected shuffle=False, and no random transform."
        )
    return labels, digest


def _read_split(data_module: SeededDataModule, loader_name: LoaderName, *keys: str) -> tuple[Labels, str]:
    batches = data_module.batches(loader_name, *keys)
    batch_labels = [labels.cpu().numpy() for _, labels in batches]
    if not batch_labels:
        raise UserError(f"{batches.loader_label} yields nothing; expected one batch or more.")
    return np.concatenate(batch_labels), batches.digest
