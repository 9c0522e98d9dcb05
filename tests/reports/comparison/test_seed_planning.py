"""How many seeds a question takes: from a stated spread, or from a recorded study as a pilot."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from lightning_modules.specs.errors import InvalidValue, UserError
from reports.comparison import seed_planning
from reports.comparison.seed_planning import family_design, plan_seeds
from reports.pages.seed_plan import SeedPlan
from reports.statistics import estimate_sensitivity
from studies.cli.reporting.plan import print_plan
from studies.design.budget import RunBudget
from studies.design.declare import declare
from tests.reports.records import record

PRICED = RunBudget(price_per_gpu_hour=3.0)


def pilot_of(seeds=5, **fields):
    """The made-up study of the depth's own arms."""
    return record(("A", "B", "D", "E"), seeds, **fields)


def test_a_stated_spread_needs_no_pilot():
    """Two arms: the seeds are those of a paired t test."""
    found = plan_seeds(declare("lrn"), None, standard_deviation=0.5, difference=0.5)
    freedom, seeds = found["answers"][0]["seeds"] - 1, found["answers"][0]["seeds"]
    limit = stats.t.ppf(0.975, freedom)
    power = stats.nct.sf(limit, freedom, math.sqrt(seeds)) + stats.nct.cdf(-limit, freedom, math.sqrt(seeds))
    assert power == pytest.approx(0.8, abs=0.05)
    assert found["spread"] == {"deviation": 0.5, "cautious": None, "source": "as stated"}


@pytest.mark.parametrize(
    "asked",
    [
        {"standard_deviation": 0.0},
        {"standard_deviation": -0.3},
        {"standard_deviation": math.nan},
        {"difference": -1.0},
        {"equivalence": 0.0},
        {"power": 0.0},
        {"power": 1.0},
        {"power": math.nan},
    ],
)
def test_numbers_that_nothing_can_be_planned_with_are_named(asked):
    (name,) = asked
    with pytest.raises(InvalidValue, match=f"^{'spread' if name == 'standard_deviation' else name} is .*; expected"):
        plan_seeds(declare("lrn"), None, **{"standard_deviation": 0.5} | asked)


def test_a_pilot_gives_its_noise_its_upper_limit_and_its_times():
    pilot = pilot_of()
    found = plan_seeds(declare("depth"), pilot, difference=0.3)
    noise = estimate_sensitivity(pilot.metric_table(), family_design(declare("depth")))
    assert found["spread"]["deviation"] == pytest.approx(noise.standard_deviation)
    assert found["spread"]["cautious"] == pytest.approx(
        noise.standard_deviation * math.sqrt(12 / stats.chi2.ppf(0.1, 12))
    )
    (answer,) = found["answers"]
    assert answer["cautious"] > answer["seeds"] > 5
    spent = [trial.result.cost["train_seconds"] for trial in pilot.trials]
    further = answer["seeds"] - 5
    assert answer["cost"]["trials"] == 4 * further
    assert answer["cost"]["hours"] == pytest.approx(further * np.sum(spent) / 5 / 3600)


def pilot_with(**environment):
    """A pilot whose trials ran elsewhere."""
    pilot = pilot_of()
    results = [replace(trial.result, environment={**trial.result.environment, **environment}) for trial in pilot.trials]
    trials = [replace(trial, result=result) for trial, result in zip(pilot.trials, results, strict=True)]
    return replace(pilot, trials=tuple(trials))


def cost_of(pilot, **options):
    (answer,) = plan_seeds(declare("depth"), pilot, difference=0.3, **options)["answers"]
    return answer["cost"]


def test_a_trial_of_a_bundle_costs_its_share_of_the_time():
    alone, shared = cost_of(pilot_of()), cost_of(pilot_with(bundle_size=5))
    assert shared["hours"] == pytest.approx(alone["hours"] / 5)


def test_a_bundle_on_a_gpu_is_charged_for_the_time_that_it_held_the_gpu():
    bundled = cost_of(pilot_with(device="cuda", bundle_size=5), budget=PRICED)  # of one GPU, as recorded
    pilot = pilot_of()
    bundle_seconds = sum(trial.result.cost["train_seconds"] for trial in pilot.trials) / 5  # of each arm one
    further_bundles = bundled["trials"] / len(pilot.trials)
    assert bundled["gpu_hours"] == pytest.approx(further_bundles * bundle_seconds / 3600)
    assert bundled["money"] == pytest.approx(3 * bundled["gpu_hours"])
    assert bundled["wall_hours"] == bundled["gpu_hours"]


def test_trials_on_several_gpus_are_charged_for_all_of_them(monkeypatch):
    pilot = pilot_with(device="cuda", workers=2)
    cost = cost_of(pilot)
    assert cost["gpu_hours"] == pytest.approx(2 * cost["hours"])
    assert cost["wall_hours"] == pytest.approx(2 * cost["hours"])  # on one GPU, as far as is known here
    monkeypatch.setattr(seed_planning, "count_gpus", lambda: 8)
    assert cost_of(pilot)["wall_hours"] == pytest.approx(cost["hours"] / 4)


@pytest.mark.parametrize("pilot", [pilot_of(), None], ids=["pilot on a CPU", "no pilot"])
def test_time_on_a_cpu_is_none_on_a_gpu(pilot):
    options = {} if pilot else {"standard_deviation": 0.5}
    found = plan_seeds(
        declare("depth"), pilot, difference=0.3, gpus_per_trial=1, budget=PRICED,
        estimate_arm_seconds=lambda: 100.0, **options,
    )  # fmt: skip
    cost = found["answers"][0]["cost"]
    assert (cost["hours"], cost["gpu_hours"], cost["money"]) == (None, None, None)
    assert "A pilot measures them." in SeedPlan.of_data(found).notes[-1]


def test_without_a_pilot_a_trial_takes_the_gpu_that_a_run_would_take(monkeypatch):
    def planned():
        return plan_seeds(declare("depth"), None, standard_deviation=0.5, difference=0.3)["gpus_per_trial"]

    assert planned() == 0
    monkeypatch.setattr(seed_planning, "count_gpus", lambda: 4)
    assert planned() == 1


def test_a_calibration_with_more_seeds_than_the_pilot_gives_the_noise():
    pilot, calibration = pilot_of(), record(("A", "E"), 40)
    found = plan_seeds(declare("depth"), pilot, calibration=calibration, difference=0.3)
    values = calibration.metric_table()
    assert found["spread"]["deviation"] == pytest.approx(np.std(values[0] - values[1], ddof=1))
    assert found["spread"]["source"] == "from a calibration with 40 seeds of A and E (39 degrees of freedom)"
    assert found["seeds_at_hand"] == 5  # those of the study itself
    smaller = plan_seeds(declare("depth"), pilot, calibration=record(("A", "E"), 4), difference=0.3)
    assert smaller["spread"]["source"] == "from 5 recorded seeds (12 degrees of freedom)"


def test_a_calibration_of_one_arm_is_planned_with_as_if_unpaired():
    calibration = record(("E",), 30)
    found = plan_seeds(declare("depth"), None, calibration=calibration, difference=0.5)
    assert found["spread"]["deviation"] == pytest.approx(math.sqrt(2) * np.std(calibration.metric_table(), ddof=1))
    assert "30 seeds of E, as if unpaired (29" in found["spread"]["source"]


def test_money_is_hours_on_the_gpus_times_the_price():
    pilot = pilot_with(device="cuda")
    found = plan_seeds(declare("depth"), pilot, difference=0.3, gpus_per_trial=0.5, budget=PRICED)
    cost = found["answers"][0]["cost"]
    assert cost["gpu_hours"] == pytest.approx(cost["hours"] / 2)
    assert cost["money"] == pytest.approx(3 * cost["gpu_hours"])
    assert cost["wall_hours"] == pytest.approx(cost["hours"] / 2)


def test_the_power_of_other_seeds_than_those_recorded_can_be_asked_for():
    recorded, asked = (plan_seeds(declare("depth"), pilot_of(), num_seeds=seeds) for seeds in (None, 20))
    assert (recorded["seeds_at_hand"], asked["seeds_at_hand"]) == (5, 20)
    assert asked["answers"][0]["power_now"] > recorded["answers"][0]["power_now"]
    assert asked["answers"][0]["seeds"] == recorded["answers"][0]["seeds"]


def test_what_the_seeds_at_hand_could_show():
    few, many = (plan_seeds(declare("depth"), pilot_of(seeds), standard_deviation=0.4) for seeds in (3, 10))
    assert few["detectable_at_hand"] > many["detectable_at_hand"] > 0
    assert few["answers"][0]["power_now"] < many["answers"][0]["power_now"]
    assert [answer["question"] for answer in few["answers"]] == [
        "a true difference of 0.5 points",
        "equal arms to be equivalent within ±0.5",
    ]


def test_looks_cost_seeds():
    fixed, sequential = (
        plan_seeds(declare("lrn", looks=looks), None, standard_deviation=0.5, difference=0.5)["answers"][0]["seeds"]
        for looks in ((), (3, 5, 10))
    )
    assert sequential > fixed


def test_a_question_far_below_the_noise_is_told_as_such(capsys):
    found = plan_seeds(declare("lrn"), None, standard_deviation=5.0, difference=0.1)
    assert found["answers"][0]["seeds"] is None
    shown = []
    print_plan(SeedPlan.of_data(found), shown.append, lambda _, rows: shown.extend(map(str, rows)))
    assert any("over 500" in line for line in shown)
    json.dumps(found)


@pytest.mark.parametrize("pilot", [None, pilot_of(1)], ids=["none", "one seed"])
def test_without_noise_to_plan_with_it_says_what_to_do(pilot):
    with pytest.raises(UserError, match=r"State one: --spread 0\.4.* or run a pilot"):
        plan_seeds(declare("depth"), pilot)
