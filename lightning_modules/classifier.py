"""The classifier as a ``LightningModule``: cross-entropy, SGD under a warmed-up schedule, counts kept on the device."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import nn
from torch.nn import functional

from lightning_modules.batches import Batch
from lightning_modules.build import build, weight_layers
from lightning_modules.initialise import initialise
from lightning_modules.spec import Network, Recipe, Scale

STEPS_WITH_LAYERS = 4  # of every epoch: enough to see which layers starve, too few to cost time


class Tally:
    """Sums over batches, on the device: they reach the host once per epoch, not once per step."""

    def __init__(self, device: torch.device) -> None:
        self.loss, self.wrong, self.gradient = (torch.zeros((), device=device) for _ in range(3))
        self.layers: dict[str, torch.Tensor] = {}
        self.examples = self.steps = 0

    def add(self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Count a batch: mean ``loss`` (nats), ``logits`` (batch, classes), ``labels`` (batch,)."""
        self.loss += loss.detach().float() * len(labels)
        self.wrong += (logits.detach().argmax(1) != labels).sum()
        self.examples += len(labels)

    def add_gradient(self, norm: torch.Tensor) -> None:
        """Count a step's gradient norm, before clipping."""
        self.gradient += norm.detach()
        self.steps += 1

    def add_layers(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Count the gradient norm of every layer's weights, before clipping."""
        for place, weight in weights.items():
            if weight.grad is not None:
                self.layers[place] = self.layers.get(place, 0) + weight.grad.detach().norm()

    @property
    def mean_loss(self) -> float:
        """Nats per example."""
        return float(self.loss) / max(1, self.examples)

    @property
    def error(self) -> float:
        """Percent of the examples."""
        return 100 * float(self.wrong) / max(1, self.examples)

    @property
    def mean_gradient(self) -> float:
        """Mean over the steps of the gradient's global norm."""
        return float(self.gradient) / max(1, self.steps)

    @property
    def mean_layers(self) -> dict[str, float]:
        """By layer, the mean over the epoch's first steps of the norm of its weights' gradient."""
        counted = max(1, min(self.steps, STEPS_WITH_LAYERS))
        return {place: float(norm) / counted for place, norm in self.layers.items()}


class Classifier(lightning.LightningModule):
    """A network under a recipe; initial weights by (seed, place, shape)."""

    def __init__(self, network: Network, scale: Scale, recipe: Recipe, seed: int) -> None:
        super().__init__()
        self.recipe = recipe
        self.network = build(network, scale)
        initialise(self.network, network.init, seed)
        self.network.to(memory_format=torch.channels_last)
        self.tally = Tally(torch.device("cpu"))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``(batch, classes)`` of images ``(batch, channels, height, width)``."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            logits: torch.Tensor = self.network(images)
        return logits.float()

    def on_train_epoch_start(self) -> None:
        """Begin a fresh tally."""
        self.tally = Tally(self.device)

    def training_step(self, batch: Batch, batch_index: int) -> torch.Tensor:  # noqa: ARG002 - Lightning's signature
        """Mean cross-entropy of a batch, nats."""
        images, labels = batch
        logits = self(images)
        loss = functional.cross_entropy(logits, labels)
        self.tally.add(loss, logits, labels)
        return loss

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """Clip the global norm where the recipe says so, and count it in any case."""
        if self.tally.steps < STEPS_WITH_LAYERS:
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

    @torch.no_grad()
    def evaluate(self, batches: Iterator[Batch]) -> tuple[Tally, torch.Tensor]:
        """Tally and predicted classes ``(examples,)`` in evaluation mode; the mode is put back afterwards."""
        was_training = self.training
        self.eval()
        tally, predicted = Tally(self.device), []
        for images, labels in batches:
            logits = self(images)
            tally.add(functional.cross_entropy(logits, labels), logits, labels)
            predicted.append(logits.argmax(1))
        self.train(was_training)
        return tally, torch.cat(predicted)


def rate_factor(recipe: Recipe, step: int, total: int) -> float:
    """The share of the peak learning rate at a step: a linear rise, then the recipe's schedule."""
    warmup = round(total * recipe.warmup)
    if step < warmup:
        return (step + 1) / warmup
    if recipe.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
