"""The one-change contract: arms as edits of a setup, their difference as a value, a second change refused."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from ablations._built import Property
from ablations._claims import Claim
from ablations._edits import ByResolution, Times, edited
from lightning_modules.catalogue import VGG_A
from lightning_modules.spec import Scale, Setup
from lightning_modules.values import InvalidValue, Leaf, Misuse, UnknownPath, did_you_mean, edit, flatten

DEFAULT_SETUP = Setup(network=VGG_A)
BRANCHES = (DEFAULT_SETUP, Setup(network=VGG_A, scale=Scale(resolution=32)))  # of every choice by resolution


class InvalidAblation(Misuse):
    """An ablation that cannot be run as declared; the text says why."""


class NotASingleChange(InvalidAblation):
    """An arm differs from the baseline outside the declared paths; the text lists the stray changes."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One leaf in which two setups differ; a side is ``None`` where the leaf does not exist there."""

    path: str
    before: Leaf | None
    after: Leaf | None

    def __str__(self) -> str:
        return f"{self.path}: {_shown(self.before)} -> {_shown(self.after)}"


@dataclass(frozen=True)
class Arm:
    """A named edit of a setup: dotted paths and their values, checked where they are declared.

    A value may follow the resolution (``ByResolution``) or be a multiple of what the protocol says (``Times``).

    Raises:
        UnknownPath: where a path names no field of a setup.
        InvalidValue: where a field does not admit the value.
    """

    name: str
    edits: Mapping[str, object]

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise InvalidValue("an arm needs a name.")
        for setup in BRANCHES:
            self.apply(setup)

    def apply(self, setup: Setup) -> Setup:
        """The setup with this arm's edits, in the order in which they were declared."""
        for path, value in self.edits.items():
            try:
                setup = edited(setup, path, value)
            except UnknownPath as error:
                raise UnknownPath(f"arm {self.name!r}, path {path!r}: {error}") from None
            except InvalidValue as error:
                raise InvalidValue(f"arm {self.name!r}, path {path!r}: {error}") from None
        return setup


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Published figures to show beside the measured ones.

    Attributes:
        source: where they are printed.
        quantity: what they measure, with the data and the unit.
        values: per arm.
        caveat: what keeps them from being compared directly.
    """

    source: str
    quantity: str
    values: Mapping[str, float]
    caveat: str = ""


@dataclass(frozen=True, kw_only=True)
class Factor:
    """A thing that is varied, and its levels; effects are told against the first one."""

    name: str
    levels: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Factorial:
    """Two factors crossed: every combination of their levels is an arm.

    Attributes:
        cells: names of the arms, one row per level of ``rows``, in it one arm per level of ``columns``.
    """

    rows: Factor
    columns: Factor
    cells: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        expected = [len(self.columns.levels)] * len(self.rows.levels)
        arms = [arm for row in self.cells for arm in row]
        if min(len(self.rows.levels), len(self.columns.levels)) < 2:
            raise InvalidAblation("a factorial needs two levels or more of each factor.")
        if [len(row) for row in self.cells] != expected or len(set(arms)) < len(arms):
            raise InvalidAblation(
                f"the factorial {self.rows.name} × {self.columns.name} needs a row of {expected[0]} different arms for "
                f"each of {', '.join(self.rows.levels)}; it has {list(map(list, self.cells))}."
            )


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """A question, the arms that answer it, the paths in which they may differ, and the claims under test.

    Attributes:
        question: one sentence; by habit the file's docstring.
        baseline: the arm that the others are compared with.
        varies: dotted paths; an arm may differ from the baseline in these and what lies below them.
        property_studied: the measured property that is the ablation's subject, if one is: it may move, and leaves a
            contrast clean where no other one moves by more than 5%.
        factorial: two factors that the arms cross, where they do: main effects and the interaction are reported.
        forced: paths that cannot be held when those vary, each with the reason; a footnote of the report.
        claims: what gets a verdict.
        reference: published figures, if there are any; they may follow the resolution.

    Raises:
        NotASingleChange: naming every stray change with both values.
        InvalidAblation: where two arms are equal or share a name, or a claim or figure names an unknown arm.
    """

    question: str
    baseline: Arm
    arms: tuple[Arm, ...]
    varies: tuple[str, ...]
    claims: tuple[Claim, ...] = ()
    forced: Mapping[str, str] = field(default_factory=dict)
    property_studied: Property | None = None
    factorial: Factorial | None = None
    reference: Reference | ByResolution[Reference | None] | None = None

    def __post_init__(self) -> None:
        if not self.question.strip():
            raise InvalidAblation("an ablation needs a question.")
        if not self.arms:
            raise InvalidAblation("an ablation needs an arm beside its baseline.")
        self._check_names()
        self._check_paths([arm.apply(setup) for arm in self.all_arms for setup in BRANCHES])
        for setup in BRANCHES:
            self.setups(setup)

    @property
    def all_arms(self) -> tuple[Arm, ...]:
        """The baseline, then the other arms."""
        return (self.baseline, *self.arms)

    def setups(self, base: Setup, for_all: Mapping[str, Leaf] | None = None) -> dict[str, Setup]:
        """Every arm's setup over a base, baseline first, with the contract proved for what comes out.

        Args:
            for_all: dotted paths and values that are set in every arm alike: before the arm's own edits, so that a
                multiple is one of what was set, and after them, where the arm does not edit that very path.

        Raises:
            NotASingleChange: naming every stray change with both values.
            InvalidAblation: where two arms come out equal.
        """
        for_all = for_all or {}
        setups = {}
        for path, value in for_all.items():
            base = edit(base, path, value)
        for arm in self.all_arms:
            setups[arm.name] = arm.apply(base)
            for path, value in for_all.items():
                if not isinstance(arm.edits.get(path), Times):
                    setups[arm.name] = edit(setups[arm.name], path, value)
        self._prove(setups)
        return setups

    def reference_at(self, setup: Setup) -> Reference | None:
        """The published figures for a setup's resolution."""
        return self.reference.at(setup) if isinstance(self.reference, ByResolution) else self.reference

    def _prove(self, setups: Mapping[str, Setup]) -> None:
        before = setups[self.baseline.name]
        for name, setup in setups.items():
            stray = [change for change in differences(before, setup) if not self._may_change(change.path)]
            if stray:
                lines = "\n  ".join(str(change) for change in stray)
                raise NotASingleChange(
                    f"arm {name!r} may vary only {', '.join(self.varies)}, but it also changes\n  {lines}\n"
                    "Hold these equal to the baseline's, or declare them in `forced` with the reason."
                )
        for first, second in combinations(setups, 2):
            if setups[first] == setups[second]:
                raise InvalidAblation(f"arms {first!r} and {second!r} are the same setup: there is nothing to compare.")

    def _may_change(self, path: str) -> bool:
        return any(path == allowed or path.startswith(allowed + ".") for allowed in (*self.varies, *self.forced))

    def _check_paths(self, setups: Iterable[Setup]) -> None:
        leaves = {leaf for setup in setups for leaf in flatten(setup)}
        known = {leaf.rsplit(".", count)[0] for leaf in leaves for count in range(leaf.count(".") + 1)}
        for path in (*self.varies, *self.forced):
            if path not in known:
                raise InvalidAblation(
                    f"{path!r} in `varies` or `forced` is no path of a setup.{did_you_mean(path, known)}"
                )

    def _check_names(self) -> None:
        names = [arm.name for arm in self.all_arms]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InvalidAblation(
                f"two arms are named {', '.join(map(repr, twice))}; every arm needs a name of its own."
            )
        named = [("claim", name) for claim in self.claims for name in claim.arms]
        references = [self.reference_at(setup) for setup in BRANCHES]
        named += [("reference figure", name) for each in references if each for name in each.values]
        named += [("factorial", name) for row in (self.factorial.cells if self.factorial else ()) for name in row]
        for what, name in named:
            if name not in names:
                raise InvalidAblation(
                    f"a {what} names the arm {name!r}.{did_you_mean(name, names)} There are: {', '.join(names)}."
                )


def differences(before: Setup, after: Setup) -> tuple[Difference, ...]:
    """Every leaf in which two setups differ, in the order of their paths."""
    old, new = flatten(before), flatten(after)
    return tuple(
        Difference(path=path, before=old.get(path), after=new.get(path))
        for path in dict.fromkeys((*old, *new))
        if old.get(path) != new.get(path)
    )


def gathered(changes: Iterable[Difference]) -> tuple[Difference, ...]:
    """Differences in which the leaves of an item that came or went are one: ``convs.1: absent -> kernel=3, ...``."""
    whole: dict[tuple[str, bool], list[Difference]] = {}
    for change in changes:
        came_or_went = (change.before is None) != (change.after is None)
        owner = re.match(r".*\.\d+(?=\.)", change.path) if came_or_went else None
        whole.setdefault((owner[0] if owner else change.path, change.before is None), []).append(change)
    return tuple(_as_one(path, leaves) for (path, _), leaves in whole.items())


def _as_one(path: str, leaves: Sequence[Difference]) -> Difference:
    if [leaf.path for leaf in leaves] == [path]:
        return leaves[0]
    came = leaves[0].before is None
    text = ", ".join(f"{leaf.path.removeprefix(path + '.')}={leaf.after if came else leaf.before}" for leaf in leaves)
    return Difference(path=path, before=None if came else text, after=text if came else None)


def summarise(changes: Sequence[Difference]) -> tuple[str, ...]:
    """Differences in words; those that repeat at other indices once: ``stages.*.convs.*.kernel: ... (8 times)``."""
    patterns = Counter(
        str(Difference(path=re.sub(r"\.\d+(?=\.|$)", ".*", change.path), before=change.before, after=change.after))
        for change in gathered(changes)
    )
    return tuple(text if count == 1 else f"{text} ({count} times)" for text, count in patterns.items())


def _shown(leaf: Leaf | None) -> str:
    return "absent" if leaf is None else str(leaf)
