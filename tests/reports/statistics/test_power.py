"""Planning by simulation of the rule, against the rule itself and against theory."""

import math

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from ablations import Helps
from reports.statistics import (
    Evidence,
    judge_claims,
    required_seeds,
    simulate_detectable_difference,
    simulate_difference_power,
    simulate_equivalence_power,
)

PAIR = [[1.0, -1.0]]
FOUR = [[1.0, -1, 0, 0], [1, 0, -1, 0], [1, 0, 0, -1]]


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 3])
def test_two_arms_have_the_power_of_a_paired_t_test(seeds, alpha):
    found = simulate_difference_power(0.7, 0.5, seeds, PAIR, alpha=alpha)
    expected = TTestPower().power(0.7 / 0.5, seeds, alpha / 2, alternative="larger")
    assert found == pytest.approx(expected, abs=0.03)


def frequency(claims, truth, deviation, seeds, word, studies=1000):
    """How often the rule says a word of the last arm, on studies drawn anew."""
    random, arms = np.random.default_rng(99), "ABCD"[: len(truth)]
    hits = 0
    for _ in range(studies):
        values = deviation / math.sqrt(2) * random.normal(size=(len(truth), seeds)) + np.array(truth)[:, None]
        evidence = Evidence(
            values=values, lost_to_divergence=np.zeros(values.shape, dtype=bool), smallest_effect=0.5, unit="points"
        )
        hits += judge_claims(claims, arms, {"test_error": evidence})[-1].word == word
    return hits / studies


@pytest.mark.parametrize("rows", [PAIR, FOUR], ids=["two arms", "four arms"])
@pytest.mark.parametrize(("difference", "deviation"), [(0.5, 0.5), (0.6, 0.8), (0.9, 1.0)])
def test_seeds_planned_for_a_difference_find_it_four_times_in_five(difference, deviation, rows):
    arms = len(rows[0])
    seeds = required_seeds(lambda count: simulate_difference_power(difference, deviation, count, rows))
    claims = [Helps(arm=arm, over="A") for arm in "BCD"[: arms - 1]]
    found = frequency(claims, [difference] * (arms - 1) + [0.0], deviation, seeds, "supported")
    assert found == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("rows", [PAIR, FOUR], ids=["two arms", "four arms"])
@pytest.mark.parametrize("deviation", [0.7, 0.9])
def test_seeds_planned_for_equivalence_show_it_four_times_in_five(deviation, rows):
    arms = len(rows[0])
    seeds = required_seeds(lambda count: simulate_equivalence_power(0.5, deviation, count, rows))
    claims = [Helps(arm=arm, over="A") for arm in "BCD"[: arms - 1]]
    found = frequency(claims, [0.0] * arms, deviation, seeds, "practically equivalent")
    assert found == pytest.approx(0.8, abs=0.05)


def test_the_detectable_difference_is_found_as_often_as_told():
    for rows in (PAIR, FOUR):
        difference = simulate_detectable_difference(0.5, 6, rows)
        assert simulate_difference_power(difference, 0.5, 6, rows) == pytest.approx(0.8, abs=0.01)


def test_more_power_and_stricter_levels_take_more_seeds():
    def needed(**keywords):
        power = keywords.pop("power", 0.8)
        return required_seeds(lambda count: simulate_difference_power(0.5, 0.5, count, FOUR, **keywords), power=power)

    assert needed() < needed(power=0.9)
    assert needed() < needed(alpha=0.05 / 3)


def test_what_five_hundred_seeds_do_not_show_has_no_answer():
    assert required_seeds(lambda count: simulate_difference_power(0.01, 1.0, count, PAIR, num_studies=500)) is None
