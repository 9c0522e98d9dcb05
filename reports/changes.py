"""The difference of two setups, told shortly: leaves that moved alike become one line with their places."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ablations import Difference
from lightning_modules.values import Leaf
from reports.numbers import fixed, significant

ABSENT = "absent"
PROPERTY_WORDS = {
    "weight_layers": "weight layers",
    "parameters": "parameters",
    "conv_parameters": "convolutional parameters",
    "multiply_adds": "multiply-adds",
    "receptive_field": "receptive field",
    "nonlinearities": "non-linearities",
}
CLEAN_WITHIN = 0.05


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


def compact(differences: Iterable[Difference]) -> tuple[Change, ...]:
    """Leaves gathered into the objects that came or went, then equal changes of several places into one line."""
    groups: dict[tuple[str, str, str], list[tuple[str, ...]]] = {}
    for path, before, after in _objects(tuple(differences)):
        pattern = re.sub(r"(?<=\.)\d+(?=\.|$)", "*", path)
        groups.setdefault((pattern, before, after), []).append(tuple(re.findall(r"(?<=\.)\d+(?=\.|$)", path)))
    return tuple(_change(key, places) for key, places in groups.items())


def properties_moved(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[str, ...]:
    """Properties of the network as built that differ by more than 5%, in words with both values."""
    moved = [
        name
        for name in PROPERTY_WORDS
        if name in before and name in after and abs(after[name] - before[name]) > CLEAN_WITHIN * abs(before[name])
    ]
    if "parameters" in moved and "conv_parameters" in moved:
        moved.remove("conv_parameters")
    return tuple(f"{PROPERTY_WORDS[name]} {_amount(before[name])} → {_amount(after[name])}" for name in moved)


def held_settings(held: Mapping[str, Leaf]) -> tuple[Change, ...]:
    """Leaves equal in all arms, those of equal structure and value on one line."""
    return compact(Difference(path=path, before=value, after=value) for path, value in held.items())


def _change(key: tuple[str, str, str], places: list[tuple[str, ...]]) -> Change:
    path, before, after = key
    if len(places) > 1:
        return Change(path=path, before=before, after=after, places=tuple(".".join(place) for place in places))
    for number in places[0]:
        path = path.replace("*", number, 1)
    return Change(path=path, before=before, after=after)


def _objects(differences: tuple[Difference, ...]) -> list[tuple[str, str, str]]:
    """``(path, before, after)``, with the leaves of an object that exists on one side only told as one value."""
    owners = {
        difference.path.removesuffix(".kind"): difference
        for difference in differences
        if difference.path.endswith(".kind") and (difference.before is None) != (difference.after is None)
    }
    told: dict[str, tuple[str, str, str]] = {}
    for difference in differences:
        owner = _outermost(difference.path, owners)
        if not owner:
            told[difference.path] = (difference.path, _shown(difference.before), _shown(difference.after))
        elif owner not in told:
            told[owner] = _as_object(owner, differences)
    return list(told.values())


def _as_object(owner: str, differences: tuple[Difference, ...]) -> tuple[str, str, str]:
    leaves = {
        difference.path.removeprefix(f"{owner}."): difference
        for difference in differences
        if difference.path.startswith(f"{owner}.")
    }
    came = leaves["kind"].before is None
    value = {name: leaf.after if came else leaf.before for name, leaf in leaves.items()}
    fields = ", ".join(f"{name}={_shown(item)}" for name, item in value.items() if not name.endswith("kind"))
    text = f"{value['kind']}({fields})"
    return (owner, ABSENT, text) if came else (owner, text, ABSENT)


def _outermost(path: str, owners: Mapping[str, Difference]) -> str:
    parts = path.split(".")
    heads = (".".join(parts[:length]) for length in range(1, len(parts)))
    return next((head for head in heads if head in owners), "")


def _shown(leaf: Leaf | None) -> str:
    return ABSENT if leaf is None else str(leaf)


def _amount(count: int) -> str:
    for factor, unit in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if count >= factor:
            return significant(count / (1e3 if unit == " k" else factor)) + unit
    return fixed(count, 0)
