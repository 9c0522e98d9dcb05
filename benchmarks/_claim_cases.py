"""Simulated studies of several noises, claims of every kind about their arms, and true errors at their borders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from ablations import AllOf, Claim, DoesNotHelp, FallsWith, Helps, HelpsBy, Reverses, SaturatesAt
from reports.statistics.critical_values import Array

Draw = Callable[[np.random.Generator, int, int, int], Array]  # (random, studies, arms, seeds) to values

SMALLEST_EFFECT, LARGE = 0.3, 30.0  # points; LARGE is found in every study
NAMES = "ABCDEF"
MIXED_TRUTHS = 30


# Studies


def equal(random: np.random.Generator, studies: int, arms: int, seeds: int) -> Array:
    """Arms of equal noise, all correlated 0.3 over seeds."""
    return correlate(random.normal(size=(studies, arms, seeds)), random.normal(size=(studies, 1, seeds)), 0.3)


def noisy(arm: int, factor: float) -> Draw:
    """Arms one of which has ``factor`` times the standard deviation."""

    def draw(random: np.random.Generator, studies: int, arms: int, seeds: int) -> Array:
        values = equal(random, studies, arms, seeds)
        values[:, arm] *= factor
        return values

    return draw


def independent_baseline(random: np.random.Generator, studies: int, arms: int, seeds: int) -> Array:
    """Arms correlated 0.8 over seeds, and a baseline that is independent of them."""
    values = random.normal(size=(studies, arms, seeds))
    values[:, 1:] = correlate(values[:, 1:], random.normal(size=(studies, 1, seeds)), 0.8)
    return values


def two_groups(random: np.random.Generator, studies: int, arms: int, seeds: int) -> Array:
    """Two groups of arms: correlated 0.8 within a group, independent between them."""
    group = np.arange(arms) * 2 // arms
    common = random.normal(size=(studies, 2, seeds))
    return correlate(random.normal(size=(studies, arms, seeds)), common[:, group], 0.8)


def correlate(own: Array, common: Array, correlation: float) -> Array:
    """Mix a common effect of the seed into arms, at unit variance."""
    return np.asarray(np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own)


NOISE: dict[str, Draw] = {
    "equal": equal,
    "baseline 3 × SD": noisy(0, 3),
    "one arm 3 × SD": noisy(1, 3),
    "baseline independent": independent_baseline,
    "two groups": two_groups,
}


# Claims


def each_arm(kind: Callable[[str], Claim], arms: int) -> tuple[Claim, ...]:
    """One claim about each arm but the baseline."""
    return tuple(kind(arm) for arm in NAMES[1:arms])


def composed(arms: int) -> tuple[Claim, ...]:
    """Three composed claims beside each other."""
    return (falls(arms), saturates(arms), reverses(arms))


def falls(arms: int) -> FallsWith:
    """The error falls along all arms."""
    return FallsWith(order=tuple(NAMES[:arms]))


def saturates(arms: int) -> SaturatesAt:
    """It falls up to the arm in the middle and is level beyond it."""
    return SaturatesAt(arm=NAMES[arms // 2], order=tuple(NAMES[:arms]))


def reverses(arms: int) -> Reverses:
    """The second arm is worse than the first, the last better than the one before."""
    return Reverses(worse=("A", "B"), better=(NAMES[arms - 2], NAMES[arms - 1]))


def helps(arm: str) -> Helps:
    """The arm improves on the first one."""
    return Helps(arm=arm, over="A")


def does_not_help(arm: str) -> DoesNotHelp:
    """It does not."""
    return DoesNotHelp(arm=arm, over="A")


def helps_by(arm: str) -> HelpsBy:
    """It improves by about 0.6 points."""
    return HelpsBy(arm=arm, over="A", by=0.6, within=SMALLEST_EFFECT)


ClaimsOf = Callable[[int], tuple[Claim, ...]]
CLAIMS: dict[str, tuple[int, ClaimsOf]] = {  # fewest arms, and the claims about so many
    "each arm improves": (2, lambda arms: each_arm(helps, arms)),
    "no arm improves": (2, lambda arms: each_arm(does_not_help, arms)),
    "each improves by 0.6 ± 0.3": (2, lambda arms: each_arm(helps_by, arms)),
    "falls along an order": (2, lambda arms: (falls(arms),)),
    "falls and saturates": (3, lambda arms: (saturates(arms),)),
    "reversal": (4, lambda arms: (reverses(arms),)),
    "all of: every arm improves": (3, lambda arms: (AllOf(parts=cast(Any, each_arm(helps, arms))),)),
    "all of: one improves, one does not": (3, lambda _: (AllOf(parts=(helps("B"), does_not_help("C"))),)),
    "three composed claims together": (4, composed),
}


def true_errors(arms: int) -> list[tuple[float, ...]]:
    """True mean errors at which one statement or several are at the border of being true, and others far from it."""
    found: dict[tuple[float, ...], None] = {}  # an ordered set
    margin = SMALLEST_EFFECT
    others_of_base = {
        0.0: (0.0, -0.6 - margin, -margin, margin, -LARGE, LARGE),
        -LARGE: (0.0, -margin, margin, -0.6 - margin, LARGE),
        LARGE: (-margin, 0.0, margin),
        -margin: (-margin,),
        margin: (margin,),
    }
    # Arms that are all alike but one; then steps along the order that are all alike but one.
    for base, others in others_of_base.items():
        for other in others:
            for index in range(1, arms):
                levels = np.full(arms, base)
                levels[0], levels[index] = 0.0, other
                found[tuple(levels.tolist())] = None
                if base in (0.0, -LARGE):
                    found[tuple(np.cumsum(levels).tolist())] = None
    for split in range(1, arms - 1):  # a fall up to an arm, and one beyond it at the border of equivalence
        for beyond in (-SMALLEST_EFFECT, 0.0, SMALLEST_EFFECT):
            levels = np.where(np.arange(arms) < split, LARGE, 0.0)
            levels[-1] = beyond
            found[tuple(levels.tolist())] = None
    # Several borders at once: a claim may be supported by one false statement or contradicted by another.
    random = np.random.default_rng(arms)
    for _ in range(MIXED_TRUTHS):
        levels = random.choice([0.0, 0.0, -margin, margin, -LARGE, LARGE], size=arms)
        levels[0] = 0.0
        found[tuple(levels.tolist())] = None
        found[tuple(np.cumsum(levels).tolist())] = None
    return list(found)
