"""Which whole seeds fit into a budget, as pure functions of seconds and shares."""

import pytest

from studies.design.budget import NO_BUDGET, RunBudget, Spending
from studies.runner.limits.forecast import Load, forecast_spending, seconds_until_all_end


def loads(*seconds, share=1.0, gpus=0.0, name=""):
    return [Load(name=f"{name}{number}", seconds=value, share=share, gpus=gpus) for number, value in enumerate(seconds)]


def count_fitting_seeds(budget, spent, running, loads_by_seed, max_running=0):
    """How many of the next seeds, each with the loads of all its arms, end within a budget."""
    waiting = []
    for count, loads_of_seed in enumerate(loads_by_seed):
        waiting += loads_of_seed
        if budget.exceeded_by(forecast_spending(spent, running, waiting, max_running)):
            return count
    return len(loads_by_seed)


@pytest.mark.parametrize(
    ("running", "waiting", "share", "max_running", "end"),
    [
        ((), (), 1, 0, 0),
        ((), (5, 7), 1, 0, 12),  # one after the other
        ((), (5, 7), 0.5, 0, 7),  # both at once
        ((), (5, 7, 1), 0.5, 0, 7),  # the third follows the shorter one
        ((), (5, 7, 4), 0.5, 0, 9),
        ((3,), (5,), 0.5, 0, 5),
        ((3,), (5,), 1, 0, 8),
        ((3, 9), (5,), 0.5, 0, 9),
        ((), (5, 7), 0.25, 1, 12),  # room for four, one allowed
        ((), (4, 4, 4), 1 / 3, 0, 4),  # thirds do not add up to one exactly
        ((2,), (), 1, 0, 2),
    ],
)
def test_loads_start_in_order_as_they_fit(running, waiting, share, max_running, end):
    found = seconds_until_all_end(
        loads(*running, share=share, name="r"), loads(*waiting, share=share, name="w"), max_running
    )
    assert found == pytest.approx(end)


def test_a_bundle_counts_with_all_its_trials_where_only_so_many_may_run():
    bundles = [Load(name=name, seconds=5, share=0.1, num_trials=3) for name in ("a", "b")]
    assert seconds_until_all_end([], bundles, max_running=4) == 10
    assert seconds_until_all_end([], bundles, max_running=6) == 5


def test_a_load_that_fits_does_not_overtake_a_larger_one():
    small, large = Load(name="s", seconds=1, share=0.5), Load(name="l", seconds=10, share=1.0)
    running = [Load(name="r", seconds=4, share=0.5)]
    assert seconds_until_all_end(running, [large, small]) == 4 + 10 + 1
    assert seconds_until_all_end(running, [small, large]) == 4 + 10


def test_a_load_waits_for_those_that_it_depends_on():
    source = Load(name="source", seconds=5, share=0.5)
    warm = Load(name="warm", seconds=3, share=0.5, after=frozenset({"source"}))
    other = Load(name="other", seconds=4, share=0.5)
    assert seconds_until_all_end([], [source, warm, other]) == 8
    assert seconds_until_all_end([source], [warm, other]) == 8
    assert seconds_until_all_end([], [warm, other]) == 4  # its source network has ended before


def test_what_waits_for_ever_does_not_hang_the_forecast():
    assert seconds_until_all_end([], [Load(name="a", seconds=1, after=frozenset({"a"}))]) == 0


@pytest.mark.parametrize(
    ("limit", "spent", "running", "seeds", "count"),
    [
        (100, 0, (), [(10, 10)] * 5, 5),  # 20 s a seed on one worker
        (99, 0, (), [(10, 10)] * 5, 4),
        (100, 1, (), [(10, 10)] * 5, 4),
        (100, 0, (1,), [(10, 10)] * 5, 4),
        (20, 0, (), [(10, 10)] * 5, 1),
        (19, 0, (), [(10, 10)] * 5, 0),  # the first arm would fit, and the second one would not
        (12, 0, (), [(10, 1), (1, 1)], 1),
        (15, 0, (), [(10, 10), (1, 1)], 0),  # a later seed that fits does not overtake
        (5, 6, (), [(1,)], 0),
        (5, 6, (), [], 0),
        (100, 0, (), [()], 1),
    ],
)
def test_seeds_are_counted_whole(limit, spent, running, seeds, count):
    by_seed = [loads(*seconds, name=f"{number}-") for number, seconds in enumerate(seeds)]
    found = count_fitting_seeds(RunBudget(max_seconds=limit), Spending(seconds=spent), loads(*running), by_seed)
    assert found == count


def test_without_a_limit_every_seed_fits():
    by_seed = [loads(1e9, name=str(number)) for number in range(3)]
    assert count_fitting_seeds(NO_BUDGET, Spending(seconds=1e12, gpu_hours=1e12), [], by_seed) == 3


@pytest.mark.parametrize(("share", "count"), [(1.0, 2), (0.5, 4), (0.25, 8), (0.0, 9)])
def test_gpu_hours_are_the_share_times_the_time(share, count):
    by_seed = [loads(1_800, 1_800, share=share, gpus=share, name=f"{seed}-") for seed in range(9)]
    budget = RunBudget(max_gpu_hours=2.2)
    assert count_fitting_seeds(budget, Spending(), [], by_seed) == count
    priced = RunBudget(max_cost=4.4, price_per_gpu_hour=2.0)
    assert count_fitting_seeds(priced, Spending(), [], by_seed) == count


def test_running_trials_count_with_the_gpu_time_that_they_still_take():
    by_seed = [loads(3_600, gpus=1.0, name=str(seed)) for seed in range(4)]
    running = loads(3_600, gpus=1.0, name="r")
    assert count_fitting_seeds(RunBudget(max_gpu_hours=3), Spending(gpu_hours=0.5), running, by_seed) == 1


def test_the_tighter_of_two_limits_decides():
    by_seed = [loads(60, gpus=1.0, name=str(seed)) for seed in range(9)]
    budget = RunBudget(max_seconds=300, max_gpu_hours=2 / 60)
    assert count_fitting_seeds(budget, Spending(), [], by_seed) == 2
