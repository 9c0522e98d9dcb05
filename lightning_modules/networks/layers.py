"""Layers that several networks share: activations, norms and the 7×7 stem, by their names in a spec."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from lightning_modules.specs.networks import Activation, Norm

ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),  # saves the memory of a second map; the others have no such option
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}

MAX_NORM_GROUPS = 32  # Wu & He 2018, Sect. 4.1


class LocalResponseNorm(nn.LocalResponseNorm):
    """Local response normalization, four to six times as fast on a CPU as PyTorch's own.

    PyTorch pools over a third dimension; this adds shifted channels, and has its gradient in closed form. It computes
    in float32 or better and equals PyTorch's up to rounding.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - PyTorch's name
        """Normalize maps ``(batch, channels, height, width)`` over windows of channels."""
        scaled_alpha = self.alpha / self.size  # PyTorch divides alpha by the size of the window
        normalized: torch.Tensor = _LocalResponseNormFunction.apply(input, self.size, scaled_alpha, self.beta, self.k)
        return normalized


class _LocalResponseNormFunction(torch.autograd.Function):
    """``y = x · d^-beta`` with ``d = k + scaled_alpha · Σ x²`` over a window of channels."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, size: int, scaled_alpha: float, beta: float, k: float) -> torch.Tensor:
        x = x if x.dtype == torch.float64 else x.float()
        divisor = _sum_over_channels(x * x, size).mul_(scaled_alpha).add_(k)
        factor = divisor.pow(-beta)
        ctx.save_for_backward(x, divisor, factor)
        ctx.size, ctx.scaled_alpha, ctx.beta = size, scaled_alpha, beta
        return x * factor

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # dL/dx_i = g_i d_i^-beta - 2 alpha beta x_i Σ_j g_j x_j d_j^(-beta - 1), over the windows j that contain i.
        x, divisor, factor = ctx.saved_tensors
        window_sum = _sum_over_channels(gradient * x * factor / divisor, ctx.size, mirrored=True)
        input_gradient = gradient * factor - (2 * ctx.scaled_alpha * ctx.beta) * x * window_sum
        return input_gradient, None, None, None, None


def _sum_over_channels(maps: torch.Tensor, window_size: int, *, mirrored: bool = False) -> torch.Tensor:
    """Sum every channel with its neighbors, ``window_size`` channels in all; beyond the edges are zeros.

    Args:
        mirrored: sum over the windows that contain a channel, rather than over the channels in its window; the two
            differ for windows of even size.
    """
    before, after = window_size // 2, (window_size - 1) // 2
    if mirrored:
        before, after = after, before
    padded = functional.pad(maps, (0, 0, 0, 0, before, after))
    num_channels = maps.shape[1]
    total = padded[:, :num_channels].clone()
    for offset in range(1, window_size):
        total += padded[:, offset : offset + num_channels]
    return total


class Dropout(nn.Dropout):
    """Dropout that can draw its masks from a generator of its own network.

    Several networks that are trained in one process then do not shift each other's draws. For equal states of the
    generators, the masks on a CPU are those of PyTorch's dropout, bit for bit.

    Attributes:
        generator: source of the masks, on the device of the values; ``None`` for the process's default generator.
    """

    generator: torch.Generator | None = None

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - PyTorch's name
        """Drop units of a tensor of any shape while training."""
        if not self.training or self.p == 0:
            return input
        kept = torch.empty_like(input).bernoulli_(1 - self.p, generator=self.generator)
        return input * kept.div_(1 - self.p)


def local_response_norm() -> nn.LocalResponseNorm:
    """AlexNet's local response norm: n = 5, k = 2, alpha = 1e-4, beta = 0.75 (Krizhevsky et al. 2012, Sect. 3.3)."""
    # PyTorch divides alpha by n, the paper does not: hence 5e-4.
    return LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with at most 32 groups that divide the channels, of two channels each or more if possible."""
    num_groups = math.gcd(MAX_NORM_GROUPS, channels)
    if num_groups == channels > 1:
        num_groups //= 2  # groups of one channel would make it an instance norm
    return nn.GroupNorm(num_groups, channels)


NORMS_BEFORE_ACTIVATION: dict[Norm, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm2d, "group": group_norm}
NORMS_AFTER_ACTIVATION: dict[Norm, Callable[[], nn.Module]] = {"lrn": local_response_norm}


def build_stem_7x7(
    channels: int, width: int, norm: Norm, activation: Activation, *, bias: bool
) -> OrderedDict[str, nn.Module]:
    """A 7×7 convolution and a 3×3 max pooling, both of stride 2, which quarter the side (He et al. 2016, Table 1)."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=bias)
    if norm in NORMS_BEFORE_ACTIVATION:
        layers["norm"] = NORMS_BEFORE_ACTIVATION[norm](width)
    layers[activation] = ACTIVATIONS[activation]()
    layers["pool"] = nn.MaxPool2d(3, stride=2, padding=1)
    return layers


def halve_side(side: int, *, round_up: bool) -> int:
    """The side of a map after a pooling or a convolution of stride 2; a padded one rounds up."""
    return (side + 1) // 2 if round_up else side // 2
