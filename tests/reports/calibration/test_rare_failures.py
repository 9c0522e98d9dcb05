"""Trainings that fail now and then: found among many, told in the report of a study of few."""

import numpy as np
import pytest

from reports.calibration.rare_failures import find_rare_failures, rare_failure_cautions
from reports.comparison.comparison import compare_arms
from tests.reports.records import record, trial


def test_failures_are_those_beyond_eight_robust_deviations():
    usual = np.random.default_rng(0).normal(5, 1, size=187)
    failures = find_rare_failures(np.concatenate([usual, np.full(13, 40.0), [np.nan] * 3]))
    assert (failures.num_failures, failures.num_trainings) == (13, 200)
    assert failures.median == pytest.approx(5, abs=0.3)
    assert failures.limit == pytest.approx(13, abs=1.5)


def test_the_share_of_studies_without_a_failure_is_that_of_drawn_studies():
    errors = np.concatenate([np.random.default_rng(0).normal(5, 1, size=187), np.full(13, 40.0)])
    failures = find_rare_failures(errors)
    drawn = np.random.default_rng(1).choice(errors, size=(20_000, 8))
    share = (drawn <= failures.limit).all(axis=1).mean()
    assert failures.probability_of_none(8) == pytest.approx(share, abs=0.015)


@pytest.mark.parametrize(
    "errors",
    [
        np.random.default_rng(0).normal(5, 1, size=400),
        np.random.default_rng(0).gamma(2, size=400) / 4,  # skewed, as errors near 0 are
        np.array([5.0] * 20 + [60.0]),  # too few trainings to say how often
        np.array([5.0] * 150 + [60.0] * 10),  # no spread that would tell what is usual
        np.full(100, np.nan),
    ],
    ids=["normal", "skewed", "few", "equal", "none"],
)
def test_ordinary_noise_is_no_failure(errors):
    assert find_rare_failures(errors) is None


@pytest.fixture(scope="module")
def calibration():
    """Sixty seeds of two arms, of which B fails under three."""
    errors = 5 + np.random.default_rng(0).normal(0, 0.5, size=(2, 60))
    errors[1, [7, 20, 41]] = 70
    trials = [trial(arm, seed, float(errors[row, seed])) for row, arm in enumerate("AB") for seed in range(60)]
    return record(arms=("A", "B"), seeds=60, trials=tuple(trials))


def test_the_report_of_a_study_warns_of_an_arm_that_fails_now_and_then(calibration):
    study = record(arms=("A", "B"), seeds=4)
    (caution,) = rare_failure_cautions(study, calibration)
    assert caution.startswith("B fails now and then")
    assert "3 of 60 above" in caution
    assert f"{(57 / 60) ** 4:.0%} contain no such training" in caution
    assert compare_arms(study, [caution]).cautions == (caution, *compare_arms(study).cautions)


def test_arms_that_a_study_lacks_are_not_told(calibration):
    assert not list(rare_failure_cautions(record(arms=("A", "D"), seeds=4), calibration))
