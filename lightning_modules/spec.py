"""What decides a fit, as frozen values: network, scale, recipe, data. Torch-free; checked where they are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from lightning_modules.networks import (
    Blocks,
    Conv,
    Custom,
    Head,
    Initialiser,
    Network,
    ResNet,
    Stage,
    Vgg,
    narrowed,
    realise,
    require_dotted,
)
from lightning_modules.values import Arguments, InvalidValue, Leaf, check, edit_all, require

__all__ = [
    "CROPS",
    "SPEC_KINDS",
    "TEST_MODES",
    "Augmentation",
    "BadFiles",
    "Blocks",
    "Conv",
    "Custom",
    "Data",
    "Elsewhere",
    "ForeignData",
    "Head",
    "Here",
    "Initialiser",
    "Keep",
    "Mirroring",
    "Network",
    "Precision",
    "Recipe",
    "ResNet",
    "Scale",
    "Schedule",
    "Scratch",
    "Setup",
    "Source",
    "Stage",
    "Test",
    "TestMode",
    "Trained",
    "Vgg",
    "WarmStart",
    "narrowed",
    "realise",
]

Source = Literal["digits", "cifar10", "cifar100", "folder"]
Augmentation = Literal["none", "shift", "shift-flip", "crop-flip", "crop-flip-colour"]
Schedule = Literal["constant", "cosine", "plateau"]
Keep = Literal["fitted", "originals", "resized"]
BadFiles = Literal["refuse", "leave out"]
Precision = Literal["float32", "bfloat16"]
Trained = Literal["network", "linear classifier"]
TestMode = Literal["single", "dense", "multi-crop", "both", "ten-crop"]
TEST_MODES: tuple[TestMode, ...] = get_args(TestMode)
Mirroring = Literal["as-trained", "never", "always"]
CROPS: tuple[Augmentation, ...] = ("crop-flip", "crop-flip-colour")  # of images that are rescaled first


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What a protocol does to every network alike.

    Attributes:
        resolution: side of the square input, pixels.
        channels: of the input, 1 (grey) or 3 (colour).
        classes: number of classes.
        width: factor on every width of the network.
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
        require(self.width > 0, self, "width", "a factor above 0")


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
        schedule: what follows the warm-up; ``plateau`` divides the rate by ten, three times at most, whenever the
            validation error has not improved for ``patience`` epochs (Simonyan & Zisserman 2015, Sect. 3.1).
        patience: of the schedule ``plateau``, epochs.
        clip_norm: largest global norm of the gradient; 0 clips nothing.
        augmentation: ``shift`` moves each image by up to an eighth of its side, ``-flip`` mirrors half of them;
            ``crop`` cuts a square of the scale's resolution out of the rescaled image, at a place drawn at random, and
            ``-colour`` shifts its colours along their principal components (Krizhevsky et al. 2012, Sect. 4.1).
        side_from: shorter side to which each training image is rescaled, isotropically, before it is cropped, in units
            of the scale's resolution; drawn uniformly in whole pixels from ``side_from`` to ``side_to``. 0: images are
            used as they are stored. Untrained on, an image is rescaled to the mean of the two, and its centre shown.
        microbatch: examples whose gradients are computed at once, and added up over the batch; 0: all of them. A batch
            norm sees each of these parts for itself.
        precision: of the forward and backward pass; weights and their updates are float32.
        trains: the ``network``, or a ``linear classifier`` on the network's penultimate activations, which stays as it
            starts: no epoch is trained then, and of the recipe only what says how an image is shown has any effect.
    """

    epochs: int = 74
    batch_size: int = 256
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.0
    schedule: Schedule = "cosine"
    clip_norm: float = 0.0
    patience: int = 5
    augmentation: Augmentation = "shift-flip"
    side_from: float = 0.0
    side_to: float = 0.0
    microbatch: int = 0
    precision: Precision = "float32"
    trains: Trained = "network"

    def __post_init__(self) -> None:
        check(self)
        require(self.epochs >= 1, self, "epochs", "1 or more")
        require(self.batch_size >= 1, self, "batch_size", "1 or more")
        require(self.learning_rate > 0, self, "learning_rate", "a rate above 0")
        require(0 <= self.momentum < 1, self, "momentum", "a number from 0 up to, not including, 1")
        require(self.weight_decay >= 0, self, "weight_decay", "0 or more")
        require(0 <= self.warmup <= 1, self, "warmup", "a share of the steps from 0 to 1")
        require(self.clip_norm >= 0, self, "clip_norm", "0 (no clipping) or more")
        require(self.patience >= 1, self, "patience", "1 epoch or more")
        for name in ("side_from", "side_to"):
            side = getattr(self, name)
            require(side == 0 or side >= 1, self, name, "0 (images as stored), or 1 or more of the scale's resolution")
        require(self.microbatch >= 0, self, "microbatch", "0 (the whole batch at once) or more examples")

    @property
    def mean_side(self) -> float:
        """The shorter side at which an image is shown untrained on, in units of the resolution; 0: as it is stored."""
        return (self.side_from + self.side_to) / 2


@dataclass(frozen=True, kw_only=True)
class Data:
    """Which examples are trained on, validated on and tested on.

    Attributes:
        source: where the examples come from.
        train_fraction: share of the source's training examples that a study uses, drawn once, stratified by class.
        validation_fraction: share of those that is held out for validation, drawn by seed, stratified by class.
        keep: ``fitted`` keeps every image in memory, at the scale's resolution. Of a folder of larger ones,
            ``originals`` decodes the files at each use, and ``resized`` copies on disk, made once, whose shorter side
            is the lesser of their own and 16/7 of the resolution: rescaled twice, their pixels are others.
        bad_files: what to do where files of a folder cannot be read, or are of another format than they are named:
            ``refuse`` them all, or ``leave out`` these. They are named and counted. Fitted images are always refused.
    """

    source: Source = "folder"
    train_fraction: float = 1.0
    validation_fraction: float = 0.1
    keep: Keep = "fitted"
    bad_files: BadFiles = "refuse"

    def __post_init__(self) -> None:
        check(self)
        require(0 < self.train_fraction <= 1, self, "train_fraction", "a share above 0 and up to 1")
        require(0 < self.validation_fraction < 1, self, "validation_fraction", "a share between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class ForeignData:
    """Anybody's data: a ``LightningDataModule``, whose own loaders train, validate and test.

    They yield ``(images, labels)``: float32 ``(batch, channels, height, width)`` and int64 ``(batch,)``. They decide
    batch size and augmentation; what they draw at random is seeded by (seed, epoch).

    Attributes:
        class_path: dotted path of a class or function, such as ``my_data.Digits``.
        init_args: its arguments; those of ``$classes``, ``$channels`` and the like become the scale's.
    """

    class_path: str
    init_args: Mapping[str, Leaf] = Arguments()

    def __post_init__(self) -> None:
        object.__setattr__(self, "init_args", Arguments(self.init_args))
        check(self)
        require_dotted(self)


@dataclass(frozen=True, kw_only=True)
class Scratch:
    """Every layer starts from the network's own initialiser."""


@dataclass(frozen=True, kw_only=True)
class Here:
    """A donor is trained on the data of the one that starts from it."""


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """A donor is trained on other data, at the same resolution, channels and width.

    Attributes:
        classes: of these data.
    """

    data: Data
    classes: int

    def __post_init__(self) -> None:
        check(self)
        require(self.classes >= 2, self, "classes", "2 or more")


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """Some layers start as they ended in another network: the donor, trained before under the same seed.

    Attributes:
        network: the donor's.
        layers: their places, or what these begin with: ``stage1.conv1``, ``head``. They have equal shapes in both.
        recipe: what is otherwise in the donor's recipe than in that of the one that starts from it, by field:
            ``{"learning_rate": 0.01, "side_to": 8 / 7}``.
        start: how the donor itself starts; from a donor of its own, whose recipe differs from the donor's, and so on.
        on: the data that it is trained on. The layer that gives the logits cannot be copied from other classes.
    """

    network: Network
    layers: tuple[str, ...]
    recipe: Mapping[str, Leaf] = Arguments()
    start: Scratch | WarmStart = Scratch()
    on: Here | Elsewhere = Here()

    def __post_init__(self) -> None:
        object.__setattr__(self, "recipe", Arguments(self.recipe))
        check(self)
        edit_all(Recipe(), self.recipe)
        require(len(self.layers) >= 1, self, "layers", "at least one place, such as stage1.conv1")


@dataclass(frozen=True, kw_only=True)
class Test:
    """How a trained network is tested; class posteriors are averaged over all that is looked at.

    Attributes:
        mode: ``single``, the centre crop, not mirrored; ``dense``, the whole image, with fully connected layers as
            convolutions (Simonyan & Zisserman 2015, Sect. 3.2); ``multi-crop``, a grid of 5 × 5 crops; ``both``, the
            mean of those two; ``ten-crop``, four corners and the centre (Krizhevsky et al. 2012, Sect. 4.1).
        sides: shorter sides to which each image is rescaled, in units of the crop's: 8/7 are 256 pixels at a crop of
            224. Empty: the image as it is tested while training.
        mirroring: whether crops and whole images are looked at mirrored as well: where training mirrored them, or
            never, or always.
        members: further networks, trained as this one under the same seed, whose posteriors are averaged with its own.
    """

    mode: TestMode = "single"
    sides: tuple[float, ...] = ()
    mirroring: Mirroring = "as-trained"
    members: tuple[Network, ...] = ()

    def __post_init__(self) -> None:
        check(self)
        require(all(side >= 1 for side in self.sides), self, "sides", "factors of 1 or more on the side of the crop")
        require(len(set(self.sides)) == len(self.sides), self, "sides", "different factors")
        require(
            self.mode != "single" or self.mirroring == "as-trained",
            self,
            "mirroring",
            "'as-trained': a single crop is never mirrored",
        )
        object.__setattr__(self, "sides", tuple(map(float, self.sides)))


@dataclass(frozen=True, kw_only=True)
class Setup:
    """All that decides a fit, save the seed; with another test than the default one, all that decides an evaluation."""

    network: Network
    scale: Scale = Scale()
    recipe: Recipe = Recipe()
    data: Data | ForeignData = Data()
    start: Scratch | WarmStart = Scratch()
    test: Test = Test()

    def __post_init__(self) -> None:
        check(self)

    @property
    def trains(self) -> bool:
        """Whether it trains; else it tests what others have trained, in another way than they were tested.

        A linear classifier is trained on what its test looks at.
        """
        return self.test == Test() or self.recipe.trains == "linear classifier"

    @property
    def epochs(self) -> int:
        """Those that it trains a network for: none where it trains a linear classifier, or tests."""
        return self.recipe.epochs if self.trains and self.recipe.trains == "network" else 0

    @property
    def donors(self) -> tuple[Setup, ...]:
        """The setups that must have been trained, under the same seed, before this one starts."""
        if not self.trains:
            trained = replace(self, test=Test())
            return (trained, *(replace(trained, network=each, start=Scratch()) for each in self.test.members))
        if isinstance(self.start, Scratch):
            return ()
        recipe = edit_all(replace(self.recipe, trains="network"), self.start.recipe)
        donor = replace(self, network=self.start.network, recipe=recipe, start=self.start.start, test=Test())
        if isinstance(self.start.on, Elsewhere):
            scale = replace(self.scale, classes=self.start.on.classes)
            donor = replace(donor, data=self.start.on.data, scale=scale)
        return (donor,)

    def require_whole(self) -> None:
        """Prove that fields agree which only together make sense. They are edited one by one, so not where it is made.

        Raises:
            InvalidValue: naming those that do not.
        """
        for donor in self.donors:
            donor.require_whole()
        if self.recipe.trains == "linear classifier":
            self._require_features()
        recipe, data = self.recipe, self.data
        rescales = recipe.side_from > 0 or recipe.side_to > 0
        if rescales and not 1 <= recipe.side_from <= recipe.side_to:
            raise InvalidValue(
                f"Recipe.side_from is {recipe.side_from:g} and Recipe.side_to is {recipe.side_to:g}; expected both 0 "
                "(images as stored), or 1 or more and the first not above the second. Set both."
            )
        if rescales != (recipe.augmentation in CROPS):
            raise InvalidValue(
                f"Recipe.augmentation is {recipe.augmentation!r} and Recipe.side_to is {recipe.side_to:g}; expected "
                f"one of {', '.join(map(repr, CROPS))} with sides of 1 or more, or another one with sides of 0: what "
                "is rescaled is cropped, and what is cropped was rescaled."
            )
        if isinstance(data, ForeignData):
            if rescales:
                raise InvalidValue(
                    f"Recipe.side_to is {recipe.side_to:g}, and {data.class_path} reads its own images; expected sides "
                    "of 0. Rescale and crop them there."
                )
        elif data.keep != "fitted" and data.source != "folder":
            raise InvalidValue(
                f"Data.keep is {data.keep!r} and Data.source is {data.source!r}; expected 'folder' with it: others "
                "have no files of their own. Give 'fitted', or an image folder."
            )
        elif data.keep == "fitted" and data.bad_files != "refuse":
            raise InvalidValue(
                f"Data.bad_files is {data.bad_files!r} and Data.keep is 'fitted'; expected 'refuse' with it. Give "
                "Data.keep 'originals' or 'resized' to have bad files left out."
            )

    def _require_features(self) -> None:
        """Prove that a linear classifier has something to be trained on."""
        told = "Recipe.trains is 'linear classifier'"
        if isinstance(self.network, Custom):
            raise InvalidValue(
                f"{told}, and the network is {self.network.class_path}; expected a VGG or residual network: which of "
                "its activations are the penultimate ones, only it knows. Give one of these, or 'network'."
            )
        if isinstance(self.data, ForeignData):
            raise InvalidValue(
                f"{told}, and {self.data.class_path} reads its own images; expected data that are read here: its "
                "training loader shuffles and augments. Give Data, or 'network'."
            )
        if self.test.mode not in ("single", "dense") or self.test.members:
            raise InvalidValue(
                f"{told}, and Test.mode is {self.test.mode!r}, with {len(self.test.members)} members; expected "
                "'single' or 'dense' and none: activations are those of the whole image, of one network. Leave them "
                "out."
            )


SPEC_KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        Conv, Stage, Head, Vgg, Blocks, ResNet, Custom, Arguments, Scale, Recipe, Data, ForeignData, Scratch,
        Here, Elsewhere, WarmStart, Test, Setup,
    )
}  # fmt: skip
