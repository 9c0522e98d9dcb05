"""Many studies at once get the words that the report's own function gives each."""

import numpy as np
import pytest

from ablations import AllOf, DoesNotHelp, FallsWith, Helps, HelpsBy, Reverses, SaturatesAt
from reports.calibration.batched_verdicts import BatchedRule

NAMES = ("A", "B", "C", "D", "E", "F")
SIZES = ((2, 2), (2, 7), (3, 3), (4, 2), (4, 5), (6, 4))
STEP = 100 / 360
ALL_WORDS = {"supported", "contradicted", "practically equivalent", "inconclusive"}


def claims_of(arms):
    """Sets of claims about so many arms, each set with a family of its own."""
    sets = [
        tuple(Helps(arm=arm, over=arms[0]) for arm in arms[1:]),
        tuple(DoesNotHelp(arm=arm, over=arms[0]) for arm in arms[1:]),
        (FallsWith(order=arms),),
        (HelpsBy(arm=arms[1], over=arms[0], by=0.6, within=0.5), Helps(arm=arms[0], over=arms[-1])),
    ]
    if len(arms) > 2:
        sets.append((SaturatesAt(arm=arms[1], order=arms), FallsWith(order=arms)))
        sets.append((AllOf(parts=(Helps(arm=arms[1], over=arms[0]), DoesNotHelp(arm=arms[2], over=arms[0]))),))
    if len(arms) > 3:
        sets.append((Reverses(worse=arms[:2], better=arms[2:4]),))
    return sets


def draw_studies(random, num_studies, num_arms, num_seeds):
    """Skewed or normal noise of unequal size, in steps of an example or not, with ties and arms that do not vary."""
    values = random.gamma(1.5, 1.0, size=(num_studies, num_arms, num_seeds))
    values *= random.choice([0.05, 0.3, 1.0, 3.0], size=(num_studies, num_arms, 1))
    values += random.choice([0.0, 0.0, 0.5, 2.0], size=(num_studies, num_arms, 1))
    values[::2] = np.round(values[::2] / STEP) * STEP
    values[::7, 0] = 5.0
    values[::11] = values[::11, :1]  # arms that are equal under every seed
    return values


def judge_both_ways(num_studies, seed, smallest_effect=0.5, resolution=STEP):
    """Words of the batch and of the report, and which words there were."""
    random = np.random.default_rng(seed)
    words = set()
    for num_arms, num_seeds in SIZES:
        values = draw_studies(random, num_studies, num_arms, num_seeds)
        for claims in claims_of(NAMES[:num_arms]):
            rule = BatchedRule(claims, NAMES[:num_arms], num_seeds, smallest_effect, resolution)
            batch = rule.choose_words(rule.estimate_intervals(values)).T
            report = np.array([rule.judge_study(study) for study in values])
            assert batch.tolist() == report.tolist(), (num_arms, num_seeds, claims)
            words |= set(report.ravel())
    return words


def test_hundreds_of_studies_get_the_words_of_the_report():
    words = judge_both_ways(num_studies=14, seed=1)  # 31 sets of claims and sizes
    assert words == ALL_WORDS


def test_without_a_smallest_effect_nothing_is_equivalent_in_either():
    assert "practically equivalent" not in judge_both_ways(num_studies=5, seed=2, smallest_effect=0.0)


@pytest.mark.slow
def test_thousands_of_studies_get_the_words_of_the_report():
    assert judge_both_ways(num_studies=200, seed=3) == ALL_WORDS
    assert judge_both_ways(num_studies=100, seed=4, resolution=0.0) == ALL_WORDS


def test_a_verdict_is_wrong_where_it_asserts_what_is_false():
    rule = BatchedRule((Helps(arm="B", over="A"),), ("A", "B"), 5, smallest_effect=0.5)
    noise = 0.01 * np.random.default_rng(0).normal(size=(1, 2, 5))
    intervals = rule.estimate_intervals(noise)
    equivalent, improved = rule.shift_intervals(intervals, [0, 0]), rule.shift_intervals(intervals, [0, -2])
    assert rule.choose_words(equivalent).item() == "practically equivalent"
    assert rule.choose_words(improved).item() == "supported"
    assert not rule.find_wrong(equivalent, [0, 0]).any()
    assert rule.find_wrong(equivalent, [0, -2]).all()  # says "equivalent" of arms that differ by 2
    assert not rule.find_wrong(improved, [0, -2]).any()
    assert rule.find_wrong(improved, [0, 0]).all()
