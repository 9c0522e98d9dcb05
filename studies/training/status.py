"""Decide whether training succeeded, became non-finite or stayed at chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from studies.records.results import ResultStatus

# Of the error of the best constant answer, on training data, unaugmented, in evaluation mode: a network that learned
# anything is below it, while one whose units died predicts a single class and stays at 1.0.
CHANCE_THRESHOLD = 0.9


def training_status(
    network: nn.Module, metrics: Mapping[str, float], curves: Mapping[str, Sequence[float]]
) -> ResultStatus:
    """Status of a trained network.

    ``non-finite`` where weights or losses are; ``at chance`` where neither the training error nor the balanced one lies
    clearly below that of always answering the largest class.
    """
    losses_finite = all(map(math.isfinite, (*metrics.values(), *curves.get("train_loss", ()))))
    if not losses_finite or not _are_finite(tuple(network.parameters())):
        return "non-finite"
    # Either suffices: a network trained with weighted classes learns the rare ones at the cost of the plain error.
    has_learned = any(
        metrics[f"train_{name}"] <= CHANCE_THRESHOLD * metrics[f"train_constant_{name}"]
        for name in ("error", "balanced_error")
    )
    return "finished" if has_learned else "at chance"


def _are_finite(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether all numbers are finite."""
    with torch.no_grad():
        # One wait for the device, and a tenth of the time that a test of every number takes.
        sums_finite = torch.stack([torch.isfinite(tensor.sum()) for tensor in tensors]) if tensors else torch.ones(1)
        # The sum of large finite numbers may overflow.
        return bool(sums_finite.all()) or all(bool(torch.isfinite(tensor).all()) for tensor in tensors)
