"""Spread, shape and correlation of trainings."""

import numpy as np
import pytest
from scipy import stats

from reports.calibration.noise import measure_arm_noise, measure_paired_noise, one_mode_p_value


def test_deviation_and_skewness_are_those_of_scipy():
    errors = np.random.default_rng(0).gamma(2, size=150)
    noise = measure_arm_noise("A", errors, np.random.default_rng(1))
    assert noise.deviation.value == pytest.approx(errors.std(ddof=1))
    assert noise.skewness.value == pytest.approx(stats.skew(errors))
    assert noise.deviation.low < noise.deviation.value < noise.deviation.high
    assert noise.shape == "skewed to high errors"


def test_two_clusters_of_trainings_are_more_than_one_mode():
    random = np.random.default_rng(0)
    clusters = np.concatenate([random.normal(5, 0.5, size=60), random.normal(9, 0.5, size=60)])
    assert one_mode_p_value(clusters, random) < 0.05
    assert one_mode_p_value(random.normal(5, 0.5, size=120), random) > 0.05
    assert one_mode_p_value(np.full(20, 5.0), random) == 1.0


def test_pairing_halves_the_variance_of_a_difference_at_a_correlation_of_a_half():
    random = np.random.default_rng(0)
    errors = random.normal(size=(4, 4000)) + random.normal(size=4000)
    noise = measure_paired_noise(errors[:, :400], random)
    assert noise.correlation.low < 0.5 < noise.correlation.high
    assert noise.deviation.value / noise.unpaired_deviation == pytest.approx(np.sqrt(0.5), abs=0.05)
