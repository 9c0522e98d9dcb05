"""The caution on arms that correlate unequally over seeds. Made-up numbers."""

from dataclasses import replace

import numpy as np

from reports.comparison.comparison import compare_arms
from tests.reports.records import record

SIX_ARMS = ("A", "B", "C", "D", "E", "F")


def study_of_correlated_arms(seeds, *, baseline_is_independent):
    """Six arms whose errors rise and fall together over seeds, the baseline with them or by itself."""
    study = record(SIX_ARMS, seeds, claims=())
    random = np.random.default_rng(4)
    common, own = random.normal(size=(2, seeds))
    trials = []
    for trial in study.trials:
        is_alone = trial.arm == "A" and baseline_is_independent
        error = 9 + (own if is_alone else common)[trial.seed] + 0.2 * random.normal()
        metrics = {**trial.result.metrics, "test_error": float(error)}
        trials.append(replace(trial, result=replace(trial.result, metrics=metrics)))
    return replace(study, trials=tuple(trials))


def cautions(study):
    return [caution for caution in compare_arms(study).cautions if caution.startswith("Unequal correlation over seeds")]


def test_a_baseline_that_does_not_correlate_with_the_other_arms_is_told():
    (caution,) = cautions(study_of_correlated_arms(5, baseline_is_independent=True))
    assert "times the variance that arms of equal noise and correlation would give them" in caution
    assert "9% with three and 8% with five" in caution


def test_arms_that_correlate_alike_raise_no_caution():
    assert cautions(study_of_correlated_arms(5, baseline_is_independent=False)) == []


def test_ten_seeds_need_no_caution():
    assert cautions(study_of_correlated_arms(10, baseline_is_independent=True)) == []
