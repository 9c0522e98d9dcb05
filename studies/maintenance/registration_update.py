"""Update the registration in the tracking store from a study's manifest, which other machines have written to."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from studies.records.registration import Registration
from studies.records.registration_log import (
    RegistrationEntry,
    continue_log,
    declaration_of,
    describe_amendment,
)
from studies.records.results import Result
from studies.records.serialization import registration_to_json
from studies.storage.manifest import ManifestEntry, StudyManifest, registration_in_force
from studies.tracking.ownership import user_name
from studies.tracking.store import Store


@dataclass(frozen=True, kw_only=True)
class RegistrationUpdate:
    """The registration that the tracking store and the runs folder are to hold.

    Attributes:
        entries: the log of the one that has more amendments, with a new one where seeds are declared now.
        logged: the log that the tracking store holds.
        changes: what is amended now, in words; empty where nothing is.
    """

    registration: Registration
    entries: tuple[RegistrationEntry, ...]
    logged: tuple[RegistrationEntry, ...]
    changes: str


def plan_update(
    store: Store, study_run_id: str, manifest: StudyManifest, results: Mapping[ManifestEntry, Result]
) -> RegistrationUpdate | None:
    """Find the amendments that the tracking store or the manifest misses, and results whose seeds nothing declares.

    Args:
        results: of the manifest's entries, those that another machine has trained included.

    Returns:
        ``None`` where there is nothing to update; also where neither log continues the other: these stay as they are,
        and the report says how they differ.
    """
    logged, in_folder = store.reader.read_registration_log(study_run_id), manifest.registration_log
    entries = continue_log(logged, in_folder)
    if not in_folder or in_folder != entries[: len(in_folder)]:
        return None
    registration, changes = registration_in_force(manifest, entries), ""
    amended = _with_seeds_of(registration, results)
    if amended != registration:
        amendment = _make_amendment(amended, entries[-1], results)
        changes = describe_amendment(amendment, entries[-1])
        registration, entries = amended, (*entries, amendment)
    if entries == logged == in_folder:
        return None
    return RegistrationUpdate(registration=registration, entries=entries, logged=logged, changes=changes)


def apply_update(
    update: RegistrationUpdate,
    store: Store,
    study_run_id: str,
    folder: Path,
    manifest: StudyManifest,
    log: Callable[[str], None],
) -> None:
    """Write the registration to the study's folder and run, where these lack it.

    Args:
        log: receives a new amendment in words.
    """
    if update.changes:
        log(update.changes)
    if update.entries != manifest.registration_log:
        replace(manifest, registration=update.registration, registration_log=update.entries, entries=()).write(folder)
    if update.entries != update.logged:
        store.writer.log_registration(study_run_id, update.registration)
        store.writer.log_registration_log(study_run_id, update.entries)


def _with_seeds_of(registration: Registration, results: Mapping[ManifestEntry, Result]) -> Registration:
    """A registration with the seeds of some results; registered analyses add theirs by themselves."""
    if registration.looks:
        return registration
    ended = {entry.trial.seed for entry in results if entry.trial.arm in registration.arms}
    return replace(registration, seeds=(*registration.seeds, *sorted(ended - {*registration.seeds})))


def _make_amendment(
    registration: Registration, before: RegistrationEntry, results: Mapping[ManifestEntry, Result]
) -> RegistrationEntry:
    of_arms = [entry for entry in results if entry.trial.arm in registration.arms]
    return RegistrationEntry(
        declaration=declaration_of(registration_to_json(registration)),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        user=user_name(),
        host=platform.node(),
        num_planned=registration.num_trials,
        num_results=len({(entry.trial.arm, entry.trial.seed) for entry in of_arms}),
        code=of_arms[-1].digests["code"],
        previous=before.digest,
    )
