"""Architectures, errors by class, and what can be cited. Made-up numbers."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from reports.analysis.classes.confusions import summarize_confusions
from reports.comparison.comparison import compare_arms
from reports.content.sections.architectures import architectures_table
from reports.content.sections.citation import citation_section, describe_finding, describe_methods
from reports.content.sections.confusions import confusions_section
from reports.figures.confusions import MAX_CLASSES, confusions_figure
from studies.records.registration_log import declaration_of
from studies.records.serialization import registration_from_json, registration_to_json
from tests.reports.records import ARMS, record, registration


def with_predictions(labels, predictions):
    """A study of two arms and one seed, whose networks answer as given."""
    study = record(arms=("A", "B"), seeds=1)
    trials = []
    for trial in study.trials:
        found = replace(trial.result, predictions=np.array(predictions[trial.arm], np.uint16))
        trials.append(replace(trial, result=found))
    return replace(study, labels=np.array(labels, np.uint16), trials=tuple(trials))


@pytest.fixture
def small():
    return with_predictions([0, 0, 1, 1], {"A": [0, 1, 1, 1], "B": [0, 0, 0, 1]})


def test_shares_are_of_the_true_class_and_errors_what_is_not_right(small):
    first, second = summarize_confusions(small).arms
    assert first.shares.tolist() == [[50, 50], [0, 100]]
    assert first.class_errors.tolist() == [50, 0]
    assert second.class_errors.tolist() == [0, 50]


def test_a_class_without_examples_has_no_error():
    (first, _) = summarize_confusions(with_predictions([0, 0], {"A": [0, 1], "B": [0, 0]})).arms
    assert first.class_errors[0] == 50
    assert np.isnan(first.class_errors[1])


def test_without_labels_there_are_no_confusions(small):
    compared = compare_arms(replace(small, labels=None))
    assert compared.confusions is None
    assert confusions_figure(compared) is None
    assert confusions_section(compared, []).is_empty


def test_the_classes_that_change_most_are_listed_with_what_they_are_taken_for(small):
    (table,) = confusions_section(compare_arms(small), []).tables
    rows = [[cell.text for cell in row] for row in table.rows]
    assert rows == [["B", "0", "50.0", "0.0", "−50.0", "never wrong"], ["B", "1", "0.0", "50.0", "+50.0", "0 (50.0%)"]]
    assert "their changes are the largest" in table.notes[0]


def test_many_classes_are_drawn_in_part():
    labels = list(range(30)) * 2
    wrong = [(label + 1) % 30 if label in (3, 17) else label for label in labels]
    figure = confusions_figure(compare_arms(with_predictions(labels, {"A": labels, "B": wrong})))
    assert f"the {MAX_CLASSES} of 30 classes" in figure.caption
    assert {mark.label for mark in figure.panels[1].marks} >= {"3", "17"}
    assert figure.panels[1].inline.startswith("<svg")


def test_the_sentence_to_cite_stands_alone():
    text = describe_finding(compare_arms(record()))
    assert text.startswith("On digits, with 5 paired seeds per arm: ")
    assert "[supported]" in text
    assert text.endswith("Ablation study depth, protocol digits, run 3b5d0c, 2026-03-01.")


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ({("B", 1): "absent"}, "with 4 to 5 of 5 planned pairs of seeds complete: "),
        ({(arm, 1): "absent" for arm in ARMS}, "with 4 of 5 planned pairs of seeds complete: "),
    ],
)
def test_the_sentence_to_cite_counts_the_pairs_that_there_are(states, words):
    assert words in describe_finding(compare_arms(record(states=states)))


def test_a_study_of_one_arm_has_seeds_and_no_pairs():
    text = describe_finding(compare_arms(record(arms=("A",), states={("A", 1): "failed"}, claims=())))
    assert "with 4 of 5 planned seeds: " in text


def test_the_methods_say_what_failed_and_what_was_registered():
    study = record(states={("B", 1): "non-finite"})
    text = describe_methods(compare_arms(study))
    assert "baseline A), which differed in network.stages alone" in text
    assert "3 claims and a smallest effect of interest of 0.5 percentage points were registered." in text
    assert "1 trial without a test error (non-finite, at chance or failed)" in text
    assert "1,293 training" in text


def test_there_is_nothing_to_cite_before_a_trial_has_finished():
    states = {(arm, seed): "running" for arm in "AB" for seed in range(2)}
    assert citation_section(compare_arms(record(arms=("A", "B"), seeds=2, states=states))).is_empty


LAYERS = {
    "A": (
        ("stage1.conv1", "Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))"),
        ("stage1.relu1", "ReLU(inplace=True)"),
        ("pool1", "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)"),
        ("head", "Linear(in_features=8, out_features=10, bias=True)"),
    ),
    "B": (
        ("stage1.conv1", "Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))"),
        ("stage1.relu1", "ReLU(inplace=True)"),
        ("stage1.conv2", "Conv2d(8, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))"),
        ("stage1.norm2", "BatchNorm2d(8, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)"),
        ("stage1.relu2", "ReLU(inplace=True)"),
        ("pool1", "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)"),
        ("head", "Linear(in_features=8, out_features=10, bias=True)"),
    ),
}


def test_architectures_stand_side_by_side_with_what_differs_marked():
    table = architectures_table(registration(arms=("A", "B", "C"), layers=LAYERS | {"C": LAYERS["A"]}))
    assert [column.title for column in table.columns] == ["Layer", "A and C", "B"]
    assert [[(cell.text, cell.mark) for cell in row] for row in table.rows] == [
        [("stage1.conv1", ""), ("Conv2d 3→8, 3×3, ReLU", ""), ("Conv2d 3→8, 3×3, ReLU", "")],
        [("stage1.conv2", ""), ("", ""), ("Conv2d 8→8, 3×3, BatchNorm2d, ReLU", "*")],
        [("pool1", ""), ("MaxPool2d 2×2", ""), ("MaxPool2d 2×2", "")],
        [("head", ""), ("Linear 8→10", ""), ("Linear 8→10", "")],
    ]
    assert table.notes == ("* differs from A.",)


def test_a_layer_that_an_arm_lacks_is_absent():
    table = architectures_table(registration(arms=("B", "A"), layers=LAYERS))
    assert [row[2].text for row in table.rows][1] == "absent"


def test_arms_of_one_network_and_older_records_have_no_table_of_architectures():
    assert architectures_table(registration(arms=("A", "B"))) is None
    assert architectures_table(registration(arms=("A", "B"), layers=dict.fromkeys("AB", LAYERS["A"]))) is None


def test_layers_survive_storage_and_leave_the_digest_as_it_was():
    plain, detailed = registration(arms=("A", "B")), registration(arms=("A", "B"), layers=LAYERS)
    stored = json.loads(json.dumps(registration_to_json(detailed)))
    assert registration_from_json(stored) == detailed
    assert "layers" not in registration_to_json(plain)
    assert declaration_of(stored) == declaration_of(registration_to_json(plain))
