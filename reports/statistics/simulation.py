"""Vectorized intervals of the verdict rule for thousands of simulated studies.

Used for planning by simulation, and to measure the error rates of the rule. The formulas are those of
:mod:`reports.statistics.contrasts` (max-t with pooled variance and noise guard) for studies without missing cells; a
test holds the two equal.

Source: Dunnett 1955; Hothorn, Bretz & Westfall 2008.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import stats

from reports.statistics.contrasts import OTHER_GUARD_QUANTILE, ROUNDING_SHARE, SHARED_GUARD_QUANTILE
from reports.statistics.critical_values import Array, critical_value
from reports.statistics.evidence import ALPHA


def batched_half_widths(
    values: Array, coefficients: Array, *, alpha: float = ALPHA, resolution: float = 0.0
) -> dict[str, Array]:
    """Estimate a family of contrasts in many complete studies at once.

    Args:
        values: studies x arms x seeds.
        coefficients: contrasts x arms, the family.
        alpha: familywise level.
        resolution: smallest step between two values; 0 for continuous ones.

    Returns:
        Studies x contrasts: ``estimate``; and the half-widths ``two_sided`` and ``one_sided``, simultaneous, and
        ``own_two_sided`` and ``own_one_sided``, of each contrast alone.
    """
    means = values.mean(axis=2)
    centered = values - means[:, :, None]
    covariances = np.einsum("ias,ibs->iab", centered, centered) / (values.shape[2] - 1)
    return half_widths_from_moments(
        means,
        covariances,
        values.shape[2],
        coefficients,
        alpha=alpha,
        resolution=resolution,
        rounding_squares=ROUNDING_SHARE * np.max(np.abs(values), axis=(1, 2)) ** 2,
    )


def half_widths_from_moments(
    means: Array,
    covariances: Array,
    seeds: int,
    coefficients: Array,
    *,
    alpha: float = ALPHA,
    resolution: float = 0.0,
    rounding_squares: Array | None = None,
) -> dict[str, Array]:
    """Estimate as :func:`batched_half_widths`, from what the rule reads of a study.

    Args:
        means: studies x arms.
        covariances: studies x arms x arms, over seeds (ddof 1).
        seeds: seeds of every study.
        coefficients: contrasts x arms, the family.
        alpha: familywise level.
        resolution: smallest step between two values.
        rounding_squares: per study, the square below which a difference or a variance is rounding error of its values;
            by default nothing is.
    """
    moments = _contrast_moments(means, covariances, coefficients, rounding_squares)
    degrees_of_freedom = (means.shape[1] - 1) * (seeds - 1)
    norms = np.sum(coefficients**2, axis=1)
    # The largest of the variances decides, as in `estimate_combinations`.
    own_squares = moments.own_variances / norms
    pooled = np.maximum(moments.mean_square, np.mean(own_squares, axis=1))
    pooled = np.maximum(pooled, resolution**2 / 12)
    errors = np.sqrt(norms * np.maximum(own_squares, pooled[:, None]) / seeds)
    correlation = coefficients @ coefficients.T / np.sqrt(np.outer(norms, norms))
    # Of the contrast alone: what the noise guard falls back on.
    own_errors = np.sqrt(moments.own_variances / seeds)
    is_noisy = _noisy_contrasts(moments.arm_variances, seeds, coefficients)

    def half_widths(value: float, tail: float) -> Array:
        pooled_widths = value * errors
        own_widths = _t_quantile(1 - tail, seeds - 1) * own_errors
        widths: Array = np.where(is_noisy, np.maximum(pooled_widths, own_widths), pooled_widths)
        return widths

    two_sided_value = critical_value(correlation, degrees_of_freedom, alpha=alpha)
    one_sided_value = critical_value(correlation, degrees_of_freedom, alpha=alpha, two_sided=False)
    own_two_sided_value = _t_quantile(1 - alpha / 2, degrees_of_freedom)
    own_one_sided_value = _t_quantile(1 - alpha, degrees_of_freedom)

    return {
        "estimate": moments.estimates,
        "two_sided": half_widths(two_sided_value, alpha / 2 / len(coefficients)),
        "one_sided": half_widths(one_sided_value, alpha / len(coefficients)),
        "own_two_sided": half_widths(own_two_sided_value, alpha / 2),
        "own_one_sided": half_widths(own_one_sided_value, alpha),
    }


@dataclass(frozen=True)
class _ContrastMoments:
    """What the rule reads of many studies at once.

    Attributes:
        estimates: studies x contrasts.
        own_variances: of each contrast over seeds, studies x contrasts.
        arm_variances: of each arm over seeds, studies x arms.
        mean_square: residual mean square of the additive model y ~ arm + seed, per study.
    """

    estimates: Array
    own_variances: Array
    arm_variances: Array
    mean_square: Array


def _contrast_moments(
    means: Array, covariances: Array, coefficients: Array, rounding_squares: Array | None
) -> _ContrastMoments:
    """Reduce means and covariances of arms to those of contrasts; what may be rounding error becomes zero."""
    arms = means.shape[1]
    estimates = means @ coefficients.T
    own_variances = np.einsum("ca,iab,cb->ic", coefficients, covariances, coefficients, optimize=True)
    own_variances = np.maximum(own_variances, 0.0)  # rounding
    variances = np.diagonal(covariances, axis1=1, axis2=2)
    # Of the additive model: mean variance less mean covariance of two arms.
    mean_square = (variances.sum(axis=1) - covariances.sum(axis=(1, 2)) / arms) / (arms - 1)
    if rounding_squares is not None:
        limits = rounding_squares[:, None]
        estimates = np.where(estimates**2 > limits, estimates, 0.0)
        own_variances = np.where(own_variances > limits, own_variances, 0.0)
        variances = np.where(variances > limits, variances, 0.0)
        mean_square = np.where(mean_square > rounding_squares, mean_square, 0.0)
    return _ContrastMoments(estimates, own_variances, variances, mean_square)


def simulate_moments(num_studies: int, arms: int, seeds: int, random: np.random.Generator) -> tuple[Array, Array]:
    """Draw means and covariances of studies of independent arms of unit variance.

    Returns:
        Studies x arms, and studies x arms x arms; the cost does not grow with the number of seeds.

    Source: Bartlett 1933, for the covariance matrix.
    """
    means = random.normal(size=(num_studies, arms)) / np.sqrt(seeds)
    if seeds <= arms:  # the matrix is singular, and few numbers are needed anyway
        values = random.normal(size=(num_studies, arms, seeds))
        values -= values.mean(axis=2, keepdims=True)
        return means, values @ values.transpose(0, 2, 1) / (seeds - 1)
    root = np.tril(random.normal(size=(num_studies, arms, arms)), -1)
    degrees_of_freedom = seeds - 1 - np.arange(arms)
    diagonal = np.arange(arms)
    root[:, diagonal, diagonal] = np.sqrt(random.chisquare(degrees_of_freedom, size=(num_studies, arms)))
    return means, root @ root.transpose(0, 2, 1) / (seeds - 1)


def _noisy_contrasts(variances: Array, seeds: int, coefficients: Array) -> npt.NDArray[np.bool_]:
    """Where the noise guard fires: studies x contrasts."""
    arms = variances.shape[1]
    if arms < 3:  # "the other arms" would be a single one
        return np.zeros((len(variances), len(coefficients)), dtype=bool)
    others = (variances.sum(axis=1, keepdims=True) - variances) / (arms - 1)
    lenient = (coefficients > 0) | (np.count_nonzero(coefficients, axis=0) > 1)
    # Critical ratios, not the tail of every ratio: two quantiles instead of thousands of evaluations.
    shared_ratio = _f_quantile(SHARED_GUARD_QUANTILE, seeds - 1, (arms - 1) * (seeds - 1))
    other_ratio = _f_quantile(OTHER_GUARD_QUANTILE, seeds - 1, (arms - 1) * (seeds - 1))
    critical_ratios = np.where(lenient, shared_ratio, other_ratio)
    is_noisy = variances[:, None, :] > critical_ratios * others[:, None, :]
    return np.asarray(np.any((coefficients != 0) & is_noisy, axis=2))


# Cached: a calibration asks for the same few quantiles a million times.
@lru_cache(maxsize=4096)
def _t_quantile(probability: float, degrees_of_freedom: int) -> float:
    return float(stats.t.ppf(probability, degrees_of_freedom))


@lru_cache(maxsize=4096)
def _f_quantile(probability: float, numerator: int, denominator: int) -> float:
    return float(stats.f.ppf(probability, numerator, denominator))
