"""Whole epochs of a classifier at 224 pixels, from JPEG files and from images in the device's memory."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from _side_by_side import timed
from jpeg import CLASSES, USUAL, write_photographs

from lightning_modules.data.datamodule import DataSplit, EpochLoader
from lightning_modules.data.normalization import PixelNormalization
from lightning_modules.data.streaming import ImageFileSplit
from lightning_modules.data.trial_data import AugmentableSplit
from lightning_modules.modules.classifier import Classifier
from lightning_modules.modules.step_rates import make_sgd
from lightning_modules.modules.trainable import make_trainable
from lightning_modules.specs.catalogue import find_network
from lightning_modules.specs.data import Data
from lightning_modules.specs.recipe import Recipe
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.setup import Setup

FILES = 128  # each read several times in an epoch: the files lie in the system's cache all the same
RESOLUTION = 224
GRAY_MEAN, GRAY_STD = 128.0, 64.0


def images_per_second(
    name: str, *, batch_size: int, num_batches: int, width: float, device: torch.device, repeats: int
) -> dict[str, float]:
    """Images per second of whole epochs, ``files`` and ``memory``: the best of the repeats."""
    recipe = Recipe(
        epochs=1, batch_size=batch_size, learning_rate=1e-3, precision="bfloat16", augmentation="crop-flip-colour",
        side_from=8 / 7, side_to=16 / 7,
    )  # fmt: skip
    scale = Scale(resolution=RESOLUTION, channels=3, classes=CLASSES, width=width)
    num_images = batch_size * num_batches
    with tempfile.TemporaryDirectory() as folder:
        rates = {}
        for kind, split in _make_splits(Path(folder), scale, num_images, device).items():
            setup = Setup(network=find_network(name), scale=scale, recipe=recipe, data=Data(source="folder"))
            seconds = min(_epoch_seconds(setup, split, num_batches, device, repeats))
            rates[kind] = num_images / seconds
    return rates


def _make_splits(folder: Path, scale: Scale, num_images: int, device: torch.device) -> Mapping[str, AugmentableSplit]:
    write_photographs(folder, min(FILES, num_images), USUAL)
    files = sorted((folder / "train").rglob("*.jpg"))
    files = [files[index % len(files)] for index in range(num_images)]
    labels = np.arange(num_images, dtype=np.int64) % CLASSES
    mean, std = np.full(scale.channels, GRAY_MEAN), np.full(scale.channels, GRAY_STD)
    normalization = PixelNormalization.on_device(mean, std, np.zeros((scale.channels, scale.channels)), device)
    shape = (num_images, RESOLUTION, RESOLUTION, scale.channels)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    memory = DataSplit(images, torch.from_numpy(labels).to(device), normalization.mean, normalization.std)
    return {"memory": memory, "files": ImageFileSplit(files, labels, scale, normalization, 0, device)}


def _epoch_seconds(
    setup: Setup, split: AugmentableSplit, num_batches: int, device: torch.device, repeats: int
) -> list[float]:
    """Seconds of some epochs, after one that captures the steps."""
    stream = torch.cuda.stream(torch.cuda.Stream()) if device.type == "cuda" else nullcontext()  # type: ignore[no-untyped-call]
    with stream:
        module = make_trainable(setup, seed=0).module
        assert isinstance(module, Classifier)
        module.to(device).train()
        module.prepare_steps(make_sgd(module.all_parameters, setup.recipe), num_batches)

        def train(epoch: int) -> None:
            module.begin_epoch(0)
            module.training_step(EpochLoader(split, setup.recipe, 0, epoch), 0)

        train(0)
        seconds = [timed(lambda epoch=epoch: train(epoch)) for epoch in range(1, 1 + repeats)]  # type: ignore[misc]
        if module.why_not_captured:
            print(f"the steps were not captured: {module.why_not_captured}")
    return seconds
