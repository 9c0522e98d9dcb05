"""Running metrics of a network, and the evaluation loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional

from lightning_modules.distributed import Batch, DataParallelRank
from lightning_modules.networks.outputs import extract_logits

TOP_K = 5  # predicted classes among which the right one must be, for the top-5 error


class RunningMetrics:
    """Sums over batches.

    They stay on the device and are read once per epoch: reading them at every step would make the host wait for it.
    The sums are added to in place, so that a captured step adds to the same memory at every replay; what the host
    counts (``num_examples``, ``num_steps``) is no part of a captured step.
    """

    def __init__(self, device: torch.device) -> None:
        self.loss_sum = torch.zeros((), device=device)
        self.num_wrong = torch.zeros((), device=device)
        self.num_top5_wrong = torch.zeros((), device=device)
        self.num_examples = self.num_steps = 0
        self.class_counts = self.class_hits = torch.zeros(1, dtype=torch.int64)

    @property
    def device_sums(self) -> list[torch.Tensor]:
        """The sums that lie on the device."""
        return [self.loss_sum, self.num_wrong, self.num_top5_wrong]

    def reset(self) -> None:
        """Start over, in the same memory."""
        for device_sum in self.device_sums:
            device_sum.zero_()
        self.num_examples = self.num_steps = 0

    def update(self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Add a batch.

        Its mean ``loss`` (nats), ``logits`` (batch, classes) and ``labels`` (batch,).
        """
        self.add_to_sums(loss, logits, labels, len(labels))
        self.num_examples += len(labels)

    def add_to_sums(
        self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor, loss_denominator: int
    ) -> None:
        """Add the loss and the errors of a batch, or of a part of one, without counting its examples.

        Args:
            loss_denominator: the number by which ``loss``, a sum over examples, was divided.
        """
        self.loss_sum += loss.detach().float() * loss_denominator
        self.num_wrong += (logits.detach().argmax(1) != labels).sum()

    def count_step(self, num_examples: int) -> None:
        """Count a step of the optimizer and its examples."""
        self.num_examples += num_examples
        self.num_steps += 1

    def update_loss(self, loss: torch.Tensor, num_examples: int) -> None:
        """Add a batch of which only the mean loss is known."""
        self.loss_sum += loss.detach().float() * num_examples
        self.num_examples += num_examples

    def update_top5(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Add a batch's examples whose class is not among the top five."""
        top = logits.detach().topk(min(TOP_K, logits.shape[1])).indices
        self.num_top5_wrong += (top != labels[:, None]).all(1).sum()

    def count_classes(self, predictions: torch.Tensor, labels: torch.Tensor) -> None:
        """Count a whole split's examples and right answers class by class; both tensors are ``(examples,)``."""
        self.class_counts = torch.bincount(labels.cpu())
        hits = labels[predictions == labels].cpu()
        self.class_hits = torch.bincount(hits, minlength=len(self.class_counts))

    def all_reduce(self, dp_rank: DataParallelRank) -> None:
        """Add up losses and errors over all ranks."""
        if dp_rank.is_single_worker:
            return
        # In float64: a float32 count is inexact beyond 2^24 examples.
        num_examples = torch.tensor(float(self.num_examples), dtype=torch.float64, device=self.loss_sum.device)
        dp_rank.all_reduce(self.loss_sum, self.num_wrong, self.num_top5_wrong)
        dp_rank.all_reduce(num_examples)
        self.num_examples = int(num_examples)

    @property
    def mean_loss(self) -> float:
        """Mean loss, nats per example."""
        return float(self.loss_sum) / max(1, self.num_examples)

    @property
    def error(self) -> float:
        """Top-1 error, percent of the examples."""
        return 100 * float(self.num_wrong) / max(1, self.num_examples)

    @property
    def top5_error(self) -> float:
        """Top-5 error, percent; only after :meth:`update_top5` for every batch."""
        return 100 * float(self.num_top5_wrong) / max(1, self.num_examples)

    @property
    def balanced_error(self) -> float:
        """Mean over the classes' own errors, percent; only after :meth:`count_classes`."""
        is_present = self.class_counts > 0
        recalls = self.class_hits[is_present].double() / self.class_counts[is_present]
        return 100 * (1 - float(recalls.mean()))

    @property
    def constant_error(self) -> float:
        """Error of always answering the largest class, percent; only after :meth:`count_classes`."""
        return 100 * (1 - int(self.class_counts.max()) / max(1, int(self.class_counts.sum())))

    @property
    def constant_balanced_error(self) -> float:
        """Balanced error of always answering one class, percent; only after :meth:`count_classes`."""
        return 100 * (1 - 1 / max(1, int((self.class_counts > 0).sum())))

    def final_values(self, split: str) -> dict[str, float]:
        """The loss and the errors of a split by metric name; only after :meth:`count_classes`."""
        return {
            f"{split}_error": self.error,
            f"{split}_loss": self.mean_loss,
            f"{split}_balanced_error": self.balanced_error,
            f"{split}_constant_error": self.constant_error,
            f"{split}_constant_balanced_error": self.constant_balanced_error,
        }


@torch.no_grad()
def evaluate_network(
    module: nn.Module, batches: Iterable[Batch], device: torch.device, dp_rank: DataParallelRank | None = None
) -> tuple[RunningMetrics, torch.Tensor]:
    """Evaluate a module by its ``forward``.

    Returns metrics and predicted classes ``(examples,)``.

    Each rank evaluates its share of every batch; all of them return the results of the whole.
    """
    dp_rank = dp_rank or DataParallelRank()
    metrics = RunningMetrics(device)
    predictions: list[torch.Tensor] = []
    all_labels: list[torch.Tensor] = []
    with _evaluation_mode(module):
        for images, labels in batches:
            share = dp_rank.local_slice(len(labels))
            batch_predictions = torch.zeros_like(labels)  # zeros for other ranks' examples: the ranks' sum is complete
            if share.start < share.stop:
                logits = extract_logits(module(images[share]))[0]
                metrics.update(functional.cross_entropy(logits, labels[share]), logits, labels[share])
                metrics.update_top5(logits, labels[share])
                batch_predictions[share] = logits.argmax(1)
            predictions.append(batch_predictions)
            all_labels.append(labels)
    metrics.all_reduce(dp_rank)
    classes = torch.cat(predictions)
    dp_rank.all_reduce(classes)
    metrics.count_classes(classes, torch.cat(all_labels))
    return metrics, classes


@contextmanager
def _evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Set evaluation mode, then restore every submodule's own mode.

    A frozen submodule stays in evaluation mode.
    """
    modes = {submodule: submodule.training for submodule in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for submodule, is_training in modes.items():
            submodule.training = is_training
