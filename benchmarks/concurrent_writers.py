"""Claim: eight processes record studies in one SQLite file for a minute, without an error, and no row is lost.

Cost: a minute and a half on two cores, 2 GB of memory. Command: ``python benchmarks/concurrent_writers.py
[--write]``; with ``--write`` the numbers go to ``benchmarks/results/concurrent_writers.json``.

The processes start at the same moment, before the file exists, each with a study of its own. Each records trial after
trial as `ablate run` does: ten epochs of twelve metrics, one call each, then the result and its predictions. All that
a process reports as written is then looked up in the database, row by row, and on disk. ``--journal wal`` does the
same with a write-ahead log in place of SQLite's default journal.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from studies import protocols
from studies.design.trial import Trial
from studies.records.identity import TrialKey
from studies.records.registration import Registration
from studies.records.results import Result
from studies.records.study_record import StudyStart
from studies.settings import Settings

RESULTS = Path(__file__).parent / "results" / "concurrent_writers.json"
EPOCHS, IMAGES = 10, 1000
CURVES = tuple(f"curve_{number}" for number in range(12))
FINALS = ("test_error", "validation_error", "train_error", "test_loss")
DIGESTS = {"data": "da1a", "code": "c0de", "platform": "cpu"}
FAULTS = ("failed", "lost_trials", "lost_rows", "wrong_values", "lost_files", "stray_runs")


# -- one writer ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Writer:
    """A process that records trials of a study of its own until its time is over.

    Attributes:
        spent: seconds of every call, by its name.
        written: for every run that it finished, its last epoch's first value.
    """

    number: int
    settings: Settings
    spent: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    written: dict[str, float] = field(default_factory=dict)

    def work(self, begins: float, seconds: float, journal: str) -> dict[str, Any]:
        """Record until the time is over; says what was written, and how long each call took."""
        from studies.tracking.store import open_store

        time.sleep(max(0.0, begins - time.time()))
        with self._timed("open"):
            store = open_store(self.settings)
        with closing(sqlite3.connect(self.settings.database_file or "", timeout=20)) as database:
            database.execute(f"PRAGMA journal_mode = {journal}")
        tags = {"study": f"writer {self.number}", "protocol": "made-up", "revision": "0"}
        with self._timed("register"):
            parent = store.writer.register_study(_registration(tags["study"]), "made-up", tags)
        began, seed = time.time(), 0
        while time.time() - began < seconds:
            self._record(store, parent, seed, tags)
            seed += 1
        with self._timed("close"):
            store.writer.close_study(parent, _start(seed), np.zeros(IMAGES, np.uint16), complete=True)
        return {"written": self.written, "spent": self.spent, "parent": parent}

    def _record(self, store: Any, parent: str, seed: int, tags: dict[str, str]) -> None:
        made = _result(self.number, seed)
        fit = Trial(arm="A", setup=protocols.load("digits").setup, seed=seed)
        with self._timed("begin a trial"):
            key = TrialKey.from_digests(made.fingerprint, DIGESTS)
            run_id = store.writer.start_trial(parent, fit, key, tags, _registration(tags["study"]))
        for epoch in range(EPOCHS):
            values = {name: curve[epoch] for name, curve in made.curves.items()}
            with self._timed("log an epoch"):
                store.writer.log_epochs(run_id, [{"epoch": epoch, "time": made.times[epoch], **values}])
        with self._timed("end a trial"):
            store.writer.end_trial(run_id, made)
        self.written[run_id] = made.curves[CURVES[0]][-1]

    @contextmanager
    def _timed(self, call: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.spent[call].append(time.perf_counter() - began)


def _result(writer: int, seed: int) -> Result:
    random = np.random.default_rng([writer, seed])
    return Result(
        fingerprint=f"{writer}-{seed}",
        digests=DIGESTS,
        status="finished",
        metrics={name: float(random.random()) for name in FINALS},
        curves={name: tuple(map(float, random.random(EPOCHS))) for name in CURVES},
        times=tuple(1.8e9 + np.arange(EPOCHS, dtype=float)),
        cost={"train_seconds": 1.0},
        environment={"device": "cpu", "threads": 1},
        evidence={"steps": 100},
        predictions=random.integers(0, 10, IMAGES).astype(np.uint16),
    )


def _registration(study: str) -> Registration:
    return Registration(
        study=study, question="Do they get in each other's way?", protocol="made-up", protocol_note="", overrides={},
        arms=("A",), varies=("network.stages",), forced={}, changes={}, held={"scale.resolution": 32}, properties={},
        claims=(), smallest_effect=0.3, reference=None, seeds=(0,), data={"name": "made-up", "classes": 10},
        built={}, property_studied=None, factorial=None, donors={}, donor_epochs={}, unknowns={},
    )  # fmt: skip


def _start(seeds: int) -> StudyStart:
    return StudyStart(time="2026-03-01T10:12:00+00:00", command="made up", revision="0", clean=True, versions={},
                 hardware="made up", seeds=tuple(range(seeds)), wall_seconds=1.0)  # fmt: skip


# -- all of them, and what is left ---------------------------------------------------------------------------------


def measure(folder: Path, writers: int, seconds: float, journal: str) -> dict[str, Any]:
    """Let them write, and look for all that they say they wrote."""
    begins = time.time() + 2.0 + writers
    line = [sys.executable, __file__, "--folder", str(folder), "--begins", str(begins), "--seconds", str(seconds)]
    processes = [
        subprocess.Popen([*line, "--journal", journal, "--writer", str(number)], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
        for number in range(writers)
    ]  # fmt: skip
    outputs = [process.communicate() for process in processes]
    failed = [
        f"{error.strip()}\nexit code {process.returncode}"
        for process, (_, error) in zip(processes, outputs, strict=True)
        if process.returncode
    ]
    told = [json.loads(text.splitlines()[-1]) for text, _ in outputs if text.strip()]
    return {
        "writers": writers,
        "seconds": seconds,
        "journal": journal,
        "failed": len(failed),
        **({"first_error": failed[0].strip().splitlines()[-2:]} if failed else {}),
        **judged(folder, told),
        "milliseconds": _percentiles([each["spent"] for each in told]),
    }


def judged(folder: Path, told: Sequence[dict[str, Any]]) -> dict[str, int | str]:
    """Count what was written, what of it is not there, and what is there that nobody wrote."""
    written = {run_id: value for each in told for run_id, value in each["written"].items()}
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        rows = dict(database.execute("SELECT run_uuid, COUNT(*) FROM metrics GROUP BY run_uuid"))
        sql = "SELECT run_uuid, value FROM metrics WHERE key = ? AND step = ?"
        last = dict(database.execute(sql, (CURVES[0], EPOCHS - 1)))
        ended = {
            row[0] for row in database.execute("SELECT run_uuid FROM tags WHERE key='status' AND value='finished'")
        }
        runs = dict(database.execute("SELECT run_uuid, artifact_uri FROM runs"))
        soundness = database.execute("PRAGMA integrity_check").fetchone()[0]
    expected = EPOCHS * len(CURVES) + len(FINALS) + 1  # one figure of cost
    files = [Path(unquote(urlsplit(runs[run_id]).path)) for run_id in written if run_id in runs]
    return {
        "trials": len(written),
        "rows": sum(rows.values()),
        "lost_trials": len(written.keys() - ended),
        "lost_rows": sum(expected - rows.get(run_id, 0) for run_id in written),
        "wrong_values": sum(last.get(run_id) != value for run_id, value in written.items()),
        "lost_files": sum(not (file / name).exists() for file in files for name in ("result.json", "predictions.npy")),
        "stray_runs": len(runs.keys() - written.keys() - {each["parent"] for each in told}),
        "soundness": soundness,
    }


def _percentiles(spent: Sequence[dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    """Median, 99th percentile and maximum of every call, over all writers."""
    together: dict[str, list[float]] = defaultdict(list)
    for each in spent:
        for call, times in each.items():
            together[call] += times
    return {
        call: {
            "calls": len(times),
            "median": round(1000 * statistics.median(times), 1),
            "p99": round(1000 * float(np.quantile(times, 0.99)), 1),
            "max": round(1000 * max(times), 1),
        }
        for call, times in together.items()
    }


def main() -> None:
    """Measure, print, and end with code 1 where anything failed or was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--quick", action="store_true", help="for 15 seconds")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--journal", choices=("delete", "wal"), default="delete")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS}")
    for name, kind in (("folder", Path), ("begins", float), ("writer", int)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.writer is not None:
        settings = Settings.from_environment(options.folder, None, f"sqlite:///{options.folder}/mlflow.db")
        settings.create_folders()
        print(json.dumps(Writer(options.writer, settings).work(options.begins, options.seconds, options.journal)))
        return
    seconds = 15.0 if options.quick else options.seconds
    with tempfile.TemporaryDirectory(prefix="writers-") as folder:
        row = measure(Path(folder), options.writers, seconds, options.journal)
    print(json.dumps(row, indent=1))
    if options.write:
        _write(row)
    sys.exit(any(row[name] for name in FAULTS) or row["soundness"] != "ok")


def _write(row: dict[str, Any]) -> None:
    """Keep a row in place of an earlier one of the same kind."""
    known = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    kind = ("writers", "journal")
    rows = [*(each for each in known if any(each[name] != row[name] for name in kind)), row]
    machine = {"cpu_cores": os.cpu_count(), "python": platform.python_version()}
    RESULTS.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
