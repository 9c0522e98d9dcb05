"""Learning-rate schedules: warm-up, constant, cosine, plateau."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lightning_modules.specs.recipe import Recipe

MAX_RATE_DIVISIONS = 3  # by ten, under the schedule ``plateau`` (Simonyan & Zisserman 2015, Sect. 3.1)


@dataclass
class Plateau:
    """State of a schedule that divides the rate on a plateau.

    A plateau is an error that has not fallen below its minimum for some epochs.

    Attributes:
        patience: epochs without a new minimum before the rate is divided.
        least: smallest error so far.
        waited: epochs since the smallest error, or since the rate was divided.
        divisions: of the rate, so far.
    """

    # These names are the keys of the state in checkpoints.
    patience: int
    least: float = math.inf
    waited: int = 0
    divisions: int = 0

    def observe_error(self, error: float) -> bool:
        """Record an epoch's error; return whether to divide the rate now."""
        self.waited = 0 if error < self.least else self.waited + 1
        self.least = min(self.least, error)
        return self.waited >= self.patience and self.divisions < MAX_RATE_DIVISIONS

    def count_division(self) -> None:
        """Record a division of the rate, and restart the patience."""
        self.waited, self.divisions = 0, self.divisions + 1


def learning_rate_factor(recipe: Recipe, step: int, total_steps: int, num_divisions: int = 0) -> float:
    """Return the fraction of the peak learning rate at a step.

    It rises linearly, then follows the recipe's schedule.

    Args:
        num_divisions: divisions by ten so far, under the schedule ``plateau``.
    """
    warmup = round(total_steps * recipe.warmup)
    if step < warmup:
        return (step + 1) / warmup  # the first step is not at rate 0
    if recipe.schedule == "constant":
        return 1.0
    if recipe.schedule == "plateau":
        return 10.0**-num_divisions
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total_steps - warmup)))
