"""Claim: the whole stack costs at most 3 % more per epoch than a bare PyTorch loop with the same kernels.

Cost: six minutes on two cores. Command: ``python benchmarks/overhead.py [--quick] [--device cuda] [--write]``.

Both train VGG-D on the same synthetic 32 x 32 images (an eighth of its width on a CPU, full width on a GPU) from the
same weights, batch by batch, and validate after every epoch. The stack is that of one trial: Lightning's trainer,
curves, gradient norms, evidence, heartbeats, a checkpoint every fifteen seconds. The bare loop has none of these. At
the end both must have the same weights, bit for bit; otherwise nothing is printed.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _side_by_side import asked, in_turn, keep, ratio, timed, told, where
from torch import nn
from torch.nn import functional

from lightning_modules.data.datamodule import EpochLoader
from lightning_modules.data.inventory import make_data_module
from lightning_modules.data.types import InMemoryDataset
from lightning_modules.modules.lr_schedule import learning_rate_factor
from lightning_modules.networks.initialization import build_initialized_network
from lightning_modules.rng import seed_everything, seeded_generator
from lightning_modules.specs.catalogue import VGG_D
from lightning_modules.specs.data import Data
from lightning_modules.specs.recipe import Recipe
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.setup import Setup
from studies.design.trial import Trial
from studies.hardware import Machine
from studies.training.train import train_trial

SEED, GOAL = 0, "1.03 or less"
IMAGES, QUICK, SMALLEST = {"cpu": 12_000, "cuda": 50_000}, {"cpu": 4_000, "cuda": 50_000}, 300
DIGESTS = {"data": "d", "code": "c", "platform": "p"}


def made_up(images: int, resolution: int = 32) -> InMemoryDataset:
    """Random images of ten classes; their arithmetic is that of real ones."""
    random = np.random.default_rng(0)

    def pixels(count: int) -> np.ndarray:
        return random.integers(0, 256, (count, resolution, resolution, 3), dtype=np.uint8)

    def labels(count: int) -> np.ndarray:
        return np.arange(count, dtype=np.int64) % 10

    tested = images // 10
    return InMemoryDataset(
        train_images=pixels(images), train_labels=labels(images), test_images=pixels(tested),
        test_labels=labels(tested), class_names=tuple("0123456789"), origin="made up", digest="d",
    )  # fmt: skip


def setup_for(device: str, epochs: int) -> Setup:
    """VGG-D as the device can take it."""
    width = 0.125 if device == "cpu" else 1.0
    return Setup(
        network=VGG_D,
        scale=Scale(resolution=32, channels=3, classes=10, width=width),
        recipe=Recipe(epochs=epochs, batch_size=128, learning_rate=0.01, augmentation="shift-flip", clip_norm=1.0),
        data=Data(source="folder", validation_fraction=0.1),
    )


def stack(setup: Setup, examples: InMemoryDataset, device: str) -> tuple[float, dict[str, torch.Tensor]]:
    """Seconds of the epochs, from the first one's start to the last one's end, and the weights."""
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        fit = Trial(arm="D", setup=setup, seed=SEED)
        result = train_trial(
            fit, examples, Path(folder), digests=DIGESTS, machine=Machine(device=device),
            on_epoch=lambda values: ends.append(values["time"]),
        )  # fmt: skip
        assert result.status != "failed", result.error
        weights = torch.load(Path(folder) / "weights.pt", weights_only=True, map_location="cpu")
    # The first epoch warms up; those that are timed follow it.
    return (ends[-1] - ends[0]) / (len(ends) - 1), weights


def bare(setup: Setup, examples: InMemoryDataset, device: str) -> tuple[float, dict[str, torch.Tensor]]:
    """The same epochs in a loop."""
    recipe, there = setup.recipe, torch.device(device)
    torch.use_deterministic_algorithms(device == "cuda", warn_only=True)
    data: Any = make_data_module(setup, examples, SEED, there)
    network = (
        build_initialized_network(setup.network, setup.scale, SEED).to(there).to(memory_format=torch.channels_last)
    )
    weights = [parameter for parameter in network.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in network.parameters() if parameter.dim() <= 1]
    groups = [{"params": weights, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum)
    total = recipe.epochs * len(EpochLoader(data.train, recipe, SEED, 0))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(recipe, step, total))

    def one(epoch: int) -> None:
        seed_everything(seeded_generator(SEED, "dropout", epoch))
        network.train()
        for images, labels in EpochLoader(data.train, recipe, SEED, epoch):
            optimizer.zero_grad()
            torch.autograd.backward(functional.cross_entropy(network(images), labels))
            nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
            optimizer.step()
            schedule.step()
        network.eval()
        with torch.no_grad():
            losses = [
                functional.cross_entropy(network(images), labels)
                for images, labels in data.validation.evaluation_batches()
            ]
            torch.stack(losses).mean().item()

    def further() -> None:
        for epoch in range(1, recipe.epochs):
            one(epoch)

    one(0)
    seconds = timed(further) / (recipe.epochs - 1)
    return seconds, {name: tensor.cpu() for name, tensor in network.state_dict().items()}


def main() -> None:
    """Measure both in turn."""
    options = asked(__doc__)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(1)  # as a trial on a CPU core
    examples = made_up(SMALLEST if options.smallest else (QUICK if options.quick else IMAGES)[options.device])
    setup = setup_for(options.device, epochs=2 if options.smallest else 3 if options.quick else 5)
    final: dict[str, dict[str, torch.Tensor]] = {}

    def arm(name: str, work: Any) -> Any:
        def once() -> float:
            seconds, final[name] = work(setup, examples, options.device)
            return float(seconds)

        return once

    seconds = in_turn({"stack": arm("stack", stack), "bare loop": arm("bare loop", bare)}, options.repeats)
    same = all(torch.equal(final["stack"][name], tensor) for name, tensor in final["bare loop"].items())
    assert same, "the two did not come to the same weights: they are not comparable"
    found = ratio(seconds["stack"], seconds["bare loop"])
    print(told("whole stack / bare loop, per epoch", found, GOAL))
    keep("overhead", {"where": where(), "seconds_per_epoch": seconds, "ratio": found, "same_weights": same}, options)


if __name__ == "__main__":
    main()
