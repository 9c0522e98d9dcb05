"""JSON form of a whole study record, without its arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from studies.latency.measurement import measurement_from_json, measurement_to_json
from studies.records.json_numbers import nonfinite_to_null, null_to_nan
from studies.records.registration_log import RegistrationCheck, entry_from_json, entry_to_json
from studies.records.results import RECORD_SCHEMA, result_from_json, result_to_json
from studies.records.schema import require_schema
from studies.records.serialization import (
    registration_from_json,
    registration_to_json,
    start_from_json,
    start_to_json,
)
from studies.records.study_record import RecordedCandidate, RecordedTrial, RecordedTuning, StudyRecord

CANDIDATE_NUMBERS = ("validation_error", "validation_loss", "seconds")  # that may be not-a-number


def record_to_json(record: StudyRecord) -> dict[str, Any]:
    """Return plain JSON data of a record; labels and predictions are stored as arrays beside it."""
    tuning = record.tuning
    # Keys that came later are left out where they are empty: a record without them keeps its bytes.
    damages = {"damages": list(record.damages)} if record.damages else {}
    latency = {"latency": measurement_to_json(record.latency)} if record.latency else {}
    check = record.registration_check
    log = {}
    if check:
        entries = list(map(entry_to_json, check.entries))
        log = {"registration_log": {"study_folder": check.study_folder, "entries": entries}}
    return {
        "schema": RECORD_SCHEMA,
        "registration": registration_to_json(record.registration),
        "trials": [_trial_to_json(trial) for trial in record.trials],
        "starts": [start_to_json(start) for start in record.starts],
        "run_id": record.run_id,
        "experiment_id": record.experiment_id,
        "tracking_uri": record.tracking_uri,
        "tuning": tuning and _tuning_to_json(tuning),
        **damages,
        **latency,
        **log,
    }


def record_from_json(
    data: Mapping[str, Any], labels: npt.NDArray[Any] | None, predictions: Mapping[str, npt.NDArray[Any]]
) -> StudyRecord:
    """Invert :func:`record_to_json`.

    Args:
        labels: true class of every test example.
        predictions: of each trial, by its run.
    """
    require_schema(data, "the record")
    tuning = data["tuning"]
    return StudyRecord(
        registration=registration_from_json(data["registration"]),
        trials=tuple(_trial_from_json(trial, predictions) for trial in data["trials"]),
        starts=tuple(map(start_from_json, data["starts"])),
        labels=labels,
        run_id=data["run_id"],
        experiment_id=data["experiment_id"],
        tracking_uri=data["tracking_uri"],
        tuning=_tuning_from_json(tuning, predictions) if tuning else None,
        damages=tuple(data.get("damages", ())),
        registration_check=_registration_from_json(data.get("registration_log")),
        latency=measurement_from_json(data["latency"]) if data.get("latency") else None,
    )


def _registration_from_json(data: Mapping[str, Any] | None) -> RegistrationCheck | None:
    """A check of the one copy that a record is; what reads the record compares it with others."""
    if data is None:
        return None
    entries = tuple(map(entry_from_json, data["entries"]))
    return RegistrationCheck(
        study_folder=data["study_folder"], entries=entries, places=("the record",), mismatches=(), page_digest=""
    )


def trials_by_run(record: StudyRecord) -> dict[str, RecordedTrial]:
    """All trials of a record, under tuned recipes as well."""
    tuned = record.tuning.trials if record.tuning else ()
    return {trial.run_id: trial for trial in (*record.trials, *tuned)}


def _trial_to_json(trial: RecordedTrial) -> dict[str, Any]:
    # A result has a form of its own, without its arrays: ``asdict`` would copy them.
    data = asdict(replace(trial, result=None))
    data["result"] = trial.result and result_to_json(trial.result)
    return {name: nonfinite_to_null(value) for name, value in data.items()}


def _trial_from_json(data: Mapping[str, Any], predictions: Mapping[str, npt.NDArray[Any]]) -> RecordedTrial:
    result = data["result"] and result_from_json(data["result"])
    if result and data["run_id"] in predictions:
        result = replace(result, predictions=np.asarray(predictions[data["run_id"]]))
    progress = {name: null_to_nan(value) for name, value in data["progress"].items()}
    # JSON has lists where a record has tuples, which would not compare as equal.
    return RecordedTrial(**{**data, "result": result, "faults": tuple(data["faults"]), "progress": progress})


def _tuning_to_json(tuning: RecordedTuning) -> dict[str, Any]:
    data = asdict(replace(tuning, trials=()))
    data["trials"] = [_trial_to_json(trial) for trial in tuning.trials]
    return {name: nonfinite_to_null(value) for name, value in data.items()}


def _tuning_from_json(data: Mapping[str, Any], predictions: Mapping[str, npt.NDArray[Any]]) -> RecordedTuning:
    candidates = []
    for candidate in data["candidates"]:
        numbers = {name: null_to_nan(candidate[name]) for name in CANDIDATE_NUMBERS}
        candidates.append(RecordedCandidate(**{**candidate, **numbers}))
    return RecordedTuning(
        candidates=tuple(candidates),
        best_values=data["best_values"],
        best_candidates=data["best_candidates"],
        importance=data["importance"],
        trials=tuple(_trial_from_json(trial, predictions) for trial in data["trials"]),
    )
