"""What a store that this package makes shows of a study, and the pages that `ablate ui` opens."""

import json
import os
import subprocess

import pytest
from click.testing import CliRunner

from studies.cli.app import main
from studies.cli.reporting.browser import open_when_ready
from studies.settings import Settings
from studies.tracking.interface.views import view_key
from studies.tracking.store import open_store
from tests.reports import golden

QUESTION = golden.read("healthy").registration.question


# Each needs a store, which MLflow takes seconds to make; most share one.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("one written study")]


def call(*arguments, code=0):
    shown = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert shown.exit_code == code, shown.output
    return shown.output


def experiments(store):
    return {item.name: item for item in store.runs.client.search_experiments()}


def test_an_experiment_stands_alone_and_says_its_question(written):
    found = experiments(written.store)
    assert set(found) == {"depth"}
    assert found["depth"].tags["mlflow.note.content"] == QUESTION


def test_the_view_of_a_study_has_its_trials_alone_grouped_by_arm(written):
    experiment = experiments(written.store)["depth"]
    view = json.loads(experiment.tags[f"mlflow.sharedViewState.{view_key(written.run_id)}"])
    assert view["selectedColumns"][0] == "metrics.`test_error`"
    assert view["groupBy"]["groupByKeys"] == [{"groupByData": "arm", "mode": "tag"}]
    shown = written.store.runs.client.search_runs([experiment.experiment_id], filter_string=view["searchFilter"])
    trials = [trial for trial in golden.read("healthy").trials if trial.recipe == "shared"]
    assert {(run.data.params["arm"], int(run.data.params["seed"])) for run in shown} == {
        (trial.arm, trial.seed) for trial in trials
    }


def test_a_description_that_a_user_wrote_is_kept(tmp_path):
    store = open_store(Settings.from_environment(tmp_path))
    run_id = golden.put(golden.read("started"), store)
    experiment = store.runs.experiment_of(run_id)
    store.runs.client.set_experiment_tag(experiment, "mlflow.note.content", "mine")
    assert store.find_study_pages("http://here/").run_id == run_id
    assert store.runs.client.get_experiment(experiment).tags["mlflow.note.content"] == "mine"


def test_default_is_kept_where_something_is_logged_to_it(tmp_path):
    store = open_store(Settings.from_environment(tmp_path))
    store.runs.client.create_run("0")
    store.runs.ensure_experiment("depth")
    assert set(experiments(store)) == {"Default", "depth"}


@pytest.fixture
def server_start(monkeypatch, written):
    """Arguments of the server that a command becomes, instead of becoming it."""
    started = []
    monkeypatch.chdir(written.runs)  # the server starts in the runs folder; this brings the tests back
    monkeypatch.setattr(os, "execv", lambda *arguments: started.append(arguments))
    return started


def test_the_ui_prints_the_pages_of_a_study(written, server_start):
    shown = call("ui", "depth", "--runs", written.runs, "--port", 5123)
    experiment = written.run.info.experiment_id
    page = f"http://127.0.0.1:5123/#/experiments/{experiment}/runs"
    assert f"{page}?workflowType=machine_learning&viewStateShareKey={view_key(written.run_id)}\n" in shown
    assert f"{page}/{written.run_id}?workflowType=machine_learning\n" in shown
    assert call("ui", "--runs", written.runs, "--port", 5123) == shown  # the study that was started last
    assert len(server_start) == 2


def test_the_ui_of_a_study_that_is_not_there_names_those_that_are(written, server_start):
    shown = call("ui", "dept", "--runs", written.runs, code=2)
    assert "Did you mean 'depth'?" in shown
    assert not server_start


def test_an_earlier_record_gets_its_view_when_it_is_shown(written, server_start):
    client, experiment = written.store.runs.client, written.run.info.experiment_id
    tag = f"mlflow.sharedViewState.{view_key(written.run_id)}"
    client.delete_experiment_tag(experiment, tag)
    call("ui", "--runs", written.runs)
    assert tag in client.get_experiment(experiment).tags


@pytest.mark.parametrize("option", ["--browser", "--no-browser"])
def test_the_ui_opens_a_browser_if_asked(written, server_start, monkeypatch, option):
    opened = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **_: opened.append(command[-1]))
    shown = call("ui", "--runs", written.runs, option)
    assert (len(opened) == 1) == (option == "--browser")
    assert all(address in shown for address in opened)


def test_no_browser_is_opened_for_a_server_that_does_not_come():
    assert not open_when_ready("http://127.0.0.1:1/#/page", max_wait_seconds=0.1)
