"""Differences between setups: path, value before, value after; grouped and counted for display."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ablations._paths import is_within
from lightning_modules.specs.setup import Setup
from lightning_modules.specs.values import Leaf, flatten_fields, same_leaf

# The innermost item of a tuple that a path lies below: `network.stages.2.convs.1` of `network.stages.2.convs.1.kernel`.
ITEM_PATH = re.compile(r".*\.\d+(?=\.)")
INDEX_IN_PATH = re.compile(r"\.\d+(?=\.|$)")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One leaf in which two setups differ; a side is ``None`` where that setup has no such leaf."""

    path: str
    before: Leaf | None
    after: Leaf | None

    def __str__(self) -> str:
        return f"{self.path}: {_format_leaf(self.before)} -> {_format_leaf(self.after)}"


def compare_setups(before: Setup, after: Setup) -> tuple[Difference, ...]:
    """List every leaf in which two setups differ, in the order of their fields."""
    leaves_before, leaves_after = (flatten_fields(setup, with_omitted=True) for setup in (before, after))
    differences = []
    for path in dict.fromkeys((*leaves_before, *leaves_after)):
        value_before, value_after = leaves_before.get(path), leaves_after.get(path)
        if not same_leaf(value_before, value_after):
            differences.append(Difference(path=path, before=value_before, after=value_after))
    return tuple(differences)


def confounding_forced_paths(differences: Iterable[Difference], forced: Iterable[str]) -> tuple[str, ...]:
    """The forced paths in which two setups differ in addition to something else.

    Empty if a single forced path covers all differences: then it is the one thing that changes.
    """
    changed_paths = [change.path for change in differences]
    changed_forced = []
    for forced_path in forced:
        if any(is_within(path, forced_path) for path in changed_paths):
            changed_forced.append(forced_path)
    if len(changed_forced) == 1 and all(is_within(path, changed_forced[0]) for path in changed_paths):
        return ()
    return tuple(changed_forced)


def group_differences(differences: Iterable[Difference]) -> tuple[Difference, ...]:
    """Merge the leaves of each added or removed item into one: ``convs.1: absent -> kernel=3, activate=True``."""
    groups: dict[tuple[str, bool], list[Difference]] = {}
    for change in differences:
        is_added, is_removed = change.before is None, change.after is None
        item = ITEM_PATH.match(change.path) if is_added != is_removed else None
        group_path = item[0] if item else change.path
        groups.setdefault((group_path, is_added), []).append(change)
    return tuple(_merge_differences(path, changes) for (path, _), changes in groups.items())


def _merge_differences(item_path: str, changes: Sequence[Difference]) -> Difference:
    if [change.path for change in changes] == [item_path]:
        return changes[0]
    is_added = changes[0].before is None
    assignments = []
    for change in changes:
        field_path = change.path.removeprefix(f"{item_path}.")
        assignments.append(f"{field_path}={change.after if is_added else change.before}")
    summary = ", ".join(assignments)
    if is_added:
        return Difference(path=item_path, before=None, after=summary)
    return Difference(path=item_path, before=summary, after=None)


def summarize_differences(differences: Sequence[Difference]) -> tuple[str, ...]:
    """Describe differences as text, each pattern once: ``stages.*.convs.*.kernel: 3 -> 5 (8 times)``."""
    counts: Counter[str] = Counter()
    for change in group_differences(differences):
        path_pattern = INDEX_IN_PATH.sub(".*", change.path)
        counts[str(Difference(path=path_pattern, before=change.before, after=change.after))] += 1
    summaries = []
    for text, count in counts.items():
        summaries.append(text if count == 1 else f"{text} ({count} times)")
    return tuple(summaries)


def summarize_paths(paths: Iterable[str]) -> tuple[str, ...]:
    """Give each pattern of paths once: ``stages.*.convs.*.kernel``."""
    return tuple(dict.fromkeys(INDEX_IN_PATH.sub(".*", path) for path in paths))


def _format_leaf(leaf: Leaf | None) -> str:
    return "absent" if leaf is None else str(leaf)
