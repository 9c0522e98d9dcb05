"""How many whole seeds a budget has room for, before anything is started."""

import math
from dataclasses import dataclass

import pytest

from studies.design.budget import RunBudget, Spending
from studies.runner.limits.durations import TrialDurations
from studies.runner.limits.forecast import CLOSING_SECONDS, RAY_START_SECONDS, SAFETY_FACTOR
from studies.runner.limits.seed_forecast import SeedForecast, count_fitting_seeds

START_SECONDS = CLOSING_SECONDS + RAY_START_SECONDS


@dataclass(frozen=True)
class FakeTrial:
    """As much of a trial as a forecast looks at."""

    arm: str
    epochs: int = 10
    dependencies: tuple = ()

    @property
    def fingerprint(self):
        """Its arm: all are of one seed."""
        return self.arm


def forecast(seconds, **options):
    durations = TrialDurations(lambda trial: seconds.get(trial.arm, math.nan))
    options = {"trials": [*map(FakeTrial, seconds)], "share": 1.0} | options
    return SeedForecast(durations=durations, **options)


def test_a_start_takes_its_trials_in_turn_and_its_own_time():
    spending = forecast({"A": 10.0, "B": 20.0}).spending(3)
    assert spending.seconds == pytest.approx(START_SECONDS + 3 * 30 * SAFETY_FACTOR)
    assert spending.gpu_hours == 0


def test_trials_share_the_machine_and_a_gpu_by_their_part():
    spending = forecast({"A": 10.0, "B": 10.0}, share=0.5, gpus=0.5).spending(3)
    assert spending.seconds == pytest.approx(START_SECONDS + 3 * 10 * SAFETY_FACTOR)
    assert spending.gpu_hours == pytest.approx(3 * 2 * 0.5 * 10 * SAFETY_FACTOR / 3_600)


def test_a_trial_waits_for_the_one_whose_weights_it_needs():
    source = FakeTrial("A")
    warm = FakeTrial("B", dependencies=(source,))
    shared = forecast({"A": 10.0, "B": 10.0}, trials=[warm, source], share=0.5).spending(1)
    assert shared.seconds == pytest.approx(START_SECONDS + 20 * SAFETY_FACTOR)


def test_a_bundle_of_seeds_is_one_load():
    measured = forecast({"A": 10.0}, bundle_size=4)
    measured.durations.record(FakeTrial("A"), 16.0, bundle_size=4)
    assert measured.spending(8).seconds == pytest.approx(START_SECONDS + 2 * 16 * SAFETY_FACTOR)


def test_an_arm_of_unknown_time_is_named():
    assert forecast({"A": 10.0, "B": math.nan}).unmeasured_arm() == "B"
    assert forecast({"A": 10.0}).unmeasured_arm() == ""


@pytest.mark.parametrize(("limit", "count"), [(9, 0), (10, 1), (19, 1), (70, 7), (71, 7), (1_000, 50)])
def test_the_most_seeds_within_the_budget_are_counted(limit, count):
    budget = RunBudget(max_seconds=limit)
    assert count_fitting_seeds(budget, lambda seeds: Spending(seconds=10.0 * seeds), max_seeds=50) == count


def test_thousands_of_trials_are_forecast_at_once():
    many = forecast({str(arm): 1.0 for arm in range(40)}, share=0.125)
    assert many.spending(500).seconds == pytest.approx(START_SECONDS + 40 * 500 / 8 * SAFETY_FACTOR)
