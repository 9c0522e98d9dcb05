"""What batches come to: loss, errors, gradients, summed on the device; and a network's evaluation by them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from lightning_modules.build import weight_layers
from lightning_modules.sharing import Batch, Share
from lightning_modules.values import Misuse

TOP = 5  # classes that may hold the right one, for the top-5 error
STEPS_WITH_LAYERS = 4  # of every epoch: enough to see which layers starve, too few to cost time


class Tally:
    """Sums over batches, on the device: they reach the host once per epoch, not once per step."""

    def __init__(self, device: torch.device) -> None:
        self.loss, self.wrong, self.outside, self.gradient = (torch.zeros((), device=device) for _ in range(4))
        self.layers: dict[str, torch.Tensor] = {}
        self.examples = self.steps = 0

    def add(self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor, mean_over: int | None = None) -> None:
        """Count a batch: mean ``loss`` (nats), ``logits`` (batch, classes), ``labels`` (batch,).

        Of a part of a batch, ``loss`` is its sum divided by ``mean_over``, the examples of the whole.
        """
        self.add_loss(loss, len(labels), mean_over)
        self.wrong += (logits.detach().argmax(1) != labels).sum()

    def add_loss(self, loss: torch.Tensor, examples: int, mean_over: int | None = None) -> None:
        """Count a batch of which nothing but the mean loss is known."""
        self.loss += loss.detach().float() * (examples if mean_over is None else mean_over)
        self.examples += examples

    def add_top5(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Count the examples of a batch whose class is not among the five of the highest logits."""
        top = logits.detach().topk(min(TOP, logits.shape[1])).indices
        self.outside += (top != labels[:, None]).all(1).sum()

    def add_up(self, share: Share) -> None:
        """Count what all workers have counted of losses and errors; gradients are those of all of them already."""
        if share.alone:
            return
        counted = torch.tensor(float(self.examples), dtype=torch.float64, device=self.loss.device)
        share.add_up(self.loss, self.wrong, self.outside)
        share.add_up(counted)
        self.examples = int(counted)

    def add_gradient(self, norm: torch.Tensor) -> None:
        """Count a step's gradient norm, before clipping."""
        self.gradient += norm.detach()
        self.steps += 1

    def add_layers(self, network: nn.Module) -> None:
        """Count the gradient norm of every layer's weights, before clipping, in an epoch's first steps."""
        if self.steps >= STEPS_WITH_LAYERS:
            return
        for place, layer in weight_layers(network):
            if layer.weight.grad is not None:
                self.layers[place] = self.layers.get(place, 0) + layer.weight.grad.detach().norm()

    @property
    def mean_loss(self) -> float:
        """Nats per example."""
        return float(self.loss) / max(1, self.examples)

    @property
    def error(self) -> float:
        """Percent of the examples."""
        return 100 * float(self.wrong) / max(1, self.examples)

    @property
    def top5_error(self) -> float:
        """Percent of the examples, of those that :meth:`add_top5` has counted."""
        return 100 * float(self.outside) / max(1, self.examples)

    @property
    def gradients(self) -> dict[str, float]:
        """As curves: the mean over the steps of the gradient's global norm; by layer, that over the first steps."""
        counted = max(1, min(self.steps, STEPS_WITH_LAYERS))
        return {
            "gradient_norm": float(self.gradient) / max(1, self.steps),
            **{f"gradient_norm/{place}": float(norm) / counted for place, norm in self.layers.items()},
        }


def outputs(given: Any) -> list[torch.Tensor]:
    """What a network gave, as float32: the logits, then those of auxiliary heads where it has any in this mode.

    Raises:
        Misuse: where it gave no tensor, and no tuple or list of tensors.
    """
    several = given if isinstance(given, (tuple, list)) else (given,)
    if not several or not all(isinstance(each, torch.Tensor) for each in several):
        kinds = ", ".join(type(each).__name__ for each in several)
        raise Misuse(
            f"the network gives {f'a {type(given).__name__} of ({kinds})' if several is given else f'a {kinds}'}; "
            "expected a tensor of logits, or a tuple or list of tensors that begins with it."
        )
    return [each.float() for each in several]


@torch.no_grad()
def evaluate(
    module: nn.Module, batches: Iterable[Batch], device: torch.device, share: Share | None = None
) -> tuple[Tally, torch.Tensor]:
    """Tally and predicted classes ``(examples,)`` in evaluation mode, by the module's ``forward``.

    Workers take their parts of every batch; each gets what all of them found.
    """
    share = share or Share()
    tally, predicted = Tally(device), []
    with _evaluating(module):
        for images, labels in batches:
            mine = share.part(len(labels))
            found = torch.zeros_like(labels)
            if mine.start < mine.stop:
                logits = outputs(module(images[mine]))[0]
                tally.add(functional.cross_entropy(logits, labels[mine]), logits, labels[mine])
                tally.add_top5(logits, labels[mine])
                found[mine] = logits.argmax(1)
            predicted.append(found)
    tally.add_up(share)
    classes = torch.cat(predicted)
    share.add_up(classes)
    return tally, classes


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for as long as this lasts; then every part is back in its own mode: some stay frozen."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
