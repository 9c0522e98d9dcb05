"""Log again what the tracking store holds damaged, from the runs folder (`ablate sync --repair`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from studies.records.results import Result
from studies.settings import Settings
from studies.storage.manifest import ManifestEntry, StudyManifest
from studies.tracking.store import Store


def repair_study(
    store: Store,
    study_run_id: str,
    manifest: StudyManifest,
    results: Mapping[ManifestEntry, Result],
    settings: Settings,
    log: Callable[[str], None],
) -> int:
    """Log damaged results and a damaged registration again; tables and labels are written when the study is closed.

    Args:
        results: in the trials' folders, verified.

    Returns:
        The number of runs that held something damaged which could be replaced.
    """
    num_repaired = 0
    damages = store.reader.find_study_damage(study_run_id)
    for damage in damages:
        log(str(damage))
    if any(str(damage.file).endswith("registration.json") for damage in damages):
        store.writer.log_registration(study_run_id, manifest.registration)
    if any(str(damage.file).endswith("registration_log.json") for damage in damages):
        store.writer.log_registration_log(study_run_id, manifest.registration_log)
    if any("/starts/" not in str(damage.file) for damage in damages):  # a start stands nowhere else
        num_repaired += 1
    results_by_trial = {(entry.key, entry.tags.get("recipe", "shared")): entry for entry in results}
    for run_id, key, recipe, damage in store.reader.find_trial_damage(study_run_id):
        log(str(damage))
        entry = results_by_trial.get((key, recipe))
        if entry is not None:
            store.writer.relog_trial(run_id, entry.trial, results[entry], entry.trial_folder(settings))
            num_repaired += 1
    return num_repaired
