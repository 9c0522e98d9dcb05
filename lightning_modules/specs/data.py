"""Data specs: built-in sources, image folders, and a user's own LightningDataModule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lightning_modules.specs.networks import require_class_path
from lightning_modules.specs.values import Arguments, Leaf, check_fields, freeze_arguments, require_field

DataSourceName = Literal["digits", "cifar10", "cifar100", "folder"]
ImageStorage = Literal["fitted", "originals", "resized"]
BadFilesPolicy = Literal["refuse", "leave out"]


@dataclass(frozen=True, kw_only=True)
class Data:
    """The examples for training, validation and test.

    Attributes:
        source: where the examples come from.
        train_fraction: fraction of the source's training examples that a study uses, drawn once, stratified by class.
        validation_fraction: fraction of these that is held out for validation, drawn by seed, stratified by class.
        keep: ``fitted`` keeps every image in memory at the scale's resolution. For folders of larger images,
            ``originals`` decodes the files at each use; ``resized`` decodes copies on disk, made once, whose shorter
            side is at most 16/7 of the resolution. Rescaling twice gives slightly different pixels.
        bad_files: if files of a folder cannot be read, or have another format than their extension says: ``refuse`` the
            folder, or ``leave out`` these files. They are listed and counted.
    """

    source: DataSourceName = "folder"
    train_fraction: float = 1.0
    validation_fraction: float = 0.1
    keep: ImageStorage = "fitted"
    bad_files: BadFilesPolicy = "refuse"

    def __post_init__(self) -> None:
        check_fields(self)
        require_field(0 < self.train_fraction <= 1, self, "train_fraction", "a fraction above 0 and up to 1")
        require_field(0 < self.validation_fraction < 1, self, "validation_fraction", "a fraction between 0 and 1")

    def __repr__(self) -> str:
        from lightning_modules.specs.notebook_html import describe_object, list_changed_fields

        settings = list_changed_fields(self, ("train_fraction", "validation_fraction", "keep", "bad_files"))
        return describe_object(self, "; ".join([self.source, *settings]))

    def _repr_title_(self) -> str:
        return self.source


@dataclass(frozen=True, kw_only=True)
class ForeignData:
    """User-defined data: the ``LightningDataModule`` that a class or function returns, with its own loaders.

    The loaders, or the data module's transfer hooks, make pairs ``(images, labels)``: float32 ``(batch, channels,
    height, width)`` and int64 ``(batch,)``. They decide on batch size and augmentation; their random draws are seeded
    by (seed, epoch). The data module has a trainer from the start, whose ``training``, ``validating`` and ``testing``
    say whose batches are read.

    Attributes:
        class_path: dotted path of a class or function, such as ``my_data.Digits``.
        init_args: its arguments; ``$classes``, ``$channels``, ``$resolution`` and ``$width`` stand for the protocol's.
    """

    class_path: str
    init_args: Mapping[str, Leaf] = Arguments()

    def __post_init__(self) -> None:
        freeze_arguments(self, "init_args")
        check_fields(self)
        require_class_path(self)

    def __repr__(self) -> str:
        from lightning_modules.specs.notebook_html import describe_object, describe_settings

        return describe_object(self, f"{self.class_path}({describe_settings(self.init_args)})")

    def _repr_title_(self) -> str:
        return self.class_path
