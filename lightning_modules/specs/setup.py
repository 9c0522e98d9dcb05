"""The setup: all that decides a trial's result besides its seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from lightning_modules.specs.data import Data, ForeignData
from lightning_modules.specs.errors import InvalidValue
from lightning_modules.specs.networks import Blocks, Conv, Custom, Head, Network, ResNet, Stage, Vgg
from lightning_modules.specs.recipe import CROP_AUGMENTATIONS, Recipe
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.test import Test
from lightning_modules.specs.values import (
    OMIT_DEFAULT,
    Arguments,
    Leaf,
    check_fields,
    edit_fields,
    freeze_arguments,
    require_field,
)


@dataclass(frozen=True, kw_only=True)
class Scratch:
    """Start of training: every layer is drawn by the network's own initializer."""


@dataclass(frozen=True, kw_only=True)
class Here:
    """Data of a source network: the same as those of the network that starts from it."""


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """Data of a source network: other ones, at the same resolution, channels and width.

    Attributes:
        classes: number of classes of these data.
    """

    data: Data
    classes: int

    def __post_init__(self) -> None:
        check_fields(self)
        require_field(self.classes >= 2, self, "classes", "2 or more")

    def __repr__(self) -> str:
        from lightning_modules.specs.notebook_html import describe_object

        return describe_object(self, f"{self.data.source}, {self.classes} classes")


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """Start of training: some layers are copied from a source network, trained before under the same seed.

    Attributes:
        network: the source network.
        layers: paths of layers, or of what contains them: ``stage1.conv1``, ``head``. Shapes must agree in both.
        recipe: the fields in which the source network's recipe differs from the recipe of the network that starts from
            it: ``{"learning_rate": 0.01, "side_to": 8 / 7}``.
        start: start of the source network itself. In a chain of warm starts, each recipe is relative to the one of the
            network that starts from it.
        on: the data that the source network is trained on. With other classes, the last layer cannot be copied.
    """

    network: Network
    layers: tuple[str, ...]
    recipe: Mapping[str, Leaf] = Arguments()
    start: Scratch | WarmStart = Scratch()
    on: Here | Elsewhere = Here()

    def __post_init__(self) -> None:
        freeze_arguments(self, "recipe")
        check_fields(self)
        recipe = edit_fields(Recipe(), self.recipe)  # raises if a field or a value is not one of a recipe
        # 1 and 1.0 are one setting, with one fingerprint.
        object.__setattr__(self, "recipe", Arguments({name: getattr(recipe, name) for name in self.recipe}))
        require_field(len(self.layers) >= 1, self, "layers", "at least one layer path, such as stage1.conv1")

    def __repr__(self) -> str:
        from lightning_modules.specs.notebook_html import describe_object

        return describe_object(self, f"from {self.network._repr_title_()}: {', '.join(self.layers)}")


Redraws = Literal["none", "weights", "order", "augmentation"]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """All that decides a trial's result besides its seed.

    With another test than the default one, a setup describes an evaluation of networks that other trials train.

    Attributes:
        redraws: stream of random numbers that a placebo draws anew under every seed.
        redraw_name: name of that draw; another name is another draw.
    """

    network: Network
    scale: Scale = field(default_factory=Scale)
    recipe: Recipe = field(default_factory=Recipe)
    data: Data | ForeignData = field(default_factory=Data)
    start: Scratch | WarmStart = field(default_factory=Scratch)
    test: Test = field(default_factory=Test)
    redraws: Redraws = field(default="none", metadata=OMIT_DEFAULT)
    redraw_name: str = field(default="none", metadata=OMIT_DEFAULT)

    def __post_init__(self) -> None:
        check_fields(self)

    def __repr__(self) -> str:
        from lightning_modules.specs.notebook_html import describe_object

        return describe_object(self, self._repr_title_())

    def _repr_title_(self) -> str:
        data = f"{self.data._repr_title_()} at {self.scale.resolution} px"
        facts = [self.network._repr_title_(), f"{self.recipe.epochs} epochs", data]
        if isinstance(self.start, WarmStart):
            facts.append(f"starts from {self.start.network._repr_title_()}")
        if self.test != Test():
            facts.append(f"{self.test.mode} test")
        if self.redraws != "none":
            facts.append(f"redraws {self.redraws}")
        return ", ".join(facts)

    @property
    def has_training(self) -> bool:
        """Whether it trains anything, rather than evaluate trained networks by another test than the default one.

        A linear classifier counts as training under any test: its features are those that the test reads.
        """
        return self.test == Test() or self.recipe.trains == "linear classifier"

    @property
    def epochs(self) -> int:
        """Epochs for which it trains a network: none for a linear classifier or an evaluation."""
        return self.recipe.epochs if self.has_training and self.recipe.trains == "network" else 0

    @property
    def dependencies(self) -> tuple[Setup, ...]:
        """Setups to be trained first, under the same seed: evaluated networks, or the source network."""
        if not self.has_training:
            return self._evaluated_setups()
        if isinstance(self.start, WarmStart):
            return (self._source_setup(self.start),)
        return ()

    def _evaluated_setups(self) -> tuple[Setup, ...]:
        trained = replace(self, test=Test())
        # A warm start names layers of this setup's own network, so the other members start from scratch.
        members = [replace(trained, network=member, start=Scratch()) for member in self.test.members]
        return (trained, *members)

    def _source_setup(self, warm_start: WarmStart) -> Setup:
        # Even if a linear classifier starts from it, the source itself is a trained network.
        recipe = edit_fields(replace(self.recipe, trains="network"), warm_start.recipe)
        source = replace(self, network=warm_start.network, recipe=recipe, start=warm_start.start, test=Test())
        if isinstance(warm_start.on, Elsewhere):
            scale = replace(self.scale, classes=warm_start.on.classes)
            source = replace(source, data=warm_start.on.data, scale=scale)
        return source

    def require_consistent(self) -> None:
        """Check that fields which depend on each other agree, in this setup and in its dependencies.

        Not checked on construction: fields are edited one by one, and may disagree in between.

        Raises:
            InvalidValue: naming the fields that disagree.
        """
        for dependency in self.dependencies:
            dependency.require_consistent()
        if self.recipe.trains == "linear classifier":
            self._require_linear_probe_support()
        self._require_consistent_rescaling()
        self._require_consistent_data()

    def _require_linear_probe_support(self) -> None:
        """Check that the network, the data and the test give features for a linear classifier."""
        given = "Recipe.trains is 'linear classifier'"
        if isinstance(self.network, Custom):
            raise InvalidValue(
                f"{given}, and the network is {self.network.class_path}; expected a VGG or residual network: of a "
                "custom network it is not known which activations are the penultimate ones. Use a VGG or residual "
                "network, or Recipe.trains 'network'."
            )
        if isinstance(self.data, ForeignData):
            raise InvalidValue(
                f"{given}, and {self.data.class_path} loads its own images; expected Data: a custom training loader "
                "shuffles and augments, but features are computed once per image. Use Data, or Recipe.trains 'network'."
            )
        if self.test.mode not in ("single", "dense") or self.test.members:
            raise InvalidValue(
                f"{given}, and Test.mode is {self.test.mode!r} with {len(self.test.members)} members; expected "
                "'single' or 'dense' without members: features are those of one network on one view of the image. "
                "Choose one of these modes, and remove the members."
            )

    def _require_consistent_rescaling(self) -> None:
        """Check that images are rescaled if and only if they are cropped afterwards."""
        side_from, side_to = self.recipe.side_from, self.recipe.side_to
        rescales = side_from > 0 or side_to > 0
        if rescales and not 1 <= side_from <= side_to:
            raise InvalidValue(
                f"Recipe.side_from is {side_from:g} and Recipe.side_to is {side_to:g}; expected both 0 (images as "
                "stored), or both 1 or more and side_from not above side_to. Set both."
            )
        if rescales != (self.recipe.augmentation in CROP_AUGMENTATIONS):
            crops = ", ".join(map(repr, CROP_AUGMENTATIONS))
            raise InvalidValue(
                f"Recipe.augmentation is {self.recipe.augmentation!r} and Recipe.side_to is {side_to:g}; expected one "
                f"of {crops} with sides of 1 or more, or another augmentation with sides of 0: rescaled images must be "
                "cropped, and only rescaled images can be."
            )
        if rescales and isinstance(self.data, ForeignData):
            raise InvalidValue(
                f"Recipe.side_to is {side_to:g}, and {self.data.class_path} loads its own images; expected sides of 0. "
                "Rescale and crop the images in its loaders."
            )

    def _require_consistent_data(self) -> None:
        """Check that options for image files are given only where there are files that are decoded at each use."""
        data = self.data
        if isinstance(data, ForeignData):
            return
        if data.keep != "fitted" and data.source != "folder":
            raise InvalidValue(
                f"Data.keep is {data.keep!r} and Data.source is {data.source!r}; expected the source 'folder' with it: "
                "other sources have no image files. Set Data.keep to 'fitted', or use an image folder."
            )


# The dataclasses that a setup in JSON may name under "kind".
SPEC_KINDS: dict[str, type] = {
    spec_class.__name__: spec_class
    for spec_class in (
        Conv, Stage, Head, Vgg, Blocks, ResNet, Custom, Arguments, Scale, Recipe, Data, ForeignData, Scratch,
        Here, Elsewhere, WarmStart, Test, Setup,
    )
}  # fmt: skip
