"""Claim: a whole study on two cores takes less than half the time of the same trials as ordinary Lightning.

Cost: half an hour on two cores; with ``--quick`` three minutes.
Command: ``python benchmarks/study.py [--quick] [--write]``.

Both train `depth` under the protocol `digits`, every arm under every seed, from the command to its end, including
imports. Ours is ``ablate run depth``: planned, paired, recorded in MLflow, with curves, gradient norms and
predictions. Ordinary is one script that trains the same networks one after another, with the same epochs, batches,
optimizer and schedule, as in Lightning's documentation: a ``Dataset`` of images with torchvision's transforms, a
``DataLoader``, ``self.log``, Lightning's own logger and checkpoints, all flags at their defaults. The clock starts
with the command and stops when the last metric is written: to MLflow's store here, to Lightning's log there.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _side_by_side import asked, in_turn, keep, ratio, told, where

GOAL = "2.2 or more"


def ordinary(seeds: int, folder: Path) -> None:
    """The script that one would write."""
    import pytorch_lightning as lightning
    import torch
    from torch.nn import functional
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    from lightning_modules.data.datasets import prepare_dataset, split_train_validation
    from lightning_modules.modules.lr_schedule import learning_rate_factor
    from lightning_modules.networks.initialization import build_initialized_network
    from lightning_modules.specs.data import Data
    from studies.design.declare import declare

    class Images(Dataset[Any]):
        """Images and labels, transformed one by one."""

        def __init__(self, images: Any, labels: Any, transform: Any) -> None:
            self.images, self.labels, self.transform = images, labels, transform

        def __len__(self) -> int:
            return len(self.labels)

        def __getitem__(self, place: int) -> Any:
            return self.transform(self.images[place]), int(self.labels[place])

    class Plain(lightning.LightningModule):
        """A network under a recipe."""

        def __init__(self, network: Any, recipe: Any, steps: int) -> None:
            super().__init__()
            self.network, self.recipe, self.steps = network, recipe, steps

        def forward(self, images: Any) -> Any:
            return self.network(images)

        def _step(self, batch: Any, part: str) -> Any:
            images, labels = batch
            logits = self(images)
            loss = functional.cross_entropy(logits, labels)
            self.log(f"{part}_loss", loss)
            self.log(f"{part}_error", 100 * (logits.argmax(1) != labels).float().mean())
            return loss

        def training_step(self, batch: Any, batch_index: int) -> Any:  # noqa: ARG002
            return self._step(batch, "train")

        def validation_step(self, batch: Any, batch_index: int) -> None:  # noqa: ARG002
            self._step(batch, "validation")

        def test_step(self, batch: Any, batch_index: int) -> None:  # noqa: ARG002
            self._step(batch, "test")

        def configure_optimizers(self) -> Any:
            recipe = self.recipe
            optimiser = torch.optim.SGD(
                self.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
            )
            schedule = torch.optim.lr_scheduler.LambdaLR(
                optimiser, lambda step: learning_rate_factor(recipe, step, self.steps)
            )
            return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    study = declare("depth", seeds=seeds)
    for fit in study.trials():
        setup, recipe, data = fit.setup, fit.setup.recipe, fit.setup.data
        assert isinstance(data, Data)
        lightning.seed_everything(fit.seed)
        examples = prepare_dataset(data, setup.scale, Path("unused"), folder / "cache")
        train, held = split_train_validation(examples.train_labels, data, fit.seed)
        side = setup.scale.resolution
        plain = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.3,), (0.35,))])
        moved = transforms.Compose([transforms.ToPILImage(), transforms.RandomCrop(side, padding=side // 8), plain])
        parts = (
            Images(examples.train_images[train], examples.train_labels[train], moved),
            Images(examples.train_images[held], examples.train_labels[held], plain),
            Images(examples.test_images, examples.test_labels, plain),
        )
        batches = [DataLoader(part, recipe.batch_size, shuffle=not number) for number, part in enumerate(parts)]
        network = build_initialized_network(setup.network, setup.scale, fit.seed)
        trainer = lightning.Trainer(
            max_epochs=recipe.epochs, default_root_dir=folder / fit.fingerprint, gradient_clip_val=recipe.clip_norm
        )
        module = Plain(network, recipe, recipe.epochs * len(batches[0]))
        trainer.fit(module, batches[0], batches[1])
        trainer.test(module, batches[2])


def run(line: list[str], folder: str, written: str) -> float:
    """Seconds from a command's start to the last write to the files of that pattern."""
    began = time.time()
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return max(file.stat().st_mtime for file in Path(folder).glob(written)) - began


def main() -> None:
    """Both in turn."""
    if sys.argv[1:2] == ["--ordinary"]:
        ordinary(int(sys.argv[2]), Path(sys.argv[3]))
        return
    options = asked(__doc__, repeats=5, quick=1)
    seeds = 2 if options.quick else 5  # the protocol's own
    found = measure(options, seeds)
    values = ratio(found["ordinary Lightning"], found["ablate run"])
    for name, seconds in found.items():
        print(f"{name:<20} {', '.join(f'{each:.0f}' for each in seconds)} s for {4 * seeds} trials")
    print(told("ordinary Lightning / ablate run", values, GOAL))
    keep("study", {"where": where(), "trials": 4 * seeds, "seconds": found, "ratio": values}, options)


def measure(options: argparse.Namespace, seeds: int) -> dict[str, list[float]]:
    """Seconds of each, every time in a fresh folder."""
    bare = [sys.executable, "-W", "ignore"]

    def ours() -> float:
        with tempfile.TemporaryDirectory() as folder:
            line = [*bare, "-m", "studies.cli", "run", "depth", "--seeds", str(seeds), "--runs", folder]
            return run(line, folder, "mlflow.db*")

    def theirs() -> float:
        with tempfile.TemporaryDirectory() as folder:
            return run([*bare, __file__, "--ordinary", str(seeds), folder], folder, "*/*logs/version_*/*")

    return in_turn({"ablate run": ours, "ordinary Lightning": theirs}, options.repeats)


if __name__ == "__main__":
    main()
