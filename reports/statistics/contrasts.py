"""Contrasts of arms, paired by seed, with simultaneous intervals.

Dunnett's method generalized to any family of contrasts (max-t), on the residual mean square of the additive model
``y ~ arm + seed``; where the arms differ in noise, a guard widens an interval to the contrast's own t interval.

Source: Dunnett 1955; Hothorn, Bretz & Westfall 2008. Error rates: docs/explanation/statistics.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy import stats

from reports.statistics.critical_values import Array, critical_value

# Quantiles of F beyond which an arm counts as noisier than the rest. An arm that is on the positive side or shared by
# several contrasts (the baseline) is guarded earlier: its noise enters more than one interval.
SHARED_GUARD_QUANTILE = 0.90
OTHER_GUARD_QUANTILE = 0.95

# A mean square below this share of the largest squared value is rounding error of float64.
ROUNDING_SHARE = 1e-20


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A linear combination of arms with its intervals, in the endpoint's units.

    Attributes:
        estimate: mean over the complete seeds; NaN where there is none.
        standard_error: pooled, see :func:`estimate_combinations`; infinite where fewer than two seeds are complete.
        degrees_of_freedom: of the additive model.
        low, high: two-sided simultaneous 95% interval: for direction.
        low_one_sided, high_one_sided: one-sided simultaneous 95% bounds: for equivalence and other margins.
        low_individual_one_sided, high_individual_one_sided: one-sided 95% bounds of this contrast alone: for margins
            in a conjunction.
        low_individual, high_individual: two-sided 95% interval of this contrast alone: for direction in a conjunction.
        num_pairs: seeds under which every arm of the contrast has a value.
        num_planned: seeds of the study.
        is_noisy: one of its arms is noisier than the others, so the noise guard also used the contrast's own variance.
    """

    estimate: float
    standard_error: float
    degrees_of_freedom: int
    low: float
    high: float
    low_one_sided: float
    high_one_sided: float
    low_individual_one_sided: float
    high_individual_one_sided: float
    low_individual: float
    high_individual: float
    num_pairs: int
    num_planned: int
    is_noisy: bool

    @property
    def equivalence_margin(self) -> float:
        """Smallest effect of interest at which these data would show equivalence."""
        return max(abs(self.low_one_sided), abs(self.high_one_sided))

    def reverse(self) -> Self:
        """Return the same estimate with its sign turned."""
        # 0 minus the number, because −0.0 would be exported as such.
        bounds = {low: 0 - getattr(self, high) for low, high in _OPPOSITE_BOUNDS}
        return replace(self, estimate=0 - self.estimate, **bounds)

    def clip(self, limit: float) -> Self:
        """Return the estimate with its bounds cut at ±``limit``, beyond which the endpoint has no difference."""
        bounds = {name: min(max(getattr(self, name), -limit), limit) for name, _ in _OPPOSITE_BOUNDS}
        return replace(self, **bounds) if self.num_pairs >= 2 else self


_BOUNDS = ("", "_one_sided", "_individual", "_individual_one_sided")
_OPPOSITE_BOUNDS = [pair for kind in _BOUNDS for pair in ((f"low{kind}", f"high{kind}"), (f"high{kind}", f"low{kind}"))]


@dataclass(frozen=True, kw_only=True)
class Contrast(Estimate):
    """``y[over] - y[arm]`` by seed: positive where ``arm`` is lower, so better in an error."""

    over: str
    arm: str

    def reverse(self) -> Self:
        """Return the same difference, asked for the other way round."""
        return replace(super().reverse(), over=self.arm, arm=self.over)


@dataclass(frozen=True, kw_only=True)
class ArmInterval:
    """One arm's mean over seeds and its own two-sided interval; infinite below two seeds."""

    mean: float
    low: float
    high: float
    standard_deviation: float
    num_seeds: int


def arm_interval(values: npt.ArrayLike, *, alpha: float = 0.05) -> ArmInterval:
    """Mean and Student's t interval of one arm over its seeds.

    Args:
        values: shape ``seeds``; non-finite values are missing.
        alpha: 1 - confidence.
    """
    present = _mask_nonfinite(values)
    present = present[np.isfinite(present)]
    if len(present) < 2:
        mean = float(present[0]) if len(present) else math.nan
        return ArmInterval(mean=mean, low=-math.inf, high=math.inf, standard_deviation=math.nan, num_seeds=len(present))
    mean, deviation = float(present.mean()), math.sqrt(sample_variance(present))
    # The arm's own variance: this interval describes one arm and takes no part in comparisons.
    half = float(stats.t.ppf(1 - alpha / 2, len(present) - 1)) * deviation / math.sqrt(len(present))
    return ArmInterval(
        mean=mean, low=mean - half, high=mean + half, standard_deviation=deviation, num_seeds=len(present)
    )


def estimate_contrasts(
    values: npt.ArrayLike, arms: Sequence[str], pairs: Sequence[tuple[str, str]], *, alpha: float = 0.05
) -> tuple[Contrast, ...]:
    """Estimate the differences ``(over, arm)`` of one family, in the order given.

    Args:
        values: arms x seeds; non-finite values are missing.
        arms: names of the rows. All of them contribute to the pooled variance.
        pairs: the family, any pairs of arms.
        alpha: familywise level.

    Raises:
        ValueError: where the values have another number of rows, or a pair names an unknown arm or the same one twice.

    Source: see :func:`estimate_combinations`. With two arms this is the paired t interval.
    """
    table = _mask_nonfinite(values)
    if table.ndim != 2 or len(table) != len(arms):
        raise ValueError(f"values have shape {table.shape}; expected one row for each of {len(arms)} arms, then seeds.")
    estimates = estimate_combinations(table, pairwise_coefficients(arms, pairs), alpha=alpha)
    contrasts = []
    for (over, arm), estimate in zip(pairs, estimates, strict=True):
        contrasts.append(Contrast(over=over, arm=arm, **vars(estimate)))
    return tuple(contrasts)


def pairwise_coefficients(arms: Sequence[str], pairs: Sequence[tuple[str, str]]) -> Array:
    """Return coefficients, contrasts x arms: 1 for ``over``, -1 for ``arm``.

    Raises:
        ValueError: where a pair names an unknown arm, or the same one twice.
    """
    rows = np.zeros((len(pairs), len(arms)))
    for row, (over, arm) in zip(rows, pairs, strict=True):
        if over == arm or not {over, arm} <= set(arms):
            raise ValueError(f"the pair {(over, arm)!r} is no contrast; expected two of: {', '.join(arms)}.")
        row[list(arms).index(over)], row[list(arms).index(arm)] = 1.0, -1.0
    return rows


def estimate_combinations(
    values: npt.ArrayLike, coefficients: npt.ArrayLike, *, alpha: float = 0.05, resolution: float = 0.0
) -> tuple[Estimate, ...]:
    """Estimate a family of linear combinations of arms, paired by seed.

    The coefficients of a combination sum to zero. For a row ``c`` with ``n`` complete seeds, ``s²`` is the variance
    over seeds of ``Σ_a c_a y[a, seed]`` and ``|c|²`` is 2 for a difference of two arms. With MSE the residual mean
    square of ``y ~ arm + seed``, fitted by least squares to the cells present (df = cells - arms - seeds + 1),

        SE² = max( s², |c|² MSE, |c|² · mean over the family of s²/|c|², |c|² resolution²/12 ) / n .

    The largest keeps the interval honest where arms differ in noise; the last is the variance of rounding, for values
    that are counts (an error in steps of one test example). The critical value is that of the family's own correlation
    matrix, computed from the weight of every cell. Noise guard, for three arms or more: an
    arm's variance over seeds is compared with the mean variance of the others. Beyond the 90% point of F, for an arm on
    the positive side of a contrast (the baseline) or shared by several, beyond the 95% point for any other arm, a
    contrast with that arm is at least as wide as its own t interval after Bonferroni. Variances below 1e-20 of the
    largest squared value are rounding, and count as zero.

    Args:
        values: arms x seeds; non-finite values are missing.
        coefficients: contrasts x arms.
        alpha: familywise level.
        resolution: smallest step between two values; 0 for continuous ones.

    Returns:
        One estimate per row; below two complete seeds its interval is infinite, and it is not part of the family.

    Source: Dunnett 1955; Hothorn, Bretz & Westfall 2008. Error rates: docs/explanation/statistics.md.
    """
    table, weights = _mask_nonfinite(values), np.asarray(coefficients, dtype=np.float64)
    complete = np.zeros((len(weights), table.shape[1]), dtype=bool)
    for index, row in enumerate(weights):
        complete[index] = np.all(np.isfinite(table[row != 0]), axis=0)
    # Two complete seeds are the least that give a variance.
    testable = np.flatnonzero(complete.sum(axis=1) >= 2)
    family = _ContrastFamily(table, weights[testable], complete[testable], alpha, resolution)
    index_in_family = {int(index): number for number, index in enumerate(testable)}
    estimates = []
    for index, row in enumerate(weights):
        if index in index_in_family:
            estimates.append(family.estimate(index_in_family[index]))
        else:
            estimates.append(_untestable_estimate(table, row, complete[index]))
    return tuple(estimates)


def fit_additive_model(values: npt.ArrayLike) -> tuple[float, int]:
    """Fit ``y ~ arm + seed`` by least squares to the cells present.

    Args:
        values: arms x seeds; non-finite values are missing.

    Returns:
        Residual mean square (squared units) and its degrees of freedom; NaN and 0 where no degree of freedom is left.
    """
    table = _mask_nonfinite(values)
    present = np.isfinite(table)
    arm, seed = np.nonzero(present)
    cells_of_seed = np.maximum(present.sum(axis=0), 1)
    # Seed effects are projected out of design and response (Frisch-Waugh), so that only arm effects are left to fit.
    design = np.eye(len(table))[arm] - (present / cells_of_seed).T[seed]
    response = table[arm, seed] - (np.nansum(table, axis=0) / cells_of_seed)[seed]
    solution, _, rank, _ = np.linalg.lstsq(design, response, rcond=None)
    degrees_of_freedom = len(arm) - int(np.any(present, axis=0).sum()) - int(rank)
    if degrees_of_freedom < 1:
        return math.nan, 0
    square = float(np.sum((response - design @ solution) ** 2)) / degrees_of_freedom
    return _zero_if_rounding(square, table[arm, seed]), degrees_of_freedom


def sample_variance(values: Array) -> float:
    """Sample variance (ddof 1) of finite values; zero where it is only rounding error."""
    return _zero_if_rounding(float(np.var(values, ddof=1)), values)


class _ContrastFamily:
    """The testable contrasts of one table; quantities that all share are computed once."""

    def __init__(
        self,
        table: Array,
        coefficients: Array,
        complete: npt.NDArray[np.bool_],
        alpha: float,
        resolution: float,
    ) -> None:
        self.table, self.coefficients, self.complete, self.alpha = table, coefficients, complete, alpha
        self.rounding_variance = resolution**2 / 12
        self.num_pairs = complete.sum(axis=1)
        self.squared_norms = np.sum(coefficients**2, axis=1)
        self.own_variances = np.zeros(len(coefficients))
        for index, (row, seeds) in enumerate(zip(coefficients, complete, strict=True)):
            self.own_variances[index] = self._own_variance(row, seeds)
        self.mean_square, self.degrees_of_freedom = fit_additive_model(table)
        self.is_noisy = _noisy_contrasts(table, coefficients)
        if len(coefficients):
            correlation = self._correlation_matrix()
            self.two_sided_critical_value = critical_value(correlation, self.degrees_of_freedom, alpha=alpha)
            self.one_sided_critical_value = critical_value(
                correlation, self.degrees_of_freedom, alpha=alpha, two_sided=False
            )

    def estimate(self, index: int) -> Estimate:
        alpha, num_contrasts = self.alpha, len(self.coefficients)
        row = self.coefficients[index]
        cells = self._complete_cells(row, self.complete[index])
        center = float(np.mean(row @ cells))
        if not _zero_if_rounding(center**2, cells):  # arms that are equal under every seed do not differ
            center = 0.0
        error = self._standard_error(index)
        individual_one_sided_value = float(stats.t.ppf(1 - alpha, self.degrees_of_freedom))
        individual_two_sided_value = float(stats.t.ppf(1 - alpha / 2, self.degrees_of_freedom))
        # The last argument is the tail at which the noise guard reads the contrast's own t: Bonferroni in the family.
        two_sided = self._half_width(index, self.two_sided_critical_value * error, alpha / 2 / num_contrasts)
        one_sided = self._half_width(index, self.one_sided_critical_value * error, alpha / num_contrasts)
        individual_one_sided = self._half_width(index, individual_one_sided_value * error, alpha)
        individual_two_sided = self._half_width(index, individual_two_sided_value * error, alpha / 2)
        return Estimate(
            estimate=center,
            standard_error=error,
            degrees_of_freedom=self.degrees_of_freedom,
            low=center - two_sided,
            high=center + two_sided,
            low_one_sided=center - one_sided,
            high_one_sided=center + one_sided,
            low_individual_one_sided=center - individual_one_sided,
            high_individual_one_sided=center + individual_one_sided,
            low_individual=center - individual_two_sided,
            high_individual=center + individual_two_sided,
            num_pairs=int(self.num_pairs[index]),
            num_planned=self.table.shape[1],
            is_noisy=bool(self.is_noisy[index]),
        )

    def _standard_error(self, index: int) -> float:
        # Variances are compared per unit of squared norm, so that contrasts of unlike weights share one scale. The own
        # variance alone is too small by chance in one of many contrasts, the pooled one where arms differ in noise.
        per_unit = max(
            self.own_variances[index] / self.squared_norms[index],
            self.mean_square,
            self.rounding_variance,
            float(np.mean(self.own_variances / self.squared_norms)),
        )
        return math.sqrt(self.squared_norms[index] * per_unit / self.num_pairs[index])

    def _half_width(self, index: int, pooled: float, tail: float) -> float:
        """Return the pooled half-width, or the contrast's own t half-width where the guard fires and it is larger."""
        if not self.is_noisy[index]:
            return pooled
        own_error = math.sqrt(self.own_variances[index] / self.num_pairs[index])
        return max(pooled, float(stats.t.ppf(1 - tail, self.num_pairs[index] - 1)) * own_error)

    def _correlation_matrix(self) -> Array:
        # Weight of every cell (arm, seed) in every estimate: with missing cells, contrasts share fewer of them.
        cells = self.coefficients[:, :, None] * self.complete[:, None, :] / self.num_pairs[:, None, None]
        flat = cells.reshape(len(self.coefficients), -1)
        covariance = flat @ flat.T
        deviation = np.sqrt(np.diag(covariance))
        return np.asarray(covariance / deviation / deviation[:, None])

    def _own_variance(self, row: Array, seeds: npt.NDArray[np.bool_]) -> float:
        cells = self._complete_cells(row, seeds)
        return _zero_if_rounding(float(np.var(row @ cells, ddof=1)), cells)

    def _complete_cells(self, row: Array, seeds: npt.NDArray[np.bool_]) -> Array:
        """Values under complete seeds; zero for arms outside the contrast, whose missing cells are irrelevant."""
        return np.where(row[:, None] != 0, self.table[:, seeds], 0.0)


def _noisy_contrasts(table: Array, coefficients: Array) -> npt.NDArray[np.bool_]:
    """Return, per contrast, whether the noise guard fires on one of its arms."""
    ratio_tail = _variance_ratio_tails(table)
    shared = np.count_nonzero(coefficients, axis=0) > 1
    lenient = np.where((coefficients > 0) | shared, 1 - SHARED_GUARD_QUANTILE, 1 - OTHER_GUARD_QUANTILE)
    return np.asarray(np.any((coefficients != 0) & (ratio_tail < lenient), axis=1))


def _variance_ratio_tails(table: Array) -> Array:
    """Tail probability of F per arm: its variance over the mean variance of the others; 1 where unknown."""
    counts = np.isfinite(table).sum(axis=1)
    measured = np.flatnonzero(counts >= 2)
    tails = np.ones(len(table))
    if len(measured) < 3:  # of two arms nobody can say which one is the noisier than usual
        return tails
    variances = np.array([sample_variance(table[arm][np.isfinite(table[arm])]) for arm in measured])
    for index, arm in enumerate(measured):
        variance = variances[index]
        mean_of_others = float(np.mean(np.delete(variances, index)))
        degrees_of_freedom = int(np.sum(np.delete(counts[measured] - 1, index)))
        if mean_of_others:
            tails[arm] = float(stats.f.sf(variance / mean_of_others, counts[arm] - 1, degrees_of_freedom))
        elif variance > 0:
            tails[arm] = 0.0  # noisy beside arms that do not vary at all: an infinite ratio
    return tails


def _untestable_estimate(table: Array, row: Array, seeds: npt.NDArray[np.bool_]) -> Estimate:
    cells = np.where(row[:, None] != 0, table[:, seeds], 0.0)
    return Estimate(
        # One complete seed still has a difference to show, without an interval.
        estimate=float((row @ cells)[0]) if cells.shape[1] else math.nan,
        standard_error=math.inf,
        degrees_of_freedom=fit_additive_model(table)[1],
        low=-math.inf,
        high=math.inf,
        low_one_sided=-math.inf,
        high_one_sided=math.inf,
        low_individual_one_sided=-math.inf,
        high_individual_one_sided=math.inf,
        low_individual=-math.inf,
        high_individual=math.inf,
        num_pairs=cells.shape[1],
        num_planned=table.shape[1],
        is_noisy=False,
    )


def _mask_nonfinite(values: npt.ArrayLike) -> Array:
    """Return a copy with every non-finite value set to NaN."""
    table = np.array(values, dtype=np.float64)
    table[~np.isfinite(table)] = np.nan
    return table


def _zero_if_rounding(square: float, values: Array) -> float:
    """Return a mean square, or zero where it is only the rounding error of its values."""
    return square if square > ROUNDING_SHARE * float(np.max(np.abs(values))) ** 2 else 0.0
