"""Confounded or unconfounded, by the contract's own rule. Made-up numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ablations import Difference
from reports.analysis.confounds import network_changes_between
from reports.comparison.comparison import compare_arms
from reports.figures.study import report_figures
from reports.renderers import csv, markdown
from tests.reports.records import record, registration

KNOWN = {
    "weight_layers": 11,
    "parameters": 9_000_000,
    "conv_parameters": 8_000_000,
    "multiply_adds": 7_600_000_000,
    "receptive_field": 150,
    "nonlinearities": 8,
}


def moved(after, studied=None, before=KNOWN):
    known = {"A": before, "X": after}
    return network_changes_between(registration(("A", "X"), properties=known, property_studied=studied), "A", "X")


def test_a_confounded_contrast_names_all_that_changed():
    found = moved(KNOWN | {"weight_layers": 13, "multiply_adds": 11_300_000_000})
    assert found.summary == "confounded (weight layers 11 → 13; multiply-adds 7.60 G → 11.3 G)"


def test_one_property_that_changed_alone_is_unconfounded():
    assert moved(KNOWN | {"weight_layers": 13}).summary == "unconfounded (weight layers 11 → 13)"


def test_less_than_five_percent_is_no_move():
    assert moved(KNOWN | {"parameters": 9_400_000}).summary == "unconfounded (nothing by more than 5%)"


def test_the_property_studied_does_not_excuse_two_others():
    after = KNOWN | {"weight_layers": 13, "multiply_adds": 11_300_000_000}
    assert moved(after, "weight_layers").confounding_status == "confounded"
    assert moved(KNOWN | {"weight_layers": 13}, "weight_layers").confounding_status == "unconfounded"


def test_what_is_not_known_of_one_side_is_said():
    after = {name: value for name, value in KNOWN.items() if name != "receptive_field"}
    found = moved(after)
    assert found.summary == "unconfounded, as far as known (nothing by more than 5%; not known of X: receptive field)"
    assert not found.is_known_unconfounded


def test_what_is_not_known_of_either_side_is_said_once():
    known = {name: value for name, value in KNOWN.items() if name not in ("receptive_field", "nonlinearities")}
    assert moved(known, before=known).unknown_notes == ("not known of A and X: receptive field and non-linearities",)


def test_networks_of_which_nothing_is_known_are_neither_clean_nor_a_bundle():
    assert moved({}).confounding_status == "not known"


def test_only_contrasts_that_are_not_clean_stand_beside_a_verdict():
    same = dict.fromkeys(("A", "B"), KNOWN)
    assert compare_arms(record(("A", "B"), properties=same)).claims[0].confounds == ()


def forced(changes, forced=("recipe.epochs",), arms=("A", "X"), after=KNOWN):
    known = dict.fromkeys(("A", "W", "X"), KNOWN) | {"X": after}
    reasons = dict.fromkeys(forced, "because")
    return network_changes_between(
        registration(("A", "W", "X"), properties=known, changes=changes, forced=reasons), *arms
    )


START = Difference(path="start.kind", before="Scratch", after="WarmStart")
LONGER = Difference(path="recipe.epochs", before=50, after=100)


def test_a_setting_that_was_forced_to_change_makes_a_bundle_and_is_named():
    found = forced({"X": (START, LONGER)})
    assert found.summary == "confounded (nothing by more than 5%; also recipe.epochs 50 → 100)"


def test_a_forced_setting_in_which_two_arms_agree_is_no_bundle():
    assert forced({"W": (LONGER,), "X": (START, LONGER)}, arms=("W", "X")).confounding_status == "unconfounded"


def test_a_forced_setting_that_only_the_other_arm_changes_goes_back():
    found = forced({"W": (LONGER,), "X": (START,)}, arms=("W", "X"))
    assert found.summary == "confounded (nothing by more than 5%; also recipe.epochs 100 → 50)"


def test_leaves_below_a_forced_path_are_told_on_one_line():
    widths = tuple(Difference(path=f"network.head.widths.{place}", before=512, after=256) for place in (0, 1))
    found = forced({"X": (START, *widths)}, forced=("network.head",))
    assert found.forced_settings == ("also network.head.widths.* 512 → 256",)


def test_a_path_that_only_begins_like_a_forced_one_is_none():
    change = Difference(path="recipe.epochs_before", before=1, after=2)
    assert forced({"X": (START, change)}).confounding_status == "unconfounded"


def test_a_forced_setting_makes_a_bundle_of_networks_of_which_nothing_is_known():
    unknown = {name: {} for name in ("A", "X")}
    study = registration(
        ("A", "X"), properties=unknown, changes={"X": (START, LONGER)}, forced={"recipe.epochs": "because"}
    )
    assert network_changes_between(study, "A", "X").confounding_status == "confounded"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"forced": {}},
            "Unconfounded: nothing changed besides weight layers, or exactly one measured property changed. ",
        ),
        (
            {"property_studied": None, "forced": {}},
            "Unconfounded: nothing changed, or exactly one measured property changed. ",
        ),
        ({}, "or exactly one measured property changed, and no setting was forced to change with it. "),
    ],
)
def test_the_rule_stands_under_the_table(fields, said):
    assert said in markdown.render_report(compare_arms(record(**fields)), ())


@pytest.mark.parametrize(
    ("studied", "said"),
    [
        ("weight_layers", "The property under study is weight layers: a change in it does not confound a contrast."),
        (None, "None of the properties that are measured on the networks is under study."),
    ],
)
def test_the_section_says_which_property_is_under_study(studied, said):
    assert said in markdown.render_report(compare_arms(record(property_studied=studied)), ())


def test_an_arm_without_some_properties_has_dashes_and_a_note():
    study = record(("A", "B"), seeds=2)
    foreign = {"weight_layers": 14, "parameters": 611_000}
    properties = {"A": study.registration.properties["A"], "B": foreign}
    compared = compare_arms(replace(study, registration=replace(study.registration, properties=properties)))
    drawn = report_figures(compared)
    text = markdown.render_report(compared, drawn)
    assert "| B | 14 | 611 | – | – | – |" in text
    assert "–: unknown for the network of B." in text
    assert "Unknown for B." in next(figure.caption for figure in drawn if figure.name == "receptive")
    assert ",14,611000,,,,," in csv.arms_csv(compared)
