"""A worker of Tune starts a trial once, whatever Tune does with the worker before its first step."""

from types import SimpleNamespace

import pytest

from studies.execution.cluster import tune_executor
from studies.execution.processes.trial_process import TrialMessage
from studies.execution.resources import Resources
from studies.settings import Settings


@pytest.fixture
def started(monkeypatch):
    """Names of the trials whose processes were started."""
    names = []

    class Process:
        has_ended = True

        def __init__(self, _, jobs, *__):
            names.append(jobs[0].name)

        def listen(self):
            return [TrialMessage("ended")]

        def stop(self):
            names.append("stopped")

    monkeypatch.setattr(tune_executor, "TrialProcess", Process)
    monkeypatch.setattr(tune_executor, "ForkClient", lambda _: SimpleNamespace(close=lambda: None))
    return names


def new_worker(tmp_path, job):
    """A worker that Tune has set up for one of two jobs, as in its actor."""
    worker = object.__new__(tune_executor._TrialWorker)
    worker.config = {"jobs": (job,)}
    jobs = [SimpleNamespace(name=name, trial=SimpleNamespace(arm="arm")) for name in ("first", "second")]
    worker.setup(worker.config, jobs, Settings.from_environment(tmp_path), Resources(), tmp_path, "")
    return worker


def test_a_worker_that_tune_replaces_while_it_is_set_up_has_started_no_process(tmp_path, started):
    new_worker(tmp_path, 0).cleanup()
    assert started == []


def test_the_first_step_starts_the_trial_and_a_reset_starts_the_next(tmp_path, started):
    worker = new_worker(tmp_path, 0)
    assert worker.step()["done"]
    assert worker.step()["done"]
    assert started == ["first"]
    assert worker.reset_config({"jobs": (1,)})
    assert worker.step()["done"]
    assert [name for name in started if name != "stopped"] == ["first", "second"]
    assert started.count("stopped") == 1
