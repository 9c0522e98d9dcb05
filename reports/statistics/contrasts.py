"""Differences between arms that were trained under the same seeds, with intervals that hold for all together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from reports.statistics.critical import Array, critical_value

GUARD_SHARED, GUARD_OTHER = 0.90, 0.95  # points of F beyond which an arm counts as noisier than the rest


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A linear combination of arms with its intervals, in the units of the endpoint (percentage points for errors).

    Attributes:
        estimate: mean over the complete seeds; NaN where there is none.
        standard_error: pooled, see :func:`estimates`; infinite where fewer than two seeds are complete.
        degrees_of_freedom: of the additive model.
        low, high: two-sided simultaneous 95% interval: for direction.
        low_one_sided, high_one_sided: one-sided simultaneous 95% bounds: for equivalence and other margins.
        low_own, high_own: one-sided 95% bounds of this contrast alone: margins inside a conjunction.
        low_own_two_sided, high_own_two_sided: two-sided 95% interval of this contrast alone: direction inside one.
        pairs: seeds under which every arm of the contrast has a value.
        planned: seeds of the study.
        noisy: one of its arms was noisier than the others, and the interval rests on its own variance as well.
    """

    estimate: float
    standard_error: float
    degrees_of_freedom: int
    low: float
    high: float
    low_one_sided: float
    high_one_sided: float
    low_own: float
    high_own: float
    low_own_two_sided: float
    high_own_two_sided: float
    pairs: int
    planned: int
    noisy: bool


@dataclass(frozen=True, kw_only=True)
class Contrast(Estimate):
    """``y[over] - y[arm]`` by seed: positive where ``arm`` is the lower, the better one in an error."""

    over: str
    arm: str

    @property
    def smallest_equivalence(self) -> float:
        """The smallest effect of interest at which these data would show equivalence."""
        return max(abs(self.low_one_sided), abs(self.high_one_sided))


@dataclass(frozen=True, kw_only=True)
class ArmInterval:
    """One arm's mean over its ``seeds`` values and its own two-sided interval; infinite below two seeds."""

    mean: float
    low: float
    high: float
    standard_deviation: float
    seeds: int


def arm_interval(values: npt.ArrayLike, *, alpha: float = 0.05) -> ArmInterval:
    """Mean and t interval of one arm over its seeds (values of shape ``seeds``; what is not finite is missing)."""
    present = _finite(values)
    present = present[np.isfinite(present)]
    if len(present) < 2:
        mean = float(present[0]) if len(present) else math.nan
        return ArmInterval(mean=mean, low=-math.inf, high=math.inf, standard_deviation=math.nan, seeds=len(present))
    mean, deviation = float(present.mean()), math.sqrt(variance(present))
    half = float(stats.t.ppf(1 - alpha / 2, len(present) - 1)) * deviation / math.sqrt(len(present))
    return ArmInterval(mean=mean, low=mean - half, high=mean + half, standard_deviation=deviation, seeds=len(present))


def contrasts(
    values: npt.ArrayLike, arms: Sequence[str], pairs: Sequence[tuple[str, str]], *, alpha: float = 0.05
) -> tuple[Contrast, ...]:
    """The differences ``(over, arm)`` of one family, in the order given.

    Args:
        values: arms x seeds; what is not finite is missing.
        arms: names of the rows. All of them lend their noise to the pooled variance.
        pairs: the family, any pairs of arms.
        alpha: familywise level.

    Raises:
        ValueError: where the values have another number of rows, or a pair names an unknown arm or the same one twice.

    Source: see :func:`estimates`. With two arms this is the paired t interval.
    """
    table = _finite(values)
    if table.ndim != 2 or len(table) != len(arms):
        raise ValueError(f"values have shape {table.shape}; expected one row for each of {len(arms)} arms, then seeds.")
    found = estimates(table, pair_rows(arms, pairs), alpha=alpha)
    return tuple(Contrast(over=over, arm=arm, **vars(each)) for (over, arm), each in zip(pairs, found, strict=True))


def pair_rows(arms: Sequence[str], pairs: Sequence[tuple[str, str]]) -> Array:
    """Contrasts x arms: 1 for ``over``, -1 for ``arm``.

    Raises:
        ValueError: where a pair names an unknown arm, or the same one twice.
    """
    rows = np.zeros((len(pairs), len(arms)))
    for row, (over, arm) in zip(rows, pairs, strict=True):
        if over == arm or not {over, arm} <= set(arms):
            raise ValueError(f"the pair {(over, arm)!r} is no contrast; expected two of: {', '.join(arms)}.")
        row[list(arms).index(over)], row[list(arms).index(arm)] = 1.0, -1.0
    return rows


def estimates(values: npt.ArrayLike, rows: npt.ArrayLike, *, alpha: float = 0.05) -> tuple[Estimate, ...]:
    """A family of linear combinations of arms that sum to zero, paired by seed.

    For a row ``c`` with ``n`` complete seeds, ``s²`` is the variance over seeds of ``Σ_a c_a y[a, seed]`` and ``|c|²``
    is 2 for a difference of two arms. With MSE the residual mean square of ``y ~ arm + seed``, fitted by least squares
    to the cells that are there (df = cells - arms - seeds + 1),

        SE² = max( s², |c|² MSE, |c|² · mean over the family of s²/|c|² ) / n .

    The largest of the three keeps the interval honest where arms differ in noise; the critical value is that of the
    family's own correlation matrix, computed from the weight of every cell. Noise guard, for three arms or more: an
    arm's variance over seeds is compared with the mean variance of the others. Beyond the 90% point of F, for an arm on
    the positive side of a contrast (the baseline) or shared by several, beyond the 95% point for any other arm, a
    contrast with that arm is at least as wide as its own t interval after Bonferroni. Variances below 1e-20 of the
    largest squared value are rounding, and count as zero.

    Args:
        values: arms x seeds; what is not finite is missing.
        rows: contrasts x arms.
        alpha: familywise level.

    Returns:
        One estimate per row; below two complete seeds its interval is infinite, and it leaves the family.

    Source: Dunnett 1955; Hothorn, Bretz & Westfall 2008; the rule and its error rates: docs/statistics.md.
    """
    table, weights = _finite(values), np.asarray(rows, dtype=np.float64)
    complete = np.array([np.all(np.isfinite(table[row != 0]), axis=0) for row in weights], dtype=bool)
    complete = complete.reshape(len(weights), table.shape[1])
    testable = np.flatnonzero(complete.sum(axis=1) >= 2)
    family = _Family(table, weights[testable], complete[testable], alpha)
    place = {int(index): number for number, index in enumerate(testable)}
    return tuple(
        family.estimate(place[index]) if index in place else _untestable(table, row, complete[index])
        for index, row in enumerate(weights)
    )


def additive_fit(values: npt.ArrayLike) -> tuple[float, int]:
    """Residual mean square (squared units) and degrees of freedom of ``y ~ arm + seed`` on the cells that are there.

    Args:
        values: arms x seeds; what is not finite is missing.
    """
    table = _finite(values)
    present = np.isfinite(table)
    arm, seed = np.nonzero(present)
    cells_of_seed = np.maximum(present.sum(axis=0), 1)
    design = np.eye(len(table))[arm] - (present / cells_of_seed).T[seed]  # the seeds' own means are taken out of both
    response = table[arm, seed] - (np.nansum(table, axis=0) / cells_of_seed)[seed]
    solution, _, rank, _ = np.linalg.lstsq(design, response, rcond=None)
    degrees_of_freedom = len(arm) - int(np.any(present, axis=0).sum()) - int(rank)
    if degrees_of_freedom < 1:
        return math.nan, 0
    square = float(np.sum((response - design @ solution) ** 2)) / degrees_of_freedom
    return _unless_rounding(square, table[arm, seed]), degrees_of_freedom


def variance(values: Array) -> float:
    """Sample variance (ddof 1) of finite values; zero where it is no more than rounding."""
    return _unless_rounding(float(np.var(values, ddof=1)), values)


class _Family:
    """The testable contrasts of one table: what they share is computed once."""

    def __init__(self, table: Array, rows: Array, complete: npt.NDArray[np.bool_], alpha: float) -> None:
        self.table, self.rows, self.complete, self.alpha = table, rows, complete, alpha
        self.pairs = complete.sum(axis=1)
        self.norms = np.sum(rows**2, axis=1)
        self.own = np.array([self._own_variance(row, seeds) for row, seeds in zip(rows, complete, strict=True)])
        self.mean_square, self.degrees_of_freedom = additive_fit(table)
        self.noisy = _noisy(table, rows)
        if len(rows):
            correlation = self._correlation()
            self.two_sided = critical_value(correlation, self.degrees_of_freedom, alpha=alpha)
            self.one_sided = critical_value(correlation, self.degrees_of_freedom, alpha=alpha, two_sided=False)

    def estimate(self, index: int) -> Estimate:
        pairs, freedom, alpha = int(self.pairs[index]), self.degrees_of_freedom, self.alpha
        centre = float(np.mean(self.rows[index] @ self._cells(self.rows[index], self.complete[index])))
        error = self._standard_error(index)
        single = float(stats.t.ppf(1 - alpha, freedom)), float(stats.t.ppf(1 - alpha / 2, freedom))
        two = self._half(index, self.two_sided * error, alpha / 2 / len(self.rows))
        one = self._half(index, self.one_sided * error, alpha / len(self.rows))
        own_one = self._half(index, single[0] * error, alpha)
        own_two = self._half(index, single[1] * error, alpha / 2)
        return Estimate(
            estimate=centre,
            standard_error=error,
            degrees_of_freedom=freedom,
            low=centre - two,
            high=centre + two,
            low_one_sided=centre - one,
            high_one_sided=centre + one,
            low_own=centre - own_one,
            high_own=centre + own_one,
            low_own_two_sided=centre - own_two,
            high_own_two_sided=centre + own_two,
            pairs=pairs,
            planned=self.table.shape[1],
            noisy=bool(self.noisy[index]),
        )

    def _standard_error(self, index: int) -> float:
        per_unit = max(self.own[index] / self.norms[index], self.mean_square, float(np.mean(self.own / self.norms)))
        return math.sqrt(self.norms[index] * per_unit / self.pairs[index])

    def _half(self, index: int, pooled: float, tail: float) -> float:
        """Half a width; where the noise guard fires, no less than that of the contrast's own t at this tail."""
        if not self.noisy[index]:
            return pooled
        own_error = math.sqrt(self.own[index] / self.pairs[index])
        return max(pooled, float(stats.t.ppf(1 - tail, self.pairs[index] - 1)) * own_error)

    def _correlation(self) -> Array:
        cells = self.rows[:, :, None] * self.complete[:, None, :] / self.pairs[:, None, None]
        flat = cells.reshape(len(self.rows), -1)
        covariance = flat @ flat.T
        deviation = np.sqrt(np.diag(covariance))
        return np.asarray(covariance / deviation / deviation[:, None])

    def _own_variance(self, row: Array, seeds: npt.NDArray[np.bool_]) -> float:
        cells = self._cells(row, seeds)
        return _unless_rounding(float(np.var(row @ cells, ddof=1)), cells)

    def _cells(self, row: Array, seeds: npt.NDArray[np.bool_]) -> Array:
        """The complete seeds; arms outside the contrast are zero, so that their gaps do not matter."""
        return np.where(row[:, None] != 0, self.table[:, seeds], 0.0)


def _noisy(table: Array, rows: Array) -> npt.NDArray[np.bool_]:
    """Per contrast, whether the noise guard fires on one of its arms."""
    ratio_tail = _noise_tails(table)
    shared = np.count_nonzero(rows, axis=0) > 1
    lenient = np.where((rows > 0) | shared, 1 - GUARD_SHARED, 1 - GUARD_OTHER)
    return np.asarray(np.any((rows != 0) & (ratio_tail < lenient), axis=1))


def _noise_tails(table: Array) -> Array:
    """Per arm: the tail probability of F for its variance over the mean variance of the others; one where unknown."""
    counts = np.isfinite(table).sum(axis=1)
    measured = np.flatnonzero(counts >= 2)
    tails = np.ones(len(table))
    if len(measured) < 3:
        return tails
    variances = np.array([variance(table[arm][np.isfinite(table[arm])]) for arm in measured])
    for place, arm in enumerate(measured):
        others = float(np.mean(np.delete(variances, place)))
        freedom = int(np.sum(np.delete(counts[measured] - 1, place)))
        ratio = variances[place] / others if others else math.inf * float(variances[place] > 0 or math.nan)
        tails[arm] = 1.0 if math.isnan(ratio) else float(stats.f.sf(ratio, counts[arm] - 1, freedom))
    return tails


def _untestable(table: Array, row: Array, seeds: npt.NDArray[np.bool_]) -> Estimate:
    cells = np.where(row[:, None] != 0, table[:, seeds], 0.0)
    return Estimate(
        estimate=float((row @ cells)[0]) if cells.shape[1] else math.nan,
        standard_error=math.inf,
        degrees_of_freedom=additive_fit(table)[1],
        low=-math.inf,
        high=math.inf,
        low_one_sided=-math.inf,
        high_one_sided=math.inf,
        low_own=-math.inf,
        high_own=math.inf,
        low_own_two_sided=-math.inf,
        high_own_two_sided=math.inf,
        pairs=cells.shape[1],
        planned=table.shape[1],
        noisy=False,
    )


def _finite(values: npt.ArrayLike) -> Array:
    """A copy in which what is not finite is NaN."""
    table = np.array(values, dtype=np.float64)
    table[~np.isfinite(table)] = np.nan
    return table


def _unless_rounding(square: float, values: Array) -> float:
    """A mean square, or zero where it is no more than the rounding of the values it was computed from."""
    return square if square > 1e-20 * float(np.max(np.abs(values))) ** 2 else 0.0
