"""Budgets, cancelling and retrying on real studies: `depth` on digits with real Ray and real MLflow."""

from __future__ import annotations

import threading
import time

import pytest

import reports
import studies
from studies.design.budget import RunBudget
from studies.maintenance.cancellation import cancel_trial, retry_trial
from studies.settings import Settings
from studies.storage.study_status import find_status
from tests.studies.conftest import SHORT

pytestmark = pytest.mark.slow


def arms_by_seed(record):
    found = {}
    for trial in record.trials:
        found.setdefault(trial.seed, set()).add(trial.arm)
    return found


def test_a_budget_stops_depth_in_time_at_whole_seeds_and_the_next_call_goes_on(tmp_path, one_ray):
    runs, lines = tmp_path / "runs", []
    started_at = time.monotonic()
    budget = RunBudget(max_seconds=75)
    record = studies.run("depth", seeds=100, overrides=SHORT, runs=runs, budget=budget, quiet=True, say=lines.append)
    assert time.monotonic() - started_at < 75
    num_first = len(arms_by_seed(record))
    assert 0 < num_first < 100
    assert all(arms == {"A", "B", "D", "E"} for arms in arms_by_seed(record).values())
    start = record.starts[-1]
    assert start.budget == budget
    assert start.stop_reason.startswith(f"stopped at its budget of 1 min 15 s, after {num_first} seed")
    assert start.stop_reason in lines
    status = find_status(Settings.from_environment(runs), "depth")
    assert (status.state, status.stop_reason) == ("ended", start.stop_reason)
    page = reports.load("depth", runs=runs)
    assert page.record.stop_reason == start.stop_reason

    refused = studies.run(
        "depth", seeds=100, overrides=SHORT, runs=runs, budget=RunBudget(max_seconds=1), quiet=True, say=lines.append
    )
    assert "Nothing was started; it takes about --max-time" in refused.stop_reason
    assert len(refused.trials) == len(record.trials)

    extended = studies.run("depth", seeds=num_first + 1, overrides=SHORT, runs=runs, quiet=True, say=lines.append)
    assert extended.stop_reason == ""
    assert len(arms_by_seed(extended)) == num_first + 1


def test_trials_of_a_running_study_are_cancelled_and_tried_again(tmp_path, one_ray):
    runs = tmp_path / "runs"
    settings = Settings.from_environment(runs)
    overrides = {**SHORT, "recipe.epochs": 30}
    records = []

    def wait_for(arm, seed, *states):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            status = find_status(settings, "depth")
            for trial in status.trials if status else ():
                if (trial.arm, trial.seed) == (arm, seed) and trial.state in states:
                    return
            time.sleep(0.2)
        raise AssertionError(f"{arm}, seed {seed} is none of {states}")

    def request():
        wait_for("E", 0, "running")
        records.append(cancel_trial(settings, "depth", None, "E", 0, "too slow"))
        records.append(cancel_trial(settings, "depth", None, "A", 1, ""))
        records.append(cancel_trial(settings, "depth", None, "B", 1, ""))
        wait_for("A", 0, "finished", "at chance")
        records.append(retry_trial(settings, "depth", None, "A", 1))

    user = threading.Thread(target=request)
    user.start()
    record = studies.run("depth", seeds=2, overrides=overrides, runs=runs, quiet=True, say=lambda _: None)
    user.join()
    assert ["driver" in text for text in records] == [True] * 4
    states = {(trial.arm, trial.seed): trial.state for trial in record.trials}
    assert states["E", 0] == states["B", 1] == "cancelled"
    assert states["A", 1] in ("finished", "at chance")
    cancelled = record.find_trial("E", 0)
    assert cancelled.cancel_reason.endswith(": too slow")

    # Later starts leave it out, until that is taken back.
    lines = []
    record = studies.run("depth", seeds=2, overrides=overrides, runs=runs, quiet=True, say=lines.append)
    assert record.find_trial("E", 0).state == "cancelled"
    assert any("too slow" in line for line in lines)
    retry_trial(settings, "depth", None, "E", 0)
    record = studies.run("depth", seeds=2, overrides=overrides, runs=runs, quiet=True, say=lines.append)
    assert record.find_trial("E", 0).state in ("finished", "at chance")
    assert record.find_trial("B", 1).state == "cancelled"
