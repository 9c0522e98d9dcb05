"""What a start reads of a store that holds many runs of other studies."""

import sqlite3

import mlflow
import pytest

import studies
from benchmarks._filled_store import fill_store
from studies.settings import Settings
from studies.tracking import inspection
from studies.tracking import runs as tracking_runs
from studies.tracking.store import open_store
from tests.studies.conftest import SHORT

NUM_RUNS = 300


@pytest.fixture
def large(copied):
    """The recorded study, in a store of so many runs."""
    fill_store(copied.runs / "mlflow.db", NUM_RUNS)
    return copied


@pytest.fixture
def rows(monkeypatch):
    """How many runs each search has read."""
    search, counts = mlflow.MlflowClient.search_runs, []

    def counted(*arguments, **keywords):
        page = search(*arguments, **keywords)
        counts.append(len(page))
        return page

    monkeypatch.setattr(mlflow.MlflowClient, "search_runs", counted)
    return counts


def test_a_start_with_nothing_to_do_reads_its_own_runs_alone(large, rows):
    news = []
    record = studies.run("depth", seeds=(0, 1), overrides=SHORT, runs=large.runs, quiet=True, say=news.append)
    assert "nothing to train: all 8 trials have ended" in news
    assert len(record.trials) == 8
    # Its 8 trials three times (planned, packed and read back), and the run of the study.
    assert sum(rows) <= 3 * 8 + 6
    assert len(rows) <= 12


def test_trials_of_other_studies_are_searched_by_fingerprint(large, rows):
    reader = open_store(Settings.from_environment(large.runs)).reader
    wanted = f"{NUM_RUNS - 1:012d}"
    [trial] = reader.ended_trials({wanted, "in no study"})
    assert trial.key.fingerprint == wanted
    assert sum(rows) == 1


def test_doctor_reads_the_runs_of_a_database_from_its_tables_as_mlflows_client_would(large, rows, monkeypatch):
    inspector = open_store(Settings.from_environment(large.runs)).inspector
    found = inspector.list_runs()
    assert len(found) == NUM_RUNS
    assert rows == []

    def refuse(database):
        raise sqlite3.OperationalError(f"{database} has other tables")

    monkeypatch.setattr(inspection, "read_database_runs", refuse)
    by_client = inspector.list_runs()
    assert sum(rows) == len(by_client)
    assert {run.run_id: run for run in found} == {run.run_id: run for run in by_client}


def test_many_trials_are_searched_page_by_page(large, rows, monkeypatch):
    monkeypatch.setattr(tracking_runs, "MAX_SINGLE_SEARCHES", 10)
    monkeypatch.setattr(tracking_runs, "PAGE_SIZE", 50)
    reader = open_store(Settings.from_environment(large.runs)).reader
    wanted = {f"{number:012d}" for number in range(NUM_RUNS - 20, NUM_RUNS)}
    assert {trial.key.fingerprint for trial in reader.ended_trials(wanted)} == wanted
    assert max(rows) == 50
    assert len(rows) < 10
