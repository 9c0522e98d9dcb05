"""What a number of seeds can find, and how often seeds planned for 80% power find it."""

from __future__ import annotations

import numpy as np
from _simple_claims import NAMES, SEEDS, SMALLEST_EFFECT, many_to_one, percent, words_of_helps

from reports.statistics.families import make_family
from reports.statistics.power import FamilyDesign, detectable_difference, seeds_for_difference, seeds_for_equivalence
from reports.statistics.simulation import batched_half_widths


def against_baseline(arms: int) -> FamilyDesign:
    """The family of all differences to the first arm."""
    names = tuple(NAMES[:arms])
    return FamilyDesign.of_family(make_family((names[0], arm) for arm in names[1:]), names)


def detectable() -> dict[str, dict[str, float]]:
    """True difference found with 80% power, in SD of a paired difference, as ``ablate show`` prints it."""
    return {
        f"{seeds} seeds": {
            f"k={arms}": round(detectable_difference(seeds, against_baseline(arms)), 2) for arms in (2, 4, 6, 10)
        }
        for seeds in SEEDS
    }


def planned(studies: int, random: np.random.Generator) -> dict[str, dict[str, float]]:
    """How often seeds planned for 80% power find what they were planned for (%), by the rule's own verdicts."""
    table: dict[str, dict[str, float]] = {}
    for arms in (2, 4, 6):
        rows = many_to_one(arms)
        design = against_baseline(arms)
        for deviation in (0.3, 0.45, 0.6):
            cell = f"k={arms}, SD of a paired difference {deviation:g}"
            for word, truth, seeds_at in (
                ("supported", SMALLEST_EFFECT, seeds_for_difference),
                ("practically equivalent", 0.0, seeds_for_equivalence),
            ):
                seeds = seeds_at(SMALLEST_EFFECT, deviation, design)
                assert seeds is not None
                noise = deviation / np.sqrt(2) * random.normal(size=(studies, arms, seeds))
                found = batched_half_widths(noise, rows)
                words = words_of_helps(found | {"estimate": found["estimate"] + truth})
                key = f"{word}: {seeds} seeds"
                table.setdefault(cell, {})[key] = percent(np.mean(words == word, axis=0).min())
    return table
