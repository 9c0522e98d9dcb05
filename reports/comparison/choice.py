"""The arm of least error within a budget, and the arms that cannot be told apart from it.

Multiple comparisons with the best: an arm is ruled out as the best where another candidate's improvement on it is above
0 by the one-sided simultaneous bound of the project's rule, with this arm as the baseline of all comparisons. The best
arm is ruled out with at most the level's probability, whichever it is, so the arms that are left contain it with the
stated confidence. In the same event the error of any arm exceeds the best one by at most its ``excess_bound``.

Source: Gupta 1965; Hsu 1984. Measured rates: docs/explanation/statistics.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from lightning_modules.specs.text import format_count
from reports.analysis.arms import CostSpread, arm_mean_interval
from reports.analysis.chance import describe_missing_learning
from reports.analysis.endpoints import (
    MILLISECOND,
    endpoint_values,
    lost_to_divergence,
    read_cost,
    tabulate_trials,
    value_resolution,
)
from reports.analysis.interim import study_alpha
from reports.analysis.placebos import without_placebos
from reports.analysis.sensitivity import MAX_DIFFERENCE
from reports.analysis.trials import planned_trials
from reports.formatting import Interval, byte_unit, format_significant, metric_prefix
from reports.statistics.families import FamilyEstimates, make_family
from reports.statistics.power import MIN_SEEDS_FOR_MARGINS
from studies.latency.measurement import Percentile
from studies.records.study_record import StudyRecord

Quantity = Literal["latency", "multiply_adds", "memory", "parameters"]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
QUANTITY_LABELS: dict[Quantity, str] = {
    "latency": "latency",
    "multiply_adds": "multiply-adds",
    "memory": "peak memory in training",
    "parameters": "parameters",
}
NUM_DIGITS = 4  # of a cost: enough to see on which side of a limit it is
Standing = Literal["least error", "cannot be told apart", "higher error"]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The largest cost that an arm may have.

    Attributes:
        limit: seconds for latency, bytes for memory, else a count.
    """

    quantity: Quantity
    limit: float


@dataclass(frozen=True, kw_only=True)
class PossiblyBest:
    """The candidates that may be the best arm, in the order given.

    Attributes:
        arms: all but those ruled out; contains the best arm with the familywise confidence.
        excess_bounds: per candidate, how far its mean error exceeds the best arm's at most, points; infinite with fewer
            than three pairs of two candidates.
    """

    arms: tuple[str, ...]
    excess_bounds: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class CandidateArm:
    """An arm within the budget.

    Attributes:
        error: mean test error, percent, with the arm's own 95% interval.
        excess_bound: how far its mean error exceeds the best arm's at most, points; infinite where it is unknown.
        costs: per quantity, as far as it was measured.
        straddles: quantities of the budget that some of its measurements exceed, though their median does not.
    """

    name: str
    error: Interval
    standing: Standing
    excess_bound: float
    costs: Mapping[Quantity, CostSpread]
    straddles: tuple[Quantity, ...]


@dataclass(frozen=True, kw_only=True)
class ArmChoice:
    """The choice among a study's arms.

    Attributes:
        candidates: within the budget, by mean error; the first one is the choice.
        excluded: per other arm, why it is no candidate.
        obstacle: why nothing can be chosen; else empty.
        alpha: of all statements together.
        num_seeds: planned seeds.
        smallest_effect: of interest, points.
    """

    budgets: tuple[Budget, ...]
    candidates: tuple[CandidateArm, ...]
    excluded: Mapping[str, str]
    obstacle: str
    alpha: float
    num_seeds: int
    smallest_effect: float

    @property
    def chosen(self) -> CandidateArm | None:
        """The candidate of least mean error, if there is one."""
        return self.candidates[0] if self.candidates and not self.obstacle else None

    @property
    def possibly_best(self) -> tuple[str, ...]:
        """The chosen arm, and those that cannot be told apart from it."""
        return tuple(candidate.name for candidate in self.candidates if candidate.standing != "higher error")

    @property
    def is_settled(self) -> bool:
        """Whether no other candidate may be better, or none by the smallest effect of interest."""
        chosen = self.chosen
        if chosen is None:
            return False
        return len(self.possibly_best) == 1 or chosen.excess_bound < self.smallest_effect


def find_possibly_best(
    errors: npt.ArrayLike, arms: Sequence[str], *, alpha: float, resolution: float = 0.0
) -> PossiblyBest:
    """Find the arms that may have the least mean error.

    Args:
        errors: arms x seeds, percent; non-finite values are missing.
        arms: names of the rows.
        alpha: probability with which the best arm may be ruled out, or an excess bound be too small.
        resolution: smallest step between two errors.
    """
    errors = np.asarray(errors, dtype=np.float64)
    # A single candidate is the best of the candidates, whatever its error is.
    if len(arms) == 1:
        return PossiblyBest(arms=tuple(arms), excess_bounds={arms[0]: 0.0})
    # Per arm, how far each other one may exceed it: an upper bound, simultaneous over the others.
    excess_over: dict[str, dict[str, float]] = {}
    fewest_pairs = errors.shape[1]
    # Each arm in turn as the reference of its own family (Hsu 1981): the best one is among them.
    for reference in arms:
        others = [arm for arm in arms if arm != reference]
        estimates = FamilyEstimates(
            errors,
            arms,
            make_family((reference, arm) for arm in others),
            alpha=alpha,
            resolution=resolution,
            limit=MAX_DIFFERENCE,
        )
        excess_over[reference] = {arm: -estimates.pair(reference, arm).low_one_sided for arm in others}
        fewest_pairs = min(fewest_pairs, *(estimates.pair(reference, arm).num_pairs for arm in others))
    possibly_best = [reference for reference in arms if min(excess_over[reference].values()) >= 0]
    # Rounding aside, the least mean can never be ruled out; with missing seeds, means are over unequal pairs.
    possibly_best = possibly_best or list(arms)
    bounds = {}
    # As for a claim: two pairs can show a direction, and rule an arm out, but state no margin.
    if fewest_pairs < MIN_SEEDS_FOR_MARGINS:
        return PossiblyBest(arms=tuple(possibly_best), excess_bounds=dict.fromkeys(arms, math.inf))
    for arm in arms:
        bounds[arm] = max((excess_over[best][arm] for best in possibly_best if best != arm), default=0.0)
    return PossiblyBest(
        arms=tuple(possibly_best), excess_bounds={arm: max(0.0, bound) for arm, bound in bounds.items()}
    )


def choose_arm(record: StudyRecord, budgets: Sequence[Budget], percentile: Percentile = "p50") -> ArmChoice:
    """Choose among the arms of a recorded study, under the recipe that all arms share.

    An arm is within a budget by the median of its cost. Placebos are no candidates, nor are arms of which a seed did
    not train: the error of the others would flatter them.

    Args:
        percentile: of the latency.
    """
    # A placebo is the baseline under other draws: to choose it would be to choose a lucky draw.
    record = without_placebos(record)
    registration = record.registration
    errors = endpoint_values(record, "test_error")
    costs = _arm_costs(record, percentile)
    num_lost = lost_to_divergence(record, "test_error").sum(axis=1)
    excluded: dict[str, str] = {}
    rows = []
    for row, arm in enumerate(registration.arms):
        reason = _over_budget(costs[arm], budgets)
        # After the budget: an arm that costs too much is out whether it trains or not.
        if not reason and num_lost[row]:
            reason = f"{num_lost[row]} of {format_count(errors.shape[1], 'seed')} did not train"
        if not reason and not np.isfinite(errors[row]).any():
            reason = "no finished trial with a test error"
        reason = reason or _unknown_cost(costs[arm], budgets)  # of an arm that did not train, few costs are known
        if reason:
            excluded[arm] = reason
        else:
            rows.append(row)
    candidates: tuple[CandidateArm, ...] = ()
    if rows:
        candidates = _rank_candidates(record, errors[rows], [registration.arms[row] for row in rows], costs, budgets)
    obstacle = describe_missing_learning(record, planned_trials(record))
    if not candidates:
        obstacle = obstacle or ("No arm is within the budget." if budgets else "No arm has trained.")
        if num_lost.any():
            obstacle += " An arm of which a seed did not train is no candidate."
    return ArmChoice(
        budgets=tuple(budgets),
        candidates=candidates,
        excluded=excluded,
        obstacle=obstacle,
        alpha=study_alpha(registration),
        num_seeds=errors.shape[1],
        smallest_effect=registration.smallest_effect,
    )


def _rank_candidates(
    record: StudyRecord,
    errors: npt.NDArray[np.float64],
    arms: Sequence[str],
    costs: Mapping[str, Mapping[Quantity, CostSpread]],
    budgets: Iterable[Budget],
) -> tuple[CandidateArm, ...]:
    """Compare the candidates with the best one, and sort them by mean error."""
    possibly_best = find_possibly_best(
        errors,
        arms,
        alpha=study_alpha(record.registration),
        resolution=value_resolution(record.registration, "test_error"),
    )
    means = {arm: arm_mean_interval(row) for arm, row in zip(arms, errors, strict=True)}
    # By the mean alone: ranking by a bound would prefer the arm with fewer seeds missing.
    ranked = sorted(arms, key=lambda arm: means[arm].value)
    limits = {budget.quantity: budget.limit for budget in budgets}
    candidates = []
    for rank, arm in enumerate(ranked):
        standing: Standing = "cannot be told apart" if arm in possibly_best.arms else "higher error"
        straddles = [name for name, limit in limits.items() if costs[arm][name].largest > limit]
        candidates.append(
            CandidateArm(
                name=arm,
                error=means[arm],
                standing=standing if rank else "least error",
                excess_bound=possibly_best.excess_bounds[arm],
                costs=costs[arm],
                straddles=tuple(straddles),
            )
        )
    return tuple(candidates)


def _unknown_cost(costs: Mapping[Quantity, CostSpread], budgets: Iterable[Budget]) -> str:
    """Which cost of an arm is unknown; empty where none is.

    Unknown is not within: an arm whose memory was not measured may exceed its budget.
    """
    for budget in budgets:
        if math.isnan(costs[budget.quantity].median):
            return f"its {QUANTITY_LABELS[budget.quantity]} cannot be told from the record"
    return ""


def _over_budget(costs: Mapping[Quantity, CostSpread], budgets: Iterable[Budget]) -> str:
    """Which budget an arm exceeds; empty where it exceeds none that is known."""
    for budget in budgets:
        median = costs[budget.quantity].median
        if median > budget.limit:
            return f"over the budget: {format_cost(budget.quantity, median)}"
    return ""


def format_cost(quantity: Quantity, value: float) -> str:
    """Format a cost with its unit: ``4.8 ms``, ``1.2 GiB``, ``3.4 G multiply-adds``."""
    if quantity == "latency":
        return f"{format_significant(value / MILLISECOND, NUM_DIGITS)} ms"
    if quantity == "memory":
        factor, unit = byte_unit((value,))
        return f"{format_significant(value / factor, NUM_DIGITS)} {unit}"
    factor, prefix = metric_prefix((value,))
    number = f"{format_significant(value / factor, NUM_DIGITS)} {prefix}".strip()
    return f"{number} {QUANTITY_LABELS[quantity]}"


def _arm_costs(record: StudyRecord, percentile: Percentile) -> dict[str, dict[Quantity, CostSpread]]:
    memory = tabulate_trials(record, lambda trial: read_cost(trial, "peak_memory_bytes") or math.nan)
    costs: dict[str, dict[Quantity, CostSpread]] = {}
    for row, arm in enumerate(record.registration.arms):
        latency = record.latency.find(arm) if record.latency else None
        properties = record.registration.properties.get(arm, {})
        costs[arm] = {
            "latency": CostSpread.of_values(latency.values(percentile) if latency else ()),
            "multiply_adds": CostSpread.of_values([properties.get("multiply_adds", math.nan)]),
            "memory": CostSpread.of_values(memory[row]),
            "parameters": CostSpread.of_values([properties.get("parameters", math.nan)]),
        }
    return costs
