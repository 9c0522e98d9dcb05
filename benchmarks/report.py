"""Claim: a report of 10,000 runs, 20 metrics x 50 epochs each, takes a minute, and its time grows linearly.

Cost: eight minutes on two cores and 3 GB of disk; with ``--quick`` one.
Command: ``python benchmarks/report.py [--quick] [--write]``.

Every store is SQLite with 10 arms, 10,000 test images and real parameters. One run is logged by the project's own
code; the others are copies of its rows in the database, each with a result and predictions of its own. Closing the
study, which packs its results, is measured separately; then a fresh process reads, compares and writes everything.
``each further run``: the slope between two consecutive sizes, which is constant if time grows linearly.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from _side_by_side import asked, keep, peak_mebibytes, where

from lightning_modules.specs.catalogue import find_network
from studies import protocols
from studies.design.trial import Trial
from studies.records.identity import TrialKey
from studies.records.registration import Registration
from studies.records.results import Result, result_to_json
from studies.records.study_record import StudyStart
from studies.settings import Settings

SIZES = (250, 1000, 4000, 10_000)
QUICK, SMALLEST = (250, 1000), (10, 20)
GOAL = "60 s or less for 10,000"
ARMS, EPOCHS, LAYERS, IMAGES = "ABCDEFGHIJ", 50, 13, 10_000
CURVES = (
    "train_loss",
    "validation_loss",
    "train_error",
    "validation_error",
    "learning_rate",
    "gradient_norm",
    "seconds",
)
DIGESTS = {"data": "da1a", "code": "c0de", "platform": "cpu"}
LABELS = (np.arange(IMAGES) % 10).astype(np.uint16)


def result(arm: str, seed: int) -> Result:
    """A made-up result with 20 curves."""
    random = np.random.default_rng([seed, ord(arm)])
    evidence: dict[str, str | int] = {"order": f"o{seed}", "augmentation": f"a{seed}", "split": f"s{seed}"}
    decay = np.exp(-np.arange(EPOCHS) / 9)
    error = float(12 - 0.5 * ARMS.index(arm) + random.normal(0, 0.3))
    wrong = random.random(IMAGES) < error / 100
    names = (*CURVES, *(f"gradient_norm/stage{1 + layer // 3}.conv{1 + layer % 3}" for layer in range(LAYERS)))
    return Result(
        fingerprint=f"{arm}-{seed}",
        digests=DIGESTS,
        status="finished",
        metrics={"test_error": 100 * float(wrong.mean()), "validation_error": error, "train_error": error / 3,
                 "test_loss": error / 30, "validation_loss": error / 29, "train_loss": error / 90},
        curves={name: tuple(error + 60 * decay * random.random(EPOCHS)) for name in names},
        times=tuple(1.8e9 + 2.5 * np.arange(EPOCHS)),
        cost={"train_seconds": 120.0 + seed, "images_per_second": 900.0, "peak_memory_bytes": 4e8},
        environment={"torch": "2.13.0", "python": "3.11.9", "device": "cpu", "threads": 1},
        evidence=evidence | {f"weights.layer{layer}": f"w{seed}-{layer}" for layer in range(LAYERS)},
        predictions=((LABELS + wrong) % 10).astype(np.uint16),
    )  # fmt: skip


def registration(seeds: int) -> Registration:
    """Ten arms, three claims of the depth ablation among them."""
    from studies.design.declare import declare  # it loads torch, which who measures a report does without

    claims = declare("depth").ablation.claims
    known = {name for claim in claims for pair in claim.contrasts for name in pair}
    return Registration(
        study="depth", question="How long does a report take?", protocol="made-up", protocol_note="", overrides={},
        arms=tuple(ARMS), varies=("network.stages",), forced={}, changes={}, held={"scale.resolution": 32},
        properties={arm: {"parameters": 10**6 * (1 + place), "receptive_field": 50 + 10 * place}
                    for place, arm in enumerate(ARMS)},
        built={}, property_studied=None, factorial=None, donors={}, donor_epochs={}, unknowns={},
        claims=claims if known <= set(ARMS) else (), smallest_effect=0.3, reference=None, seeds=tuple(range(seeds)),
        data={"name": "made-up", "classes": 10, "test": IMAGES, "digest": "da1a"},
    )  # fmt: skip


def build(folder: Path, runs: int) -> float:
    """A closed study of so many runs in a store of its own; returns the seconds that closing took."""
    from studies.tracking.store import open_store

    settings = Settings.from_environment(folder)
    settings.create_folders()
    store = open_store(settings)
    tags = {"study": "depth", "protocol": "made-up", "revision": "0"}
    registered = registration(runs // len(ARMS))
    parent = store.writer.register_study(registered, "made-up", tags)
    setup = replace(protocols.load("digits").setup, network=find_network("vgg-e"))
    trial, key = Trial(arm="A", setup=setup, seed=0), TrialKey.from_digests("A-0", DIGESTS)
    first = store.writer.start_trial(parent, trial, key, tags, registered)
    store.writer.log_curves(first, result("A", 0))
    store.writer.end_trial(first, result("A", 0))
    places = [(arm, seed) for seed in range(runs // len(ARMS)) for arm in ARMS][1:]
    with sqlite3.connect(folder / "mlflow.db") as database:
        for arm, seed in places:
            _copy(database, settings.artifacts_folder / "depth", first, arm, seed)
    start = StudyStart(time="2026-03-01T10:12:00+00:00", command="made up", revision="0", clean=True, versions={},
                  hardware="made up", seeds=tuple(range(runs // len(ARMS))), wall_seconds=1.0)  # fmt: skip
    with _timed() as closing:
        store.writer.close_study(parent, start, LABELS, complete=True)
    return closing[0]


def _copy(database: sqlite3.Connection, artifacts: Path, first: str, arm: str, seed: int) -> None:
    """All rows of the first run under an id of their own, and a result of their own."""
    run_id = uuid.uuid4().hex
    own = {"run_uuid": run_id, "name": f"{arm}, seed {seed}"}
    for table in ("runs", "tags", "params", "latest_metrics", "metrics"):
        names = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        values = ", ".join(
            f":{name}" if (table == "runs" and name in own) or name == "run_uuid" else name for name in names
        )
        sql = f"INSERT INTO {table} ({', '.join(names)}) SELECT {values} FROM {table} WHERE run_uuid = :first"
        database.execute(sql, {**own, "first": first})
    change = "UPDATE tags SET value = ? WHERE run_uuid = ? AND key = ?"
    database.executemany(change, [(arm, run_id, "arm"), (str(seed), run_id, "seed"),
                                  (f"{arm}-{seed}", run_id, "fingerprint")])  # fmt: skip
    where = "UPDATE runs SET artifact_uri = replace(artifact_uri, ?, ?) WHERE run_uuid = ?"
    database.execute(where, (first, run_id, run_id))
    folder = artifacts / run_id / "artifacts"
    folder.mkdir(parents=True)
    made = result(arm, seed)
    (folder / "result.json").write_text(json.dumps(result_to_json(made)))
    np.save(folder / "predictions.npy", np.asarray(made.predictions))


def measure(folder: Path) -> dict[str, float]:
    """Read, compare and write, in this process; seconds of each."""
    with _timed() as importing:
        from reports.comparison.comparison import compare_arms
        from reports.pages.study import write_report
        from studies.tracking.store import open_store
    with _timed() as reading:
        record = open_store(Settings.from_environment(folder)).reader.read_study("depth")
    with _timed() as comparing:
        comparison = compare_arms(record)
    with _timed() as writing:
        write_report(comparison, folder / "report")
    peak = peak_mebibytes()
    assert len(record.trials) == sum(trial.result is not None for trial in record.trials)
    return {
        "runs": len(record.trials), "import": importing[0], "read": reading[0], "compare": comparing[0],
        "write": writing[0], "peak_memory_mib": peak,
    }  # fmt: skip


@contextmanager
def _timed() -> Iterator[list[float]]:
    spent: list[float] = []
    began = time.perf_counter()
    yield spent
    spent.append(time.perf_counter() - began)


def main() -> None:
    """Build, close and report a study of every size."""
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(Path(sys.argv[2]))))
        return
    options = asked(__doc__, repeats=1, quick=1)
    sizes = SMALLEST if options.smallest else QUICK if options.quick else SIZES
    rows = [_row(size) for size in sizes]
    slopes = {
        f"{below['runs']:,} to {above['runs']:,}": (above["total"] - below["total"]) / (above["runs"] - below["runs"])
        for below, above in pairwise(rows)
    }
    told = ", ".join(f"{1000 * slope:.2f} ms from {sizes}" for sizes, slope in slopes.items())
    print(f"each further run {told};  goal {GOAL}, and linear")
    keep("report", {"where": where(), "rows": rows, "seconds_per_further_run": slopes}, options)


def _row(size: int) -> dict[str, float]:
    folder = Path(tempfile.mkdtemp(prefix="report-"))
    try:
        with _timed() as building:
            closing = build(folder, size)
        began = time.perf_counter()
        answer = subprocess.run(
            [sys.executable, __file__, "--measure", str(folder)], check=True, stdout=subprocess.PIPE, text=True
        )
        total = time.perf_counter() - began
    finally:
        shutil.rmtree(folder)
    row = json.loads(answer.stdout.splitlines()[-1]) | {"total": total, "close": closing}
    told = "  ".join(f"{name} {row[name]:6.2f} s" for name in ("import", "read", "compare", "write", "total"))
    print(f"{size:>6,} runs: {told}  {row['peak_memory_mib']:,.0f} MiB   "
          f"close {closing:.1f} s (built in {building[0] - closing:.0f} s)", flush=True)  # fmt: skip
    return {name: round(value, 3) for name, value in row.items()}


if __name__ == "__main__":
    main()
