"""Plain and residual networks as a module, by one code path: a plain block is a residual one without its shortcut."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional

from lightning_modules.layers import stem_7x7
from lightning_modules.networks import EXPANSION, ResNet
from lightning_modules.spec import Scale


class Block(nn.Module):
    """Convolutions with batch norm, a shortcut where there is one, and a ReLU over their sum.

    Maps ``(N, in, side, side)`` to ``(N, out, side / stride, side / stride)``.
    """

    def __init__(self, path: OrderedDict[str, nn.Module], shortcut: nn.Module | None) -> None:
        super().__init__()
        self.path = tuple(path)
        for name, layer in path.items():
            self.add_module(name, layer)
        self.shortcut = shortcut
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """The block's maps."""
        out = maps
        for name in self.path:
            out = self.get_submodule(name)(out)
        if self.shortcut is not None:
            out = out + self.shortcut(maps)
        rectified: torch.Tensor = self.relu(out)
        return rectified


class ZeroPadding(nn.Module):
    """Option A: every ``stride``-th position of the input; the new channels are zeros. Learns nothing."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.new, self.stride = width - channels, stride

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """The maps at the block's output shape."""
        return functional.pad(maps[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new))

    def extra_repr(self) -> str:
        """Shown by ``print``, and compared between arms."""
        return f"new={self.new}, stride={self.stride}"


def build_resnet(network: ResNet, scale: Scale) -> nn.Module:
    """A realised network as a module; places are ``stem.conv``, ``stage3.block1.conv2``, ``head.fc1``."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = network.stages[0].width
    layers["stem"] = nn.Sequential(
        stem_7x7(scale.channels, channels, "batch", "relu", bias=False)
        if network.stem == "7x7"
        else OrderedDict(
            conv=nn.Conv2d(scale.channels, channels, 3, padding=1, bias=False),
            norm=nn.BatchNorm2d(channels),
            relu=nn.ReLU(inplace=True),
        )
    )
    for number, stage in enumerate(network.stages, 1):
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        for place in range(1, stage.count + 1):
            halving = number > 1 and place == 1
            blocks[f"block{place}"], channels = _block(network, channels, stage.width, stride=2 if halving else 1)
        layers[f"stage{number}"] = nn.Sequential(blocks)
    layers["average"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["head"] = nn.Sequential(OrderedDict(fc1=nn.Linear(channels, scale.classes)))
    return nn.Sequential(layers)


def _block(network: ResNet, channels: int, width: int, *, stride: int) -> tuple[Block, int]:
    """A block and the number of channels that it gives out."""
    if network.block == "basic":
        convs = [(width, 3, stride), (width, 3, 1)]
    else:
        first, second = (stride, 1) if network.halve_by == "1x1" else (1, stride)
        convs = [(width, 1, first), (width, 3, second), (EXPANSION * width, 1, 1)]
    path: OrderedDict[str, nn.Module] = OrderedDict()
    inputs = channels
    for number, (outputs, kernel, step) in enumerate(convs, 1):
        path[f"conv{number}"] = nn.Conv2d(inputs, outputs, kernel, step, padding=kernel // 2, bias=False)
        path[f"norm{number}"] = nn.BatchNorm2d(outputs)
        if number < len(convs):
            path[f"relu{number}"] = nn.ReLU(inplace=True)
        inputs = outputs
    return Block(path, _shortcut(network, channels, inputs, stride)), inputs


def _shortcut(network: ResNet, channels: int, width: int, stride: int) -> nn.Module | None:
    if network.shortcut == "none":
        return None
    same = channels == width and stride == 1
    if network.shortcut == "projection-all" or (network.shortcut == "projection" and not same):
        projection = nn.Conv2d(channels, width, 1, stride, bias=False)
        return nn.Sequential(OrderedDict(conv=projection, norm=nn.BatchNorm2d(width)))
    return nn.Identity() if same else ZeroPadding(channels, width, stride)
