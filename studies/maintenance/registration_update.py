"""Update the registration in the tracking store from a study's manifest, which other machines have written to."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from studies.records.registration import Registration
from studies.records.registration_log import (
    RegistrationEntry,
    continue_log,
    declaration_of,
    describe_changes,
)
from studies.records.results import Result
from studies.records.serialization import registration_to_json
from studies.storage.manifest import ManifestEntry, StudyManifest, registration_in_force
from studies.tracking.ownership import user_name
from studies.tracking.store import Store


def update_registration(
    store: Store,
    study_run_id: str,
    folder: Path,
    manifest: StudyManifest,
    results: Mapping[ManifestEntry, Result],
    log: Callable[[str], None],
) -> None:
    """Log the amendments that the tracking store misses, and declare the seeds of results that no entry declares.

    Two logs of which neither continues the other stay as they are: the report says how they differ.

    Args:
        folder: of the study, whose manifest gets the new amendment.
        results: of the manifest's entries, those that another machine has trained included.
        log: receives the amendment in words.
    """
    logged = store.reader.read_registration_log(study_run_id)
    entries = continue_log(logged, manifest.registration_log)
    if entries != manifest.registration_log or not entries:
        return
    registration = registration_in_force(manifest)
    amended = _with_seeds_of(registration, results)
    if amended != registration:
        amendment = _make_amendment(amended, entries[-1], results)
        changes = "; ".join(describe_changes(entries[-1].declaration, amendment.declaration))
        log(f"registration amended {amendment.results_seen}: {changes}; digest {amendment.digest}")
        registration, entries = amended, (*entries, amendment)
        replace(manifest, registration=registration, registration_log=entries, entries=()).write(folder)
    if entries != logged:
        store.writer.log_registration(study_run_id, registration)
        store.writer.log_registration_log(study_run_id, entries)


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
        num_planned=len(registration.arms) * len(registration.seeds),
        num_results=len({(entry.trial.arm, entry.trial.seed) for entry in of_arms}),
        code=of_arms[-1].digests["code"],
        previous=before.digest,
    )
