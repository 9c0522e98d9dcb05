"""The one-change contract: arms as edits of a setup, their difference as a value, a second change refused."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, product

from ablations._built import Property
from ablations._claims import Claim
from ablations._edits import CHOICES, ByResolution, Times, chosen, edited
from lightning_modules.catalogue import VGG_A
from lightning_modules.spec import Data, Scale, Scratch, Setup, WarmStart
from lightning_modules.values import InvalidValue, Leaf, Misuse, UnknownPath, did_you_mean, edit, edit_all, flatten

DEFAULT_SETUP = Setup(network=VGG_A)
SMALL = Setup(network=VGG_A, scale=Scale(resolution=32))
BRANCHES = (DEFAULT_SETUP, SMALL, replace(SMALL, data=Data(source="digits")))  # of every choice
OF_DONORS = "donor of "  # how the trials are called that warm starts begin with


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

    A value may follow the resolution (``ByResolution``) or the data (``ByData``), or be a multiple of what the protocol
    says (``Times``).

    Raises:
        UnknownPath: where a path names no field of a setup.
        InvalidValue: where a field does not admit the value.
    """

    name: str
    edits: Mapping[str, object]

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise InvalidValue("an arm needs a name.")
        if self.name.startswith(OF_DONORS):
            raise InvalidValue(
                f"an arm is named {self.name!r}; {OF_DONORS.strip()!r} begins the names of the trials that warm starts "
                "start from. Give the arm another name."
            )
        for setup in BRANCHES:
            self.apply(setup)

    def apply(self, setup: Setup, for_all: Mapping[str, Leaf] | None = None) -> Setup:
        """The setup with this arm's edits, in the order in which they were declared.

        Args:
            for_all: paths and values that are set in every arm alike: in the setup before the edits, so that a multiple
                is one of what was set; what lies below an edit's path, such as ``network.init``, right after that edit.
        """
        for_all = for_all or {}
        below = {path: [each for each in for_all if each.startswith(f"{path}.")] for path in self.edits}
        covered = {each for paths in below.values() for each in paths}
        for path in for_all:
            if path not in covered:
                setup = self._edited(setup, path, for_all[path])
        for path, value in self.edits.items():
            setup = self._edited(setup, path, value)
            for each in below[path]:
                setup = self._edited(setup, each, for_all[each])
        return self._with_donor(setup, for_all)

    def is_multiple(self, path: str, setup: Setup) -> bool:
        """Whether this arm takes what stands at a path of a setup several times."""
        return isinstance(chosen(setup, self.edits.get(path)), Times)

    def _with_donor(self, setup: Setup, for_all: Mapping[str, Leaf]) -> Setup:
        """What is set in every network is set in the donors' as well: a warm start from another one is another change.

        What is set of the data is not set of a donor's other data: a share of one may be too little of another.

        Raises:
            InvalidValue: where a donor's network does not take it.
        """
        donors = list(_networks_of_donors(setup.start))
        donors += [f"test.members.{place}" for place in range(len(setup.test.members))]
        for (path, value), donor in product(for_all.items(), donors):
            of_donor = f"{donor}.{path.removeprefix('network.')}"
            if path.startswith("network.") and of_donor not in self.edits:
                try:
                    setup = edit(setup, of_donor, value)
                except InvalidValue as error:
                    raise InvalidValue(
                        f"{path} is set for all arms, but the donor of arm {self.name!r} does not take it: {error} "
                        "Leave it as it is, or declare another donor."
                    ) from None
        return setup

    def _edited(self, setup: Setup, path: str, value: object) -> Setup:
        try:
            return edited(setup, path, value)
        except UnknownPath as error:
            raise UnknownPath(f"arm {self.name!r}, path {path!r}: {error}") from None
        except InvalidValue as error:
            raise InvalidValue(f"arm {self.name!r}, path {path!r}: {error}") from None


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
            self._check_branch(setup)

    @property
    def all_arms(self) -> tuple[Arm, ...]:
        """The baseline, then the other arms."""
        return (self.baseline, *self.arms)

    def setups(self, base: Setup, for_all: Mapping[str, Leaf] | None = None) -> dict[str, Setup]:
        """Every arm's setup over a base, baseline first, with the contract proved for what comes out.

        Args:
            for_all: dotted paths and values that are set in every arm alike, and of a network in the donor's as well.
                A multiple is one of what was set. A value that an arm gives to a path that varies or is forced stays.

        Raises:
            NotASingleChange: naming every stray change with both values.
            InvalidAblation: where two arms come out equal.
            InvalidValue: where an arm's fields do not agree with each other.
        """
        for_all = for_all or {}
        setups = {}
        for arm in self.all_arms:
            setup = arm.apply(base, for_all)
            for path, value in for_all.items():
                if path in arm.edits and not (arm.is_multiple(path, setup) or self._may_change(path)):
                    setup = edit(setup, path, value)  # equal in all arms as declared, so equal as set
            setup.require_whole()
            setups[arm.name] = setup
        self._prove(setups)
        return setups

    def tuned(self, setups: Mapping[str, Setup], chosen: Mapping[str, Mapping[str, Leaf]]) -> dict[str, Setup]:
        """Every arm's setup with what tuning chose for it: the tuned paths may differ too, where all were tuned so.

        Args:
            setups: of every arm, the baseline first, under one shared recipe.
            chosen: per arm, paths and values.

        Raises:
            NotASingleChange: where an arm was not tuned, or on other paths than the baseline.
        """
        paths = set(chosen.get(self.baseline.name, ()))
        for name in setups:
            found = set(chosen.get(name, ()))
            if not found or found != paths:
                raise NotASingleChange(
                    f"arm {name!r} was tuned on {', '.join(sorted(found)) or 'nothing'}, and the baseline on "
                    f"{', '.join(sorted(paths)) or 'nothing'}. Tune every arm on the same paths, or none."
                )
        return {name: edit_all(setup, chosen[name]) for name, setup in setups.items()}

    def erased(self, path: str, base: Setup, for_all: Mapping[str, Leaf]) -> tuple[str, ...]:
        """The arms whose own forced change would be lost if a path were set for all of them; multiples are kept."""
        if not any(touches(path, forced) for forced in self.forced):
            return ()
        others = {each: value for each, value in for_all.items() if each != path}
        baseline = self.baseline.apply(base, others)
        lost = []
        for arm in self.all_arms:
            setup = arm.apply(base, others)
            differs = any(touches(change.path, path) for change in differences(baseline, setup))
            if (differs or path in arm.edits) and not arm.is_multiple(path, setup):
                lost.append(arm.name)
        return tuple(lost)

    def reference_at(self, setup: Setup) -> Reference | None:
        """The published figures for a setup's resolution."""
        return self.reference.at(setup) if isinstance(self.reference, ByResolution) else self.reference

    def _check_branch(self, setup: Setup) -> None:
        """Prove the contract for a setup; where arms follow its resolution or data, the error says where it fails."""
        try:
            self.setups(setup)
        except InvalidAblation as error:
            if not any(isinstance(value, CHOICES) for arm in self.all_arms for value in arm.edits.values()):
                raise
            raise type(error)(f"at {setup.scale.resolution} pixels{_of_digits(setup)}: {error}") from None

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
        return any(_within(path, allowed) for allowed in (*self.varies, *self.forced))

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


def _networks_of_donors(start: Scratch | WarmStart, path: str = "start") -> Iterator[str]:
    """The paths of the networks along a chain of warm starts."""
    while isinstance(start, WarmStart):
        yield f"{path}.network"
        start, path = start.start, f"{path}.start"


def _of_digits(setup: Setup) -> str:
    return ", on digits" if setup == BRANCHES[-1] else ""


def touches(path: str, other: str) -> bool:
    """Whether one of two paths is the other, or lies below it."""
    return _within(path, other) or _within(other, path)


def forced_with(changes: Iterable[Difference], forced: Iterable[str]) -> tuple[str, ...]:
    """The forced paths in which two setups differ beside something else; none where one of them is all that differs."""
    paths = [change.path for change in changes]
    changed = tuple(each for each in forced if any(_within(path, each) for path in paths))
    alone = len(changed) == 1 and all(_within(path, changed[0]) for path in paths)
    return () if alone else changed


def _within(path: str, other: str) -> bool:
    return path == other or path.startswith(f"{other}.")


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
