"""Health checks of the tracking store: versions, schemas, open runs, lost files, agreement with the trial folders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata

from lightning_modules.specs.text import format_count
from studies.design.declare import resuming_command
from studies.maintenance.cleanup import find_garbage, format_size
from studies.maintenance.health_check import HealthCheck, Severity
from studies.maintenance.runs_folder import LOW_SPACE_BYTES
from studies.maintenance.runs_index import RunsFolderIndex
from studies.records.identity import is_recorded
from studies.records.results import RECORD_SCHEMA
from studies.settings import Settings
from studies.storage import lease
from studies.tracking.errors import (
    TrackingError,
    describe_database_damage,
    find_database_damage,
    report_store_outage,
)
from studies.tracking.inspection import RecordedRun
from studies.tracking.reader import ENDED_STATUSES
from studies.tracking.store import Store, open_store

MAX_CHECKED_RUNS = 200  # whose files are looked for: each takes a request to a server


def check_tracking_store(settings: Settings) -> Iterator[HealthCheck]:
    """Check that the tracking store responds and is intact, and find what was left incomplete in it."""
    if settings.database_file and not settings.database_file.exists():
        finding = f"{settings.database_file} does not exist yet: the first `ablate run` creates it"
        yield HealthCheck(area="record", level="ok", finding=finding)
        return
    try:
        store = open_store(settings, create=False)
    except TrackingError as error:
        advice = _upgrade_advice(str(error), settings)
        yield HealthCheck(area="record", level="error", finding=str(error), advice=advice)
        return
    damages = list(_check_database(settings))
    yield from damages
    if damages:  # what it would answer is as likely wrong
        return
    with report_store_outage(settings.tracking_uri):
        runs = store.inspector.list_runs()
        finding = f"{settings.redacted_tracking_uri} responds; it holds {_count_runs(runs)}"
        yield HealthCheck(area="record", level="ok", finding=finding)
        yield _check_store_version(settings, store)
        readable = [run for run in runs if run.schema == str(RECORD_SCHEMA)]
        yield from _check_schemas(runs)
        yield from _check_tags(readable)
        yield from _check_registrations(store)
        yield from _check_open_runs(settings, readable)
        yield from _check_result_files(store, readable)
        yield from _check_folder_agreement(settings, runs)
        yield _check_garbage(settings, store)


def _count_runs(runs: Iterable[RecordedRun]) -> str:
    kinds = [run.kind for run in runs]
    return f"{kinds.count('study')} studies, {kinds.count('fit')} trials, {kinds.count('candidate')} candidates"


def _upgrade_advice(error_text: str, settings: Settings) -> str:
    # MLflow's words for tables of an older, and of a newer version than its own.
    is_out_of_date = "out-of-date database schema" in error_text or "Can't locate revision" in error_text
    return f"back it up, then run `mlflow db upgrade {settings.redacted_tracking_uri}`" if is_out_of_date else ""


def _check_store_version(settings: Settings, store: Store) -> HealthCheck:
    found, expected = store.inspector.schema_versions()
    is_server = settings.tracking_uri.startswith("http")
    # A server's API changes with its major version only; a database's tables must agree exactly.
    is_same_major = is_server and found.split(".")[0] == expected.split(".")[0]
    subject = "MLflow server has version" if is_server else "database schema has version"
    if found == expected or is_same_major:
        finding = f"the {subject} {found}, as MLflow {metadata.version('mlflow')} expects"
        return HealthCheck(area="record", level="ok", finding=finding)
    advice = "use the same version on both sides"
    if not is_server:
        advice = _upgrade_advice("out-of-date database schema", settings)
    finding = f"the {subject} {found}; the installed MLflow expects {expected}"
    return HealthCheck(area="record", level="warning", finding=finding, advice=advice)


def _check_database(settings: Settings) -> Iterator[HealthCheck]:
    reason = find_database_damage(settings.database_file) if settings.database_file else ""
    if settings.database_file and reason:
        finding = describe_database_damage(settings.database_file, reason)
        yield HealthCheck(area="record", level="error", finding=finding)


def _check_schemas(runs: Iterable[RecordedRun]) -> Iterator[HealthCheck]:
    """Count runs that another version of this package logged under another schema."""
    schemas = [run.schema for run in runs if run.schema != str(RECORD_SCHEMA)]
    for schema in sorted(set(schemas)):
        is_newer = schema.isdecimal() and int(schema) > RECORD_SCHEMA
        relation = "newer" if is_newer else "older"
        finding = f"{schemas.count(schema)} runs have schema {schema}, {relation} than this version's, {RECORD_SCHEMA}"
        advice = "compile their reports with the version that recorded them"
        if is_newer:
            advice = "update this package to read them"
        yield HealthCheck(area="record", level="warning", finding=finding, advice=advice)


def _check_tags(runs: Iterable[RecordedRun]) -> Iterator[HealthCheck]:
    """Find trials whose tags were edited so that no report can read them."""
    for run in runs:
        if run.tag_fault:
            yield HealthCheck(area="record", level="error", finding=run.tag_fault)


def _check_registrations(store: Store) -> Iterator[HealthCheck]:
    """Compare the copies of every registration of this runs folder."""
    findings = []
    for title, check in store.reader.check_own_registrations().items():
        if check is None:  # recorded by an earlier version, which kept no digest
            continue
        if not check.mismatches:
            findings.append(f"{title} {check.finding}")
        for mismatch in check.mismatches:
            yield HealthCheck(
                area="registration",
                level="error",
                finding=f"the registration of {title} does not match: {mismatch}",
                advice="compare with the digest that `ablate register` or the first `ablate run` printed",
            )
    if findings:
        yield HealthCheck(area="registration", level="ok", finding="; ".join(findings))


def _check_open_runs(settings: Settings, runs: Iterable[RecordedRun]) -> Iterator[HealthCheck]:
    """Find studies and trials that the store shows as running although no process runs them."""
    runs_by_id = {run.run_id: run for run in runs}
    partial_trials = []
    for run in runs:
        if run.kind == "":  # set last when a study is registered
            finding = f"the registration of {run.name} was interrupted"
            advice = "delete it in `ablate ui`; the next `ablate run` registers the study again"
            yield HealthCheck(area="record", level="warning", finding=finding, advice=advice)
        # Of another runs folder's study, nothing here tells whether it runs.
        if run.kind == "study" and run.is_own and run.is_open and not _study_driver(settings, run):
            finding = f"{run.name} is marked as running, but no process runs it in {settings.shared_folder}"
            advice = (
                f"unless another machine runs it, `ablate sync {run.study}` closes it; "
                f"`{resuming_command(run.study)} ...` resumes it"
            )
            yield HealthCheck(area="record", level="warning", finding=finding, advice=advice)
        is_trial = run.kind in ("fit", "candidate")
        if is_trial and run.status == "running" and not _may_have_driver(settings, run, runs_by_id):
            partial_trials.append(run)
    if partial_trials:
        example = partial_trials[0]
        finding = (
            f"{format_count(len(partial_trials), 'trial')} logged in part, such as {example.study}: {example.name}"
        )
        advice = "`ablate sync` logs those that have ended; `ablate run` trains the others and removes the partial runs"
        yield HealthCheck(area="record", level="warning", finding=finding, advice=advice)


def _study_driver(settings: Settings, run: RecordedRun) -> lease.LeaseHolder | None:
    return lease.find_holder(settings.studies_folder / f"{run.study}-{run.conditions}")


def _may_have_driver(settings: Settings, run: RecordedRun, runs_by_id: Mapping[str, RecordedRun]) -> bool:
    """Whether a trial's study runs, as far as this runs folder can tell."""
    parent = runs_by_id.get(run.parent_run_id)
    return parent is not None and (not parent.is_own or _study_driver(settings, parent) is not None)


def _check_result_files(store: Store, runs: Iterable[RecordedRun]) -> Iterator[HealthCheck]:
    """Find ended trials whose artifacts are gone."""
    ended = [run for run in runs if run.kind == "fit" and run.status not in ("running", "")][-MAX_CHECKED_RUNS:]
    lost = [run for run in ended if not store.inspector.has_result_file(run)]
    if lost:
        finding = f"{len(lost)} of the last {len(ended)} trials have no result.json, such as in {lost[0].artifact_uri}"
        advice = "restore the files; or delete the runs in `ablate ui`, and run `ablate sync`"
        yield HealthCheck(area="record", level="error", finding=finding, advice=advice)


def _check_folder_agreement(settings: Settings, runs: Iterable[RecordedRun]) -> Iterator[HealthCheck]:
    """Find studies and trials that have a folder but no run, and trials that have a run but no folder."""
    index = RunsFolderIndex.scan(settings)
    trial_runs = [run for run in runs if run.kind == "fit" and run.schema == str(RECORD_SCHEMA)]
    recorded = {(run.key, run.status) for run in trial_runs}
    own_studies = {(run.study, run.conditions) for run in runs if run.kind == "study" and run.is_own}
    for folder, manifest in index.manifests.items():
        if lease.find_holder(folder):  # its driver is still logging
            continue
        study = manifest.registration.study
        num_ended = num_missing = 0
        for entry in manifest.recorded_entries(settings):
            trial = index.trials.get(entry.folder)
            if trial and trial.result:
                num_ended += 1
                num_missing += not is_recorded(trial.key, trial.result.status, recorded)
        if num_ended and (study, manifest.conditions) not in own_studies:  # without its run, no report finds its trials
            finding = f"{study} under {manifest.registration.protocol} has no run in the tracking store"
            yield HealthCheck(area="record", level="warning", finding=finding, advice=f"`ablate sync {study}`")
        elif num_missing:
            finding = f"not in the tracking store: {format_count(num_missing, 'ended trial')} of {study}"
            yield HealthCheck(area="record", level="warning", finding=finding, advice=f"`ablate sync {study}`")
    stored_keys = {trial.key for trial in index.trials.values()}
    ended = [run for run in trial_runs if run.status in ENDED_STATUSES["fit"]]
    num_absent = sum(run.key not in stored_keys for run in ended)
    if num_absent and index.trials:
        finding = (
            f"{num_absent} of {len(ended)} recorded trials have no folder in {settings.trials_folder}: "
            "reports do not need one, but a warm start from such a trial trains it again"
        )
        yield HealthCheck(area="record", level="ok", finding=finding)


def _check_garbage(settings: Settings, store: Store) -> HealthCheck:
    garbage = find_garbage(settings, store, log=lambda _: None)
    if not garbage:
        return HealthCheck(area="left over", level="ok", finding="nothing to free")
    size = sum(item.size for item in garbage)
    level: Severity = "warning" if size > LOW_SPACE_BYTES else "ok"
    finding = f"no study needs {format_size(size)} of {settings.shared_folder}"
    return HealthCheck(area="left over", level=level, finding=finding, advice="`ablate gc` lists it, and frees it")
