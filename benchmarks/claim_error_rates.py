"""Claim: verdicts of every kind of claim are wrong in one study of twenty at most, but for the cases named in the docs.

Cost: about five minutes on one core. Command: ``python benchmarks/claim_error_rates.py [--write]``; with ``--write``
the rates, each with its Clopper-Pearson interval, go to ``benchmarks/results/claim_error_rates.json``, and two tables
to ``docs/explanation/statistics.md``.

Studies are judged by the table that the report uses, on intervals of whole batches
(``reports.calibration.batched_verdicts``); a test compares the words with those of ``judge_claims``. A verdict
is wrong if and only if a statement that it asserts is false. Each rate is that of the least favorable of a hundred or
so true means, which is chosen on other studies than those on which the rate is measured.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from _claim_cases import (
    CLAIMS,
    NAMES,
    NOISE,
    SMALLEST_EFFECT,
    Draw,
    does_not_help,
    each_arm,
    equal,
    falls,
    helps,
    helps_by,
    reverses,
    saturates,
    true_errors,
)

from ablations import AllOf, Claim
from reports.calibration.batched_verdicts import BatchedRule, Intervals
from reports.statistics import estimate_proportion
from reports.statistics.critical_values import Array
from reports.statistics.factorial import effect_coefficients
from reports.statistics.power import FamilyDesign, variance_excess
from reports.statistics.simulation import batched_half_widths

Truths = npt.NDArray[np.bool_]  # one value per study

RESULTS = Path(__file__).parent / "results" / "claim_error_rates.json"
DOCS = Path(__file__).parents[1] / "docs" / "explanation" / "statistics.md"
SEEDS, ARMS = (2, 3, 5, 10), (2, 3, 4, 5, 6)
DEVIATION = 0.2  # points
LEVEL = 5.0  # percent
FACTORIALS = {4: (2, 2), 6: (2, 3)}  # arms to rows x columns


# The rule on many studies


@dataclass(frozen=True)
class Design:
    """Claims about so many arms under so many seeds."""

    claims: tuple[Claim, ...]
    arms: int
    seeds: int

    @cached_property
    def rule(self) -> BatchedRule:
        """The verdict rule for these claims."""
        return BatchedRule(self.claims, tuple(NAMES[: self.arms]), self.seeds, SMALLEST_EFFECT)

    def intervals(self, values: Array) -> dict[str, Array]:
        """Intervals of noise alone, for studies x arms x seeds of unit variance."""
        return self.rule.estimate_intervals(DEVIATION * values)

    def words(self, intervals: Intervals, errors: Sequence[float]) -> npt.NDArray[np.str_]:
        """Verdicts at true mean errors, claims x studies."""
        return self.rule.choose_words(self.rule.shift_intervals(intervals, errors))

    def wrong(self, intervals: Intervals, errors: Sequence[float]) -> Truths:
        """Studies with a verdict that asserts what is false at these true mean errors."""
        return self.rule.find_wrong(self.rule.shift_intervals(intervals, errors), errors)


# Rates


@dataclass(frozen=True)
class Rate:
    """A share of studies in percent, with its Clopper-Pearson 95% interval."""

    percent: float
    low: float
    high: float

    @classmethod
    def of(cls, hits: Truths) -> Rate:
        """The share of studies in which something is true."""
        share = estimate_proportion(int(np.sum(hits)), len(hits))
        return cls(*(round(100 * value, 1) for value in (float(np.mean(hits)), share.low, share.high)))


def worst_rate(design: Design, draw: Draw, studies: int, random: np.random.Generator) -> tuple[Rate, tuple[float, ...]]:
    """The rate of wrong studies at the least favorable true errors, and those errors."""
    candidates = true_errors(design.arms)
    pilot = design.intervals(draw(random, max(studies // 10, 200), design.arms, design.seeds))
    shares = [float(np.mean(design.wrong(pilot, errors))) for errors in candidates]
    worst = candidates[int(np.argmax(shares))]
    measured = design.intervals(draw(random, studies, design.arms, design.seeds))
    return Rate.of(design.wrong(measured, worst)), worst


def factorial_rate(draw: Draw, arms: int, seeds: int, studies: int, random: np.random.Generator) -> Rate:
    """How often an interval of the effects of two crossed factors misses the true effect."""
    found = batched_half_widths(draw(random, studies, arms, seeds), effect_coefficients(*FACTORIALS[arms]))
    return Rate.of(np.any(np.abs(found["estimate"]) > found["two_sided"], axis=1))


def wrong_verdicts(studies: int, random: np.random.Generator) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Per claims and noise, a row for each number of arms and seeds."""
    table: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name, (fewest, claims_of) in CLAIMS.items():
        table[name] = {}
        for noise, draw in NOISE.items():
            cells = []
            for arms in (arms for arms in ARMS if arms >= fewest):
                for seeds in SEEDS:
                    rate, worst = worst_rate(Design(claims_of(arms), arms, seeds), draw, studies, random)
                    cells.append({"arms": arms, "seeds": seeds, **asdict(rate), "true errors": worst})
            table[name][noise] = cells
    table["factorial effects, intervals"] = {
        noise: [
            {"arms": arms, "seeds": seeds, **asdict(factorial_rate(draw, arms, seeds, studies, random))}
            for arms in FACTORIALS
            for seeds in SEEDS
        ]
        for noise, draw in NOISE.items()
    }
    return table


Case = tuple[tuple[Claim, ...], tuple[float, ...], str]  # claims, true errors, the word that is true
POWER_CASES: dict[str, Case] = {
    "each of five arms: one improves by 0.6": (each_arm(helps, 5), (0, 0, 0, 0, -0.6), "supported"),
    "the same: five equal arms": (each_arm(helps, 5), (0, 0, 0, 0, 0), "practically equivalent"),
    "no arm improves: five equal arms, also if equivalent": (each_arm(does_not_help, 5), (0,) * 5, "agrees"),
    "improves by 0.6 ± 0.3: by 0.6": (each_arm(helps_by, 5), (0, 0, 0, 0, -0.6), "supported"),
    "falls: 0.2 a step": ((falls(5),), (0, -0.2, -0.4, -0.6, -0.8), "supported"),
    "falls: rises by 0.2 a step": ((falls(5),), (0, 0.2, 0.4, 0.6, 0.8), "contradicted"),
    "falls: last step rises by ε": ((falls(5),), (0, -0.3, -0.6, -0.9, -0.6), "contradicted"),
    "saturates: 0.6, then flat": ((saturates(5),), (0, -0.3, -0.6, -0.6, -0.6), "supported"),
    "saturates: rises by 0.6 up to it": ((saturates(5),), (0, 0.0, 0.6, 0.6, 0.6), "contradicted"),
    "saturates: falls on by 0.6": ((saturates(5),), (0, -0.3, -0.6, -1.2, -1.2), "contradicted"),
    "reversal of 0.60 and 2.85": ((reverses(4),), (0, 0.6, 0, -2.85), "supported"),
    "reversal: the first half is the wrong way by 0.6": ((reverses(4),), (0, -0.6, 0, -2.85), "contradicted"),
    "all of four arms improve by 0.6": ((AllOf(parts=cast(Any, each_arm(helps, 5))),), (0,) + (-0.6,) * 4, "supported"),
    "all of four arms: one is worse by 0.6": (
        (AllOf(parts=cast(Any, each_arm(helps, 5))),), (0, -0.6, -0.6, -0.6, 0.6), "contradicted",
    ),
}  # fmt: skip


def power(studies: int, random: np.random.Generator) -> dict[str, list[dict[str, float]]]:
    """Per case, how often the last claim gets its word, for each number of seeds (%)."""
    table: dict[str, list[dict[str, float]]] = {}
    for name, (claims, errors, word) in POWER_CASES.items():
        rates = []
        for seeds in SEEDS:
            design = Design(claims, len(errors), seeds)
            (*_, found) = design.words(design.intervals(equal(random, studies, design.arms, seeds)), errors)
            words = ("supported", "practically equivalent") if word == "agrees" else (word,)
            rates.append(asdict(Rate.of(np.isin(found, words))))
        table[name] = rates
    table["interaction of 0.6 in 2 × 2, interval without 0"] = [
        asdict(Rate.of(interaction_is_found(seeds, studies, random))) for seeds in SEEDS
    ]
    return table


def interaction_is_found(seeds: int, studies: int, random: np.random.Generator) -> Truths:
    """Whether the interval of an interaction of 0.6 points excludes zero."""
    found = batched_half_widths(DEVIATION * equal(random, studies, 4, seeds), effect_coefficients(2, 2))
    return np.asarray(found["estimate"][:, -1] + 0.6 > found["two_sided"][:, -1])


def cautions(studies: int, random: np.random.Generator) -> dict[str, list[dict[str, float]]]:
    """How often the report warns of unequal correlation, six arms against a baseline, for each number of seeds."""
    table = {}
    for noise, draw in NOISE.items():
        rates = []
        for seeds in SEEDS[:-1]:  # with ten seeds there is nothing to warn of
            design = Design(each_arm(helps, 6), 6, seeds)
            family = FamilyDesign.of_family(design.rule.family, tuple(NAMES))
            excesses = [variance_excess(values, family) for values in draw(random, studies, 6, seeds)]
            rates.append(asdict(Rate.of(np.array([bool(excess and excess.is_unequal) for excess in excesses]))))
        table[noise] = rates
    return table


# Results


def measure(studies: int) -> dict[str, Any]:
    """All tables."""
    random = np.random.default_rng(20_262)
    return {
        "studies": studies,
        "wrong verdicts": wrong_verdicts(studies, random),
        "power": power(studies, random),
        "caution of unequal correlation": cautions(studies // 10, random),
    }


def seeds_by_rate(cells: Iterable[Mapping[str, Any]]) -> str:
    """Worst rate over arms for each number of seeds: ``3.1 / 3.4``; bold where its interval lies above 5%."""
    texts = []
    for seeds in SEEDS:
        worst = max((cell for cell in cells if cell["seeds"] == seeds), key=lambda cell: cell["percent"])
        text = f"{worst['percent']:.1f}"
        texts.append(f"**{text}**" if worst["low"] > LEVEL else text)
    return " / ".join(texts)


def document(found: Mapping[str, Any], before: Mapping[str, Sequence[float]]) -> str:
    """The tables of the documentation, in Markdown."""
    columns = [f"| claims | {' | '.join(NOISE)} |", "|---" * (len(NOISE) + 1) + "|"]
    for name, by_noise in found["wrong verdicts"].items():
        columns.append(f"| {name} | {' | '.join(seeds_by_rate(cells) for cells in by_noise.values())} |")
    told = [" / ".join(f"{rate['percent']:.0f}" for rate in rates) for rates in found[CAUTION].values()]
    columns.append(f"| *caution of unequal correlation, six arms* | {' | '.join(told)} |")
    powers = ["| claim and truth (equal noise) | before | now |", "|---|---|---|"]
    for name, rates in found["power"].items():
        now = " / ".join(f"{rate['percent']:.0f}" for rate in rates)
        old = " / ".join(f"{rate:.0f}" for rate in before[name]) if name in before else "as now"
        powers.append(f"| {name} | {old} | {now} |")
    return "\n".join([*columns, "", *powers])


CAUTION = "caution of unequal correlation"
BEGIN, END = "<!-- written by benchmarks/claim_error_rates.py -->", "<!-- end -->"


def write(found: Mapping[str, Any]) -> None:
    """Write the results, and the tables of the documentation."""
    kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    before = kept.get("power before", {})
    RESULTS.parent.mkdir(exist_ok=True)
    text = json.dumps({**found, "power before": before}, ensure_ascii=False, indent=1)
    RESULTS.write_text(text + "\n", encoding="utf-8")
    head, _, rest = DOCS.read_text(encoding="utf-8").partition(BEGIN)
    _, _, tail = rest.partition(END)
    DOCS.write_text(f"{head}{BEGIN}\n\n{document(found, before)}\n\n{END}{tail}", encoding="utf-8")


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name} and {DOCS.name}")
    parser.add_argument("--studies", type=int, default=20_000, help="simulated studies a cell")
    arguments = parser.parse_args()
    start = time.perf_counter()
    found = measure(arguments.studies)
    print(document(found, {}))
    print(f"{time.perf_counter() - start:.0f} seconds")
    if arguments.write:
        write(found)


if __name__ == "__main__":
    main()
