"""One outcome of all verdicts, with an exit code that a pipeline can act on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from ablations import Claim, DoesNotHelp
from reports.analysis.endpoints import endpoint_values
from reports.analysis.interim import study_alpha
from reports.comparison.comparison import Comparison
from reports.external.judgement import Judgement
from reports.formatting import format_count, typeset_minus_signs
from reports.statistics.families import claimed_family, study_family
from reports.statistics.power import FamilyDesign, count_seeds_needed, estimate_sensitivity
from studies.records.study_record import StudyRecord

GateWord = Literal["supported", "practically equivalent", "inconclusive", "not judged", "contradicted"]
EXIT_CODES: dict[GateWord, int] = {
    "supported": 0,
    "contradicted": 10,
    "practically equivalent": 11,
    "inconclusive": 20,
    "not judged": 30,
}
FROM_BEST_TO_WORST: tuple[GateWord, ...] = get_args(GateWord)


@dataclass(frozen=True, kw_only=True)
class GatedClaim:
    """A verdict as a gate reads it.

    Attributes:
        finding: a sentence without its full stop.
    """

    claim: Claim
    word: GateWord
    finding: str


@dataclass(frozen=True, kw_only=True)
class GateOutcome:
    """The worst of all verdicts.

    Attributes:
        claims: all of them, in the order in which they were made.
        seeds_needed: seeds per arm that find the smallest effect, or without one the difference that the claim is
            about, four times in five; ``None`` where it is unknown, or the seeds that are there should have done.
        is_accepted: whether the outcome passes the gate.
    """

    word: GateWord
    finding: str
    claims: tuple[GatedClaim, ...]
    seeds_needed: int | None
    is_accepted: bool

    @property
    def exit_code(self) -> int:
        """0 where the outcome passes, else the code of its word."""
        return 0 if self.is_accepted else EXIT_CODES[self.word]

    @property
    def sentence(self) -> str:
        """The outcome in one line."""
        others = len(self.claims) - 1
        among = f" (the worst of {format_count(others + 1, 'claim')})" if others > 0 else ""
        sentence = f"{self.word}{among}: {self.finding}."
        if self.seeds_needed:
            sentence += f" It would take about {self.seeds_needed} seeds per arm."
        return sentence


def gate_judgement(judgement: Judgement, *, accept_equivalent: bool = False) -> GateOutcome:
    """The outcome of results that were measured elsewhere."""
    table = judgement.table
    has_noise = len(table.seeds) >= 2
    claims = []
    family = claimed_family([verdict.claim for verdict in judgement.verdicts], table.metric)
    for verdict in judgement.verdicts:
        word: GateWord = verdict.word if has_noise else "not judged"
        claims.append(GatedClaim(claim=verdict.claim, word=word, finding=typeset_minus_signs(verdict.finding)))
    noise = _SeedNoise(
        values=table.values,
        design=FamilyDesign.of_family(family, table.arms),
        differences={frozenset((item.over, item.arm)): abs(item.estimate) for item in judgement.differences},
        smallest_effect=judgement.smallest_effect,
    )
    return _combine_claims(claims, noise, accept_equivalent)


def gate_comparison(record: StudyRecord, comparison: Comparison, *, accept_equivalent: bool = False) -> GateOutcome:
    """The outcome of a recorded study, under the shared recipe."""
    claims = []
    is_judged = comparison.has_errors and len(record.registration.seeds) >= 2
    for claim in comparison.claims:
        word: GateWord = "not judged"
        if is_judged and claim.word in EXIT_CODES:
            word = next(known for known in EXIT_CODES if known == claim.word)
        claims.append(GatedClaim(claim=claim.claim, word=word, finding=claim.finding))
    if not claims:
        finding = "the study has no registered claim"
        return GateOutcome(word="not judged", finding=finding, claims=(), seeds_needed=None, is_accepted=False)
    registration = record.registration
    family = study_family(registration.claims, registration.arms)
    noise = _SeedNoise(
        values=endpoint_values(record, "test_error"),
        design=FamilyDesign.of_family(family, registration.arms, study_alpha(registration)),
        differences={frozenset((item.over, item.arm)): abs(item.estimate.value) for item in comparison.differences},
        smallest_effect=registration.smallest_effect,
    )
    return _combine_claims(claims, noise, accept_equivalent)


@dataclass(frozen=True, kw_only=True, eq=False)
class _SeedNoise:
    """What decides how many seeds a claim takes.

    Attributes:
        values: arms x seeds.
        differences: observed sizes by pair of arms.
    """

    values: npt.NDArray[np.float64]
    design: FamilyDesign
    differences: Mapping[frozenset[str], float]
    smallest_effect: float

    def count_seeds(self, claim: Claim) -> int | None:
        """Seeds that the claim takes, if more than there are."""
        observed = [self.differences.get(frozenset(pair), math.nan) for pair in claim.contrasts]
        effect = self.smallest_effect or min(filter(math.isfinite, observed), default=0.0)
        num_seeds = count_seeds_needed(effect, estimate_sensitivity(self.values, self.design), self.design)
        return num_seeds if num_seeds and num_seeds > self.values.shape[1] else None


def _combine_claims(claims: Sequence[GatedClaim], noise: _SeedNoise, accept_equivalent: bool) -> GateOutcome:
    worst = max(claims, key=lambda claim: _badness(claim, accept_equivalent))
    return GateOutcome(
        word=worst.word,
        finding=worst.finding,
        claims=tuple(claims),
        seeds_needed=noise.count_seeds(worst.claim) if worst.word == "inconclusive" else None,
        is_accepted=_is_accepted(worst, accept_equivalent),
    )


def _badness(claim: GatedClaim, accept_equivalent: bool) -> int:
    return 0 if _is_accepted(claim, accept_equivalent) else FROM_BEST_TO_WORST.index(claim.word)


def _is_accepted(claim: GatedClaim, accept_equivalent: bool) -> bool:
    # Equivalence agrees with a claim that an arm does not help.
    is_enough = accept_equivalent or all(isinstance(part, DoesNotHelp) for part in claim.claim.conjuncts)
    return claim.word == "supported" or (claim.word == "practically equivalent" and is_enough)
