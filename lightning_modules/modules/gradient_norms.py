"""Norms of a step's gradients, summed over the steps of an epoch on the device."""

from __future__ import annotations

import torch
from torch import nn

from lightning_modules.networks.build import weight_layers

LAYER_GRADIENT_STEPS = 4  # first steps of every epoch: enough to see vanishing gradients


class GradientNorms:
    """Sums of gradient norms: of all parameters together over all steps, of each layer's weights over the first ones.

    Whether a step is among the first is known on the device, so that one captured step serves a whole epoch. The sums
    are added to in place, in the same memory in every epoch.

    Args:
        network: whose gradients are measured; its parameters stay the same tensors.
        device: of the parameters.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self.parameters = list(network.parameters())
        positions = {id(parameter): position for position, parameter in enumerate(self.parameters)}
        # A weight that is computed from other parameters, as by weight normalization, is none itself.
        self.layer_positions = {
            layer_path: positions[id(layer.weight)]
            for layer_path, layer in weight_layers(network)
            if id(layer.weight) in positions
        }
        self.total_sum = torch.zeros((), device=device)
        self.num_steps_on_device = torch.zeros((), dtype=torch.int64, device=device)
        # One vector for each set of parameters that had gradients in a step, by their positions: almost always one set.
        self.sums_by_positions: dict[tuple[int, ...], torch.Tensor] = {}

    @property
    def state_tensors(self) -> list[torch.Tensor]:
        """What a step changes; those of a new set of parameters come last."""
        return [self.total_sum, self.num_steps_on_device, *self.sums_by_positions.values()]

    def reset(self) -> None:
        """Start over, in the same memory."""
        for tensor in self.state_tensors:
            tensor.zero_()

    @torch.no_grad()
    def add_step(self, total: torch.Tensor | None = None) -> torch.Tensor:
        """Add the norms of the gradients that the parameters have now.

        Args:
            total: the norm to add to those of all parameters together, where a step changes only some of them.

        Returns:
            The norm of all parameters together, or the one that was given.
        """
        gradients = {
            position: parameter.grad for position, parameter in enumerate(self.parameters) if parameter.grad is not None
        }
        if gradients:
            norms = torch.stack(torch._foreach_norm(list(gradients.values())))  # few launches for hundreds of tensors
            total = torch.linalg.vector_norm(norms) if total is None else total
            self._add_to_layers(tuple(gradients), norms)
        total = torch.zeros_like(self.total_sum) if total is None else total
        self.total_sum += total
        self.num_steps_on_device += 1
        return total

    def _add_to_layers(self, positions: tuple[int, ...], norms: torch.Tensor) -> None:
        if positions not in self.sums_by_positions:
            self.sums_by_positions[positions] = torch.zeros_like(norms)
        is_first_step = self.num_steps_on_device < LAYER_GRADIENT_STEPS
        self.sums_by_positions[positions] += norms.where(is_first_step, 0.0)  # a product of 0 and infinity is no number

    def mean_norms(self, num_steps: int) -> dict[str, float]:
        """Mean norms by the name of their curve: ``gradient_norm``, and ``gradient_norm/<layer path>``.

        Args:
            num_steps: since the last reset.
        """
        sums: dict[int, float] = {}
        for positions, values in self.sums_by_positions.items():
            for position, value in zip(positions, values.tolist(), strict=True):
                sums[position] = sums.get(position, 0.0) + value
        means = {"gradient_norm": float(self.total_sum) / max(1, num_steps)}
        num_layer_steps = max(1, min(num_steps, LAYER_GRADIENT_STEPS))
        for layer_path, position in self.layer_positions.items():
            if position in sums:
                means[f"gradient_norm/{layer_path}"] = sums[position] / num_layer_steps
        return means
