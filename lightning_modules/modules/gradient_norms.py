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

    Attributes:
        layer_sums: vectors of sums, by the paths of the layers that had gradients in a step: almost always one vector.

    Args:
        network: whose gradients are measured.
        device: of its parameters.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self.list_parameters(network)
        self.total_sum = torch.zeros((), device=device)
        self.num_steps_on_device = torch.zeros((), dtype=torch.int64, device=device)
        self.layer_sums: dict[tuple[str, ...], torch.Tensor] = {}

    def list_parameters(self, network: nn.Module) -> None:
        """List the network's parameters anew, where some may have been replaced."""
        self.parameters = list(network.parameters())
        self.layer_weights: dict[str, nn.Parameter] = {}
        for layer_path, layer in weight_layers(network):
            # Not by ``layer.weight``: reading a weight that is computed from others computes it, and spectral
            # normalization then changes its buffers.
            weight = layer._parameters.get("weight")
            if weight is not None:
                self.layer_weights[layer_path] = weight

    @property
    def state_tensors(self) -> list[torch.Tensor]:
        """What every step changes, apart from the layers' sums."""
        return [self.total_sum, self.num_steps_on_device]

    def reset(self) -> None:
        """Start over, in the same memory."""
        for tensor in (*self.state_tensors, *self.layer_sums.values()):
            tensor.zero_()

    @torch.no_grad()
    def add_step(self, total: torch.Tensor | None = None) -> torch.Tensor:
        """Add the norms of the gradients that the parameters have now.

        Args:
            total: the norm to add to those of all parameters together, where a step changes only some of them.

        Returns:
            The norm of all parameters together, or the one that was given.
        """
        gradients = {id(parameter): parameter.grad for parameter in self.parameters if parameter.grad is not None}
        if gradients:
            norms = torch._foreach_norm(list(gradients.values()))  # few launches for hundreds of tensors
            total = torch.linalg.vector_norm(torch.stack(norms)) if total is None else total
            self._add_to_layers(dict(zip(gradients, norms, strict=True)))
        total = torch.zeros_like(self.total_sum) if total is None else total
        self.add_total(total)
        return total

    def add_total(self, total: torch.Tensor) -> None:
        """Add the norm of all parameters together, and count the step."""
        self.total_sum += total
        self.num_steps_on_device += 1

    def _add_to_layers(self, norms_by_id: dict[int, torch.Tensor]) -> None:
        weights = self.layer_weights.items()
        layers = tuple(layer_path for layer_path, weight in weights if id(weight) in norms_by_id)
        if not layers:
            return
        norms = torch.stack([norms_by_id[id(self.layer_weights[layer_path])] for layer_path in layers])
        if layers not in self.layer_sums:
            self.layer_sums[layers] = torch.zeros_like(norms)
        is_first_step = self.num_steps_on_device < LAYER_GRADIENT_STEPS
        self.layer_sums[layers] += norms.where(is_first_step, 0.0)  # a product of 0 and infinity is no number

    def mean_norms(self, num_steps: int) -> dict[str, float]:
        """Mean norms by the name of their curve: ``gradient_norm``, and ``gradient_norm/<layer path>``.

        Args:
            num_steps: since the last reset.
        """
        sums: dict[str, float] = {}
        for layers, values in self.layer_sums.items():
            for layer_path, value in zip(layers, values.tolist(), strict=True):
                sums[layer_path] = sums.get(layer_path, 0.0) + value
        means = {"gradient_norm": float(self.total_sum) / max(1, num_steps)}
        num_layer_steps = max(1, min(num_steps, LAYER_GRADIENT_STEPS))
        return means | {f"gradient_norm/{layer_path}": value / num_layer_steps for layer_path, value in sums.items()}
