"""Seeds that fit a budget, in a plan: how many, what they cost, and what they find."""

import json
import math
from dataclasses import replace

import pytest

from lightning_modules.specs.errors import InvalidValue
from reports.comparison.seed_planning import plan_seeds
from reports.pages.seed_plan import SeedPlan
from studies.cli.reporting.plan import print_plan
from studies.design.budget import RunBudget
from studies.design.declare import declare
from studies.hardware import count_cores
from tests.reports.records import record

ARMS = ("A", "B", "D", "E")


def plan_depth(pilot, *, name="depth", **options):
    return plan_seeds(declare(name), pilot, difference=0.3, **options)


def print_lines(found):
    lines = []
    print_plan(SeedPlan.of_data(found), lines.append, lambda header, rows: lines.extend(map(str, (header, *rows))))
    return lines


def test_whole_seeds_beside_those_recorded_with_what_all_of_them_find():
    found = plan_depth(record(ARMS, 5), budget=RunBudget(max_seconds=1_800))
    budget = found["budget"]
    assert budget["further"] > 1
    assert budget["seeds"] == 5 + budget["further"]
    assert budget["trials"] == 4 * budget["further"]
    assert budget["spending"]["seconds"] <= 1_800
    assert budget["limits"]["max_seconds"] == 1_800
    (answer,) = found["answers"]
    assert answer["power_in_budget"] > answer["power_now"]
    assert budget["detectable"] < found["detectable_at_hand"]
    assert 0 < budget["power"] <= 1
    (line,) = [line for line in print_lines(found) if line.startswith("budget")]
    assert f"30 min: {budget['further']} whole seeds fit beside the 5 recorded, {budget['seeds']} in all" in line
    assert "power at the smallest effect of interest, 0.5: " in line
    json.dumps(found)


def test_more_seeds_than_are_counted_are_told_as_more():
    found = plan_depth(record(ARMS, 5), budget=RunBudget(max_seconds=10_000_000))
    (line,) = [line for line in print_lines(found) if line.startswith("budget")]
    assert "500 whole seeds or more fit beside the 5 recorded, 505 in all" in line


def test_the_times_are_those_of_the_pilot():
    pilot = record(ARMS, 5)
    seconds = sum(pilot.trials[0].result.curves["seconds"]) + 2.0
    found = plan_depth(pilot, budget=RunBudget(max_seconds=10_000))
    num_rounds = math.ceil(found["budget"]["trials"] / count_cores())
    assert found["budget"]["spending"]["seconds"] == pytest.approx(18 + 1.1 * seconds * num_rounds)


def test_seeds_that_a_stopped_study_has_only_planned_are_not_at_hand():
    states = {(arm, seed): "absent" for arm in ARMS for seed in range(4, 40)}
    found = plan_depth(record(ARMS, 40, states), budget=RunBudget(max_seconds=1_800))
    assert found["seeds_at_hand"] == 4
    assert found["budget"]["seeds"] == 4 + found["budget"]["further"]


def test_where_not_one_seed_fits_it_says_what_would_do():
    found = plan_depth(record(ARMS, 5), budget=RunBudget(max_seconds=20))
    assert (found["budget"]["further"], found["budget"]["seeds"]) == (0, 5)
    (line,) = [line for line in print_lines(found) if line.startswith("budget")]
    assert line.startswith("budget   20 s: not one seed fits: it takes about --max-time ")


def test_an_arm_of_unknown_time_is_named():
    found = plan_depth(None, standard_deviation=0.4, budget=RunBudget(max_seconds=1_800))
    assert found["budget"]["further"] is None
    assert found["answers"][0]["power_in_budget"] is None
    assert any("the time of A is not known" in line for line in print_lines(found))


def test_an_estimate_stands_in_for_a_pilot():
    options = {"standard_deviation": 0.4, "estimate_trial": lambda *_: 30.0}
    found = plan_depth(None, name="lrn", budget=RunBudget(max_seconds=120), **options)
    assert found["budget"]["seeds"] == found["budget"]["further"] > 0


def test_one_seed_finds_nothing():
    options = {"standard_deviation": 0.4, "estimate_trial": lambda *_: 1_000.0}
    seconds = 18 + 1_100 * math.ceil(2 / count_cores())
    found = plan_depth(None, name="lrn", budget=RunBudget(max_seconds=seconds + 1), **options)
    assert (found["budget"]["seeds"], found["budget"]["detectable"]) == (1, None)
    assert any("one seed has no interval, so it finds nothing" in line for line in print_lines(found))


def pilot_on_gpu(**entries):
    pilot = record(ARMS, 5)
    trials = []
    for trial in pilot.trials:
        environment = {**trial.result.environment, "device": "cuda", **entries}
        trials.append(replace(trial, result=replace(trial.result, environment=environment)))
    return replace(pilot, trials=tuple(trials))


def test_gpu_hours_and_their_price():
    budget = RunBudget(max_cost=0.5, price_per_gpu_hour=2.0)
    found = plan_depth(pilot_on_gpu(), budget=budget)["budget"]
    assert found["cost"] == pytest.approx(2 * found["spending"]["gpu_hours"])
    assert 0.4 < found["cost"] <= 0.5
    with pytest.raises(InvalidValue, match="these trials take no GPU"):
        plan_depth(record(ARMS, 5), budget=budget)


def test_seeds_that_a_gpu_trains_at_once_are_a_bundle_in_the_plan_too():
    budget = RunBudget(max_gpu_hours=0.25)
    alone, bundled = (plan_depth(pilot_on_gpu(bundle_size=size), budget=budget)["budget"] for size in (1, 5))
    assert bundled["further"] >= 4 * alone["further"] > 0


def test_times_on_a_cpu_say_nothing_of_a_gpu():
    found = plan_depth(record(ARMS, 5), budget=RunBudget(max_gpu_hours=1), gpus_per_trial=1.0)["budget"]
    assert found["further"] is None
    assert found["note"].startswith("the time of A is not known")


def test_without_a_budget_nothing_of_it_is_shown():
    found = plan_depth(record(ARMS, 5))
    assert found["budget"] is None
    assert not any(line.startswith("budget") for line in print_lines(found))
