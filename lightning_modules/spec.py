"""The specs that users write in ablations and protocols; ``lightning_modules.specs`` defines them."""

from lightning_modules.specs.data import BadFilesPolicy, Data, DataSourceName, ForeignData, ImageStorage
from lightning_modules.specs.networks import (
    Activation,
    Blocks,
    BlockType,
    Conv,
    Custom,
    Head,
    Initializer,
    Network,
    Norm,
    Pooling,
    ResNet,
    Shortcut,
    Stage,
    Stem,
    Vgg,
)
from lightning_modules.specs.recipe import Augmentation, Precision, Recipe, Schedule, TrainingTarget
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.setup import Elsewhere, Here, Scratch, Setup, WarmStart
from lightning_modules.specs.test import Mirroring, Test, TestMode
from lightning_modules.specs.values import Leaf

__all__ = [  # noqa: RUF022 - by the field of the setup that they describe, each spec followed by its choices
    "Setup",
    # Networks
    "Network",
    "Vgg",
    "Stage",
    "Conv",
    "Head",
    "ResNet",
    "Blocks",
    "Custom",
    "Activation",
    "BlockType",
    "Initializer",
    "Norm",
    "Pooling",
    "Shortcut",
    "Stem",
    # Scale
    "Scale",
    # Recipe
    "Recipe",
    "Augmentation",
    "Precision",
    "Schedule",
    "TrainingTarget",
    # Data
    "Data",
    "ForeignData",
    "BadFilesPolicy",
    "DataSourceName",
    "ImageStorage",
    # Start of training
    "Scratch",
    "WarmStart",
    "Here",
    "Elsewhere",
    # Test
    "Test",
    "Mirroring",
    "TestMode",
    # Values of leaves, as in the recipe of a warm start
    "Leaf",
]
