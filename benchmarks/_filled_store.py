"""Fill a SQLite store with many runs in seconds: rows are copied in the database, without MLflow's client."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from studies.tracking.artifacts import TAGS_CHECKSUM, hash_tags

RUNS_PER_STUDY = 500
COPIED_TABLES = ("runs", "tags", "params", "latest_metrics")


def fill_store(database_file: Path, num_runs: int) -> None:
    """Copy the runs of a store's only study, as studies of their own, until the store holds ``num_runs``.

    Copies have ids, fingerprints, experiments and parent runs of their own, and all tags, parameters and latest
    metrics. Curves are left out, as no start of a study reads them.
    """
    with closing(sqlite3.connect(database_file)) as connection, connection as database:
        [study_run] = _find_runs(database, "study")
        trial_runs = _find_runs(database, "fit")
        query = "SELECT experiment_id FROM runs WHERE run_uuid = ?"
        [(experiment,)] = database.execute(query, (study_run,)).fetchall()
        [(last_experiment,)] = database.execute("SELECT max(experiment_id) FROM experiments").fetchall()
        for number in range(len(trial_runs) + 1, num_runs):
            study_number = number // RUNS_PER_STUDY
            own_experiment, own_study_run = last_experiment + 1 + study_number, f"{study_number:08d}{study_run[8:]}"
            own_tags = {"study": f"other-{study_number}"}
            if number % RUNS_PER_STUDY == 0 or number == len(trial_runs) + 1:
                name = own_tags["study"]
                changes = {"experiment_id": own_experiment, "name": name}
                _copy_rows(database, "experiments", ("experiment_id", experiment), changes)
                _copy_run(database, study_run, own_study_run, own_experiment)
                _change_tags(database, own_study_run, {**own_tags, "conditions": name})
            else:
                original = trial_runs[number % len(trial_runs)]
                own_id = f"{number:08d}{original[8:]}"
                own_tags |= {"mlflow.parentRunId": own_study_run, "fingerprint": f"{number:012d}"}
                _copy_run(database, original, own_id, own_experiment)
                _change_tags(database, own_id, own_tags)


def _find_runs(database: sqlite3.Connection, kind: str) -> list[str]:
    rows = database.execute("SELECT run_uuid FROM tags WHERE key = 'kind' AND value = ?", (kind,))
    return [run_id for (run_id,) in rows]


def _copy_run(database: sqlite3.Connection, original: str, own_id: str, own_experiment: int) -> None:
    for table in COPIED_TABLES:
        changes: dict[str, object] = {"run_uuid": own_id}
        if table == "runs":
            changes["experiment_id"] = own_experiment
        _copy_rows(database, table, ("run_uuid", original), changes)


def _copy_rows(
    database: sqlite3.Connection, table: str, original: tuple[str, object], changes: Mapping[str, object]
) -> None:
    columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
    values = ", ".join(f":{column}" if column in changes else column for column in columns)
    key, value = original
    statement = f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {table} WHERE {key} = :original"
    database.execute(statement, {**changes, "original": value})


def _change_tags(database: sqlite3.Connection, run_id: str, tags: Mapping[str, str]) -> None:
    statement = "UPDATE tags SET value = ? WHERE run_uuid = ? AND key = ?"
    database.executemany(statement, [(value, run_id, key) for key, value in tags.items()])
    all_tags = dict(database.execute("SELECT key, value FROM tags WHERE run_uuid = ?", (run_id,)))
    database.execute(statement, (hash_tags(all_tags), run_id, TAGS_CHECKSUM))
