"""Golden reports: four made-up studies as JSON, and the report that each must give, byte for byte.

Claim: a study that has passed through a real store compiles to the committed files. Cost: three seconds.
Command: ``python -m tests.reports.golden`` writes ``tests/reports/golden/`` anew; read the difference before you commit
it. No figure in there was ever measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from reports.comparison.comparison import compare_arms
from reports.figures.study import report_figures
from reports.pages.study import render_documents
from studies.design.trial import Trial
from studies.protocols import load
from studies.records.identity import TrialKey
from studies.records.registration import Registration
from studies.records.results import Result, result_from_json, result_to_json
from studies.records.serialization import registration_from_json, registration_to_json
from studies.records.study_record import RecordedTrial, StudyRecord, StudyStart
from studies.tracking.store import Store
from tests.reports.records import CROSSED, DONOR, crossed, record, started

FOLDER = Path(__file__).parent / "golden"
COMMITTED = ("report.md", "report.tex", "arms.csv", "trials.csv", "effects.csv")
EVERY = 4
TROUBLES = {("B", 1): "non-finite", ("D", 2): "failed", ("E", 0): "running", ("A", 2): "absent"}


def made_up() -> dict[str, StudyRecord]:
    """A healthy study of four arms under five seeds, one in which much went wrong, a factorial, and a warm start."""
    note = "Another protocol, in which much went wrong."
    troubled = record(seeds=4, states=TROUBLES, protocol="cifar10-cpu", protocol_note=note, overrides={})
    command = "ablate run depth --protocol cifar10-cpu --seeds 4"
    start = replace(troubled.starts[0], command=command, clean=False, wall_seconds=903.0)
    return {
        "healthy": _small(record()),
        "troubled": _small(replace(troubled, run_id="9e0f11", starts=(start,))),
        "crossed": _small(crossed(states={(CROSSED[1], 3): "non-finite"})),
        "started": _small(started(states={(DONOR, 2): "failed", ("warm", 2): "failed"})),
    }


def to_json(study: StudyRecord) -> dict[str, Any]:
    """A whole record as plain data; predictions and labels as strings of digits."""
    return {
        "registration": registration_to_json(study.registration),
        "starts": [asdict(start) for start in study.starts],
        "labels": _digits(study.labels),
        "run_id": study.run_id,
        "experiment_id": study.experiment_id,
        "tracking_uri": study.tracking_uri,
        "trials": [
            {
                **{name: getattr(trial, name) for name in ("arm", "seed", "run_id", "state", "reused_from")},
                "result": result_to_json(trial.result) if trial.result else None,
                "predictions": _digits(trial.result.predictions) if trial.result else None,
            }
            for trial in study.trials
        ],
    }


def from_json(data: Mapping[str, Any]) -> StudyRecord:
    """The inverse of :func:`to_json`."""
    return StudyRecord(
        registration=registration_from_json(data["registration"]),
        starts=tuple(StudyStart(**start | {"seeds": tuple(start["seeds"])}) for start in data["starts"]),
        labels=_array(data["labels"]),
        trials=tuple(_trial(trial) for trial in data["trials"]),
        **{name: data[name] for name in ("run_id", "experiment_id", "tracking_uri")},
    )


def read(name: str) -> StudyRecord:
    """The committed record of that name."""
    return from_json(json.loads((FOLDER / name / "record.json").read_text(encoding="utf-8")))


def put(study: StudyRecord, store: Store) -> str:
    """Record a study in a store as a driver would, trial by trial; returns the id that its parent run got."""
    registration = study.registration
    tags = {"study": registration.study, "protocol": registration.protocol, "revision": study.starts[0].revision}
    parent = store.writer.register_study(registration, conditions=f"golden {registration.protocol}", tags=tags)
    for trial in study.trials:
        if trial.result:
            run_id = _begin(trial, trial.result.fingerprint, trial.result.digests, parent, store, tags, registration)
            store.writer.log_curves(run_id, trial.result)
            store.writer.end_trial(run_id, trial.result)
    for start in study.starts:
        store.writer.close_study(parent, start, study.labels, complete=True)
    for trial in study.trials:  # what runs belongs to a later start: closing one removes what it left unended
        if not trial.result:
            no_digests = {"data": "", "code": "", "platform": ""}
            _begin(trial, "running", no_digests, parent, store, tags, registration)
    return parent


def _begin(
    trial: RecordedTrial,
    fingerprint: str,
    digests: Mapping[str, str],
    parent: str,
    store: Store,
    tags: Mapping[str, str],
    registration: Registration,
) -> str:
    setup = load("digits").setup
    fit = Trial(arm=trial.arm, setup=replace(setup, scale=replace(setup.scale, width=_width(trial))), seed=trial.seed)
    return store.writer.start_trial(parent, fit, TrialKey.from_digests(fingerprint, digests), tags, registration)


def renamed(study: StudyRecord, like: StudyRecord) -> StudyRecord:
    """A record under the ids of another one: MLflow draws them at random, and a store lies where it was put."""
    ids = {(trial.arm, trial.seed): trial.run_id for trial in like.trials}
    trials = []
    for trial in study.trials:
        result = trial.result and replace(trial.result, checksums={})  # which only what was stored has
        trials.append(replace(trial, run_id=ids[trial.arm, trial.seed], result=result))
    return replace(
        study,
        trials=tuple(trials),
        run_id=like.run_id,
        experiment_id=like.experiment_id,
        tracking_uri=like.tracking_uri,
    )


def documents_of(study: StudyRecord) -> dict[str, str]:
    """The committed files of a study's report."""
    comparison = compare_arms(study)
    made = render_documents(comparison, report_figures(comparison))
    return {file: made[file] for file in COMMITTED if file in made}


def main() -> None:
    """Write the studies and their reports."""
    for name, study in made_up().items():
        (FOLDER / name).mkdir(parents=True, exist_ok=True)
        text = json.dumps(to_json(study), indent=1, ensure_ascii=False)
        (FOLDER / name / "record.json").write_text(_flat(text) + "\n", encoding="utf-8")
        for file, document in documents_of(read(name)).items():
            (FOLDER / name / file).write_text(document, encoding="utf-8")
        print(f"wrote {FOLDER / name}")


def _small(study: StudyRecord) -> StudyRecord:
    """Every fourth epoch, five digits, and test errors that are those of the predictions."""
    registration = study.registration
    held = {**registration.held, "recipe.epochs": len(range(1, int(str(registration.held["recipe.epochs"])), EVERY))}
    overrides = {path: held[path] for path in registration.overrides}
    trials = sorted(study.trials, key=lambda trial: (trial.seed, trial.arm))
    return replace(
        study,
        registration=replace(registration, held=held, overrides=overrides),
        trials=tuple(
            replace(trial, result=_short(trial.result, study.labels) if trial.result else None) for trial in trials
        ),
    )


def _short(result: Result, labels: Any) -> Result:
    metrics = dict(result.metrics)
    if result.predictions is not None:
        metrics["test_error"] = 100 * float(np.mean(result.predictions != labels))
    return replace(
        result,
        metrics={name: _five(value) for name, value in metrics.items()},
        curves={name: tuple(map(_five, values[1::EVERY])) for name, values in result.curves.items()},
        times=tuple(round(time, 1) for time in result.times[1::EVERY]),
        cost={name: _five(value) for name, value in result.cost.items()},
    )


def _trial(data: Mapping[str, Any]) -> RecordedTrial:
    result = data["result"] and replace(result_from_json(data["result"]), predictions=_array(data["predictions"]))
    names = ("arm", "seed", "run_id", "state", "reused_from")
    return RecordedTrial(**{name: data[name] for name in names}, result=result)


def _width(trial: RecordedTrial) -> float:
    """A setup of its own for every arm: fingerprints tell them apart."""
    return 0.01 * (1 + crc32(trial.arm.encode()) % 1000)


def _five(value: float) -> float:
    return float(f"{value:.5g}")


def _digits(classes: Any) -> str | None:
    return None if classes is None else "".join(map(str, classes))


def _array(digits: str | None) -> Any:
    return None if digits is None else np.array(list(map(int, digits)), np.uint16)


def _flat(text: str) -> str:
    """JSON with every list of numbers on one line."""
    lines: list[str] = []
    for line in text.splitlines():
        if lines and (lines[-1].endswith("[") or lines[-1].endswith(",")) and line.strip(" ,-.0123456789e+") == "":
            lines[-1] += line.strip() if lines[-1].endswith("[") else f" {line.strip()}"
        elif lines and line.strip().startswith("]") and lines[-1][-1:].isdigit():
            lines[-1] += line.strip()
        else:
            lines.append(line)
    return "\n".join(lines)


if __name__ == "__main__":
    main()
