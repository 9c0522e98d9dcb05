"""How often the intervals that a report prints cover the truth."""

from __future__ import annotations

import numpy as np
from _simple_claims import NOISE, SEEDS, Draw, many_to_one, percent
from scipy import stats

from reports.statistics import arm_interval, crossed_interval, estimate_proportion
from reports.statistics.simulation import batched_half_widths


def coverage(studies: int, random: np.random.Generator) -> dict[str, list[float]]:
    """How often every printed interval covers (%), for 3, 5 and 10 seeds; nominally 95, Clopper-Pearson at least."""
    table: dict[str, list[float]] = {}
    for noise, draw in NOISE.items():
        found = [batched_half_widths(draw(random, (studies, 6, seeds)), many_to_one(6)) for seeds in SEEDS]
        table[f"six arms together, {noise}"] = [
            percent(np.mean(np.all(np.abs(each["estimate"]) <= each["two_sided"], axis=1))) for each in found
        ]
        table[f"one of six at its own level, {noise}"] = [
            percent(np.mean(np.abs(each["estimate"][:, -1]) <= each["own_two_sided"][:, -1])) for each in found
        ]
    for noise in ("normal, equal SD", "arms exponential (skewness 2)", "arms t with 3 df"):
        table[f"one arm's mean, {noise}"] = [arm_coverage(NOISE[noise], seeds, studies // 4, random) for seeds in SEEDS]
    for kind, (image, seed) in {"flips only": (0, 0), "images differ": (1, 0), "images and seeds": (1, 0.08)}.items():
        table[f"crossed, {kind}"] = [crossed_coverage(image, seed, seeds, studies // 16, random) for seeds in SEEDS]
    table["Clopper-Pearson, lowest"] = [share_coverage(seeds) for seeds in SEEDS]
    return table


def arm_coverage(draw: Draw, seeds: int, studies: int, random: np.random.Generator) -> float:
    """Of the interval of one arm's mean."""
    found = [arm_interval(each[1]) for each in draw(random, (studies, 2, seeds))]
    return percent(np.mean([each.low <= 0 <= each.high for each in found]))


def crossed_coverage(image: float, seed: float, seeds: int, studies: int, random: np.random.Generator) -> float:
    """Two arms of equal error on 1,000 images; SDs in logits of arm x image and arm x seed effects."""
    hits = []
    for _ in range(studies):
        common = random.normal(-2, 1.5, size=1000)
        logits = common + image * random.normal(size=(2, 1, 1000)) + seed * random.normal(size=(2, seeds, 1))
        wrong = random.random((2, seeds, 1000)) < 1 / (1 + np.exp(-logits))
        found = crossed_interval(wrong[0].astype(float) - wrong[1])
        hits.append(found.low <= 0 <= found.high)
    return percent(np.mean(hits))


def share_coverage(run: int) -> float:
    """Exact, not simulated: the lowest coverage over true shares from 0.01 to 0.99."""
    truth, counts = np.linspace(0.01, 0.99, 99), range(run + 1)
    inside = np.array(
        [
            (estimate_proportion(count, run).low <= truth) & (truth <= estimate_proportion(count, run).high)
            for count in counts
        ]
    )
    return percent(np.min(np.sum(stats.binom.pmf(np.array(counts)[:, None], run, truth) * inside, axis=0)))
