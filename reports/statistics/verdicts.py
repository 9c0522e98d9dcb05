"""Verdicts of registered claims: a fixed table, read from one family of intervals.

A verdict asserts statements about means over seeds, and is wrong exactly if one of them is false. Of the improvement of
``arm`` on ``over``, [L2, U2] is the two-sided 95% interval, L1 and U1 are the one-sided 95% bounds, and ε is the
smallest effect of interest. A claim gets the first word whose statements all hold and may be made:

    claim          practically equivalent    supported                       contradicted
    Helps          L1 > -ε and U1 < ε        L2 > 0                          U2 < 0
    DoesNotHelp    L1 > -ε and U1 < ε        U1 < ε                          L2 > 0
    HelpsBy        (none)                    L1 > by - within and            U2 < by - within, or
                                             U1 < by + within                L2 > by + within
    FallsWith      (none)                    linear contrast L2 > 0, and     a step with U2 < 0
                                             L1 > -ε at every step
    SaturatesAt    (none)                    an earlier arm with L2 > 0,     a deeper arm with L2 > 0
                                             and every deeper equivalent     that is not equivalent
    Reverses       both pairs equivalent     U2 < 0 from worse[0] to [1],    L2 > 0 in the first pair,
                                             L2 > 0 from better[0] to [1]    or U2 < 0 in the second
    AllOf          every conjunct            every conjunct supported        a conjunct contradicted
                   equivalent

and *inconclusive* otherwise. Direction is read from two-sided intervals and margins from one-sided bounds, everywhere.
Bounds hold simultaneously for all contrasts that the claims on one endpoint read (Dunnett, max-t), except that a
conjunction which is the only claim on its endpoint is supported at each conjunct's own level (intersection-union test,
Berger 1982). That protects one claim; next to other claims a conjunction is read from the simultaneous bounds too.

Whatever the numbers, nothing is stated from one seed; no margin from two pairs (their standard deviation is uncertain
by a factor of 0.45 to 32); nothing in favor of the arm that lost more seeds to divergence than the other, and no
equivalence where they lost unequal numbers. A statement that may not be made is skipped, with a note, and the next word
of the row is tried.

Source: Dunnett 1955; Schuirmann 1987 (equivalence by two one-sided tests); Berger 1982; why, and the measured error
rates: docs/statistics.md.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ablations import AllOf, Claim, DoesNotHelp, Endpoint, FallsWith, Helps, HelpsBy, Reverses, SaturatesAt
from reports.formatting import condense_findings
from reports.statistics.contrasts import Contrast
from reports.statistics.evidence import (
    ALPHA,
    ContinuousEndpointAnalysis,
    EndpointAnalysis,
    Evidence,
    Statement,
    analyze_endpoint,
)

VerdictWord = Literal["supported", "contradicted", "practically equivalent", "inconclusive"]
INDIVIDUAL_LEVEL_NOTE = "every part holds at its own level, as a conjunction asks; the simultaneous intervals are wider"
SimpleClaim = Helps | DoesNotHelp | HelpsBy
EndpointAnalyses = Mapping[Endpoint, EndpointAnalysis]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict on one claim.

    Attributes:
        reason: one line: the numbers that decided, or what prevented a decision.
        notes: what a reader must know to read the verdict.
        contrasts: the differences that the claim reads; none for trainability, which is counted.
    """

    claim: Claim
    word: VerdictWord
    reason: str
    notes: tuple[str, ...] = ()
    contrasts: tuple[Contrast, ...] = ()


@dataclass(frozen=True)
class _VerdictOption:
    """A word, and all the statements that it requires."""

    word: VerdictWord
    statements: tuple[Statement, ...]

    @property
    def holds(self) -> bool:
        return all(statement.holds for statement in self.statements)


def judge_claims(
    claims: Sequence[Claim], arms: Sequence[str], evidence: Mapping[Endpoint, Evidence], *, alpha: float = ALPHA
) -> tuple[Verdict, ...]:
    """Judge every claim by the table of this module.

    Args:
        claims: all that the study registered: their contrasts on an endpoint form its family.
        arms: names of the rows of the evidence.
        evidence: by endpoint; a claim about an endpoint that is missing here is inconclusive.
        alpha: familywise level of each endpoint: what "95%" above stands for.

    Raises:
        ValueError: where a claim names an arm that is not among ``arms``, or the evidence has another number of rows.
    """
    unknown = sorted({arm for claim in claims for arm in claim.arms} - set(arms))
    if unknown:
        raise ValueError(f"the claims name {', '.join(unknown)}; the arms are: {', '.join(arms)}.")
    analyses: dict[Endpoint, EndpointAnalysis] = {}
    for endpoint, numbers in evidence.items():
        family = _contrast_family(claims, endpoint)
        analyses[endpoint] = analyze_endpoint(endpoint, numbers, arms, family, alpha=alpha)
    num_claims: Counter[Endpoint] = Counter()
    for claim in claims:
        num_claims.update(_claim_endpoints(claim))
    verdicts = []
    for claim in claims:
        # Only a claim that is alone on all its endpoints keeps the error rate at each conjunct's own level.
        is_sole_claim = all(num_claims[endpoint] == 1 for endpoint in _claim_endpoints(claim))
        verdicts.append(_judge_claim(claim, analyses, is_sole_claim))
    return tuple(verdicts)


def _contrast_family(claims: Sequence[Claim], endpoint: Endpoint) -> list[tuple[str, str]]:
    """All contrasts that the claims read on one endpoint, in order, repetitions included."""
    family: list[tuple[str, str]] = []
    for claim in claims:
        for conjunct in _conjuncts_of(claim):
            if conjunct.endpoint == endpoint:
                family.extend(conjunct.contrasts)
    return family


def _judge_claim(claim: Claim, analyses: EndpointAnalyses, is_sole_claim: bool) -> Verdict:
    missing = [endpoint.replace("_", " ") for endpoint in _claim_endpoints(claim) if endpoint not in analyses]
    if missing:
        return Verdict(claim=claim, word="inconclusive", reason=f"there is no evidence on {' and '.join(missing)}")
    contrasts: dict[Contrast, None] = {}  # dicts as ordered sets
    notes: dict[str, None] = {}
    blocking_reason = ""
    for conjunct in _conjuncts_of(claim):
        analysis = analyses[conjunct.endpoint]
        contrasts |= dict.fromkeys(analysis.displayed_contrasts(conjunct.contrasts))
        notes |= dict.fromkeys(analysis.notes(conjunct.contrasts))
        blocking_reason = blocking_reason or analysis.blocking_reason()
    if blocking_reason:
        return Verdict(
            claim=claim, word="inconclusive", reason=blocking_reason, notes=tuple(notes), contrasts=tuple(contrasts)
        )
    has_several_pairs = len(claim.contrasts) > 1
    options = _verdict_options(claim, analyses, is_sole_claim)
    word, reason, skipped_notes = _select_verdict(options, has_several_pairs)
    level_notes = []
    if is_sole_claim and has_several_pairs and word in ("supported", "practically equivalent"):
        level_notes.append(INDIVIDUAL_LEVEL_NOTE)
    return Verdict(
        claim=claim,
        word=word,
        reason=reason,
        notes=(*level_notes, *_verdict_notes(claim, word, analyses), *skipped_notes, *notes),
        contrasts=tuple(contrasts),
    )


def _select_verdict(
    options: Sequence[_VerdictOption], has_several_pairs: bool
) -> tuple[VerdictWord, str, tuple[str, ...]]:
    """Return the first word whose statements hold and may be made, its reason, and notes on words skipped."""
    skipped: list[str] = []
    for option in options:
        if not option.holds:
            continue
        obstacles = _distinct(statement.obstacle for statement in option.statements if statement.obstacle)
        if not obstacles:
            return option.word, _join_statements(option.statements, has_several_pairs), tuple(skipped)
        skipped.append(f"not {option.word}, although the intervals show it: {'; '.join(obstacles)}")
    if skipped:
        obstacle = skipped[0].partition(": ")[2]
        return "inconclusive", obstacle, tuple(skipped)
    # Neither of the two words that agree with a claim was reached: what was missing for each is the reason.
    unmet = _unmet_statements(options, "supported") + _unmet_statements(options, "practically equivalent")
    return "inconclusive", _join_statements(unmet, has_several_pairs), ()


def _unmet_statements(options: Sequence[_VerdictOption], word: VerdictWord) -> list[Statement]:
    """The statements missing for a word, of the option with the fewest."""
    unmet_by_option = []
    for option in options:
        if option.word == word:
            unmet_by_option.append([statement for statement in option.statements if not statement.holds])
    return min(unmet_by_option, key=len, default=[])


def _join_statements(statements: Sequence[Statement], has_several_pairs: bool) -> str:
    findings = [(statement.subject if has_several_pairs else "", statement.text) for statement in statements]
    return "; ".join(condense_findings(findings))


def _verdict_options(claim: Claim, analyses: EndpointAnalyses, is_sole_claim: bool) -> list[_VerdictOption]:
    """The row of the table for one claim, from left to right."""
    if isinstance(claim, AllOf):
        return _all_of_options(claim, analyses, is_sole_claim)
    analysis = analyses[claim.endpoint]
    if isinstance(claim, FallsWith):
        return _falls_with_options(claim, analysis, is_sole_claim)
    if isinstance(claim, SaturatesAt):
        return _saturates_at_options(claim, analysis, is_sole_claim)
    if isinstance(claim, Reverses):
        return _reverses_options(claim, analysis, is_sole_claim)
    if isinstance(claim, (Helps, DoesNotHelp, HelpsBy)):
        return _simple_options(claim, analysis, individual=False)
    raise TypeError(f"{type(claim).__name__} has no row in the table of verdicts; add one.")


def _simple_options(claim: SimpleClaim, analysis: EndpointAnalysis, *, individual: bool) -> list[_VerdictOption]:
    pair = (claim.over, claim.arm)
    if isinstance(claim, HelpsBy):
        # An improvement of a stated size has no "practically equivalent": it may be missed to either side.
        low, high = claim.by - claim.within, claim.by + claim.within
        return [
            _VerdictOption("supported", (analysis.within_margins(pair, low, high, "neither", individual=individual),)),
            _VerdictOption("contradicted", (analysis.beyond_margin(pair, high=low),)),
            _VerdictOption("contradicted", (analysis.beyond_margin(pair, low=high),)),
        ]
    # Equivalence first: a significant difference smaller than ε is still practically nothing.
    equivalent = _VerdictOption("practically equivalent", (analysis.equivalence(pair, individual=individual),))
    if isinstance(claim, DoesNotHelp):
        supported = _VerdictOption("supported", (analysis.non_superiority(pair, individual=individual),))
        return [equivalent, supported, _VerdictOption("contradicted", (analysis.superiority(pair),))]
    supported = _VerdictOption("supported", (analysis.superiority(pair, individual=individual),))
    return [equivalent, supported, _VerdictOption("contradicted", (analysis.inferiority(pair),))]


def _all_of_options(claim: AllOf, analyses: EndpointAnalyses, is_sole_claim: bool) -> list[_VerdictOption]:
    equivalent: list[Statement] = []
    supported: list[Statement] = []
    contradicted: list[_VerdictOption] = []
    num_equivalent = 0
    for conjunct in claim.parts:
        for option in _simple_options(conjunct, analyses[conjunct.endpoint], individual=is_sole_claim):
            if option.word == "practically equivalent":
                equivalent.extend(option.statements)
                num_equivalent += 1
            elif option.word == "supported":
                supported.extend(option.statements)
            else:
                contradicted.append(option)
    options = [_VerdictOption("supported", tuple(supported)), *contradicted]
    if num_equivalent == len(claim.parts):  # `HelpsBy` has no equivalence: one such conjunct rules the word out
        options.insert(0, _VerdictOption("practically equivalent", tuple(equivalent)))
    return options


def _falls_with_options(claim: FallsWith, analysis: EndpointAnalysis, is_sole_claim: bool) -> list[_VerdictOption]:
    steps = [analysis.decreasing_pair(pair) for pair in claim.contrasts]
    supported = [analysis.decreasing_trend(claim.order, individual=is_sole_claim)]
    contradicted = []
    for step in steps:
        supported.append(analysis.non_inferiority(step, individual=is_sole_claim))
        # The trend may hide a step back, so that every step must be non-inferior.
        # One step that rises refutes the claim; each is read from the simultaneous interval.
        contradicted.append(_VerdictOption("contradicted", (analysis.inferiority(step),)))
    return [_VerdictOption("supported", tuple(supported)), *contradicted]


def _saturates_at_options(claim: SaturatesAt, analysis: EndpointAnalysis, is_sole_claim: bool) -> list[_VerdictOption]:
    # Contrasts are those with the arm of saturation: first the earlier arms on it, then it against the deeper ones.
    index = claim.order.index(claim.arm)
    earlier = [analysis.decreasing_pair(pair) for pair in claim.contrasts[:index]]
    deeper = [analysis.decreasing_pair(pair) for pair in claim.contrasts[index:]]
    plateau = [analysis.equivalence(pair, individual=is_sole_claim) for pair in deeper]
    options = []
    for pair in earlier:
        options.append(_VerdictOption("supported", (analysis.superiority(pair), *plateau)))
    for pair, is_level in zip(deeper, plateau, strict=True):
        if not is_level.holds:
            options.append(_VerdictOption("contradicted", (analysis.superiority(pair),)))
    return options


def _reverses_options(claim: Reverses, analysis: EndpointAnalysis, is_sole_claim: bool) -> list[_VerdictOption]:
    reversal = (
        analysis.inferiority(claim.worse, individual=is_sole_claim),
        analysis.superiority(claim.better, individual=is_sole_claim),
    )
    equivalent = [analysis.equivalence(pair, individual=is_sole_claim) for pair in claim.contrasts]
    # A reversal is a conjunction: either pair alone, the wrong way round, refutes it.
    return [
        _VerdictOption("practically equivalent", tuple(equivalent)),
        _VerdictOption("supported", reversal),
        _VerdictOption("contradicted", (analysis.superiority(claim.worse),)),
        _VerdictOption("contradicted", (analysis.inferiority(claim.better),)),
    ]


def _verdict_notes(claim: Claim, word: VerdictWord, analyses: EndpointAnalyses) -> list[str]:
    """Notes on what the word alone does not say."""
    analysis = analyses[_conjuncts_of(claim)[0].endpoint]
    if isinstance(claim, (Helps, DoesNotHelp, HelpsBy)):
        return _simple_claim_notes(claim, word, analysis)
    if isinstance(claim, SaturatesAt) and word == "inconclusive":
        index = claim.order.index(claim.arm)
        deeper = [analysis.decreasing_pair(pair) for pair in claim.contrasts[index:]]
        gain = max(analysis.bounds(pair, individual=False).high_one_sided for pair in deeper)
        if math.isfinite(gain):
            return [f"a plateau cannot be told from a further gain of up to {analysis.format_with_unit(gain)}"]
    if isinstance(claim, Reverses) and isinstance(analysis, ContinuousEndpointAnalysis):
        interaction = analysis.describe_interaction(claim.worse, claim.better)
        return [f"interaction, which alone proves no reversal: {interaction}"]
    return []


def _simple_claim_notes(claim: SimpleClaim, word: VerdictWord, analysis: EndpointAnalysis) -> list[str]:
    pair, smallest = (claim.over, claim.arm), analysis.evidence.smallest_effect
    bounds = analysis.bounds(pair, individual=False)
    # Two seeds may state a direction, but no margin.
    may_state_margin = all(contrast.num_pairs > 2 for contrast in analysis.displayed_contrasts([pair]))
    if isinstance(claim, Helps) and may_state_margin:
        if word == "supported" and bounds.low > smallest:
            return [f"by more than ε = {analysis.format_with_unit(smallest)}"]
        if word == "contradicted" and bounds.high < -smallest:
            return [f"worse by more than ε = {analysis.format_with_unit(smallest)}"]
    if isinstance(claim, DoesNotHelp) and word == "practically equivalent":
        return ["practical equivalence agrees with the claim"]
    if isinstance(claim, HelpsBy) and word == "inconclusive":
        position = "inside" if bounds.low <= claim.by <= bounds.high else "outside"
        return [f"{analysis.format_with_unit(claim.by)} is {position} the two-sided interval"]
    return []


def _conjuncts_of(claim: Claim) -> tuple[Claim, ...]:
    """The conjuncts of a conjunction; any other claim is its only conjunct."""
    return claim.parts if isinstance(claim, AllOf) else (claim,)


def _claim_endpoints(claim: Claim) -> tuple[Endpoint, ...]:
    return tuple(dict.fromkeys(conjunct.endpoint for conjunct in _conjuncts_of(claim)))


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))
