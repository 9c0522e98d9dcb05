"""The kind of trial that trains: one setup under one seed, perhaps from a donor; and its identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
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
    def donor(self) -> Fit | None:
        """The fit that this one starts from, under the same seed; ``None`` where it starts from scratch."""
        setup = self.setup.donor
        return None if setup is None else Fit(arm=donor_name(self.arm), setup=setup, seed=self.seed)

    @property
    def fingerprint(self) -> str:
        """Identity by content: setup, seed, and the donor's own fingerprint."""
        content: dict[str, object] = {"setup": flatten(self.setup), "seed": self.seed}
        if self.donor:
            content["donor"] = self.donor.fingerprint
        return hashed(content)


def donor_name(arm: str) -> str:
    """What the trials are called from which an arm's trials start."""
    return f"donor of {arm}"


def with_donors(fits: Iterable[Fit]) -> tuple[Fit, ...]:
    """Every fit after its donor; a donor that several start from, or that is an arm itself, stands there once."""
    fits = tuple(fits)
    known = {fit.fingerprint: fit for fit in reversed(fits)}
    ordered: dict[str, Fit] = {}
    for fit in fits:
        for each in _from_its_first_donor(fit):
            ordered.setdefault(each.fingerprint, known.get(each.fingerprint, each))
    return tuple(ordered.values())


def _from_its_first_donor(fit: Fit) -> tuple[Fit, ...]:
    return (*_from_its_first_donor(fit.donor), fit) if fit.donor else (fit,)


def hashed(content: object) -> str:
    """A short digest of plain JSON data."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
