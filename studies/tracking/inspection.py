"""State of a tracking store, as `ablate doctor`, `ablate sync` and `ablate gc` need it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Run, RunData, RunInfo, RunTag

from lightning_modules.specs.errors import DamagedFileError
from studies.gc_pause import pause_gc
from studies.records.identity import TrialKey
from studies.records.results import RECORD_SCHEMA
from studies.tracking.artifact_addresses import LOCK_TIMEOUT_SECONDS
from studies.tracking.artifacts import ArtifactReader, has_trial_tags, require_trial_tags
from studies.tracking.errors import TrackingError, describe_refusal
from studies.tracking.reader import ENDED_STATUSES
from studies.tracking.runs import CANCELLED_KIND, PARENT_RUN_TAG, STUDY_RUN_TAG, MlflowRuns, trial_key_of


@dataclass(frozen=True, kw_only=True)
class RecordedRun:
    """A run of any kind, as the store shows it.

    Attributes:
        kind: ``study``, ``search``, ``fit`` or ``candidate``; empty for a study whose registration was cut off.
        parent_run_id: for a candidate, the study's run rather than its search's.
        status: the tag of that name: ``running`` until all of a trial has been logged.
        is_open: whether MLflow shows it as running.
        schema: version of the record that wrote it; ``none`` where it says none.
        key: of the trial that it records; ``None`` for other kinds of run.
        is_own: for a study, whether this runs folder started it.
        tag_fault: for a trial, what keeps its tags from being read, and what to do; empty where nothing does.
    """

    run_id: str
    name: str
    kind: str
    study: str
    conditions: str
    parent_run_id: str
    status: str
    is_open: bool
    schema: str
    key: TrialKey | None
    is_own: bool
    tag_fault: str
    artifact_uri: str


@dataclass(frozen=True, kw_only=True)
class SupersededModel:
    """The logged network of a trial that was trained again since by other code, data or platform.

    Attributes:
        address: of its files.
    """

    model_id: str
    address: str
    num_bytes: int


def read_database_runs(database: Path) -> list[Run]:
    """Read all runs of a SQLite database, with their tags alone, the oldest first.

    MLflow's client takes a millisecond or two for each, with its parameters and metrics: 15 s for 10,000 runs. Its
    tables are private to MLflow: a test compares what both read.
    """
    tags: dict[str, list[RunTag]] = {}
    with closing(sqlite3.connect(database, timeout=LOCK_TIMEOUT_SECONDS)) as connection, pause_gc():
        for run_id, name, value in connection.execute("SELECT run_uuid, key, value FROM tags"):
            tags.setdefault(run_id, []).append(RunTag(name, value))
        rows = connection.execute(
            "SELECT run_uuid, experiment_id, runs.name, status, start_time, artifact_uri "
            "FROM runs JOIN experiments USING (experiment_id) "
            "WHERE runs.lifecycle_stage = 'active' AND experiments.lifecycle_stage = 'active' "
            "ORDER BY start_time, run_uuid"
        ).fetchall()
    runs = []
    for run_id, experiment_id, name, status, start_time, artifact_uri in rows:
        info = RunInfo(
            run_id=run_id,
            experiment_id=str(experiment_id),
            user_id="",
            status=status,
            start_time=start_time,
            end_time=None,
            lifecycle_stage="active",
            artifact_uri=artifact_uri,
            run_name=name,
        )
        runs.append(Run(info, RunData(tags=tags.get(run_id, []))))
    return runs


@dataclass(frozen=True)
class StoreInspector:
    """Queries about what a store holds, whatever its state."""

    runs: MlflowRuns

    def list_runs(self) -> list[RecordedRun]:
        """All runs that this package logged, in any state, the oldest first."""
        return [self._to_recorded_run(run) for run in self._iterate_runs() if "study" in run.data.tags]

    def _iterate_runs(self) -> Iterator[Run]:
        """All runs with their tags, the oldest first."""
        database = self.runs.settings.database_file
        if database:
            with suppress(sqlite3.Error):  # tables of another MLflow, which its own client may still read
                return iter(read_database_runs(database))
        return self.runs.iterate_runs(self.runs.all_experiments())

    def has_result_file(self, run: RecordedRun) -> bool:
        """Whether a run's result exists where its artifacts should be."""
        return "result.json" in self.runs.list_file_names(run.artifact_uri)

    def find_artifact_damage(self) -> Iterator[DamagedFileError]:
        """Artifacts of all runs of this version's schema that are missing or cannot be used."""
        artifacts = ArtifactReader(self.runs)
        for run in self.runs.search(self.runs.all_experiments()):
            if "study" in run.data.tags and run.data.tags.get("schema") == str(RECORD_SCHEMA):
                yield from artifacts.find_damage(run)

    def schema_versions(self) -> tuple[str, str]:
        """Version of the store and version that this MLflow expects, equal in a sound store.

        They are the schema of a database's tables, or the release of a server.
        """
        tracking_uri = self.runs.settings.tracking_uri
        # These functions are private to MLflow: a test checks that the installed release still has them.
        database_utils: Any = import_module("mlflow.store.db.utils")
        rest_utils: Any = import_module("mlflow.utils.rest_utils")
        if tracking_uri.startswith("http"):
            credentials: Any = import_module("mlflow.utils.credentials")
            host = credentials.get_default_host_creds(tracking_uri.rstrip("/"))
            answer = rest_utils.http_request(host, "/version", "GET")
            if answer.status_code in (401, 403):
                raise TrackingError(describe_refusal(tracking_uri))
            return str(answer.text).strip(), mlflow.__version__
        engine = database_utils.create_sqlalchemy_engine(tracking_uri)
        try:
            current = str(database_utils._get_schema_version(engine))
            expected = str(database_utils._get_latest_schema_revision())
        finally:
            engine.dispose()
        return current, expected

    def find_superseded_models(self) -> list[SupersededModel]:
        """The networks logged as models of this folder's trials that were trained again since, as by other code."""
        models = list(self.runs.iterate_models())
        superseded = self._superseded_run_ids() if models else set()
        found = []
        for model in models:
            address = str(model.artifact_location)
            if model.source_run_id in superseded and self._holds_files_at(address):
                size = self.runs.count_bytes(address)
                found.append(SupersededModel(model_id=str(model.model_id), address=address, num_bytes=size))
        return found

    def delete_model(self, model: SupersededModel) -> None:
        """Delete a model: its files first, so that a cut leaves one that is found again."""
        self.runs.delete_artifacts(model.address)
        self.runs.client.delete_logged_model(model.model_id)

    def _superseded_run_ids(self) -> set[str]:
        """Runs of this folder's trials, of each that has ended again under another key all but those of the newest."""
        own_studies: set[str] = set()
        ended: dict[tuple[str, str, str], list[Run]] = {}  # the oldest first
        for run in self.runs.iterate_runs(self.runs.all_experiments()):
            tags = run.data.tags
            if tags.get("kind") == "study" and self.runs.owner.owns(run):
                own_studies.add(run.info.run_id)
            elif tags.get("kind") == "fit" and tags.get("status") in ENDED_STATUSES["fit"] and has_trial_tags(run):
                identity = tags.get(PARENT_RUN_TAG, ""), tags["fingerprint"], tags.get("recipe", "shared")
                ended.setdefault(identity, []).append(run)
        superseded = set()
        for (parent, _, _), runs in ended.items():
            newest_key = trial_key_of(runs[-1])
            if parent in own_studies:
                superseded |= {str(run.info.run_id) for run in runs if trial_key_of(run) != newest_key}
        return superseded

    def _holds_files_at(self, address: str) -> bool:
        """Whether files are this folder's: a copied database may still name those of the original."""
        settings = self.runs.settings
        return not settings.has_own_database or address.startswith(f"{settings.artifacts_folder.as_uri()}/")

    def is_registered(self, study: str, conditions: str) -> bool:
        """Whether this runs folder has a run of a study under its conditions."""
        return self.runs.find_own_run(study, conditions) is not None

    def run_status(self, study: str, conditions: str) -> str:
        """MLflow's status of this folder's run of a study under its conditions; empty where there is none."""
        run = self.runs.find_own_run(study, conditions)
        return str(run.info.status) if run else ""

    def own_run_id(self, study: str, conditions: str) -> str:
        """This folder's run of a study under its conditions; empty where there is none."""
        run = self.runs.find_own_run(study, conditions)
        return str(run.info.run_id) if run else ""

    def closed_run_id(self, study: str, conditions: str) -> str:
        """This folder's run of a study under its conditions, if none of its starts is open; else empty."""
        run = self.runs.find_own_run(study, conditions)
        return str(run.info.run_id) if run and run.info.status != "RUNNING" else ""

    def has_finished_tuning(self, study: str, conditions: str) -> bool:
        """Whether every search of a study under its conditions has ended."""
        study_run = self.runs.find_own_run(study, conditions)
        if study_run is None:
            return False
        tags = {STUDY_RUN_TAG: study_run.info.run_id, "kind": "search"}
        searches = self.runs.search([study_run.info.experiment_id], tags)
        # The tag is written when a search ends; the run's own status changes with every start of the study.
        return bool(searches) and all("found" in run.data.tags for run in searches)

    def recorded_statuses(self, study_run_id: str) -> set[tuple[TrialKey, str]]:
        """Key and status of every trial of a study that has ended, failed ones included."""
        experiment = self.runs.experiment_of(study_run_id)
        runs = self.runs.search([experiment], {PARENT_RUN_TAG: study_run_id, "kind": "fit"})
        ended = [run for run in runs if run.info.status in ("FINISHED", "FAILED") and has_trial_tags(run)]
        return {(trial_key_of(run), run.data.tags["status"]) for run in ended}

    def _to_recorded_run(self, run: Run) -> RecordedRun:
        tags = run.data.tags
        return RecordedRun(
            run_id=run.info.run_id,
            name=run.info.run_name,
            kind=tags.get("kind", ""),
            study=tags["study"],
            conditions=tags.get("conditions", ""),
            parent_run_id=tags.get(STUDY_RUN_TAG) or tags.get(PARENT_RUN_TAG, ""),
            status=tags.get("status", ""),
            is_open=run.info.status == "RUNNING",
            schema=tags.get("schema", "none"),
            key=trial_key_of(run) if "fingerprint" in tags else None,
            is_own=self.runs.owner.owns(run),
            tag_fault=self._find_tag_fault(run) if tags.get("kind") in ("fit", CANCELLED_KIND) else "",
            artifact_uri=self.runs.artifact_address(run),
        )

    def _find_tag_fault(self, run: Run) -> str:
        try:
            require_trial_tags(run, self.runs.settings.redacted_tracking_uri)
        except DamagedFileError as error:
            return str(error)
        return ""
