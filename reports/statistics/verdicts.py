"""Verdicts of registered claims: a fixed table, read from one family of intervals.

A verdict asserts statements about means over seeds, and is wrong exactly if one of them is false. Of the improvement of
``arm`` on ``over``, [L2, U2] is the two-sided 95% interval, L1 and U1 are the one-sided 95% bounds, and ε is the
smallest effect of interest. A claim gets the first word whose statements all hold and may be made:

    claim          practically equivalent    supported                       contradicted
    Helps          L1 > -ε and U1 < ε        L2 > 0                          U2 < 0
    DoesNotHelp    L1 > -ε and U1 < ε        U1 < ε                          L2 > 0
    HelpsBy        (none)                    L1 > by - within and            U2 < by - within, or
                                             U1 < by + within                L2 > by + within
    FallsWith      (none)                    fitted line falls: L2 > 0, and  fitted line rises: U2 < 0, or
                                             L1 > -ε at every step           a step with U2 < 0
    SaturatesAt    (none)                    an earlier arm with L2 > 0,     every earlier arm with U2 < 0, or a
                                             and every deeper equivalent     deeper one with L2 > 0 that is not
                                                                             equivalent, or with U2 < -ε
    Reverses       both pairs equivalent     U2 < 0 from worse[0] to [1],    L2 > 0 in the first pair,
                                             L2 > 0 from better[0] to [1]    or U2 < 0 in the second
    AllOf          every conjunct            every conjunct supported        a conjunct contradicted, and not
                   equivalent                                                equivalent

and *inconclusive* otherwise. Direction is read from two-sided intervals and margins from one-sided bounds, everywhere.
Bounds hold simultaneously for all contrasts that the claims on one endpoint read, fitted lines included (Dunnett,
max-t), except that a conjunction which is the only claim on its endpoint is *supported* at each conjunct's own level
(intersection-union test, Berger 1982). That protects one claim; next to other claims a conjunction is supported by the
simultaneous bounds. By them it is always contradicted, as any of its contrasts could do that, and called equivalent.

Whatever the numbers, nothing is stated from one seed; no margin from two pairs (their standard deviation is uncertain
by a factor of 0.45 to 32); nothing in favor of the arm that lost more seeds to divergence than the other, and no
equivalence where they lost unequal numbers. A statement that may not be made is noted, and the next word is tried.

Source: Dunnett 1955; Schuirmann 1987 (two one-sided tests); Berger 1982. Error rates: docs/explanation/statistics.md.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ablations import (
    AllOf,
    Claim,
    DoesNotHelp,
    Endpoint,
    FallsWith,
    Helps,
    HelpsBy,
    Metric,
    Reverses,
    SaturatesAt,
    capitalize_first,
    change_verbs,
    endpoint_label,
)
from lightning_modules.specs.text import join_words
from reports.formatting import condense_findings
from reports.statistics.contrasts import Contrast
from reports.statistics.evidence import ALPHA, EndpointAnalysis, Evidence, Statement
from reports.statistics.families import claimed_family
from reports.statistics.measured_endpoints import ContinuousEndpointAnalysis
from reports.statistics.proportions import BinaryEndpointAnalysis

VerdictWord = Literal["supported", "contradicted", "practically equivalent", "inconclusive"]
MAX_EFFECTS = 2  # in the first sentence of a verdict; the bounds of all contrasts follow it
MAX_NAMED_CONJUNCTS = 3
INDIVIDUAL_LEVEL_NOTE = "every part holds at its own level, as a conjunction asks; the simultaneous intervals are wider"
SimpleClaim = Helps | DoesNotHelp | HelpsBy
EndpointAnalyses = Mapping[Endpoint | Metric, EndpointAnalysis]


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


@dataclass(frozen=True)
class VerdictOption:
    """A word, what it means in a sentence, the statements that it requires, and those that rule it out."""

    word: VerdictWord
    lead: str
    statements: tuple[Statement, ...]
    exceptions: tuple[Statement, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether all of its statements hold, and none that rules it out."""
        is_ruled_out = any(statement.holds for statement in self.exceptions)
        return not is_ruled_out and all(statement.holds for statement in self.statements)


def judge_claims(
    claims: Sequence[Claim],
    arms: Sequence[str],
    evidence: Mapping[Endpoint | Metric, Evidence],
    *,
    alpha: float = ALPHA,
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
    analyses: dict[Endpoint | Metric, EndpointAnalysis] = {}
    for endpoint, numbers in evidence.items():
        analysis_class = BinaryEndpointAnalysis if endpoint == "trainability" else ContinuousEndpointAnalysis
        analyses[endpoint] = analysis_class(numbers, arms, claimed_family(claims, endpoint), alpha=alpha)
    num_claims: Counter[Endpoint | Metric] = Counter()
    for claim in claims:
        num_claims.update(claim.endpoints)
    verdicts = []
    for claim in claims:
        # Only a claim that is alone on all its endpoints keeps the error rate at each conjunct's own level.
        is_sole_claim = all(num_claims[endpoint] == 1 for endpoint in claim.endpoints)
        verdicts.append(_judge_claim(claim, analyses, is_sole_claim))
    return tuple(verdicts)


def _judge_claim(claim: Claim, analyses: EndpointAnalyses, is_sole_claim: bool) -> Verdict:
    open_question = f"Cannot tell whether {_claim_question(claim)}"
    missing = [endpoint_label(endpoint) for endpoint in claim.endpoints if endpoint not in analyses]
    if missing:
        reason = f"there is no evidence on {' and '.join(missing)}"
        return Verdict(claim=claim, word="inconclusive", finding=f"{open_question}: {reason}", reason=reason)
    contrasts: dict[Contrast, None] = {}  # dicts as ordered sets
    notes: dict[str, None] = {}
    blocking_reason = ""
    for conjunct in claim.conjuncts:
        analysis = analyses[conjunct.endpoint]
        contrasts |= dict.fromkeys(analysis.displayed_contrasts(conjunct.contrasts))
        notes |= dict.fromkeys(analysis.notes(conjunct.contrasts))
        blocking_reason = blocking_reason or analysis.blocking_reason()
    if blocking_reason:
        return Verdict(
            claim=claim,
            word="inconclusive",
            finding=f"{open_question}: {blocking_reason}",
            reason=blocking_reason,
            notes=tuple(notes),
            contrasts=tuple(contrasts),
        )
    has_several_pairs = len(claim.contrasts) > 1
    options = verdict_options(claim, analyses, is_sole_claim)
    if not any(analyses[endpoint].evidence.smallest_effect for endpoint in claim.endpoints):
        options = [option for option in options if option.word != "practically equivalent"]  # nothing is, within ±0
    chosen, skipped_notes = _select_verdict(options, open_question)
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


def verdict_options(claim: Claim, analyses: EndpointAnalyses, is_sole_claim: bool) -> list[VerdictOption]:
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


def _simple_options(claim: SimpleClaim, analysis: EndpointAnalysis, *, individual: bool) -> list[VerdictOption]:
    pair = (claim.over, claim.arm)
    label = endpoint_label(claim.endpoint)
    verbs = ("improves on", "is worse than", "does not improve on")
    better, worse, not_better = (f"{claim.arm} {verb} {claim.over} in {label}" for verb in verbs)
    if claim.endpoint == "gradient_norm":  # which measures a mechanism: a lower one is no improvement
        verbs = ("has a lower", "has a higher", "does not have a lower")
        better, worse, not_better = (f"{claim.arm} {verb} {label} than {claim.over}" for verb in verbs)
    if isinstance(claim, HelpsBy):
        # An improvement of a stated size has no "practically equivalent": it may be missed to either side.
        low, high = claim.by - claim.within, claim.by + claim.within
        within = analysis.within_margins(pair, low, high, "neither", individual=individual)
        size = f"in {label} by {claim.by:g} ± {claim.within:g}"
        less = f"{claim.arm} improves on {claim.over} by less than claimed in {label}, or not at all"
        more = f"{claim.arm} improves on {claim.over} by more than claimed in {label}"
        return [
            VerdictOption("supported", f"{claim.arm} improves on {claim.over} {size}", (within,)),
            VerdictOption("contradicted", less, (analysis.beyond_margin(pair, high=low),)),
            VerdictOption("contradicted", more, (analysis.beyond_margin(pair, low=high),)),
        ]
    # Equivalence first: a significant difference smaller than ε is still practically nothing.
    equal = f"{claim.arm} and {claim.over} are practically equivalent in {label}"
    equivalent = VerdictOption("practically equivalent", equal, (analysis.equivalence(pair, individual=individual),))
    if isinstance(claim, DoesNotHelp):
        smallest = analysis.format_margin(analysis.evidence.smallest_effect)
        supported = VerdictOption(
            "supported", f"{not_better} by {smallest} or more", (analysis.non_superiority(pair, individual=individual),)
        )
        return [equivalent, supported, VerdictOption("contradicted", better, (analysis.superiority(pair),))]
    supported = VerdictOption("supported", better, (analysis.superiority(pair, individual=individual),))
    return [equivalent, supported, VerdictOption("contradicted", worse, (analysis.inferiority(pair),))]


def _all_of_options(claim: AllOf, analyses: EndpointAnalyses, is_sole_claim: bool) -> list[VerdictOption]:
    equivalent: list[VerdictOption] = []
    supported: list[VerdictOption] = []
    contradicted: list[VerdictOption] = []
    for conjunct in claim.parts:
        analysis = analyses[conjunct.endpoint]
        options = _simple_options(conjunct, analysis, individual=is_sole_claim)
        supported += [option for option in options if option.word == "supported"]
        first, *others = _simple_options(conjunct, analysis, individual=False)
        equivalent += [first] if first.word == "practically equivalent" else []
        # A conjunct that would be practically equivalent by itself contradicts nothing.
        exceptions = first.statements if first.word == "practically equivalent" else ()
        contradicted += [replace(option, exceptions=exceptions) for option in others if option.word == "contradicted"]
    options = [_combine_options("supported", supported), *contradicted]
    if len(equivalent) == len(claim.parts):  # `HelpsBy` has no equivalence: one such conjunct rules the word out
        options.insert(0, _combine_options("practically equivalent", equivalent))
    return options


def _combine_options(word: VerdictWord, options: Sequence[VerdictOption]) -> VerdictOption:
    statements = [statement for option in options for statement in option.statements]
    lead = join_words((option.lead for option in options), max_words=MAX_NAMED_CONJUNCTS)
    return VerdictOption(word, lead, tuple(statements))


def _falls_with_options(claim: FallsWith, analysis: EndpointAnalysis, is_sole_claim: bool) -> list[VerdictOption]:
    label, (first, *_, last) = capitalize_first(endpoint_label(claim.endpoint)), claim.order
    improves, worsens = change_verbs(claim.endpoint)
    # The trend may hide a step back, so that every step must be non-inferior.
    supported = [analysis.trend(claim.order, rises=False, individual=is_sole_claim)]
    # A line or one step for the worse refutes the claim; each is read from the simultaneous interval.
    rises = analysis.trend(claim.order, rises=True)
    contradicted = [VerdictOption("contradicted", f"{label} {worsens} from {first} to {last}", (rises,))]
    for over, arm in claim.contrasts:
        step = analysis.decreasing_pair((over, arm))
        supported.append(analysis.non_inferiority(step, individual=is_sole_claim))
        lead = f"{label} {worsens} from {over} to {arm}"
        contradicted.append(VerdictOption("contradicted", lead, (analysis.inferiority(step),)))
    return [VerdictOption("supported", f"{label} {improves} from {first} to {last}", tuple(supported)), *contradicted]


def _saturates_at_options(claim: SaturatesAt, analysis: EndpointAnalysis, is_sole_claim: bool) -> list[VerdictOption]:
    label, turn = capitalize_first(endpoint_label(claim.endpoint)), claim.arm
    improves, worsens = change_verbs(claim.endpoint)
    # Contrasts are those with the arm of saturation: first the earlier arms on it, then it against the deeper ones.
    index = claim.order.index(turn)
    earlier = [analysis.decreasing_pair(pair) for pair in claim.contrasts[:index]]
    deeper = [analysis.decreasing_pair(pair) for pair in claim.contrasts[index:]]
    plateau = [analysis.equivalence(pair, individual=is_sole_claim) for pair in deeper]
    options = []
    for pair in earlier:
        statements = (analysis.superiority(pair), *plateau)
        lead = f"{label} {improves} up to {turn} and is level beyond it"
        options.append(VerdictOption("supported", lead, statements))
    smallest = analysis.evidence.smallest_effect
    for pair, name, is_level in zip(deeper, claim.order[index + 1 :], plateau, strict=True):
        falls, lead = (analysis.superiority(pair),), f"{label} still {improves} from {turn} to {name}"
        options.append(VerdictOption("contradicted", lead, falls, exceptions=(is_level,)))
        rises = (analysis.beyond_margin(pair, high=-smallest),)
        options.append(VerdictOption("contradicted", f"{label} {worsens} from {turn} to {name}", rises))
    rises_up_to = tuple(analysis.inferiority(pair) for pair in earlier)
    options.append(VerdictOption("contradicted", f"{label} {worsens} up to {turn}", rises_up_to))
    return options


def _reverses_options(claim: Reverses, analysis: EndpointAnalysis, is_sole_claim: bool) -> list[VerdictOption]:
    label = endpoint_label(claim.endpoint)
    (first, second), (third, fourth) = claim.worse, claim.better
    reversal = (
        analysis.inferiority(claim.worse, individual=is_sole_claim),
        analysis.superiority(claim.better, individual=is_sole_claim),
    )
    equivalent = tuple(analysis.equivalence(pair) for pair in claim.contrasts)
    equal = f"{second} and {first}, and {fourth} and {third}, are practically equivalent in {label}"
    # A reversal is a conjunction: either pair alone, the wrong way round, refutes it.
    first_refuted, second_refuted = analysis.superiority(claim.worse), analysis.inferiority(claim.better)
    return [
        VerdictOption("practically equivalent", equal, equivalent),
        VerdictOption("supported", _claim_question(claim), reversal),
        VerdictOption("contradicted", f"{second} improves on {first} in {label}", (first_refuted,)),
        VerdictOption("contradicted", f"{fourth} is worse than {third} in {label}", (second_refuted,)),
    ]


def _claim_question(claim: Claim) -> str:
    """The claim as it follows "Cannot tell whether"."""
    if isinstance(claim, (FallsWith, SaturatesAt)):
        sentence = claim.sentence.rstrip(".")
        return sentence[0].lower() + sentence[1:]
    questions = [conjunct.sentence.rstrip(".") for conjunct in claim.conjuncts]
    return join_words(questions, max_words=MAX_NAMED_CONJUNCTS)


def _verdict_notes(claim: Claim, word: VerdictWord, analyses: EndpointAnalyses) -> list[str]:
    """Notes on what the word alone does not say."""
    analysis = analyses[claim.conjuncts[0].endpoint]
    if isinstance(claim, (Helps, DoesNotHelp, HelpsBy)):
        return _simple_claim_notes(claim, word, analysis)
    if isinstance(claim, SaturatesAt) and word == "inconclusive":
        index = claim.order.index(claim.arm)
        deeper = [analysis.decreasing_pair(pair) for pair in claim.contrasts[index:]]
        gain = max(analysis.bounds(pair, individual=False).high_one_sided for pair in deeper)
        if math.isfinite(gain):
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
