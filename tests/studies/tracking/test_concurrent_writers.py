"""Several processes that record in one SQLite store at once: the benchmark, for a few seconds."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

import benchmarks.concurrent_writers as benchmark
from studies.settings import Settings


@pytest.mark.slow
def test_four_processes_make_and_fill_one_store_at_once_and_no_row_is_lost():
    line = [sys.executable, benchmark.__file__, "--writers", "4", "--seconds", "3"]
    shown = subprocess.run(line, capture_output=True, text=True, check=False, timeout=240)
    told = json.loads(shown.stdout)
    assert shown.returncode == 0, told
    assert told["milliseconds"]["register"]["calls"] == 4
    assert told["trials"] >= 4
    assert told["rows"] == 125 * told["trials"]
    assert {told[name] for name in benchmark.FAULTS} == {0}


def test_what_is_lost_is_counted(tmp_path):
    """The judge itself, on a store from which something was taken away."""
    settings = Settings.from_environment(tmp_path, None, f"sqlite:///{tmp_path}/mlflow.db")
    settings.create_folders()
    told = [benchmark.Writer(0, settings).work(0.0, 0.5, "delete")]
    assert benchmark.judged(tmp_path, told)["lost_rows"] == 0
    first = next(iter(told[0]["written"]))
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("DELETE FROM metrics WHERE run_uuid = ? AND step = ?", (first, benchmark.EPOCHS - 1))
        database.execute("UPDATE tags SET value = 'running' WHERE run_uuid = ? AND key = 'status'", (first,))
    next(settings.artifacts_folder.rglob("predictions.npy")).unlink()
    found = benchmark.judged(tmp_path, told)
    expected = {"lost_trials": 1, "lost_rows": 12, "wrong_values": 1, "lost_files": 1, "stray_runs": 0}
    assert {name: found[name] for name in expected} == expected
