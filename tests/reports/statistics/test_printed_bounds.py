"""What a verdict prints agrees with what it says: no rounded bound lies on the other side of its margin, or of 0."""

import re

import numpy as np
import pytest

from ablations import DoesNotHelp, Helps
from reports.statistics import Evidence, estimate_contrasts, judge_claims

NUMBER = r"([+−]?[\d.]+(?:e−\d+)?)"


def number(text):
    return float(text.replace("−", "-"))


def judge(claim, values, smallest_effect, unit="points", **fields):
    lost = np.zeros(values.shape, dtype=bool)
    fields = {"values": values, "lost_to_divergence": lost, "smallest_effect": smallest_effect, "unit": unit} | fields
    (found,) = judge_claims([claim], "AB", {"test_error": Evidence(**fields)})
    return found


@pytest.mark.parametrize("seed", range(40))
def test_printed_bounds_lie_where_the_sentence_says(seed):
    random = np.random.default_rng(seed)
    values = 10 + random.normal(0, 0.4, (2, 6))
    (contrast,) = estimate_contrasts(values, "AB", [("A", "B")])
    # A margin a hair beside a bound: whether it is kept cannot be seen from few decimals.
    bound = contrast.equivalence_margin if seed % 2 else abs(contrast.high_one_sided)
    smallest_effect = round(bound, 2) or 0.01
    for claim in (Helps(arm="B", over="A"), DoesNotHelp(arm="B", over="A")):
        found = judge(claim, values, smallest_effect)
        printed = f"{found.finding}; {found.reason}"
        for low, high, verb in re.findall(
            rf"improvement, {NUMBER} to {NUMBER} points, (lie|do not lie) within", printed
        ):
            is_inside = -smallest_effect < number(low) and number(high) < smallest_effect
            assert is_inside == (verb == "lie"), printed
        for word, amount, side in re.findall(
            rf"(better|worse) by at most {NUMBER} points? [^;]*?, (below|not below)", printed
        ):
            assert (number(amount) < smallest_effect) == (side == "below"), (word, printed)


@pytest.mark.parametrize("shift", [-0.45, 0.45])
def test_equivalence_shows_the_bounds_that_decide_where_the_interval_reaches_beyond_the_margin(shift):
    values = np.array([[0.0, 0.1, -0.1, 0.05, -0.05, 0.0], [0.0, -0.1, 0.1, -0.05, 0.05, 0.0]]) / 4
    values[1] += shift
    (contrast,) = estimate_contrasts(values, "AB", [("A", "B")])
    widest, decisive = max(abs(contrast.low), abs(contrast.high)), contrast.equivalence_margin
    smallest_effect = (widest + decisive) / 2
    found = judge(Helps(arm="B", over="A"), values, smallest_effect)
    assert found.word == "practically equivalent"
    low, high = re.search(rf"\(one-sided 95% bounds {NUMBER} to {NUMBER}\)", found.finding).groups()
    assert max(abs(number(low)), abs(number(high))) < smallest_effect
    # Inside of both, the usual interval is printed.
    assert "95% interval" in judge(Helps(arm="B", over="A"), values, 2 * widest).finding


@pytest.mark.parametrize("scale", [1e-4, 1e-8, 1e-12])
def test_tiny_values_are_not_printed_as_zero(scale):
    values = scale * np.array([[3.0, 3.1, 2.9, 3.05], [1.0, 1.15, 0.9, 1.0]])
    found = judge(Helps(arm="B", over="A"), values, 0.1 * scale, unit="")
    assert found.word == "supported"
    change, low, high = re.search(
        rf"change from A to B {NUMBER} \(95% interval {NUMBER} to {NUMBER}\)", found.finding
    ).groups()
    assert number(low) <= number(change) <= number(high) < 0
    assert number(change) == pytest.approx(-2 * scale, rel=0.05)
    assert " ," not in found.reason


def test_numbers_much_larger_than_their_spread_keep_their_digits():
    values = np.array([[0.93, 0.94, 0.92, 0.935], [0.80, 0.81, 0.79, 0.805]])
    values[1] += np.array([0, 1, 2, 3]) * 1e-6
    found = judge(Helps(arm="B", over="A"), values, 0.01, unit="")
    assert "−0.12999" in found.finding
    assert "e−" not in found.finding


def test_a_bound_that_is_its_margin_but_for_rounding_errors_is_printed_as_it():
    first = np.array([30.1, 31.1, 29.9, 30.5])
    found = judge(Helps(arm="B", over="A"), np.array([first, first - 1.2]), 1.2)
    assert "1.20" in found.reason + found.finding
    assert "e+" not in found.reason + found.finding
