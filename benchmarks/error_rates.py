"""Claim: simple claims are judged wrongly in about one study of twenty at most, and intervals have nominal coverage.

Cost: about four minutes on one core. Command: ``python benchmarks/error_rates.py [--write]``; with ``--write`` the
numbers go to ``benchmarks/results/error_rates.json``.

Noise: arms x seeds with SD 0.2 points, a common effect of the seed (ρ = 0.3), and ε = 0.3 points. A verdict is wrong
if and only if one of the statements it asserts is false; a study is wrong if one of its verdicts is. To judge
thousands of studies at once, the rule is computed on whole batches (``reports.statistics.simulation``); a test
compares the two implementations.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from ablations import AllOf, DoesNotHelp, Helps
from reports.statistics import (
    Evidence,
    arm_interval,
    crossed_interval,
    estimate_proportion,
    judge_claims,
)
from reports.statistics.critical_values import Array
from reports.statistics.families import make_family
from reports.statistics.power import FamilyDesign, detectable_difference, seeds_for_difference, seeds_for_equivalence
from reports.statistics.simulation import batched_half_widths

Draw = Callable[[np.random.Generator, tuple[int, int, int]], Array]

RESULTS = Path(__file__).parent / "results" / "error_rates.json"
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
    centre, two, one = found["estimate"], found["two_sided"], found["one_sided"]
    words = np.where(centre - two > 0, "supported", np.where(centre + two < 0, "contradicted", "inconclusive"))
    return np.asarray(np.where(np.abs(centre) + one < SMALLEST_EFFECT, "practically equivalent", words))


def words_of_does_not_help(found: Mapping[str, Array]) -> npt.NDArray[np.str_]:
    """Verdicts of ``DoesNotHelp`` for every study and contrast."""
    centre, two, one = found["estimate"], found["two_sided"], found["one_sided"]
    words = np.where(centre - two > 0, "contradicted", "inconclusive")
    words = np.where(centre + one < SMALLEST_EFFECT, "supported", words)
    return np.where(np.abs(centre) + one < SMALLEST_EFFECT, "practically equivalent", words)


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


def familywise(studies: int, random: np.random.Generator) -> dict[str, dict[str, list[float]]]:
    """Per noise and number of arms, the worst rate of wrong studies over all truths, for 3, 5 and 10 seeds (%)."""
    table: dict[str, dict[str, list[float]]] = {}
    for noise, draw in (NOISE | {"counts out of 360": counted}).items():
        table[noise] = {
            f"k={arms}": [worst_rate(draw, arms, seeds, studies, random) for seeds in SEEDS] for arms in ARMS
        }
    return table


def worst_rate(draw: Draw, arms: int, seeds: int, studies: int, random: np.random.Generator) -> float:
    """The largest familywise rate of wrong verdicts over truths and over the two simple claims (%)."""
    found, rates = batched_half_widths(DEVIATION * draw(random, (studies, arms, seeds)), many_to_one(arms)), []
    for truth in truths(arms).values():
        shifted = found | {"estimate": found["estimate"] + truth}
        rates.append(np.mean(np.any(wrong_about_helps(words_of_helps(shifted), truth), axis=1)))
        rates.append(np.mean(np.any(wrong_about_does_not_help(words_of_does_not_help(shifted), truth), axis=1)))
    return percent(max(rates))


def power(studies: int, random: np.random.Generator) -> dict[str, dict[str, list[str]]]:
    """Per true improvement, the share of *supported* / *equivalent* verdicts of ``Helps`` (%), per contrast."""
    table: dict[str, dict[str, list[str]]] = {}
    noise = {
        (k, n): batched_half_widths(DEVIATION * normal(random, (studies, k, n)), many_to_one(k))
        for k in (2, 6)
        for n in SEEDS
    }
    for truth in (0.0, 0.15, 0.3, 0.5, 0.8, 1.2, 2.0):
        words = {case: words_of_helps(found | {"estimate": found["estimate"] + truth}) for case, found in noise.items()}
        table[f"{truth:g} points"] = {f"k={k}": [both_words(words[k, n]) for n in SEEDS] for k in (2, 6)}
    return table


def both_words(words: npt.NDArray[np.str_]) -> str:
    """Percent supported / percent practically equivalent."""
    return f"{100 * np.mean(words == 'supported'):.0f}/{100 * np.mean(words == 'practically equivalent'):.0f}"


THREE_CONJUNCTIONS = tuple(
    AllOf(parts=(Helps(arm=first, over="A"), DoesNotHelp(arm=second, over="A")))
    for first, second in (("B", "C"), ("D", "E"), ("F", "G"))
)


def three_conjunctions(studies: int, random: np.random.Generator) -> dict[str, list[float]]:
    """Wrong studies where half of each of three conjunctions is false (%): by the rule, and each as if it stood alone.

    The rule itself judges study by study; other composed claims are those of ``claim_error_rates.py``.
    """
    errors = np.array([0, 0, 2, 0, 2, 0, 2])
    families: dict[str, list[tuple[AllOf, ...]]] = {
        "by the rule": [THREE_CONJUNCTIONS],
        "each as if alone": [(claim,) for claim in THREE_CONJUNCTIONS],
    }
    table: dict[str, list[float]] = {}
    for seeds in SEEDS:
        values = DEVIATION * normal(random, (studies, len(errors), seeds)) + errors[:, None]
        for reading, claims_of in families.items():
            wrong = [
                any(
                    found.word in ("supported", "contradicted")
                    for claims in claims_of
                    for found in judge_claims(claims, NAMES[: len(errors)], measured(study))
                )
                for study in values
            ]
            table.setdefault(reading, []).append(percent(np.mean(wrong)))
    return table


def measured(values: Array, untrained: npt.NDArray[np.bool_] | None = None) -> dict[Any, Evidence]:
    """Test errors as evidence."""
    lost = np.zeros(values.shape, dtype=bool) if untrained is None else untrained
    return {
        "test_error": Evidence(values=values, lost_to_divergence=lost, smallest_effect=SMALLEST_EFFECT, unit="points")
    }


def lost_seeds(studies: int, random: np.random.Generator) -> dict[str, dict[str, float]]:
    """Ten seeds, and arm B diverges with probability 0.3: what is said of it, by rule and by two fallacies (%)."""
    table: dict[str, dict[str, float]] = {}
    for gain, word in ((0.0, "practically equivalent"), (0.6, "supported")):
        counts: Counter[str] = Counter()
        for values in DEVIATION * normal(random, (studies, 2, 10)):
            values[1] -= gain
            untrained = np.zeros((2, 10), dtype=bool)
            untrained[1] = random.random(10) < 0.3
            gaps = np.where(untrained, np.nan, values)
            cases = {"silent drop": measured(gaps), "retry": measured(values), "this rule": measured(gaps, untrained)}
            for practice, numbers in cases.items():
                counts[practice] += judge_claims([Helps(arm="B", over="A")], "AB", numbers)[0].word == word
        table[f"gain {gain:g}: {word}"] = {practice: percent(count / studies) for practice, count in counts.items()}
    return table


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


LOOKS = (3, 5, 10)
EVERY_SEED = tuple(range(3, 11))
Practice = tuple[tuple[int, ...], int, bool]  # looks; among how many the 5% are split; is significance all that stops?
PRACTICES: dict[str, Practice] = {
    "ten seeds, looked at once": ((10,), 1, False),
    "registered looks at 3, 5 and 10 seeds": (LOOKS, len(LOOKS), False),
    "stop at the first significant of 3, 5 and 10 seeds": (LOOKS, 1, True),
    "stop at the first significant of 3, 4, ... 10 seeds": (EVERY_SEED, 1, True),
}


def sequential(studies: int, random: np.random.Generator) -> dict[str, dict[str, float]]:
    """Per practice and number of arms, the worst rate of wrong studies (%) where each claim keeps its first verdict."""
    return {
        name: {f"k={arms}": sequential_rate(practice, arms, studies, random) for arms in ARMS}
        for name, practice in PRACTICES.items()
    }


def sequential_rate(practice: Practice, arms: int, studies: int, random: np.random.Generator) -> float:
    """The largest familywise rate of wrong first verdicts over truths and over the two simple claims (%)."""
    looks, split, only_significance = practice
    values, rates = DEVIATION * normal(random, (studies, arms, looks[-1])), []
    found = [batched_half_widths(values[:, :, :count], many_to_one(arms), alpha=0.05 / split) for count in looks]
    if only_significance:
        found = [each | {"one_sided": np.full_like(each["one_sided"], np.inf)} for each in found]
    for truth in truths(arms).values():
        shifted = [each | {"estimate": each["estimate"] + truth} for each in found]
        for read, wrong in (
            (words_of_helps, wrong_about_helps),
            (words_of_does_not_help, wrong_about_does_not_help),
        ):
            words = first_resolved([read(each) for each in shifted])
            rates.append(np.mean(np.any(wrong(words, truth), axis=1)))
    return percent(max(rates))


def first_resolved(looks: Sequence[npt.NDArray[np.str_]]) -> npt.NDArray[np.str_]:
    """For every claim, the verdict of the first look that is none of *inconclusive*."""
    words = looks[-1]
    for earlier in reversed(looks[:-1]):
        words = np.where(earlier != "inconclusive", earlier, words)
    return words


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


def percent(share_of_one: float | np.floating[Any]) -> float:
    """One decimal."""
    return round(100 * float(share_of_one), 1)


def measure(studies: int = 20_000) -> dict[str, Any]:
    """All tables."""
    random, later = np.random.default_rng(20_260), np.random.default_rng(20_261)
    return {
        "studies": studies,
        "familywise wrong verdicts, worst truth and claim": familywise(studies, random),
        "supported/equivalent": power(studies, random),
        "three conjunctions, half of each false": three_conjunctions(studies // 8, random),
        "lost seeds": lost_seeds(studies // 10, random),
        "detectable difference": detectable(),
        "coverage": coverage(studies, random),
        "adding seeds: wrong verdicts": sequential(studies, later),
        "seeds planned for 80% power": planned(studies, later),
    }


def show(name: str, table: Any, indent: str = "") -> None:
    """Print nested tables, one row a line."""
    if not isinstance(table, dict) or all(isinstance(each, (int, float)) for each in table.values()):
        print(f"{indent}{name}: {table}")
        return
    print(f"{indent}{name}")
    for key, value in table.items():
        show(key, value, indent + "  ")


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    parser.add_argument("--quick", action="store_true", help="a tenth of the studies")
    parser.add_argument("--studies", type=int, default=20_000, help="simulated studies a cell, for the batches")
    arguments = parser.parse_args()
    start = time.perf_counter()
    found = measure(arguments.studies // 10 if arguments.quick else arguments.studies)
    for name, table in found.items():
        show(name, table)
    print(f"{time.perf_counter() - start:.0f} seconds")
    if arguments.write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
