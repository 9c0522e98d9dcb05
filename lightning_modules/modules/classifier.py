"""The LightningModule: cross-entropy and SGD under a recipe."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import nn
from torch.nn import functional

from lightning_modules.distributed import Batch, DataParallelRank, synchronize_layers
from lightning_modules.modules.lr_schedule import Plateau, learning_rate_factor
from lightning_modules.modules.metrics import RunningMetrics
from lightning_modules.networks.memory_layout import MemoryLayout, set_layout
from lightning_modules.networks.outputs import extract_logits
from lightning_modules.specs.recipe import Recipe


class Classifier(lightning.LightningModule):
    """Train a network under a recipe.

    It is a :class:`lightning_modules.modules.trainable.Trainable`.

    With several workers, every step has the loss and the gradient of the global batch, and so has every curve.

    Attributes:
        auxiliary_weight: factor of the auxiliary heads' losses; at 0, further outputs are ignored.
        pending_microbatches: the batch's further microbatches, whose gradients :meth:`backward` adds.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        auxiliary_weight: float = 0.0,
        dp_rank: DataParallelRank | None = None,
        layout: MemoryLayout = "channels-last",
    ) -> None:
        super().__init__()
        self.recipe, self.auxiliary_weight, self.dp_rank = recipe, auxiliary_weight, dp_rank or DataParallelRank()
        self.layout: MemoryLayout = "channels-last"  # of the batches: a network of the other layout copies them itself
        self.network = set_layout(synchronize_layers(network, self.dp_rank), layout)
        self.all_parameters = list(self.network.parameters())  # collecting them takes 1 % of a small network's step
        self.metrics = RunningMetrics(torch.device("cpu"))
        self.plateau = Plateau(recipe.patience)
        self.global_batch_size, self.pending_microbatches = 0, list[Batch]()

    @property
    def module(self) -> Classifier:
        """The module that is trained: this one."""
        return self

    @property
    def callbacks(self) -> tuple[lightning.Callback, ...]:
        """No callbacks: the module keeps its own metrics."""
        return ()

    @property
    def num_steps(self) -> int:
        """Steps of the optimizer in this epoch."""
        return self.metrics.num_steps

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images to logits ``(batch, classes)``.

        Images are ``(batch, channels, height, width)``.
        """
        return self._forward_logits(images)[0]

    def _forward_logits(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the logits, then those of auxiliary heads, if any."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            return extract_logits(self.network(images))

    def on_train_epoch_start(self) -> None:
        """Reset the metrics."""
        self.metrics = RunningMetrics(self.device)

    def training_step(self, batch: Batch, batch_index: int) -> torch.Tensor:  # noqa: ARG002 - Lightning's signature
        """Return this rank's term of the batch's mean loss, nats.

        The loss is the cross-entropy, with weighted terms of auxiliary heads.

        Of a batch in microbatches, it is the term of the first one.
        """
        images, global_labels = batch
        self.global_batch_size = len(global_labels)
        local_slice = self.dp_rank.begin_global_batch(len(global_labels))
        microbatches = self._split_microbatches(images, global_labels[local_slice])
        (images, labels), *self.pending_microbatches = microbatches
        return self._compute_loss(images, labels, self.global_batch_size)

    def _split_microbatches(self, images: torch.Tensor, labels: torch.Tensor) -> list[Batch]:
        """Split the rank's share of a batch into microbatches.

        A recipe's ``microbatch`` of 0 leaves it whole.
        """
        sizes = list(self.recipe.microbatch_sizes(len(labels)))
        if len(sizes) == 1:
            return [(images, labels)]
        return list(zip(torch.split(images, sizes), torch.split(labels, sizes), strict=True))

    def _compute_loss(self, images: torch.Tensor, labels: torch.Tensor, global_batch_size: int) -> torch.Tensor:
        """Return some examples' term of the mean loss; update the metrics."""
        logits, *auxiliary_logits = self._forward_logits(images)
        loss = self._partial_mean_loss(logits, labels, global_batch_size)
        self.metrics.update(loss, logits, labels, loss_denominator=global_batch_size)
        if self.auxiliary_weight > 0:
            for head_logits in auxiliary_logits:
                loss = loss + self.auxiliary_weight * self._partial_mean_loss(head_logits, labels, global_batch_size)
        return loss

    def _partial_mean_loss(self, logits: torch.Tensor, labels: torch.Tensor, global_batch_size: int) -> torch.Tensor:
        """Return the examples' summed loss divided by the global batch size."""
        if self.dp_rank.is_single_worker and len(labels) == global_batch_size:
            return functional.cross_entropy(logits, labels)
        # Terms of one mean, whose sum over microbatches and ranks is the global batch's, however unequal they are.
        return functional.cross_entropy(logits, labels, reduction="sum") / global_batch_size

    def backward(self, loss: torch.Tensor, *_: Any, **__: Any) -> None:
        """Accumulate the batch's gradient.

        First of the loss that the step returned, then of each further microbatch.
        """
        loss.backward()  # type: ignore[no-untyped-call]
        for images, labels in self.pending_microbatches:
            # Each forward only after the backward before it: one microbatch's activations are held at a time.
            self._compute_loss(images, labels, self.global_batch_size).backward()  # type: ignore[no-untyped-call]
        self.pending_microbatches = []

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """Add up the ranks' gradients and clip the global norm.

        The norm is recorded whether or not the recipe clips it.
        """
        self.dp_rank.all_reduce_gradients(self.all_parameters)
        self.metrics.update_layer_gradients(self.network)
        norm = nn.utils.clip_grad_norm_(self.all_parameters, self.recipe.clip_norm or math.inf)  # inf: only measured
        self.metrics.update_gradient_norm(norm)

    def optimizer_zero_grad(self, *_: Any, **__: Any) -> None:
        """Drop the gradients, faster than the optimizer's own method."""
        for parameter in self.all_parameters:
            parameter.grad = None

    def configure_optimizers(self) -> Any:
        """Make SGD with momentum, and a schedule that steps once per batch.

        Only weights are decayed.
        """
        # Biases and the scales of normalization layers have one dimension, and are not decayed.
        weights = [parameter for parameter in self.all_parameters if parameter.dim() > 1]
        biases_and_scales = [parameter for parameter in self.all_parameters if parameter.dim() <= 1]
        optimizer = torch.optim.SGD(
            [
                {"params": weights, "weight_decay": self.recipe.weight_decay},
                {"params": biases_and_scales, "weight_decay": 0.0},
            ],
            lr=self.recipe.learning_rate,
            momentum=self.recipe.momentum,
        )
        total_steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: self._learning_rate_factor(step, total_steps)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def epoch_metrics(self) -> dict[str, float]:
        """Return the epoch's training metrics by name.

        The learning rate is that of its last step.
        """
        last_step, total_steps = self.trainer.global_step - 1, int(self.trainer.estimated_stepping_batches)
        self.metrics.all_reduce(self.dp_rank)
        return {
            "train_loss": self.metrics.mean_loss,
            "train_error": self.metrics.error,
            "learning_rate": self.recipe.learning_rate * self._learning_rate_factor(last_step, total_steps),
            **self.metrics.gradient_norms,
        }

    def _learning_rate_factor(self, step: int, total_steps: int) -> float:
        return learning_rate_factor(self.recipe, step, total_steps, self.plateau.divisions)

    def transfer_batches(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Return the batches as they are: the module has no transfer hooks of its own."""
        return batches

    def observe_validation_error(self, error: float) -> None:
        """Divide the rate if a plateau schedule finds the error stagnant.

        The error is in percent; the next step has the new rate.
        """
        if self.recipe.schedule != "plateau" or not self.plateau.observe_error(error):
            return
        self.plateau.count_division()
        # The schedule has set the next step's rate before this epoch's error was known.
        schedule: Any = self.lr_schedulers()
        for group, factor in zip(schedule.optimizer.param_groups, schedule.lr_lambdas, strict=True):
            group["lr"] = group["initial_lr"] * factor(schedule.last_epoch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the plateau schedule's state in a checkpoint."""
        checkpoint["plateau"] = vars(self.plateau)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the plateau schedule's state from a checkpoint."""
        self.plateau = Plateau(**checkpoint["plateau"])
