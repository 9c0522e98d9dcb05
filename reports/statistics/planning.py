"""Sensitivity and sample size in closed form, from noise alone.

Detectable differences by the noncentral t with Dunnett's critical value, equivalence by two one-sided t tests (TOST).
Only the noise and the number of seeds enter, never an observed effect ("observed power" is a function of the p-value).
:mod:`reports.statistics.power` simulates the whole rule.

Source: Dunnett 1955; Schuirmann 1987; Hoenig & Heisey 2001.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

from reports.statistics.contrasts import fit_additive_model, sample_variance
from reports.statistics.critical_values import Array, critical_value

MAX_SEEDS = 10_000


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """Differences to the baseline that the seeds at hand can show.

    Attributes:
        standard_deviation: of a paired difference, √(2 MSE), in the endpoint's units; NaN without two arms and seeds.
        degrees_of_freedom: of that standard deviation.
        half_width: of the simultaneous interval: no smaller observed difference would exclude zero.
        detectable_difference: true difference that is found with 80% power.
        correlation: of arms over seeds; the higher, the more pairing reduces the noise.
    """

    num_seeds: int
    standard_deviation: float
    degrees_of_freedom: int
    half_width: float
    detectable_difference: float
    correlation: float
    unit: str = "points"

    @property
    def sentence(self) -> str:
        """One sentence for the report."""
        if math.isnan(self.standard_deviation):
            return "One seed does not show how much a method varies, so no difference can be called detectable."
        noise = f"SD of a paired difference {self.standard_deviation:.2g} {self.unit}, {self.degrees_of_freedom} df"
        return (
            f"With these {self.num_seeds} seeds ({noise}), a true difference to the baseline below "
            f"{self.detectable_difference:.2g} {self.unit} would be missed more than one time in five."
        )


def estimate_sensitivity(values: npt.ArrayLike, *, unit: str = "points") -> Sensitivity:
    """Compute the sensitivity of a table of arms x seeds from its noise and size.

    Args:
        values: arms x seeds, the baseline included; non-finite values are missing.
        unit: as printed.
    """
    table = np.array(values, dtype=np.float64)
    table = table[np.isfinite(table).any(axis=1)]
    seeds = int(np.isfinite(table).any(axis=0).sum())
    square, freedom = fit_additive_model(table)
    deviation, width, detectable = math.nan, math.inf, math.inf
    if freedom > 0 and seeds >= 2:
        deviation = math.sqrt(2 * square)
        width = half_width(deviation, seeds, num_arms=len(table))
        detectable = minimum_detectable_difference(deviation, seeds, num_arms=len(table))
    return Sensitivity(
        num_seeds=seeds,
        standard_deviation=deviation,
        degrees_of_freedom=freedom,
        half_width=width,
        detectable_difference=detectable,
        correlation=pairing_correlation(table),
        unit=unit,
    )


def pairing_correlation(values: npt.ArrayLike) -> float:
    """Mean correlation of arms over their common seeds: mean covariance over mean variance; else NaN."""
    table = np.array(values, dtype=np.float64)
    table = table[:, np.all(np.isfinite(table), axis=0)]
    if min(table.shape) < 2:
        return math.nan
    total = float(np.mean([sample_variance(row) for row in table]))
    # The residual mean square of y ~ arm + seed is mean variance - mean covariance.
    return 1 - fit_additive_model(table)[0] / total if total else math.nan


def half_width(standard_deviation: float, num_seeds: int, *, num_arms: int = 2) -> float:
    """Half-width of the simultaneous 95% intervals of all differences to a baseline.

    Args:
        standard_deviation: of a paired difference: that of one arm times √(2(1 - ρ)).
        num_seeds: two or more.
        num_arms: including the baseline; the family has ``num_arms - 1`` differences.
    """
    return _dunnett_critical_value(num_seeds, num_arms) * standard_deviation / math.sqrt(num_seeds)


def minimum_detectable_difference(
    standard_deviation: float, num_seeds: int, *, num_arms: int = 2, power: float = 0.8
) -> float:
    """True difference that a comparison with the baseline finds with the given power.

    The variance is pooled over all ``num_arms`` arms. In units of the SD of a paired difference, at 80% power: 3.26 for
    two arms and three seeds, 1.68 for five, 1.00 for ten.

    Source: the noncentral t; why no observed effect enters it: Hoenig & Heisey 2001.
    """
    value = _dunnett_critical_value(num_seeds, num_arms)
    standard_error = standard_deviation / math.sqrt(num_seeds)
    ratios = _deviation_ratios((num_arms - 1) * (num_seeds - 1))

    def shortfall(shift: float) -> float:
        # Given the estimated standard deviation, the test statistic is normal: the noncentral t is their mixture.
        above, below = special.ndtr(shift - value * ratios), special.ndtr(-shift - value * ratios)
        return float(np.mean(above + below)) - power

    return standard_error * float(optimize.brentq(shortfall, 0.0, 10 * value))


def seeds_for_equivalence(smallest_effect: float, standard_deviation: float, *, power: float = 0.8) -> int | None:
    """Fewest seeds that show two equal arms equivalent; ``None`` where 10,000 are not enough."""

    def has_power(num_seeds: int) -> bool:
        return equivalence_power(smallest_effect, standard_deviation, num_seeds) >= power

    return _fewest_seeds(has_power)


def equivalence_power(smallest_effect: float, standard_deviation: float, num_seeds: int) -> float:
    """Power of two one-sided t tests (TOST) to show two equal arms equivalent.

    Source: Schuirmann 1987.
    """
    bound = float(stats.t.ppf(0.95, num_seeds - 1)) * _deviation_ratios(num_seeds - 1)
    margin = smallest_effect / standard_deviation * math.sqrt(num_seeds) - bound
    # Where the bound exceeds the margin, no outcome shows equivalence: the power is 0, not negative.
    return float(np.mean(np.maximum(2 * special.ndtr(margin) - 1, 0.0)))


def deviation_upper_limit(standard_deviation: float, degrees_of_freedom: int, *, confidence: float = 0.9) -> float:
    """Upper confidence limit (χ²) of a pilot's standard deviation, to plan with.

    At 90% confidence, 3.1 times the pilot's value with three seeds of two arms, 1.9 times with five.
    """
    tail = float(stats.chi2.ppf(1 - confidence, degrees_of_freedom))
    return standard_deviation * math.sqrt(degrees_of_freedom / tail)


def _deviation_ratios(degrees_of_freedom: int) -> Array:
    """Ratio of estimated to true standard deviation at 4,000 equally likely quantiles.

    A mean over them approximates the expectation over its distribution.
    """
    quantiles = (np.arange(4000) + 0.5) / 4000
    return np.sqrt(stats.chi2.ppf(quantiles, degrees_of_freedom) / degrees_of_freedom)


def _dunnett_critical_value(num_seeds: int, num_arms: int) -> float:
    if num_seeds < 2 or num_arms < 2:
        raise ValueError(f"{num_seeds} seeds of {num_arms} arms; expected two or more of each: one has no variance.")
    # Differences to one baseline share its noise: with equal seeds, every two of them correlate by 1/2.
    correlation = np.full((num_arms - 1, num_arms - 1), 0.5) + 0.5 * np.eye(num_arms - 1)
    return critical_value(correlation, (num_arms - 1) * (num_seeds - 1))


def _fewest_seeds(is_enough: Callable[[int], bool]) -> int | None:
    """Smallest number of seeds, at least two, that is enough; more seeds must stay enough."""
    high = 2
    while not is_enough(high):
        if high >= MAX_SEEDS:
            return None
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if is_enough(middle):
            high = middle
        else:
            low = middle
    return high
