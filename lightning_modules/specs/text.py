"""Counts and lists in sentences."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence


def format_count(count: int, noun: str, plural_noun: str = "") -> str:
    """Format a count with its noun: ``1 seed``, ``5 seeds``.

    Args:
        plural_noun: where it is not the noun with an s: ``classes``.
    """
    if count == 1:
        return f"{count:,} {noun}"
    return f"{count:,} {plural_noun or f'{noun}s'}"


def format_points(value: float) -> str:
    """Format a difference in percentage points as given: ``1 point``, ``0.5 points``."""
    return f"{value:g} {'point' if value == 1 else 'points'}"


def printable_path(path: str | os.PathLike[str]) -> str:
    """A path as text that can be stored; bytes of it that are not UTF-8 are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def name_seeds(seeds: Iterable[int], *, max_seeds: int = 0) -> str:
    """Name seeds, sorted: ``seed 3``, ``seeds 1, 2 and 5``.

    Args:
        max_seeds: seeds beyond this number are counted; 0 lists all.
    """
    numbers = [str(seed) for seed in sorted(seeds)]
    return f"{'seed' if len(numbers) == 1 else 'seeds'} {join_words(numbers, max_words=max_seeds)}"


def join_words(words: Iterable[str], conjunction: str = "and", *, max_words: int = 0) -> str:
    """Join words as ``A, B and C``.

    Args:
        max_words: words beyond this number are counted: ``A, B and 7 others``; 0 lists all.
    """
    listed = list(words) or [""]
    num_others = len(listed) - max_words
    if max_words and num_others > 1:  # "and 1 other" would be no shorter
        listed = [*listed[:max_words], f"{num_others:,} others"]
    *before, last = listed
    return f"{', '.join(before)} {conjunction} {last}" if before else last


def join_clauses(clauses: Sequence[str], max_clauses: int = 5) -> str:
    """Join clauses, which may hold commas, as ``A; B``, and count those beyond a number: ``A; B; and 7 more``."""
    listed = "; ".join(clauses[:max_clauses])
    num_more = len(clauses) - max_clauses
    return f"{listed}; and {num_more:,} more" if num_more > 0 else listed
