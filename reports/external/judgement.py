"""Intervals and verdicts on results that were measured elsewhere, by the functions that judge a study."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ablations import Claim, DoesNotHelp, Helps, HelpsBy, SaturatesAt
from reports.external.claim_phrases import parse_claim
from reports.external.results_columns import Columns, ResultsError, is_best_test_value, is_rate_name
from reports.external.results_table import ResultsTable, Unit, tabulate_results
from reports.formatting import format_significant
from reports.statistics import Contrast, Evidence, Verdict, arm_interval, judge_claims
from reports.statistics.contrasts import ArmInterval
from reports.statistics.evidence import ALPHA
from reports.statistics.families import ContrastFamily, FamilyEstimates, claimed_family, make_family
from reports.statistics.power import (
    MAX_SEEDS,
    FamilyDesign,
    Sensitivity,
    count_seeds_needed,
    describe_noise,
    deviation_upper_limit,
    estimate_sensitivity,
)

UNKNOWN_OF_RESULTS = (
    "These results were measured elsewhere. That arms differ in one change, were trained and tuned alike, and that the "
    "claims were fixed before the results were seen, cannot be checked here."
)
LARGE_EFFECT_OF_FRACTIONS = 0.05  # as a difference of accuracies, 5 points: nobody calls that negligible
SELECTED_ON_TEST = (
    "selected on test: by its name, the metric is the best test value of each run, which flatters arms that vary more "
    "(if it was chosen without test values: --chosen-without-test)"
)


@dataclass(frozen=True, kw_only=True)
class ExternalArm:
    """An arm of results measured elsewhere.

    Attributes:
        mean: over its seeds with a value, with its own 95% interval, in the unit given.
        values: by seed; NaN where there is none.
        num_lost: seeds whose row has no finite value.
    """

    name: str
    mean: ArmInterval
    values: tuple[float, ...]
    num_lost: int


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Verdicts on results that were measured elsewhere.

    Attributes:
        smallest_effect: in the unit given; 0 where none was given: then nothing is equivalent.
        are_claims_given: whether the claims are the user's; else every arm is claimed to improve on the baseline.
        verdicts: one per claim.
        arms: the baseline first.
        differences: that claims read, then those of other arms to the baseline; positive where ``arm`` is better.
        num_registered: how many of the differences claims read.
        num_trends: fitted lines that claims read besides, which widen the intervals as well.
        blocking_reason: why every verdict is inconclusive, whatever the numbers are; empty where nothing prevents one.
        seeds_needed: seeds that find the smallest effect with 80% power at the noise seen; ``None`` where none was
            given, and where it is unknown or above 500.
        sensitivity: sentences on what these seeds could have found.
    """

    table: ResultsTable
    smallest_effect: float
    are_claims_given: bool
    verdicts: tuple[Verdict, ...]
    arms: tuple[ExternalArm, ...]
    differences: tuple[Contrast, ...]
    num_registered: int
    num_trends: int
    blocking_reason: str
    seeds_needed: int | None
    sensitivity: tuple[str, ...]

    def to_frame(self) -> pd.DataFrame:
        """One row per difference: the pair, its estimate and simultaneous interval, in the unit given."""
        rows = []
        for contrast in self.differences:
            change, low, high = change_interval(contrast, higher_is_better=self.table.metric.higher_is_better)
            rows.append(
                {"over": contrast.over, "arm": contrast.arm, "change": change, "low": low, "high": high}
                | {"pairs": contrast.num_pairs}
            )
        return pd.DataFrame(rows)


def judge(
    frame: pd.DataFrame,
    *,
    baseline: str = "",
    claims: str | Claim | Sequence[str | Claim] = (),
    columns: Columns | None = None,
    higher_is_better: bool | None = None,
    smallest_effect: float = 0.0,
    unit: Unit = "",
    resolution: float | None = None,
    chosen_without_test: bool = False,
    source: str = "results",
) -> Judgement:
    """Judge results that were measured elsewhere.

    Args:
        frame: one row per arm and seed.
        baseline: the arm that others are compared with; see :func:`tabulate_results`.
        claims: phrases such as ``"B helps over A"``; without any, that every other arm improves on the baseline.
        columns: names of the columns.
        higher_is_better: ``None`` to decide by the metric's name.
        smallest_effect: smallest difference of interest, in the unit given; 0 for none.
        unit: label of the values; nothing is scaled.
        resolution: smallest step between two values, such as 100 / number of test images for percentages; ``None`` for
            the rounding of the values.
        chosen_without_test: whether the best test value of each run, which the metric is by its name, was chosen
            without looking at test values; otherwise every verdict on it is inconclusive.
        source: what to call the results in messages.

    Raises:
        ResultsError: see :func:`tabulate_results`; or a claim is not understood or needs a smallest effect.
    """
    if not (math.isfinite(smallest_effect) and smallest_effect >= 0):
        raise ResultsError(f"The smallest effect is {smallest_effect}; expected 0 or more.")
    if resolution is not None and not (math.isfinite(resolution) and resolution >= 0):
        raise ResultsError(f"The resolution is {resolution}; expected 0 or more.")
    table = tabulate_results(
        frame,
        columns,
        baseline=baseline,
        higher_is_better=higher_is_better,
        unit=unit,
        resolution=resolution,
        source=source,
    )
    table = replace(table, cautions=(*table.cautions, *_describe_large_effect(table, smallest_effect)))
    claims = [claims] if isinstance(claims, (str, Claim)) else claims
    parsed = _parse_claims(claims, table, smallest_effect)
    evidence = _make_evidence(table, smallest_effect, table.resolution)
    if is_best_test_value(table.metric.name) and not chosen_without_test:
        evidence = replace(evidence, blocking_reason=SELECTED_ON_TEST)
    # As in a study of this package: only differences that claims read share the error rate, and widen each other.
    family = claimed_family(parsed, table.metric)
    differences = _estimate_differences(table, family, table.resolution)
    design = FamilyDesign.of_family(family, table.arms)
    sensitivity = estimate_sensitivity(table.falling_values, design)
    # Never for the observed difference: its power says no more than the p value does (Hoenig & Heisey 2001).
    seeds_needed = count_seeds_needed(smallest_effect, sensitivity, design)
    return Judgement(
        table=table,
        smallest_effect=smallest_effect,
        are_claims_given=bool(claims),
        verdicts=judge_claims(parsed, table.arms, {table.metric: evidence}),
        arms=tuple(_summarize_arms(table)),
        differences=differences,
        num_registered=len(family.pairs),
        num_trends=len(family) - len(family.pairs),
        blocking_reason=evidence.blocking_reason,
        seeds_needed=seeds_needed,
        sensitivity=tuple(_describe_sensitivity(table, parsed, sensitivity, smallest_effect, seeds_needed)),
    )


def _describe_large_effect(table: ResultsTable, smallest_effect: float) -> Iterable[str]:
    """Say that values may be fractions where the unit, or a smallest effect, is in percent."""
    finite = table.values[np.isfinite(table.values)]
    are_fractions = finite.size > 0 and finite.min() >= 0 and finite.max() <= 1
    is_rate = table.unit == "fraction" or is_rate_name(table.metric.name)
    if table.unit == "percent":
        # Of an error below 1% this is right, so it is told and not refused.
        if are_fractions and is_rate:
            yield (
                f"The unit is percent, and all values lie between 0 and 1: nothing is converted, so a value of "
                f"{finite.max():g} is {finite.max():g}%. If the values are fractions, the unit is fraction."
            )
    elif is_rate and are_fractions and smallest_effect >= LARGE_EFFECT_OF_FRACTIONS:
        yield (
            f"All values lie between 0 and 1, and the smallest effect is {smallest_effect:g}: if that was meant in "
            f"percent, it is {smallest_effect / 100:g} here."
        )


def _make_evidence(table: ResultsTable, smallest_effect: float, resolution: float) -> Evidence:
    return Evidence(
        values=table.values,
        lost_to_divergence=table.lost,
        smallest_effect=smallest_effect,
        unit=table.difference_unit,
        resolution=resolution,
        higher_is_better=table.metric.higher_is_better,
        largest_difference=table.largest_difference,
    )


def change_interval(contrast: Contrast, *, higher_is_better: bool) -> tuple[float, float, float]:
    """Change of the metric from ``over`` to ``arm`` with its interval: positive where the metric rises."""
    if higher_is_better:
        # Contrasts are improvements; a reader of accuracies thinks of the metric itself.
        return contrast.estimate, contrast.low, contrast.high
    reverse = contrast.reverse()
    return reverse.estimate, reverse.low, reverse.high


def _parse_claims(claims: Sequence[str | Claim], table: ResultsTable, smallest_effect: float) -> list[Claim]:
    if not claims:
        return [Helps(endpoint=table.metric, arm=arm, over=table.baseline) for arm in table.arms[1:]]
    parsed = []
    for claim in claims:
        parsed.append(parse_claim(claim, table.arms, table.metric) if isinstance(claim, str) else claim)
    for claim in parsed:
        if set(claim.endpoints) != {table.metric}:
            raise ResultsError(
                f"The claim {claim.sentence!r} is not about {table.metric.name}; give it "
                f"endpoint=ablations.{table.metric!r}."
            )
        needs_margin = any(isinstance(part, (DoesNotHelp, SaturatesAt)) for part in claim.conjuncts)
        if needs_margin and not smallest_effect:
            raise ResultsError(
                f"The claim {claim.sentence!r} needs a smallest effect of interest: below which difference do two arms "
                "count as equal? Give --smallest-effect."
            )
    return parsed


def _estimate_differences(table: ResultsTable, claimed: ContrastFamily, resolution: float) -> tuple[Contrast, ...]:
    """Estimate the differences that claims read, then, as their own family, those of other arms to the baseline."""
    # The remaining arms are shown without a verdict; as a family of their own they cost the claims no width.
    others = [arm for arm in table.arms[1:] if not claimed.has_pair(table.baseline, arm)]
    exploratory = make_family((table.baseline, arm) for arm in others)
    differences: list[Contrast] = []
    for family in (claimed, exploratory):
        if family.pairs:
            estimates = FamilyEstimates(
                table.falling_values,
                table.arms,
                family,
                alpha=ALPHA,
                resolution=resolution,
                limit=table.largest_difference,
            )
            differences += (estimates.pair(*pair) for pair in family.pairs)
    return tuple(differences)


def _summarize_arms(table: ResultsTable) -> Iterable[ExternalArm]:
    for name, values, lost in zip(table.arms, table.values, table.lost, strict=True):
        yield ExternalArm(
            name=name, mean=arm_interval(values), values=tuple(values.tolist()), num_lost=int(np.sum(lost))
        )


def _describe_sensitivity(
    table: ResultsTable,
    claims: Sequence[Claim],
    sensitivity: Sensitivity,
    smallest_effect: float,
    seeds_needed: int | None,
) -> Iterable[str]:
    unit = table.difference_unit
    yield from describe_noise(
        sensitivity, table.values, name="values", unit=unit, largest_difference=table.largest_difference
    )
    deviation, freedom = sensitivity.standard_deviation, sensitivity.degrees_of_freedom
    # One seed tells nothing of the noise, and equal values none of it: neither gives a number of seeds.
    if math.isnan(deviation) or not deviation:
        return
    if not smallest_effect:
        if all(isinstance(claim, HelpsBy) for claim in claims):  # each has a margin of its own
            return
        yield "How many seeds would find a difference depends on how small it may be: give a smallest effect."
        return
    amount = f"{format_significant(smallest_effect, 2)} {unit}".strip()
    seeds = f"about {seeds_needed} seeds" if seeds_needed else f"more than {MAX_SEEDS} seeds"
    yield (
        f"To find the smallest effect, {amount}, four times in five, it takes {seeds} per arm "
        f"(the noise taken at its upper 90% limit, {format_significant(deviation_upper_limit(deviation, freedom), 2)})."
    )
