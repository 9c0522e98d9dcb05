"""Verdicts of registered claims: the first word of the table that the intervals show and that may be said.

The table is that of :mod:`reports.statistics.verdict_options`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from ablations import (
    Claim,
    DoesNotHelp,
    Endpoint,
    Helps,
    HelpsBy,
    Metric,
    Reverses,
    SaturatesAt,
    endpoint_label,
)
from reports.formatting import condense_findings
from reports.statistics.contrasts import Contrast
from reports.statistics.evidence import ALPHA, EndpointAnalysis, Evidence, Statement
from reports.statistics.families import claimed_family
from reports.statistics.measured_endpoints import ContinuousEndpointAnalysis
from reports.statistics.proportions import BinaryEndpointAnalysis
from reports.statistics.verdict_options import (
    EndpointAnalyses,
    SimpleClaim,
    VerdictOption,
    VerdictWord,
    claim_question,
    verdict_options,
)

MAX_EFFECTS = 2  # in the first sentence of a verdict; the bounds of all contrasts follow it
INDIVIDUAL_LEVEL_NOTE = "every part holds at its own level, as a conjunction asks; the simultaneous intervals are wider"
AnalysesAtLevel = Callable[[float], EndpointAnalyses]  # by the familywise level of each endpoint


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict on one claim.

    Attributes:
        finding: one plain sentence, without its full stop: what was found, the effect, and the interval that decides.
        reason: one line: all bounds that decided, or what prevented a decision.
        notes: what a reader must know to read the verdict.
        contrasts: the differences that the claim reads; none for trainability, which is counted.
    """

    claim: Claim
    word: VerdictWord
    finding: str
    reason: str
    notes: tuple[str, ...] = ()
    contrasts: tuple[Contrast, ...] = ()

    def __repr__(self) -> str:
        return f"<{self.word}: {self.finding}>"


def judge_claims(
    claims: Sequence[Claim],
    arms: Sequence[str],
    evidence: Mapping[Endpoint | Metric, Evidence],
    *,
    alpha: float = ALPHA,
) -> tuple[Verdict, ...]:
    """Judge every claim by the table of :mod:`reports.statistics.verdict_options`.

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

    @cache
    def analyses_at(level: float) -> EndpointAnalyses:
        analyses: dict[Endpoint | Metric, EndpointAnalysis] = {}
        for endpoint, numbers in evidence.items():
            analysis_class = BinaryEndpointAnalysis if endpoint == "trainability" else ContinuousEndpointAnalysis
            analyses[endpoint] = analysis_class(numbers, arms, claimed_family(claims, endpoint), alpha=level)
        return analyses

    num_claims: Counter[Endpoint | Metric] = Counter()
    for claim in claims:
        num_claims.update(claim.endpoints)
    verdicts = []
    for claim in claims:
        # Only a claim that is alone on all its endpoints keeps the error rate at each conjunct's own level.
        is_sole_claim = all(num_claims[endpoint] == 1 for endpoint in claim.endpoints)
        verdicts.append(_judge_claim(claim, analyses_at, alpha, is_sole_claim))
    return tuple(verdicts)


def open_verdict(
    claim: Claim, reason: str, *, notes: Sequence[str] = (), contrasts: Sequence[Contrast] = ()
) -> Verdict:
    """Make the verdict on a claim of which nothing may be said, whatever the bounds are."""
    return Verdict(
        claim=claim,
        word="inconclusive",
        finding=f"{_open_question(claim)}: {reason}",
        reason=reason,
        notes=tuple(notes),
        contrasts=tuple(contrasts),
    )


def _open_question(claim: Claim) -> str:
    return f"Cannot tell whether {claim_question(claim)}"


def _judge_claim(claim: Claim, analyses_at: AnalysesAtLevel, alpha: float, is_sole_claim: bool) -> Verdict:
    analyses = analyses_at(alpha)
    missing = [endpoint_label(endpoint) for endpoint in claim.endpoints if endpoint not in analyses]
    if missing:
        return open_verdict(claim, f"there is no evidence on {' and '.join(missing)}")
    contrasts: dict[Contrast, None] = {}  # dicts as ordered sets
    notes: dict[str, None] = {}
    blocking_reason = ""
    for conjunct in claim.conjuncts:
        analysis = analyses[conjunct.endpoint]
        contrasts |= dict.fromkeys(analysis.displayed_contrasts(conjunct.contrasts))
        notes |= dict.fromkeys(analysis.notes(conjunct.contrasts))
        blocking_reason = blocking_reason or analysis.blocking_reason()
    if blocking_reason:
        return open_verdict(claim, blocking_reason, notes=tuple(notes), contrasts=tuple(contrasts))
    has_several_pairs = len(claim.contrasts) > 1
    # Any endpoint alone could contradict a conjunction, by chance as well: the level is divided among them.
    contradicting = analyses_at(alpha / len(claim.endpoints))
    options = verdict_options(claim, analyses, is_sole_claim, contradicting)
    if not any(analyses[endpoint].evidence.smallest_effect for endpoint in claim.endpoints):
        options = [option for option in options if option.word != "practically equivalent"]  # nothing is, within ±0
    chosen, skipped_notes = _select_verdict(options, _open_question(claim))
    level_notes = []
    if is_sole_claim and has_several_pairs and chosen.word == "supported":
        level_notes.append(INDIVIDUAL_LEVEL_NOTE)
    obstacle = skipped_notes[0].partition(": ")[2] if chosen.word == "inconclusive" and skipped_notes else ""
    effects = list(dict.fromkeys(statement.effect for statement in chosen.statements))[:MAX_EFFECTS]
    return Verdict(
        claim=claim,
        word=chosen.word,
        finding=f"{chosen.lead}: {obstacle or '; '.join(effects)}",
        reason=obstacle or _join_statements(chosen.statements, has_several_pairs),
        notes=(*level_notes, *_verdict_notes(claim, chosen.word, analyses), *skipped_notes, *notes),
        contrasts=tuple(contrasts),
    )


def _select_verdict(options: Sequence[VerdictOption], open_question: str) -> tuple[VerdictOption, tuple[str, ...]]:
    """Return the first option whose statements hold and may be made, and notes on words skipped.

    Where there is none, the option is *inconclusive*, with the statements that were missing.
    """
    skipped: list[str] = []
    for option in options:
        if not option.holds:
            continue
        obstacles = list(dict.fromkeys(statement.obstacle for statement in option.statements if statement.obstacle))
        if not obstacles:
            return option, tuple(skipped)
        skipped.append(f"not {option.word}, although the intervals show it: {'; '.join(obstacles)}")
    # Neither of the two words that agree with a claim was reached: what was missing for each is the reason.
    unmet = _unmet_statements(options, "supported") + _unmet_statements(options, "practically equivalent")
    return VerdictOption("inconclusive", open_question, tuple(unmet)), tuple(skipped)


def _unmet_statements(options: Sequence[VerdictOption], word: VerdictWord) -> list[Statement]:
    """The statements missing for a word, of the option with the fewest."""
    unmet_by_option = []
    for option in options:
        if option.word == word:
            unmet_by_option.append([statement for statement in option.statements if not statement.holds])
    return min(unmet_by_option, key=len, default=[])


def _join_statements(statements: Sequence[Statement], has_several_pairs: bool) -> str:
    findings = [(statement.subject if has_several_pairs else "", statement.text) for statement in statements]
    return "; ".join(condense_findings(findings))


def _verdict_notes(claim: Claim, word: VerdictWord, analyses: EndpointAnalyses) -> list[str]:
    """Notes on what the word alone does not say."""
    analysis = analyses[claim.conjuncts[0].endpoint]
    if isinstance(claim, (Helps, DoesNotHelp, HelpsBy)):
        return _simple_claim_notes(claim, word, analysis)
    if isinstance(claim, SaturatesAt) and word == "inconclusive":
        index = claim.order.index(claim.arm)
        deeper = [analysis.decreasing_pair(pair) for pair in claim.contrasts[index:]]
        gain = max(analysis.bounds(pair, individual=False).high_one_sided for pair in deeper)
        is_level = all(analysis.equivalence(pair).holds for pair in deeper)
        if math.isfinite(gain) and gain > 0 and not is_level:
            return [f"a plateau cannot be told from a further gain of up to {analysis.format_margin(gain)}"]
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
        if word == "supported" and bounds.low > smallest > 0:
            return [f"by more than ε = {analysis.format_margin(smallest)}"]
        if word == "contradicted" and bounds.high < -smallest < 0:
            return [f"worse by more than ε = {analysis.format_margin(smallest)}"]
    if isinstance(claim, DoesNotHelp) and word == "practically equivalent":
        return ["practical equivalence agrees with the claim"]
    if isinstance(claim, HelpsBy) and word == "inconclusive":
        position = "inside" if bounds.low <= claim.by <= bounds.high else "outside"
        return [f"{analysis.format_margin(claim.by)} is {position} the two-sided interval"]
    return []
