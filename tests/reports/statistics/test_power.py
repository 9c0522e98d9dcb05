"""Planning by simulation of the rule, against the rule itself and against theory."""

import math

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from ablations import Helps
from reports.calibration.batched_verdicts import BatchedRule
from reports.statistics import (
    Evidence,
    FamilyDesign,
    detectable_difference,
    deviation_upper_limit,
    difference_power,
    equivalence_power,
    estimate_sensitivity,
    judge_claims,
    pairing_correlation,
    seeds_for_difference,
    seeds_for_equivalence,
    variance_excess,
)
from reports.statistics.families import make_family


def against_baseline(num_arms, alpha=0.05):
    arms = tuple("ABCDEFGHIJ"[:num_arms])
    return FamilyDesign.of_family(make_family(("A", arm) for arm in arms[1:]), arms, alpha)


PAIR, FOUR = against_baseline(2), against_baseline(4)


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 3])
def test_two_arms_have_the_power_of_a_paired_t_test(seeds, alpha):
    found = difference_power(0.7, 0.5, seeds, against_baseline(2, alpha))
    expected = TTestPower().power(0.7 / 0.5, seeds, alpha / 2, alternative="larger")
    assert found == pytest.approx(expected, abs=0.03)


def judged(claims, arms, values):
    """Words of one study by the report's own function."""
    evidence = Evidence(
        values=values, lost_to_divergence=np.zeros(values.shape, dtype=bool), smallest_effect=0.5, unit="points"
    )
    return [verdict.word for verdict in judge_claims(claims, arms, {"test_error": evidence})]


def frequency(claims, truth, deviation, seeds, word, studies=1000):
    """How often the rule says a word of the last arm, on studies drawn anew; by batches, which judge as the report."""
    random, arms = np.random.default_rng(99), tuple("ABCD"[: len(truth)])
    noise = deviation / math.sqrt(2) * random.normal(size=(studies, len(truth), seeds))
    values = noise + np.array(truth)[:, None]
    rule = BatchedRule(tuple(claims), arms, seeds, 0.5)
    words = rule.choose_words(rule.estimate_intervals(values))  # claims x studies
    for index in range(20):
        assert words[:, index].tolist() == judged(claims, arms, values[index])
    return np.mean(words[-1] == word)


@pytest.mark.parametrize("design", [PAIR, FOUR], ids=["two arms", "four arms"])
@pytest.mark.parametrize(("difference", "deviation"), [(0.5, 0.5), (0.6, 0.8), (0.9, 1.0)])
def test_seeds_planned_for_a_difference_find_it_four_times_in_five(difference, deviation, design):
    arms = len(design.rows[0])
    seeds = seeds_for_difference(difference, deviation, design)
    claims = [Helps(arm=arm, over="A") for arm in "BCD"[: arms - 1]]
    found = frequency(claims, [difference] * (arms - 1) + [0.0], deviation, seeds, "supported")
    assert found == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("design", [PAIR, FOUR], ids=["two arms", "four arms"])
@pytest.mark.parametrize("deviation", [0.7, 0.9])
def test_seeds_planned_for_equivalence_show_it_four_times_in_five(deviation, design):
    arms = len(design.rows[0])
    seeds = seeds_for_equivalence(0.5, deviation, design)
    claims = [Helps(arm=arm, over="A") for arm in "BCD"[: arms - 1]]
    found = frequency(claims, [0.0] * arms, deviation, seeds, "practically equivalent")
    assert found == pytest.approx(0.8, abs=0.05)


def test_the_detectable_difference_is_found_as_often_as_told():
    for design in (PAIR, FOUR):
        difference = 0.5 * detectable_difference(6, design)
        assert difference_power(difference, 0.5, 6, design) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(
    ("seeds", "by_arms"),
    [
        (3, {2: 3.26, 4: 3.1, 6: 3.1, 10: 3.1}),
        (5, {2: 1.68, 4: 1.9, 6: 2.0, 10: 2.1}),
        (10, {2: 1.00, 4: 1.16, 6: 1.22, 10: 1.30}),
    ],
)
def test_the_detectable_difference_in_standard_deviations(seeds, by_arms):
    found = {arms: detectable_difference(seeds, against_baseline(arms)) for arms in by_arms}
    assert found == pytest.approx(by_arms, rel=0.02)


@pytest.mark.parametrize(("ratio", "seeds"), [(0.75, 17), (1, 11), (1.5, 6), (2, 4), (3, 3)])
def test_the_seeds_for_equivalence_of_two_arms_are_those_of_two_one_sided_tests(ratio, seeds):
    assert seeds_for_equivalence(ratio * 0.2, 0.2, PAIR) == pytest.approx(seeds, abs=1)


def test_two_seeds_have_no_power_for_margins():
    assert equivalence_power(100.0, 0.1, 2, PAIR) == 0


def test_more_power_and_stricter_levels_take_more_seeds():
    assert seeds_for_difference(0.5, 0.5, FOUR) < seeds_for_difference(0.5, 0.5, FOUR, power=0.9)
    assert seeds_for_difference(0.5, 0.5, FOUR) < seeds_for_difference(0.5, 0.5, against_baseline(4, 0.05 / 3))


def test_what_five_hundred_seeds_do_not_show_has_no_answer():
    assert seeds_for_difference(0.01, 1.0, PAIR) is None
    assert seeds_for_equivalence(1e-4, 1.0, PAIR) is None


@pytest.mark.parametrize(("seeds", "factor"), [(3, 3.1), (5, 1.9), (10, 1.5)])
def test_a_pilot_is_planned_with_its_upper_limit(seeds, factor):
    assert deviation_upper_limit(1.0, seeds - 1) == pytest.approx(factor, abs=0.05)


def test_resolution_does_not_depend_on_the_differences_found():
    values = np.random.default_rng(2).normal(size=(4, 5))
    shifted = values + np.array([0.0, 5.0, -3.0, 1.0])[:, None]
    assert estimate_sensitivity(shifted, FOUR).detectable_difference == pytest.approx(
        estimate_sensitivity(values, FOUR).detectable_difference
    )


@pytest.mark.parametrize("shape", [(3, 1), (1, 3), (2, 0)])
def test_one_seed_or_one_arm_shows_nothing(shape):
    found = estimate_sensitivity(np.ones(shape), PAIR)
    assert found.detectable_difference == math.inf
    assert math.isnan(found.standard_deviation)


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


def correlated(baseline, others, arms=6, seeds=5, studies=1):
    """Studies of arms of unit noise; the baseline's correlation with the others, and that of the others."""
    correlation = np.full((arms, arms), others)
    correlation[0], correlation[:, 0] = baseline, baseline
    np.fill_diagonal(correlation, 1.0)
    noise = np.random.default_rng(7).normal(size=(studies, arms, seeds))
    return np.linalg.cholesky(correlation) @ noise


SIX = against_baseline(6)


def test_differences_vary_no_more_than_arms_of_equal_correlation_give():
    excesses = [variance_excess(values, SIX) for values in correlated(0.8, 0.8, studies=600)]
    assert np.median([excess.ratio for excess in excesses]) == pytest.approx(1, abs=0.05)
    assert np.mean([excess.is_unequal for excess in excesses]) == pytest.approx(0.01, abs=0.012)


def test_a_baseline_that_does_not_correlate_with_the_others_is_found():
    excesses = [variance_excess(values, SIX) for values in correlated(0.0, 0.8, studies=600)]
    # By theory 2 (1 - 0) / 2 over a mean square of 1 - 8/15: 2.14.
    assert np.median([excess.ratio for excess in excesses]) == pytest.approx(2.14, rel=0.05)
    assert np.mean([excess.is_unequal for excess in excesses]) > 0.5


def test_the_measured_correlations_are_pearsons_over_complete_seeds():
    (values,) = correlated(0.0, 0.8, arms=4)
    expected = np.corrcoef(values)[np.triu_indices(4, 1)]
    with_gap = np.hstack([values, [[1.0], [np.nan], [2.0], [0.5]]])
    found = variance_excess(with_gap, FOUR)
    assert found.correlations == pytest.approx((expected.min(), expected.max()))
    assert found == variance_excess(values, FOUR)


@pytest.mark.parametrize("values", [np.eye(2, 5), np.ones((4, 5)), np.eye(4, 1), np.full((4, 5), np.nan)])
def test_without_three_arms_two_seeds_and_noise_nothing_is_unequal(values):
    assert variance_excess(values, against_baseline(len(values))) is None


def test_planning_for_one_seed_is_refused():
    with pytest.raises(ValueError, match="1 seeds have no variance; expected two or more"):
        detectable_difference(1, PAIR)
