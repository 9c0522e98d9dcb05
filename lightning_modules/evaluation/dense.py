"""Dense evaluation: a network applied to whole images.

Fully connected layers are applied as convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from lightning_modules.specs.errors import UserError
from lightning_modules.specs.networks import Custom, Network


class FullyConvolutional(nn.Module):
    """Apply a network to whole images.

    Each fully connected layer is a convolution that shares its weights.

    The first of these convolutions has the side of the map that the layer was trained on, the others 1 × 1. Images
    ``(N, channels, height, width)``, of the crop's side or more, are mapped to scores ``(N, classes)``: the mean of the
    class score map (Simonyan & Zisserman 2015, Sect. 3.2). A network whose head averages the map gives the same scores
    as by itself.

    Raises:
        UserError: for a custom network, whose layers are its own.
    """

    def __init__(self, network: nn.Module, spec: Network) -> None:
        super().__init__()
        if isinstance(spec, Custom):
            raise UserError(
                f"{spec.class_path} cannot be tested densely: which of a custom network's layers are fully connected, "
                "and what comes before them, is not known. Expected test.mode single, multi-crop or ten-crop."
            )
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return scores ``(N, classes)``, float32."""
        # Averaged in float32: under autocast the map is bfloat16, whose mean would lose bits.
        return self.score_map(images).float().mean((2, 3))

    def score_map(self, images: torch.Tensor) -> torch.Tensor:
        """Return the scores at every position ``(N, classes, rows, columns)``."""
        return self._apply_layers(images, self._head_layers)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return penultimate activations ``(N, features)``, float32.

        Averaged over positions (ibid., Sect. B).

        They are the inputs of the last fully connected layer; if it is the only one, the channels of the last map.
        """
        head = self._head_layers
        last_linear = max(index for index, layer in enumerate(head) if isinstance(layer, nn.Linear))
        return self._apply_layers(images, head[:last_linear]).float().mean((2, 3))

    @property
    def _head_layers(self) -> list[nn.Module]:
        return list(self.network.get_submodule("head").children())

    def _apply_layers(self, images: torch.Tensor, head: Sequence[nn.Module]) -> torch.Tensor:
        maps = images
        for name, child in self.network.named_children():
            if name not in ("flatten", "head"):
                maps = child(maps)
        for layer in head:
            maps = _apply_as_convolution(layer, maps) if isinstance(layer, nn.Linear) else layer(maps)
        return maps


def _apply_as_convolution(layer: nn.Linear, maps: torch.Tensor) -> torch.Tensor:
    # The layer read a flattened map (channels, side, side), so its rows are kernels of that shape.
    channels = maps.shape[1]
    side = math.isqrt(layer.in_features // channels)
    return functional.conv2d(maps, layer.weight.view(layer.out_features, channels, side, side), layer.bias)
