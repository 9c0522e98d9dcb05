"""Noise of many trainings: spread and shape per arm, and the correlation that shared seeds give."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reports.calibration.rare_failures import RareFailures, find_rare_failures
from reports.formatting import Interval
from reports.statistics.contrasts import fit_additive_model
from reports.statistics.critical_values import Array
from reports.statistics.power import pairing_correlation

NUM_RESAMPLES = 1000
NUM_MODE_RESAMPLES = 200
NUM_GRID_POINTS = 128
SIGNIFICANCE = 0.05


@dataclass(frozen=True, kw_only=True)
class ArmNoise:
    """Spread and shape of one arm's test error over trainings.

    Attributes:
        mean: percent.
        deviation: standard deviation, points.
        skewness: third standardized moment; positive with a tail of high errors.
        mode_p_value: of one mode against several (Silverman 1981).
        rare_failures: trainings far above the usual error; ``None`` without any.
    """

    arm: str
    num_trainings: int
    mean: float
    deviation: Interval
    skewness: Interval
    mode_p_value: float
    rare_failures: RareFailures | None

    @property
    def shape(self) -> str:
        """The shape in words."""
        findings = []
        if self.skewness.low > 0:
            findings.append("skewed to high errors")
        elif self.skewness.high < 0:
            findings.append("skewed to low errors")
        if self.mode_p_value < SIGNIFICANCE:
            findings.append("more than one mode")
        if self.rare_failures:
            findings.append(f"fails now and then: {self.rare_failures}")
        return ", ".join(findings) or "no skewness or second mode found"


@dataclass(frozen=True, kw_only=True)
class PairedNoise:
    """What pairing by seed gives.

    Attributes:
        deviation: standard deviation of a paired difference of two arms, √(2 MSE), points.
        unpaired_deviation: the same for arms under different seeds: √2 times that of one arm.
        correlation: mean correlation of two arms over seeds.
    """

    deviation: Interval
    unpaired_deviation: float
    correlation: Interval


def measure_arm_noise(arm: str, errors: Array, random: np.random.Generator) -> ArmNoise:
    """Measure one arm's noise; errors have shape ``trainings``."""
    resampled = errors[random.integers(len(errors), size=(NUM_RESAMPLES, len(errors)))]
    return ArmNoise(
        arm=arm,
        num_trainings=len(errors),
        mean=float(errors.mean()),
        deviation=_percentile_interval(float(errors.std(ddof=1)), resampled.std(axis=1, ddof=1)),
        skewness=_percentile_interval(float(_sample_skewness(errors)), _sample_skewness(resampled)),
        mode_p_value=one_mode_p_value(errors, random),
        rare_failures=find_rare_failures(errors),
    )


def measure_paired_noise(errors: Array, random: np.random.Generator) -> PairedNoise:
    """Measure the noise of paired differences; errors are arms x seeds, of two arms or more, without gaps."""
    deviations, correlations = [], []
    for _ in range(NUM_RESAMPLES // 4):  # each is a fit
        resampled = errors[:, random.integers(errors.shape[1], size=errors.shape[1])]
        deviations.append(paired_deviation(resampled))
        correlations.append(pairing_correlation(resampled))
    return PairedNoise(
        deviation=_percentile_interval(paired_deviation(errors), np.array(deviations)),
        unpaired_deviation=math.sqrt(2 * float(errors.var(axis=1, ddof=1).mean())),
        correlation=_percentile_interval(pairing_correlation(errors), np.array(correlations)),
    )


def paired_deviation(errors: Array) -> float:
    """Standard deviation of a paired difference of two arms, √(2 MSE) of ``error ~ arm + seed``."""
    return math.sqrt(2 * fit_additive_model(errors)[0])


def one_mode_p_value(values: Array, random: np.random.Generator) -> float:
    """Test one mode against several by a bootstrap of the critical bandwidth; returns the p value.

    The critical bandwidth is the smallest at which the kernel density of the values has one mode; the test asks how
    often values drawn from that density need a larger one. It is cautious. 1 for values that do not vary.

    Source: Silverman 1981.
    """
    deviation = float(values.std(ddof=1))
    if deviation == 0:
        return 1.0
    bandwidth = _find_smallest(lambda width: _count_modes(values, width) == 1, deviation)
    # Rescaled, so that smoothing does not widen the distribution.
    scale = 1 / math.sqrt(1 + (bandwidth / deviation) ** 2)
    num_exceeding = 0
    for _ in range(NUM_MODE_RESAMPLES):
        drawn = values[random.integers(len(values), size=len(values))] - values.mean()
        smoothed = values.mean() + scale * (drawn + bandwidth * random.normal(size=len(values)))
        num_exceeding += _count_modes(smoothed, bandwidth) > 1
    return num_exceeding / NUM_MODE_RESAMPLES


def _count_modes(values: Array, bandwidth: float) -> int:
    grid = np.linspace(values.min() - 3 * bandwidth, values.max() + 3 * bandwidth, NUM_GRID_POINTS)
    density = np.exp(-0.5 * ((grid[:, None] - values) / bandwidth) ** 2).sum(axis=1)
    rises = np.diff(density) > 0
    return int(np.sum(rises[:-1] & ~rises[1:]))


def _find_smallest(holds: Callable[[float], bool], start: float) -> float:
    """Bisect for the smallest width at which a condition holds, within 1%; more width never undoes it."""
    low, high = 0.0, start
    while not holds(high):
        low, high = high, 2 * high
    while high - low > 0.01 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _sample_skewness(values: Array) -> Array:
    """Third standardized moment along the last axis; 0 for values that do not vary."""
    centered = values - values.mean(axis=-1, keepdims=True)
    variance = np.mean(centered**2, axis=-1)
    third = np.mean(centered**3, axis=-1)
    return np.asarray(np.where(variance > 0, third / np.maximum(variance, 1e-300) ** 1.5, 0.0))


def _percentile_interval(value: float, resampled: Array) -> Interval:
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    return Interval(value=value, low=float(low), high=float(high))
