"""The log of a registration: its digest, and the amendments that are chained to it.

The digest of a registration covers what was declared and nothing else, so that the same declaration has the same
digest on any machine. That of an amendment covers the entry before it as well, its author and the results that existed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from ablations import CLAIM_CLASSES, Claim
from lightning_modules.specs.serialization import from_json

RegistrationState = Literal["intact", "amended", "does not match"]

# Of a registration's fields: when it was made, the version of its form, and layers, which follow from the settings and
# were not recorded by earlier versions. All others are declared.
UNDECLARED_FIELDS = ("registered", "num_planned", "num_visible", "schema", "layers")
FIELD_WORDS = {"held": "held settings", "changes": "differences between arms", "built": "differences as built"}
NUM_DIGITS = 32  # 128 bits of the SHA-256: nobody finds a second declaration of the same digest


@dataclass(frozen=True, kw_only=True)
class RegistrationEntry:
    """The registration, or an amendment of it.

    Attributes:
        declaration: what was declared, as JSON data.
        time: ISO 8601, UTC.
        user, host: who declared it, and where.
        num_planned: planned trials of the arms.
        num_results: those of them whose result could be seen, in any study, under any name.
        code: digest of the training code.
        previous: digest of the entry before; empty for the registration itself.
    """

    declaration: Mapping[str, Any]
    time: str
    user: str
    host: str
    num_planned: int
    num_results: int
    code: str
    previous: str = ""

    @cached_property
    def digest(self) -> str:
        """What the entry is known by, as hexadecimal digits."""
        content: dict[str, Any] = {"declaration": self.declaration}
        if self.previous:
            content = {name: value for name, value in asdict(self).items() if name != "code"}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:NUM_DIGITS]

    @property
    def results_seen(self) -> str:
        """When it was declared, as a clause: ``after 3 of 10 results``."""
        seen = f"after {self.num_results}" if self.num_results else "before any"
        return f"{seen} of {self.num_planned} results"

    @property
    def author(self) -> str:
        """User and host."""
        return f"{self.user} on {self.host}"


def entry_to_json(entry: RegistrationEntry) -> dict[str, Any]:
    """Return plain JSON data of an entry, with its digest."""
    return {**asdict(entry), "digest": entry.digest}


def entry_from_json(data: Mapping[str, Any]) -> RegistrationEntry:
    """Invert :func:`entry_to_json`.

    Raises:
        ValueError: where the stored digest is not that of the entry.
    """
    entry = RegistrationEntry(**{name: value for name, value in data.items() if name != "digest"})
    if entry.digest != data["digest"]:
        raise ValueError(f"the entry of {entry.time} has the digest {entry.digest}, and not {data['digest']}")
    return entry


def declaration_of(registration: Mapping[str, Any]) -> dict[str, Any]:
    """What the JSON data of a registration declare."""
    declared = {name: value for name, value in registration.items() if name not in UNDECLARED_FIELDS}
    # As it is read back: tuples are lists, and all keys are text.
    normalized: dict[str, Any] = json.loads(json.dumps(declared))
    return normalized


def find_break(entries: Sequence[RegistrationEntry]) -> str:
    """Say where the chain of a log is broken; empty where it is whole."""
    for entry, before in zip(entries, (None, *entries), strict=False):
        if entry.previous != (before.digest if before else ""):
            return f"the entry of {entry.time} does not follow the one before it"
    return ""


def continue_log(
    entries: tuple[RegistrationEntry, ...], other: tuple[RegistrationEntry, ...]
) -> tuple[RegistrationEntry, ...]:
    """A log with the further amendments that another copy of it holds; as it is where the two are different logs."""
    return other if other[: len(entries)] == entries else entries


def describe_amendment(amendment: RegistrationEntry, before: RegistrationEntry) -> str:
    """Say what an amendment changed of the entry before it, after how many results, and its digest."""
    changes = "; ".join(describe_changes(before.declaration, amendment.declaration))
    return f"registration amended {amendment.results_seen}: {changes}; digest {amendment.digest}"


def describe_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """Say what differs between two declarations, one clause for each field."""
    changes = []
    for name in dict.fromkeys((*before, *after)):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if name == "claims":
            changes += _describe_claims(_claims_of(before), _claims_of(after))
        elif name == "seeds":
            changes += _describe_seeds(old or [], new or [])
        elif name == "arms" and old and new and old[0] != new[0]:
            changes.append(f"baseline from {old[0]} to {new[0]}")
        elif isinstance(old, (int, float, str)) and isinstance(new, (int, float, str)) and len(f"{old}{new}") < 100:
            changes.append(f"{name.replace('_', ' ')} from {old} to {new}")
        else:
            changes.append(f"other {FIELD_WORDS.get(name, name.replace('_', ' '))}")
    return tuple(changes)


def _claims_of(declaration: Mapping[str, Any]) -> list[str]:
    claims: tuple[Claim, ...] = from_json(declaration.get("claims", []), CLAIM_CLASSES)
    return [claim.sentence for claim in claims]


def _describe_claims(before: Sequence[str], after: Sequence[str]) -> list[str]:
    removed = [f"claim removed: {sentence}" for sentence in before if sentence not in after]
    added = [f"claim added: {sentence}" for sentence in after if sentence not in before]
    return [*removed, *added] or ["claims that read the same, with other bounds, notes or order"]


def _describe_seeds(before: Sequence[int], after: Sequence[int]) -> list[str]:
    changes = []
    for verb, seeds in (("added", {*after} - {*before}), ("removed", {*before} - {*after})):
        if seeds:
            noun = "seed" if len(seeds) == 1 else "seeds"
            changes.append(f"{noun} {verb}: {', '.join(map(str, sorted(seeds)))}")
    return changes or ["another order of the seeds"]


@dataclass(frozen=True, kw_only=True)
class RegistrationCheck:
    """What a comparison of the copies of a registration has found.

    Attributes:
        study_folder: name of the study's folder, by which pages say whose registration they show.
        entries: the registration and its amendments.
        places: where copies were found, in words.
        mismatches: sentences on what does not match; empty where all agree.
        page_digest: the digest that the report keeps; that of an earlier page where it is none of the entries', and
            empty where the report keeps none.
    """

    study_folder: str
    entries: tuple[RegistrationEntry, ...]
    places: tuple[str, ...]
    mismatches: tuple[str, ...]
    page_digest: str

    @property
    def state(self) -> RegistrationState:
        """The finding in a word."""
        if self.mismatches:
            return "does not match"
        return "amended" if len(self.entries) > 1 else "intact"

    @property
    def digest(self) -> str:
        """Digest of the last entry; empty where none can be read."""
        return self.entries[-1].digest if self.entries else ""

    @property
    def finding(self) -> str:
        """The state, with the results that existed: ``amended after 3 of 10 results``."""
        if self.state == "does not match" or not self.entries:
            return self.state
        results_seen = self.entries[-1].results_seen
        return f"amended {results_seen}" if self.state == "amended" else f"intact, made {results_seen}"

    @property
    def amendments(self) -> tuple[tuple[RegistrationEntry, tuple[str, ...]], ...]:
        """Every amendment, with what it changed."""
        pairs = zip(self.entries[1:], self.entries, strict=False)
        return tuple((entry, describe_changes(before.declaration, entry.declaration)) for entry, before in pairs)
