"""Budgets, cancelling and retrying on real studies: `depth` on digits with real Ray and real MLflow."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

import reports
import studies
from reports.analysis.integrity import describe_restarts
from studies.cli.app import main
from studies.design.budget import RunBudget
from studies.maintenance import cancellation
from studies.maintenance.cancellation import cancel_trial, retry_trial
from studies.settings import Settings
from studies.storage.study_status import find_status
from studies.tracking.errors import TrackingError
from studies.tracking.store import open_store
from tests.studies.conftest import SHORT

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


def arms_by_seed(record):
    found = {}
    for trial in record.trials:
        found.setdefault(trial.seed, set()).add(trial.arm)
    return found


def call(*arguments):
    shown = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert shown.exit_code == 0, shown.output
    return " ".join(shown.output.split())


def wait_for_state(settings, arm, seed, *states):
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        status = find_status(settings, "depth")
        for trial in status.trials if status else ():
            if (trial.arm, trial.seed) == (arm, seed) and trial.state in states:
                return
        time.sleep(0.1)
    raise AssertionError(f"{arm}, seed {seed} is none of {states}")


def start_driver(runs, overrides):
    line = [sys.executable, "-W", "ignore", "-m", "studies.cli", "run", "depth", "--seeds", "2", "--runs", str(runs)]
    for path, value in overrides.items():
        line += ["--set", f"{path}={value}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(line, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def ended_trials(runs):
    return {file: file.stat().st_mtime_ns for file in (runs / "trials").glob("*/result.json")}


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


def refuse_to_open(settings):
    raise TrackingError("no answer")


def test_trials_of_a_running_study_are_cancelled_and_tried_again(tmp_path, one_ray, monkeypatch):
    runs = tmp_path / "runs"
    settings = Settings.from_environment(runs)
    overrides = {**SHORT, "recipe.epochs": 30}
    records = []

    def request():
        wait_for_state(settings, "E", 0, "running")
        records.append(cancel_trial(settings, "depth", None, "E", 0, "too slow"))
        records.append(cancel_trial(settings, "depth", None, "A", 1, ""))
        records.append(cancel_trial(settings, "depth", None, "B", 1, ""))
        wait_for_state(settings, "A", 0, "finished", "at chance")
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
    with monkeypatch.context() as outage:
        outage.setattr(cancellation, "open_store", refuse_to_open)
        with pytest.raises(TrackingError, match="no answer"):
            retry_trial(settings, "depth", None, "E", 0)
    wait_for_state(settings, "E", 0, "cancelled")  # nothing has changed
    retry_trial(settings, "depth", None, "E", 0)
    assert open_store(settings).reader.read_study("depth").find_trial("E", 0) is None  # not yet started again

    def retry_another():
        wait_for_state(settings, "E", 0, "running")
        records.append(retry_trial(settings, "depth", None, "B", 1))

    # A trial that this start has left out is trained by it all the same, once that is taken back.
    user = threading.Thread(target=retry_another)
    user.start()
    record = studies.run("depth", seeds=2, overrides=overrides, runs=runs, quiet=True, say=lines.append)
    user.join()
    assert "driver" in records[-1]
    states = [record.find_trial(*trial).state for trial in (("E", 0), ("B", 1))]
    assert set(states) <= {"finished", "at chance"}


def test_a_running_trial_that_is_cancelled_stops_though_no_other_one_waits(tmp_path, one_ray):
    runs = tmp_path / "runs"
    settings = Settings.from_environment(runs)

    def request():
        wait_for_state(settings, "D", 0, "running")
        for arm in ("A", "B", "D"):
            cancel_trial(settings, "depth", None, arm, 0, "")

    user = threading.Thread(target=request)
    user.start()
    overrides = {**SHORT, "recipe.epochs": 60}
    record = studies.run("depth", seeds=1, overrides=overrides, runs=runs, quiet=True, say=lambda _: None)
    user.join()
    # E, which takes longer than D, goes on meanwhile.
    assert {trial.arm: trial.state for trial in record.trials if trial.arm != "E"} == dict.fromkeys("ABD", "cancelled")
    (ended,) = ended_trials(runs)
    assert ended.parent.name.startswith(record.find_trial("E", 0).result.fingerprint)


def test_a_cancelled_trial_is_tried_again_after_its_driver_was_killed(tmp_path, one_ray):
    runs = tmp_path / "runs"
    settings = Settings.from_environment(runs)
    overrides = {**SHORT, "recipe.epochs": 25}
    driver = start_driver(runs, overrides)
    try:
        wait_for_state(settings, "E", 0, "running")
        # One that the driver stops, and one of which it may not have heard before it is killed.
        call("cancel", "depth", "E", "0", "--reason", "too slow", "--runs", runs)
        wait_for_state(settings, "D", 0, "finished", "at chance")
        call("cancel", "depth", "A", "1", "--reason", "enough", "--runs", runs)
    finally:
        driver.kill()
        driver.wait()
    kept = ended_trials(runs)
    assert 1 <= len(kept) < 7
    call("sync", "depth", "--runs", runs)
    killed = open_store(settings).reader.read_study("depth", "digits")
    assert [killed.find_trial(*trial).state for trial in (("E", 0), ("A", 1))] == ["cancelled", "cancelled"]
    assert "`ablate run` of this study does so" in call("retry", "depth", "E", "0", "--runs", runs)

    lines = []
    record = studies.run("depth", seeds=2, overrides=overrides, runs=runs, quiet=True, say=lines.append)
    assert any("enough" in line for line in lines)
    assert kept.items() <= ended_trials(runs).items()
    states = {(trial.arm, trial.seed): trial.state for trial in record.trials}
    assert states.pop(("A", 1)) == "cancelled"
    assert len(states) == 7
    assert set(states.values()) <= {"finished", "at chance"}
    retried = record.find_trial("E", 0)
    assert len(retried.result.times) == 25
    assert retried.num_attempts >= 2
    assert [fault for fault in retried.faults if fault.endswith(": too slow; tried again")]
    assert "too slow; tried again" in describe_restarts(record.trials)

    # A tracking store that is lost gets it all back.
    copy = tmp_path / "copy"
    shutil.copytree(runs, copy, ignore=shutil.ignore_patterns("mlflow.db", "artifacts"))
    told = call("sync", "depth", "--runs", copy)
    assert "7 of 8 trials logged now, 1 of 8 trials logged as cancelled" in told
    rebuilt = open_store(Settings.from_environment(copy)).reader.read_study("depth", "digits")
    assert rebuilt.find_trial("A", 1).cancel_reason == record.find_trial("A", 1).cancel_reason
    assert rebuilt.find_trial("E", 0).faults == retried.faults
    assert "nothing to log: all 8 trials are logged, 1 of them as cancelled" in call("sync", "--runs", copy)
