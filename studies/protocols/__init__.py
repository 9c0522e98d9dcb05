"""The conditions under which an ablation is studied, one file each; the file's name is the protocol's."""

from __future__ import annotations

import importlib
from pathlib import Path

from lightning_modules.values import Misuse, did_you_mean
from studies.trials import Protocol

DEFAULT = "digits"


class UnknownProtocol(Misuse):
    """No protocol of that name; the text suggests the nearest one and lists all."""


def names() -> tuple[str, ...]:
    """The names of all protocols, in alphabetical order. Imports none of them."""
    return tuple(sorted(file.stem.replace("_", "-") for file in Path(__file__).parent.glob("[!_]*.py")))


def load(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        UnknownProtocol: where the folder holds none.
    """
    if name not in names():
        raise UnknownProtocol(
            f"No protocol named {name!r}.{did_you_mean(name, names())} There are: {', '.join(names())}."
        )
    protocol: Protocol = importlib.import_module(f"studies.protocols.{name.replace('-', '_')}").PROTOCOL
    return protocol
