"""Vectorized intervals of the verdict rule for thousands of simulated studies.

Used for planning by simulation, and to measure the error rates of the rule. The formulas are those of
:mod:`reports.statistics.contrasts` (max-t with pooled variance and noise guard) for studies without missing cells; a
test holds the two equal.

Source: Dunnett 1955; Hothorn, Bretz & Westfall 2008.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

from reports.statistics.contrasts import OTHER_GUARD_QUANTILE, SHARED_GUARD_QUANTILE
from reports.statistics.critical_values import Array, critical_value
from reports.statistics.evidence import ALPHA


def batched_half_widths(values: Array, coefficients: Array, *, alpha: float = ALPHA) -> dict[str, Array]:
    """Estimate a family of contrasts in many complete studies at once.

    Args:
        values: studies x arms x seeds.
        coefficients: contrasts x arms, the family.
        alpha: familywise level.

    Returns:
        Studies x contrasts: ``estimate``; and the half-widths ``two_sided`` and ``one_sided``, simultaneous, and
        ``own_two_sided`` and ``own_one_sided``, of each contrast alone.
    """
    _, arms, seeds = values.shape
    degrees_of_freedom = (arms - 1) * (seeds - 1)
    norms = np.sum(coefficients**2, axis=1)
    differences = np.einsum("ca,bas->bcs", coefficients, values)
    own_variances = differences.var(axis=2, ddof=1)
    # Residuals of the additive model y ~ arm + seed.
    arm_means, seed_means = values.mean(2, keepdims=True), values.mean(1, keepdims=True)
    residuals = values - arm_means - seed_means + values.mean((1, 2), keepdims=True)
    mean_square = np.sum(residuals**2, axis=(1, 2)) / degrees_of_freedom
    # The largest of the three variances decides, as in `estimate_combinations`.
    pooled = np.maximum(mean_square, np.mean(own_variances / norms, axis=1))
    errors = np.sqrt(norms * np.maximum(own_variances / norms, pooled[:, None]) / seeds)
    correlation = coefficients @ coefficients.T / np.sqrt(np.outer(norms, norms))
    own_errors = np.sqrt(own_variances / seeds)
    is_noisy = _noisy_contrasts(values, coefficients)

    def half_widths(value: float, tail: float) -> Array:
        pooled_widths = value * errors
        own_widths = stats.t.ppf(1 - tail, seeds - 1) * own_errors
        widths: Array = np.where(is_noisy, np.maximum(pooled_widths, own_widths), pooled_widths)
        return widths

    two_sided_value = critical_value(correlation, degrees_of_freedom, alpha=alpha)
    one_sided_value = critical_value(correlation, degrees_of_freedom, alpha=alpha, two_sided=False)
    own_two_sided_value = float(stats.t.ppf(1 - alpha / 2, degrees_of_freedom))
    own_one_sided_value = float(stats.t.ppf(1 - alpha, degrees_of_freedom))

    return {
        "estimate": differences.mean(axis=2),
        "two_sided": half_widths(two_sided_value, alpha / 2 / len(coefficients)),
        "one_sided": half_widths(one_sided_value, alpha / len(coefficients)),
        "own_two_sided": half_widths(own_two_sided_value, alpha / 2),
        "own_one_sided": half_widths(own_one_sided_value, alpha),
    }


def _noisy_contrasts(values: Array, coefficients: Array) -> npt.NDArray[np.bool_]:
    """Where the noise guard fires: studies x contrasts."""
    _, arms, seeds = values.shape
    if arms < 3:  # "the other arms" would be a single one
        return np.zeros((len(values), len(coefficients)), dtype=bool)
    variances = values.var(axis=2, ddof=1)
    others = (variances.sum(axis=1, keepdims=True) - variances) / (arms - 1)
    with np.errstate(divide="ignore", invalid="ignore"):  # variances may all be zero; the guard does not fire for NaN
        ratios = variances / others
    tails = stats.f.sf(ratios, seeds - 1, (arms - 1) * (seeds - 1))
    lenient = (coefficients > 0) | (np.count_nonzero(coefficients, axis=0) > 1)
    limit = np.where(lenient, 1 - SHARED_GUARD_QUANTILE, 1 - OTHER_GUARD_QUANTILE)
    return np.asarray(np.any((coefficients != 0) & (tails[:, None, :] < limit), axis=2))
