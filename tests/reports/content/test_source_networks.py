"""Warm starts, foreign networks and caveats: charged, checked and said. Made-up numbers."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace

import numpy as np
import pytest

from ablations import AllOf, Difference, Helps
from reports.analysis.endpoints import endpoint_values, source_train_seconds
from reports.comparison.comparison import compare_arms
from reports.comparison.two_runs import compare_runs
from reports.pages.summary import summary_files
from reports.pages.two_runs import run_comparison_files
from reports.renderers import csv as csv_tables
from reports.renderers import html, latex, markdown
from tests.reports.records import CAVEAT, COPIED, CROSSED, DONOR, built, changes, crossed, record, started


def evidence(study, arm, seed, **entries):
    """The study with entries of a trial's evidence replaced."""
    trials = tuple(
        replace(each, result=replace(each.result, evidence={**each.result.evidence, **entries}))
        if (each.arm, each.seed) == (arm, seed)
        else each
        for each in study.trials
    )
    return replace(study, trials=trials)


def checks(study):
    return {check.subject: check for check in compare_arms(study).integrity_checks}


def test_the_donors_seconds_are_charged_to_whoever_starts_from_it():
    study = started()
    own = [study.find_trial("warm", seed).result.cost["train_seconds"] for seed in range(3)]
    donors = [study.find_trial(DONOR, seed).result.cost["train_seconds"] for seed in range(3)]
    assert list(endpoint_values(study, "time")[1]) == [
        mine + charged for mine, charged in zip(own, donors, strict=True)
    ]
    assert list(source_train_seconds(study)[0]) == [0.0, 0.0, 0.0]
    warm = compare_arms(study).arms[1]
    assert (warm.source_arms, warm.source_epochs) == ((DONOR,), 8)
    assert warm.train_seconds.median == pytest.approx(np.median(np.add(own, donors)))


def test_a_donor_whose_time_is_not_known_leaves_the_whole_unknown():
    study = started(states={(DONOR, 1): "absent"})
    assert math.isnan(endpoint_values(study, "time")[1, 1])


def test_an_arm_may_be_the_donor():
    study = started(donors={"warm": "cold"}, states={(DONOR, seed): "absent" for seed in range(3)})
    compared = compare_arms(study)
    assert compared.dependencies == ()
    assert compared.arms[1].donor_seconds.median == pytest.approx(compared.arms[0].train_seconds.median)


def test_the_cost_table_has_a_column_of_donors_only_where_there_are_donors():
    text = markdown.render_report(compare_arms(started()), ())
    assert "| Arm | Training, s | Source network, included, s | Throughput, images/s | Peak memory, MiB |" in text
    assert "| from scratch |" in text
    assert "(8 epochs) |" in text
    assert f"warm starts from the trained network of {DONOR} under the same seed; its 8 epochs are charged" in text
    assert "Source network" not in markdown.render_report(compare_arms(record()), ())


def test_a_donor_that_starts_from_another_one_brings_its_charge_along():
    first = f"donor of {DONOR}"
    study = started()
    older = [replace(trial, arm=first) for trial in study.trials if trial.arm == DONOR]
    chain = replace(study.registration, donors={"warm": DONOR, DONOR: first}, donor_epochs={"warm": 16, DONOR: 8})
    study = replace(study, registration=chain, trials=(*study.trials, *older))
    seconds = [study.find_trial(DONOR, seed).result.cost["train_seconds"] for seed in range(3)]
    assert list(source_train_seconds(study)[1]) == [2 * each for each in seconds]
    compared = compare_arms(study)
    assert {trial.arm for trial in compared.dependencies} == {DONOR, first}
    text = markdown.render_report(compared, ())
    assert f"from the trained network of {DONOR}, which starts from that of {first} under the same seed" in text
    assert "their 16 epochs are charged to it: Training includes the time of the source networks" in text
    lost = replace(
        study, trials=tuple(replace(each, state="failed") if each.arm == first else each for each in study.trials)
    )
    assert f"{first} failed under seeds 0, 1 and 2; warm starts from it." in compare_arms(lost).cautions


def test_arms_that_share_a_donor_share_its_note():
    both = ("warm", "foreign")
    shared = started(donors=dict.fromkeys(both, DONOR), donor_epochs=dict.fromkeys(both, 8))
    text = markdown.render_report(compare_arms(shared), ())
    assert f"warm and foreign start from the trained network of {DONOR}" in text


def test_donors_are_no_unregistered_arms_and_have_a_table_of_their_own():
    compared = compare_arms(started())
    assert not any("unregistered" in caution for caution in compared.cautions)
    assert len(compared.dependencies) == 3
    text = markdown.render_report(compared, ())
    assert "**Source networks**" in text
    assert f"| {DONOR} | 0 | finished |" in text
    assert "- Completed: 9 of 9 trials, 3 of 3 source networks" in text


def test_a_donor_that_was_lost_is_a_caution_and_a_failure():
    compared = compare_arms(started(states={(DONOR, 0): "non-finite", (DONOR, 2): "failed"}))
    assert f"{DONOR} is non-finite under seed 0; warm starts from it." in compared.cautions
    assert f"{DONOR} failed under seed 2; warm starts from it." in compared.cautions
    assert [(each.arm, each.seed) for each in compared.failures] == [(DONOR, 0), (DONOR, 2)]


def test_donors_trained_by_other_code_are_never_mixed_silently():
    study = started()
    trials = tuple(
        replace(each, result=replace(each.result, digests={**each.result.digests, "code": "0ther"}))
        if each.arm == DONOR
        else each
        for each in study.trials
    )
    assert any("different code" in caution for caution in compare_arms(replace(study, trials=trials)).cautions)


def test_donors_follow_the_planned_trials_in_the_table_of_trials():
    rows = list(csv.DictReader(io.StringIO(csv_tables.trials_csv(compare_arms(started())))))
    assert [(row["arm"], row["donor_of"]) for row in rows][8:10] == [("foreign", ""), (DONOR, "warm")]


def test_layers_copied_from_a_donor_start_otherwise_by_declaration():
    found = checks(started())
    assert found["Initial weights of warm"].state == "declared"
    assert found["Initial weights of warm"].finding.endswith("copied from a source network: layer0, layer1 and layer2")
    assert found["Start of warm"].state == "kept"


def test_a_copied_layer_excuses_no_other_one():
    study = evidence(started(), "warm", 1, **{"weights.layer5": "another"})
    assert checks(study)["Initial weights of warm"].state == "broken"
    (caution,) = (caution for caution in compare_arms(study).cautions if "pairing" in caution)
    assert caution == (
        "The pairing is broken: layers of warm start differently, and nothing that the arm changes explains it: layer5."
    )


def test_a_start_from_another_trial_than_the_donors_is_broken():
    study = evidence(started(), "warm", 1, donor="somebody else's")
    assert checks(study)["Start of warm"].state == "broken"
    assert any(
        caution == f"The pairing is broken: warm starts not from the trial of {DONOR} in this record, under seed 1."
        for caution in compare_arms(study).cautions
    )


@pytest.mark.parametrize("path", ["network.init", "network.kind", "network.class_path"])
def test_weights_that_an_arm_declares_to_draw_otherwise_are_declared(path):
    declared = {"B": (*changes("B"), Difference(path=path, before="a", after="b"))}
    study = evidence(record(("A", "B"), changes=declared), "B", 0, **{"weights.layer0": "another"})
    assert checks(study)["Initial weights of B"].state == "declared"


def test_layers_of_another_shape_start_otherwise_without_an_alarm():
    reshaped = (*built("B"), Difference(path="layer0", before="Linear 1", after="Linear 2"))
    study = evidence(record(("A", "B"), built={"B": reshaped}), "B", 0, **{"weights.layer0": "another"})
    found = checks(study)["Initial weights of B"]
    assert (found.state, found.finding.split("; ")[1]) == ("in part", "of another shape or scale: layer0")


def test_a_foreign_module_with_other_arguments_draws_in_another_order():
    declared = {"B": (Difference(path="network.init_args.depth", before=1, after=2),)}
    study = evidence(record(("A", "B"), changes=declared), "B", 0, **{"weights.layer0": "another"})
    found = checks(study)["Initial weights of B"]
    assert (found.state, found.finding.split("; ")[1]) == (
        "in part", "drawn in another order by an external module: layer0",
    )  # fmt: skip


def test_equal_weights_of_a_foreign_module_are_kept():
    declared = {"B": (Difference(path="network.init_args.depth", before=1, after=2),)}
    assert checks(record(("A", "B"), changes=declared))["Initial weights of B"].state == "kept"


def test_what_is_not_known_of_foreign_modules_stands_in_every_form():
    compared = compare_arms(started())
    for text in (
        html.render_report(compared, ()),
        markdown.render_report(compared, ()),
        latex.render_report(compared, ()),
    ):
        assert "Unknown properties of external modules" in text
        assert "Its receptive field cannot be measured: it calls functions on maps." in text


def test_a_caveat_stands_beside_the_verdict_in_every_form():
    compared = compare_arms(crossed())
    said = f"Not like for like: {CAVEAT}."
    assert compared.claims[0].caveats == (said,)
    assert f'<p class="caveat">{said}</p>' in html.render_report(compared, ())
    assert f"- {said}" in markdown.render_report(compared, ())
    assert said in latex.render_report(compared, ())


def test_a_caveat_stands_in_the_summary_and_beside_two_runs():
    study = crossed()
    said = f"Not like for like: {CAVEAT}."
    files = summary_files((compare_arms(study),))
    assert all(said in files[name].decode() for name in ("index.html", "summary.md", "summary.tex", "claims.csv"))
    other = replace(study, run_id="77aa")
    assert said in run_comparison_files(compare_runs(study, other))["rerun.md"].decode()


def test_caveats_of_the_parts_of_a_conjunction_are_said():
    first, second = (Helps(arm=arm, over=CROSSED[0], caveat=f"{arm} is odd") for arm in CROSSED[1:3])
    (claim,) = compare_arms(crossed(claims=(AllOf(parts=(first, second)),))).claims
    assert claim.caveats == tuple(f"Not like for like: {arm} is odd." for arm in CROSSED[1:3])


def test_inference_has_columns_only_where_some_trial_measured_it():
    assert "Inference, images/s | Inference memory, MiB |" in markdown.render_report(compare_arms(crossed()), ())
    assert "Inference" not in markdown.render_report(compare_arms(record()), ())


def test_copied_layers_are_named_in_the_change():
    text = markdown.render_report(compare_arms(started()), ())
    assert f"`WarmStart(network=Vgg(…), layers=({', '.join(COPIED)}))`" in text
