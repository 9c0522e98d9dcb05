"""Profile a block of layers written as text: ``conv 3x3 64->128 | relu | conv 3x3 128->128``."""

from __future__ import annotations

import math
import re
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lightning_modules.profiling.profile import profile_module
from lightning_modules.specs.errors import InvalidValue, did_you_mean
from studies.inspection.named_profile import NamedProfile

if TYPE_CHECKING:
    from torch import nn

KINDS = ("conv", "maxpool", "avgpool", "batchnorm", "relu")
OPTIONS: Mapping[str, tuple[str, ...]] = {  # that a kind takes, each followed by a number
    "conv": ("stride", "groups", "dilation"),
    "maxpool": ("stride",),
    "avgpool": ("stride",),
    "batchnorm": (),
    "relu": (),
}
NO_BIAS = "no-bias"
MAX_CHANNELS, MAX_STEP = 65536, 1000  # larger channels, and kernel sides or strides in pixels, are typing errors
MAX_SIDE = 65536  # pixels, of an input map
GRAMMAR = (
    "layers between bars, such as 'conv 3x3 64->128 | relu | conv 3x3 128->128': conv KxK IN->OUT "
    "[stride N] [groups N] [dilation N] [no-bias], maxpool KxK [stride N], avgpool KxK [stride N], batchnorm, relu"
)


@dataclass(frozen=True, kw_only=True)
class BlockLayer:
    """One layer of a block; windows are padded so that stride alone shrinks the map.

    Attributes:
        kernel: height and width; 0 for a layer without a window.
        in_channels, out_channels: 0 for a layer that keeps the number of channels.
    """

    text: str
    kind: str
    kernel: tuple[int, int] = (0, 0)
    in_channels: int = 0
    out_channels: int = 0
    stride: int = 1
    groups: int = 1
    dilation: int = 1
    bias: bool = True


@dataclass(frozen=True, kw_only=True)
class BlockProfile(NamedProfile):
    """A block's profile.

    Attributes:
        channels: of the block's input.
        resolution: side of the block's input map, for which multiply-adds are counted; ``None`` for one position of its
            output.
    """

    channels: int
    resolution: int | None

    def as_data(self) -> dict[str, Any]:
        """The profile under the keys of a network's; a ``resolution`` of ``null`` counts one output position."""
        return self.common_data() | {"scale": {"resolution": self.resolution, "channels": self.channels}}


def is_block(text: str) -> bool:
    """Whether a text is meant as a block, rather than as the name of a network or an arm."""
    words = text.split()
    if words and words[0].lower() in KINDS and (len(words) > 1 or words[0].lower() in ("conv", "relu")):
        return True
    return "/" not in text and ("->" in text or "|" in text)


def profile_block(text: str, resolution: int | None) -> BlockProfile:
    """Profile a block at a side of its input map, or for one position of its output map.

    Raises:
        InvalidValue: for a text that is no block; see :data:`GRAMMAR`.
        UserError: if the map is too small for the block.
    """
    layers = parse_block(text)
    channels = next(layer.in_channels for layer in layers if layer.in_channels)
    # An input whose side is the product of all strides leaves one position.
    total_stride = math.prod(layer.stride for layer in layers)
    if total_stride > MAX_SIDE:
        raise InvalidValue(f"The block's strides multiply to {total_stride:,}; expected {MAX_SIDE:,} or less.")
    side = resolution or total_stride
    profile = profile_module(_build_block(layers, channels), (channels, side, side))
    name = " | ".join(layer.text for layer in layers)
    return BlockProfile(name=name, profile=profile, channels=channels, resolution=resolution)


def parse_block(text: str) -> tuple[BlockLayer, ...]:
    """Parse the layers of a block, and check that each takes the channels that it is given.

    Raises:
        InvalidValue: naming the layer that is wrong, what was expected there, and the grammar.
    """
    layers = []
    channels, giver = 0, ""
    for layer_text in text.split("|"):
        layer = _parse_layer(" ".join(layer_text.split()))
        if layer.in_channels and channels and layer.in_channels != channels:
            raise InvalidValue(
                f"Block layer {layer.text!r} takes {layer.in_channels} channels, but {giver!r} before it gives "
                f"{channels}."
            )
        if layer.kind == "batchnorm" and not channels:
            raise InvalidValue(f"Block layer {layer.text!r} has no convolution before it, so its channels are unknown.")
        if layer.out_channels:
            channels, giver = layer.out_channels, layer.text
        layers.append(layer)
    if not channels:
        raise InvalidValue(f"Block {text!r} has no convolution, so its channels are unknown; expected {GRAMMAR}.")
    return tuple(layers)


def _parse_layer(text: str) -> BlockLayer:
    words = text.lower().split()
    if not words:
        raise InvalidValue(f"A block has an empty layer; expected {GRAMMAR}.")
    kind, *rest = words
    if kind not in KINDS:
        raise InvalidValue(f"Block layer {text!r} begins with no known kind.{did_you_mean(kind, KINDS)} Use {GRAMMAR}.")
    layer = BlockLayer(text=text, kind=kind)
    if kind in ("batchnorm", "relu"):
        return _apply_options(layer, rest)
    kernel = re.fullmatch(r"(\d+)[x×](\d+)", rest.pop(0) if rest else "")
    if kernel is None:
        raise InvalidValue(f"Block layer {text!r} has no kernel after {kind!r}; expected one such as 3x3.")
    height, width = (_read_number(number, "kernel side", text) for number in kernel.groups())
    layer = replace(layer, kernel=(height, width))
    if kind == "conv":
        channels = re.fullmatch(r"(\d+)(?:->|→)(\d+)", rest.pop(0) if rest else "")
        if channels is None:
            raise InvalidValue(f"Block layer {text!r} has no channels after its kernel; expected such as 64->128.")
        in_channels, out_channels = (
            _read_number(number, "number of channels", text, MAX_CHANNELS) for number in channels.groups()
        )
        layer = replace(layer, in_channels=in_channels, out_channels=out_channels)
    elif height == width:
        layer = replace(layer, stride=height)  # a pooling moves by its own side unless told otherwise
    layer = _apply_options(layer, rest)
    _check_layer(layer)
    return layer


def _apply_options(layer: BlockLayer, words: Sequence[str]) -> BlockLayer:
    allowed = OPTIONS[layer.kind]
    names = (*allowed, NO_BIAS) if layer.kind == "conv" else allowed
    remaining = list(words)
    numbers: dict[str, Any] = {}
    while remaining:
        name = remaining.pop(0)
        if name not in names or name in numbers:
            takes = f"one of each of {', '.join(names)}" if names else "none"
            raise InvalidValue(
                f"Block layer {layer.text!r} has an option {name!r} that it cannot take; expected {takes}."
                f"{did_you_mean(name, names) if name not in names else ''}"
            )
        if name == NO_BIAS:
            numbers["bias"] = False
        else:
            numbers[name] = _read_number(remaining.pop(0) if remaining else "", name, layer.text)
    return replace(layer, **numbers)


def _read_number(word: str, meaning: str, text: str, largest: int = MAX_STEP) -> int:
    if not (word.isdecimal() and 1 <= int(word) <= largest):
        raise InvalidValue(f"Block layer {text!r} has {word or 'nothing'} as its {meaning}; expected 1 to {largest:,}.")
    return int(word)


def _check_layer(layer: BlockLayer) -> None:
    """Refuse windows that no padding centers, and groups that do not divide the channels."""
    is_tiling = layer.kind != "conv" and layer.kernel == (layer.stride, layer.stride)
    if not is_tiling and any(side % 2 == 0 for side in layer.kernel):
        reason = "expected odd sides, which can be padded alike on both sides"
        raise InvalidValue(f"Block layer {layer.text!r} has an even kernel; {reason}.")
    if layer.in_channels % layer.groups or layer.out_channels % layer.groups:
        raise InvalidValue(f"Block layer {layer.text!r} has channels that its {layer.groups} groups do not divide.")


def _build_block(layers: Sequence[BlockLayer], channels: int) -> nn.Module:
    """Build a block on the meta device; its layer paths are ``conv1``, ``relu1``, ``conv2``."""
    import torch
    from torch import nn

    modules: OrderedDict[str, nn.Module] = OrderedDict()
    num_layers: Counter[str] = Counter()
    with torch.device("meta"):
        for layer in layers:
            num_layers[layer.kind] += 1
            modules[f"{layer.kind}{num_layers[layer.kind]}"] = _build_layer(layer, channels)
            channels = layer.out_channels or channels
        return nn.Sequential(modules)


def _build_layer(layer: BlockLayer, channels: int) -> nn.Module:
    from torch import nn

    height, width = layer.kernel
    if layer.kind == "conv":
        padding = (height // 2 * layer.dilation, width // 2 * layer.dilation)
        return nn.Conv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel,
            layer.stride,
            padding,
            layer.dilation,
            layer.groups,
            layer.bias,
        )
    if layer.kind == "batchnorm":
        return nn.BatchNorm2d(channels)
    if layer.kind == "relu":
        return nn.ReLU()
    pool_padding = (height // 2, width // 2) if height % 2 and width % 2 else (0, 0)
    pool_class = nn.MaxPool2d if layer.kind == "maxpool" else nn.AvgPool2d
    return pool_class(layer.kernel, layer.stride, pool_padding)
