"""The rule's intervals for thousands of simulated studies at once: for planning, and to see how often it errs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

from reports.statistics.contrasts import GUARD_OTHER, GUARD_SHARED
from reports.statistics.critical import Array, critical_value
from reports.statistics.readers import ALPHA


def half_widths(values: Array, rows: Array, *, alpha: float = ALPHA) -> dict[str, Array]:
    """What :func:`reports.statistics.contrasts.estimates` gives, for many studies without gaps.

    Args:
        values: studies x arms x seeds.
        rows: contrasts x arms, the family.
        alpha: familywise level.

    Returns:
        Studies x contrasts: ``estimate``; and the half-widths ``two_sided`` and ``one_sided``, simultaneous, and
        ``own_two_sided`` and ``own_one_sided``, of each contrast alone.
    """
    _, arms, seeds = values.shape
    freedom, norms = (arms - 1) * (seeds - 1), np.sum(rows**2, axis=1)
    differences = np.einsum("ca,bas->bcs", rows, values)
    own = differences.var(axis=2, ddof=1)
    residuals = (
        values - values.mean(2, keepdims=True) - values.mean(1, keepdims=True) + values.mean((1, 2), keepdims=True)
    )
    pooled = np.maximum(np.sum(residuals**2, axis=(1, 2)) / freedom, np.mean(own / norms, axis=1))
    errors = np.sqrt(norms * np.maximum(own / norms, pooled[:, None]) / seeds)
    correlation = rows @ rows.T / np.sqrt(np.outer(norms, norms))
    own_errors, noisy = np.sqrt(own / seeds), _noisy_contrasts(values, rows)

    def half(value: float, tail: float) -> Array:
        widths: Array = np.where(
            noisy, np.maximum(value * errors, stats.t.ppf(1 - tail, seeds - 1) * own_errors), value * errors
        )
        return widths

    return {
        "estimate": differences.mean(axis=2),
        "two_sided": half(critical_value(correlation, freedom, alpha=alpha), alpha / 2 / len(rows)),
        "one_sided": half(critical_value(correlation, freedom, alpha=alpha, two_sided=False), alpha / len(rows)),
        "own_two_sided": half(float(stats.t.ppf(1 - alpha / 2, freedom)), alpha / 2),
        "own_one_sided": half(float(stats.t.ppf(1 - alpha, freedom)), alpha),
    }


def _noisy_contrasts(values: Array, rows: Array) -> npt.NDArray[np.bool_]:
    """Studies x contrasts: where the noise guard fires."""
    _, arms, seeds = values.shape
    if arms < 3:
        return np.zeros((len(values), len(rows)), dtype=bool)
    variances = values.var(axis=2, ddof=1)
    others = (variances.sum(axis=1, keepdims=True) - variances) / (arms - 1)
    with np.errstate(divide="ignore", invalid="ignore"):  # counts may not vary at all; NaN then fires no guard
        ratios = variances / others
    tails = stats.f.sf(ratios, seeds - 1, (arms - 1) * (seeds - 1))
    lenient = (rows > 0) | (np.count_nonzero(rows, axis=0) > 1)
    limit = np.where(lenient, 1 - GUARD_SHARED, 1 - GUARD_OTHER)
    return np.asarray(np.any((rows != 0) & (tails[:, None, :] < limit), axis=2))
