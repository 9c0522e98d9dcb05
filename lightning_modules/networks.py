"""Networks as frozen values: the VGG family, plain and residual networks, and anybody's own. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from lightning_modules.values import Arguments, InvalidValue, Leaf, check, did_you_mean, require

if TYPE_CHECKING:
    from lightning_modules.spec import Scale

Norm = Literal["none", "lrn-first", "lrn", "batch", "group"]
Activation = Literal["relu", "gelu", "tanh", "sigmoid"]
Pooling = Literal["max", "average", "strided"]
Stem = Literal["none", "7x7"]
Initialiser = Literal["glorot", "he", "orthogonal", "gaussian-variance-0.01", "gaussian-deviation-0.01"]
Block = Literal["basic", "bottleneck"]
Shortcut = Literal["none", "identity", "projection", "projection-all"]

EXPANSION = 4  # of a bottleneck: its output has four times the channels of its 3×3 convolution


@dataclass(frozen=True, kw_only=True)
class Conv:
    """A convolution of stride 1 that keeps the map's size, followed by the network's activation if ``activate``."""

    kernel: int = 3
    activate: bool = True

    def __post_init__(self) -> None:
        check(self)
        require(self.kernel >= 1 and self.kernel % 2 == 1, self, "kernel", "an odd number from 1 up")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Convolutions of one width, closed by the network's pooling, which halves the map."""

    width: int
    convs: tuple[Conv, ...]

    def __post_init__(self) -> None:
        check(self)
        require(self.width >= 1, self, "width", "1 or more channels")
        require(len(self.convs) >= 1, self, "convs", "at least one convolution")


@dataclass(frozen=True, kw_only=True)
class Head:
    """What follows the last map: its average over positions, or all of it; then the fully connected layers.

    Attributes:
        pooling: ``average`` leaves one number per channel (Lin et al. 2014, Sect. 3.2).
        widths: of the fully connected layers before the last one; each is followed by the activation and dropout.
        dropout: probability that a unit of these is dropped in training.
    """

    pooling: Literal["none", "average"] = "none"
    widths: tuple[int, ...] = (4096, 4096)
    dropout: float = 0.5

    def __post_init__(self) -> None:
        check(self)
        require(all(width >= 1 for width in self.widths), self, "widths", "1 or more units per layer")
        require(0 <= self.dropout < 1, self, "dropout", "a probability from 0 up to, not including, 1")


@dataclass(frozen=True, kw_only=True)
class Vgg:
    """A network of the VGG family, in the paper's own widths (Simonyan & Zisserman 2015, Table 1).

    Attributes:
        stem: what comes before the first stage: nothing, or ResNet's 7×7 convolution of stride 2 with a 3×3 pooling of
            stride 2.
        norm: ``lrn-first`` after the first activation alone, as in A-LRN; ``lrn`` after every one of the stages;
            ``batch`` and ``group`` between every convolution and its activation.
        pooling: ``strided`` has none: the last convolution of a stage takes stride 2 (Springenberg et al. 2015).
    """

    stages: tuple[Stage, ...]
    stem: Stem = "none"
    norm: Norm = "none"
    activation: Activation = "relu"
    pooling: Pooling = "max"
    head: Head = Head()
    init: Initialiser = "he"

    def __post_init__(self) -> None:
        check(self)
        require(len(self.stages) >= 1, self, "stages", "at least one stage")


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """A stage of a plain or residual network; from the second stage on, its first block halves the map.

    Attributes:
        width: channels of a block's 3×3 convolutions; a bottleneck gives out four times as many.
    """

    width: int
    count: int

    def __post_init__(self) -> None:
        check(self)
        require(self.width >= 1, self, "width", "1 or more channels")
        require(self.count >= 1, self, "count", "at least one block")


@dataclass(frozen=True, kw_only=True)
class ResNet:
    """A plain or residual network with batch normalisation (He et al. 2016, Sect. 3.3 and 4.2).

    Attributes:
        stem: ``7x7`` of stride 2 with a 3×3 pooling of stride 2, for 224 pixels; ``3x3`` for 32 pixels.
        shortcut: ``none``, the plain network; ``identity``, option A: zeros fill new channels; ``projection``, option
            B: 1×1 convolutions where the shape changes; ``projection-all``, option C: everywhere.
        halve_by: which convolution of a bottleneck halves the map: the ``3x3`` (as torchvision does), or the first
            ``1x1`` (as the paper does).
    """

    stem: Literal["3x3", "7x7"]
    block: Block
    stages: tuple[Blocks, ...]
    shortcut: Shortcut
    halve_by: Literal["3x3", "1x1"] = "3x3"
    init: Initialiser = "he"

    def __post_init__(self) -> None:
        check(self)
        require(len(self.stages) >= 1, self, "stages", "at least one stage")
        widths = [stage.width for stage in self.stages]
        require(
            self.shortcut != "identity" or widths == sorted(widths),
            self,
            "stages",
            "widths that do not shrink from stage to stage: an identity shortcut fills new channels, and drops none",
        )


@dataclass(frozen=True, kw_only=True)
class Custom:
    """Anybody's network: what an ``nn.Module`` factory or a ``LightningModule`` class returns.

    A ``LightningModule`` trains itself: of the recipe it gets epochs, batch size and augmentation. Of the scale either
    gets what it asks for: an argument of ``$classes``, ``$channels``, ``$resolution`` or ``$width`` becomes the
    protocol's. Initial weights are the module's own, drawn after the seed's weight stream has been set.

    Attributes:
        class_path: dotted path of a class or function, such as ``torchvision.models.alexnet``.
        init_args: its arguments.
        auxiliary_weight: what the losses of further outputs count, where training gives several (GoogLeNet: 0.3).
    """

    class_path: str
    init_args: Mapping[str, Leaf] = Arguments()
    auxiliary_weight: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "init_args", Arguments(self.init_args))
        check(self)
        require_dotted(self)
        require(self.auxiliary_weight >= 0, self, "auxiliary_weight", "0 or more")


Network = Vgg | ResNet | Custom


def realise(network: Network, scale: Scale) -> Network:
    """The network at a scale: every width but the number of classes multiplied, and rounded to at least one channel.

    Of a custom network, the arguments that ask for the scale are filled in.

    Raises:
        InvalidValue: where the input is too small for the poolings, or an argument asks for what no scale has.
    """
    if isinstance(network, Custom):
        return replace(network, init_args=filled(network.init_args, scale))
    if isinstance(network, ResNet):
        stages = tuple(replace(stage, width=narrowed(stage.width, scale)) for stage in network.stages)
        return replace(network, stages=stages)
    halvings = len(network.stages) + (2 if network.stem == "7x7" else 0)
    if scale.resolution < 2**halvings:
        raise InvalidValue(
            f"Scale.resolution is {scale.resolution}; expected {2**halvings} pixels or more: "
            f"the network halves its map {halvings} times."
        )
    return replace(
        network,
        stages=tuple(replace(stage, width=narrowed(stage.width, scale)) for stage in network.stages),
        head=replace(network.head, widths=tuple(narrowed(width, scale) for width in network.head.widths)),
    )


def narrowed(width: int, scale: Scale) -> int:
    """A width at a scale."""
    return max(1, round(width * scale.width))


def filled(arguments: Mapping[str, Leaf], scale: Scale) -> Arguments:
    """Arguments in which what asks for the scale is the scale's.

    Raises:
        InvalidValue: where an argument asks for what no scale has.
    """
    return Arguments({name: _filled(leaf, scale) for name, leaf in arguments.items()})


def require_dotted(owner: object) -> None:
    """Raise ``InvalidValue`` unless the field ``class_path`` is a dotted path."""
    parts = str(vars(owner)["class_path"]).split(".")
    dotted = len(parts) > 1 and all(part.isidentifier() for part in parts)
    require(dotted, owner, "class_path", "a dotted path, such as my_networks.SmallNet")


def _filled(leaf: Leaf, scale: Scale) -> Leaf:
    if not (isinstance(leaf, str) and leaf.startswith("$")):
        return leaf
    known: dict[str, Leaf] = {
        "$classes": scale.classes,
        "$channels": scale.channels,
        "$resolution": scale.resolution,
        "$width": scale.width,
    }
    if leaf not in known:
        raise InvalidValue(
            f"{leaf!r} is nothing of the scale.{did_you_mean(leaf, known)} There are: {', '.join(known)}."
        )
    return known[leaf]
