"""How many seeds a question takes, and what the seeds at hand could have shown. Never "observed power"."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

from reports.statistics.contrasts import additive_fit, variance
from reports.statistics.critical import Array, critical_value

MOST_SEEDS = 10_000


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """What the seeds at hand can show about a difference to the baseline.

    Attributes:
        standard_deviation: of a paired difference, √(2 MSE), in the endpoint's units; NaN without two arms and seeds.
        degrees_of_freedom: behind it.
        half_width: no smaller difference could have been told from zero.
        detectable: a smaller true difference would be missed more than one time in five.
        correlation: of arms over seeds: how much pairing helps.
    """

    seeds: int
    standard_deviation: float
    degrees_of_freedom: int
    half_width: float
    detectable: float
    correlation: float
    unit: str = "points"

    @property
    def sentence(self) -> str:
        """For the report."""
        if math.isnan(self.standard_deviation):
            return "One seed shows nothing about how much a method varies, so no difference can be called detectable."
        return (
            f"With these {self.seeds} seeds (SD of a paired difference {self.standard_deviation:.2g} {self.unit}, "
            f"{self.degrees_of_freedom} df) a difference to the baseline below {self.detectable:.2g} {self.unit} "
            "would be missed more than one time in five."
        )


def resolution(values: npt.ArrayLike, *, unit: str = "points") -> Resolution:
    """What a table of arms x seeds can show: from its noise and its size, never from the differences it found.

    Args:
        values: arms x seeds, the baseline among them; what is not finite is missing.
        unit: as printed.
    """
    table = np.array(values, dtype=np.float64)
    table = table[np.isfinite(table).any(axis=1)]
    seeds = int(np.isfinite(table).any(axis=0).sum())
    square, freedom = additive_fit(table)
    deviation = math.sqrt(2 * square) if freedom else math.nan
    known = freedom > 0 and seeds >= 2
    return Resolution(
        seeds=seeds,
        standard_deviation=deviation if known else math.nan,
        degrees_of_freedom=freedom,
        half_width=half_width(deviation, seeds, arms=len(table)) if known else math.inf,
        detectable=minimum_detectable_difference(deviation, seeds, arms=len(table)) if known else math.inf,
        correlation=pairing_correlation(table),
        unit=unit,
    )


def pairing_correlation(values: npt.ArrayLike) -> float:
    """Mean correlation of arms over the seeds that all of them have: mean covariance over mean variance; else NaN."""
    table = np.array(values, dtype=np.float64)
    table = table[:, np.all(np.isfinite(table), axis=0)]
    if min(table.shape) < 2:
        return math.nan
    total = float(np.mean([variance(row) for row in table]))
    return 1 - additive_fit(table)[0] / total if total else math.nan


def half_width(standard_deviation: float, seeds: int, *, arms: int = 2) -> float:
    """Half the simultaneous 95% interval of ``arms - 1`` differences to a baseline.

    Args:
        standard_deviation: of a paired difference: that of one arm times √(2(1 - ρ)).
        seeds: two or more.
        arms: with the baseline.
    """
    return _dunnett(seeds, arms) * standard_deviation / math.sqrt(seeds)


def minimum_detectable_difference(standard_deviation: float, seeds: int, *, arms: int = 2, power: float = 0.8) -> float:
    """The true difference that one of ``arms - 1`` comparisons finds with the given power, all variances pooled.

    In units of the standard deviation of a paired difference, at 80% power: 3.26 for two arms and three seeds, 1.68 for
    five, 1.00 for ten.

    Source: the noncentral t; why no observed effect enters it: Hoenig & Heisey 2001.
    """
    value, freedom = _dunnett(seeds, arms), (arms - 1) * (seeds - 1)
    unit = standard_deviation / math.sqrt(seeds)

    scale = _scales(freedom)

    def shortfall(shift: float) -> float:
        return float(np.mean(special.ndtr(shift - value * scale) + special.ndtr(-shift - value * scale))) - power

    return unit * float(optimize.brentq(shortfall, 0.0, 10 * value))


def seeds_for_difference(
    difference: float, standard_deviation: float, *, arms: int = 2, power: float = 0.8
) -> int | None:
    """The fewest seeds that find this true difference with the given power; ``None`` beyond ten thousand."""
    return _fewest(
        lambda seeds: minimum_detectable_difference(standard_deviation, seeds, arms=arms, power=power) <= difference
    )


def seeds_for_equivalence(smallest_effect: float, standard_deviation: float, *, power: float = 0.8) -> int | None:
    """The fewest seeds by which two arms that do not differ are shown equivalent; ``None`` beyond ten thousand."""
    return _fewest(lambda seeds: equivalence_power(smallest_effect, standard_deviation, seeds) >= power)


def equivalence_power(smallest_effect: float, standard_deviation: float, seeds: int) -> float:
    """Chance that two one-sided t tests show two equal arms to be within the smallest effect.

    Source: Schuirmann 1987.
    """
    bound = float(stats.t.ppf(0.95, seeds - 1)) * _scales(seeds - 1)
    room = smallest_effect / standard_deviation * math.sqrt(seeds) - bound
    return float(np.mean(np.maximum(2 * special.ndtr(room) - 1, 0.0)))


def upper_limit_of_deviation(standard_deviation: float, degrees_of_freedom: int, *, confidence: float = 0.9) -> float:
    """What to plan with instead of a pilot's standard deviation: 3.1 times it after three seeds, 1.9 after five."""
    tail = float(stats.chi2.ppf(1 - confidence, degrees_of_freedom))
    return standard_deviation * math.sqrt(degrees_of_freedom / tail)


def _scales(degrees_of_freedom: int) -> Array:
    """Estimated over true standard deviation, at 4,000 quantiles: a mean over them is a mean over its distribution."""
    quantiles = (np.arange(4000) + 0.5) / 4000
    return np.sqrt(stats.chi2.ppf(quantiles, degrees_of_freedom) / degrees_of_freedom)


def _dunnett(seeds: int, arms: int) -> float:
    if seeds < 2 or arms < 2:
        raise ValueError(f"{seeds} seeds of {arms} arms; expected two or more of each: one has no spread.")
    correlation = np.full((arms - 1, arms - 1), 0.5) + 0.5 * np.eye(arms - 1)
    return critical_value(correlation, (arms - 1) * (seeds - 1))


def _fewest(enough: Callable[[int], bool]) -> int | None:
    """The smallest number of seeds, two or more, that is enough, for a condition that stays true once it is."""
    high = 2
    while not enough(high):
        if high >= MOST_SEEDS:
            return None
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
