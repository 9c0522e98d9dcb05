"""Copies of a study's registration: in the tracking store, the runs folder and the report's page.

Whoever edits one of them is found by the others; whoever edits all, only by the digest that was printed.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lightning_modules.specs.errors import DamagedFileError
from studies.records.registration import Registration
from studies.records.registration_log import (
    NUM_DIGITS,
    RegistrationCheck,
    RegistrationEntry,
    declaration_of,
    describe_changes,
    find_break,
)
from studies.records.serialization import registration_from_json, registration_to_json
from studies.settings import Settings
from studies.storage.manifest import StudyManifest, read_manifest

PAGE_STAMP = re.compile(rf'<meta name="registration" content="(.+) ([0-9a-f]{{{NUM_DIGITS}}})">')
PAGE_HEAD_BYTES = 4000  # the stamp is among the first lines


@dataclass(frozen=True, kw_only=True)
class RegistrationCopy:
    """A registration and its log, as one place holds them.

    Attributes:
        place: in words, such as ``the runs folder``.
        registration: the one in force; ``None`` where it cannot be used.
        damage: what keeps the copy from being used; empty where nothing does.
    """

    place: str
    registration: Registration | None = None
    entries: tuple[RegistrationEntry, ...] = ()
    damage: str = ""


def read_folder_copy(settings: Settings, study_folder: str) -> RegistrationCopy | None:
    """The registration in the manifest of a study; ``None`` where there is no manifest."""
    place, folder = "the runs folder", settings.studies_folder / study_folder
    if not (folder / "study.json").exists():
        return None
    try:
        return copy_of_manifest(place, read_manifest(folder))
    except DamagedFileError as error:
        return RegistrationCopy(place=place, damage=str(error))


def copy_of_manifest(place: str, manifest: StudyManifest) -> RegistrationCopy:
    """The registration that a manifest holds."""
    return RegistrationCopy(place=place, registration=manifest.registration, entries=manifest.registration_log)


def find_page_digests(settings: Settings, study_folder: str) -> tuple[str, ...]:
    """Digests of the study's registration that compiled pages show."""
    digests: dict[str, None] = {}
    for page in sorted(settings.reports_folder.glob("*/index.html")):
        with page.open("rb") as file:
            digests |= dict.fromkeys(read_page_digests(file.read(PAGE_HEAD_BYTES), study_folder))
    return tuple(digests)


def read_page_digests(content: bytes, study_folder: str) -> Iterator[str]:
    """Digests of a study's registration in the head of a page: one, or none."""
    for match in PAGE_STAMP.finditer(content.decode(errors="replace")):
        if html.unescape(match[1]) == study_folder:
            yield match[2]


def check_registration(
    study_folder: str, copies: Sequence[RegistrationCopy], page_digests: Sequence[str] | None
) -> RegistrationCheck | None:
    """Compare the copies of a registration; ``None`` where an earlier version recorded the study, without a log.

    Args:
        study_folder: name of the study's folder.
        copies: the one that the report is read from first.
        page_digests: of the study's registration on pages that were compiled before; ``None`` for the study of another
            runs folder, whose digest the pages of this one do not keep.
    """
    entries = next((copy.entries for copy in copies if copy.entries), ())
    damages = [copy.damage for copy in copies if copy.damage]
    if not (entries or page_digests or damages):
        return None
    mismatches: list[str] = []
    for copy in copies:
        mismatches += _find_mismatches(copy, entries)
    known = {entry.digest for entry in entries}
    foreign = [digest for digest in page_digests or () if digest not in known]
    kept_digests = () if page_digests is None else (*foreign, *(entry.digest for entry in entries[-1:]))
    for digest in foreign:
        mismatches.append(
            f"the report that was compiled before shows the digest {digest}, which is none of this registration's "
            "(where the study was started anew on purpose, delete that report)"
        )
    return RegistrationCheck(
        study_folder=study_folder,
        entries=entries,
        places=(*(copy.place for copy in copies), *(("the report",) if page_digests else ())),
        mismatches=tuple(mismatches),
        # An earlier digest stays on the page: the next report must find the mismatch again.
        page_digest=next(iter(kept_digests), ""),
    )


def _find_mismatches(copy: RegistrationCopy, entries: Sequence[RegistrationEntry]) -> Iterator[str]:
    """Say how a copy differs from a log, and from its own."""
    if copy.damage:
        yield f"that in {copy.place} cannot be read ({copy.damage.rstrip('.')})"
        return
    if not copy.entries:
        if entries:
            yield f"{copy.place} holds no digest of it"
        return
    broken = find_break(copy.entries)
    if broken:
        yield f"in {copy.place}, {broken}"
    if copy.entries != entries:
        yield f"{copy.place} holds {_describe_entries(copy.entries)}, and not {_describe_entries(entries)}"
    if copy.registration:
        declared = declaration_of(registration_to_json(registration_from_json(dict(copy.entries[-1].declaration))))
        changes = describe_changes(declared, declaration_of(registration_to_json(copy.registration)))
        if changes:
            yield f"{copy.place} holds another registration than its digest {copy.entries[-1].digest} was made of: " + (
                "; ".join(changes)
            )


def _describe_entries(entries: Sequence[RegistrationEntry]) -> str:
    last = entries[-1]
    if len(entries) == 1:
        return f"the registration {last.digest} of {last.time}, {last.results_seen}"
    return f"an amendment {last.digest} of {last.time}, {last.results_seen}"
