"""What decides a fit, as frozen values: network, scale, recipe, data. Torch-free; checked where they are made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from lightning_modules.values import InvalidValue, check, require

Norm = Literal["none", "lrn-first"]
Initialiser = Literal["he", "glorot"]
Source = Literal["digits", "cifar10", "cifar100", "folder"]
Augmentation = Literal["none", "shift", "shift-flip"]
Schedule = Literal["constant", "cosine"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class Conv:
    """A convolution of stride 1 that keeps the map's size, followed by the network's activation."""

    kernel: int = 3

    def __post_init__(self) -> None:
        check(self)
        require(self.kernel >= 1 and self.kernel % 2 == 1, self, "kernel", "an odd number from 1 up")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Convolutions of one width, closed by a pooling that halves the map."""

    width: int
    convs: tuple[Conv, ...]

    def __post_init__(self) -> None:
        check(self)
        require(self.width >= 1, self, "width", "1 or more channels")
        require(len(self.convs) >= 1, self, "convs", "at least one convolution")


@dataclass(frozen=True, kw_only=True)
class Head:
    """The fully connected layers before the last one; each is followed by the activation and dropout."""

    widths: tuple[int, ...] = (4096, 4096)
    dropout: float = 0.5

    def __post_init__(self) -> None:
        check(self)
        require(all(width >= 1 for width in self.widths), self, "widths", "1 or more units per layer")
        require(0 <= self.dropout < 1, self, "dropout", "a probability from 0 up to, not including, 1")


@dataclass(frozen=True, kw_only=True)
class Vgg:
    """A network of the VGG family, in the paper's own widths (Simonyan & Zisserman 2015, Table 1)."""

    stages: tuple[Stage, ...]
    norm: Norm = "none"
    head: Head = Head()
    init: Initialiser = "he"

    def __post_init__(self) -> None:
        check(self)
        require(len(self.stages) >= 1, self, "stages", "at least one stage")


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What a protocol does to every network alike.

    Attributes:
        resolution: side of the square input, pixels.
        channels: of the input, 1 (grey) or 3 (colour).
        classes: number of classes.
        width: factor on every width of the network, in (0, 1].
    """

    resolution: int = 224
    channels: int = 3
    classes: int = 1000
    width: float = 1.0

    def __post_init__(self) -> None:
        check(self)
        require(self.resolution >= 1, self, "resolution", "1 or more pixels")
        require(self.channels in (1, 3), self, "channels", "1 (grey) or 3 (colour)")
        require(self.classes >= 2, self, "classes", "2 or more")
        require(0 < self.width <= 1, self, "width", "a factor above 0 and up to 1")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained: SGD with momentum under a schedule that warms up linearly.

    Attributes:
        epochs: passes over the training part.
        batch_size: examples per step; an incomplete last batch is trained on as well.
        learning_rate: peak rate, after the warm-up.
        momentum: of SGD, without dampening.
        weight_decay: L2 penalty on weights, not on biases.
        warmup: share of all steps in which the rate rises linearly from 0.
        schedule: what follows the warm-up.
        clip_norm: largest global norm of the gradient; 0 clips nothing.
        augmentation: ``shift`` moves each image by up to an eighth of its side, ``-flip`` mirrors half of them.
        precision: of the forward and backward pass; weights and their updates are float32.
    """

    epochs: int = 74
    batch_size: int = 256
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.0
    schedule: Schedule = "cosine"
    clip_norm: float = 0.0
    augmentation: Augmentation = "shift-flip"
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        check(self)
        require(self.epochs >= 1, self, "epochs", "1 or more")
        require(self.batch_size >= 1, self, "batch_size", "1 or more")
        require(self.learning_rate > 0, self, "learning_rate", "a rate above 0")
        require(0 <= self.momentum < 1, self, "momentum", "a number from 0 up to, not including, 1")
        require(self.weight_decay >= 0, self, "weight_decay", "0 or more")
        require(0 <= self.warmup <= 1, self, "warmup", "a share of the steps from 0 to 1")
        require(self.clip_norm >= 0, self, "clip_norm", "0 (no clipping) or more")


@dataclass(frozen=True, kw_only=True)
class Data:
    """Which examples are trained on, validated on and tested on.

    Attributes:
        source: where the examples come from.
        train_fraction: share of the source's training examples that a study uses, drawn once, stratified by class.
        validation_fraction: share of those that is held out for validation, drawn by seed, stratified by class.
    """

    source: Source = "folder"
    train_fraction: float = 1.0
    validation_fraction: float = 0.1

    def __post_init__(self) -> None:
        check(self)
        require(0 < self.train_fraction <= 1, self, "train_fraction", "a share above 0 and up to 1")
        require(0 < self.validation_fraction < 1, self, "validation_fraction", "a share between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class Setup:
    """All that decides a fit, save the seed."""

    network: Vgg
    scale: Scale = Scale()
    recipe: Recipe = Recipe()
    data: Data = Data()

    def __post_init__(self) -> None:
        check(self)


SPEC_KINDS: dict[str, type] = {kind.__name__: kind for kind in (Conv, Stage, Head, Vgg, Scale, Recipe, Data, Setup)}


def realise(network: Vgg, scale: Scale) -> Vgg:
    """The network at a scale: every width but the number of classes multiplied, and rounded to at least one channel.

    Raises:
        InvalidValue: where the input is too small for the network's poolings.
    """
    smallest = 2 ** len(network.stages)
    if scale.resolution < smallest:
        raise InvalidValue(
            f"Scale.resolution is {scale.resolution}; expected {smallest} pixels or more: "
            f"the network halves its map {len(network.stages)} times."
        )
    return replace(
        network,
        stages=tuple(replace(stage, width=_narrowed(stage.width, scale)) for stage in network.stages),
        head=replace(network.head, widths=tuple(_narrowed(width, scale) for width in network.head.widths)),
    )


def _narrowed(width: int, scale: Scale) -> int:
    return max(1, round(width * scale.width))
