"""A foreign ``LightningModule`` at its own training, watched from outside: nothing of what it does is changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import nn
from torch.nn.utils import get_total_norm

from lightning_modules.sharing import Batch
from lightning_modules.tally import Tally


class SelfTraining(lightning.Callback):
    """Counts what can be seen of a module's training. It is a :class:`lightning_modules.learner.Learner`.

    Its loss is what its ``training_step`` returns, where that returns one; its training error cannot be known.
    """

    def __init__(self, module: lightning.LightningModule) -> None:
        self.module = module
        self.tally = Tally(torch.device("cpu"))
        self.learning_rate = float("nan")

    @property
    def network(self) -> nn.Module:
        """The module, all of it."""
        return self.module

    @property
    def watchers(self) -> tuple[lightning.Callback, ...]:
        """Itself."""
        return (self,)

    @property
    def steps(self) -> int:
        """Of its optimisers in this epoch."""
        return self.tally.steps

    def validated(self, error: float) -> None:
        """Nothing: the module's schedule is its own."""

    def curves(self) -> Mapping[str, float]:
        """Loss, rate and gradient norms; the loss only where batches told one."""
        loss = {"train_loss": self.tally.mean_loss} if self.tally.examples else {}
        return {**loss, "learning_rate": self.learning_rate, **self.tally.gradients}

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin a fresh tally."""
        self.tally = Tally(pl_module.device)

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Count the gradient, before any clipping; note the rate of the first optimiser's first group."""
        parameters = [each for group in optimizer.param_groups for each in group["params"]]
        self.tally.add_layers(self.module)
        self.tally.add_gradient(get_total_norm([each.grad for each in parameters if each.grad is not None]))
        self.learning_rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Count the loss that the step returned, if it did."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else None
        if isinstance(loss, torch.Tensor):
            self.tally.add_loss(loss, len(batch[1]))
