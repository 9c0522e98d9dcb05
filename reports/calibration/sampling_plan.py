"""Which rates are measured on trainings, and how studies for them are drawn and judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ablations import Claim, FallsWith, Helps
from lightning_modules.specs.text import format_points
from reports.calibration.batched_verdicts import BatchedRule
from reports.calibration.cases import Case, Quantity, Trainings, World
from reports.calibration.noise import paired_deviation
from reports.calibration.resampling import (
    center_arms,
    deal_trainings,
    draw_seeds,
    take_paired_studies,
    take_pseudo_arms,
)
from reports.statistics.critical_values import Array
from reports.statistics.power import FamilyDesign, seeds_for_difference, seeds_for_equivalence

# What studies have in practice: two seeds are the least that have a spread, and above 20 the rates no longer move.
SEED_COUNTS = tuple(range(2, 21))
ARM_COUNTS = tuple(range(2, 7))
EQUIVALENCE_SEED_COUNTS = (3, 5, 8, 10, 15, 20)  # beside the planned ones
SHIFTS = (1.0, 2.0, 4.0)  # of the smallest effect of interest, for the power
NUM_CHECKED_STUDIES = 5  # per size and claims, judged once more one by one
PSEUDO_ARMS = ("P1", "P2", "P3", "P4", "P5", "P6")


@dataclass(frozen=True)
class Share:
    """A share of drawn studies, between 0 and 1, and the variance that the number of studies leaves it."""

    value: float
    variance: float

    @classmethod
    def of_hits(cls, hits: npt.NDArray[np.bool_] | Array) -> Share:
        """The share of studies in which something is true, or the mean of a share within studies."""
        return cls(float(np.mean(hits)), float(np.var(hits)) / max(1, len(hits) - 1))


Shares = dict[Case, Share]


class SamplingPlan:
    """Which rates are measured on some trainings; the planned seeds are those of all trainings, fixed."""

    def __init__(self, trainings: Trainings) -> None:
        self.trainings = trainings
        num_recorded = len(trainings.arms)
        self.unpaired_sizes = []
        for num_arms in ARM_COUNTS:
            for num_seeds in SEED_COUNTS:
                # Dealt without replacement: a training that stood in two arms would correlate them.
                if num_arms * num_seeds <= trainings.num_trainings:
                    self.unpaired_sizes.append((num_arms, num_seeds))
        self.paired_arm_counts = [count for count in ARM_COUNTS if count <= num_recorded]
        self.planned_seeds: dict[float, int] = {}
        self.planned_equivalence_seeds = 0
        self.unplanned_shifts: list[float] = []
        if num_recorded > 1:
            self._plan_seeds()

    def _plan_seeds(self) -> None:
        """Plan seeds as ``ablate plan`` does, for the claims that each arm improves on the baseline."""
        trainings = self.trainings
        # Fixed for the bootstrap as well: replanned in every resample, the rate would be that of many plans.
        deviation = paired_deviation(trainings.errors)
        if not deviation > 0:
            return
        rule = self._make_rule(_each_improves(trainings.arms), trainings.arms, SEED_COUNTS[-1])
        design = FamilyDesign.of_family(rule.family, trainings.arms)
        for factor in SHIFTS:
            shift = factor * trainings.smallest_effect
            num_seeds = seeds_for_difference(shift, deviation, design)
            if num_seeds:
                self.planned_seeds[shift] = num_seeds
            else:
                self.unplanned_shifts.append(shift)
        self.planned_equivalence_seeds = seeds_for_equivalence(trainings.smallest_effect, deviation, design) or 0

    def measure_shares(self, errors: Array, num_studies: int, random: np.random.Generator) -> Shares:
        """Draw studies from trainings, arms x seeds, and return every share."""
        shares: Shares = {}
        for arm, row in zip(self.trainings.arms, errors, strict=True):
            shares |= self._measure_unpaired(arm, row, num_studies, random)
        if len(errors) > 1:
            centered = center_arms(errors)
            shares |= self._measure_paired(centered, num_studies, random)
            shares |= self._measure_power(centered, num_studies, random)
            shares |= self._measure_equivalence(centered, num_studies, random)
        return shares

    def _measure_unpaired(self, arm: str, errors: Array, num_studies: int, random: np.random.Generator) -> Shares:
        dealt = deal_trainings(errors, num_studies, random)
        shares: Shares = {}
        for num_arms, num_seeds in self.unpaired_sizes:
            values = take_pseudo_arms(dealt, num_arms, num_seeds)
            for name, rule in self._null_rules(PSEUDO_ARMS[:num_arms], num_seeds, ()):
                wrong = rule.find_wrong(rule.estimate_intervals(values), [0.0] * num_arms)
                case = _null_case("unpaired", name, num_arms, num_seeds, arm)
                shares[case] = Share.of_hits(wrong)
        return shares

    def _measure_paired(self, centered: Array, num_studies: int, random: np.random.Generator) -> Shares:
        seeds = draw_seeds(centered.shape[1], num_studies, SEED_COUNTS[-1], random)
        shares: Shares = {}
        for num_arms in self.paired_arm_counts:
            # The same seeds for every number of arms: their rates differ by the arms alone, not by the draw.
            values = take_paired_studies(centered, seeds, num_arms)
            is_whole_study = num_arms == len(centered)
            arms = self.trainings.arms if is_whole_study else PSEUDO_ARMS[:num_arms]
            for num_seeds in SEED_COUNTS:
                own_claims = self.trainings.claims if is_whole_study else ()
                for name, rule in self._null_rules(arms, num_seeds, own_claims):
                    # The first seeds of one long draw are a draw of fewer: twenty sizes for the price of one.
                    wrong = rule.find_wrong(rule.estimate_intervals(values[:, :, :num_seeds]), [0.0] * num_arms)
                    case = _null_case("paired", name, num_arms, num_seeds)
                    shares[case] = Share.of_hits(wrong)
        return shares

    def _measure_power(self, centered: Array, num_studies: int, random: np.random.Generator) -> Shares:
        """Shares of studies that find the improvement of one arm, and those that find equal arms equivalent."""
        shares: Shares = {}
        for shift, num_seeds in self.planned_seeds.items():
            values = _draw_whole_studies(centered, num_studies, num_seeds, random)
            shares |= self._count_words("found", "supported", values, shift)
        if self.planned_equivalence_seeds:
            values = _draw_whole_studies(centered, num_studies, self.planned_equivalence_seeds, random)
            shares |= self._count_words("found equivalence", "practically equivalent", values, 0.0)
        return shares

    def _measure_equivalence(self, centered: Array, num_studies: int, random: np.random.Generator) -> Shares:
        """Shares of studies that call an arm equivalent which differs by the smallest effect, either way."""
        effect = self.trainings.smallest_effect
        seed_counts = {*EQUIVALENCE_SEED_COUNTS, *filter(None, (self.planned_equivalence_seeds,))}
        all_values = _draw_whole_studies(centered, num_studies, max(seed_counts), random)
        shares: Shares = {}
        for num_seeds in sorted(seed_counts):
            # The limits of the margin: inside it, an equivalence would be true; farther out, it is rarer.
            for shift in (-effect, effect):
                values = all_values[:, :, :num_seeds]
                shares |= self._count_words("wrong equivalence", "practically equivalent", values, shift)
        return shares

    def _count_words(self, quantity: Quantity, word: str, values: Array, shift: float) -> Shares:
        """Share of studies in which the one arm that differs gets a word, per arm and on average over the arms."""
        shares: Shares = {}
        hits = []
        for arm, words in self._words_by_shifted_arm(values, shift):
            hits.append(words == word)
            shares[self._shifted_case(quantity, values.shape[2], arm, shift)] = Share.of_hits(hits[-1])
        if len(hits) > 1:
            shares[self._shifted_case(quantity, values.shape[2], "", shift)] = Share.of_hits(np.mean(hits, axis=0))
        return shares

    def _words_by_shifted_arm(self, values: Array, shift: float) -> Iterator[tuple[str, npt.NDArray[np.str_]]]:
        """Per arm but the baseline, the words on it where it alone improves by ``shift``."""
        arms = self.trainings.arms
        rule = self._make_rule(_each_improves(arms), arms, values.shape[2])
        intervals = rule.estimate_intervals(values)
        for index, arm in enumerate(arms[1:], 1):
            true_errors = [0.0] * len(arms)
            true_errors[index] = -shift
            yield arm, rule.choose_words(rule.shift_intervals(intervals, true_errors))[index - 1]

    def _shifted_case(self, quantity: Quantity, num_seeds: int, arm: str, shift: float) -> Case:
        return Case(
            quantity=quantity,
            world="paired",
            claims="each arm improves on the baseline",
            num_arms=len(self.trainings.arms),
            num_seeds=num_seeds,
            arm=arm,
            shift=shift,
        )

    def check_words(self, random: np.random.Generator) -> int:
        """Judge a few studies of every size by the report's own function as well; returns how many."""
        num_checked = 0
        errors = self.trainings.errors
        dealt = deal_trainings(errors[0], NUM_CHECKED_STUDIES, random)
        for num_arms, num_seeds in self.unpaired_sizes:
            values = take_pseudo_arms(dealt, num_arms, num_seeds)
            for _, rule in self._null_rules(PSEUDO_ARMS[:num_arms], num_seeds, ()):
                num_checked += _check_rule(rule, values)
        if len(errors) > 1:
            values = _draw_whole_studies(center_arms(errors), NUM_CHECKED_STUDIES, SEED_COUNTS[-1], random)
            for num_seeds in SEED_COUNTS:
                for _, rule in self._null_rules(self.trainings.arms, num_seeds, self.trainings.claims):
                    num_checked += _check_rule(rule, values[:, :, :num_seeds])
        return num_checked

    def describe_left_out(self) -> Iterator[str]:
        """Say which sizes and questions these trainings cannot answer."""
        trainings = self.trainings
        if trainings.num_left_out:
            yield (
                f"{trainings.num_left_out} of {trainings.num_left_out + trainings.num_trainings} seeds are left out: "
                "an arm has no test error under them."
            )
        for num_arms in ARM_COUNTS:
            largest = min(SEED_COUNTS[-1], trainings.num_trainings // num_arms)
            if largest < SEED_COUNTS[0]:
                yield f"Unpaired, {num_arms} arms: {trainings.num_trainings} trainings of an arm are too few."
            elif largest < SEED_COUNTS[-1]:
                yield (
                    f"Unpaired, {num_arms} arms: {trainings.num_trainings} trainings of an arm are enough for at most "
                    f"{largest} seeds; more are left out."
                )
        if len(trainings.arms) == 1:
            yield "One arm was trained: the paired world, the power and the correlation need two or more."
        elif len(trainings.arms) < ARM_COUNTS[-1]:
            yield f"The paired world has the {len(trainings.arms)} arms that were trained, no more."
        for shift in self.unplanned_shifts:
            yield f"Power at a difference of {format_points(shift)} is left out: it takes more than 500 seeds."

    def _null_rules(
        self, arms: tuple[str, ...], num_seeds: int, own_claims: tuple[Claim, ...]
    ) -> Iterator[tuple[str, BatchedRule]]:
        """The rules under which studies without differences are judged, by the claims in words."""
        yield "each arm improves on the first", self._make_rule(_each_improves(arms), arms, num_seeds)
        # With two arms, a fall is the improvement of one: the same claim in other words.
        if len(arms) > 2:
            yield "the error falls along the arms", self._make_rule((FallsWith(order=arms),), arms, num_seeds)
        if own_claims:
            yield "the study's own claims", self._make_rule(own_claims, arms, num_seeds)

    def _make_rule(self, claims: tuple[Claim, ...], arms: tuple[str, ...], num_seeds: int) -> BatchedRule:
        return _cached_rule(claims, arms, num_seeds, self.trainings.smallest_effect, self.trainings.resolution)


def _null_case(world: World, claims: str, num_arms: int, num_seeds: int, arm: str = "") -> Case:
    return Case(quantity="wrong", world=world, claims=claims, num_arms=num_arms, num_seeds=num_seeds, arm=arm)


@lru_cache(maxsize=2048)
def _cached_rule(
    claims: tuple[Claim, ...], arms: tuple[str, ...], num_seeds: int, smallest_effect: float, resolution: float
) -> BatchedRule:
    return BatchedRule(claims, arms, num_seeds, smallest_effect, resolution)


def _draw_whole_studies(centered: Array, num_studies: int, num_seeds: int, random: np.random.Generator) -> Array:
    """Draw studies of all arms, studies x arms x seeds."""
    seeds = draw_seeds(centered.shape[1], num_studies, num_seeds, random)
    return np.asarray(centered[:, seeds].transpose(1, 0, 2))


def _each_improves(arms: Sequence[str]) -> tuple[Claim, ...]:
    return tuple(Helps(arm=arm, over=arms[0]) for arm in arms[1:])


def _check_rule(rule: BatchedRule, values: Array) -> int:
    """Compare the words of studies with those of the report's own function; returns how many studies."""
    words = rule.choose_words(rule.estimate_intervals(values))
    for study, batch_words in zip(values, words.T, strict=True):
        report_words = rule.judge_study(study)
        if report_words != tuple(batch_words.tolist()):
            raise RuntimeError(
                f"the batched rule says {batch_words.tolist()} and the report {list(report_words)} on one study of "
                f"{len(rule.arms)} arms and {rule.num_seeds} seeds: {study.tolist()}. Please report this as a bug."
            )
    return len(values)
