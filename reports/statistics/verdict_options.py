"""The table of verdicts: by claim, the words that a verdict may have, and what each requires.

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
max-t), except that a conjunction that is the only claim on its endpoint is *supported* at each conjunct's own level
(intersection-union test, Berger 1982). That protects one claim; next to other claims a conjunction is supported by the
simultaneous bounds. By them it is always contradicted, as any of its contrasts could do that, and called equivalent.
A conjunction over several endpoints, each a family of its own, is contradicted at α divided by their number.

Whatever the numbers, nothing is stated from one seed; no margin from two pairs (their standard deviation is uncertain
by a factor of 0.45 to 32); nothing in favor of the arm that lost more seeds to divergence than the other, and no
equivalence where they lost unequal numbers. A statement that may not be made is noted, and the next word is tried.

Source: Dunnett 1955; Schuirmann 1987 (two one-sided tests); Berger 1982. Error rates: docs/explanation/statistics.md.
"""

from __future__ import annotations

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
from reports.statistics.evidence import EndpointAnalysis, Statement

VerdictWord = Literal["supported", "contradicted", "practically equivalent", "inconclusive"]
MAX_NAMED_CONJUNCTS = 3
SimpleClaim = Helps | DoesNotHelp | HelpsBy
EndpointAnalyses = Mapping[Endpoint | Metric, EndpointAnalysis]


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


def verdict_options(
    claim: Claim, analyses: EndpointAnalyses, is_sole_claim: bool, contradicting: EndpointAnalyses
) -> list[VerdictOption]:
    """The row of the table for one claim, from left to right.

    Args:
        contradicting: the analyses by which a conjunction is contradicted.
    """
    if isinstance(claim, AllOf):
        return _all_of_options(claim, analyses, is_sole_claim, contradicting)
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


def _all_of_options(
    claim: AllOf, analyses: EndpointAnalyses, is_sole_claim: bool, contradicting: EndpointAnalyses
) -> list[VerdictOption]:
    equivalent: list[VerdictOption] = []
    supported: list[VerdictOption] = []
    contradicted: list[VerdictOption] = []
    for conjunct in claim.parts:
        analysis = analyses[conjunct.endpoint]
        options = _simple_options(conjunct, analysis, individual=is_sole_claim)
        supported += [option for option in options if option.word == "supported"]
        first = _simple_options(conjunct, analysis, individual=False)[0]
        equivalent += [first] if first.word == "practically equivalent" else []
        # A conjunct that would be practically equivalent by itself contradicts nothing.
        exceptions = first.statements if first.word == "practically equivalent" else ()
        for option in _simple_options(conjunct, contradicting[conjunct.endpoint], individual=False):
            if option.word == "contradicted":
                contradicted.append(replace(option, exceptions=exceptions))
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
    line = f"the fitted line of {endpoint_label(claim.endpoint)}" if len(claim.order) > 2 else label
    line = capitalize_first(line)
    contradicted = [VerdictOption("contradicted", f"{line} {worsens} from {first} to {last}", (rises,))]
    for over, arm in claim.contrasts:
        step = analysis.decreasing_pair((over, arm))
        supported.append(analysis.non_inferiority(step, individual=is_sole_claim))
        lead = f"{label} {worsens} from {over} to {arm}"
        contradicted.append(VerdictOption("contradicted", lead, (analysis.inferiority(step),)))
    return [VerdictOption("supported", f"{line} {improves} from {first} to {last}", tuple(supported)), *contradicted]


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
        VerdictOption("supported", claim_question(claim), reversal),
        VerdictOption("contradicted", f"{second} improves on {first} in {label}", (first_refuted,)),
        VerdictOption("contradicted", f"{fourth} is worse than {third} in {label}", (second_refuted,)),
    ]


def claim_question(claim: Claim) -> str:
    """The claim as it follows "Cannot tell whether"."""
    if isinstance(claim, (FallsWith, SaturatesAt)):
        sentence = claim.sentence.rstrip(".")
        return sentence[0].lower() + sentence[1:]
    questions = [conjunct.sentence.rstrip(".") for conjunct in claim.conjuncts]
    return join_words(questions, max_words=MAX_NAMED_CONJUNCTS)
