"""How many whole seeds fit a budget, before anything is started: by the forecast with which a start admits them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from studies.design.budget import RunBudget, Spending
from studies.design.trial import Trial
from studies.runner.limits.durations import TrialDurations
from studies.runner.limits.forecast import (
    CLOSING_SECONDS,
    RAY_START_SECONDS,
    SAFETY_FACTOR,
    Load,
    forecast_spending,
)


@dataclass(frozen=True, kw_only=True)
class SeedForecast:
    """Forecast of what a start of some seeds will spend.

    Attributes:
        trials: of one seed, those that others depend on included.
        share: of the machine that a trial takes, from 0 to 1.
        gpus: that a trial holds.
        bundle_size: seeds of an arm that one process trains at once.
    """

    trials: Sequence[Trial]
    durations: TrialDurations
    share: float
    gpus: float = 0.0
    bundle_size: int = 1

    def unmeasured_arm(self) -> str:
        """The first arm whose time is neither measured nor can be estimated; empty where there is none."""
        unknown = (trial.arm for trial in self.trials if math.isnan(self.durations.seconds_of(trial)))
        return next(unknown, "")

    def spending(self, num_seeds: int) -> Spending:
        """What a start spends that trains some seeds, from the command to its end."""
        spent = Spending(seconds=CLOSING_SECONDS + RAY_START_SECONDS)
        loads: list[Load] = []
        for first in range(0, num_seeds, self.bundle_size):
            size = min(self.bundle_size, num_seeds - first)
            bundles = [self._load(trial, first, size) for trial in self.trials]
            loads += sorted(bundles, key=lambda load: -load.seconds)  # longest first, as a start sorts them
        return forecast_spending(spent, (), loads)

    def _load(self, trial: Trial, first: int, size: int) -> Load:
        return Load(
            name=(trial.fingerprint, first),
            seconds=SAFETY_FACTOR * self.durations.seconds_of(trial, size),
            share=self.share,
            gpus=self.gpus,
            num_trials=size,
            after=frozenset((dependency.fingerprint, first) for dependency in trial.dependencies),
        )


def count_fitting_seeds(budget: RunBudget, spending: Callable[[int], Spending], max_seeds: int) -> int:
    """The largest number of seeds whose spending stays within a budget.

    Args:
        spending: by number of seeds, which more seeds do not lower.
    """
    low, high = 0, 1
    while not budget.exceeded_by(spending(high)):
        if high >= max_seeds:
            return max_seeds
        low, high = high, min(2 * high, max_seeds)
    while high - low > 1:
        middle = (low + high) // 2
        if budget.exceeded_by(spending(middle)):
            high = middle
        else:
            low = middle
    return low
