"""Simulated studies of arms against a baseline, and the verdicts of the two simple claims on whole batches of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from reports.statistics.critical_values import Array

Draw = Callable[[np.random.Generator, tuple[int, int, int]], Array]

SEEDS, ARMS = (3, 5, 10), (2, 3, 6, 10)
DEVIATION, CORRELATION, SMALLEST_EFFECT = 0.2, 0.3, 0.3
NAMES = "ABCDEFGHIJ"


def scaled(arm: int, factor: float) -> Draw:
    """Normal noise, one arm of which has ``factor`` times the standard deviation."""

    def draw(random: np.random.Generator, shape: tuple[int, int, int]) -> Array:
        values = normal(random, shape)
        values[:, arm] *= factor
        return values

    return draw


def normal(random: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    """Studies x arms x seeds of unit variance, correlated over seeds."""
    return with_seed_effect(random, random.normal(size=shape))


def skewed(random: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    """Exponential residuals (skewness 2) in every arm but the baseline."""
    residuals = random.exponential(size=shape) - 1
    residuals[:, 0] = random.normal(size=shape[::2])
    return with_seed_effect(random, residuals)


def heavy(random: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    """Residuals with the tails of Student's t with 3 degrees of freedom."""
    return with_seed_effect(random, random.standard_t(3, size=shape) / np.sqrt(3))


def counted(random: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    """Normal noise, rounded up or down at random to one example in 360: steps of 0.28 points, above its own SD."""
    step = 100 / 360 / DEVIATION
    counts: Array = np.floor(normal(random, shape) / step + random.random(shape))
    return counts * step


def with_seed_effect(random: np.random.Generator, residuals: Array) -> Array:
    """Add a common effect of the seed, so that the variance is one and arms correlate."""
    studies, _, seeds = residuals.shape
    common = random.normal(size=(studies, 1, seeds))
    return np.array(np.sqrt(CORRELATION) * common + np.sqrt(1 - CORRELATION) * residuals)


NOISE: dict[str, Draw] = {
    "normal, equal SD": normal,
    "arms exponential (skewness 2)": skewed,
    "arms t with 3 df": heavy,
    "one arm 3x SD": scaled(1, 3),
    "one arm 10x SD": scaled(1, 10),
    "baseline 2x SD": scaled(0, 2),
    "baseline 3x SD": scaled(0, 3),
}


def truths(arms: int) -> dict[str, Array]:
    """True improvements of every arm on the baseline, in points."""
    ones = np.ones(arms - 1)
    mixed = np.resize([0.0, 0.0, SMALLEST_EFFECT, -SMALLEST_EFFECT, 1.0], arms - 1)
    return {"all 0": 0 * ones, "all +ε": SMALLEST_EFFECT * ones, "all -ε": -SMALLEST_EFFECT * ones, "mixed": mixed}


def words_of_helps(found: Mapping[str, Array]) -> npt.NDArray[np.str_]:
    """Verdicts of ``Helps`` for every study and contrast."""
    center, two, one = found["estimate"], found["two_sided"], found["one_sided"]
    words = np.where(center - two > 0, "supported", np.where(center + two < 0, "contradicted", "inconclusive"))
    return np.asarray(np.where(np.abs(center) + one < SMALLEST_EFFECT, "practically equivalent", words))


def words_of_does_not_help(found: Mapping[str, Array]) -> npt.NDArray[np.str_]:
    """Verdicts of ``DoesNotHelp`` for every study and contrast."""
    center, two, one = found["estimate"], found["two_sided"], found["one_sided"]
    words = np.where(center - two > 0, "contradicted", "inconclusive")
    words = np.where(center + one < SMALLEST_EFFECT, "supported", words)
    return np.where(np.abs(center) + one < SMALLEST_EFFECT, "practically equivalent", words)


def wrong_about_helps(words: npt.NDArray[np.str_], truth: Array) -> npt.NDArray[np.bool_]:
    """Where a verdict of ``Helps`` asserts what is false."""
    outside = np.abs(truth) >= SMALLEST_EFFECT
    return np.array(
        ((words == "supported") & (truth <= 0))
        | ((words == "contradicted") & (truth >= 0))
        | ((words == "practically equivalent") & outside)
    )


def wrong_about_does_not_help(words: npt.NDArray[np.str_], truth: Array) -> npt.NDArray[np.bool_]:
    """Where a verdict of ``DoesNotHelp`` asserts what is false."""
    return np.array(
        ((words == "supported") & (truth >= SMALLEST_EFFECT))
        | ((words == "contradicted") & (truth <= 0))
        | ((words == "practically equivalent") & (np.abs(truth) >= SMALLEST_EFFECT))
    )


def many_to_one(arms: int) -> Array:
    """Contrasts x arms: every arm against the first."""
    return np.hstack([np.ones((arms - 1, 1)), -np.eye(arms - 1)])


def percent(share_of_one: float | np.floating[Any]) -> float:
    """One decimal."""
    return round(100 * float(share_of_one), 1)
