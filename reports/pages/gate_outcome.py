"""One outcome of all verdicts, with an exit code that a pipeline can act on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from ablations import Claim, DoesNotHelp, Endpoint, HelpsBy, Metric
from lightning_modules.specs.text import format_count
from reports.analysis.endpoints import endpoint_values, smallest_effect
from reports.analysis.interim import study_alpha
from reports.analysis.placebos import without_placebos
from reports.comparison.comparison import Comparison
from reports.external.judgement import Judgement
from reports.formatting import typeset_minus_signs
from reports.statistics.families import claimed_family
from reports.statistics.power import MAX_SEEDS, FamilyDesign, count_seeds_needed, estimate_sensitivity
from studies.records.registration_log import RegistrationCheck
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
        registration: of a study, whether the copies of its registration agree; ``None`` where there are none.
        seeds_needed: seeds per arm that find the smallest effect four times in five; ``None`` without one, where it is
            unknown, and where the seeds that are there should have done.
        is_accepted: whether the outcome passes the gate.
        cautions: what to know before the outcome is used.
        takes_too_many_seeds: whether it would take more than ``MAX_SEEDS``, of which the number is not counted.
    """

    word: GateWord
    finding: str
    claims: tuple[GatedClaim, ...]
    seeds_needed: int | None
    is_accepted: bool
    cautions: tuple[str, ...] = ()
    takes_too_many_seeds: bool = False
    registration: RegistrationCheck | None = None

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
        if self.takes_too_many_seeds:
            sentence += f" It would take more than {MAX_SEEDS} seeds per arm."
        elif self.seeds_needed:
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
        values=table.falling_values,
        arms=table.arms,
        design=FamilyDesign.of_family(family, table.arms),
        smallest_effect=judgement.smallest_effect,
    )
    outcome = _combine_claims(claims, lambda _: noise, accept_equivalent)
    cautions = list(table.cautions)
    has_seeds = outcome.takes_too_many_seeds or outcome.seeds_needed
    if outcome.word == "inconclusive" and not (judgement.smallest_effect or has_seeds or judgement.blocking_reason):
        cautions.append("How many seeds would tell depends on the smallest effect of interest: --smallest-effect.")
    return replace(outcome, cautions=tuple(cautions))


def gate_comparison(record: StudyRecord, comparison: Comparison, *, accept_equivalent: bool = False) -> GateOutcome:
    """The outcome of a recorded study, under the shared recipe."""
    claims = []
    check = record.registration_check
    is_matching = check is None or not check.mismatches
    has_noise = comparison.has_errors and len(record.registration.seeds) >= 2
    for claim in comparison.claims:
        word: GateWord = "not judged"
        # Latency is of networks, trained or not: it takes neither errors nor seeds.
        is_judged = has_noise or claim.claim.endpoints == ("latency",)
        if is_judged and is_matching and claim.word in EXIT_CODES:
            word = next(known for known in EXIT_CODES if known == claim.word)
        claims.append(GatedClaim(claim=claim.claim, word=word, finding=claim.finding))
    finding = ""
    if not claims:
        finding = "the study has no registered claim"
    if check and check.mismatches:
        finding = f"the registration does not match: {'; '.join(check.mismatches)}"
    if finding:
        return GateOutcome(
            word="not judged",
            finding=finding,
            claims=(),
            seeds_needed=None,
            is_accepted=False,
            cautions=comparison.cautions,
            registration=check,
        )
    outcome = _combine_claims(claims, lambda endpoint: _noise_of_endpoint(record, endpoint), accept_equivalent)
    return replace(outcome, cautions=comparison.cautions, registration=check)


def _noise_of_endpoint(record: StudyRecord, endpoint: Endpoint | Metric) -> _SeedNoise:
    assert not isinstance(endpoint, Metric)  # claims of a study read its own endpoints
    record = without_placebos(record)
    registration = record.registration
    family = claimed_family(registration.claims, endpoint)
    return _SeedNoise(
        values=endpoint_values(record, endpoint),
        arms=registration.arms,
        design=FamilyDesign.of_family(family, registration.arms, study_alpha(registration)),
        smallest_effect=smallest_effect(record, endpoint),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _SeedNoise:
    """What decides how many seeds a claim on an endpoint takes.

    Attributes:
        values: arms x seeds.
    """

    values: npt.NDArray[np.float64]
    arms: tuple[str, ...]
    design: FamilyDesign
    smallest_effect: float

    def count_seeds(self, claim: Claim) -> int:
        """Seeds that the claim takes, if more than there are; else, and where it is unknown, 0."""
        effect = claim.within if isinstance(claim, HelpsBy) else self.smallest_effect
        sensitivity = estimate_sensitivity(self.values, self.design)
        has_noise = math.isfinite(sensitivity.standard_deviation) and sensitivity.standard_deviation > 0
        if not (effect > 0 and has_noise):
            return 0
        num_seeds = count_seeds_needed(effect, sensitivity, self.design) or MAX_SEEDS + 1
        return num_seeds if num_seeds > self.values.shape[1] else 0


def _combine_claims(
    claims: Sequence[GatedClaim], noise_of: Callable[[Endpoint | Metric], _SeedNoise], accept_equivalent: bool
) -> GateOutcome:
    worst = max(claims, key=lambda claim: _badness(claim, accept_equivalent))
    num_seeds = 0
    if worst.word == "inconclusive":
        # Trainability is a proportion: its seeds follow from no standard deviation. Latency does not vary over seeds.
        parts = [part for part in worst.claim.conjuncts if part.endpoint not in ("trainability", "latency")]
        num_seeds = max((noise_of(part.endpoint).count_seeds(part) for part in parts), default=0)
    return GateOutcome(
        word=worst.word,
        finding=worst.finding,
        claims=tuple(claims),
        seeds_needed=num_seeds if 0 < num_seeds <= MAX_SEEDS else None,
        is_accepted=_is_accepted(worst, accept_equivalent),
        takes_too_many_seeds=num_seeds > MAX_SEEDS,
    )


def _badness(claim: GatedClaim, accept_equivalent: bool) -> int:
    return 0 if _is_accepted(claim, accept_equivalent) else FROM_BEST_TO_WORST.index(claim.word)


def _is_accepted(claim: GatedClaim, accept_equivalent: bool) -> bool:
    # Equivalence agrees with a claim that an arm does not help.
    is_enough = accept_equivalent or all(isinstance(part, DoesNotHelp) for part in claim.claim.conjuncts)
    return claim.word == "supported" or (claim.word == "practically equivalent" and is_enough)
