"""Ablations by folder: the file's name is the ablation's name, its make target's and its report's."""

from __future__ import annotations

import importlib
from pathlib import Path

from ablations._contract import Ablation, InvalidAblation
from lightning_modules.values import Misuse, did_you_mean


class UnknownAblation(Misuse):
    """No ablation of that name; the text suggests the nearest one and lists all."""


def names() -> tuple[str, ...]:
    """The names of all ablations, in alphabetical order. Imports none of them."""
    return tuple(sorted(file.stem for file in Path(__file__).parent.glob("[!_]*.py")))


def load(name: str) -> Ablation:
    """The ablation of that name.

    Raises:
        UnknownAblation: where the folder holds none.
        InvalidAblation: where its file defines no ``ABLATION``.
    """
    if name not in names():
        raise UnknownAblation(
            f"No ablation named {name!r}.{did_you_mean(name, names())} There are: {', '.join(names())}."
        )
    ablation = getattr(importlib.import_module(f"ablations.{name}"), "ABLATION", None)
    if not isinstance(ablation, Ablation):
        raise InvalidAblation(f"ablations/{name}.py must define ABLATION = Ablation(...); it defines {ablation!r}.")
    return ablation
