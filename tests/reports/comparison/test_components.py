"""Generated designs in a report: what each component contributes, and the same verdicts as without the design."""

import csv
import io
import json
import math
from dataclasses import replace

import pytest

from ablations import AddOne, AllOf, Arm, Component, Helps
from lightning_modules.catalogue import VGG_A
from reports.comparison.comparison import compare_arms
from reports.figures.components import components_figure
from reports.figures.study import report_figures
from reports.pages.study import render_documents
from reports.renderers import latex, markdown
from studies.records.serialization import registration_from_json, registration_to_json
from tests.reports.records import LEFT_OUT, LEFT_OUT_ERRORS, STEP_ARMS, STEP_ERRORS, STEPS, crossed, designed

KINDS = ("step-by-step", "leave-one-out")


def without_design(record):
    """The same study, written by hand."""
    return replace(record, registration=replace(record.registration, design=None))


@pytest.mark.parametrize("kind", KINDS)
def test_the_verdicts_are_those_of_a_hand_written_study(kind):
    generated, twin = compare_arms(designed(kind)), compare_arms(without_design(designed(kind)))
    assert generated.claims == twin.claims
    assert generated.differences == twin.differences
    assert twin.components is None


@pytest.mark.parametrize("kind", KINDS)
def test_the_contribution_of_a_component_is_the_difference_that_its_claim_reads(kind):
    compared = compare_arms(designed(kind))
    found = {(each.over, each.arm): each.estimate for each in compared.differences}
    for effect, claim in zip(compared.components.effects, compared.claims, strict=True):
        assert effect.estimate == found[effect.contrast.over, effect.contrast.arm]
        assert effect.word == claim.word
        assert (effect.num_pairs, effect.num_planned) == (5, 5)


def test_a_component_that_helps_has_a_positive_contribution():
    steps = compare_arms(designed("step-by-step")).components
    means = list(STEP_ERRORS.values())
    for effect, before, after in zip(steps.effects, means, means[1:], strict=False):
        assert effect.estimate.value == pytest.approx(before - after, abs=0.4)
    left_out = compare_arms(designed("leave-one-out")).components
    for effect, name in zip(left_out.effects, LEFT_OUT, strict=True):
        worse = LEFT_OUT_ERRORS[f"without {name}"] - LEFT_OUT_ERRORS["full"]
        assert effect.estimate.value == pytest.approx(worse, abs=0.4)


def test_each_component_is_told_with_what_it_alone_changes():
    steps = compare_arms(designed("step-by-step")).components
    assert [effect.changes for effect in steps.effects] == [(f"recipe.part_{n}: yes → no",) for n in (1, 2, 3)]
    left_out = compare_arms(designed("leave-one-out")).components
    assert [effect.changes for effect in left_out.effects] == [(f"recipe.part_{n}: no → yes",) for n in (1, 2, 3)]


def test_the_report_has_a_section_with_the_table_and_the_figure():
    compared = compare_arms(designed("step-by-step"))
    text = markdown.render_report(compared, report_figures(compared))
    assert "## Step by step from VGG-D to residual network" in text
    assert "| batch norm | +2.35 \\[2.08, 2.63\\] | supported |" in text
    assert "Complete pairs" not in text.partition("## What changed")[0].partition("## Step by step")[2]
    section = text.partition("## Step by step")[2].partition("\n## ")[0]
    assert "component-ladder.svg" in section
    assert "component-effects.svg" in section
    assert r"\section*{Step by step from VGG{-}D to residual network}" in latex.render_report(compared, ())


def test_missing_pairs_are_shown():
    states = {("batch norm (step 1)", 1): "non-finite"}
    compared = compare_arms(designed("step-by-step", states=states))
    text = markdown.render_report(compared, ())
    assert "| 4 of 5 |" in text.partition("## Step by step")[2]


def test_a_ladder_is_drawn_for_steps_alone():
    (ladder, bars) = components_figure(compare_arms(designed("step-by-step"))).panels
    assert [arm in ladder.alternative for arm in STEP_ARMS] == [True] * 4
    assert [name in bars.alternative for name in STEPS] == [True] * 3
    assert "batch norm" in ladder.inline
    assert [mark.label for mark in ladder.marks] == ["VGG-D", *STEPS]
    assert bars.marks[0].text == "+2.35 [2.08, 2.63] points"
    (bars,) = components_figure(compare_arms(designed("leave-one-out"))).panels
    order = [bars.alternative.index(name) for name in ("dropout", "momentum", "weight decay")]
    assert order == sorted(order)  # the largest first
    assert bars.inline
    assert components_figure(compare_arms(crossed())) is None


def test_arms_without_any_result_have_a_table_and_no_figure():
    states = {(arm, seed): "failed" for arm in STEP_ARMS for seed in range(5)}
    compared = compare_arms(designed("step-by-step", states=states))
    assert all(math.isnan(effect.estimate.value) for effect in compared.components.effects)
    assert components_figure(compared) is None
    assert "## Step by step" in markdown.render_report(compared, ())


def test_components_csv_has_a_row_per_component():
    documents = render_documents(compare_arms(designed("leave-one-out")), ())
    rows = list(csv.DictReader(io.StringIO(documents["components.csv"])))
    assert [row["component"] for row in rows] == list(LEFT_OUT)
    assert (rows[0]["over"], rows[0]["arm"], rows[0]["verdict"]) == ("without momentum", "full", "supported")
    assert "components.csv" not in render_documents(compare_arms(without_design(designed())), ())


def test_a_design_is_registered_and_read_back():
    registration = designed("leave-one-out").registration
    assert (
        registration_from_json(json.loads(json.dumps(registration_to_json(registration)))).design == registration.design
    )
    plain = registration_to_json(replace(registration, design=None))
    assert "design" not in plain  # whose digest is then what it was before there were designs
    assert registration_from_json(plain).design is None


def test_an_arm_added_to_the_base_is_the_one_with_the_component():
    design = AddOne(
        question="Which helps?",
        base=Arm("VGG", {"network": VGG_A}),
        components=(Component("batch norm", {"network.norm": "batch"}),),
    ).design
    assert (design.title, design.arms) == ("Add one to VGG", ("VGG", "with batch norm"))


def test_a_conjunction_over_other_endpoints_adds_nothing_to_a_contribution():
    made = designed("leave-one-out")
    contrast = made.registration.design.contrasts[0]
    pair = {"arm": contrast.arm, "over": contrast.over}
    both = AllOf(parts=(Helps(**pair), Helps(**pair, endpoint="memory")))
    claims = (*made.registration.claims, both)
    compared = compare_arms(replace(made, registration=replace(made.registration, claims=claims)))
    for found, alone in zip(compared.components.effects, compare_arms(made).components.effects, strict=True):
        assert found.estimate.value == alone.estimate.value  # points of error, not MiB
        assert found.word in ("supported", "contradicted", "practically equivalent", "inconclusive")
