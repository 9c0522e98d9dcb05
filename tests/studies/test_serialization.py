"""JSON of what a study records: names and numbers that stored files and digests depend on."""

from __future__ import annotations

import json
import math

import pytest

from studies.design.declare import declare
from studies.design.tuning import Choice, TuningBudget, tuning_from_json, tuning_to_json
from studies.records.json_numbers import nonfinite_to_null
from studies.records.results import Result, failed_result, result_from_json, result_to_json
from studies.records.serialization import start_from_json, start_to_json
from studies.records.study_record import StudyStart

GRID = (Choice(path="recipe.learning_rate", values=(0.01, 0.02)), Choice(path="recipe.clip_norm", values=(0.0, 1.0)))


@pytest.mark.parametrize("kind", ["Tuning", "TuningBudget"])
def test_a_budget_is_read_under_both_names_that_its_class_has_had(kind):
    budget = TuningBudget(trials=4, sampler="grid", space=GRID)
    data = json.loads(json.dumps(tuning_to_json(budget)))
    assert tuning_from_json(data | {"kind": kind}) == budget


def test_a_tuned_study_keeps_the_digest_that_its_earlier_records_have():
    """The digests are those of the version that called the class ``Tuning``; the kind is part of them."""
    halving = TuningBudget(trials=4, pruning="halving", rungs=2)
    assert tuning_to_json(halving)["kind"] == "Tuning"
    assert declare("depth", seeds=3, tuning=halving).conditions_digest("data") == "9a184a5c7b95b659"
    assert declare("lrn", seeds=3, tuning=4, looks=(2, 3)).conditions_digest("data") == "35f24a6940ad6177"
    assert declare("depth", seeds=3).conditions_digest("data") == "46366971ec5d8600"


def test_no_tuning_is_null():
    assert tuning_from_json(tuning_to_json(None)) is None


def test_a_result_keeps_its_keys_and_turns_what_is_not_finite_into_null():
    result = Result(
        fingerprint="f",
        digests={"code": "c"},
        status="non-finite",
        metrics={"test_error": math.nan},
        curves={"train_loss": (1.0, math.inf)},
    )
    data = result_to_json(result)
    assert list(data) == [
        "fingerprint", "digests", "status", "metrics", "curves", "times", "cost", "environment", "evidence", "error",
        "schema",
    ]  # fmt: skip
    assert (data["metrics"], data["curves"]) == ({"test_error": None}, {"train_loss": [1.0, None]})
    assert math.isnan(result_from_json(data).metrics["test_error"])


def test_nested_values_keep_their_shape():
    assert nonfinite_to_null({"a": ({"b": -math.inf}, 1, "x", None)}) == {"a": [{"b": None}, 1, "x", None]}


def test_a_start_comes_back_from_json():
    start = StudyStart(
        time="2026-01-01T00:00:00+00:00",
        command="ablate run lrn",
        revision="abc",
        clean=True,
        versions={"torch": "2"},
        hardware="cpu",
        seeds=(0, 1),
        wall_seconds=1.5,
    )
    assert start_from_json(json.loads(json.dumps(start_to_json(start)))) == start


@pytest.mark.parametrize(("loss", "status"), [(2.3, "at chance"), (None, "non-finite")])
def test_a_result_of_earlier_versions_gets_the_right_one_of_two_words(loss, status):
    data = result_to_json(failed_result("f", {}, "")) | {
        "status": "diverged",
        "metrics": {"train_error": 90.0, "train_loss": loss},
    }
    assert result_from_json(data).status == status
