"""The worst verdict, and its exit code."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ablations import Helps, HelpsBy
from reports.comparison.comparison import compare_arms
from reports.external.judgement import judge
from reports.pages.gate_outcome import gate_comparison, gate_judgement
from reports.pages.verdict_json import describe_gate
from tests.reports.records import record


def table(means, noise=0.05, seeds=5):
    random = np.random.default_rng(1)
    shared = random.normal(0, 0.3, seeds)
    rows = []
    for arm, mean in means.items():
        values = mean + shared + random.normal(0, noise, seeds)
        rows += [{"arm": arm, "seed": seed, "error": value} for seed, value in enumerate(values)]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("means", "options", "word", "code"),
    [
        ({"A": 10, "B": 9}, {}, "supported", 0),
        ({"A": 10, "B": 11}, {}, "contradicted", 10),
        ({"A": 10, "B": 10}, {}, "practically equivalent", 11),
        ({"A": 10, "B": 10}, {"noise": 2}, "inconclusive", 20),
        ({"A": 10, "B": 9}, {"seeds": 1}, "not judged", 30),
        ({"A": 10, "B": 9, "C": 11}, {}, "contradicted", 10),
        ({"A": 10, "B": 9, "C": 10}, {}, "practically equivalent", 11),
    ],
)
def test_the_exit_code_is_that_of_the_worst_verdict(means, options, word, code):
    outcome = gate_judgement(judge(table(means, **options), smallest_effect=0.4))
    assert (outcome.word, outcome.exit_code) == (word, code)
    assert "\n" not in outcome.sentence


def test_equivalence_passes_where_it_is_accepted_or_claimed():
    judgement = judge(table({"A": 10, "B": 10}), smallest_effect=0.4)
    assert gate_judgement(judgement).exit_code == 11
    assert gate_judgement(judgement, accept_equivalent=True).exit_code == 0
    claimed = judge(table({"A": 10, "B": 10}), smallest_effect=0.4, claims=["B does not help over A"])
    assert gate_judgement(claimed).exit_code == 0
    worse = judge(table({"A": 10, "B": 10, "C": 11}), smallest_effect=0.4)
    assert gate_judgement(worse, accept_equivalent=True).exit_code == 10


def test_an_inconclusive_verdict_tells_the_seeds_that_it_takes():
    outcome = gate_judgement(judge(table({"A": 10, "B": 9.9}, noise=0.5), smallest_effect=0.5))
    assert outcome.exit_code == 20
    assert outcome.seeds_needed > 5
    assert f"It would take about {outcome.seeds_needed} seeds per arm." in outcome.sentence


def test_a_difference_that_is_too_small_to_find_is_said_to_be_so():
    outcome = gate_judgement(judge(table({"A": 10, "B": 10}, noise=3), smallest_effect=0.05))
    assert outcome.seeds_needed is None
    assert outcome.sentence.endswith("It would take more than 500 seeds per arm.")


def test_the_seeds_of_a_claim_follow_from_the_noise_of_its_own_endpoint():
    study = record(arms=("A", "B"), claims=(Helps(arm="B", over="A", endpoint="time"),))
    random = np.random.default_rng(3)
    trials = []
    for trial in study.trials:
        seconds = 100 + random.normal(0, 4)
        metrics = {**trial.result.metrics, "test_error": 9 + 0.01 * trial.seed}  # errors without noise of their own
        result = replace(trial.result, metrics=metrics, cost={**trial.result.cost, "train_seconds": seconds})
        trials.append(replace(trial, result=result))
    noisy = replace(study, trials=tuple(trials))
    outcome = gate_comparison(noisy, compare_arms(noisy))
    assert outcome.word == "inconclusive"
    # A difference of 5% at an SD of 4·√2 seconds, taken at its upper limit.
    assert 10 < outcome.seeds_needed < 120


def test_a_claim_with_a_margin_of_its_own_takes_the_seeds_of_that_margin():
    needed = []
    for within in (3.0, 2.0):
        random = np.random.default_rng(1)
        study = record(arms=("A", "B"), claims=(HelpsBy(arm="B", over="A", by=0.0, within=within),))
        trials = []
        for trial in study.trials:
            metrics = {**trial.result.metrics, "test_error": 10 + random.normal(0, 3)}
            trials.append(replace(trial, result=replace(trial.result, metrics=metrics)))
        noisy = replace(study, trials=tuple(trials))
        outcome = gate_comparison(noisy, compare_arms(noisy))
        assert outcome.word == "inconclusive"
        needed.append(outcome.seeds_needed)
    assert 5 < needed[0] < needed[1]


def test_a_study_is_gated_on_its_registered_claims():
    study = record()
    outcome = gate_comparison(study, compare_arms(study))
    words = {claim.word for claim in compare_arms(study).claims}
    assert {claim.word for claim in outcome.claims} == words
    assert outcome.exit_code == {"contradicted": 10, "inconclusive": 20, "supported": 0}[outcome.word]


@pytest.mark.parametrize("changes", [{"seeds": 1}, {"trials": ()}])
def test_a_study_of_one_seed_or_without_results_is_not_judged(changes):
    study = record(**changes)
    outcome = gate_comparison(study, compare_arms(study))
    assert (outcome.word, outcome.exit_code) == ("not judged", 30)


def test_the_json_has_the_outcome_and_all_claims():
    described = describe_gate(gate_judgement(judge(table({"A": 10, "B": 9, "C": 10.9}), smallest_effect=0.4)), "x.csv")
    assert described["exit_code"] == 10
    assert [claim["word"] for claim in described["claims"]] == ["supported", "contradicted"]
