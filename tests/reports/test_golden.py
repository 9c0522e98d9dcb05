"""Through a real store: golden reports byte for byte, two runs compared from the command line, and damaged records."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from reports.comparison.comparison import compare_arms
from reports.figures.study import report_figures
from reports.renderers import markdown
from studies.cli.app import main
from studies.cli.reporting import reports
from studies.settings import Settings
from studies.tracking.errors import TrackingError
from studies.tracking.store import open_store
from tests.reports import golden

NAMES = ("healthy", "troubled", "crossed", "started")


@pytest.fixture(scope="module")
def kept(tmp_path_factory, one_migration):
    """A store with all golden studies, and the ids that their parent runs got."""
    settings = Settings.from_environment(tmp_path_factory.mktemp("golden"))
    settings.create_folders()
    store = open_store(settings)
    return store, {name: golden.put(golden.read(name), store) for name in NAMES}


def again(kept, name):
    store, ids = kept
    return store.reader.read_study(golden.read(name).registration.study, run_id=ids[name])


def said(study) -> str:
    return markdown.render_report(compare_arms(study), ())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "crossed" else ()) for name in NAMES]
)
def test_what_a_store_gives_back_is_what_was_put_in(kept, name):
    committed = golden.read(name)
    found = golden.renamed(again(kept, name), committed)
    assert replace(found, trials=(), labels=None) == replace(committed, trials=(), labels=None)
    assert np.array_equal(found.labels, committed.labels)
    for ours, theirs in zip(found.trials, committed.trials, strict=True):
        assert replace(ours, progress={}, revision="") == theirs
        assert ours.result is None or np.array_equal(
            ours.result.predictions if ours.result.predictions is not None else (),
            theirs.result.predictions if theirs.result.predictions is not None else (),
        )


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_study_compiles_to_the_committed_report(kept, name):
    made = golden.documents_of(golden.renamed(again(kept, name), golden.read(name)))
    for file, document in made.items():
        assert document.encode() == (golden.FOLDER / name / file).read_bytes(), file


def test_the_committed_records_are_those_that_the_command_makes():
    assert {name: golden.to_json(study) for name, study in golden.made_up().items()} == {
        name: golden.to_json(golden.read(name)) for name in NAMES
    }


def invoke(kept, *arguments):
    return CliRunner().invoke(main, ["report", "depth", "--runs", str(kept[0].runs.settings.runs_folder), *arguments])


def test_a_plan_takes_the_recorded_study_as_its_pilot(kept):
    line = ["plan", "depth", "--runs", str(kept[0].runs.settings.runs_folder), "--difference", "0.3", "--json"]
    found = json.loads(CliRunner().invoke(main, line).stdout)
    assert found["spread"]["source"] == "from 5 recorded seeds (12 degrees of freedom)"
    assert found["answers"][0]["cautious"] > found["answers"][0]["seeds"] > found["seeds_at_hand"] == 5


@pytest.mark.parametrize("by", ["protocol", "id"])
def test_two_runs_are_compared_from_the_command_line(kept, monkeypatch, by):
    store, ids = kept
    page = store.runs.settings.reports_folder / "depth-digits"
    monkeypatch.setattr(reports, "compile_report", lambda *_, **__: reports.CompiledReport(None, page))
    other = ("--against", ids["troubled"]) if by == "id" else ("--against-protocol", "cifar10-cpu")
    answer = invoke(kept, *other)
    assert answer.exit_code == 0, answer.output
    # The study's settings were overridden: its pages stand beside those of the study as declared.
    name = f"depth-digits-with-recipe.epochs=8-against-cifar10-cpu-{ids['troubled'][:8]}"
    page = store.runs.settings.reports_folder / name / "index.html"
    assert answer.stdout.splitlines()[-1] == str(page)
    assert "Two runs of depth: digits and cifar10-cpu" in page.read_text()


def test_an_unknown_run_is_one_line_that_names_the_known_ones(kept):
    store, ids = kept
    with pytest.raises(TrackingError) as error:
        store.reader.read_study("depth", run_id="n0ne")
    text = str(error.value)
    assert text.startswith(f"'n0ne' is no run of the study 'depth'. Its runs in {store.runs.settings.tracking_uri}: ")
    assert f"{ids['troubled']} under cifar10-cpu (by " in text
    assert f"{ids['healthy']} under digits (by " in text
    assert text.endswith("UTC, --set recipe.epochs=8).")


def test_a_run_of_another_study_is_told_as_such(kept):
    store, ids = kept
    with pytest.raises(TrackingError, match=f"^'{ids['healthy']}' is of the study 'depth', not of 'lrn'"):
        store.reader.read_study("lrn", run_id=ids["healthy"])


def test_against_takes_one_study_and_one_other_run(kept):
    answer = invoke(kept, "lrn", "--against", "x")
    assert answer.exit_code == 2
    assert "Name one study and one other run of it" in answer.output


def test_a_deleted_child_run_is_missed_and_said(kept):
    store, _ = kept
    lost = again(kept, "healthy").find_trial("B", 2).run_id
    store.runs.client.delete_run(lost)
    text = said(again(kept, "healthy"))
    store.runs.client.restore_run(lost)
    assert "1 of 20 planned trials never started, or were deleted from the store." in text
    assert "| 4 of 4 (1 not started) |" in text


@pytest.mark.parametrize("whose", ["parent", "child"])
def test_a_run_of_another_schema_is_one_line(kept, whose):
    store, ids = kept
    run_id = ids["healthy"] if whose == "parent" else again(kept, "healthy").find_trial("D", 0).run_id
    store.runs.client.set_tag(run_id, "schema", "99")
    try:
        with pytest.raises(
            TrackingError, match=rf"^run {run_id} \(.*\) was recorded under schema 99, which is newer than"
        ):
            again(kept, "healthy")
    finally:
        store.runs.client.set_tag(run_id, "schema", "1")


@pytest.fixture
def unpacked(kept):
    """The healthy study as it stands before it is closed: every result in its own run's files."""
    store, ids = kept
    folder = store.runs.settings.artifacts_folder / "depth"
    packed = folder / ids["healthy"] / "artifacts" / "results.parquet"
    packed.rename(packed.with_suffix(".aside"))
    tag = "checksum.results.parquet"
    checksum = store.runs.client.get_run(ids["healthy"]).data.tags[tag]
    store.runs.client.delete_tag(ids["healthy"], tag)
    yield folder
    store.runs.client.set_tag(ids["healthy"], tag, checksum)
    packed.with_suffix(".aside").rename(packed)


def test_packed_and_unpacked_results_are_the_same(kept, unpacked):
    committed = golden.read("healthy")
    assert golden.to_json(golden.renamed(again(kept, "healthy"), committed)) == golden.to_json(committed)


def test_a_result_whose_file_is_gone_is_one_line_and_the_others_are_there(kept, unpacked):
    lost = again(kept, "healthy").find_trial("E", 4).run_id
    file = unpacked / lost / "artifacts" / "result.json"
    file.rename(file.with_suffix(".aside"))
    study = again(kept, "healthy")
    assert study.damages == (
        f"{file} cannot be used: it is missing. `ablate sync depth --repair` logs it again from the trial's folder. "
        f"Where that is gone as well, delete the run {lost} in `ablate ui`, and `ablate run depth` trains it again.",
    )
    assert len(study.trials) == 19
    assert compare_arms(study).cautions[0] == study.damages[0]
    file.with_suffix(".aside").rename(file)


def test_a_foreign_run_below_a_study_is_passed_over(kept):
    store, ids = kept
    experiment = store.runs.client.get_experiment_by_name("depth").experiment_id
    run = store.runs.client.create_run(experiment, tags={"mlflow.parentRunId": ids["healthy"]})
    assert len(again(kept, "healthy").trials) == 20
    store.runs.client.delete_run(run.info.run_id)


def test_a_study_without_any_start_has_a_report_that_says_so(kept):
    store, _ = kept
    registration = replace(golden.read("healthy").registration, protocol="bare")
    tags = {"study": "depth", "protocol": "bare", "revision": "none"}
    parent = store.writer.register_study(registration, "bare", tags)
    study = store.reader.read_study("depth", run_id=parent)
    store.runs.client.delete_run(parent)
    assert (study.trials, study.starts, study.labels) == ((), (), None)
    text = said(study)
    assert "No trial has finished with a test error, so there is nothing to compare yet." in text
    assert [figure.name for figure in report_figures(compare_arms(study))] == ["receptive"]
