"""The script that one would write with Lightning for the study `depth`; ``benchmarks/study.py`` compares with it.

Command: ``python benchmarks/_ordinary_study.py SEEDS FOLDER``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

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
from studies.design.trial import Trial


class Images(Dataset[Any]):
    """Images and labels, transformed one by one."""

    def __init__(self, images: Any, labels: Any, transform: Any) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Any:
        return self.transform(self.images[index]), int(self.labels[index])


class Plain(lightning.LightningModule):
    """A network under a recipe."""

    def __init__(self, network: Any, recipe: Any, steps: int) -> None:
        super().__init__()
        self.network, self.recipe, self.steps = network, recipe, steps

    def forward(self, images: Any) -> Any:
        """The network's logits."""
        return self.network(images)

    def _step(self, batch: Any, part: str) -> Any:
        images, labels = batch
        logits = self(images)
        loss = functional.cross_entropy(logits, labels)
        self.log(f"{part}_loss", loss)
        self.log(f"{part}_error", 100 * (logits.argmax(1) != labels).float().mean())
        return loss

    def training_step(self, batch: Any, batch_index: int) -> Any:  # noqa: ARG002
        """The loss of a training batch."""
        return self._step(batch, "train")

    def validation_step(self, batch: Any, batch_index: int) -> None:  # noqa: ARG002
        """Log a validation batch."""
        self._step(batch, "validation")

    def test_step(self, batch: Any, batch_index: int) -> None:  # noqa: ARG002
        """Log a test batch."""
        self._step(batch, "test")

    def configure_optimizers(self) -> Any:
        """SGD under the recipe's schedule."""
        recipe = self.recipe
        optimizer = torch.optim.SGD(
            self.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(recipe, step, self.steps)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def load_batches(trial: Trial, cache: Path) -> list[DataLoader[Any]]:
    """Batches to train on, to validate on and to test on."""
    setup, data = trial.setup, trial.setup.data
    assert isinstance(data, Data)
    examples = prepare_dataset(data, setup.scale, Path("unused"), cache)
    train, held = split_train_validation(examples.train_labels, data, trial.seed)
    side = setup.scale.resolution
    plain = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.3,), (0.35,))])
    moved = transforms.Compose([transforms.ToPILImage(), transforms.RandomCrop(side, padding=side // 8), plain])
    parts = (
        Images(examples.train_images[train], examples.train_labels[train], moved),
        Images(examples.train_images[held], examples.train_labels[held], plain),
        Images(examples.test_images, examples.test_labels, plain),
    )
    return [DataLoader(part, setup.recipe.batch_size, shuffle=not number) for number, part in enumerate(parts)]


def main() -> None:
    """Train the study's trials, one after another."""
    seeds, folder = int(sys.argv[1]), Path(sys.argv[2])
    for trial in declare("depth", seeds=seeds).trials():
        setup, recipe = trial.setup, trial.setup.recipe
        lightning.seed_everything(trial.seed)
        train, validation, test = load_batches(trial, folder / "cache")
        network = build_initialized_network(setup.network, setup.scale, trial.seed)
        trainer = lightning.Trainer(
            max_epochs=recipe.epochs, default_root_dir=folder / trial.fingerprint, gradient_clip_val=recipe.clip_norm
        )
        module = Plain(network, recipe, recipe.epochs * len(train))
        trainer.fit(module, train, validation)
        trainer.test(module, test)


if __name__ == "__main__":
    main()
