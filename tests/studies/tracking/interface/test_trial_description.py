"""The description of a trial in MLflow. Made-up studies."""

from dataclasses import replace

from studies.design.trial import Trial
from studies.protocols import load
from studies.tracking.interface.trial_description import (
    MAX_LISTED_CHANGES,
    describe_trial,
    network_properties,
    summarize_model,
)
from tests.reports import golden

REGISTRATION = golden.read("healthy").registration
SETUP = load("digits").setup


def describe(arm, registration=REGISTRATION):
    return describe_trial(Trial(arm=arm, setup=SETUP, seed=3), registration)


def test_a_trial_is_described_by_its_arm_its_change_and_its_network():
    description = describe("B")
    assert description.startswith("**B**, seed 3")
    assert "the baseline, A" in description.partition("\n\nNetwork: ")[0]
    assert "`network.stages." in description.partition("\n\nNetwork: ")[0]
    assert "\n\nAblation `depth` under the protocol `digits`: " in description
    assert " weight layers, " in description
    assert "Errors are in percent, losses in nats per example." in description


def test_a_trial_of_the_baseline_is_said_to_be_one():
    assert describe("A").startswith("**A**, seed 3: the baseline, with which the other arms are compared.\n")


def test_a_source_network_is_described_without_a_change():
    description = describe("donor of warm")
    assert description.startswith("**donor of warm**, seed 3.\n")
    assert "Network: " not in description


def test_many_changes_are_counted():
    (change, *_) = REGISTRATION.changes["B"]
    changes = tuple(replace(change, path=f"network.setting{index}x", before=0, after=1) for index in range(30))
    one = describe("B", replace(REGISTRATION, changes={"B": changes[:1]}))
    assert one.startswith("**B**, seed 3: `network.setting0x: 0 -> 1`, compared with the baseline, A.\n")
    description = describe("B", replace(REGISTRATION, changes={"B": changes}))
    assert description.count("\n- `") == MAX_LISTED_CHANGES
    assert "- and 18 more: see the parameters" in description


def test_the_network_of_a_trial_is_counted():
    assert network_properties(Trial(arm="B", setup=SETUP, seed=3), REGISTRATION)["parameters"] > 1_000
    assert network_properties(Trial(arm="unknown", setup=SETUP, seed=3), REGISTRATION) == {}


def test_the_layers_of_a_network_are_listed_above_its_counts():
    layers = {"B": (("stage1.conv1", "Conv2d(1, 8)"), ("head", "Linear(8, 10)"))}
    trial = Trial(arm="B", setup=SETUP, seed=3)
    summary = summarize_model(trial, replace(REGISTRATION, layers=layers)).splitlines()
    assert summary[:3] == ["stage1.conv1  Conv2d(1, 8)", "head          Linear(8, 10)", ""]
    assert summary[3].endswith(" weight layers")
    assert summarize_model(trial, replace(REGISTRATION, layers={})) == ""  # of an earlier record
