"""What is no better than a constant answer is told, and gets no verdict. Made-up numbers."""

from dataclasses import replace

import numpy as np
import pytest

from ablations import Helps
from reports.analysis.chance import constant_answer, exceeds_chance
from reports.comparison.comparison import compare_arms
from tests.reports.records import record

RARE = np.repeat([0, 1, 2], [250, 2, 2]).astype(np.uint16)


def noise(num_arms, num_seeds, labels, random):
    """Predictions of networks that learned nothing of three equally frequent classes."""
    return [[random.integers(0, 3, len(labels)).astype(np.uint16) for _ in range(num_seeds)] for _ in range(num_arms)]


def test_the_constant_answer_follows_the_class_shares():
    constant = constant_answer(replace(record(), labels=RARE))
    assert (round(constant.error, 2), constant.counts) == (1.57, (250, 2, 2))


def test_the_constant_answer_does_not_beat_itself():
    assert not exceeds_chance(RARE, [np.zeros_like(RARE)])


def test_right_answers_on_rare_classes_count():
    assert exceeds_chance(RARE, [RARE])


def test_a_network_that_trades_the_largest_class_for_the_rare_ones_has_learned():
    labels = np.repeat([0, 1], [180, 20]).astype(np.uint16)
    weighted = labels.copy()
    weighted[:60] = 1  # a third of the large class is lost, every rare example is found
    assert np.mean(weighted != labels) > 0.1  # more than the constant answer
    assert exceeds_chance(labels, [weighted])


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_luck_rarely_passes_for_learning(num_seeds):
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 50).astype(np.uint16)
    studies = [noise(3, num_seeds, labels, random) for _ in range(400)]
    lucky = [any(exceeds_chance(labels, arm, 3) for arm in study) for study in studies]
    assert np.mean(lucky) <= 0.06


def test_a_study_at_chance_gets_no_verdict():
    study = record(arms=("A", "B"), seeds=3, states={(arm, seed): "at chance" for arm in "AB" for seed in range(3)})
    comparison = compare_arms(study)
    assert comparison.answer.startswith("Too short, or nothing to learn: no arm beats a constant answer")
    assert (
        "6 trials are at chance after 30 epochs (training error 89.5%, of a constant answer 90.0%)" in comparison.answer
    )
    assert {claim.word for claim in comparison.claims} == {"no verdict"}


def test_networks_that_fit_noise_get_no_verdict():
    study = record(arms=("A", "B"), seeds=3)
    random = np.random.default_rng(1)
    trials = []
    for trial in study.trials:
        classes = random.integers(0, 10, len(study.labels)).astype(np.uint16)
        error = 100 * float(np.mean(classes != study.labels))
        result = replace(trial.result, predictions=classes, metrics=trial.result.metrics | {"test_error": error})
        trials.append(replace(trial, result=result))
    comparison = compare_arms(replace(study, trials=tuple(trials)))
    assert comparison.answer.startswith("Too short, or nothing to learn")
    assert {claim.word for claim in comparison.claims} == {"no verdict"}


def test_one_arm_at_chance_does_not_withhold_the_verdicts():
    study = record(arms=("A", "B"), seeds=3, states={("B", seed): "at chance" for seed in range(3)})
    comparison = compare_arms(study)
    assert "no verdict" not in {claim.word for claim in comparison.claims}
    assert any("3 of 6 planned trials at chance after 30 epochs" in caution for caution in comparison.cautions)


def test_an_arm_that_has_not_ended_may_still_learn():
    states = {("A", 0): "at chance", ("A", 1): "at chance", ("B", 0): "running", ("B", 1): "absent"}
    assert not compare_arms(record(arms=("A", "B"), seeds=2, states=states)).answer.startswith("Too short")


def test_a_claim_on_cost_keeps_its_verdict():
    claims = (Helps(arm="B", over="A", endpoint="time"), Helps(arm="B", over="A"))
    study = record(arms=("A", "B"), seeds=3, claims=claims)
    labels = study.labels
    constant = np.zeros_like(labels)
    trials = tuple(replace(trial, result=replace(trial.result, predictions=constant)) for trial in study.trials)
    words = [claim.word for claim in compare_arms(replace(study, trials=trials)).claims]
    assert words[1] == "no verdict"
    assert words[0] != "no verdict"


def test_arms_with_equal_results_are_told():
    study = record(arms=("A", "B"), seeds=3)
    of_a = {trial.seed: trial.result for trial in study.trials if trial.arm == "A"}
    trials = tuple(replace(trial, result=of_a[trial.seed]) for trial in study.trials)
    comparison = compare_arms(replace(study, trials=trials))
    told = "A and B gave results that are equal bit for bit in every seed"
    assert any(caution.startswith(told) for caution in comparison.cautions)
    assert all(any(told in note for note in claim.all_notes) for claim in comparison.claims)


def test_arms_that_differ_in_one_seed_are_not_told():
    assert not any("equal bit for bit" in caution for caution in compare_arms(record(arms=("A", "B"))).cautions)
