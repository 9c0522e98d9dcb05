"""Network specs: the VGG family, plain and residual networks, and user-defined ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lightning_modules.specs.values import Arguments, Leaf, check_fields, freeze_arguments, require_field

Norm = Literal["none", "lrn-first", "lrn", "batch", "group"]
Activation = Literal["relu", "gelu", "tanh", "sigmoid"]
Pooling = Literal["max", "average", "strided"]
Stem = Literal["none", "7x7"]
Initializer = Literal["glorot", "he", "orthogonal", "gaussian-variance-0.01", "gaussian-deviation-0.01"]
BlockType = Literal["basic", "bottleneck"]
Shortcut = Literal["none", "identity", "projection", "projection-all"]

# A bottleneck block gives out four times the channels of its 3×3 convolution (He et al. 2016, Table 1).
BOTTLENECK_EXPANSION = 4


@dataclass(frozen=True, kw_only=True)
class Conv:
    """A convolution of stride 1 that keeps the map's size.

    Attributes:
        kernel: side of the kernel, an odd number of pixels.
        activate: whether the network's activation follows.
    """

    kernel: int = 3
    activate: bool = True

    def __post_init__(self) -> None:
        check_fields(self)
        # Only an odd kernel can be padded alike on both sides so that the map keeps its size.
        require_field(self.kernel >= 1 and self.kernel % 2 == 1, self, "kernel", "an odd number, 1 or more")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Convolutions of one width, closed by the network's pooling, which halves the map.

    Attributes:
        width: output channels of each convolution.
        convs: from input to output.
    """

    width: int
    convs: tuple[Conv, ...]

    def __post_init__(self) -> None:
        check_fields(self)
        require_field(self.width >= 1, self, "width", "1 or more channels")
        require_field(len(self.convs) >= 1, self, "convs", "at least one convolution")

    def __repr__(self) -> str:
        from lightning_modules.specs.notebook_html import describe_object

        return describe_object(self, f"of width {self.width}: {', '.join(self._repr_convs_())}")

    def _repr_convs_(self) -> list[str]:
        """Describe the convolutions: ``3×3``, or ``3×3 linear`` where no activation follows."""
        return [f"{conv.kernel}×{conv.kernel}{'' if conv.activate else ' linear'}" for conv in self.convs]


@dataclass(frozen=True, kw_only=True)
class Head:
    """The classifier on top of the last feature map: optional global pooling, then fully connected layers.

    Attributes:
        pooling: ``average`` leaves one number per channel (Lin et al. 2014, Sect. 3.2); ``none`` flattens the map.
        widths: units of the fully connected layers before the last one; each is followed by the activation and dropout.
        dropout: probability that a unit of these layers is dropped in training.
    """

    pooling: Literal["none", "average"] = "none"
    widths: tuple[int, ...] = (4096, 4096)
    dropout: float = 0.5

    def __post_init__(self) -> None:
        check_fields(self)
        require_field(all(width >= 1 for width in self.widths), self, "widths", "1 or more units per layer")
        require_field(0 <= self.dropout < 1, self, "dropout", "a probability from 0 to less than 1")


@dataclass(frozen=True, kw_only=True)
class Vgg:
    """A network of the VGG family, in the widths that the paper prints (Simonyan & Zisserman 2015, Table 1).

    Attributes:
        stages: from input to head; each halves the map once.
        stem: layers before the first stage: none, or ResNet's 7×7 convolution of stride 2 with a 3×3 pooling of
            stride 2.
        norm: ``lrn-first`` after the first activation only, as in A-LRN; ``lrn`` after every activation of the stages;
            ``batch`` and ``group`` between every convolution and its activation.
        activation: after every convolution and every fully connected layer but the last.
        pooling: how a stage ends; ``strided``: its last convolution has stride 2 instead (Springenberg et al. 2015).
        head: the classifier on top of the last stage.
        init: initializer of all weights; biases start at zero.
    """

    stages: tuple[Stage, ...]
    stem: Stem = "none"
    norm: Norm = "none"
    activation: Activation = "relu"
    pooling: Pooling = "max"
    head: Head = Head()
    init: Initializer = "he"

    def __post_init__(self) -> None:
        check_fields(self)
        require_field(len(self.stages) >= 1, self, "stages", "at least one stage")

    def _repr_title_(self) -> str:
        return f"Vgg of {self._repr_layers_()} weight layers"

    def _repr_layers_(self) -> int:
        """Count the weight layers as the paper does."""
        return sum(len(stage.convs) for stage in self.stages) + len(self.head.widths) + 1

    def __repr__(self) -> str:
        from lightning_modules.specs.notebook_html import describe_object, list_changed_fields

        facts = [", ".join(f"{stage.width} ×{len(stage.convs)}" for stage in self.stages)]
        convs = {text for stage in self.stages for text in stage._repr_convs_()}
        if convs != {"3×3"}:
            facts.append(" and ".join(sorted(convs, reverse=True)))
        facts += list_changed_fields(self, ("stem", "norm", "activation", "pooling", "init"))
        facts += [f"head {text}" for text in list_changed_fields(self.head, ("pooling", "widths", "dropout"))]
        return describe_object(self, f"of {self._repr_layers_()} layers: {'; '.join(facts)}")

    def _repr_html_(self) -> str:
        from lightning_modules.specs.notebook_html import render_line, render_table, render_view

        rows = []
        for number, stage in enumerate(self.stages, start=1):
            rows.append((number, stage.width, ", ".join(stage._repr_convs_())))
        head_layers = " → ".join(map(str, (*self.head.widths, "classes")))
        return render_view(
            self._repr_title_(),
            render_table(("stage", "width", "convolutions"), rows, numbers=(1,)),
            render_line(f"head: pooling {self.head.pooling}; {head_layers}; dropout {self.head.dropout:g}"),
            render_line(
                f"stem {self.stem}; norm {self.norm}; activation {self.activation}; pooling {self.pooling}; "
                f"init {self.init}"
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """A stage of a plain or residual network; from the second stage on, its first block halves the map.

    Attributes:
        width: channels of a block's 3×3 convolutions; a bottleneck gives out four times as many.
        count: number of blocks.
    """

    width: int
    count: int

    def __post_init__(self) -> None:
        check_fields(self)
        require_field(self.width >= 1, self, "width", "1 or more channels")
        require_field(self.count >= 1, self, "count", "at least one block")


@dataclass(frozen=True, kw_only=True)
class ResNet:
    """A plain or residual network with batch normalization (He et al. 2016, Sect. 3.3 and 4.2).

    Attributes:
        stem: ``7x7`` of stride 2 with a 3×3 pooling of stride 2, for 224 pixels; ``3x3`` of stride 1, for 32 pixels.
        block: ``basic``, two 3×3 convolutions; ``bottleneck``, a 3×3 one between two 1×1 ones.
        stages: from input to head.
        shortcut: ``none``, the plain network; ``identity``, option A: zeros fill new channels; ``projection``, option
            B: 1×1 convolutions where the shape changes; ``projection-all``, option C: 1×1 convolutions everywhere.
        halve_by: the convolution of a bottleneck that halves the map: the ``3x3`` (as in torchvision), or the first
            ``1x1`` (as in the paper).
        init: initializer of all weights; biases start at zero.
    """

    stem: Literal["3x3", "7x7"]
    block: BlockType
    stages: tuple[Blocks, ...]
    shortcut: Shortcut
    halve_by: Literal["3x3", "1x1"] = "3x3"
    init: Initializer = "he"

    def __post_init__(self) -> None:
        check_fields(self)
        require_field(len(self.stages) >= 1, self, "stages", "at least one stage")
        widths = [stage.width for stage in self.stages]
        require_field(
            self.shortcut != "identity" or widths == sorted(widths),
            self,
            "stages",
            "widths that do not shrink from stage to stage: an identity shortcut adds zero channels, and drops none",
        )

    def _repr_title_(self) -> str:
        kind = "Plain network" if self.shortcut == "none" else "ResNet"
        return f"{kind} of {self._repr_layers_()} weight layers"

    def _repr_layers_(self) -> int:
        """Count the weight layers as the paper does."""
        layers_per_block = {"basic": 2, "bottleneck": 3}[self.block]
        return layers_per_block * sum(stage.count for stage in self.stages) + 2  # and the stem's and the head's

    def __repr__(self) -> str:
        from lightning_modules.specs.notebook_html import describe_object, list_changed_fields

        stages = ", ".join(f"{stage.width} ×{stage.count}" for stage in self.stages)
        shortcuts = "no shortcuts" if self.shortcut == "none" else f"{self.shortcut} shortcuts"
        # What is rare comes first: a long line is cut at its end.
        facts = [f"{self.block} {stages}", *list_changed_fields(self, ("halve_by", "init"))]
        facts += [shortcuts, f"{self.stem} stem"]
        return describe_object(self, f"of {self._repr_layers_()} layers: {'; '.join(facts)}")

    def _repr_html_(self) -> str:
        from lightning_modules.specs.notebook_html import render_line, render_table, render_view

        rows = [(number, stage.width, stage.count) for number, stage in enumerate(self.stages, start=1)]
        return render_view(
            self._repr_title_(),
            render_table(("stage", "width", f"{self.block} blocks"), rows, numbers=(1, 2)),
            render_line(f"stem {self.stem}; shortcut {self.shortcut}; halve_by {self.halve_by}; init {self.init}"),
        )


@dataclass(frozen=True, kw_only=True)
class Custom:
    """A user-defined network: the ``nn.Module`` that a class or function returns.

    A ``LightningModule`` trains itself: epochs, batch size and augmentation are all that it gets from the recipe.
    Initial weights are the module's own, drawn from the seed's stream for weights.

    Attributes:
        class_path: dotted path of a class or function, such as ``torchvision.models.alexnet``.
        init_args: its arguments; ``$classes``, ``$channels``, ``$resolution`` and ``$width`` stand for the protocol's.
        auxiliary_weight: weight of the losses of auxiliary outputs, if the network has any in training (GoogLeNet:
            0.3).
    """

    class_path: str
    init_args: Mapping[str, Leaf] = Arguments()
    auxiliary_weight: float = 0.0

    def __post_init__(self) -> None:
        freeze_arguments(self, "init_args")
        check_fields(self)
        require_class_path(self)
        require_field(self.auxiliary_weight >= 0, self, "auxiliary_weight", "0 or more")

    def _repr_title_(self) -> str:
        return self.class_path

    def __repr__(self) -> str:
        from lightning_modules.specs.notebook_html import describe_object, describe_settings

        return describe_object(self, f"{self.class_path}({describe_settings(self.init_args)})")

    def _repr_html_(self) -> str:
        from lightning_modules.specs.notebook_html import render_table, render_view

        return render_view(self.class_path, render_table(("argument", "value"), list(self.init_args.items())))


Network = Vgg | ResNet | Custom


def require_class_path(owner: object) -> None:
    """Raise ``InvalidValue`` unless the field ``class_path`` is a dotted path."""
    parts = str(vars(owner)["class_path"]).split(".")
    dotted = len(parts) > 1 and all(part.isidentifier() for part in parts)
    require_field(dotted, owner, "class_path", "a dotted path, such as my_networks.SmallNet")
