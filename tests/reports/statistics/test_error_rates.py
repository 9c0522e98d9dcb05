"""The rule's guarantee, on few simulated studies; the full tables come from ``benchmarks/error_rates.py``."""

import numpy as np
import pytest

from ablations import DoesNotHelp, Helps
from reports.statistics import batched_half_widths, estimate_combinations, judge_claims
from tests.benchmark_scripts import load_benchmark


@pytest.fixture(scope="module")
def benchmark():
    return load_benchmark("error_rates")


@pytest.mark.parametrize(("arms", "seeds"), [(2, 3), (3, 2), (5, 3), (6, 10)])
@pytest.mark.parametrize("noise", ["normal, equal SD", "baseline 3x SD", "one arm 10x SD"])
def test_the_batches_of_the_benchmark_follow_the_rule(benchmark, arms, seeds, noise):
    values = benchmark.NOISE[noise](np.random.default_rng(arms), (20, arms, seeds))
    rows = benchmark.many_to_one(arms)
    found = batched_half_widths(values, rows)
    for study, table in enumerate(values):
        for place, each in enumerate(estimate_combinations(table, rows)):
            expected = {
                "estimate": each.estimate,
                "two_sided": each.high - each.estimate,
                "one_sided": each.high_one_sided - each.estimate,
                "own_two_sided": each.high_individual - each.estimate,
                "own_one_sided": each.high_individual_one_sided - each.estimate,
            }
            assert {name: found[name][study, place] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize("kind", [Helps, DoesNotHelp])
def test_the_words_of_the_benchmark_are_those_of_the_verdicts(benchmark, kind):
    values = 0.2 * benchmark.normal(np.random.default_rng(0), (60, 4, 5))
    values -= np.array([0, 0, 0.3, 1.0])[:, None]
    read = benchmark.words_of_helps if kind is Helps else benchmark.words_of_does_not_help
    words = read(batched_half_widths(values, benchmark.many_to_one(4)))
    claims = [kind(arm=arm, over="A") for arm in "BCD"]
    by_rule = [[found.word for found in judge_claims(claims, "ABCD", benchmark.measured(table))] for table in values]
    assert words.tolist() == by_rule
    assert len(np.unique(words)) >= 3


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("arms", [2, 3, 6])
def test_at_most_one_study_in_twenty_gets_a_wrong_verdict(benchmark, arms, seeds):
    rate = benchmark.worst_rate(benchmark.normal, arms, seeds, 4000, np.random.default_rng(seeds))
    assert rate <= 5.0 + 1.96 * 0.35 + 0.3  # the worst of eight rates, each with a Monte Carlo error of 0.35


@pytest.mark.parametrize("noise", ["normal, equal SD", "arms t with 3 df", "one arm 3x SD", "one arm 10x SD"])
def test_simultaneous_intervals_cover_together(benchmark, noise):
    values = benchmark.NOISE[noise](np.random.default_rng(1), (4000, 6, 5))
    found = batched_half_widths(values, benchmark.many_to_one(6))
    assert np.mean(np.all(np.abs(found["estimate"]) <= found["two_sided"], axis=1)) >= 0.943


@pytest.mark.slow
def test_conjunctions_beside_each_other_would_be_wrong_too_often_at_their_own_levels(benchmark):
    rates = benchmark.three_conjunctions(120, np.random.default_rng(2))
    assert max(rates["by the rule"]) <= 5.0 + 1.96 * 2.0
    assert np.mean(rates["each as if alone"]) > np.mean(rates["by the rule"])


def test_dropping_diverged_seeds_silently_hides_them(benchmark):
    found = benchmark.lost_seeds(150, np.random.default_rng(3))["gain 0: practically equivalent"]
    assert found["silent drop"] > 50
    assert found["this rule"] < 10


@pytest.mark.parametrize("arms", [2, 6])
def test_registered_looks_keep_the_error_rate_and_stopping_at_significance_does_not(benchmark, arms):
    rates = {
        name: benchmark.sequential_rate(practice, arms, 3000, np.random.default_rng(arms))
        for name, practice in benchmark.PRACTICES.items()
    }
    once, looks, stopping, stopping_at_every_seed = rates.values()
    assert looks <= 5.0 + 1.96 * 0.4
    assert stopping > 1.5 * once
    assert stopping_at_every_seed > 10
