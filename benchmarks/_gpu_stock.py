"""An ordinary Lightning script, with a ``Dataset`` and worker processes, to compare a trial with."""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any

import numpy as np
import pytorch_lightning as lightning
import torch
from _gpu_sizes import BATCH, VALIDATION_FRACTION, Sizes, make_dataset
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from lightning_modules.networks.initialization import build_initialized_network
from lightning_modules.specs.catalogue import find_network


class StockDataset(Dataset[tuple[torch.Tensor, int]]):
    """Images and labels through torchvision's transforms, one image at a time."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: Any) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), int(self.labels[index])


class StockModule(lightning.LightningModule):
    """What most scripts look like: ``self.log`` in every step, SGD."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.epoch_ends: list[float] = []

    def shared_step(self, batch: tuple[torch.Tensor, torch.Tensor], stage: str) -> torch.Tensor:
        """Loss and error of a batch, logged."""
        images, labels = batch
        logits = self.network(images)
        loss = functional.cross_entropy(logits, labels)
        self.log(f"{stage}_loss", loss)
        self.log(f"{stage}_error", (logits.argmax(1) != labels).float().mean())
        return loss

    def training_step(self, batch: Any) -> torch.Tensor:
        """The loss of a training batch."""
        return self.shared_step(batch, "train")

    def validation_step(self, batch: Any) -> None:
        """Log a validation batch."""
        self.shared_step(batch, "validation")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with momentum."""
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)

    def on_train_epoch_end(self) -> None:
        """Note the time; Lightning validates before it calls this."""
        self.epoch_ends.append(time.perf_counter())


def measure_stock(sizes: Sizes) -> list[dict[str, Any]]:
    """Seconds per epoch of VGG-D, validation included, by the number of loading processes."""
    cores = len(os.sched_getaffinity(0))
    rows = []
    for workers in (0,) if sizes.smallest else sorted({max(1, cores // 2), max(1, cores - 1)}):
        fit = fit_stock("vgg-d", sizes, workers)
        rows.append({"network": "vgg-d", "workers": workers, "epoch_seconds": fit["epoch_seconds"]})
        print(f"stock    vgg-d      {workers:3} loading processes {fit['epoch_seconds']:8.2f} s an epoch, "
              "validation included", flush=True)  # fmt: skip
    return rows


def fit_stock(name: str, sizes: Sizes, workers: int) -> dict[str, float]:
    """Fit a network by an ordinary Lightning script; seconds of an epoch, and all seconds beside its epochs."""
    from torchvision import transforms

    began = time.perf_counter()

    dataset = make_dataset(sizes.num_images)
    split = int((1 - VALIDATION_FRACTION) * sizes.num_images)
    normalize = transforms.Normalize((0.5,) * 3, (0.25,) * 3)
    augmented = transforms.Compose(
        [transforms.ToPILImage(), transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(),
         transforms.ToTensor(), normalize]
    )  # fmt: skip
    plain = transforms.Compose([transforms.ToTensor(), normalize])
    training = StockDataset(dataset.train_images[:split], dataset.train_labels[:split], augmented)
    validation = StockDataset(dataset.train_images[split:], dataset.train_labels[split:], plain)
    options: dict[str, Any] = {
        "num_workers": workers, "pin_memory": sizes.on_gpu, "persistent_workers": workers > 0
    }  # fmt: skip
    module = StockModule(build_initialized_network(find_network(name), sizes.scale(), seed=0))
    with tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(
            max_epochs=2 if sizes.smallest else 3,
            accelerator="gpu" if sizes.on_gpu else "cpu",
            precision="bf16-mixed",
            gradient_clip_val=1.0,
            default_root_dir=folder,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
        )
        trainer.fit(
            module,
            DataLoader(training, BATCH, shuffle=True, **options),
            DataLoader(validation, BATCH, **options),
        )
    epoch_seconds = float(min(np.diff(module.epoch_ends)))
    whole_seconds = time.perf_counter() - began
    return {
        "epoch_seconds": epoch_seconds,
        "fixed_seconds": max(0.0, whole_seconds - len(module.epoch_ends) * epoch_seconds),
    }
