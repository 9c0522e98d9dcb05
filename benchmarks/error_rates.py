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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from _interval_coverage import coverage
from _seed_planning import detectable, planned
from _simple_claims import (
    ARMS,
    DEVIATION,
    NAMES,
    NOISE,
    SEEDS,
    SMALLEST_EFFECT,
    Draw,
    counted,
    many_to_one,
    normal,
    percent,
    truths,
    words_of_does_not_help,
    words_of_helps,
    wrong_about_does_not_help,
    wrong_about_helps,
)

from ablations import AllOf, DoesNotHelp, Helps
from reports.statistics import Evidence, judge_claims
from reports.statistics.critical_values import Array
from reports.statistics.simulation import batched_half_widths

RESULTS = Path(__file__).parent / "results" / "error_rates.json"


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
