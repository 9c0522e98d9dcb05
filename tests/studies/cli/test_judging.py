"""`ablate judge` and `ablate gate` on tables of results."""

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import mlflow
import pytest
from click.testing import CliRunner

from reports.comparison.comparison import compare_arms
from reports.pages.verdict_json import describe_reports
from studies.cli.app import main
from studies.console.status_output import recorded_status
from studies.records.registration_log import RegistrationCheck
from studies.storage.study_status import status_to_json
from tests.reports.records import record

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads((ROOT / "docs/verdict.schema.json").read_text(encoding="utf-8"))
ERRORS = {"A": (10.1, 9.8, 10.4, 10.0), "B": (9.0, 8.9, 9.3, 9.05), "C": (10.4, 9.6, 10.3, 9.6)}


@pytest.fixture
def results(tmp_path):
    file = tmp_path / "results.csv"
    lines = ["arm,seed,test_error"]
    for arm, errors in ERRORS.items():
        lines += [f"{arm},{seed},{error}" for seed, error in enumerate(errors)]
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def call(*arguments, code=0):
    shown = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert shown.exit_code == code, shown.output
    return shown.output


def test_judge_prints_verdicts_and_writes_the_report(results, tmp_path):
    shown = call("judge", results, "-o", tmp_path / "judged", "--unit", "percent")
    assert "Of 2 claims, 1 is supported and 1 is inconclusive." in shown
    assert "supported: B improves on A in test_error: change from A to B −1.01 points" in shown
    assert shown.strip().endswith("judged/index.html")
    assert "What to know first" in (tmp_path / "judged/index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", [("judge",), ("gate", "--accept", "equivalent")])
def test_the_json_follows_its_schema(results, command):
    code = 20 if command[0] == "gate" else 0
    shown = json.loads(call(*command, results, "--smallest-effect", "0.05", "--json", code=code))
    jsonschema.validate(shown, SCHEMA)
    assert shown["claims"][0]["word"] == "supported"


def test_what_reports_and_status_print_follows_the_schema(tmp_path):
    check = RegistrationCheck(
        study_folder="depth-0", entries=(), places=("MLflow",), mismatches=("it is gone",), page_digest=""
    )
    validator = jsonschema.Draft202012Validator(SCHEMA)
    for study in (record(), replace(record(seeds=2), registration_check=check)):
        report = describe_reports([compare_arms(study)], [tmp_path / "index.html"], {"summary": tmp_path})
        status = json.loads(json.dumps(status_to_json(recorded_status(study))))
        for printed, kind in ((report, "reports"), (status, "status")):
            assert list(validator.iter_errors(printed)) == []
            assert printed["kind"] == kind
            assert list(validator.iter_errors({**printed, "kind": "unknown"}))
    assert "it is gone" in json.dumps(report)


@pytest.mark.parametrize(
    ("options", "code", "shown"),
    [
        (("--claim", "B helps over A"), 0, "supported: B improves on A"),
        (("--claim", "B is better than A", "--claim", "A helps over B"), 10, "contradicted (the worst of 2 claims)"),
        (("--claim", "C does not help over A", "--smallest-effect", "1"), 0, "practically equivalent"),
        (("--claim", "C helps over A", "--smallest-effect", "1"), 11, "practically equivalent"),
        (
            ("--claim", "C helps over A", "--smallest-effect", "1", "--accept", "equivalent"),
            0,
            "practically equivalent",
        ),
        (("--claim", "C helps over A"), 20, "How many seeds would tell depends on the smallest effect"),
        (("--claim", "C helps over A", "--smallest-effect", "0.1"), 20, "seeds per arm"),
        (("--claim", "C rocks"), 2, "is not understood"),
        (("--baseline", "Z"), 2, "The baseline 'Z' is no arm; the arms are A, B and C"),
        (("--smallest-effect", "-1"), 2, "--smallest-effect"),
        (("--unit", "fraction"), 2, "The unit is fraction, but a value is 10.4"),
    ],
)
def test_the_gate_ends_with_the_code_of_the_worst_verdict(results, options, code, shown):
    assert shown in call("gate", results, *options, code=code)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("depth", "--smallest-effect", "9"), "--smallest-effect: only for a table of results; depth is a study"),
        (("depth", "--claim", "B helps over A", "--baseline", "A"), "--baseline, --claim: only for a table"),
        (("results.csv", "--run", "78d9"), "a table of results has none"),
    ],
)
def test_a_gate_refuses_options_that_say_nothing_of_its_source(arguments, told):
    assert told in call("gate", *arguments, code=2)


def test_a_table_is_a_table_whatever_its_file_is_called(tmp_path):
    file = tmp_path / "results.txt"
    file.write_text("arm,seed,loss\nA,0,1\nB,0,2\n", encoding="utf-8")
    assert call("gate", file, code=30).startswith("not judged: Cannot tell whether B improves on A in loss: one seed")


def test_a_gate_on_one_seed_does_not_judge(tmp_path):
    file = tmp_path / "one.csv"
    file.write_text("arm,seed,loss\nA,0,1\nB,0,2\n", encoding="utf-8")
    assert call("gate", file, code=30).startswith("not judged: Cannot tell whether B improves on A in loss: one seed")


def test_a_missing_file_is_told_in_one_line(tmp_path):
    assert "absent.csv is not there" in call("judge", tmp_path / "absent.csv", code=2)


def test_runs_of_an_mlflow_experiment_are_judged(tmp_path):
    uri = f"sqlite:///{tmp_path}/other.db"
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("sweep", artifact_location=(tmp_path / "artifacts").as_uri())
    parent = client.create_run(experiment).info.run_id
    for arm, errors in ERRORS.items():
        for seed, error in enumerate(errors):
            run = client.create_run(experiment, tags={"mlflow.parentRunId": parent}).info.run_id
            client.log_param(run, "model", arm)
            client.log_param(run, "seed", seed)
            client.log_metric(run, "val_error", error)
    shown = call("judge", "mlflow:sweep", "--tracking-uri", uri, "--metric", "val_error")
    assert "supported: B improves on A in val_error" in shown
    assert "MLflow has no experiment 'swoop'; it has" in call("judge", "mlflow:swoop", "--tracking-uri", uri, code=2)
