import math

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar

from reports.statistics import compare_networks, noise_ratio


def networks(over_only, arm_only, both=20, neither=880):
    over = np.repeat([True, False, True, False], [over_only, arm_only, both, neither])
    arm = np.repeat([False, True, True, False], [over_only, arm_only, both, neither])
    return over, arm


@pytest.mark.parametrize(("over_only", "arm_only"), [(60, 40), (3, 12), (0, 5), (7, 7), (0, 0)])
def test_the_exact_p_is_that_of_mcnemar(over_only, arm_only):
    found = compare_networks(*networks(over_only, arm_only))
    assert found.p_exact == pytest.approx(mcnemar([[20, over_only], [arm_only, 880]], exact=True).pvalue)


def test_the_mid_p_takes_half_of_the_observed_table():
    assert compare_networks(*networks(1, 5)).p_mid == pytest.approx(2 * (1 + 6 / 2) / 2**6)


def test_the_difference_is_in_points_and_positive_where_the_arm_errs_less():
    found = compare_networks(*networks(60, 40))
    assert found.difference == pytest.approx(2.0)
    half = 1.96 * math.sqrt(100 - 20**2 / 1000) / 1000 * 100
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half))


def test_the_sentence_speaks_of_these_two_networks_only():
    sentence = compare_networks(*networks(60, 40)).sentence
    assert sentence.startswith("These two trained networks differ on images like these by 2.00 ± 1.9")
    assert sentence.endswith("one seed each says nothing about the methods.")


def test_networks_on_other_examples_are_refused():
    with pytest.raises(ValueError, match="expected the same examples"):
        compare_networks(np.ones(3, dtype=bool), np.ones(4, dtype=bool))


def flips(seeds, coherent, random, examples=20_000):
    """Seeds that err on independent images; ``coherent`` is the SD of their own error rates."""
    rates = 0.1 + coherent * random.normal(size=(seeds, 1))
    return random.random((seeds, examples)) < rates


def test_independent_flips_have_a_ratio_of_one():
    found = noise_ratio([flips(200, 0.0, np.random.default_rng(1))])
    assert found.ratio == pytest.approx(1.0, abs=0.11)


def test_seeds_that_vary_coherently_have_a_larger_ratio():
    expected = math.hypot(1, 0.005 / math.sqrt(0.09 / 20_000))
    found = noise_ratio([flips(200, 0.005, np.random.default_rng(2))])
    assert found.ratio == pytest.approx(expected, rel=0.1)


def test_the_interval_of_the_ratio_covers_one_as_often_as_it_says():
    random = np.random.default_rng(3)
    found = [noise_ratio([flips(3, 0.0, random, 2000) for _ in range(3)]) for _ in range(400)]
    assert np.mean([each.low <= 1 <= each.high for each in found]) == pytest.approx(0.95, abs=0.035)


def test_the_ratio_pools_the_degrees_of_freedom_of_arms():
    random = np.random.default_rng(4)
    assert noise_ratio([flips(3, 0, random), flips(5, 0, random), flips(1, 0, random)]).degrees_of_freedom == 6


@pytest.mark.parametrize("wrong", [[], [np.zeros((1, 5), dtype=bool)], [np.zeros((4, 5), dtype=bool)]])
def test_seeds_that_cannot_tell_give_no_ratio(wrong):
    found = noise_ratio(wrong)
    assert (math.isnan(found.ratio), found.low, found.high) == (True, 0.0, math.inf)
