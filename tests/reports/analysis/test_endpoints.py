"""What diverged trials still say: a gradient, a share, a cost. Made-up numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from ablations import FallsWith, Helps
from reports.analysis.endpoints import endpoint_values, lost_to_divergence, source_train_seconds, value_resolution
from reports.comparison.comparison import compare_arms
from reports.renderers import markdown
from tests.reports.records import DONOR, record, started

STUCK = {("E", seed): "at chance" for seed in range(5)}


def edited(study, arm, seed, **fields):
    trials = tuple(
        replace(each, result=replace(each.result, **fields)) if (each.arm, each.seed) == (arm, seed) else each
        for each in study.trials
    )
    return replace(study, trials=trials)


def claimed(*claims, **options):
    return record(claims=claims, **options)


def test_the_gradient_of_a_trial_stuck_at_chance_is_known():
    study = record(states=STUCK)
    curve = next(
        value for name, value in study.find_trial("E", 2).result.curves.items() if name.startswith("gradient_norm/")
    )
    assert endpoint_values(study, "gradient_norm")[3, 2] == pytest.approx(np.mean(curve))
    assert np.isnan(endpoint_values(study, "test_error")[3]).all()
    assert not lost_to_divergence(study, "gradient_norm").any()
    assert lost_to_divergence(study, "test_error")[3].all()


@pytest.mark.parametrize("name", ["train_loss", "gradient_norm/stage1.conv1"])
def test_a_diverged_trial_whose_loss_or_gradient_is_no_number_has_no_gradient(name):
    study = record(states=STUCK)
    curves = study.find_trial("E", 2).result.curves
    study = edited(study, "E", 2, curves={**curves, name: (*curves[name][:-1], math.nan)})
    assert math.isnan(endpoint_values(study, "gradient_norm")[3, 2])
    assert lost_to_divergence(study, "gradient_norm").sum() == 1


def test_a_failed_trial_has_no_gradient():
    assert math.isnan(endpoint_values(record(states={("E", 2): "failed"}), "gradient_norm")[3, 2])


def test_gradients_that_starve_networks_answer_a_claim_about_gradients():
    (judged,) = compare_arms(claimed(FallsWith(order=("A", "E"), endpoint="gradient_norm"), states=STUCK)).claims
    assert judged.word == "supported"
    assert not any("did not train" in note for note in judged.all_notes)


def test_a_claim_about_errors_stays_without_an_answer_where_the_arm_is_stuck():
    (judged,) = compare_arms(claimed(FallsWith(order=("A", "E")), states=STUCK)).claims
    assert judged.word == "inconclusive"


def test_a_diverged_donor_is_charged():
    study = started(states={(DONOR, 1): "at chance"})
    seconds = study.find_trial(DONOR, 1).result.cost["train_seconds"]
    assert source_train_seconds(study)[1, 1] == seconds
    assert endpoint_values(study, "time")[1, 1] == study.find_trial("warm", 1).result.cost["train_seconds"] + seconds


def test_an_arm_whose_donors_all_diverged_has_a_cost():
    compared = compare_arms(started(states={(DONOR, seed): "at chance" for seed in range(3)}))
    assert math.isfinite(compared.arms[1].train_seconds.median)


def test_the_table_of_donors_shows_the_error_and_the_seconds_of_a_diverged_one():
    study = edited(started(states={(DONOR, 1): "at chance"}), DONOR, 1, metrics={"test_error": 90.0})
    seconds = study.find_trial(DONOR, 1).result.cost["train_seconds"]
    assert f"| {DONOR} | 1 | at chance | 90.00 | {seconds:.1f} |" in markdown.render_report(compare_arms(study), ())


@pytest.mark.parametrize(("seeds", "said"), [(3, True), (4, False)])
def test_a_claim_on_trainability_that_no_outcome_could_decide_is_a_limit(seeds, said):
    study = claimed(Helps(arm="B", over="A", endpoint="trainability"), seeds=seeds)
    expected = (
        "3 seeds cannot decide a claim on trainability, whatever happens: even if every seed of one arm trains and "
        "none of the other, Fisher's exact p is 0.1, and 0.05 is needed. It takes at least 4 seeds."
    )
    assert (expected in compare_arms(study).sensitivity) is said


def test_several_claims_on_trainability_need_more_seeds():
    study = claimed(*(Helps(arm=arm, over="A", endpoint="trainability") for arm in ("B", "D")), seeds=4)
    assert "and 0.025 is needed. It takes at least 5 seeds." in compare_arms(study).sensitivity[-1]


def test_without_a_claim_on_trainability_its_limit_is_not_told():
    assert not any("trainability" in sentence for sentence in compare_arms(record(seeds=2)).sensitivity)


def test_balanced_error_has_the_step_of_one_example_of_the_largest_class():
    counts = {"cat": {"train": 90, "test": 40}, "dog": {"train": 10, "test": 5}}
    registration = replace(record().registration, class_counts=counts)
    assert value_resolution(registration, "balanced_error") == 100 / (2 * 40)
    assert value_resolution(replace(registration, class_counts={}), "balanced_error") == 0
