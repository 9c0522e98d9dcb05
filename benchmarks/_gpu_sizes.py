"""How much the benchmarks of a GPU measure, on which images, and how a call is timed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from _side_by_side import timed

from lightning_modules.data.types import InMemoryDataset
from lightning_modules.specs.scale import Scale

NETWORKS = ("vgg-a", "vgg-d", "resnet-20", "resnet-56")
LARGE_NETWORKS = ("vgg-a", "vgg-d", "resnet-50")
BATCH = 128
CLASSES = 10
VALIDATION_FRACTION = 0.1

Step = Callable[[], object]


class Sizes:
    """How much is measured: on a GPU the real thing, with ``--smallest`` just enough to show that a part runs."""

    def __init__(self, device: str, *, smallest: bool) -> None:
        self.device, self.smallest = device, smallest
        self.on_gpu = device == "cuda"
        self.num_images = 600 if smallest else 50_000
        self.width = 0.0625 if smallest else 1.0
        self.networks = NETWORKS[:1] if smallest else NETWORKS
        self.bundle_sizes = (1, 2) if smallest else (1, 4, 5)
        self.large_networks = LARGE_NETWORKS[:1] if smallest else LARGE_NETWORKS
        self.large_batch = 1 if smallest else 256
        self.epochs = 2 if smallest else 4
        self.steps = 1 if smallest else 20
        self.matrix_side = 8192 if self.on_gpu else 512

    def scale(self, pixels: int = 32, classes: int = CLASSES) -> Scale:
        """Color images of this side, networks of this width."""
        return Scale(resolution=pixels, channels=3, classes=classes, width=self.width)


def seconds_per_call(work: Step, count: int, repeats: int = 3) -> float:
    """The shortest mean time of ``count`` calls over the repeats."""

    def several() -> None:
        for _ in range(count):
            work()

    return min(timed(several) / count for _ in range(repeats))


def make_dataset(num_images: int) -> InMemoryDataset:
    """Random images of CIFAR-10's shape; a fifth as many to test on."""
    random = np.random.default_rng(0)
    num_test = num_images // 5
    return InMemoryDataset(
        train_images=random.integers(0, 256, (num_images, 32, 32, 3), dtype=np.uint8),
        train_labels=np.arange(num_images, dtype=np.int64) % CLASSES,
        test_images=random.integers(0, 256, (num_test, 32, 32, 3), dtype=np.uint8),
        test_labels=np.arange(num_test, dtype=np.int64) % CLASSES,
        class_names=tuple(map(str, range(CLASSES))),
        origin="made up",
        digest="made up",
    )
