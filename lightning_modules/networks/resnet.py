"""Build plain and residual networks by one code path: a plain block is a residual one without its shortcut."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional

from lightning_modules.networks.layers import build_stem_7x7
from lightning_modules.specs.networks import BOTTLENECK_EXPANSION, ResNet
from lightning_modules.specs.scale import Scale


class ResidualBlock(nn.Module):
    """Convolutions with batch norm, an optional shortcut, and a ReLU of their sum.

    Maps ``(N, in, side, side)`` to ``(N, out, side / stride, side / stride)``.
    """

    def __init__(self, layers: OrderedDict[str, nn.Module], shortcut: nn.Module | None) -> None:
        super().__init__()
        # Layers are children of the block itself, so that their paths read `stage3.block1.conv2`.
        self.layer_names = tuple(layers)
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.shortcut = shortcut
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Apply the layers, add the shortcut, and rectify."""
        residual = maps
        for name in self.layer_names:
            residual = self.get_submodule(name)(residual)
        if self.shortcut is not None:
            residual = residual + self.shortcut(maps)
        rectified: torch.Tensor = self.relu(residual)
        return rectified


class ZeroPadding(nn.Module):
    """Identity shortcut of option A (He et al. 2016, Sect. 3.3): strided, with zeros for the new channels."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.extra_channels, self.stride = out_channels - in_channels, stride

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Map ``(N, in, side, side)`` to ``(N, out, side / stride, side / stride)``."""
        subsampled = maps[:, :, :: self.stride, :: self.stride]
        return functional.pad(subsampled, (0, 0, 0, 0, 0, self.extra_channels))  # pads from the last dimension on

    def extra_repr(self) -> str:
        """Options shown by ``print`` and compared between arms."""
        return f"new={self.extra_channels}, stride={self.stride}"


def build_resnet(network: ResNet, scale: Scale) -> nn.Module:
    """Build a scaled network; its layer paths are ``stem.conv``, ``stage3.block1.conv2``, ``head.fc1``."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = network.stages[0].width
    if network.stem == "7x7":
        stem = build_stem_7x7(scale.channels, channels, "batch", "relu", bias=False)
    else:
        stem = _build_stem_3x3(scale.channels, channels)
    layers["stem"] = nn.Sequential(stem)
    for stage_number, stage in enumerate(network.stages, 1):
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        for block_number in range(1, stage.count + 1):
            # The stem has halved the map for the first stage; every later stage halves it in its first block.
            stride = 2 if stage_number > 1 and block_number == 1 else 1
            block, channels = _build_block(network, channels, stage.width, stride=stride)
            blocks[f"block{block_number}"] = block
        layers[f"stage{stage_number}"] = nn.Sequential(blocks)
    layers["average"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["head"] = nn.Sequential(OrderedDict(fc1=nn.Linear(channels, scale.classes)))
    return nn.Sequential(layers)


def _build_stem_3x3(in_channels: int, width: int) -> OrderedDict[str, nn.Module]:
    """A 3×3 convolution of stride 1, for small images (He et al. 2016, Sect. 4.2)."""
    return OrderedDict(
        conv=nn.Conv2d(in_channels, width, 3, padding=1, bias=False),
        norm=nn.BatchNorm2d(width),
        relu=nn.ReLU(inplace=True),
    )


def _build_block(network: ResNet, in_channels: int, width: int, *, stride: int) -> tuple[ResidualBlock, int]:
    """Build a block; return it with the number of its output channels."""
    # Output channels, kernel size and stride of each convolution.
    if network.block == "basic":
        convs = [(width, 3, stride), (width, 3, 1)]
    else:
        stride_1x1, stride_3x3 = (stride, 1) if network.halve_by == "1x1" else (1, stride)
        convs = [(width, 1, stride_1x1), (width, 3, stride_3x3), (BOTTLENECK_EXPANSION * width, 1, 1)]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = in_channels
    for number, (out_channels, kernel, conv_stride) in enumerate(convs, 1):
        # No bias: the batch norm subtracts the mean anyway.
        layers[f"conv{number}"] = nn.Conv2d(
            channels, out_channels, kernel, conv_stride, padding=kernel // 2, bias=False
        )
        layers[f"norm{number}"] = nn.BatchNorm2d(out_channels)
        if number < len(convs):  # the last ReLU follows the sum with the shortcut
            layers[f"relu{number}"] = nn.ReLU(inplace=True)
        channels = out_channels
    shortcut = _build_shortcut(network, in_channels, channels, stride)
    return ResidualBlock(layers, shortcut), channels


def _build_shortcut(network: ResNet, in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    if network.shortcut == "none":
        return None
    keeps_shape = in_channels == out_channels and stride == 1
    if network.shortcut == "projection-all" or (network.shortcut == "projection" and not keeps_shape):
        projection = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
        return nn.Sequential(OrderedDict(conv=projection, norm=nn.BatchNorm2d(out_channels)))
    return nn.Identity() if keeps_shape else ZeroPadding(in_channels, out_channels, stride)
