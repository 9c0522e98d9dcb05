"""A setup's data, whoever provides them: what there is, before a study starts; and what a trial reads."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from lightning_modules.data import Examples, Labels, prepare, split
from lightning_modules.pictures import Pictures, pictures
from lightning_modules.sharing import Share
from lightning_modules.spec import Data, ForeignData, Scale, Setup
from lightning_modules.values import Misuse

if TYPE_CHECKING:  # Lightning takes two seconds to load, and who only asks what there is does not need it
    from lightning_modules.batches import TrialData
    from lightning_modules.foreign_data import LoaderName, Opened


Say = Callable[[str], None]


def _nothing(*_: object) -> None:
    return


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """What is known of a setup's data before it trains.

    Attributes:
        name: of the source, or the foreign module's path.
        form: where the examples came from, in words.
        classes: how many.
        sizes: examples in ``train``, ``validation`` and ``test``.
        test_labels: int64 class indices, in the order of the predictions.
        digest: of what the examples are.
        left_out: bad files, each with what is wrong with it.
    """

    name: str
    form: str
    classes: int
    sizes: Mapping[str, int]
    test_labels: Labels
    digest: str
    left_out: tuple[str, ...] = ()


def inventory(setup: Setup, seeds: Sequence[int], root: Path, cache: Path, say: Say = _nothing) -> Inventory:
    """Read a setup's data once. A foreign module's ``prepare_data`` is called here, and nowhere else.

    Args:
        say: hears of the progress where that takes long.

    Raises:
        Misuse: where they cannot be trained on, or are not what the scale says.
    """
    if isinstance(setup.data, ForeignData):
        return _foreign(setup.data, setup.scale, seeds)
    setup.require_whole()
    return _own(_prepared(setup.data, setup.scale, root, cache, say), setup.data, seeds)


def examples_of(setup: Setup, root: Path, cache: Path, say: Say = _nothing) -> Examples | Pictures | None:
    """The examples that this package reads; none where a foreign module reads its own."""
    return None if isinstance(setup.data, ForeignData) else _prepared(setup.data, setup.scale, root, cache, say)


def _prepared(data: Data, scale: Scale, root: Path, cache: Path, say: Say) -> Examples | Pictures:
    if data.keep == "fitted":
        return prepare(data, scale, root, cache)
    return pictures(data, scale, root, cache, say)


def trial_data(
    setup: Setup, examples: Examples | Pictures | None, seed: int, device: torch.device, share: Share | None = None
) -> TrialData:
    """What one trial reads; of training batches, the worker's share."""
    from lightning_modules.batches import ClassificationData
    from lightning_modules.foreign_data import ForeignTrialData
    from lightning_modules.originals import PictureData

    setup.require_whole()
    if isinstance(setup.data, ForeignData):
        return ForeignTrialData(setup.data, setup.scale, seed, device, share)
    if examples is None:
        raise TypeError(f"a trial on {setup.data.source} needs its examples")
    if isinstance(examples, Pictures):
        return PictureData(examples, setup.data, setup.recipe, setup.scale, seed, device, share)
    return ClassificationData(examples, setup.data, setup.recipe, seed, device, share)


def _own(examples: Examples | Pictures, data: Data, seeds: Sequence[int]) -> Inventory:
    parts = [split(examples.train_labels, data, seed) for seed in seeds]  # what cannot be divided is refused here
    train, held = parts[0]
    return Inventory(
        name=data.source,
        form=examples.form,
        classes=len(examples.classes),
        sizes={"train": len(train), "validation": len(held), "test": len(examples.test_labels)},
        test_labels=examples.test_labels,
        digest=examples.digest,
        left_out=examples.left_out if isinstance(examples, Pictures) else (),
    )


def _foreign(data: ForeignData, scale: Scale, seeds: Sequence[int]) -> Inventory:
    """Read under seed 0, whichever are planned: so more seeds leave the digest as it is."""
    opened = _opened(data, scale, prepare=True)
    train, train_digest = _read_under_one_seed(opened)
    (validation, validation_digest), (test, test_digest) = (_read_twice(opened, name) for name in ("val", "test"))
    classes = 1 + max(int(labels.max()) for labels in (train, validation, test))
    if classes != scale.classes or min(int(labels.min()) for labels in (train, validation, test)) < 0:
        raise Misuse(
            f"{data.class_path} gives labels up to {classes - 1}, so {classes} classes, but the protocol says "
            f"{scale.classes}. Give `--set scale.classes={classes}`, or mend the labels: they count from 0."
        )
    _require_one_test_part(opened, test_digest, seeds)
    return Inventory(
        name=data.class_path,
        form="a LightningDataModule of the user's",
        classes=classes,
        sizes={"train": len(train), "validation": len(validation), "test": len(test)},
        test_labels=test,
        digest=hashlib.sha256("|".join((train_digest, validation_digest, test_digest)).encode()).hexdigest()[:16],
    )


def _opened(data: ForeignData, scale: Scale, seed: int = 0, *, prepare: bool = False) -> Opened:
    from lightning_modules.foreign_data import Opened

    return Opened(data, scale, seed, torch.device("cpu"), prepare=prepare)


def _read_under_one_seed(opened: Opened) -> tuple[Labels, str]:
    """Labels and digest of the training part, which must be the same whenever it is opened and read under one seed."""
    labels, digest = _read(opened, "train")
    _, again = _read(_opened(opened.data, opened.scale), "train")
    if digest != again:
        raise Misuse(
            f"{opened.data.class_path}'s train_dataloader is not settled by the seed: opened and read twice under one, "
            "it gives other batches. Expected chance from the generators of torch, numpy and random, which are "
            "seeded, or from one with a seed of its own: not default_rng() or os.urandom."
        )
    return labels, digest


def _require_one_test_part(opened: Opened, expected: str, seeds: Sequence[int]) -> None:
    for seed in seeds:
        if seed != opened.seed and _read(_opened(opened.data, opened.scale, seed), "test")[1] != expected:
            raise Misuse(
                f"{opened.data.class_path}'s test_dataloader gives other examples under seed {seed} than under "
                f"{opened.seed}: its test split depends on the seed. Expected one test part for all: fix it, e.g. by "
                "random_split with a generator of its own, torch.Generator().manual_seed(0)."
            )


def _read_twice(opened: Opened, name: LoaderName) -> tuple[Labels, str]:
    """Labels and digest of a part that must be the same whenever it is read."""
    labels, digest = _read(opened, name)
    _, again = _read(opened, name, "again")  # with other random numbers
    if digest != again:
        raise Misuse(
            f"{opened.data.class_path}'s {name}_dataloader shuffles, or changes its images at random: read twice, it "
            "gives other batches. Expected shuffle=False, and no random transform."
        )
    return labels, digest


def _read(opened: Opened, name: LoaderName, *keys: str) -> tuple[Labels, str]:
    batches = opened.batches(name, *keys)
    labels = [labels.cpu().numpy() for _, labels in batches]
    if not labels:
        raise Misuse(f"{batches.told} yields nothing.")
    return np.concatenate(labels), batches.digest
