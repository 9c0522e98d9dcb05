"""Budgets in words: durations, limits, and what was spent."""

import pytest

from lightning_modules.specs.errors import InvalidValue
from studies.design.budget import NO_BUDGET, RunBudget, Spending, duration_option, format_seconds, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("12m", 720), ("3h", 10_800), ("1h30m", 5_400), ("2d", 172_800), ("1.5h", 5_400), ("0.5s", 0.5)],
)
def test_a_duration_is_a_number_with_its_unit(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["90", "", "3 h", "h", "-3h", "3x", "1h30", "nan", "3H"])
def test_any_other_text_is_refused_with_examples(text):
    with pytest.raises(InvalidValue, match=r"is not a duration; expected a number with its unit: 90s, 12m, 3h"):
        parse_duration(text)


def test_no_time_at_all_is_refused():
    with pytest.raises(InvalidValue, match="expected a duration above 0"):
        parse_duration("0s")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min"), (103, "1 min 43 s"), (720, "12 min"), (12_000, "3 h 20 min"), (180_000, "2 d 2 h")],
)
def test_seconds_are_told_in_two_units(seconds, text):
    assert format_seconds(seconds) == text


@pytest.mark.parametrize("seconds", [0.2, 59.1, 119, 121, 3_599, 3_601, 86_400, 100_000])
def test_a_suggested_duration_can_be_given_and_is_enough(seconds):
    assert seconds <= parse_duration(duration_option(seconds)) <= seconds + 60


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_a_limit_is_above_zero(value):
    with pytest.raises(InvalidValue, match=r"RunBudget\.max_seconds is .*; expected a finite number above 0"):
        RunBudget(max_seconds=value)


def test_a_cost_needs_a_price():
    with pytest.raises(InvalidValue, match="max_cost needs price_per_gpu_hour"):
        RunBudget(max_cost=10)


@pytest.mark.parametrize(
    ("budget", "spending", "exceeded"),
    [
        (NO_BUDGET, Spending(seconds=1e9, gpu_hours=1e9), False),
        (RunBudget(price_per_gpu_hour=2.0), Spending(gpu_hours=1e9), False),
        (RunBudget(max_seconds=60), Spending(seconds=60), False),
        (RunBudget(max_seconds=60), Spending(seconds=61), True),
        (RunBudget(max_gpu_hours=2), Spending(seconds=1e9, gpu_hours=1.9), False),
        (RunBudget(max_gpu_hours=2), Spending(gpu_hours=2.1), True),
        (RunBudget(max_cost=10, price_per_gpu_hour=4), Spending(gpu_hours=2.5), False),
        (RunBudget(max_cost=10, price_per_gpu_hour=4), Spending(gpu_hours=2.6), True),
        (RunBudget(max_seconds=60, max_gpu_hours=2), Spending(seconds=61, gpu_hours=0), True),
    ],
)
def test_each_limit_counts_by_itself(budget, spending, exceeded):
    assert budget.exceeded_by(spending) is exceeded


def test_what_was_spent_is_told_as_far_as_it_is_limited():
    spending = Spending(seconds=103, gpu_hours=0.8)
    assert RunBudget(max_seconds=120).describe_spending(spending) == "1 min 43 s"
    assert RunBudget(max_gpu_hours=1).describe_spending(spending) == "0.80 GPU hours"
    paid = RunBudget(max_cost=5, price_per_gpu_hour=2)
    assert paid.describe_spending(spending) == "a cost of 1.60"
    assert paid.describe() == "a cost of 5"
    assert RunBudget(max_seconds=120, max_gpu_hours=1).describe() == "2 min and 1 GPU hours"
