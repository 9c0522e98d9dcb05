"""The classifier as a ``LightningModule``: cross-entropy, SGD under a warmed-up schedule, counts kept on the device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import nn
from torch.nn import functional

from lightning_modules.sharing import Batch, Share, shared
from lightning_modules.spec import Recipe
from lightning_modules.tally import Tally, outputs

MOST_DIVISIONS = 3  # of the rate, by ten, under the schedule ``plateau`` (Simonyan & Zisserman 2015, Sect. 3.1)


class Classifier(lightning.LightningModule):
    """A network under a recipe. It is a :class:`lightning_modules.learner.Learner`.

    With other workers, a step has the loss and the gradient of the global batch, and so has every curve.

    Attributes:
        auxiliary_weight: what the losses of auxiliary heads count; at 0, further outputs are ignored.
    """

    def __init__(
        self, network: nn.Module, recipe: Recipe, auxiliary_weight: float = 0.0, share: Share | None = None
    ) -> None:
        super().__init__()
        self.recipe, self.auxiliary_weight, self.share = recipe, auxiliary_weight, share or Share()
        self.network = shared(network, self.share).to(memory_format=torch.channels_last)
        self.all_parameters = list(self.network.parameters())  # to look for them takes a hundredth of a small step
        self.tally = Tally(torch.device("cpu"))
        self.plateau = Plateau(recipe.patience)
        self.total, self.further = 0, list[Batch]()

    @property
    def module(self) -> Classifier:
        """Itself."""
        return self

    @property
    def watchers(self) -> tuple[lightning.Callback, ...]:
        """None: it counts for itself."""
        return ()

    @property
    def steps(self) -> int:
        """Of the optimiser in this epoch."""
        return self.tally.steps

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``(batch, classes)`` of images ``(batch, channels, height, width)``."""
        return self._outputs(images)[0]

    def _outputs(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Logits, and those of auxiliary heads where the network has any in this mode."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            return outputs(self.network(images))

    def on_train_epoch_start(self) -> None:
        """Begin a fresh tally."""
        self.tally = Tally(self.device)

    def training_step(self, batch: Batch, batch_index: int) -> torch.Tensor:  # noqa: ARG002 - Lightning's signature
        """This worker's part of the mean cross-entropy of a batch, nats, with the weighted ones of auxiliary heads."""
        images, labels = batch
        self.total, mine = len(labels), self.share.begin(len(labels))
        (images, labels), *self.further = self._parts(images, labels[mine])
        return self._loss(images, labels, self.total)

    def _parts(self, images: torch.Tensor, labels: torch.Tensor) -> list[Batch]:
        """What gradients are computed of at once: all of it, or parts of the recipe's ``microbatch``."""
        size = self.recipe.microbatch
        if not 0 < size < len(labels):
            return [(images, labels)]
        return list(zip(torch.split(images, size), torch.split(labels, size), strict=True))

    def _loss(self, images: torch.Tensor, labels: torch.Tensor, total: int) -> torch.Tensor:
        """The part of the mean over ``total`` examples that some of them have in the loss; they are counted."""
        logits, *further = self._outputs(images)
        loss = self._part_of_mean(logits, labels, total)
        self.tally.add(loss, logits, labels, mean_over=total)
        for auxiliary in further if self.auxiliary_weight > 0 else ():
            loss = loss + self.auxiliary_weight * self._part_of_mean(auxiliary, labels, total)
        return loss

    def _part_of_mean(self, logits: torch.Tensor, labels: torch.Tensor, total: int) -> torch.Tensor:
        if self.share.alone and len(labels) == total:
            return functional.cross_entropy(logits, labels)
        return functional.cross_entropy(logits, labels, reduction="sum") / total

    def backward(self, loss: torch.Tensor, *_: Any, **__: Any) -> None:
        """The gradient of the batch: of its first part, whose loss the step gave; then of each further one."""
        loss.backward()  # type: ignore[no-untyped-call]
        for images, labels in self.further:
            self._loss(images, labels, self.total).backward()  # type: ignore[no-untyped-call]
        self.further = []

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """Bring the workers' gradients together; clip the global norm where the recipe says so, and count it anyway."""
        self.share.add_up_gradients(self.all_parameters)
        self.tally.add_layers(self.network)
        norm = nn.utils.clip_grad_norm_(self.all_parameters, self.recipe.clip_norm or math.inf)
        self.tally.add_gradient(norm)

    def optimizer_zero_grad(self, *_: Any, **__: Any) -> None:
        """Forget the gradient, as the optimiser would, which takes longer."""
        for each in self.all_parameters:
            each.grad = None

    def configure_optimizers(self) -> Any:
        """SGD with momentum; weight decay on weights, not on biases; one schedule step per batch."""
        weights = [parameter for parameter in self.all_parameters if parameter.dim() > 1]
        others = [parameter for parameter in self.all_parameters if parameter.dim() <= 1]
        optimiser = torch.optim.SGD(
            [{"params": weights, "weight_decay": self.recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=self.recipe.learning_rate,
            momentum=self.recipe.momentum,
        )
        total = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: self._rate_factor(step, total))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def curves(self) -> dict[str, float]:
        """What training gave in the epoch that ends; the rate is that of its last step."""
        last, total = self.trainer.global_step - 1, int(self.trainer.estimated_stepping_batches)
        self.tally.add_up(self.share)
        return {
            "train_loss": self.tally.mean_loss,
            "train_error": self.tally.error,
            "learning_rate": self.recipe.learning_rate * self._rate_factor(last, total),
            **self.tally.gradients,
        }

    def _rate_factor(self, step: int, total: int) -> float:
        return rate_factor(self.recipe, step, total, self.plateau.divisions)

    def validated(self, error: float) -> None:
        """Divide the rate, from the next step on, where the schedule follows the validation error, in percent."""
        if self.recipe.schedule != "plateau" or not self.plateau.has_come(error):
            return
        self.plateau.divide()
        schedule: Any = self.lr_schedulers()
        for group, factor in zip(schedule.optimizer.param_groups, schedule.lr_lambdas, strict=True):
            group["lr"] = group["initial_lr"] * factor(schedule.last_epoch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the schedule knows of the validation error."""
        checkpoint["plateau"] = vars(self.plateau)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The inverse of :meth:`on_save_checkpoint`."""
        self.plateau = Plateau(**checkpoint["plateau"])


@dataclass
class Plateau:
    """Whether an error has stopped to improve: it was not below its least for so many epochs.

    Attributes:
        patience: epochs.
        least: error so far since the beginning.
        waited: epochs since the least one, or since the rate was divided.
        divisions: of the rate so far.
    """

    patience: int
    least: float = math.inf
    waited: int = 0
    divisions: int = 0

    def has_come(self, error: float) -> bool:
        """Take in an epoch's error; whether the rate is to be divided now."""
        self.waited = 0 if error < self.least else self.waited + 1
        self.least = min(self.least, error)
        return self.waited >= self.patience and self.divisions < MOST_DIVISIONS

    def divide(self) -> None:
        """Count a division, and wait anew."""
        self.waited, self.divisions = 0, self.divisions + 1


def rate_factor(recipe: Recipe, step: int, total: int, divisions: int = 0) -> float:
    """The share of the peak learning rate at a step: a linear rise, then the recipe's schedule.

    Args:
        divisions: by ten, so far, of the schedule ``plateau``.
    """
    warmup = round(total * recipe.warmup)
    if step < warmup:
        return (step + 1) / warmup
    if recipe.schedule == "constant":
        return 1.0
    if recipe.schedule == "plateau":
        return 10.0**-divisions
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
