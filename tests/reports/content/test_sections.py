"""Errors by class, and what can be cited. Made-up numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reports.analysis.classes.confusions import summarize_confusions
from reports.comparison.comparison import compare_arms
from reports.content.sections.citation import citation_section, describe_finding, describe_methods
from reports.content.sections.confusions import confusions_section
from reports.figures.confusions import MAX_CLASSES, confusions_figure
from tests.reports.records import record


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
