"""The kinds of trial: a fit of one setup under one seed, perhaps from a donor; a test of such fits; their identity."""

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
    """A trial that trains one setup under one seed, or tests what its donors have trained, as its setup says.

    The arm's name is for people; it decides nothing.

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

    @property
    def epochs(self) -> int:
        """Those that it trains: none where it tests, or trains a linear classifier."""
        return self.setup.epochs

    @cached_property
    def donors(self) -> tuple[Fit, ...]:
        """The fits that this one starts from, or tests, under the same seed; none where it starts from scratch."""
        return tuple(
            replace(self, arm=donor_name(self.arm, number), setup=setup)
            for number, setup in enumerate(self.setup.donors, 1)
        )

    @cached_property
    def fingerprint(self) -> str:
        """Identity by content: setup, seed, and the donors' own fingerprints; of a candidate, its number as well."""
        content: dict[str, object] = {"setup": flatten(self.setup), "seed": self.seed}
        if self.donors:
            content["donors"] = [donor.fingerprint for donor in self.donors]
        if self.tunes:
            content["candidate"] = self.candidate
        return hashed(content)


def donor_name(arm: str, number: int = 1) -> str:
    """What the trials are called from which an arm's trials start, or which they test; several by their number."""
    return f"donor of {arm}" if number == 1 else f"donor of {arm}, {number}"


def with_donors(fits: Iterable[Fit]) -> tuple[Fit, ...]:
    """Every fit after its donors; a donor that several start from, or that is an arm itself, stands there once."""
    fits = tuple(fits)
    known = {fit.fingerprint: fit for fit in reversed(fits)}
    ordered: dict[str, Fit] = {}
    for fit in fits:
        for each in from_first_donor(fit):
            ordered.setdefault(each.fingerprint, known.get(each.fingerprint, each))
    return tuple(ordered.values())


def from_first_donor(fit: Fit) -> tuple[Fit, ...]:
    """A fit after all that it starts from, or tests, and all that these start from."""
    return (*(each for donor in fit.donors for each in from_first_donor(donor)), fit)


def hashed(content: object) -> str:
    """A short digest of plain JSON data."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
