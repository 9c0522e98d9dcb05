"""The difference of two setups, told shortly: leaves that moved alike become one line with their places."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ablations import Difference
from lightning_modules.values import Leaf

ABSENT = "absent"
INDEX = re.compile(r"(?<=\.)\d+(?=\.|$)")  # a place in a tuple
MOST_ENTRIES = 6  # of a tuple inside an object
SHORTEST_RANGE = 3  # places
MANY_PLACES = 6


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing that an arm has otherwise than the baseline, at one place or at several.

    Attributes:
        path: dotted path, ``*`` where the places differ.
        before: the baseline's value, or ``absent``.
        after: the arm's.
        places: what stands for the stars, dotted; one entry per place, none where the path has no star.
    """

    path: str
    before: str
    after: str
    places: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """The places, runs of them as a range: ``0.1, 1.1–1.4``; empty where the path has no star."""
        return _told(self.places)


def compact(differences: Iterable[Difference]) -> tuple[Change, ...]:
    """Leaves gathered into the objects that came or went, then equal changes of several places into one line."""
    return gathered(_objects(tuple(differences)), INDEX)


def gathered(changes: Iterable[tuple[str, str, str]], number: re.Pattern[str]) -> tuple[Change, ...]:
    """``(path, before, after)``, those that differ only in the numbers of their paths as one."""
    groups: dict[tuple[str, str, str], list[tuple[str, ...]]] = {}
    for path, before, after in changes:
        groups.setdefault((number.sub("*", path), before, after), []).append(tuple(number.findall(path)))
    return tuple(_change(key, places) for key, places in groups.items())


def held_settings(held: Mapping[str, Leaf]) -> tuple[Change, ...]:
    """Leaves equal in all arms, those of equal structure and value on one line."""
    return compact(Difference(path=path, before=value, after=value) for path, value in held.items())


def shown(leaf: Leaf | None) -> str:
    """A leaf as text; ``absent`` where there is none."""
    return ABSENT if leaf is None else str(leaf)


def _change(key: tuple[str, str, str], places: list[tuple[str, ...]]) -> Change:
    """Stars only where the places differ; a number that is the same in all of them stands in the path."""
    path, before, after = key
    steps = list(zip(*places, strict=True))
    open_steps = [index for index, numbers in enumerate(steps) if len(set(numbers)) > 1]
    numbers = iter("*" if index in open_steps else step[0] for index, step in enumerate(steps))
    path = re.sub(r"\*", lambda _: next(numbers), path)
    differing = tuple(".".join(place[index] for index in open_steps) for place in places)
    return Change(path=path, before=before, after=after, places=differing if open_steps else ())


def _told(places: Sequence[str]) -> str:
    """``1.4–1.9, in each 1, 2`` where many places lie alike in several others."""
    inner: dict[str, list[str]] = {}
    for place in places:
        head, _, last = place.rpartition(".")
        inner.setdefault(head, []).append(last)
    first, *others = inner.values() or [[]]
    if len(places) > MANY_PLACES and others and len(first) > 1 and all(each == first for each in others):
        return f"{_told(tuple(inner))}, in each {_told(first)}"
    return ", ".join(_ranges(places))


def _ranges(places: Sequence[str]) -> list[str]:
    runs: list[list[str]] = []
    for place in places:
        if runs and _follows(runs[-1][-1], place):
            runs[-1].append(place)
        else:
            runs.append([place])
    told = ([f"{run[0]}–{run[-1]}"] if len(run) >= SHORTEST_RANGE else run for run in runs)
    return [each for run in told for each in run]


def _follows(before: str, after: str) -> bool:
    (*head, last), (*other, following) = before.split("."), after.split(".")
    return head == other and int(following) == int(last) + 1


# -- objects that came, went, or were replaced by one of another kind -------------------------------------------------


def _objects(differences: tuple[Difference, ...]) -> list[tuple[str, str, str]]:
    """``(path, before, after)``, with the leaves of an object that is of another kind, or absent, told as one value."""
    owners = {difference.path.removesuffix(".kind") for difference in differences if difference.path.endswith(".kind")}
    told: dict[str, tuple[str, str, str]] = {}
    for difference in differences:
        owner = _outermost(difference.path, owners)
        if not owner:
            told[difference.path] = (difference.path, shown(difference.before), shown(difference.after))
        elif owner not in told:
            told[owner] = _as_object(owner, differences)
    return list(told.values())


def _as_object(owner: str, differences: tuple[Difference, ...]) -> tuple[str, str, str]:
    leaves = {
        difference.path.removeprefix(f"{owner}."): (difference.before, difference.after)
        for difference in differences
        if difference.path.startswith(f"{owner}.")
    }
    before, after = (
        {name: leaf for name, both in leaves.items() if (leaf := both[side]) is not None} for side in (0, 1)
    )
    return owner, _object(before), _object(after)


def _object(leaves: Mapping[str, Leaf]) -> str:
    """``Conv(kernel=3)``; of what lies deeper only its kind, or how much there is of it."""
    if "kind" not in leaves:
        return ABSENT
    inner: dict[str, dict[str, Leaf]] = {}
    for path, leaf in leaves.items():
        name, _, rest = path.partition(".")
        inner.setdefault(name, {})[rest] = leaf
    fields = ", ".join(f"{name}={_field(rest)}" for name, rest in inner.items() if name != "kind")
    return f"{leaves['kind']}({fields})" if fields else str(leaves["kind"])


def _field(leaves: Mapping[str, Leaf]) -> str:
    if "" in leaves:
        return shown(leaves[""])
    if "kind" in leaves:
        return f"{leaves['kind']}(…)" if len(leaves) > 1 else str(leaves["kind"])
    if all("." not in path for path in leaves) and len(leaves) <= MOST_ENTRIES:
        named = (f"{'' if path.isdigit() else f'{path}='}{shown(leaf)}" for path, leaf in leaves.items())
        return f"({', '.join(named)})"
    entries = len({path.partition(".")[0] for path in leaves})
    return f"({entries} entries)"


def _outermost(path: str, owners: set[str]) -> str:
    parts = path.split(".")
    heads = (".".join(parts[:length]) for length in range(1, len(parts)))
    return next((head for head in heads if head in owners), "")
