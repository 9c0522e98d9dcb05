"""What a number of seeds can find, and the seeds that a question takes: the verdict rule itself, simulated.

One answer for ``ablate show``, ``ablate plan``, the report and the documentation. Every part of the rule is in it
(the critical value of the study's own family, pooled variance, noise guard). Noise is normal, independent and of
equal variance in all arms, which :func:`variance_excess` checks; only the noise and the number of seeds enter, never
an observed effect ("observed power" is a function of the p-value).

Source: Dunnett 1955; Schuirmann 1987; Hoenig & Heisey 2001.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import stats

from lightning_modules.specs.text import format_count
from reports.formatting import format_fixed, format_significant
from reports.statistics.contrasts import fit_additive_model, sample_variance
from reports.statistics.critical_values import Array
from reports.statistics.evidence import ALPHA
from reports.statistics.families import ContrastFamily
from reports.statistics.simulation import half_widths_from_moments, simulate_moments

# A rate near 80% then has a standard error of 0.6 percentage points.
NUM_SIMULATED_STUDIES = 4000
MAX_SEEDS = 500
MIN_SEEDS_FOR_MARGINS = 3  # two state a direction at most, see `reports.statistics.verdict_options`
TARGET_POWER = 0.8
PowerFunction = Callable[[int], float]
Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class FamilyDesign:
    """What decides the width of intervals beside the noise: the contrasts of a family, and its level.

    Attributes:
        rows: coefficients, contrasts x arms.
        num_pairs: how many of the rows, the first ones, are differences of two arms; power is theirs.
    """

    rows: Rows
    num_pairs: int
    alpha: float = ALPHA

    @classmethod
    def of_family(cls, family: ContrastFamily, arms: tuple[str, ...], alpha: float = ALPHA) -> FamilyDesign:
        """Describe a family of contrasts of arms."""
        rows = tuple(tuple(row) for row in family.coefficients(arms).tolist())
        return cls(rows=rows, num_pairs=len(family.pairs), alpha=alpha)


def difference_power(difference: float, standard_deviation: float, num_seeds: int, design: FamilyDesign) -> float:
    """Power to find a true difference, for the pair of arms with the least power.

    Args:
        difference: between two arms, in the units of ``standard_deviation``.
        standard_deviation: of a paired difference of two arms.
        num_seeds: two or more.
        design: the family and its level.
    """
    thresholds = _detection_thresholds(design, num_seeds)
    return float(np.mean(abs(difference) / standard_deviation > thresholds, axis=0).min())


def equivalence_power(smallest_effect: float, standard_deviation: float, num_seeds: int, design: FamilyDesign) -> float:
    """Power to find two equal arms practically equivalent, for the pair of arms with the least power.

    Arguments as in :func:`difference_power`.
    """
    if num_seeds < MIN_SEEDS_FOR_MARGINS:
        return 0.0
    reached = _equivalence_margins(design, num_seeds) < smallest_effect / standard_deviation
    return float(np.mean(reached, axis=0).min())


def detectable_difference(num_seeds: int, design: FamilyDesign, *, power: float = TARGET_POWER) -> float:
    """Smallest true difference that is found with this power between any pair of arms, in SD of a paired difference."""
    return float(np.quantile(_detection_thresholds(design, num_seeds), power, axis=0).max())


def seeds_for_difference(
    difference: float, standard_deviation: float, design: FamilyDesign, *, power: float = TARGET_POWER
) -> int | None:
    """Fewest seeds that find a true difference; ``None`` where 500 are not enough."""
    return required_seeds(
        lambda num_seeds: difference_power(difference, standard_deviation, num_seeds, design), power=power
    )


def seeds_for_equivalence(
    smallest_effect: float, standard_deviation: float, design: FamilyDesign, *, power: float = TARGET_POWER
) -> int | None:
    """Fewest seeds that show two equal arms practically equivalent; ``None`` where 500 are not enough."""
    return required_seeds(
        lambda num_seeds: equivalence_power(smallest_effect, standard_deviation, num_seeds, design),
        min_seeds=MIN_SEEDS_FOR_MARGINS,
        power=power,
    )


def required_seeds(power_at: PowerFunction, *, min_seeds: int = 2, power: float = TARGET_POWER) -> int | None:
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


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """Differences between two arms that the seeds at hand can show.

    Attributes:
        standard_deviation: of a paired difference, √(2 MSE), in the endpoint's units; NaN without two arms and seeds.
        degrees_of_freedom: of that standard deviation.
        detectable_difference: true difference that is found with 80% power.
        correlation: of arms over seeds; the higher, the more pairing reduces the noise.
    """

    num_seeds: int
    standard_deviation: float
    degrees_of_freedom: int
    detectable_difference: float
    correlation: float


def estimate_sensitivity(values: npt.ArrayLike, design: FamilyDesign) -> Sensitivity:
    """Compute the sensitivity of a table of arms x seeds from its noise and size.

    Args:
        values: arms x seeds, the baseline included; non-finite values are missing.
        design: the family and its level.
    """
    table = np.array(values, dtype=np.float64)
    seeds = int(np.isfinite(table).any(axis=0).sum())
    square, freedom = fit_additive_model(table[np.isfinite(table).any(axis=1)])
    deviation, detectable = math.nan, math.inf
    if freedom > 0 and seeds >= 2:
        deviation = math.sqrt(2 * square)
        detectable = deviation * detectable_difference(seeds, design)
    return Sensitivity(
        num_seeds=seeds,
        standard_deviation=deviation,
        degrees_of_freedom=freedom,
        detectable_difference=detectable,
        correlation=pairing_correlation(table),
    )


def describe_noise(
    sensitivity: Sensitivity, values: Array, *, name: str, unit: str, largest_difference: float
) -> Iterator[str]:
    """Say what differences the seeds at hand can show, and how much pairing helps.

    Args:
        values: arms x seeds, of which the sensitivity was estimated.
        name: of the values, in the plural.
        unit: of a difference; empty for none.
        largest_difference: the largest that is possible.
    """
    deviation = sensitivity.standard_deviation
    if math.isnan(deviation):
        subject = "One seed does" if values.shape[1] == 1 else "These seeds do"
        yield f"{subject} not show how much a method varies, so no difference can be called detectable."
    # The simulation is of complete pairs; with missing cells its number of seeds would be too high.
    elif np.isfinite(values).all() and deviation:
        detectable = sensitivity.detectable_difference
        missed = f"of any possible size, up to {largest_difference:g} {unit},".replace(" ,", ",")
        if detectable < largest_difference:
            missed = f"below {format_significant(detectable, 2)} {unit}".strip()
        noise = f"SD of a paired difference {format_significant(deviation, 2)} {unit}".strip()
        yield (
            f"With these {format_count(values.shape[1], 'seed')} ({noise}, {sensitivity.degrees_of_freedom} df), "
            f"a true difference between two arms {missed} would be missed more than one time in five."
        )
    if math.isfinite(sensitivity.correlation):
        correlation = format_fixed(sensitivity.correlation, 2)
        yield f"The arms' {name} correlate over seeds by {correlation}: the higher, the more pairing reduces the noise."


def count_seeds_needed(effect: float, sensitivity: Sensitivity, design: FamilyDesign) -> int | None:
    """Seeds per arm that find a true difference four times in five; ``None`` where unknown, or above 500."""
    deviation = sensitivity.standard_deviation
    if not (effect > 0 and math.isfinite(deviation) and deviation > 0 and sensitivity.degrees_of_freedom > 0):
        return None
    # A standard deviation from few seeds may be far too small: plan with its upper confidence limit.
    cautious = deviation_upper_limit(deviation, sensitivity.degrees_of_freedom)
    return seeds_for_difference(effect, cautious, design)


def pairing_correlation(values: npt.ArrayLike) -> float:
    """Mean correlation of arms over their common seeds: mean covariance over mean variance; else NaN."""
    table = np.array(values, dtype=np.float64)
    table = table[np.isfinite(table).any(axis=1)]
    table = table[:, np.all(np.isfinite(table), axis=0)]
    if min(table.shape) < 2:
        return math.nan
    total = float(np.mean([sample_variance(row) for row in table]))
    # The residual mean square of y ~ arm + seed is mean variance - mean covariance.
    return 1 - fit_additive_model(table)[0] / total if total else math.nan


@dataclass(frozen=True, kw_only=True)
class VarianceExcess:
    """Variance of a family's differences, relative to arms of equal noise and equal correlation over seeds.

    Attributes:
        ratio: mean own variance of the family's contrasts over the residual mean square, per squared norm: about 1
            where noise and correlation are equal, 2 or more where the baseline alone does not correlate with others.
        limit: 99% point of the ratio in studies of arms of equal noise and correlation.
        correlations: the smallest and the largest measured correlation of two arms.
        num_seeds: complete seeds.
    """

    num_seeds: int
    ratio: float
    limit: float
    correlations: tuple[float, float]

    @property
    def is_unequal(self) -> bool:
        """Whether the ratio is beyond what arms of equal noise and correlation give in 99% of studies."""
        return self.ratio > self.limit


def variance_excess(values: npt.ArrayLike, design: FamilyDesign) -> VarianceExcess | None:
    """Compare the variance of a family's differences with that of the additive model ``y ~ arm + seed``.

    Where it is larger, the pooled variance has fewer degrees of freedom than the critical value assumes, and intervals
    are too narrow; the rates are in docs/explanation/statistics.md.

    Args:
        values: arms x seeds; seeds with a missing value are left out.
        design: the family and its level.

    Returns:
        ``None`` below three arms, where the two variances are one, below two complete seeds, and without noise.
    """
    table = np.array(values, dtype=np.float64)
    table = table[:, np.all(np.isfinite(table), axis=0)]
    if len(table) < 3 or table.shape[1] < 2:
        return None
    covariance = np.cov(table)
    deviations = np.sqrt(np.diag(covariance))
    if fit_additive_model(table)[0] == 0 or not deviations.all():
        return None
    correlation = (covariance / np.outer(deviations, deviations))[np.triu_indices(len(table), 1)]
    return VarianceExcess(
        num_seeds=table.shape[1],
        ratio=float(_variance_ratios(covariance[None], design)[0]),
        limit=_variance_ratio_limit(design, table.shape[1]),
        correlations=(float(correlation.min()), float(correlation.max())),
    )


@lru_cache(maxsize=128)
def _variance_ratio_limit(design: FamilyDesign, num_seeds: int) -> float:
    """99% point of the ratio; the seed effects that correlate arms equally cancel in both of its variances."""
    random = np.random.default_rng(num_seeds)
    _, covariances = simulate_moments(NUM_SIMULATED_STUDIES, len(design.rows[0]), num_seeds, random)
    return float(np.quantile(_variance_ratios(covariances, design), 0.99))


def _variance_ratios(covariances: Array, design: FamilyDesign) -> Array:
    """Mean own variance of the contrasts per squared norm over the residual mean square, per study."""
    rows = np.array(design.rows)
    num_arms = rows.shape[1]
    own_variances = np.einsum("ca,iab,cb->ic", rows, covariances, rows, optimize=True) / np.sum(rows**2, axis=1)
    total = np.trace(covariances, axis1=1, axis2=2)
    mean_squares = (total - covariances.sum(axis=(1, 2)) / num_arms) / (num_arms - 1)
    return np.asarray(own_variances.mean(axis=1) / mean_squares)


def deviation_upper_limit(standard_deviation: float, degrees_of_freedom: int, *, confidence: float = 0.9) -> float:
    """Upper confidence limit (χ²) of a pilot's standard deviation, to plan with.

    At 90% confidence, 3.1 times the pilot's value with three seeds of two arms, 1.9 times with five.
    """
    tail = float(stats.chi2.ppf(1 - confidence, degrees_of_freedom))
    return standard_deviation * math.sqrt(degrees_of_freedom / tail)


def _detection_thresholds(design: FamilyDesign, num_seeds: int) -> Array:
    """Least true difference that each simulated study would find, studies x pairs, in SD of a paired difference."""
    intervals = _simulate_null_studies(design, num_seeds)
    # Intervals do not depend on the means: a true difference only shifts the estimates of null studies.
    return np.asarray(intervals["two_sided"] - intervals["estimate"])


def _equivalence_margins(design: FamilyDesign, num_seeds: int) -> Array:
    """Least margin at which each simulated study would show equivalence, studies x pairs, in the same unit."""
    intervals = _simulate_null_studies(design, num_seeds)
    return np.asarray(np.abs(intervals["estimate"]) + intervals["one_sided"])


@lru_cache(maxsize=128)
def _simulate_null_studies(design: FamilyDesign, num_seeds: int) -> dict[str, Array]:
    """Simulate studies whose arms do not differ, with a paired difference of SD 1; studies x pairs."""
    if num_seeds < 2:
        raise ValueError(f"{num_seeds} seeds have no variance; expected two or more.")
    rows = np.array(design.rows)
    # Seeded by the number of seeds: every caller sees the same studies.
    random = np.random.default_rng(num_seeds)
    means, covariances = simulate_moments(NUM_SIMULATED_STUDIES, rows.shape[1], num_seeds, random)
    # Independent arms: the SD of a paired difference is √2 times that of one arm.
    intervals = half_widths_from_moments(means / math.sqrt(2), covariances / 2, num_seeds, rows, alpha=design.alpha)
    return {name: values[:, : design.num_pairs] for name, values in intervals.items()}
