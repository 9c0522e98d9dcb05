"""Protocols: the conditions that all arms of a study share, one file each, named after the protocol."""

from __future__ import annotations

import importlib
from pathlib import Path

from lightning_modules.specs.errors import UserError, did_you_mean
from studies.protocols._protocol import Protocol

__all__ = ["DEFAULT_PROTOCOL", "Protocol", "UnknownProtocol", "load", "names"]
DEFAULT_PROTOCOL = "digits"


class UnknownProtocol(UserError):
    """No protocol has the given name; the text suggests the nearest name and lists all."""


def names() -> tuple[str, ...]:
    """Return the names of all protocols in alphabetical order, without importing them."""
    files = Path(__file__).parent.glob("[!_]*.py")
    return tuple(sorted(file.stem.replace("_", "-") for file in files))  # cifar10_cpu.py holds "cifar10-cpu"


def load(name: str) -> Protocol:
    """Load a protocol by name.

    Raises:
        UnknownProtocol: where no file of this folder has the name.
    """
    if name not in names():
        raise UnknownProtocol(
            f"No protocol named {name!r}.{did_you_mean(name, names())} There are: {', '.join(names())}."
        )
    protocol: Protocol = importlib.import_module(f"studies.protocols.{name.replace('-', '_')}").PROTOCOL
    return protocol
