"""The scale that a protocol applies to every network alike: width, resolution, channels, classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lightning_modules.specs.errors import InvalidValue, did_you_mean
from lightning_modules.specs.networks import Custom, Network, ResNet, Stage, Vgg
from lightning_modules.specs.values import Arguments, Leaf, check_fields, require_field

STEM_HALVINGS = 2  # of the 7×7 stem: a convolution and a pooling, both of stride 2


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Input size, number of classes and width factor, the same for all networks of a study.

    Attributes:
        resolution: side of the square input, pixels.
        channels: of the input, 1 (gray) or 3 (color).
        classes: number of classes.
        width: factor on every width of the network.
    """

    resolution: int = 224
    channels: int = 3
    classes: int = 1000
    width: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self)
        require_field(self.resolution >= 1, self, "resolution", "1 or more pixels")
        require_field(self.channels in (1, 3), self, "channels", "1 (gray) or 3 (color)")
        require_field(self.classes >= 2, self, "classes", "2 or more")
        require_field(self.width > 0, self, "width", "a factor above 0")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of an image: ``(channels, height, width)``."""
        return (self.channels, self.resolution, self.resolution)


def apply_scale(network: Network, scale: Scale) -> Network:
    """Apply a scale to a network: multiply all widths, or fill in the arguments of a custom network.

    Raises:
        InvalidValue: if the resolution is too small for the network's poolings, or an argument asks for something that
            no scale has.
    """
    if isinstance(network, Custom):
        return replace(network, init_args=fill_arguments(network.init_args, scale))
    if isinstance(network, ResNet):
        blocks = tuple(replace(stage, width=scaled_width(stage.width, scale)) for stage in network.stages)
        return replace(network, stages=blocks)
    return _scale_vgg(network, scale)


def _scale_vgg(network: Vgg, scale: Scale) -> Vgg:
    halvings = len(network.stages)
    if network.stem == "7x7":
        halvings += STEM_HALVINGS
    # The flattened map must have at least one position. (ResNets average it, so that any resolution will do.)
    if scale.resolution < 2**halvings:
        raise InvalidValue(
            f"Scale.resolution is {scale.resolution}; expected {2**halvings} pixels or more: "
            f"the network halves its map {halvings} times."
        )
    stages: list[Stage] = []
    for stage in network.stages:
        stages.append(replace(stage, width=scaled_width(stage.width, scale)))
    head_widths = tuple(scaled_width(width, scale) for width in network.head.widths)
    return replace(network, stages=tuple(stages), head=replace(network.head, widths=head_widths))


def scaled_width(width: int, scale: Scale) -> int:
    """A width at a scale, rounded to at least one channel."""
    return max(1, round(width * scale.width))


def fill_arguments(arguments: Mapping[str, Leaf], scale: Scale) -> Arguments:
    """Replace the arguments that stand for a property of the scale, such as ``$classes``.

    Raises:
        InvalidValue: if an argument asks for something that no scale has.
    """
    return Arguments({name: _fill_argument(leaf, scale) for name, leaf in arguments.items()})


def _fill_argument(leaf: Leaf, scale: Scale) -> Leaf:
    if not (isinstance(leaf, str) and leaf.startswith("$")):
        return leaf
    values: dict[str, Leaf] = {
        "$classes": scale.classes,
        "$channels": scale.channels,
        "$resolution": scale.resolution,
        "$width": scale.width,
    }
    if leaf not in values:
        raise InvalidValue(
            f"{leaf!r} is not a property of the scale.{did_you_mean(leaf, values)} There are: {', '.join(values)}."
        )
    return values[leaf]
