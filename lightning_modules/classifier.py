"""The classifier as a ``LightningModule``: cross-entropy, SGD under a warmed-up schedule, counts kept on the device."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import nn
from torch.nn import functional

from lightning_modules.build import weight_layers
from lightning_modules.sharing import Batch, Share, shared
from lightning_modules.spec import Recipe
from lightning_modules.tally import Tally, outputs


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
        self.tally = Tally(torch.device("cpu"))

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
        total, mine = len(labels), self.share.begin(len(labels))
        labels = labels[mine]
        logits, *further = self._outputs(images)
        loss = self._part_of_mean(logits, labels, total)
        self.tally.add(loss, logits, labels, mean_over=total)
        for auxiliary in further if self.auxiliary_weight > 0 else ():
            loss = loss + self.auxiliary_weight * self._part_of_mean(auxiliary, labels, total)
        return loss

    def _part_of_mean(self, logits: torch.Tensor, labels: torch.Tensor, total: int) -> torch.Tensor:
        if self.share.alone:
            return functional.cross_entropy(logits, labels)
        return functional.cross_entropy(logits, labels, reduction="sum") / total

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """Bring the workers' gradients together; clip the global norm where the recipe says so, and count it anyway."""
        self.share.add_up_gradients(self.network.parameters())
        self.tally.add_layers({place: layer.weight for place, layer in weight_layers(self.network)})
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_norm or math.inf)
        self.tally.add_gradient(norm)

    def configure_optimizers(self) -> Any:
        """SGD with momentum; weight decay on weights, not on biases; one schedule step per batch."""
        weights = [parameter for parameter in self.network.parameters() if parameter.dim() > 1]
        others = [parameter for parameter in self.network.parameters() if parameter.dim() <= 1]
        optimiser = torch.optim.SGD(
            [{"params": weights, "weight_decay": self.recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=self.recipe.learning_rate,
            momentum=self.recipe.momentum,
        )
        total = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_factor(self.recipe, step, total))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def curves(self) -> dict[str, float]:
        """What training gave in the epoch that ends; the rate is that of its last step."""
        last, total = self.trainer.global_step - 1, int(self.trainer.estimated_stepping_batches)
        self.tally.add_up(self.share)
        return {
            "train_loss": self.tally.mean_loss,
            "train_error": self.tally.error,
            "learning_rate": self.recipe.learning_rate * rate_factor(self.recipe, last, total),
            **self.tally.gradients,
        }


def rate_factor(recipe: Recipe, step: int, total: int) -> float:
    """The share of the peak learning rate at a step: a linear rise, then the recipe's schedule."""
    warmup = round(total * recipe.warmup)
    if step < warmup:
        return (step + 1) / warmup
    if recipe.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
