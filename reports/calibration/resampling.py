"""Draw studies from many trainings: two worlds in which no arm differs from another, with the noise of real trainings.

*Unpaired*: different seeds of one arm, dealt at random to pseudo-arms. Nothing differs between these but chance, and
nothing correlates them: pairing gains nothing there. *Paired*: all arms under the same seeds, each centered on its own
mean; a study draws seeds with replacement, jointly for all arms, so that every true difference is zero while the shape
of the noise, its unequal size and the correlation over seeds are the real ones.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations

import numpy as np
import numpy.typing as npt

from reports.statistics.critical_values import Array

SeedIndices = npt.NDArray[np.intp]


def deal_trainings(errors: Array, num_studies: int, random: np.random.Generator) -> Array:
    """Shuffle the trainings of one arm, once per study.

    Args:
        errors: shape ``trainings``.

    Returns:
        Studies x trainings; :func:`take_pseudo_arms` cuts them.
    """
    return np.asarray(random.permuted(np.broadcast_to(errors, (num_studies, len(errors))), axis=1))


def take_pseudo_arms(dealt: Array, num_arms: int, num_seeds: int) -> Array:
    """Cut shuffled trainings into pseudo-arms without a training in common: studies x arms x seeds."""
    return np.asarray(dealt[:, : num_arms * num_seeds].reshape(len(dealt), num_arms, num_seeds))


def center_arms(errors: Array) -> Array:
    """Subtract every arm's mean over its seeds, arms x seeds."""
    return np.asarray(errors - errors.mean(axis=1, keepdims=True))


def draw_seeds(num_trainings: int, num_studies: int, num_seeds: int, random: np.random.Generator) -> SeedIndices:
    """Draw seeds with replacement, studies x seeds."""
    return random.integers(num_trainings, size=(num_studies, num_seeds))


def take_paired_studies(centered: Array, seeds: SeedIndices, num_arms: int) -> Array:
    """Make studies of the baseline and other arms, all under the same seeds.

    Every choice of the other arms is used equally often.

    Args:
        centered: arms x trainings, the baseline first.
        seeds: studies x seeds, indices of trainings.
        num_arms: of a study, from 2 up.

    Returns:
        Studies x arms x seeds.
    """
    choices = _arm_choices(len(centered), num_arms)
    rows = choices[np.arange(len(seeds)) % len(choices)]
    return np.asarray(centered[rows[:, :, None], seeds[:, None, :]])


@lru_cache(maxsize=64)
def _arm_choices(num_recorded: int, num_arms: int) -> SeedIndices:
    """All sets of so many arms that contain the baseline, in the order of the arms."""
    others = combinations(range(1, num_recorded), num_arms - 1)
    return np.array([(0, *choice) for choice in others], dtype=np.intp)
