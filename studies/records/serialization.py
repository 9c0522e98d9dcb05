"""JSON and table forms of what a study records, and back.

One pair of functions per kind, ``…_to_json`` and ``…_from_json``, over plain JSON data; no store is imported. The pair
for a :class:`Result` is in ``records.results``, the one for a tuning budget in ``design.tuning``, where each is needed
without the rest.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ablations import (
    CLAIM_CLASSES,
    ComponentContrast,
    ComponentDesign,
    Difference,
    Factor,
    Factorial,
    Reference,
    ReplicatedError,
    Replication,
)
from lightning_modules.specs.errors import DamagedFileError
from lightning_modules.specs.serialization import from_json, to_json
from lightning_modules.stored_files import CHECKSUM_KEY, dump_json, parse_array
from studies.design.budget import RunBudget
from studies.design.study import MAX_NUM_SEEDS
from studies.design.tuning import tuning_from_json, tuning_to_json
from studies.records.registration import Registration
from studies.records.result_files import RESULT_REMEDY, parse_result
from studies.records.results import Result, result_from_json, result_to_json
from studies.records.study_record import RecordedTrial, StudyStart

MAX_SEED_LIST_LENGTH = 1000  # characters; a longer list is written as ranges


def registration_to_json(registration: Registration) -> dict[str, Any]:
    """Return plain JSON data of a registration; claims and the tuning budget carry their kinds."""
    data = asdict(registration)
    data["claims"] = to_json(registration.claims)
    data["tuning"] = tuning_to_json(registration.tuning)
    # A study without these keeps the form and the digest that it had before there were any.
    for name in ("replications", "design", "layers"):
        if not data[name]:
            del data[name]
    return data


def registration_from_json(data: dict[str, Any]) -> Registration:
    """Invert :func:`registration_to_json`."""
    # Records of earlier versions have no ``looks``, ``tuning`` and ``tested``.
    fields = data | {
        "arms": tuple(data["arms"]),
        "varies": tuple(data["varies"]),
        "seeds": tuple(data["seeds"]),
        "claims": from_json(data["claims"], CLAIM_CLASSES),
        "changes": _differences_from_json(data["changes"]),
        "built": _differences_from_json(data["built"]),
        "factorial": _factorial_from_json(data["factorial"]),
        "design": _design_from_json(data.get("design")),
        "unknowns": _tuples_by_arm(data["unknowns"]),
        "reference": Reference(**data["reference"]) if data["reference"] else None,
        "replications": tuple(map(_replication_from_json, data.get("replications", ()))),
        "layers": {arm: tuple(map(tuple, layers)) for arm, layers in data.get("layers", {}).items()},
        "looks": tuple(data.get("looks", ())),
        "tuning": tuning_from_json(data.get("tuning")),
        "tested": _tuples_by_arm(data.get("tested", {})),
    }
    return Registration(**fields)


def _tuples_by_arm(data: dict[str, list[str]]) -> dict[str, tuple[str, ...]]:
    return {arm: tuple(items) for arm, items in data.items()}


def _differences_from_json(data: dict[str, Any]) -> dict[str, tuple[Difference, ...]]:
    differences: dict[str, tuple[Difference, ...]] = {}
    for arm, changes in data.items():
        differences[arm] = tuple(Difference(**change) for change in changes)
    return differences


def _factorial_from_json(data: dict[str, Any] | None) -> Factorial | None:
    if data is None:
        return None
    return Factorial(
        rows=_factor_from_json(data["rows"]),
        columns=_factor_from_json(data["columns"]),
        cells=tuple(map(tuple, data["cells"])),
    )


def _factor_from_json(data: dict[str, Any]) -> Factor:
    return Factor(name=data["name"], levels=tuple(data["levels"]))


def _design_from_json(data: dict[str, Any] | None) -> ComponentDesign | None:
    if data is None:
        return None
    contrasts = tuple(ComponentContrast(**contrast) for contrast in data["contrasts"])
    return ComponentDesign(**data | {"contrasts": contrasts})


def _replication_from_json(data: dict[str, Any]) -> Replication:
    values = {arm: ReplicatedError(**value) for arm, value in data["values"].items()}
    return Replication(**data | {"values": values})


def start_to_json(start: StudyStart) -> dict[str, Any]:
    """Return plain JSON data of a start of a study."""
    data = asdict(start)
    # Keys of budgets are left out where there is none, as in records of earlier versions.
    return {name: value for name, value in data.items() if value or name not in ("budget", "gpu_hours", "stop_reason")}


def start_from_json(data: dict[str, Any]) -> StudyStart:
    """Invert :func:`start_to_json`."""
    claims = data.get("claims")  # earlier records have none
    budget = data.get("budget")
    fields = {
        "seeds": tuple(data["seeds"]),
        "claims": None if claims is None else tuple(claims),
        "budget": RunBudget(**budget) if budget else None,
    }
    return StudyStart(**data | fields)


def seeds_to_text(seeds: Iterable[int], max_length: int) -> str:
    """Write seeds as a JSON list, or as ranges (``0-1699, 2000``) where the list would be long.

    Args:
        max_length: characters, beyond which the last ranges are left out.
    """
    ordered = sorted({*seeds})
    text = json.dumps(ordered)
    if len(text) <= MAX_SEED_LIST_LENGTH:
        return text
    ranges: list[list[int]] = []
    for seed in ordered:
        if ranges and seed == ranges[-1][1] + 1:
            ranges[-1][1] = seed
        else:
            ranges.append([seed, seed])
    text = ", ".join(f"{first}-{last}" if last > first else str(first) for first, last in ranges)
    return text if len(text) <= max_length else text[:max_length].rpartition(",")[0]


def seeds_from_text(text: str) -> tuple[int, ...]:
    """Invert :func:`seeds_to_text`; what is no seed is left out, as where somebody edited the text."""
    parts = text.strip(" []").split(",")
    if text.startswith("[") and not text.endswith("]"):  # earlier versions had long lists cut, within a number
        parts.pop()
    seeds: set[int] = set()
    for part in parts:
        match = re.fullmatch(r"(\d{1,10})(?:-(\d{1,10}))?", part.strip())
        if match:
            first, last = int(match[1]), int(match[2] or match[1])
            seeds.update(range(first, min(last, first + MAX_NUM_SEEDS) + 1))
    return tuple(sorted(seeds))


def results_table(trials: Iterable[RecordedTrial]) -> pd.DataFrame:
    """Make a table of one row per ended trial: its result as JSON, its predictions as a NumPy file."""
    rows = []
    for trial in trials:
        if trial.result is None:
            continue
        predictions = trial.result.predictions
        rows.append(
            {
                "run_id": trial.run_id,
                "arm": trial.arm,
                "seed": trial.seed,
                "result": dump_json(result_to_json(trial.result)).decode(),
                "predictions": None if predictions is None else to_npy_bytes(predictions),
            }
        )
    return pd.DataFrame(rows)


def results_from_table(
    table: pd.DataFrame, source: object, on_damage: Callable[[DamagedFileError], None], *, is_verified: bool
) -> dict[str, Result]:
    """Read results by run from the table of :func:`results_table`.

    Args:
        source: path of the table, for the errors of rows that cannot be used; these are left out.
        is_verified: whether the checksum of the table was compared; otherwise every row is checked, which takes longer.
    """
    results = {}
    columns = (table["run_id"], table["result"], table["predictions"])
    for run_id, result_text, predictions in zip(*columns, strict=True):
        row = f"{source}, row of run {run_id},"
        try:
            if is_verified:
                data = json.loads(result_text)
                data.pop(CHECKSUM_KEY, None)
                result = result_from_json(data)
            else:
                result = parse_result(result_text.encode(), row)
            results[run_id] = replace(result, predictions=_load_predictions(predictions, result, row))
        except DamagedFileError as error:
            on_damage(error)
    return results


def curves_table(trials: Iterable[RecordedTrial]) -> pd.DataFrame:
    """Make a tidy table of all curves: one row per trial, metric and epoch."""
    rows: list[dict[str, Any]] = []
    for trial in trials:
        if trial.result is None:
            continue
        trial_columns = {"run_id": trial.run_id, "arm": trial.arm, "seed": trial.seed, "recipe": trial.recipe}
        for name, values in trial.result.curves.items():
            for epoch, value in enumerate(values):
                rows.append({**trial_columns, "epoch": epoch, "metric": name, "value": value})
    # Named, so that a study without curves has the columns too.
    return pd.DataFrame(rows, columns=["run_id", "arm", "seed", "recipe", "epoch", "metric", "value"])


def to_npy_bytes(array: npt.NDArray[Any]) -> bytes:
    """Serialize an array as a NumPy file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _load_predictions(content: bytes | None, result: Result, source: object) -> npt.NDArray[Any] | None:
    if content is None:
        return None
    return parse_array(content, np.uint16, source, RESULT_REMEDY, result.checksums.get("predictions.npy", ""))
