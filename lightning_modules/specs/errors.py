"""Errors about what a user gave or what is stored, and suggestions of the nearest known name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Other words for settings, by which no similarity finds them.
SYNONYMS = {
    "lr": "learning_rate",
    "rate": "learning_rate",
    "wd": "weight_decay",
    "decay": "weight_decay",
    "l2": "weight_decay",
    "bs": "batch_size",
    "batch": "batch_size",
    "batchsize": "batch_size",
    "num_epochs": "epochs",
    "max_epochs": "epochs",
    "scheduler": "schedule",
    "lr_scheduler": "schedule",
    "clip": "clip_norm",
    "grad_clip": "clip_norm",
    "gradient_clip_val": "clip_norm",
    "augment": "augmentation",
    "dtype": "precision",
    "size": "resolution",
    "image_size": "resolution",
    "img_size": "resolution",
    "num_classes": "classes",
    "in_channels": "channels",
    "dataset": "source",
}

MIN_SIMILARITY = 0.5  # difflib's ratio; its default, 0.6, suggests nothing where one letter of two is wrong


class UserError(ValueError):
    """Something that a user gave cannot be used; the text says what was given, what is expected and what to do."""

    def _render_traceback_(self) -> list[str]:
        from lightning_modules.specs.notebook_html import render_one_line_error

        return render_one_line_error(self)


class InvalidValue(UserError):
    """A value that its field does not accept; the text says what was given and what is expected."""


class UnknownPath(InvalidValue):
    """A dotted path that names no field; the text suggests the nearest one."""


class DamagedFileError(ValueError):
    """Stored content that cannot be used: damaged, forged, or contradicting its plan.

    Attributes:
        file: path or address of the content.
        reason: what is wrong with it.
        remedy: what to do, as a sentence.
    """

    def __init__(self, file: object, reason: str, remedy: str) -> None:
        super().__init__(file, reason, remedy)
        self.file, self.reason, self.remedy = file, reason, remedy

    def __str__(self) -> str:
        return f"{self.file} cannot be used: {self.reason}. {self.remedy}"

    def _render_traceback_(self) -> list[str]:
        from lightning_modules.specs.notebook_html import render_one_line_error

        return render_one_line_error(self)


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """``" Did you mean 'depth'?"``, or nothing if no known name is similar."""
    names = list(candidates)
    synonym = SYNONYMS.get(name.lower())
    if synonym in names:
        return f" Did you mean {synonym!r}?"
    matches = difflib.get_close_matches(name, names, n=1, cutoff=MIN_SIMILARITY)
    return f" Did you mean {matches[0]!r}?" if matches else ""
