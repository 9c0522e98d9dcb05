"""Power of the verdict rule, by simulation.

Simulation covers every part of the rule (max-t critical value, pooled variance, noise guard), which the noncentral t of
:mod:`reports.statistics.planning` does not. Noise is normal, independent and of equal variance in all arms.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from reports.statistics.critical_values import Array
from reports.statistics.evidence import ALPHA
from reports.statistics.simulation import batched_half_widths

# A rate near 80% then has a standard error of 0.6 percentage points.
NUM_SIMULATED_STUDIES = 4000
MAX_SEEDS = 500
PowerFunction = Callable[[int], float]


def simulate_difference_power(
    difference: float,
    standard_deviation: float,
    num_seeds: int,
    coefficients: npt.ArrayLike,
    *,
    alpha: float = ALPHA,
    num_studies: int = NUM_SIMULATED_STUDIES,
) -> float:
    """Power to find a true difference, for the contrast with the least power.

    Args:
        difference: between the two arms of a contrast, in the units of ``standard_deviation``.
        standard_deviation: of a paired difference of two arms.
        num_seeds: two or more.
        coefficients: contrasts x arms, the family.
        alpha: familywise level.
    """
    intervals = _simulate_null_studies(standard_deviation, num_seeds, coefficients, alpha, num_studies)
    # Intervals do not depend on the means: a true difference only shifts the estimates of null studies.
    return float(np.mean(intervals["estimate"] + abs(difference) > intervals["two_sided"], axis=0).min())


def simulate_equivalence_power(
    smallest_effect: float,
    standard_deviation: float,
    num_seeds: int,
    coefficients: npt.ArrayLike,
    *,
    alpha: float = ALPHA,
    num_studies: int = NUM_SIMULATED_STUDIES,
) -> float:
    """Power to find two equal arms practically equivalent, for the contrast with the least power.

    Arguments as in :func:`simulate_difference_power`.
    """
    intervals = _simulate_null_studies(standard_deviation, num_seeds, coefficients, alpha, num_studies)
    is_equivalent = np.abs(intervals["estimate"]) + intervals["one_sided"] < smallest_effect
    return float(np.mean(is_equivalent, axis=0).min())


def simulate_detectable_difference(
    standard_deviation: float, num_seeds: int, coefficients: npt.ArrayLike, *, power: float = 0.8, alpha: float = ALPHA
) -> float:
    """Smallest true difference that the rule finds with this power in every contrast of the family."""
    intervals = _simulate_null_studies(standard_deviation, num_seeds, coefficients, alpha, NUM_SIMULATED_STUDIES)
    return float(np.quantile(intervals["two_sided"] - intervals["estimate"], power, axis=0).max())


def required_seeds(power_at: PowerFunction, *, min_seeds: int = 2, power: float = 0.8) -> int | None:
    """Fewest seeds with at least this power; ``None`` where 500 are not enough.

    Args:
        power_at: power by number of seeds, which more seeds do not lower.
    """
    # Double until the power is reached, then bisect: simulations are the cost, so few calls matter.
    low, high = min_seeds - 1, min_seeds
    while power_at(high) < power:
        if high >= MAX_SEEDS:
            return None
        low, high = high, min(2 * high, MAX_SEEDS)
    while high - low > 1:
        middle = (low + high) // 2
        if power_at(middle) >= power:
            high = middle
        else:
            low = middle
    return high


def _simulate_null_studies(
    standard_deviation: float, num_seeds: int, coefficients: npt.ArrayLike, alpha: float, num_studies: int
) -> dict[str, Array]:
    """Simulate studies whose arms do not differ."""
    family = np.asarray(coefficients, dtype=np.float64)
    # Seeded by the number of seeds: calls with other differences or margins see the same studies.
    noise = np.random.default_rng(num_seeds).normal(size=(num_studies, family.shape[1], num_seeds))
    # Independent arms: the SD of a paired difference is √2 times that of one arm.
    return batched_half_widths(standard_deviation / math.sqrt(2) * noise, family, alpha=alpha)
