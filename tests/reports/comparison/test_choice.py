"""The arm of least error within a budget, and what cannot be told apart from it."""

import json
import math
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner
from scipy import optimize, stats

from reports.comparison.choice import Budget, choose_arm, find_possibly_best
from studies.cli.app import main
from studies.cli.reporting import choose as choose_command
from tests.reports.records import record
from tests.studies.latency.test_measurement import arm_latency, measurement

COMMANDS = json.loads((Path(__file__).parents[3] / "docs/commands.schema.json").read_text(encoding="utf-8"))["$defs"]


def with_latency(**milliseconds):
    arms = tuple(arm_latency(arm, p50=(ms / 1000,) * 5) for arm, ms in milliseconds.items())
    return replace(record(), latency=measurement(arms=arms))


def one_sided_dunnett(num_others, degrees_of_freedom):
    """By integration over the common normal and the chi variable: no code of the package's own."""
    normal, normal_weights = np.polynomial.hermite_e.hermegauss(60)
    normal_weights = normal_weights / normal_weights.sum()
    grid = (np.arange(400) + 0.5) / 400
    scale = np.sqrt(stats.chi2.ppf(grid, degrees_of_freedom) / degrees_of_freedom)

    def coverage(value):
        inner = stats.norm.cdf((np.sqrt(0.5) * normal[:, None] + value * scale) / np.sqrt(0.5)) ** num_others
        return float(normal_weights @ inner.mean(axis=1)) - 0.95

    return optimize.brentq(coverage, 1, 10)


def test_bounds_are_those_of_hsus_comparison_with_the_best():
    noise = np.random.default_rng(5).normal(size=(4, 6)) * 0.3  # no arm is noisy enough for the guard
    errors = np.array([5.0, 5.1, 5.4, 6.5])[:, None] + noise
    found = find_possibly_best(errors, "ABCD", alpha=0.05)
    means = errors.mean(axis=1)
    residuals = errors - means[:, None] - errors.mean(axis=0) + errors.mean()
    mean_square = (residuals**2).sum() / 15
    value = one_sided_dunnett(3, 15)
    excess = np.zeros((4, 4))
    for best in range(4):
        others = [arm for arm in range(4) if arm != best]
        own = {arm: np.var(errors[arm] - errors[best], ddof=1) for arm in others}
        for arm in others:
            variance = max(own[arm], 2 * mean_square, np.mean(list(own.values())))
            excess[best, arm] = means[arm] - means[best] + value * np.sqrt(variance / 6)
    possible = [best for best in range(4) if min(np.delete(excess[best], best)) >= 0]
    assert found.arms == tuple("ABCD"[best] for best in possible)
    assert 1 <= len(possible) < 4
    for arm in range(4):
        expected = max([excess[best, arm] for best in possible if best != arm], default=0.0)
        assert found.excess_bounds["ABCD"[arm]] == pytest.approx(max(0, expected), rel=2e-3)


def test_two_arms_are_compared_by_students_t():
    errors = np.array([[5.0, 5.2, 4.9, 5.1], [5.4, 5.5, 5.2, 5.6]])
    difference = errors[1] - errors[0]
    half = stats.t.ppf(0.95, 3) * difference.std(ddof=1) / 2
    found = find_possibly_best(errors, ("A", "B"), alpha=0.05)
    assert found.arms == ("A",)
    assert found.excess_bounds["A"] == 0
    assert found.excess_bounds["B"] == pytest.approx(difference.mean() + half)


@pytest.mark.slow
@pytest.mark.parametrize("num_seeds", [3, 5])
def test_the_best_arm_is_ruled_out_in_at_most_one_study_of_twenty(num_seeds):
    rng = np.random.default_rng(num_seeds)
    means = np.array([5.0, 5.0, 5.1, 5.6])[:, None]  # two are best: the worst case for either
    num_studies, misses = 400, 0
    for _ in range(num_studies):
        errors = means + rng.normal(size=(4, num_seeds)) * 0.2 + rng.normal(size=num_seeds) * 0.1
        found = find_possibly_best(errors, "ABCD", alpha=0.05)
        exceeds = any(means[row, 0] - 5.0 > found.excess_bounds[arm] + 1e-12 for row, arm in enumerate("ABCD"))
        misses += "A" not in found.arms or exceeds
    assert misses / num_studies <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / num_studies)


def test_one_seed_tells_no_arms_apart():
    found = find_possibly_best([[5.0], [1.0], [9.0]], "ABC", alpha=0.05)
    assert found.arms == ("A", "B", "C")
    assert set(found.excess_bounds.values()) == {np.inf}


def test_the_arm_of_least_error_within_a_budget_is_chosen():
    choice = choose_arm(with_latency(A=1.0, B=1.5, D=2.0, E=2.1), [Budget(quantity="latency", limit=1.9e-3)])
    assert choice.chosen.name == "B"
    assert choice.possibly_best == ("B",)
    assert choice.is_settled
    assert choice.excluded == {"D": "over the budget: 2.000 ms", "E": "over the budget: 2.100 ms"}


def test_arms_that_cannot_be_told_apart_are_named_and_a_small_excess_settles_the_choice():
    choice = choose_arm(record(), [])
    assert choice.chosen.name == "D"
    assert choice.possibly_best == ("D", "E")
    assert choice.is_settled  # D exceeds E by 0.27 points at most, and the smallest effect of interest is 0.5
    strict = replace(record(), registration=replace(record().registration, smallest_effect=0.1))
    assert not choose_arm(strict, []).is_settled


def test_an_arm_that_lost_a_seed_is_no_candidate():
    choice = choose_arm(record(states={("D", 1): "non-finite"}), [])
    assert choice.excluded == {"D": "1 of 5 seeds did not train"}
    assert choice.chosen.name == "E"


def test_that_an_arm_did_not_train_is_said_before_a_cost_that_is_not_known():
    study = replace(
        record(states={("D", 1): "non-finite"}), latency=measurement(arms=(arm_latency("A", p50=(1e-3,) * 5),))
    )
    excluded = choose_arm(study, [Budget(quantity="latency", limit=2e-3)]).excluded
    assert excluded["D"] == "1 of 5 seeds did not train"
    assert excluded["B"] == excluded["E"] == "its latency cannot be told from the record"


def test_a_cost_whose_range_contains_the_limit_is_told():
    study = replace(record(), latency=measurement(arms=(arm_latency("A", p50=(1e-3, 1e-3, 1e-3, 1.2e-3, 1e-3)),)))
    (candidate,) = choose_arm(study, [Budget(quantity="latency", limit=1.1e-3)]).candidates
    assert candidate.straddles == ("latency",)


def call(monkeypatch, study, *arguments, code=0):
    monkeypatch.setattr(choose_command, "read_study", lambda *_: study)
    shown = CliRunner().invoke(main, ["choose", "depth", *arguments])
    assert shown.exit_code == code, shown.output
    return shown


def test_the_command_says_what_is_chosen_and_how_sure_that_is(monkeypatch):
    shown = " ".join(call(monkeypatch, record()).stdout.split())
    assert shown.startswith("D has the least test error: 6.77 %. E cannot be told apart from it with these 5 seeds.")
    assert "the error of D is at most 0.27 points above that of the best: less than the smallest effect" in shown
    shown = " ".join(call(monkeypatch, record(), "--multiply-adds", "22M").stdout.split())
    assert "B has the least test error within the budget (multiply-adds at most 22.00 M)" in shown
    assert "With 95 % confidence, every other candidate has a higher error." in shown
    assert "no candidate: E, over the budget: 39.70 M multiply-adds" in shown


def test_exit_codes_are_those_of_the_gate(monkeypatch):
    strict = replace(record(), registration=replace(record().registration, smallest_effect=0.1))
    assert "the best arm is one of D and E" in " ".join(call(monkeypatch, strict, code=20).stdout.split())
    assert "No arm is within the budget" in call(monkeypatch, record(), "--parameters", "10k", code=30).stdout


def test_json_follows_its_schema(monkeypatch):
    study = with_latency(A=1.0, B=1.5, D=2.0, E=2.1)
    data = json.loads(call(monkeypatch, study, "--latency", "1.6ms", "--json").stdout)
    jsonschema.validate(data, COMMANDS["choose"])
    assert (data["chosen"], data["settled"], data["possibly_best"]) == ("B", True, ["B"])
    assert data["budget"] == {"latency": 0.0016}
    empty = json.loads(call(monkeypatch, study, "--latency", "1us", "--json", code=30).stdout)
    jsonschema.validate(empty, COMMANDS["choose"])
    assert empty["chosen"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--latency", "5"), "'5' is no number above 0 with a unit (s, ms, us), such as 5ms."),
        (("--memory", "2"), "'2' is no number above 0 with a unit"),
        (("--memory", "0GiB"), "'0GiB' is no number above 0"),
        (("--parameters", "many"), "'many' is no number above 0 with a unit (k, M, G, T), such as 10M."),
        (("--latency", "5ms"), "The latency of depth was not measured; `ablate latency depth` does it."),
    ],
)
def test_wrong_budgets_are_one_clear_line(monkeypatch, arguments, message):
    assert message in " ".join(call(monkeypatch, record(), *arguments, code=2).output.split())


def test_two_pairs_state_no_margin():
    errors = np.array([[9.0, 9.3], [9.01, 9.315]])
    assert find_possibly_best(errors, "AB", alpha=0.05).excess_bounds == {"A": math.inf, "B": math.inf}
    three = np.array([[9.0, 9.3, 9.1], [9.01, 9.315, 9.112]])
    assert find_possibly_best(three, "AB", alpha=0.05).excess_bounds["B"] < 0.1
