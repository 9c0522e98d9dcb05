"""Log what the tracking store has missed, without training (`ablate sync`)."""

from __future__ import annotations

from _thread import interrupt_main
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lightning_modules.specs.errors import DamagedFileError, did_you_mean
from lightning_modules.specs.text import format_count
from studies.design.trial import Trial
from studies.maintenance.registration_update import apply_update, plan_update
from studies.maintenance.repair import repair_study
from studies.records.identity import is_recorded
from studies.records.register import resuming_command_of
from studies.records.results import Result
from studies.records.study_record import StudyStart
from studies.settings import Settings, SettingsError
from studies.storage.lease import find_holder
from studies.storage.manifest import (
    ManifestEntry,
    StudyManifest,
    fetch_all,
    find_lost_result,
    hold_study_lease,
    read_all_manifests,
    require_planned_result,
)
from studies.storage.trial_requests import find_cancel_reasons, read_cancellations
from studies.tracking.errors import report_store_outage
from studies.tracking.store import Store, open_store


def sync_studies(
    settings: Settings,
    study: str | None,
    make_start: Callable[[tuple[int, ...]], StudyStart],
    log: Callable[[str], None],
    *,
    repair: bool = False,
) -> int:
    """Log every result that the tracking store misses; trains nothing.

    Args:
        study: name of one study; ``None`` for all.
        make_start: makes the provenance of this call, given the seeds that have ended.
        log: receives one line per study.
        repair: whether to verify all that is logged, and to log again what is damaged.

    Returns:
        The number of trials logged.

    Raises:
        SettingsError: if the folder holds no study of that name, or the object store fails.
        SchemaVersionError: if another version of this package wrote a requested study.
        TrackingError: if the tracking store does not respond.
        DamagedFileError: if the folder holds damaged manifests alone; otherwise these are logged and left out.
    """
    fetch_all(settings)  # results of other machines are in the object store
    damages: list[DamagedFileError] = []
    manifests = read_all_manifests(settings, damages.append)
    for damage in damages:
        log(f"left out: {damage}")
    selected = {}
    for folder, manifest in manifests.items():
        if study in (None, manifest.registration.study):
            selected[folder] = manifest
    if not selected and damages:
        raise damages[0]
    if not selected:
        _raise_unknown_study(settings, study, {manifest.registration.study for manifest in manifests.values()})
    store = open_store(settings)
    num_logged = 0
    with report_store_outage(settings.tracking_uri):
        for folder, manifest in selected.items():
            num_logged += _sync_study(store, settings, folder, manifest, make_start, log, repair=repair)
    return num_logged


def _raise_unknown_study(settings: Settings, study: str | None, known_studies: Iterable[str]) -> None:
    known_studies = sorted(known_studies)
    if study is None:
        raise SettingsError(f"{settings.studies_folder} holds no study: nothing has been run with this folder yet.")
    raise SettingsError(
        f"{settings.studies_folder} holds no study {study!r}.{did_you_mean(study, known_studies)} "
        f"It holds: {', '.join(known_studies) or 'nothing yet'}."
    )


def _sync_study(
    store: Store,
    settings: Settings,
    folder: Path,
    manifest: StudyManifest,
    make_start: Callable[[tuple[int, ...]], StudyStart],
    log: Callable[[str], None],
    *,
    repair: bool,
) -> int:
    registration = manifest.registration

    def log_of_study(text: str) -> None:
        log(f"{registration.study} under {registration.protocol}: {text}")

    driver = find_holder(folder)
    if driver:
        log_of_study(f"running, by {driver}, which logs it")
        return 0
    # Losing the lease means that a driver has taken the study over: two processes must not log it at once.
    with hold_study_lease(folder, registration.study, on_lost=interrupt_main):
        entries = manifest.recorded_entries(settings)
        results = _load_results(settings, manifest, entries, log_of_study)
        cancelled = _find_cancelled(settings, folder, entries, results, log_of_study)
        closed = store.inspector.closed_run_id(registration.study, manifest.conditions)
        num_repaired = repair_study(store, closed, manifest, results, settings, log) if repair and closed else 0
        num_logged = num_logged_cancelled = 0
        update = plan_update(store, closed, manifest, results) if closed else None
        # A closed run that misses nothing stays untouched, so that a second call changes nothing.
        if num_repaired or not closed or update or _has_unlogged(store, closed, results, cancelled):
            study_run_id = _open_study_run(store, folder, manifest, log_of_study)
            if not closed:  # it is new, or its driver was killed
                if repair:
                    num_repaired = repair_study(store, study_run_id, manifest, results, settings, log)
                update = plan_update(store, study_run_id, manifest, results)
            if update:
                apply_update(update, store, study_run_id, folder, manifest, log_of_study)
            num_logged = _log_results(store, settings, study_run_id, manifest, results)
            # After the results: of a trial that failed and was then cancelled, the newest run counts.
            num_logged_cancelled = _log_cancellations(store, study_run_id, manifest, cancelled)
            seeds = tuple(sorted({entry.trial.seed for entry in results}))
            is_complete = _is_study_complete(store, study_run_id, manifest)
            damages = store.writer.close_study(study_run_id, make_start(seeds), manifest.labels, complete=is_complete)
            for damage in damages if not num_repaired else ():  # else those are listed already
                log_of_study(str(damage))
    counts = _SyncCounts(
        planned=len(entries),
        ended=len({*results, *cancelled}),
        logged=num_logged,
        cancelled=len(cancelled),
        logged_cancelled=num_logged_cancelled,
        repaired=num_repaired,
    )
    log_of_study(counts.describe(resuming_command_of(registration) + settings.command_options))
    return num_logged


def _load_results(
    settings: Settings, manifest: StudyManifest, entries: Iterable[ManifestEntry], log: Callable[[str], None]
) -> dict[ManifestEntry, Result]:
    """The results of the planned trials; one that is damaged or lost is logged and left out."""
    results = {}
    for entry in entries:
        trial = entry.trial
        try:
            result = load_planned_result(entry, settings, manifest.labels)
        except DamagedFileError as error:
            log(f"left out {trial.arm}, seed {trial.seed}: {error}")
            continue
        if result is not None:
            results[entry] = result
        elif lost_result := find_lost_result(entry.trial_folder(settings)):
            log(f"left out {trial.arm}, seed {trial.seed}: {lost_result}")
    return results


def load_planned_result(entry: ManifestEntry, settings: Settings, labels: np.ndarray) -> Result | None:
    """The result of a planned trial, compared with its plan; ``None`` where there is none.

    Raises:
        DamagedFileError: where it cannot be used.
    """
    folder = entry.trial_folder(settings)
    result = folder.load_result()
    if result is not None:
        require_planned_result(entry.trial, entry.digests, labels, result, folder)
    return result


def _find_cancelled(
    settings: Settings,
    folder: Path,
    recorded_entries: Iterable[ManifestEntry],
    results: Mapping[ManifestEntry, Result],
    log: Callable[[str], None],
) -> dict[ManifestEntry, str]:
    """The planned trials that the user has cancelled, each with its reason; one that has a result is not."""
    entries = {entry.trial: entry for entry in recorded_entries}
    open_trials = [
        trial for trial, entry in entries.items() if entry not in results or results[entry].status == "failed"
    ]

    def has_weights(trial: Trial) -> bool:
        return trial in entries and entries[trial].trial_folder(settings).has_sound_weights()

    reasons = find_cancel_reasons(open_trials, read_cancellations(folder, log), has_weights)
    return {entries[trial]: reason for trial, reason in reasons.items()}


def _has_unlogged(
    store: Store,
    study_run_id: str,
    results: Mapping[ManifestEntry, Result],
    cancelled: Mapping[ManifestEntry, str],
) -> bool:
    return bool(
        _unlogged_results(store, study_run_id, results) or _unlogged_cancellations(store, study_run_id, cancelled)
    )


def _unlogged_results(
    store: Store, study_run_id: str, results: Mapping[ManifestEntry, Result]
) -> dict[ManifestEntry, Result]:
    """The results that the tracking store does not hold."""
    recorded = {*store.inspector.recorded_statuses(study_run_id)}
    return {entry: result for entry, result in results.items() if not is_recorded(entry.key, result.status, recorded)}


def _unlogged_cancellations(
    store: Store, study_run_id: str, cancelled: Mapping[ManifestEntry, str]
) -> dict[ManifestEntry, str]:
    """The cancelled trials that the tracking store does not hold as such."""
    logged = store.reader.cancelled_trials(study_run_id) if cancelled else set()
    return {entry: reason for entry, reason in cancelled.items() if (entry.trial.fingerprint, reason) not in logged}


def _open_study_run(store: Store, folder: Path, manifest: StudyManifest, log: Callable[[str], None]) -> str:
    """Open the study's run, or a new one, with what belongs to the study as a whole; returns the run's id."""
    study_run_id = store.writer.register_study(
        manifest.registration, manifest.conditions, manifest.tags, is_start=False
    )
    try:
        store.writer.restore_latency(study_run_id, folder)
    except DamagedFileError as error:
        log(f"left out its latency: {error}")
    return study_run_id


def _log_results(
    store: Store,
    settings: Settings,
    study_run_id: str,
    manifest: StudyManifest,
    results: Mapping[ManifestEntry, Result],
) -> int:
    """Log the results that an open run does not hold, and return their number."""
    unlogged = _unlogged_results(store, study_run_id, results)
    for entry, result in unlogged.items():
        tags = {**manifest.tags, **entry.tags}
        run_id = store.writer.start_trial(study_run_id, entry.trial, entry.key, tags, manifest.registration)
        # All epochs at once: the curves are in the result.
        store.writer.log_trial_result(run_id, result, entry.trial_folder(settings), with_curves=True)
    return len(unlogged)


def _log_cancellations(
    store: Store, study_run_id: str, manifest: StudyManifest, cancelled: Mapping[ManifestEntry, str]
) -> int:
    """Log the cancelled trials that an open run does not hold as such, and return their number."""
    unlogged = _unlogged_cancellations(store, study_run_id, cancelled)
    for entry, reason in unlogged.items():
        tags = {**manifest.tags, **entry.tags}
        store.writer.log_cancelled_trial(study_run_id, entry.trial, entry.key, tags, reason)
    return len(unlogged)


def _is_study_complete(store: Store, study_run_id: str, manifest: StudyManifest) -> bool:
    """Whether every arm has ended under every planned seed."""
    record = store.reader.read_study(manifest.registration.study, run_id=study_run_id)
    if record.registration.tuning:  # whether its searches have finished, only `ablate run` can tell
        return False
    for arm in record.registration.arms:
        for seed in record.registration.seeds:
            trial = record.find_trial(arm, seed)
            if not trial or trial.state == "running":
                return False
    return True


@dataclass(frozen=True, kw_only=True)
class _SyncCounts:
    """Numbers of a study's trials.

    Attributes:
        ended: with a result, or cancelled.
        logged: whose result was logged now.
        cancelled: by the user, of those that ended.
        logged_cancelled: logged as cancelled now.
        repaired: damaged runs that were logged again.
    """

    planned: int
    ended: int
    logged: int
    cancelled: int
    logged_cancelled: int
    repaired: int

    def describe(self, run_command: str) -> str:
        """What was logged, and what is left to be trained."""
        parts = []
        if self.logged:
            parts.append(f"{self.logged} of {self.planned} trials logged now")
        if self.logged_cancelled:
            parts.append(f"{self.logged_cancelled} of {self.planned} trials logged as cancelled")
        num_earlier = self.ended - self.logged - self.logged_cancelled
        if parts and num_earlier > 0:
            parts.append(f"{num_earlier} were logged before")
        text = ", ".join(parts) or "nothing to log"
        if not parts and self.planned and self.ended == self.planned:
            cancelled = f", {self.cancelled} of them as cancelled" if self.cancelled else ""
            text += f": all {self.planned} trials are logged{cancelled}"
        num_left = self.planned - self.ended
        if num_left:
            text += f"; {num_left} of {self.planned} have not ended: `{run_command}` trains them"
        if self.repaired:
            text += f"; {format_count(self.repaired, 'damaged run')} repaired"
        return text
