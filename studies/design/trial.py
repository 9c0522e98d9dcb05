"""A trial: one setup under one seed, its dependencies, and its identity by content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from lightning_modules.specs.setup import Setup
from lightning_modules.specs.values import flatten_fields

DEPENDENCY_PREFIX = "donor of "  # stored in records


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One setup under one seed: training, or an evaluation of networks that other trials trained.

    Attributes:
        arm: name of the arm, for display; it is no part of the fingerprint, so arms that agree share a result.
        candidate: number of the candidate in its arm's search, for a trial of the tuning, which never reads the test
            split; ``None`` for a trial of the comparison.
    """

    arm: str
    setup: Setup
    seed: int
    candidate: int | None = None

    def __repr__(self) -> str:
        from lightning_modules.specs.notebook_html import describe_object

        candidate = f", candidate {self.candidate}" if self.is_candidate else ""
        return describe_object(self, f"{self.arm}, seed {self.seed}{candidate}: {self.setup._repr_title_()}")

    @property
    def is_candidate(self) -> bool:
        """Whether the trial is a candidate of the tuning, which must not read the test split."""
        return self.candidate is not None

    @property
    def epochs(self) -> int:
        """Number of epochs; 0 for an evaluation and for a linear classifier."""
        return self.setup.epochs

    @cached_property
    def dependencies(self) -> tuple[Trial, ...]:
        """Trials whose weights this one needs, under the same seed.

        The source of a warm start, or the evaluated networks; empty for a start from scratch.
        """
        return tuple(
            replace(self, arm=dependency_name(self.arm, number), setup=setup)
            for number, setup in enumerate(self.setup.dependencies, 1)
        )

    @cached_property
    def fingerprint(self) -> str:
        """Identity by content: setup, seed, fingerprints of the dependencies, and a candidate's number."""
        content: dict[str, object] = {"setup": flatten_fields(self.setup), "seed": self.seed}
        # Keys are left out where they do not apply: a trial keeps its fingerprint when a new kind of trial is added.
        if self.dependencies:
            content["donors"] = [dependency.fingerprint for dependency in self.dependencies]
        # Two candidates may draw equal values; each is still trained, so that every arm spends the same budget.
        if self.is_candidate:
            content["candidate"] = self.candidate
        return hash_content(content)


def dependency_name(arm: str, number: int = 1) -> str:
    """Return the display name of an arm's dependency; the first one has no number."""
    return f"{DEPENDENCY_PREFIX}{arm}" if number == 1 else f"{DEPENDENCY_PREFIX}{arm}, {number}"


def is_dependency_name(name: str) -> bool:
    """Whether a name is that of a trial which is no arm, and may be trained on other data."""
    return name.startswith(DEPENDENCY_PREFIX)


def with_dependencies(trials: Iterable[Trial]) -> tuple[Trial, ...]:
    """Order trials topologically, each after its dependencies, and drop duplicates.

    A dependency that several trials share occurs once; one that is an arm itself keeps that arm's name.
    """
    trials = tuple(trials)
    # Reversed: of trials with equal fingerprints the first one's name wins.
    arms_by_fingerprint = {trial.fingerprint: trial for trial in reversed(trials)}
    ordered: dict[str, Trial] = {}
    for trial in trials:
        for link in dependency_chain(trial):
            ordered.setdefault(link.fingerprint, arms_by_fingerprint.get(link.fingerprint, link))
    return tuple(ordered.values())


def dependency_chain(trial: Trial) -> tuple[Trial, ...]:
    """Return a trial preceded by its dependencies and, before these, their own."""
    chain: list[Trial] = []
    for dependency in trial.dependencies:
        chain += dependency_chain(dependency)
    return (*chain, trial)


def hash_content(content: object) -> str:
    """Return 16 hexadecimal digits (64 bits) of the SHA-256 of plain JSON data."""
    # Sorted keys: a field that moves within its dataclass changes no fingerprint.
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
