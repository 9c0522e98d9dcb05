"""Cancel a trial of a study, and take that back: requests that the study's driver and its later starts read."""

from __future__ import annotations

from _thread import interrupt_main
from pathlib import Path

from lightning_modules.specs.errors import UserError, did_you_mean
from studies.settings import Settings
from studies.storage.lease import LeaseHolder, find_holder
from studies.storage.manifest import ManifestEntry, hold_study_lease, read_manifest
from studies.storage.study_status import TrialStatus, find_status_folder, read_status
from studies.storage.trial_folder import TrialFolder
from studies.storage.trial_requests import (
    Cancellation,
    read_cancellations,
    remove_cancellation,
    request_retry,
    write_cancellation,
)
from studies.tracking.errors import report_store_outage
from studies.tracking.ownership import user_name
from studies.tracking.store import open_store


def cancel_trial(settings: Settings, study: str, protocol: str | None, arm: str, seed: int, reason: str) -> str:
    """Cancel a trial that has not ended, or has failed; returns what happens now, in a sentence.

    Raises:
        UserError: where the study or the trial is not there, or the trial has a result, which is never discarded.
        TrackingError: where no driver runs the study, and the tracking store does not answer.
    """
    folder, trial = _find_trial(settings, study, protocol, arm, seed)
    name = f"{trial.arm}, seed {trial.seed}"
    if trial.state == "cancelled":
        return f"{name} is cancelled already"
    if trial.has_ended and trial.state != "failed":
        raise UserError(
            f"{name} has ended ({trial.state}): a result is kept. Only a trial without one can be cancelled."
        )
    request = Cancellation(arm=trial.arm, seed=trial.seed, reason=reason, user=user_name())
    cancellation = write_cancellation(folder, _fingerprint(trial), request)
    driver = find_holder(folder)
    if driver:
        return f"{name} is cancelled; {_describe_driver(driver)} stops it within seconds, and records it"
    _log_cancellation(settings, folder, trial, cancellation)
    return f"{name} is cancelled; `ablate run` of this study leaves it out, until `ablate retry` takes that back"


def retry_trial(settings: Settings, study: str, protocol: str | None, arm: str, seed: int) -> str:
    """Take back that a trial is cancelled, or train a failed one again; returns what happens now, in a sentence.

    Raises:
        UserError: where the study or the trial is not there, or it is neither cancelled nor failed.
        TrackingError: where no driver runs the study, and the tracking store does not answer; nothing has changed then.
    """
    folder, trial = _find_trial(settings, study, protocol, arm, seed)
    name = f"{trial.arm}, seed {trial.seed}"
    if trial.state not in ("cancelled", "failed"):
        raise UserError(f"{name} is {trial.state}. Only a cancelled or a failed trial can be tried again.")
    cancellation = read_cancellations(folder, _ignore_damage).get(_fingerprint(trial))
    driver = find_holder(folder)
    if cancellation and not driver:  # first: where the store does not answer, the trial stays cancelled everywhere
        _withdraw_cancellation(settings, folder, trial, cancellation)
    if cancellation:  # the report names it among the reasons for which the trial was started more than once
        TrialFolder(settings.trials_folder / trial.folder).record_fault(f"{cancellation.describe()}; tried again")
    remove_cancellation(folder, _fingerprint(trial))
    if driver:
        request_retry(folder, _fingerprint(trial))
        return f"{name} is queued again by {_describe_driver(driver)}, if it is not about to end"
    return f"{name} is to be trained again: `ablate run` of this study does so"


def _find_trial(settings: Settings, study: str, protocol: str | None, arm: str, seed: int) -> tuple[Path, TrialStatus]:
    """The folder of a study, and one of its trials."""
    folder = find_status_folder(settings, study, protocol)
    if folder is None:
        under = f" under {protocol}" if protocol else ""
        raise UserError(
            f"{settings.studies_folder} holds no study {study}{under} of which trials are planned; `ablate status` "
            "lists its studies."
        )
    trials = [trial for trial in read_status(folder, settings.trials_folder).trials if trial.part == "test"]
    arms = list(dict.fromkeys(trial.arm for trial in trials))
    if arm not in arms:
        raise UserError(f"{study} has no arm {arm!r}.{did_you_mean(arm, arms)} There are: {', '.join(arms)}.")
    for trial in trials:
        if (trial.arm, trial.seed) == (arm, seed):
            return folder, trial
    seeds = ", ".join(str(trial.seed) for trial in trials if trial.arm == arm)
    raise UserError(f"{arm} has no trial under seed {seed}; planned are the seeds {seeds}.")


def _fingerprint(trial: TrialStatus) -> str:
    return trial.folder.partition("-")[0]


def _describe_driver(driver: LeaseHolder) -> str:
    return f"the study's driver ({driver})"


def _log_cancellation(settings: Settings, folder: Path, trial: TrialStatus, cancellation: Cancellation) -> None:
    """Log it in the run of a study that no driver runs; a study without a run gets it at its next start."""
    manifest = read_manifest(folder)
    entry = next((entry for entry in manifest.latest_entries if _is_entry_of(entry, trial)), None)
    store = open_store(settings)
    name = manifest.registration.study
    with report_store_outage(settings.tracking_uri), hold_study_lease(folder, name, on_lost=interrupt_main):
        run_id = store.inspector.closed_run_id(name, manifest.conditions)
        if run_id and entry:
            tags = {**manifest.tags, **entry.tags}
            store.writer.log_cancelled_trial(run_id, entry.trial, entry.key, tags, cancellation.describe())


def _withdraw_cancellation(settings: Settings, folder: Path, trial: TrialStatus, cancellation: Cancellation) -> None:
    """Take a cancellation back in the run of a study that no driver runs: the record shows the trial as not started."""
    manifest = read_manifest(folder)
    store = open_store(settings)
    name = manifest.registration.study
    with report_store_outage(settings.tracking_uri), hold_study_lease(folder, name, on_lost=interrupt_main):
        run_id = store.inspector.own_run_id(name, manifest.conditions)
        if run_id:
            reason = cancellation.describe_for_dependents()
            store.writer.withdraw_cancellation(run_id, _fingerprint(trial), reason)


def _ignore_damage(text: str) -> None:
    """A damaged cancellation is removed unread."""
    del text


def _is_entry_of(entry: ManifestEntry, trial: TrialStatus) -> bool:
    return entry.trial.fingerprint == _fingerprint(trial) and entry.trial.seed == trial.seed
