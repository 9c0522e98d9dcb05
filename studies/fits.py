"""The kind of trial that trains: one setup under one seed, perhaps from a donor; and its identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from lightning_modules.spec import Setup
from lightning_modules.values import flatten


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A trial that trains one setup under one seed. The arm's name is for people; it decides nothing.

    Attributes:
        candidate: number of the candidate in its arm's search, where the fit serves tuning and so never sees the test
            part; ``None`` for a fit that is compared.
    """

    arm: str
    setup: Setup
    seed: int
    candidate: int | None = None

    @property
    def tunes(self) -> bool:
        """Whether the fit is a candidate, and must not see the test part."""
        return self.candidate is not None

    @cached_property
    def donor(self) -> Fit | None:
        """The fit that this one starts from, under the same seed; ``None`` where it starts from scratch."""
        setup = self.setup.donor
        if setup is None:
            return None
        return replace(self, arm=donor_name(self.arm), setup=setup)

    @cached_property
    def fingerprint(self) -> str:
        """Identity by content: setup, seed, and the donor's own fingerprint; of a candidate, its number as well."""
        content: dict[str, object] = {"setup": flatten(self.setup), "seed": self.seed}
        if self.donor:
            content["donor"] = self.donor.fingerprint
        if self.tunes:
            content["candidate"] = self.candidate
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
