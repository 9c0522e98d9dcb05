"""Verdicts on thousands of complete studies at once, by the report's own table.

The intervals are those of :mod:`reports.statistics.simulation`, the table of verdicts is
:func:`reports.statistics.verdict_options.verdict_options`; a test compares the words with those of ``judge_claims``,
study by study.
"""

# ruff: noqa: ARG002 - arguments of an interface of which many studies at once read few

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ablations import Claim
from reports.statistics.critical_values import Array
from reports.statistics.evidence import (
    ALPHA,
    EndpointAnalysis,
    Evidence,
    FavoredSide,
    ImprovementBounds,
    Statement,
)
from reports.statistics.families import ArmPair, ContrastFamily, claimed_family
from reports.statistics.simulation import batched_half_widths
from reports.statistics.verdict_options import VerdictOption, VerdictWord, verdict_options
from reports.statistics.verdicts import judge_claims

StudyFlags = npt.NDArray[np.bool_]  # one per study
Intervals = Mapping[str, Array]  # as of `batched_half_widths`
NUM_TRUTH_DECIMALS = 9  # rounding would decide on which side of a margin a true difference lies
INCONCLUSIVE: VerdictWord = "inconclusive"


class BatchedAnalysis(EndpointAnalysis):
    """Statements about many studies at once: ``holds`` is an array with one value per study."""

    def __init__(
        self,
        intervals: Intervals,
        arms: Sequence[str],
        family: ContrastFamily,
        num_seeds: int,
        *,
        smallest_effect: float,
        alpha: float = ALPHA,
    ) -> None:
        """Read statements from intervals as of ``batched_half_widths``, contrasts in the family's order."""
        cells = np.zeros((len(arms), num_seeds))
        evidence = Evidence(values=cells, lost_to_divergence=cells != 0, smallest_effect=smallest_effect, unit="points")
        super().__init__(evidence, arms, family, alpha=alpha)
        self.intervals = intervals

    def bounds(self, pair: ArmPair, individual: bool) -> ImprovementBounds:
        """Bounds of a difference, one value per study."""
        is_reversed = pair not in self.family.pairs
        index = self.family.pairs.index(pair[::-1] if is_reversed else pair)
        return self._contrast_bounds(index, individual, -1 if is_reversed else 1)

    def observed_improvement(self, pair: ArmPair) -> float:
        """Not read: it only chooses what is printed."""
        return 0.0

    def superiority(self, pair: ArmPair, *, individual: bool = False) -> Statement:
        """Whether the arm is better."""
        return _make_statement(self.bounds(pair, individual).low > 0)

    def inferiority(self, pair: ArmPair, *, individual: bool = False) -> Statement:
        """Whether it is worse."""
        return _make_statement(self.bounds(pair, individual).high < 0)

    def beyond_margin(self, pair: ArmPair, *, low: float = -np.inf, high: float = np.inf) -> Statement:
        """Whether the improvement lies between the margins, by the two-sided interval."""
        bounds = self.bounds(pair, False)
        return self._margin_statement(np.logical_and(bounds.low > low, bounds.high < high))

    def within_margins(
        self, pair: ArmPair, low: float, high: float, favors: FavoredSide, *, individual: bool = False
    ) -> Statement:
        """Whether it does, by the one-sided bounds."""
        bounds = self.bounds(pair, individual)
        return self._margin_statement(np.logical_and(bounds.low_one_sided > low, bounds.high_one_sided < high))

    def trend(self, order: Sequence[str], *, rises: bool, individual: bool = False) -> Statement:
        """Whether the fitted line falls, or rises."""
        if len(order) == 2:
            bounds = self.bounds((order[0], order[1]), individual)
        else:
            index = len(self.family.pairs) + self.family.trends.index(tuple(order))
            bounds = self._contrast_bounds(index, individual, 1)
        return _make_statement(bounds.high < 0 if rises else bounds.low > 0)

    def notes(self, pairs: Iterable[ArmPair]) -> tuple[str, ...]:
        """No notes."""
        return ()

    def _margin_statement(self, holds: Any) -> Statement:
        return _make_statement(holds, "two seeds state no margin" if self.num_seeds == 2 else "")

    def _contrast_bounds(self, index: int, individual: bool, sign: int) -> ImprovementBounds:
        center = sign * self.intervals["estimate"][:, index]
        prefix = "own_" if individual else ""
        two_sided, one_sided = (self.intervals[f"{prefix}{kind}"][:, index] for kind in ("two_sided", "one_sided"))
        # Arrays in place of numbers: comparisons give one truth value per study.
        return ImprovementBounds(
            low=cast(float, center - two_sided),
            high=cast(float, center + two_sided),
            low_one_sided=cast(float, center - one_sided),
            high_one_sided=cast(float, center + one_sided),
        )

    def _missing_pairs_reason(self, pair: ArmPair) -> str:
        return ""

    def _describe_effect(self, pair: ArmPair, individual: bool) -> str:
        return ""

    def _describe_direction(self, pair: ArmPair, individual: bool) -> str:
        return ""


def _make_statement(holds: Any, obstacle: str = "") -> Statement:
    return Statement(subject="", effect="", text="", holds=holds, obstacle=obstacle)


@dataclass(frozen=True)
class BatchedRule:
    """The verdict rule on one endpoint, for claims about arms under a number of seeds.

    Attributes:
        claims: all on test error.
        arms: names of the rows of every study.
        num_seeds: of every study, all complete.
        smallest_effect: ε, in points.
        resolution: smallest step between two values; 0 for continuous ones.
    """

    claims: tuple[Claim, ...]
    arms: tuple[str, ...]
    num_seeds: int
    smallest_effect: float
    resolution: float = 0.0
    alpha: float = ALPHA

    @cached_property
    def family(self) -> ContrastFamily:
        """The contrasts that the claims read."""
        return claimed_family(self.claims, "test_error")

    @cached_property
    def coefficients(self) -> Array:
        """Contrasts x arms."""
        return self.family.coefficients(self.arms)

    def estimate_intervals(self, values: Array) -> dict[str, Array]:
        """Estimate the family in every study; values are studies x arms x seeds."""
        return batched_half_widths(values, self.coefficients, alpha=self.alpha, resolution=self.resolution)

    def shift_intervals(self, intervals: Intervals, true_errors: Sequence[float]) -> dict[str, Array]:
        """Move the estimates of studies without differences to true mean errors, one per arm."""
        shift = self.coefficients @ np.asarray(true_errors, dtype=np.float64)
        return {**intervals, "estimate": intervals["estimate"] + np.round(shift, NUM_TRUTH_DECIMALS)}

    def choose_words(self, intervals: Intervals) -> npt.NDArray[np.str_]:
        """Return the word of every claim in every study, claims x studies."""
        words = np.full((len(self.claims), len(intervals["estimate"])), INCONCLUSIVE, dtype="<U22")
        for row, options in zip(words, self._option_rows(intervals), strict=True):
            for option in reversed(options):
                row[option_holds(option)] = option.word
        return words

    def find_wrong(self, intervals: Intervals, true_errors: Sequence[float]) -> StudyFlags:
        """Return the studies with a verdict that asserts what is false at true mean errors.

        Args:
            intervals: of noise around these true errors, see :meth:`shift_intervals`.
            true_errors: one per arm.
        """
        # What is true reads like an interval without width around the true means.
        exact = {name: np.zeros((1, len(self.coefficients))) for name in intervals}
        true_rows = self._option_rows(self.shift_intervals(exact, true_errors))
        wrong = np.zeros(len(intervals["estimate"]), dtype=bool)
        for options, true_options in zip(self._option_rows(intervals), true_rows, strict=True):
            is_open = np.ones_like(wrong)
            for option, true_option in zip(options, true_options, strict=True):
                chosen = is_open & option_holds(option)
                is_open &= ~chosen
                if not all(np.all(statement.holds) for statement in true_option.statements):
                    wrong |= chosen
        return wrong

    def judge_study(self, values: Array) -> tuple[VerdictWord, ...]:
        """Return the words of one study, arms x seeds, by the report's own function."""
        evidence = Evidence(
            values=values,
            lost_to_divergence=np.zeros(values.shape, dtype=bool),
            smallest_effect=self.smallest_effect,
            unit="points",
            resolution=self.resolution,
        )
        verdicts = judge_claims(self.claims, self.arms, {"test_error": evidence}, alpha=self.alpha)
        return tuple(verdict.word for verdict in verdicts)

    def _option_rows(self, intervals: Intervals) -> list[list[VerdictOption]]:
        """The report's own table of verdicts, one row per claim."""
        analysis = BatchedAnalysis(
            intervals,
            self.arms,
            self.family,
            self.num_seeds,
            smallest_effect=self.smallest_effect,
            alpha=self.alpha,
        )
        analyses = cast(Any, {"test_error": analysis})
        rows = []
        for claim in self.claims:
            # All are claims on one endpoint, so that a conjunction is contradicted at the level of all claims.
            options = verdict_options(claim, analyses, len(self.claims) == 1, analyses)
            if not self.smallest_effect:
                options = [option for option in options if option.word != "practically equivalent"]
            rows.append(options)
        return rows


def option_holds(option: VerdictOption) -> StudyFlags:
    """Return the studies in which an option's statements hold, may be made, and are not ruled out."""
    if any(statement.obstacle for statement in option.statements):
        return np.zeros_like(option.statements[0].holds, dtype=bool)
    found = np.all([statement.holds for statement in option.statements], axis=0)
    for exception in option.exceptions:
        found = found & ~np.asarray(exception.holds)
    return np.asarray(found)
