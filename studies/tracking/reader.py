"""Read studies and trials back from the tracking store."""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from lightning_modules.specs.errors import did_you_mean
from studies.records.identity import EndedTrial
from studies.records.registration import Registration
from studies.records.results import LEGACY_STATUS, UNTRAINED_STATUSES, Result, result_from_json
from studies.records.serialization import registration_from_json, results_from_table, start_from_json
from studies.records.study_record import RecordedTrial, StudyRecord, StudyStart
from studies.tracking.errors import NotRecordedError, TrackingError, report_unreachable_store
from studies.tracking.runs import PARENT_RUN_TAG, MlflowRuns, require_run_schema, trial_key_of
from studies.tracking.searches import SearchRuns

RunKind = Literal["fit", "candidate"]

# A search ranks a failed candidate last and continues: to train it again would change what the search has chosen.
ENDED_STATUSES: dict[RunKind, tuple[str, ...]] = {
    "fit": ("finished", *UNTRAINED_STATUSES, LEGACY_STATUS),
    "candidate": ("finished", *UNTRAINED_STATUSES, LEGACY_STATUS, "failed"),
}


@dataclass(frozen=True, kw_only=True)
class RecordedStudy:
    """A study in a list of all studies of a store.

    Attributes:
        conditions: digest of what decides its trials, except seeds, code and platform.
    """

    study: str
    protocol: str
    conditions: str
    run_id: str


@dataclass(frozen=True)
class StudyReader:
    """Reads what :class:`studies.tracking.writer.StudyWriter` logged."""

    runs: MlflowRuns

    def read_study(self, study: str, protocol: str | None = None, run_id: str | None = None) -> StudyRecord:
        """Read a study: the one of that name that was started last.

        Args:
            protocol: considers only studies under this protocol.
            run_id: selects the study by its run instead.

        Raises:
            TrackingError: if there is no such study, with a list of those that exist; or if another version of this
                package recorded it.
        """
        settings = self.runs.settings
        with report_unreachable_store(settings.tracking_uri):
            study_run = self._find_study_by_id(study, run_id) if run_id else self._find_latest_study(study, protocol)
            require_run_schema(study_run)
            run_id = str(study_run.info.run_id)
            files = self.runs.list_files(run_id)
            registration = registration_from_json(self.runs.read_json(run_id, "registration.json"))
            # Seeds may be added after the registration was stored; the tag holds all of them.
            registration_with_seeds = replace(registration, seeds=tuple(json.loads(study_run.data.tags["seeds"])))
            trials = self.read_trials(study_run, is_packed="results.parquet" in files)
            tuning = None
            if registration.tuning:
                tuning = SearchRuns(self.runs).read_tuning(study_run, registration, trials)
            return StudyRecord(
                registration=registration_with_seeds,
                trials=tuple(trial for trial in trials if trial.recipe == "shared"),
                starts=self._read_starts(run_id) if "starts" in files else (),
                labels=self._read_labels(run_id) if "test_labels.npy" in files else None,
                run_id=run_id,
                experiment_id=study_run.info.experiment_id,
                tracking_uri=settings.redacted_tracking_uri,
                tuning=tuning,
            )

    def read_conditions(self, run_id: str) -> str:
        """Digest of the conditions of the study that a run records."""
        return str(self.runs.client.get_run(run_id).data.tags["conditions"])

    def read_registration(self, study_run_id: str) -> Registration | None:
        """The registration of a study as first logged; ``None`` where its file is gone or damaged."""
        try:
            return registration_from_json(self.runs.read_json(study_run_id, "registration.json"))
        except (MlflowException, OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def list_studies(self) -> list[RecordedStudy]:
        """All studies in the store, the latest first."""
        runs = self.runs.search(self.runs.all_experiments(), {"kind": "study"}, order="attributes.start_time DESC")
        studies: list[RecordedStudy] = []
        for run in runs:
            tags = run.data.tags
            studies.append(
                RecordedStudy(
                    study=tags["study"],
                    protocol=tags["protocol"],
                    conditions=tags["conditions"],
                    run_id=run.info.run_id,
                )
            )
        return studies

    def ended_trials(self, fingerprints: Collection[str], kind: RunKind = "fit") -> list[EndedTrial]:
        """Trials of some fingerprints, in all studies of the store, whose result can be reused; the oldest first.

        These have ended without failing; candidates may have failed as well.
        """
        return _select_ended(self.runs.iterate_trial_runs(kind, fingerprints), kind)

    def ended_trials_below(self, parent_run_id: str, kind: RunKind = "fit") -> list[EndedTrial]:
        """As :meth:`ended_trials`, of all trials below the run of one study or search."""
        experiment = self.runs.experiment_of(parent_run_id)
        return _select_ended(self.runs.iterate_runs([experiment], {PARENT_RUN_TAG: parent_run_id, "kind": kind}), kind)

    def read_result(self, run_id: str) -> Result:
        """Read the result of the trial that a run records.

        Raises:
            TrackingError: if the run's result was moved or deleted.
        """
        return self._download_result(self.runs.client.get_run(run_id))

    def read_trials(self, study_run: Run, *, is_packed: bool) -> tuple[RecordedTrial, ...]:
        """Read the newest attempt of each trial of a study.

        Args:
            is_packed: whether ``results.parquet`` exists, which saves a download per trial.
        """
        run_id = study_run.info.run_id
        packed_results = self._read_packed_results(run_id) if is_packed else {}
        runs = self.runs.search(
            [study_run.info.experiment_id],
            {PARENT_RUN_TAG: run_id, "kind": "fit"},
            order="attributes.start_time DESC",
        )
        latest: dict[tuple[str, int, str], RecordedTrial] = {}
        for run in runs:
            require_run_schema(run)
            trial = self._to_recorded_trial(run, packed_results.get(run.info.run_id))
            # Runs come newest first, so that the first of a trial is its newest attempt.
            latest.setdefault((trial.recipe, trial.seed, trial.arm), trial)
        return tuple(latest[identity] for identity in sorted(latest))

    def _to_recorded_trial(self, run: Run, packed_result: Result | None) -> RecordedTrial:
        tags = run.data.tags
        has_ended = tags["status"] != "running"
        result = None
        if has_ended:
            result = packed_result or self._download_result(run)
        return RecordedTrial(
            arm=tags["arm"],
            seed=int(tags["seed"]),
            run_id=run.info.run_id,
            # Not the tag: earlier versions had one word there for two outcomes, which the result tells apart.
            state=result.status if result else "running",
            result=result,
            reused_from=tags.get("reused_from", ""),
            num_attempts=int(tags.get("attempts", 1)),
            faults=tuple(json.loads(tags.get("faults", "[]"))),
            progress={} if has_ended else dict(run.data.metrics),
            recipe="tuned" if tags.get("recipe") == "tuned" else "shared",
            # A reused trial bears the tags of the study that reuses it, not of the start that trained it.
            revision="" if "reused_from" in tags else tags.get("revision", ""),
            working_tree="" if "reused_from" in tags else tags.get("working_tree", ""),
        )

    def _download_result(self, run: Run) -> Result:
        artifact_uri = self.runs.artifact_address(run)
        files = self.runs.list_file_names(artifact_uri)
        if "result.json" not in files:
            raise TrackingError(
                f"run {run.info.run_id} ({run.info.run_name}) has ended, but {artifact_uri} holds no result.json: its "
                "files were moved or deleted. Put them back, or delete the run; `ablate run` then trains it again."
            )
        result = result_from_json(json.loads(self.runs.read_file_at(artifact_uri, "result.json")))
        if "predictions.npy" not in files:
            return result
        predictions = self.runs.read_file_at(artifact_uri, "predictions.npy")
        return replace(result, predictions=np.load(io.BytesIO(predictions), allow_pickle=False))

    def _read_packed_results(self, study_run_id: str) -> dict[str, Result]:
        table = pd.read_parquet(io.BytesIO(self.runs.read_file(study_run_id, "results.parquet")))
        return results_from_table(table)

    def _read_starts(self, study_run_id: str) -> tuple[StudyStart, ...]:
        files = sorted(self.runs.list_files(study_run_id, "starts"))  # their names are their times
        return tuple(start_from_json(self.runs.read_json(study_run_id, file)) for file in files)

    def _read_labels(self, study_run_id: str) -> npt.NDArray[np.uint16]:
        content = self.runs.read_file(study_run_id, "test_labels.npy")
        return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))

    # -- finding a study -----------------------------------------------------------------------------------------

    def _find_latest_study(self, study: str, protocol: str | None) -> Run:
        experiment = self.runs.find_experiment(study)
        tags = {"kind": "study"}
        if protocol:
            tags["protocol"] = protocol
        runs = self.runs.search([experiment], tags) if experiment else []
        if not runs:
            raise NotRecordedError(self._describe_missing_study(study, protocol))
        return max(runs, key=_start_time)

    def _describe_missing_study(self, study: str, protocol: str | None) -> str:
        studies = self.list_studies()
        names = {item.study for item in studies}
        listed = sorted({f"{item.study} under {item.protocol}" for item in studies})
        under_protocol = f" under the protocol {protocol!r}" if protocol else ""
        suggestion = "" if study in names else did_you_mean(study, names)
        options = (f" --protocol {protocol}" if protocol else "") + self.runs.settings.command_options
        return (
            f"{self.runs.settings.redacted_tracking_uri} holds no study {study!r}{under_protocol}.{suggestion} "
            f"It holds: {', '.join(listed) or 'nothing yet'}. Run it with `ablate run {study}{options}`."
        )

    def _find_study_by_id(self, study: str, run_id: str) -> Run:
        with suppress(MlflowException):  # there is no run of this id: the error below lists those that there are
            run = self.runs.client.get_run(run_id)
            is_study = run.data.tags.get("kind") == "study" and run.data.tags.get("study") == study
            if is_study and run.info.lifecycle_stage == "active":
                return run
        studies = self.list_studies()
        same_name = [item for item in studies if item.study == study]
        raise NotRecordedError(
            f"{run_id!r} {_describe_other_study(studies, study, run_id)}. "
            f"Its runs in {self.runs.settings.redacted_tracking_uri}: "
            f"{', '.join(f'{item.run_id} under {item.protocol}' for item in same_name) or 'none'}."
        )


def _select_ended(runs: Iterable[Run], kind: RunKind) -> list[EndedTrial]:
    ended: list[EndedTrial] = []
    for run in runs:
        tags = run.data.tags
        if tags.get("status") in ENDED_STATUSES[kind]:
            ended.append(
                EndedTrial(
                    key=trial_key_of(run),
                    status=tags["status"],
                    run_id=run.info.run_id,
                    parent_run_id=tags[PARENT_RUN_TAG],
                )
            )
    return ended


def _describe_other_study(studies: Sequence[RecordedStudy], study: str, run_id: str) -> str:
    for item in studies:
        if item.run_id == run_id:
            return f"is of the study {item.study!r}, not of {study!r}"
    return f"is no run of the study {study!r}"


def _start_time(run: Run) -> float:
    """Seconds since 1970 of the last start of a study."""
    return float(run.data.tags.get("started", run.info.start_time / 1000))
