"""Forecast what running and waiting trials will spend. Pure functions of seconds and shares."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from studies.design.budget import Spending

# Of the longest time measured so far: two trainings of one network differ by some percent.
SAFETY_FACTOR = 1.1
CLOSING_SECONDS = 10.0  # the last results are logged, Ray ends, the report is compiled
RAY_START_SECONDS = 8.0  # before the first trial of a start
SHARE_TOLERANCE = 1e-6  # rounding: three loads of a third each fit together


@dataclass(frozen=True, kw_only=True)
class Load:
    """What one process trains: a trial, or several seeds of an arm at once.

    Attributes:
        name: of this load, for those that wait for it.
        seconds: from its start to its end; of a running one, from now.
        share: of all machines, from 0 to 1.
        gpus: that it holds.
        after: loads that must have ended before it starts.
        num_trials: that it trains.
    """

    name: Hashable
    seconds: float
    share: float = 1.0
    gpus: float = 0.0
    after: frozenset[Hashable] = frozenset()
    num_trials: int = 1


def seconds_until_all_end(running: Iterable[Load], waiting: Iterable[Load], max_running: int = 0) -> float:
    """Seconds from now until all loads have ended, started in order and without backfilling as the queue does.

    Args:
        max_running: how many trials may run at once; 0 for as many as fit.
    """
    now = 0.0
    pending = list(waiting)
    active: list[tuple[float, int, Load]] = []
    for number, load in enumerate(running):
        heapq.heappush(active, (load.seconds, number, load))
    num_started = len(active)
    while pending or active:
        while startable := _next_startable(pending, [item[2] for item in active], max_running):
            pending.remove(startable)
            heapq.heappush(active, (now + startable.seconds, num_started, startable))
            num_started += 1
        if not active:
            break  # what is left waits for loads that are not part of the forecast
        now, _, _ = heapq.heappop(active)
    return now


def _next_startable(pending: Sequence[Load], active: Sequence[Load], max_running: int) -> Load | None:
    """The first load that waits for nothing, if there is room for it."""
    first_ready = _first_ready(pending, active)
    if first_ready is None or not active:
        return first_ready
    taken = sum(load.share for load in active)
    has_room = taken + first_ready.share <= 1 + SHARE_TOLERANCE
    num_running = sum(load.num_trials for load in active) + first_ready.num_trials
    return first_ready if has_room and (not max_running or num_running <= max_running) else None


def _first_ready(pending: Sequence[Load], active: Sequence[Load]) -> Load | None:
    if pending and not pending[0].after:  # of thousands of loads, few wait for others
        return pending[0]
    unfinished = {load.name for load in (*pending, *active)}
    return next((load for load in pending if not load.after & unfinished), None)


def forecast_spending(
    spent: Spending, running: Sequence[Load], waiting: Sequence[Load], max_running: int = 0
) -> Spending:
    """Spending once all loads have ended."""
    gpu_seconds = sum(load.gpus * load.seconds for load in (*running, *waiting))
    return Spending(
        seconds=spent.seconds + seconds_until_all_end(running, waiting, max_running),
        gpu_hours=spent.gpu_hours + gpu_seconds / 3_600,
    )
