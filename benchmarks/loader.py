"""Claim: batches of randomly cropped and flipped 32 x 32 images come 20 times as fast as from torchvision.

Cost: two minutes on two cores. Command: ``python benchmarks/loader.py [--quick] [--device cuda] [--write]``.

The data are 50,000 synthetic images in torchvision's own file format of CIFAR-10. Ordinary:
``torchvision.datasets.CIFAR10`` with RandomCrop (4 pixels of padding), RandomHorizontalFlip, ToTensor and Normalize
through a ``DataLoader`` of batches of 128 with its best number of workers, which is determined first; on a GPU with
pinned memory and the copy to the device. Ours: the same batches from uint8 images in the device's memory. The figure
is images per second over a whole epoch, including order and augmentation.
"""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _side_by_side import asked, in_turn, keep, ratio, timed, told, where
from torch.utils.data import DataLoader

from lightning_modules.data.datamodule import EpochLoader
from lightning_modules.data.inventory import make_data_module
from lightning_modules.data.types import InMemoryDataset
from lightning_modules.specs.data import Data
from lightning_modules.specs.recipe import Recipe
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.setup import Setup

IMAGES, FEW, BATCH = 50_000, 1_000, 128
GOALS = {"cpu": "20 or more", "cuda": "100 or more"}


def write_cifar(root: Path, images: int) -> np.ndarray:
    """Random images in the files in which CIFAR-10 comes; gives them back as uint8, height x width x channels."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (images, 3, 32, 32), dtype=np.uint8)
    for number, part in enumerate(np.split(pixels, 5), start=1):
        rows = {"data": part.reshape(len(part), -1), "labels": [row % 10 for row in range(len(part))]}
        (folder / f"data_batch_{number}").write_bytes(pickle.dumps(rows))
    (folder / "test_batch").write_bytes(pickle.dumps({"data": pixels[:10].reshape(10, -1), "labels": list(range(10))}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [str(label) for label in range(10)]}))
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))  # as the cache of decoded images has them


def ordinary(root: Path, device: str) -> tuple[Callable[[int], float], list[int]]:
    """Images per second of a DataLoader with so many workers; and the numbers of workers worth a try."""
    from torchvision import datasets, transforms

    class Unchecked(datasets.CIFAR10):  # type: ignore[misc]
        """The files are made up: their checksums are others."""

        meta = {**datasets.CIFAR10.meta, "md5": None}  # noqa: RUF012 - torchvision's own form

        def _check_integrity(self) -> bool:
            return True

    steps = [
        transforms.RandomCrop(32, padding=4),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize((0.5,) * 3, (0.25,) * 3),
    ]
    images = Unchecked(str(root), transform=transforms.Compose(steps))

    def rate(workers: int) -> float:
        loader: Any = DataLoader(
            images,
            BATCH,
            shuffle=True,
            num_workers=workers,
            pin_memory=device == "cuda",
            persistent_workers=workers > 0,
        )
        for _ in loader if workers else ():  # the workers start once, not every epoch
            break

        def epoch() -> None:
            for pixels, labels in loader:
                pixels.to(device, non_blocking=True), labels.to(device, non_blocking=True)

        return len(images) / timed(epoch)

    cores = len(os.sched_getaffinity(0))
    return rate, sorted({0, 1, 2, cores // 2, cores})


def ours(pixels: np.ndarray, device: str) -> Callable[[], float]:
    """Images per second of this package's batches."""
    labels = np.arange(len(pixels), dtype=np.int64) % 10
    examples = InMemoryDataset(
        train_images=pixels, train_labels=labels, test_images=pixels[:10], test_labels=labels[:10],
        class_names=tuple("0123456789"), origin="made up", digest="d",
    )  # fmt: skip
    from lightning_modules.specs.catalogue import VGG_A

    recipe = Recipe(epochs=1, batch_size=BATCH, augmentation="shift-flip")
    setup = Setup(
        network=VGG_A, scale=Scale(resolution=32, channels=3, classes=10), recipe=recipe,
        data=Data(source="folder", validation_fraction=0.02),
    )  # fmt: skip
    data: Any = make_data_module(setup, examples, 0, torch.device(device))
    epochs = iter(range(1_000_000))

    def rate() -> float:
        def epoch() -> None:
            for _ in EpochLoader(data.train, recipe, 0, next(epochs)):
                pass

        return len(data.train) / timed(epoch)

    return rate


def main() -> None:
    """Seek the best number of workers, then measure both in turn."""
    options = asked(__doc__)
    torch.set_num_threads(1)  # as a trial on a CPU core
    with tempfile.TemporaryDirectory() as folder:
        pixels = write_cifar(Path(folder), FEW if options.smallest else IMAGES)
        rate, worth_a_try = ordinary(Path(folder), options.device)
        tried = {workers: round(rate(workers)) for workers in (worth_a_try[:1] if options.smallest else worth_a_try)}
        best = max(tried, key=lambda workers: tried[workers])
        print(f"images per second of a DataLoader, by workers: {tried}", flush=True)
        mine = ours(pixels, options.device)
        mine()
        rates = in_turn({"ours": mine, "DataLoader": lambda: rate(best)}, options.repeats)
    print({name: [round(value) for value in values] for name, values in rates.items()})
    found = ratio(rates["ours"], rates["DataLoader"])
    print(told(f"ours / DataLoader with {best} workers", found, GOALS[options.device]))
    kept = {"where": where(), "images_per_second": rates, "by_workers": tried, "best_workers": best, "ratio": found}
    keep("loader", kept, options)


if __name__ == "__main__":
    main()
