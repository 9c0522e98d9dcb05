"""Arms that train nothing: what they tested, example by example, what it cost, and whose training it was. Made up."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar

from ablations import Helps
from reports.comparison.comparison import compare_arms
from reports.content.report import report_sections
from reports.figures.study import report_figures
from reports.renderers import csv as csv_tables
from reports.renderers import html, latex, markdown
from studies.records.serialization import registration_from_json, registration_to_json
from tests.reports.records import labels, record

ARMS, NETWORK = ("one crop", "dense"), "donor of one crop"


def evaluated(trained="finished", **fields):
    """Two ways to test one trained network, under three seeds."""
    states = {(NETWORK, 1): trained} | ({(arm, 1): trained for arm in ARMS} if trained == "at chance" else {})
    study = record((*ARMS, NETWORK), 3, states)
    trials = tuple(each if each.arm == NETWORK else as_test(each) for each in study.trials)
    registered = replace(
        study.registration,
        arms=ARMS,
        varies=("test.mode",),
        forced={},
        changes={"dense": ()},
        built={"dense": ()},
        properties={"one crop": {"multiply_adds": 1_000_000}, "dense": {"multiply_adds": 4_000_000}},
        property_studied="multiply_adds",
        claims=(Helps(arm="dense", over="one crop"),),
        reference=None,
        tested=dict.fromkeys(ARMS, (NETWORK,)),
        **fields,
    )
    return replace(study, registration=registered, trials=trials)


def as_test(trial):
    evidence = {"donors": f"{NETWORK}-{trial.seed}", "tested": f"weights-{trial.seed}"}
    cost = {"inference_images_per_second": 500.0, "inference_multiply_adds": 1e6, "inference_peak_memory_bytes": 1e6}
    metrics = {name: value for name, value in trial.result.metrics.items() if name.startswith("test_")}
    metrics |= {"test_top5_error": metrics["test_error"] / 4} if metrics else {}
    result = replace(trial.result, curves={}, times=(), metrics=metrics, cost=cost, evidence=evidence)
    return replace(trial, result=result)


def table(study, name):
    comparison = compare_arms(study)
    found = [table for section in report_sections(comparison, ()) for table in section.tables if table.name == name]
    return found[0] if found else None


def test_every_seed_compares_the_two_predictions_example_by_example():
    study = evaluated()
    shown = table(study, "examples")
    assert [(row[0].text, row[1].text) for row in shown.rows] == [("dense", "0"), ("dense", "1"), ("dense", "2")]
    for seed, row in enumerate(shown.rows):
        first, second = (study.find_trial(arm, seed).result.predictions != labels() for arm in ARMS)
        only_first, only_second = int(np.sum(first & ~second)), int(np.sum(second & ~first))
        assert (row[2].text, row[3].text) == (str(only_first), str(only_second))
        assert row[4].sort == pytest.approx(100 * (only_first - only_second) / len(labels()))
        both = [[np.sum(~first & ~second), only_second], [only_first, np.sum(first & second)]]
        assert row[5].sort <= mcnemar(both, exact=True).pvalue
        assert row[5].sort == pytest.approx(mcnemar(both, exact=True).pvalue, abs=0.2)


def test_a_study_whose_arms_all_train_has_no_such_table():
    assert table(record(), "examples") is None
    assert compare_arms(record()).paired_examples == ()


def test_the_arms_table_tells_the_top_5_error_and_what_a_test_costs():
    shown = table(evaluated(), "results")
    titles = [(column.title, column.unit) for column in shown.columns]
    assert titles[4:] == [("Top-5 error", "%"), ("Multiply-adds", "M"), ("Test throughput", "images/s")]
    assert [cell.text for cell in shown.rows[1]][5:] == ["4.00", "500"]
    assert "Top-5 error" not in [column.title for column in table(record(), "results").columns]


def test_the_training_is_charged_to_nobody_and_told_once():
    shown = table(evaluated(), "cost")
    assert [column.title for column in shown.columns] == ["Arm", "Inference", "Inference memory"]
    assert shown.notes[-1] == (
        "one crop and dense train nothing and evaluate the network of donor of one crop, trained under the same seed "
        "once for all arms: that training is charged to none of them."
    )
    networks = table(evaluated(), "donors")
    assert networks.caption == "Evaluated networks"
    assert [row[0].text for row in networks.rows] == [NETWORK] * 3


def checks(study):
    return {check.subject: (check.state, check.finding) for check in compare_arms(study).integrity_checks}


def test_the_report_checks_that_all_arms_tested_the_same_networks_to_the_bit():
    told = f"those of {NETWORK} as trained under the same seed, bit for bit, under 3 seeds"
    assert checks(evaluated()) == {f"Networks evaluated in {arm}": ("kept", told) for arm in ARMS}


@pytest.mark.parametrize("changed", [{"tested": "others"}, {"donors": "somebody else's"}])
def test_an_arm_that_tested_another_network_breaks_the_pairing(changed):
    study = evaluated()
    trials = tuple(
        replace(each, result=replace(each.result, evidence={**each.result.evidence, **changed}))
        if (each.arm, each.seed) == ("dense", 1)
        else each
        for each in study.trials
    )
    broken = compare_arms(replace(study, trials=trials))
    finding = f"not those of {NETWORK} as this record and the other arms have them, under seed 1"
    assert checks(replace(study, trials=trials))["Networks evaluated in dense"] == ("broken", finding)
    assert f"The pairing is broken: dense evaluated networks that are {finding}." in broken.cautions


def test_an_ensemble_beside_the_arms_that_it_tests_leaves_their_own_checks_alone():
    study = record(("A", "B", "A and B"), 3)
    pair = {"donors": "A-{0},B-{0}", "tested": "a-{0},b-{0}"}
    trials = tuple(
        replace(as_test(each), result=replace(as_test(each).result, evidence={
            name: text.format(each.seed) for name, text in pair.items()
        })) if each.arm == "A and B" else each
        for each in study.trials
    )  # fmt: skip
    study = replace(
        study, trials=trials, registration=replace(study.registration, tested={"A and B": ("A", "B")}, claims=())
    )
    found = checks(study)
    assert found["Data order"] == ("kept", "equal to the baseline's in every arm that trains, under 3 seeds")
    assert found["Networks evaluated in A and B"][0] == "kept"
    assert {pair.arm for pair in compare_arms(study).paired_examples} == {"A and B"}
    assert compare_arms(study).dependencies == ()


def test_a_network_at_chance_is_named_with_the_arms_that_test_it():
    study = compare_arms(evaluated(trained="at chance"))
    assert f"{NETWORK} is at chance under seed 1; one crop and dense evaluate it." in study.cautions
    why = {failure.reason for failure in study.failures if failure.arm in ARMS}
    assert why == {"evaluates a network that is at chance"}


def test_the_csv_files_have_the_top_5_error_and_the_tested_networks():
    comparison = compare_arms(evaluated())
    arms = list(csv.DictReader(io.StringIO(csv_tables.arms_csv(comparison))))
    assert float(arms[0]["test_top5_error_percent"]) == pytest.approx(float(arms[0]["test_error_percent"]) / 4)
    trials = list(csv.DictReader(io.StringIO(csv_tables.trials_csv(comparison))))
    assert {row["donor_of"] for row in trials if row["arm"] == NETWORK} == {"one crop, dense"}
    assert "test_top5_error" not in csv_tables.trials_csv(compare_arms(record()))


def test_every_renderer_shows_it():
    comparison = compare_arms(evaluated())
    drawn = report_figures(comparison)
    for text in (
        html.render_report(comparison, drawn),
        markdown.render_report(comparison, drawn),
        latex.render_report(comparison, drawn),
    ):
        assert "Paired predictions by seed" in text
    assert "learning" not in [figure.name for figure in drawn]


def test_a_cost_that_spans_decades_is_told_in_plain_numbers():
    study = evaluated()
    spread = {"one crop": {"multiply_adds": 10_000_000}, "dense": {"multiply_adds": 900_000_000}}
    drawn = report_figures(compare_arms(replace(study, registration=replace(study.registration, properties=spread))))
    (panel,) = [panel for figure in drawn for panel in figure.panels if panel.name == "cost-multiply-adds"]
    assert "mathdefault" not in panel.svg.decode()


def test_what_is_tested_survives_the_registrations_json():
    registered = evaluated().registration
    assert registration_from_json(registration_to_json(registered)) == registered
    older = {name: value for name, value in registration_to_json(registered).items() if name != "tested"}
    assert registration_from_json(older).tested == {}
