"""Clean or a bundle: what moved between the networks of two arms as built, in words. The rule is the contract's own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ablations import PROPERTIES, PROPERTY_WORDS, Contrast, Difference, Move, Property, contrast, forced_with
from reports.changes import compact
from reports.numbers import fixed, listed, significant
from studies.records import Registration

NOTHING_MOVED = "nothing by more than 5%"


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What moved from one arm's network to another's.

    Attributes:
        contrast: what the contract says of the two.
        unknown: properties that are not known, with the arms of which they are not.
        measured: whether any property is known of both.
        forced: the settings that had to change with what is studied and differ, in words.
    """

    contrast: Contrast
    unknown: tuple[tuple[tuple[str, ...], tuple[Property, ...]], ...]
    measured: bool
    forced: tuple[str, ...]

    @property
    def settled(self) -> bool:
        """Whether the contrast is clean, and nothing about it is unknown."""
        return self.contrast.clean and not self.unknown

    @property
    def kind(self) -> str:
        """``clean``, ``bundle``, or how far that can be said."""
        if not self.contrast.clean:
            return "bundle"
        if not self.measured:
            return "not known"
        return "clean, as far as known" if self.unknown else "clean"

    @property
    def told(self) -> str:
        """What moved and what was forced with it, with both values, and what is not known."""
        moved = [_move(each) for each in self.contrast.moved] or ([NOTHING_MOVED] if self.measured else [])
        return "; ".join([*moved, *self.forced, *self.gaps])

    @property
    def beside(self) -> tuple[str, ...]:
        """Names of all that moved beside the property studied."""
        return (*(PROPERTY_WORDS[move.name] for move in self.contrast.beside), *self.contrast.forced)

    @property
    def gaps(self) -> tuple[str, ...]:
        """What is not known, arm by arm: ``not known of X: receptive field``."""
        return tuple(
            f"not known of {listed(arms)}: {listed(PROPERTY_WORDS[name] for name in names)}"
            for arms, names in self.unknown
        )

    @property
    def words(self) -> str:
        """``bundle (weight layers 11 → 13; multiply-adds 7.60 G → 11.3 G)``."""
        return f"{self.kind} ({self.told})"


def moved_between(registration: Registration, over: str, arm: str) -> Moved:
    """What moved from the network of ``over`` to that of ``arm``."""
    before, after = (registration.properties.get(name, {}) for name in (over, arm))
    missing: dict[tuple[str, ...], list[Property]] = {}
    for name in PROPERTIES:
        lacking = tuple(each for each, known in ((over, before), (arm, after)) if name not in known)
        if lacking:
            missing.setdefault(lacking, []).append(name)
    changed = _between(registration, over, arm)
    forced = forced_with(changed, registration.forced)
    return Moved(
        contrast=contrast(before, after, registration.property_studied, forced=forced),
        unknown=tuple((arms, tuple(names)) for arms, names in missing.items()),
        measured=any(name in before and name in after for name in PROPERTIES),
        forced=tuple(f"also {each.path} {each.before} → {each.after}" for each in compact(_within(changed, forced))),
    )


def _between(registration: Registration, over: str, arm: str) -> tuple[Difference, ...]:
    """The leaves in which two arms differ, from what each of them changes of the baseline."""
    old, new = ({change.path: change for change in registration.changes.get(name, ())} for name in (over, arm))
    changed = (
        Difference(
            path=path,
            before=old[path].after if path in old else new[path].before,
            after=new[path].after if path in new else old[path].before,
        )
        for path in dict.fromkeys((*old, *new))
    )
    return tuple(each for each in changed if each.before != each.after)


def _within(changes: Iterable[Difference], paths: Iterable[str]) -> Iterable[Difference]:
    """The changes at or below some path."""
    return (change for change in changes if any(f"{change.path}.".startswith(f"{path}.") for path in paths))


def _move(move: Move) -> str:
    return f"{PROPERTY_WORDS[move.name]} {_amount(move.before)} → {_amount(move.after)}"


def _amount(count: int) -> str:
    for factor, unit in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if count >= factor:
            return significant(count / (1e3 if unit == " k" else factor)) + unit
    return fixed(count, 0)
