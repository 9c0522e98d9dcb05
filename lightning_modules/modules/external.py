"""Observe a user's ``LightningModule`` that trains itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import nn
from torch.nn.utils import get_total_norm

from lightning_modules.distributed import Batch
from lightning_modules.modules.gradient_norms import LAYER_GRADIENT_STEPS, GradientNorms
from lightning_modules.modules.metrics import RunningMetrics
from lightning_modules.networks.memory_layout import MemoryLayout, set_layout
from lightning_modules.user_code.trainer import running_stage


class ExternalTrainable(lightning.Callback):
    """Record the metrics of a module's own training.

    It is a :class:`lightning_modules.modules.trainable.Trainable`.

    The loss is what its ``training_step`` returns, if it does; its training error cannot be known.
    """

    def __init__(self, module: lightning.LightningModule, layout: MemoryLayout = "channels-last") -> None:
        self.module, self.layout = module, layout
        if layout == "contiguous":
            set_layout(module, layout)  # for evaluations; the weights of the other layout stay as the user made them
        self.metrics = RunningMetrics(torch.device("cpu"))
        self.gradient_norms = GradientNorms(module, torch.device("cpu"))
        self.learning_rate = float("nan")

    @property
    def network(self) -> nn.Module:
        """The whole module."""
        return self.module

    @property
    def callbacks(self) -> tuple[lightning.Callback, ...]:
        """The callback that records: this object."""
        return (self,)

    @property
    def num_steps(self) -> int:
        """Steps of all its optimizers in this epoch."""
        return self.metrics.num_steps

    def seed_dropout(self, seed: int) -> None:
        """Do nothing: the module draws from the process's generators."""

    def transfer_batches(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Apply the module's transfer hooks, as the trainer does to the batches of its own loops."""
        module = self.module
        for loaded in batches:
            with running_stage(module._trainer, "val"):
                batch = module.on_before_batch_transfer(loaded, 0)
                batch = module.transfer_batch_to_device(batch, module.device, 0)
                images, labels = module.on_after_batch_transfer(batch, 0)
            yield images, labels

    def observe_validation_error(self, error: float) -> None:
        """Ignore the error: the module has a schedule of its own."""

    def epoch_metrics(self) -> Mapping[str, float]:
        """Return loss, learning rate and gradient norms by name.

        The loss only if steps returned one.
        """
        loss = {"train_loss": self.metrics.mean_loss} if self.metrics.num_examples else {}
        norms = self.gradient_norms.mean_norms(self.metrics.num_steps)
        return {**loss, "learning_rate": self.learning_rate, **norms}

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Reset the metrics."""
        self.metrics = RunningMetrics(pl_module.device)
        self.gradient_norms = GradientNorms(self.module, pl_module.device)

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Record gradient norms, before clipping, and the learning rate.

        The rate is that of the first optimizer's first group.
        """
        gradients: list[torch.Tensor] = []
        for group in optimizer.param_groups:
            gradients += [parameter.grad for parameter in group["params"] if parameter.grad is not None]
        total = get_total_norm(gradients)
        if self.metrics.num_steps < LAYER_GRADIENT_STEPS:
            self.gradient_norms.list_parameters(self.module)  # the module may have replaced some
            self.gradient_norms.add_step(total)
        else:
            self.gradient_norms.add_total(total)
        self.metrics.num_steps += 1
        groups = trainer.optimizers[0].param_groups
        self.learning_rate = (
            float(groups[0]["lr"]) if groups else math.nan
        )  # no group where the module has no optimizer

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Record the loss that the step returned, if it did."""
        # Lightning hands on what `training_step` returned as a dictionary, whatever its form.
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else None
        if isinstance(loss, torch.Tensor):
            self.metrics.update_loss(loss, len(batch[1]))
