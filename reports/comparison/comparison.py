"""The comparison of a study's arms: all content of a report, computed once from its record.

Pure: the same record gives the same comparison, which is rendered as HTML, Markdown, LaTeX and CSV.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ablations import ERROR_ENDPOINTS, Claim, Endpoint
from reports.analysis.arms import ArmDifference, ArmSummary, summarize_arms
from reports.analysis.chance import ConstantAnswer, constant_answer, describe_missing_learning, identical_arms
from reports.analysis.classes.confusions import Confusions, summarize_confusions
from reports.analysis.confounds import network_changes_between
from reports.analysis.endpoints import endpoint_values, lost_to_divergence, value_resolution
from reports.analysis.factorial_effects import FactorialAnalysis, analyze_factorial
from reports.analysis.integrity import IntegrityCheck, check_pairing
from reports.analysis.interim import InterimSchedule, confidence_level, interim_schedule, study_alpha
from reports.analysis.placebos import select_arms, without_placebos
from reports.analysis.sensitivity import (
    MAX_DIFFERENCE,
    MisclassifiedBySeed,
    SeedPair,
    describe_sensitivity,
    misclassified_examples,
    seed_image_interval,
    seed_pairs,
)
from reports.analysis.trials import (
    TrialFailure,
    dependency_trials,
    find_failures,
    planned_trials,
    summarize_environments,
)
from reports.analysis.tuning_budgets import TuningSummary, summarize_tuning, to_tuned_record
from reports.comparison.cautions import collect_cautions
from reports.comparison.claims import (
    OPEN_WORDS,
    JudgedClaim,
    count_verdicts,
    judge_record,
    summarize_verdicts,
    to_judged_claim,
    withhold_verdict,
)
from reports.comparison.components import ComponentAnalysis, analyze_components
from reports.comparison.controls import JudgedControl, judge_controls
from reports.comparison.replications import ReplicatedDifference, compare_with_replications
from reports.formatting import Interval, clip_interval
from reports.statistics import Contrast
from reports.statistics.families import FamilyEstimates, claimed_family, make_family
from studies.latency.measurement import LatencyMeasurement
from studies.records.registration import Registration
from studies.records.registration_log import RegistrationCheck
from studies.records.study_record import RecordedTrial, StudyRecord, StudyStart
from studies.settings import redact_credentials


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All content of a report.

    Attributes:
        registration: the study as registered at its first start.
        answer: the verdict in a sentence.
        cautions: what is missing, broken or mixed; read before anything else.
        arms: the registered arms, the baseline first.
        claims: the registered claims with their verdicts.
        differences: between arms: the registered ones, then the others to the baseline.
        factorial_analyses: main effects and interactions of a registered factorial, endpoint by endpoint.
        components: what each component of a generated design contributes.
        integrity_checks: what the paired trials shared.
        sensitivity: sentences on what these seeds could and could not have shown.
        registration_check: whether the copies of the registration agree; ``None`` where an earlier version made it.
        constant_answer: the largest class of the test split, always answered; ``None`` where it is unknown.
        failures: trials without a test error.
        trials: the planned trials, arm by arm.
        dependencies: trials that arms start from or evaluate, and that belong to no arm.
        environments: hardware and versions that the trials ran on.
        starts: every start of the study.
        tracking_uri: where the record was read, without credentials.
        interim_schedule: the registered interim analyses of a sequential study.
        tuned: the comparison where every arm's recipe was tuned.
        replications: measured differences beside those of public replications.
        controls: the placebo arms with their verdicts.
        latency: of the arms' networks, as measured last; ``None`` where it was not.
        confusions: answers by true class, arm by arm; ``None`` where no predictions were stored.
        paired_examples: where arms evaluate networks that others trained, an arm and the baseline under each seed.
    """

    registration: Registration
    answer: str
    cautions: tuple[str, ...]
    arms: tuple[ArmSummary, ...]
    claims: tuple[JudgedClaim, ...]
    differences: tuple[ArmDifference, ...]
    factorial_analyses: tuple[FactorialAnalysis, ...]
    integrity_checks: tuple[IntegrityCheck, ...]
    sensitivity: tuple[str, ...]
    failures: tuple[TrialFailure, ...]
    trials: tuple[RecordedTrial, ...]
    dependencies: tuple[RecordedTrial, ...]
    environments: tuple[tuple[str, str], ...]
    starts: tuple[StudyStart, ...]
    tracking_uri: str
    run_id: str
    experiment_id: str
    interim_schedule: InterimSchedule | None = None
    tuned: TunedComparison | None = None
    paired_examples: tuple[SeedPair, ...] = ()
    constant_answer: ConstantAnswer | None = None
    registration_check: RegistrationCheck | None = None
    controls: tuple[JudgedControl, ...] = ()
    replications: tuple[ReplicatedDifference, ...] = ()
    confusions: Confusions | None = None
    components: ComponentAnalysis | None = None
    latency: LatencyMeasurement | None = None

    def __repr__(self) -> str:
        return f"<Comparison of {len(self.arms)} arms of {self.registration.study}: {self.answer}>"

    @property
    def confidence_level(self) -> str:
        """Confidence of the simultaneous intervals, as printed."""
        return confidence_level(self.registration)

    @property
    def is_answer_a_verdict(self) -> bool:
        """Whether the answer is the verdict on the one claim, and says no more."""
        return len(self.claims) == 1 and self.answer == count_verdicts(self.claims)

    @property
    def has_errors(self) -> bool:
        """Whether any arm has an error."""
        return any(math.isfinite(arm.mean_error.value) for arm in self.arms)


def compare_arms(record: StudyRecord, further_cautions: Iterable[str] = ()) -> Comparison:
    """Compare the arms of a recorded study under the shared recipe and, where tuned, under tuned recipes.

    Args:
        further_cautions: what is known beside the record, as from a calibration; read before what the record tells.
    """
    shared = _compare_recipe(record)
    shared = replace(shared, cautions=(*further_cautions, *shared.cautions))
    if record.tuning is None:
        return shared
    summary = summarize_tuning(record.registration, record.tuning)
    # Unequal tuning would favor an arm: then there is no comparison, only the reasons.
    tuned = None if summary.refusal_reasons else _compare_recipe(to_tuned_record(record, record.tuning))
    tuned_words = {claim.claim: claim.word for claim in tuned.claims} if tuned else {}
    claims = []
    for claim in shared.claims:
        claims.append(replace(claim, under_tuning=_describe_tuned_verdict(tuned_words, claim, summary)))
    return replace(
        shared,
        claims=tuple(claims),
        cautions=(*summary.refusal_reasons, *summary.untrained_arms.values(), *shared.cautions),
        tuned=TunedComparison(tuning_summary=summary, comparison=tuned),
    )


@dataclass(frozen=True, kw_only=True)
class TunedComparison:
    """Comparison of arms under tuned recipes, and the tuning that led to them.

    Attributes:
        comparison: of the arms under their own recipes; ``None`` where the tuning was not equal.
    """

    tuning_summary: TuningSummary
    comparison: Comparison | None


def unresolved(record: StudyRecord) -> tuple[str, ...]:
    """Sentences of registered claims that are open under the shared recipe or under tuned ones.

    Claims on latency alone are left out: it is measured after the study, and no seed resolves them.
    """
    shared = compare_arms(record)
    claims = list(shared.claims)  # a claim may be open under either recipe
    if shared.tuned and shared.tuned.comparison:
        claims += shared.tuned.comparison.claims
    open_claims = [claim for claim in claims if claim.word in OPEN_WORDS and claim.claim.endpoints != ("latency",)]
    return tuple(dict.fromkeys(claim.sentence for claim in open_claims))


def _describe_tuned_verdict(words: Mapping[Claim, str], claim: JudgedClaim, summary: TuningSummary) -> str:
    if claim.claim not in words:
        return ""
    tuned_word = words[claim.claim]
    untrained = [summary.untrained_arms[arm] for arm in claim.claim.arms if arm in summary.untrained_arms]
    if untrained:
        return f"With every arm's recipe tuned alike: {tuned_word}, which says little. {' '.join(untrained)}"
    if tuned_word == claim.word:
        return f"With every arm's recipe tuned alike: {tuned_word} as well."
    return f"With every arm's recipe tuned alike: {tuned_word}. The verdict depends on the recipes."


def _compare_recipe(record: StudyRecord) -> Comparison:
    registration = record.registration
    trials, dependencies = planned_trials(record), dependency_trials(record)
    errors = endpoint_values(record, "test_error")
    schedule = interim_schedule(record)
    # Placebos are controls of the study, not arms of the question: they must not widen its intervals.
    claimed = without_placebos(record)
    verdicts = judge_record(claimed, schedule)
    misclassified = misclassified_examples(record)
    differences = (
        *_arm_differences(claimed, misclassified),
        *_control_differences(record, misclassified),
    )
    factorial_analyses = analyze_factorial(claimed, _factorial_endpoints(registration))
    arms = summarize_arms(record, trials, errors, differences)
    identical = identical_arms(record, trials)
    claims = tuple(to_judged_claim(record, verdict, identical) for verdict in verdicts)
    missing_learning = describe_missing_learning(record, trials)
    if missing_learning:
        # Where no arm learned, arms are alike for a reason that says nothing of the change.
        claims = tuple(withhold_verdict(claim) for claim in claims)
        factorial_analyses = tuple(replace(analysis, sentences=()) for analysis in factorial_analyses)
    checks = check_pairing(registration, trials, dependencies)
    controls = judge_controls(record)
    return Comparison(
        registration=registration,
        answer=summarize_verdicts(arms, claims, missing_learning),
        cautions=(
            *(control.sentence for control in controls if control.is_false_alarm),
            *collect_cautions(record, trials, dependencies, arms, checks, differences, identical),
        ),
        arms=arms,
        claims=claims,
        differences=differences,
        factorial_analyses=factorial_analyses,
        components=analyze_components(record, verdicts, claims),
        integrity_checks=checks,
        sensitivity=describe_sensitivity(
            claimed,
            endpoint_values(claimed, "test_error"),
            [difference for difference in differences if not difference.is_control],
            # Predictions of placebos are left out too: the noise of images is estimated over the arms.
            {arm: misclassified[arm] for arm in claimed.registration.arms},
        ),
        controls=controls,
        replications=compare_with_replications(
            registration,
            errors,
            _replicated_pairs(registration),
            num_lost=lost_to_divergence(record, "test_error").sum(axis=1).tolist(),
        ),
        failures=find_failures((*trials, *dependencies)),
        trials=trials,
        dependencies=dependencies,
        environments=summarize_environments((*trials, *dependencies)),
        # A report is shared more widely than the store: no credentials of URIs in it.
        starts=tuple(replace(start, command=redact_credentials(start.command)) for start in record.starts),
        tracking_uri=redact_credentials(record.tracking_uri),
        run_id=record.run_id,
        experiment_id=record.experiment_id,
        interim_schedule=schedule,
        paired_examples=seed_pairs(registration, misclassified),
        constant_answer=constant_answer(record),
        confusions=summarize_confusions(record),
        registration_check=record.registration_check,
        latency=record.latency,
    )


def _replicated_pairs(registration: Registration) -> tuple[tuple[str, str], ...]:
    """The differences that claims read, on any endpoint, then those of the other arms to the baseline."""
    claimed = [pair for claim in registration.claims for pair in claim.contrasts]
    others = [(registration.baseline, arm) for arm in registration.arms[1:]]
    return make_family([*claimed, *others]).pairs


def _factorial_endpoints(registration: Registration) -> tuple[Endpoint, ...]:
    """Endpoints of the factorial analysis: test error, and the other errors where a claim reads them."""
    claimed = {part.endpoint for claim in registration.claims for part in claim.conjuncts}
    return tuple(endpoint for endpoint in ERROR_ENDPOINTS if endpoint == "test_error" or endpoint in claimed)


def _control_differences(
    record: StudyRecord, misclassified: dict[str, MisclassifiedBySeed]
) -> tuple[ArmDifference, ...]:
    """Estimate the difference of every placebo to the baseline, each from these two arms alone."""
    differences = []
    for arm in record.registration.placebos:
        pair_record = select_arms(record, (record.registration.baseline, arm))
        pair_record = replace(pair_record, registration=replace(pair_record.registration, claims=()))
        for difference in _arm_differences(pair_record, misclassified):
            differences.append(replace(difference, is_control=True))
    return tuple(differences)


def _arm_differences(record: StudyRecord, misclassified: dict[str, MisclassifiedBySeed]) -> tuple[ArmDifference, ...]:
    """Estimate the differences that claims read, then those of the other arms to the baseline.

    The two are separate families of simultaneous intervals: exploratory differences do not widen registered ones.
    """
    registration, errors = record.registration, endpoint_values(record, "test_error")
    registered = claimed_family(registration.claims, "test_error")
    others = [arm for arm in registration.arms[1:] if not registered.has_pair(registration.baseline, arm)]
    exploratory = make_family((registration.baseline, arm) for arm in others)
    differences = []
    for family, is_registered in ((registered, True), (exploratory, False)):
        estimates = FamilyEstimates(
            errors,
            registration.arms,
            family,
            alpha=study_alpha(registration),
            resolution=value_resolution(registration, "test_error"),
            limit=MAX_DIFFERENCE,
        )
        for over, arm in family.pairs:
            seed_image = seed_image_interval(misclassified[over], misclassified[arm])
            differences.append(_arm_difference(record, estimates.pair(over, arm), is_registered, seed_image))
    return tuple(differences)


def _arm_difference(
    record: StudyRecord, contrast: Contrast, is_registered: bool, seed_image: tuple[Interval, float]
) -> ArmDifference:
    return ArmDifference(
        over=contrast.over,
        arm=contrast.arm,
        estimate=_clip_difference(Interval(value=contrast.estimate, low=contrast.low, high=contrast.high)),
        is_registered=is_registered,
        num_pairs=contrast.num_pairs,
        num_planned=contrast.num_planned,
        is_noisy=contrast.is_noisy,
        equivalence_margin=contrast.equivalence_margin,
        seed_image_interval=_widen_to_contrast(seed_image[0], contrast),
        image_standard_error=seed_image[1],
        network_changes=network_changes_between(record.registration, contrast.over, contrast.arm),
    )


def _widen_to_contrast(interval: Interval, contrast: Contrast) -> Interval:
    """Widen an interval over seeds and images to at least that over seeds alone.

    Images add variance, so a narrower interval is an artifact of its estimated components.
    """
    widened = replace(interval, low=min(interval.low, contrast.low), high=max(interval.high, contrast.high))
    return _clip_difference(widened)


def _clip_difference(interval: Interval) -> Interval:
    return clip_interval(interval, -MAX_DIFFERENCE, MAX_DIFFERENCE)
