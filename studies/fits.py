"""The kind of trial that trains: one setup under one seed, and its identity."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from lightning_modules.spec import Setup
from lightning_modules.values import flatten


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A trial that trains one setup under one seed. The arm's name is for people; it decides nothing."""

    arm: str
    setup: Setup
    seed: int

    @property
    def fingerprint(self) -> str:
        """Identity by content: setup and seed."""
        return hashed({"setup": flatten(self.setup), "seed": self.seed})


def hashed(content: object) -> str:
    """A short digest of plain JSON data."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
