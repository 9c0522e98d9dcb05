"""SGD under a recipe, and the learning rates of an epoch's steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import nn

from lightning_modules.specs.recipe import Recipe


def make_sgd(parameters: Iterable[nn.Parameter], recipe: Recipe) -> torch.optim.SGD:
    """Make SGD with momentum; only weights are decayed.

    On a GPU it is the fused one, which reads its rate from the device at every step.
    """
    parameters = list(parameters)
    # Biases and the scales of normalization layers have one dimension, and are not decayed.
    weights = [parameter for parameter in parameters if parameter.dim() > 1]
    biases_and_scales = [parameter for parameter in parameters if parameter.dim() <= 1]
    return torch.optim.SGD(
        [
            {"params": weights, "weight_decay": recipe.weight_decay},
            {"params": biases_and_scales, "weight_decay": 0.0},
        ],
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        fused=True if any(parameter.is_cuda for parameter in parameters) else None,
    )


def allocate_momentum(optimizer: torch.optim.SGD) -> list[torch.Tensor]:
    """Give every parameter its momentum buffer, zeros where it has none yet, and return all of them.

    A captured step needs them from the start. The first step is the same to the bit: 0.9 · 0 + g is g.
    """
    buffers: list[torch.Tensor] = []
    for group in optimizer.param_groups:
        if not group["momentum"]:
            continue
        for parameter in group["params"]:
            state = optimizer.state[parameter]
            if state.get("momentum_buffer") is None:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            buffers.append(state["momentum_buffer"])
    return buffers


class StepRates(Protocol):
    """The rates of an epoch's steps, handed to the optimizer one after the other."""

    def load_epoch(self, rates: Sequence[float]) -> None:
        """Set the rates of the epoch that begins."""

    def set_next(self) -> None:
        """Give the optimizer the rate of the next step."""

    @property
    def state_tensors(self) -> list[torch.Tensor]:
        """What a step changes on the device, apart from the rate that it sets."""


class HostRates:
    """Rates as numbers of the host."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.rates: Sequence[float] = ()
        self.position = 0

    def load_epoch(self, rates: Sequence[float]) -> None:
        """Set the rates of the epoch that begins."""
        self.rates, self.position = rates, 0

    def set_next(self) -> None:
        """Give the optimizer the rate of the next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rates[self.position]
        self.position += 1

    @property
    def state_tensors(self) -> list[torch.Tensor]:
        """Nothing: the position is the host's."""
        return []


class DeviceRates:
    """Rates as a table on the device, from which each step takes its own.

    A captured step freezes the numbers of the host, so that its rate and its place in the table lie on the device.

    Args:
        optimizer: gets the rate as one tensor of one element. SGD's fused kernel reads such a tensor as it runs; the
            others turn it into a number of the host first.
        num_steps: of an epoch.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, num_steps: int, device: torch.device) -> None:
        # The fused kernel of a GPU reads float32; a CPU's takes the number, in double precision as without a table.
        dtype = torch.float32 if device.type == "cuda" else torch.float64
        self.table = torch.zeros(num_steps, dtype=dtype, device=device)
        self.position = torch.zeros(1, dtype=torch.int64, device=device)
        self.rate = torch.zeros((), dtype=dtype, device=device)
        for group in optimizer.param_groups:
            group["lr"] = self.rate

    def load_epoch(self, rates: Sequence[float]) -> None:
        """Set the rates of the epoch that begins."""
        self.table.copy_(torch.tensor(rates, dtype=self.table.dtype))
        self.position.zero_()

    def set_next(self) -> None:
        """Give the optimizer the rate of the next step."""
        self.rate.copy_(self.table.index_select(0, self.position)[0])
        self.position += 1

    @property
    def state_tensors(self) -> list[torch.Tensor]:
        """The place in the table."""
        return [self.position]
