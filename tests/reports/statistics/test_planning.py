import math

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from reports.statistics import (
    deviation_upper_limit,
    equivalence_power,
    estimate_sensitivity,
    half_width,
    minimum_detectable_difference,
    pairing_correlation,
    seeds_for_equivalence,
)


@pytest.mark.parametrize(
    ("seeds", "by_arms"),
    [
        (2, {2: 11.5, 4: 3.91, 6: 3.32, 10: 3.03}),
        (3, {2: 3.26, 4: 2.36, 6: 2.26, 10: 2.24}),
        (5, {2: 1.68, 4: 1.60, 6: 1.62, 10: 1.65}),
        (10, {2: 1.00, 4: 1.06, 6: 1.10, 10: 1.14}),
        (20, {2: 0.66, 4: 0.73, 6: 0.76, 10: 0.80}),
    ],
)
def test_the_detectable_difference_in_standard_deviations(seeds, by_arms):
    found = {arms: minimum_detectable_difference(1.0, seeds, num_arms=arms) for arms in by_arms}
    assert found == pytest.approx(by_arms, rel=0.005, abs=0.005)


@pytest.mark.parametrize("seeds", [4, 7, 15])
def test_two_arms_have_the_power_of_the_paired_t_test(seeds):
    difference = minimum_detectable_difference(2.0, seeds, power=0.9)
    assert TTestPower().power(difference / 2.0, seeds, 0.05) == pytest.approx(0.9, abs=1e-3)


def test_the_seeds_for_a_difference_are_those_of_the_paired_t_test():
    expected = math.ceil(TTestPower().solve_power(0.8, power=0.8, alpha=0.05))
    assert minimum_detectable_difference(1.0, expected) <= 0.8 < minimum_detectable_difference(1.0, expected - 1)


def test_an_equivalence_margin_far_below_the_noise_has_no_answer():
    assert seeds_for_equivalence(1e-4, 1.0) is None


@pytest.mark.parametrize(("ratio", "seeds"), [(0.5, 36), (0.75, 17), (1, 11), (1.5, 6), (2, 4), (3, 3)])
def test_the_seeds_for_equivalence(ratio, seeds):
    assert seeds_for_equivalence(ratio * 0.2, 0.2) == seeds


def test_the_power_of_equivalence_is_that_of_simulated_tests():
    random = np.random.default_rng(0)
    differences = random.normal(size=(40_000, 6))
    half = 2.015048 * differences.std(axis=1, ddof=1) / math.sqrt(6)
    shown = np.mean(np.abs(differences.mean(axis=1)) + half < 1.2)
    assert equivalence_power(1.2, 1.0, 6) == pytest.approx(shown, abs=0.01)


@pytest.mark.parametrize(("seeds", "factor"), [(3, 3.1), (5, 1.9), (10, 1.5)])
def test_a_pilot_is_planned_with_its_upper_limit(seeds, factor):
    assert deviation_upper_limit(1.0, seeds - 1) == pytest.approx(factor, abs=0.05)


def test_the_half_width_is_dunnetts_value_over_the_root_of_the_seeds():
    assert half_width(0.25, 3, num_arms=6) == pytest.approx(2.99 * 0.25 / math.sqrt(3), rel=0.001)


def test_the_sentence_of_a_report():
    values = np.random.default_rng(1).normal(size=(6, 3))
    noise = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    values = noise * 0.25 / math.sqrt(2 * np.sum(noise**2) / 10)
    assert estimate_sensitivity(values).sentence == (
        "With these 3 seeds (SD of a paired difference 0.25 points, 10 df), a true difference to the baseline below "
        "0.57 points would be missed more than one time in five."
    )


def test_resolution_does_not_depend_on_the_differences_found():
    values = np.random.default_rng(2).normal(size=(4, 5))
    shifted = values + np.array([0.0, 5.0, -3.0, 1.0])[:, None]
    assert estimate_sensitivity(shifted).detectable_difference == pytest.approx(
        estimate_sensitivity(values).detectable_difference
    )


@pytest.mark.parametrize("shape", [(3, 1), (1, 3), (2, 0)])
def test_one_seed_or_one_arm_shows_nothing(shape):
    found = estimate_sensitivity(np.ones(shape))
    assert (found.detectable_difference, found.half_width) == (math.inf, math.inf)
    assert found.sentence.startswith("One seed does not show")


def test_the_measured_correlation_of_two_equally_noisy_arms_is_pearsons():
    first = np.array([1.0, 2.0, 3.0, 4.0])
    second = first[[1, 0, 3, 2]]
    assert pairing_correlation([first, second]) == pytest.approx(np.corrcoef(first, second)[0, 1])


def test_the_measured_correlation_uses_the_complete_seeds():
    values = np.random.default_rng(3).normal(size=(3, 6))
    with_gap = np.hstack([values, [[1.0], [np.nan], [2.0]]])
    assert pairing_correlation(with_gap) == pytest.approx(pairing_correlation(values))


def test_arms_that_do_not_vary_have_no_correlation():
    assert math.isnan(pairing_correlation(np.ones((2, 4))))


def test_planning_for_one_seed_is_refused():
    with pytest.raises(ValueError, match="1 seeds of 2 arms; expected two or more of each"):
        minimum_detectable_difference(0.2, 1)
