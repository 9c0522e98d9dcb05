"""Decide whether training succeeded or diverged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from studies.records.results import ResultStatus

# Of the error of guessing (90 % with ten classes), on training data, unaugmented, in evaluation mode: a network that
# learned anything is below it, while one whose units died predicts a single class and stays at 1.0.
DIVERGENCE_THRESHOLD = 0.9


def training_status(
    network: nn.Module, metrics: Mapping[str, float], curves: Mapping[str, Sequence[float]], num_classes: int
) -> ResultStatus:
    """Status of a trained network.

    ``diverged`` where weights or losses are not finite, or where the training error stayed near chance.
    """
    losses_finite = all(map(math.isfinite, (*metrics.values(), *curves.get("train_loss", ()))))
    weights_finite = all(bool(torch.isfinite(weights).all()) for weights in network.parameters())
    if not losses_finite or not weights_finite:
        return "diverged"
    chance_error = 100 * (1 - 1 / num_classes)
    return "finished" if metrics["train_error"] <= DIVERGENCE_THRESHOLD * chance_error else "diverged"
