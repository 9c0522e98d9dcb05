"""The preview of a study: what `ablate show` prints, and the keys of its JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from studies.console.preview import print_preview
from studies.design import preview
from studies.design.declare import declare
from studies.design.preview import preview_study, preview_to_json

PROPERTIES = {
    "weight_layers": 11,
    "parameters": 445_482,
    "conv_parameters": 144_416,
    "multiply_adds": 2_733_056,
    "receptive_field": 150,
    "nonlinearities": 8,
}


@pytest.fixture(autouse=True)
def known_times(monkeypatch):
    """Every trial takes 60 seconds, on a machine of two cores."""
    monkeypatch.setattr(preview, "estimate_trial_seconds", lambda _: 60.0)
    monkeypatch.setattr(preview, "count_cores", lambda: 2)


def test_a_preview_keeps_the_keys_and_values_of_its_json():
    study = declare("lrn", seeds=3, tuning=4, looks=(2, 3))
    data = preview_to_json(replace(preview_study(study), detectable_difference=1.5))
    held = data.pop("held")
    assert (held["recipe.epochs"], "network.norm" in held) == (50, False)
    budget = data["tuning"].pop("budget")
    assert budget.startswith("4 candidates for all epochs; sampler random; recipe.learning_rate from 0.005 to 0.125")
    contrast = {"clean": True, "moved": [], "unknown": [], "forced": []}
    arm = {"changes": [], "properties": PROPERTIES, "parts": 0, "contrast": contrast, "unknown": [], "seconds": 60.0}
    arm |= {"notes": [], "failure": ""}
    assert data == {
        "study": "lrn",
        "question": study.ablation.question.strip(),
        "protocol": "digits",
        "baseline": "A",
        "varies": ["network.norm"],
        "design": None,
        "forced": {},
        "property_studied": None,
        "donors": {},
        "tested": {},
        "arms": {"A": arm, "A-LRN": arm | {"changes": ["network.norm: none -> lrn-first"], "parts": 1}},
        "claims": [claim.sentence for claim in study.ablation.claims],
        "seeds": [0, 1, 2],
        "looks": [2, 3],
        "tuning": {"epochs": {"A": 200, "A-LRN": 200}, "seeds": [1_000_000]},
        "trials": 6,
        "workers": 2,
        "minutes": (25 + (2 * 2 * 60 * 3 + 2 * 60 * 4) / 2) / 60,
        "detectable": 1.5,
    }


def test_the_json_of_a_preview_names_sources_and_evaluated_networks():
    transfer = preview_to_json(preview_study(declare("transfer", "cifar10-cpu", 1)))
    assert transfer["donors"] == dict.fromkeys(("frozen features", "fine-tuned"), "donor of frozen features")
    evaluation = preview_to_json(preview_study(declare("evaluation")))
    assert evaluation["tested"]["dense"] == ["single crop"]
    assert json.loads(json.dumps(evaluation)) == evaluation


def test_held_settings_are_printed_in_groups(capsys):
    print_preview(preview_study(declare("lrn", seeds=3)))
    lines = capsys.readouterr().out.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("held "))
    groups = [line.split(":")[0].strip() for line in lines[start + 1 : start + 7]]
    recipe = next(line for line in lines if line.strip().startswith("recipe: "))
    assert lines[start].endswith(" settings, the same in every arm:")
    assert groups == ["network", "data", "start", "scale", "recipe", "test"]
    assert recipe.startswith("         recipe: epochs=50, batch_size=32, ")
