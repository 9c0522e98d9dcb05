"""Differences of two setups in short form: equal changes of several leaves become one line with their locations.

:func:`ablations.summarize_differences` serves ``ablate show`` and error messages: it prints the bare leaves and counts
repetitions. A report names the class of an object that was added or removed (``Conv(kernel=3)``) and lists where each
change applies, so that the two give different texts from the same differences.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ablations import Difference
from lightning_modules.specs.values import Leaf

ABSENT = "absent"
INDEX_PATTERN = re.compile(r"(?<=\.)\d+(?=\.|$)")  # an index into a tuple: `convs.1`
MAX_ENTRIES = 6  # entries of a tuple inside an object that are printed
MIN_RANGE_LENGTH = 3  # consecutive indices that become a range: 1–3, but 1, 2
MAX_UNGROUPED_LOCATIONS = 6  # more than these are grouped: 1, 2, in each 1–3


class LeafChange(NamedTuple):
    """One change as text: path, value before, value after."""

    path: str
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class SettingChange:
    """A setting that an arm changes against the baseline, at one location or several.

    Attributes:
        path: dotted path, ``*`` where the indices of the locations differ.
        before: the baseline's value, or ``absent``.
        after: the arm's value, or ``absent``.
        locations: indices in place of the stars, dotted; one entry per location, none where the path has no star.
    """

    path: str
    before: str
    after: str
    locations: tuple[str, ...] = ()

    @property
    def location_text(self) -> str:
        """Locations, consecutive ones as a range: ``0.1, 1.1–1.4``; empty where the path has no star."""
        return _format_locations(self.locations)


def collapse_changes(differences: Iterable[Difference]) -> tuple[SettingChange, ...]:
    """Collapse leaves into the objects that were added or removed, then equal changes into one."""
    return group_changes(_collapse_objects(tuple(differences)), INDEX_PATTERN)


def group_changes(changes: Iterable[tuple[str, str, str]], index_pattern: re.Pattern[str]) -> tuple[SettingChange, ...]:
    """Group changes ``(path, before, after)`` that differ only in the indices of their paths."""
    locations_by_change: dict[LeafChange, list[tuple[str, ...]]] = {}
    for path, before, after in changes:
        pattern = LeafChange(index_pattern.sub("*", path), before, after)
        locations_by_change.setdefault(pattern, []).append(tuple(index_pattern.findall(path)))
    return tuple(_make_change(pattern, locations) for pattern, locations in locations_by_change.items())


def collapse_held_settings(held: Mapping[str, Leaf]) -> tuple[SettingChange, ...]:
    """Collapse leaves that are equal in all arms; those of equal structure and value become one."""
    return collapse_changes(Difference(path=path, before=value, after=value) for path, value in held.items())


def format_leaf(leaf: Leaf | None) -> str:
    """Format a leaf; ``absent`` for ``None``."""
    return ABSENT if leaf is None else str(leaf)


def _make_change(pattern: LeafChange, locations: list[tuple[str, ...]]) -> SettingChange:
    """Keep stars only where the locations differ; an index common to all is put back into the path."""
    varying: list[int] = []
    replacements: list[str] = []
    for position, indices in enumerate(zip(*locations, strict=True)):
        if len(set(indices)) > 1:
            varying.append(position)
            replacements.append("*")
        else:
            replacements.append(indices[0])
    remaining = iter(replacements)
    path = re.sub(r"\*", lambda _: next(remaining), pattern.path)
    location_texts = []
    if varying:
        for location in locations:
            location_texts.append(".".join(location[position] for position in varying))
    return SettingChange(path=path, before=pattern.before, after=pattern.after, locations=tuple(location_texts))


def _format_locations(locations: Sequence[str]) -> str:
    """Format locations: ``0.1, 1.1–1.4``; ``1, 2, in each 4–9`` where many repeat in several parents."""
    last_indices: dict[str, list[str]] = {}
    for location in locations:
        parent, _, last = location.rpartition(".")
        last_indices.setdefault(parent, []).append(last)
    first, *others = last_indices.values() or [[]]
    repeats = bool(others) and len(first) > 1 and all(indices == first for indices in others)
    # `stages.*.convs.*` often changes the same convs in every stage: list them once.
    if len(locations) > MAX_UNGROUPED_LOCATIONS and repeats:
        return f"{_format_locations(tuple(last_indices))}, in each {_format_locations(first)}"
    return ", ".join(_format_ranges(locations))


def _format_ranges(locations: Sequence[str]) -> list[str]:
    runs: list[list[str]] = []
    for location in locations:
        if runs and _is_successor(runs[-1][-1], location):
            runs[-1].append(location)
        else:
            runs.append([location])
    texts: list[str] = []
    for run in runs:
        if len(run) >= MIN_RANGE_LENGTH:
            texts.append(f"{run[0]}–{run[-1]}")
        else:
            texts.extend(run)
    return texts


def _is_successor(before: str, after: str) -> bool:
    """Whether ``after`` has the index that follows ``before`` in the same parent."""
    (*parent, last), (*other_parent, following) = before.split("."), after.split(".")
    return parent == other_parent and int(following) == int(last) + 1


def _collapse_objects(differences: tuple[Difference, ...]) -> list[LeafChange]:
    """Merge the leaves of every object that was added, removed or changed its class into one change."""
    # A spec writes its class as the leaf `kind`: where that leaf differs, the whole object does.
    objects = set()
    for difference in differences:
        if difference.path.endswith(".kind"):
            objects.add(difference.path.removesuffix(".kind"))
    changes: dict[str, LeafChange] = {}
    for difference in differences:
        owner = _outermost_owner(difference.path, objects)
        if not owner:
            before, after = format_leaf(difference.before), format_leaf(difference.after)
            changes[difference.path] = LeafChange(difference.path, before, after)
        elif owner not in changes:
            changes[owner] = _object_change(owner, differences)
    return list(changes.values())


def _object_change(owner: str, differences: tuple[Difference, ...]) -> LeafChange:
    before: dict[str, Leaf] = {}
    after: dict[str, Leaf] = {}
    for difference in differences:
        if not difference.path.startswith(f"{owner}."):
            continue
        name = difference.path.removeprefix(f"{owner}.")
        if difference.before is not None:
            before[name] = difference.before
        if difference.after is not None:
            after[name] = difference.after
    return LeafChange(owner, _format_object(before), _format_object(after))


def _format_object(leaves: Mapping[str, Leaf]) -> str:
    """Format an object as ``Conv(kernel=3)``; nested objects and tuples are abbreviated."""
    if "kind" not in leaves:  # every object writes its class, so it does not exist on this side
        return ABSENT
    leaves_by_field: dict[str, dict[str, Leaf]] = {}
    for path, leaf in leaves.items():
        name, _, rest = path.partition(".")
        leaves_by_field.setdefault(name, {})[rest] = leaf
    del leaves_by_field["kind"]
    fields = ", ".join(f"{name}={_format_field(inner)}" for name, inner in leaves_by_field.items())
    return f"{leaves['kind']}({fields})" if fields else str(leaves["kind"])


def _format_field(leaves: Mapping[str, Leaf]) -> str:
    """Format a field: its value, ``Class(…)`` of an object, or the entries of a short tuple."""
    if "" in leaves:  # the field is itself a leaf
        return format_leaf(leaves[""])
    if "kind" in leaves:
        return f"{leaves['kind']}(…)" if len(leaves) > 1 else str(leaves["kind"])
    is_nested = any("." in path for path in leaves)
    if is_nested or len(leaves) > MAX_ENTRIES:
        num_entries = len({path.partition(".")[0] for path in leaves})
        return f"({num_entries} entries)"
    entries = []
    for path, leaf in leaves.items():
        label = "" if path.isdigit() else f"{path}="
        entries.append(f"{label}{format_leaf(leaf)}")
    return f"({', '.join(entries)})"


def _outermost_owner(path: str, objects: set[str]) -> str:
    """The shortest proper prefix of a path that is one of the objects; empty where none is."""
    steps = path.split(".")
    for length in range(1, len(steps)):
        prefix = ".".join(steps[:length])
        if prefix in objects:
            return prefix
    return ""
