"""What the rule itself would find with so many seeds: by simulation, so that every part of the rule counts."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from reports.statistics.critical import Array
from reports.statistics.many import half_widths
from reports.statistics.readers import ALPHA

STUDIES = 4000  # a rate near 80% is then known to 0.6 points
MOST_SEEDS = 500

Power = Callable[[int], float]


def power_of_difference(
    difference: float,
    deviation: float,
    seeds: int,
    rows: npt.ArrayLike,
    *,
    alpha: float = ALPHA,
    studies: int = STUDIES,
) -> float:
    """The chance that a true difference is found, for the contrast of the family that finds it least often.

    Args:
        difference: between the two arms of a contrast, in the units of ``deviation``.
        deviation: standard deviation of a paired difference of two arms.
        seeds: two or more.
        rows: contrasts x arms, the family.
        alpha: familywise level.
    """
    found = _simulated(deviation, seeds, rows, alpha, studies)
    return float(np.mean(found["estimate"] + abs(difference) > found["two_sided"], axis=0).min())


def power_of_equivalence(
    smallest_effect: float,
    deviation: float,
    seeds: int,
    rows: npt.ArrayLike,
    *,
    alpha: float = ALPHA,
    studies: int = STUDIES,
) -> float:
    """The chance that two arms that do not differ are found practically equivalent; arguments as above."""
    found = _simulated(deviation, seeds, rows, alpha, studies)
    return float(np.mean(np.abs(found["estimate"]) + found["one_sided"] < smallest_effect, axis=0).min())


def detectable_difference(
    deviation: float, seeds: int, rows: npt.ArrayLike, *, power: float = 0.8, alpha: float = ALPHA
) -> float:
    """The smallest true difference that the rule finds with this power, for every contrast of the family."""
    found = _simulated(deviation, seeds, rows, alpha, STUDIES)
    return float(np.quantile(found["two_sided"] - found["estimate"], power, axis=0).max())


def seeds_needed(power_at: Power, *, fewest: int = 2, power: float = 0.8) -> int | None:
    """The fewest seeds with at least this power; ``None`` beyond five hundred.

    Args:
        power_at: power by number of seeds, which more seeds do not lower.
    """
    low, high = fewest - 1, fewest
    while power_at(high) < power:
        if high >= MOST_SEEDS:
            return None
        low, high = high, min(2 * high, MOST_SEEDS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_at(middle) >= power else (middle, high)
    return high


def _simulated(deviation: float, seeds: int, rows: npt.ArrayLike, alpha: float, studies: int) -> dict[str, Array]:
    """Studies whose arms do not differ; the same ones at every call."""
    family = np.asarray(rows, dtype=np.float64)
    noise = np.random.default_rng(seeds).normal(size=(studies, family.shape[1], seeds))
    return half_widths(deviation / math.sqrt(2) * noise, family, alpha=alpha)
