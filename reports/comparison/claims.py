"""Judged claims: verdicts on the registered claims, with everything a reader needs beside them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ablations import ENDPOINT_LABELS, ERROR_ENDPOINTS, Claim, DoesNotHelp, Endpoint, Metric
from lightning_modules.specs.notebook_html import render_line, render_list, render_view
from lightning_modules.specs.text import join_words
from reports.analysis.arms import ArmSummary, CostSpread
from reports.analysis.chance import describe_identical_arms
from reports.analysis.confounds import network_changes_between
from reports.analysis.endpoints import (
    ENDPOINT_UNITS,
    endpoint_values,
    lost_to_divergence,
    smallest_effect,
    value_resolution,
)
from reports.analysis.interim import InterimSchedule, judge_sequentially, study_alpha
from reports.analysis.sensitivity import MAX_DIFFERENCE
from reports.formatting import (
    condense_findings,
    explain_finding,
    format_contrast,
    format_significant,
    further_reason,
    typeset_minus_signs,
)
from reports.statistics import Evidence, Verdict, judge_claims
from studies.records.study_record import StudyRecord

VERDICT_ORDER = (
    "supported",
    "practically equivalent",
    "contradicted",
    "inconclusive",
    "no verdict",
)  # in which counts are reported
WITHHELD_FINDING = "Too short, or nothing to learn: no arm beats a constant answer on the test split"
WITHHELD_REASON = "no claim on errors is judged where the networks know no more than the class shares"
OPEN_WORDS = ("inconclusive", "no verdict")  # neither confirms nor refutes


@dataclass(frozen=True, kw_only=True)
class JudgedClaim:
    """A registered claim and its verdict.

    Attributes:
        sentence: the claim in words.
        word: ``supported``, ``contradicted``, ``practically equivalent`` or ``inconclusive``; ``no verdict`` on
            errors where no arm has learned.
        finding: one plain sentence, without its full stop: what was found, with the effect and its interval.
        reason: the bounds that decided, or what prevented a decision.
        caveats: why its two sides are not compared like for like; printed beside the verdict.
        notes: what else a reader must know.
        source: the publication that made the claim; empty for the user's own.
        agreement: whether this study agrees with that source; empty where there is none.
        confounds: contrasts of the claim that are confounded, or not known to be unconfounded, with what changed.
        under_tuning: the verdict where every arm's recipe is tuned alike; empty without tuning.
    """

    claim: Claim
    sentence: str
    word: str
    finding: str
    reason: str
    caveats: tuple[str, ...]
    notes: tuple[str, ...]
    source: str
    agreement: str
    confounds: tuple[str, ...]
    under_tuning: str = ""

    def __repr__(self) -> str:
        return f"<{self.word}: {self.finding}>"

    def _repr_html_(self) -> str:
        return render_view(
            f"{self.word}: {self.finding}.",
            render_line(f"Claim: {self.sentence}", quiet=True),
            render_line(further_reason(self.reason, self.finding)),
            render_list(self.all_notes),
        )

    @property
    def explanation(self) -> str:
        """The finding in a sentence, then the bounds."""
        return explain_finding(self.finding, self.reason)

    @property
    def all_notes(self) -> tuple[str, ...]:
        """All notes on the verdict; the effect of tuning and the caveats come first."""
        tuning_notes = (self.under_tuning,) if self.under_tuning else ()
        return (*tuning_notes, *self.caveats, *self.notes, *self.confounds)


def judge_record(record: StudyRecord, schedule: InterimSchedule | None) -> tuple[Verdict, ...]:
    """Judge all registered claims: at the interim analyses of a schedule, else on all seeds at the study's level."""
    if not record.registration.claims:
        return ()
    if schedule:
        return judge_sequentially(record, schedule, _judge_at_level)
    return _judge_at_level(record, study_alpha(record.registration))


def _judge_at_level(record: StudyRecord, alpha: float) -> tuple[Verdict, ...]:
    claims = record.registration.claims
    evidence: dict[Endpoint | Metric, Evidence] = {}
    for claim in claims:
        for endpoint in _endpoints_of(claim):
            if endpoint not in evidence:
                evidence[endpoint] = _endpoint_evidence(record, endpoint)
    return judge_claims(claims, record.registration.arms, evidence, alpha=alpha)


def _endpoint_evidence(record: StudyRecord, endpoint: Endpoint) -> Evidence:
    is_latency = endpoint == "latency"
    unmeasured = f"not measured yet: `ablate latency {record.registration.study}` does"
    return Evidence(
        values=endpoint_values(record, endpoint),
        lost_to_divergence=lost_to_divergence(record, endpoint),
        smallest_effect=smallest_effect(record, endpoint),
        unit=ENDPOINT_UNITS[endpoint],
        resolution=value_resolution(record.registration, endpoint),
        largest_difference=MAX_DIFFERENCE if endpoint in ERROR_ENDPOINTS else math.inf,
        replicates=("process", "processes") if is_latency else ("seed", "seeds"),
        missing_measurement=unmeasured if is_latency and record.latency is None else "",
    )


def cost_comparability_notes(record: StudyRecord, claim: Claim) -> Iterable[str]:
    """Notes on where trials ran, for a claim on time or memory."""
    if not {"time", "memory"} & set(_endpoints_of(claim)):
        return
    arms = set(claim.arms)  # and their source networks, whose time is charged to them
    for arm in claim.arms:
        arms.update(record.registration.source_chain(arm))
    devices = set()
    reused_arms = set()
    for trial in record.trials:
        if trial.arm not in arms or trial.result is None or trial.state != "finished":
            continue
        devices.add(str(trial.result.environment.get("device_name", "")))
        if trial.reused_from:
            reused_arms.add(trial.arm)
    if len(devices) > 1:
        yield f"not comparable: measured on different machines ({join_words(sorted(devices))})"
    yield from _uneven_cost_notes(record, claim)
    # Where all arms come from another study, they shared its conditions.
    if reused_arms and not reused_arms >= set(claim.arms):
        names = join_words(sorted(reused_arms))
        yield f"the trials of {names} were reused from another study, so the load of the machine may have differed"


def latency_notes(record: StudyRecord, claim: Claim) -> Iterable[str]:
    """Notes on what a verdict on latency is about, and on what disturbed its measurement."""
    measurement = record.latency
    if "latency" not in _endpoints_of(claim) or measurement is None:
        return
    yield (
        f"latency is of the networks on one machine ({measurement.hardware}), not of the seeds: the interval is over "
        f"{measurement.num_processes} fresh processes there"
    )
    if measurement.disturbances:
        yield f"latency was measured while the machine was not quiet: {' '.join(measurement.disturbances).rstrip('.')}"


def _uneven_cost_notes(record: StudyRecord, claim: Claim) -> Iterable[str]:
    """Notes on trials whose time or memory is far from their arm's median: a mean difference includes them."""
    for endpoint in _endpoints_of(claim):
        if endpoint not in ("time", "memory"):
            continue
        values = endpoint_values(record, endpoint)
        uneven = []
        for arm in claim.arms:
            if CostSpread.of_values(values[record.registration.arms.index(arm)]).has_outlier:
                uneven.append(arm)
        if uneven:
            names, quantity = join_words(uneven, max_words=6), ENDPOINT_LABELS[endpoint]
            yield (
                f"a trial of {names} differs from the arm's median {quantity} by a factor of two or more, as where "
                "another process ran on the machine at the same time"
            )


def to_judged_claim(
    record: StudyRecord, verdict: Verdict, identical_groups: Iterable[tuple[str, ...]] = ()
) -> JudgedClaim:
    """Add to a verdict all that a report shows beside it.

    Args:
        identical_groups: of arms with equal results in every seed.
    """
    claim = verdict.claim
    caveats: dict[str, None] = {}  # dicts as ordered sets
    for part in (claim, *claim.conjuncts):
        if part.caveat:
            caveats[str(part.caveat)] = None  # a registered caveat is a text
    confounds: dict[str, None] = {}
    for over, arm in claim.contrasts:
        changes = network_changes_between(record.registration, over, arm)
        if not changes.is_known_unconfounded:
            confounds[f"{format_contrast(over, arm)}: {changes.summary}"] = None
    return JudgedClaim(
        claim=claim,
        sentence=claim.sentence,
        word=verdict.word,
        finding=typeset_minus_signs(verdict.finding),
        reason=typeset_minus_signs(verdict.reason),
        caveats=(
            *_identity_caveats(claim, identical_groups),
            *(f"Not like for like: {caveat.rstrip('.')}." for caveat in caveats),
        ),
        notes=(
            *_condense_sentences(map(typeset_minus_signs, verdict.notes)),
            *relative_effect_notes(record, claim),
            *cost_comparability_notes(record, claim),
            *latency_notes(record, claim),
        ),
        source=claim.source,
        agreement=describe_agreement(claim, verdict.word),
        confounds=_condense_sentences(confounds),
    )


def _condense_sentences(sentences: Iterable[str]) -> tuple[str, ...]:
    """Group sentences of the form ``subject: text`` by their text where there are many."""
    findings = []
    for sentence in sentences:
        subject, separator, text = sentence.partition(": ")
        findings.append((subject, text) if separator else ("", sentence))
    return tuple(condense_findings(findings))


def _identity_caveats(claim: Claim, identical_groups: Iterable[tuple[str, ...]]) -> Iterable[str]:
    for group in identical_groups:
        arms = [arm for arm in group if arm in claim.arms]
        if len(arms) > 1:
            yield f"{describe_identical_arms(arms)}."


def relative_effect_notes(record: StudyRecord, claim: Claim) -> Iterable[str]:
    """Notes on the smallest effect of interest of endpoints for which none is registered."""
    for endpoint in _endpoints_of(claim):
        if endpoint not in ("time", "memory", "gradient_norm", "latency"):
            continue
        effect = smallest_effect(record, endpoint)
        if effect:
            amount = f"{format_significant(effect)} {ENDPOINT_UNITS[endpoint]}".strip()
            yield f"smallest effect of interest in {ENDPOINT_LABELS[endpoint]}: 5% of the baseline's mean, {amount}"


def describe_agreement(claim: Claim, word: str) -> str:
    """Describe what a verdict means for the claim's source: agreement, contradiction, or neither."""
    if not claim.source:
        return ""
    # A source that claims no gain is confirmed by equivalence; any other one is not contradicted by it.
    if word == "supported" or (word == "practically equivalent" and _claims_no_gain(claim)):
        return f"agrees with {claim.source}"
    if word == "contradicted":
        return f"contradicts {claim.source}"
    if word == "practically equivalent":
        return f"finds less than the smallest effect of interest of what {claim.source} says"
    return f"cannot tell from this data whether {claim.source} holds"


def withhold_verdict(claim: JudgedClaim) -> JudgedClaim:
    """Withhold the verdict of a claim on errors in a study in which no arm beats a constant answer."""
    if not set(_endpoints_of(claim.claim)) & set(ERROR_ENDPOINTS):
        return claim
    agreement = describe_agreement(claim.claim, "no verdict")
    return replace(
        claim, word="no verdict", finding=WITHHELD_FINDING, reason=WITHHELD_REASON, notes=(), agreement=agreement
    )


def _endpoints_of(claim: Claim) -> tuple[Endpoint, ...]:
    """The endpoints that a registered claim reads, each once, in order."""
    endpoints = [conjunct.endpoint for conjunct in claim.conjuncts]
    return tuple(dict.fromkeys(endpoint for endpoint in endpoints if not isinstance(endpoint, Metric)))


def _claims_no_gain(claim: Claim) -> bool:
    return all(isinstance(conjunct, DoesNotHelp) for conjunct in claim.conjuncts)


def summarize_verdicts(arms: Sequence[ArmSummary], claims: Sequence[JudgedClaim], missing_learning: str = "") -> str:
    """The verdicts of a study in one sentence; first, where no arm has learned, that it tells nothing of errors."""
    if missing_learning:
        others = [claim for claim in claims if claim.word != "no verdict"]
        return f"{missing_learning} {count_verdicts(others)}" if others else missing_learning
    if not any(math.isfinite(arm.mean_error.value) for arm in arms):
        others = [claim for claim in claims if claim.word not in OPEN_WORDS]  # on latency, which needs no training
        if others:
            return f"No trial has finished with a test error. {count_verdicts(others)}"
        return "No trial has finished with a test error, so there is nothing to compare yet."
    if not claims:
        shown = ": the differences are shown without a verdict" if len(arms) > 1 else ""
        return f"No claim was registered{shown}."
    return count_verdicts(claims)


def count_verdicts(claims: Sequence[JudgedClaim] | Sequence[Verdict]) -> str:
    """The verdict on one claim with its finding; of several, how many there are of each word."""
    if len(claims) == 1:
        return f"{claims[0].word.capitalize()}. {claims[0].finding}."
    counts = Counter(claim.word for claim in claims)
    if len(counts) == 1:
        subject = "Both claims" if len(claims) == 2 else f"All {len(claims)} claims"
        return f"{subject} are {claims[0].word}."
    counted = []
    for word in VERDICT_ORDER:
        if counts[word]:
            counted.append(f"{counts[word]} {'is' if counts[word] == 1 else 'are'} {word}")
    return f"Of {len(claims)} claims, {join_words(counted)}."
