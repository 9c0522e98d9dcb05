"""Print the status of studies (`ablate status`), from the runs folder or from the tracking store."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from datetime import datetime

import click
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from lightning_modules.specs.errors import DamagedFileError, UserError
from studies.console.study_view import (
    MAX_GROUPS,
    count_ended,
    format_headline,
    render_arms,
    render_study,
    state_symbols,
)
from studies.console.tables import print_json, print_table
from studies.records.registration import Registration
from studies.records.schema import PRINTED_SCHEMA
from studies.records.study_record import RecordedCandidate, RecordedTrial, StudyRecord
from studies.settings import Settings, SettingsError
from studies.storage import study_status
from studies.storage.lease import find_holder, is_lease_expired
from studies.storage.status_files import find_status_damage
from studies.storage.study_status import StudyStatus, TrialStatus

REFRESH_SECONDS = 1.0  # about the time of the shortest epochs; a refresh reads one small file per trial


def print_studies(settings: Settings, *, as_json: bool) -> None:
    """Print one line per study of the runs folder, the latest planned first.

    Raises:
        SettingsError: if the folder holds no study.
    """
    folders = study_status.list_status_folders(settings)
    for damage in find_status_damage(settings):
        click.echo(f"left out: {damage}", err=True)
    statuses = [study_status.read_status(folder, settings.trials_folder) for folder in folders]
    statuses = sorted((*statuses, *_registered_studies(settings)), key=lambda status: status.planned_at, reverse=True)
    if as_json:
        print_json(
            {
                "schema": PRINTED_SCHEMA,
                "kind": "studies",
                "studies": [study_status.status_to_json(status) for status in statuses],
            }
        )
    if not statuses:
        raise SettingsError(
            f"{settings.studies_folder} holds no study: nothing has been run with this folder yet. Call this in the "
            "folder where a study ran, or give its runs folder with --runs."
        )
    if as_json:
        return
    rows = []
    for status in statuses:
        print_damages(status)
        planned_at = datetime.fromtimestamp(status.planned_at).strftime("%Y-%m-%d %H:%M")
        progress = count_ended(status.trials, " of ")
        rows.append((status.study, status.protocol, progress, status.description, planned_at))
    print_table(("study", "protocol", "trials ended", "state", "planned"), rows)


def follow_study(settings: Settings, study: str, protocol: str | None, *, watch: bool, as_json: bool) -> bool:
    """Print a study's status, with ``watch`` until it no longer runs; returns whether the runs folder holds it."""
    for damage in find_status_damage(settings):
        click.echo(f"left out: {damage}", err=True)
    status = _find_status(settings, study, protocol)
    if status is None:
        return False
    print_damages(status)
    if as_json:
        if watch:
            status = _wait_until_ended(settings, status)
        print_json(study_status.status_to_json(status))
        return True
    console = _make_console()
    if watch and status.state == "running" and console.is_terminal:
        _watch_terminal(console, settings, status)
        # Read again: the last refresh may be a second older than the end.
        status = _find_status(settings, study, protocol) or status
    elif watch:
        status = _watch_lines(settings, status)
    console.print(_render_status(status, console))
    if status.stop_reason and status.state == "ended":
        click.echo(f"\n{status.stop_reason}")
    return True


def _registered_studies(settings: Settings) -> Iterator[StudyStatus]:
    """Studies of the runs folder that are registered, and of which no start has planned a trial."""
    for file in settings.studies_folder.glob("*/study.json"):
        if file.with_name("board.json").exists():
            continue
        from studies.storage.manifest import read_manifest  # few studies need it

        try:
            manifest = read_manifest(file.parent)
        except (DamagedFileError, UserError):  # told by `ablate doctor`
            continue
        if manifest.entries or manifest.candidate_folders:  # its status file is lost, which is told as such
            continue
        registration, holder = manifest.registration, find_holder(file.parent)
        state = "running" if holder else "died" if is_lease_expired(file.parent) else "registered"
        arms = _all_arms(registration)
        yield StudyStatus(
            study=registration.study,
            protocol=registration.protocol,
            state=state,
            owner=str(holder or ""),
            planned_at=file.stat().st_mtime,
            trials=tuple(TrialStatus(arm=arm, seed=seed, epochs=0) for arm in arms for seed in registration.seeds),
        )


def _find_status(settings: Settings, study: str, protocol: str | None) -> StudyStatus | None:
    """The last planned study of a name, else the last registered one, or ``None``."""
    status = study_status.find_status(settings, study, protocol)
    if status:
        return status
    found = [status for status in _registered_studies(settings) if status.study == study]
    found = [status for status in found if protocol in (None, status.protocol)]
    return max(found, key=lambda status: status.planned_at, default=None)


def print_damages(status: StudyStatus) -> None:
    """Print which files of a study's trials cannot be used, as warnings."""
    for damage in status.damages:
        click.echo(f"left out: {damage}", err=True)


def print_recorded_status(record: StudyRecord, *, as_json: bool) -> None:
    """Print a study as the tracking store holds it: the arms as :func:`follow_study` does, then every trial's error."""
    registration = record.registration
    status = recorded_status(record)
    if as_json:
        print_json(study_status.status_to_json(status))
        return
    console = _make_console()
    headline = Text(f"{registration.study} under {registration.protocol}, as recorded", style="bold")
    if record.registration_check:
        headline.append(f"\nregistration {record.registration_check.finding}", style="not bold")
    trials = [trial for trial in status.trials if trial.part == "test"]
    # No totals and no time left here: the tracking store holds neither the planned epochs nor the leases.
    console.print(Group(headline, Text(), render_arms(trials, state_symbols(console)), Text()))
    rows = []
    for arm in _all_arms(registration):
        cells = [_format_trial(record.find_trial(arm, seed)) for seed in registration.seeds]
        rows.append((arm, *cells))
    print_table(("arm", *(f"seed {seed}" for seed in registration.seeds)), rows)
    if status.stop_reason:
        click.echo(f"\n{status.stop_reason}")


def recorded_status(record: StudyRecord) -> StudyStatus:
    """The status of a study as far as the tracking store tells it."""
    registration = record.registration
    trials = []
    for arm in _all_arms(registration):
        for seed in registration.seeds:
            trials.append(_recorded_trial_status(arm, seed, record.find_trial(arm, seed)))
    if record.tuning:
        for trial in record.tuning.trials:
            trials.append(_recorded_trial_status(f"{trial.arm}, tuned", trial.seed, trial))
        trials += map(_candidate_status, record.tuning.candidates)
    starts = [datetime.fromisoformat(start.time).timestamp() for start in record.starts]
    state = "ended" if record.trials or record.tuning else "registered"
    if any(trial.state == "running" for trial in trials):
        state = "running"
    return StudyStatus(
        study=registration.study,
        protocol=registration.protocol,
        state=state,
        owner="",
        planned_at=max(starts, default=0.0),
        trials=tuple(trials),
        stop_reason=record.stop_reason,
        source="tracking store",
    )


def _all_arms(registration: Registration) -> tuple[str, ...]:
    """The arms, then the source networks and the evaluated networks that are none of them."""
    names = [*registration.arms, *registration.donors.values()]
    for evaluated in registration.tested.values():
        names += evaluated
    return tuple(dict.fromkeys(names))


def _recorded_trial_status(arm: str, seed: int, trial: RecordedTrial | None) -> TrialStatus:
    if trial is None:
        return TrialStatus(arm=arm, seed=seed, epochs=0)
    result = trial.result
    epochs = len(result.times) if result else 0  # those planned for a running trial are not recorded
    validation_error = trial.progress.get("validation_error", math.nan)
    return TrialStatus(
        arm=arm,
        seed=seed,
        epochs=epochs,
        epoch=epochs,
        state="reused" if trial.reused_from and trial.state == "finished" else trial.state,
        error=result.metrics.get("test_error", math.nan) if result else validation_error,
        num_attempts=trial.num_attempts,
    )


def _candidate_status(candidate: RecordedCandidate) -> TrialStatus:
    return TrialStatus(
        arm=f"{candidate.arm}, candidate {candidate.number}",
        group=f"{candidate.arm}, rung {candidate.rung + 1}",
        seed=candidate.seed,
        part="validation",
        epochs=candidate.epochs,
        epoch=candidate.epochs_trained,
        state=candidate.state,
        error=candidate.validation_error,
        num_attempts=candidate.num_attempts,
    )


def _format_trial(trial: RecordedTrial | None) -> str:
    if trial is None:
        return "waiting"
    if trial.state == "finished" and trial.result:
        return f"{trial.result.metrics['test_error']:.2f} %"
    if trial.state == "running" and "validation_error" in trial.progress:
        return f"running, {trial.progress['validation_error']:.1f} % on validation"
    return str(trial.state)


def _make_console() -> Console:
    return Console(markup=False, highlight=False)


def _render_status(status: StudyStatus, console: Console, max_groups: int = 0) -> Group:
    tables = render_study(
        status.trials, symbols=state_symbols(console), max_groups=max_groups, is_running=status.state == "running"
    )
    return Group(Text(format_headline(status), style="bold"), Text(), tables)


def _watch_terminal(console: Console, settings: Settings, status: StudyStatus) -> None:
    """Keep the screen up to date until the study no longer runs."""
    # Transient, since the final tables are printed once more and must stay.
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while status.state == "running":
            live.update(_render_status(status, console, MAX_GROUPS), refresh=True)
            time.sleep(REFRESH_SECONDS)
            status = _find_status(settings, status.study, status.protocol) or status


def _wait_until_ended(settings: Settings, status: StudyStatus) -> StudyStatus:
    """Wait until the study no longer runs; returns its last status."""
    while status.state == "running":
        time.sleep(REFRESH_SECONDS)
        status = _find_status(settings, status.study, status.protocol) or status
    return status


def _watch_lines(settings: Settings, status: StudyStatus) -> StudyStatus:
    """Print a line whenever a trial has started or ended: for a log, where nothing can be redrawn."""
    last_counts = ""
    while status.state == "running":
        if status.state_counts != last_counts:
            last_counts = status.state_counts
            click.echo(f"{datetime.now():%H:%M:%S} {last_counts}")
        time.sleep(REFRESH_SECONDS)
        status = _find_status(settings, status.study, status.protocol) or status
    return status
