"""What the record stores, as JSON, tables and bytes; and back. Knows of no store."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd

from ablations import CLAIM_KINDS, Difference, Factor, Factorial, Reference
from lightning_modules.values import from_json, to_json
from studies.records import Registration, Start, TrialRecord
from studies.results import Result
from studies.spool import result_from_json, result_to_json
from studies.tuning import TUNING_KINDS


def registration_to_json(registration: Registration) -> dict[str, Any]:
    """Plain JSON data of a registration; claims carry their kinds."""
    kept = {"claims": to_json(registration.claims), "tuning": to_json(registration.tuning)}
    return asdict(registration) | kept


def registration_from_json(data: dict[str, Any]) -> Registration:
    """The inverse of :func:`registration_to_json`."""
    return Registration(
        **data
        | {
            "arms": tuple(data["arms"]),
            "varies": tuple(data["varies"]),
            "seeds": tuple(data["seeds"]),
            "claims": from_json(data["claims"], CLAIM_KINDS),
            "changes": _differences(data["changes"]),
            "built": _differences(data["built"]),
            "factorial": _factorial(data["factorial"]),
            "unknowns": {arm: tuple(sentences) for arm, sentences in data["unknowns"].items()},
            "reference": Reference(**data["reference"]) if data["reference"] else None,
            "looks": tuple(data.get("looks", ())),
            "tuning": from_json(data.get("tuning"), TUNING_KINDS),
            "tested": {arm: tuple(names) for arm, names in data.get("tested", {}).items()},
        }
    )


def _differences(data: dict[str, Any]) -> dict[str, tuple[Difference, ...]]:
    return {arm: tuple(Difference(**change) for change in changes) for arm, changes in data.items()}


def _factorial(data: dict[str, Any] | None) -> Factorial | None:
    if data is None:
        return None
    rows, columns = (
        Factor(name=each["name"], levels=tuple(each["levels"])) for each in (data["rows"], data["columns"])
    )
    return Factorial(rows=rows, columns=columns, cells=tuple(map(tuple, data["cells"])))


def start_from_json(data: dict[str, Any]) -> Start:
    """The inverse of ``dataclasses.asdict``."""
    return Start(**data | {"seeds": tuple(data["seeds"])})


def unpacked(table: pd.DataFrame) -> dict[str, Result]:
    """Results by run, from the table of :func:`results_table`."""
    results = {}
    for run_id, text, predictions in zip(table["run_id"], table["result"], table["predictions"], strict=True):
        results[run_id] = replace(result_from_json(json.loads(text)), predictions=_predictions(predictions))
    return results


def results_table(trials: Iterable[TrialRecord]) -> pd.DataFrame:
    """One row per trial that has ended: its result as JSON, its predictions as a NumPy file."""
    rows = [
        {
            "run_id": trial.run_id,
            "arm": trial.arm,
            "seed": trial.seed,
            "result": json.dumps(result_to_json(trial.result)),
            "predictions": npy(trial.result.predictions) if trial.result.predictions is not None else None,
        }
        for trial in trials
        if trial.result
    ]
    return pd.DataFrame(rows)


def curves_table(trials: Iterable[TrialRecord]) -> pd.DataFrame:
    """All curves, tidy: one row per trial, epoch and metric."""
    rows = [
        {
            "run_id": trial.run_id,
            "arm": trial.arm,
            "seed": trial.seed,
            "recipe": trial.recipe,
            "epoch": epoch,
            "metric": name,
            "value": value,
        }
        for trial in trials
        if trial.result
        for name, values in trial.result.curves.items()
        for epoch, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["run_id", "arm", "seed", "recipe", "epoch", "metric", "value"])


def npy(array: np.ndarray) -> bytes:
    """The bytes of a NumPy file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _predictions(content: bytes | None) -> np.ndarray | None:
    return np.load(io.BytesIO(content), allow_pickle=False) if content is not None else None
