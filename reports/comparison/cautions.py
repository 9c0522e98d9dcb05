"""Cautions that a reader must see before the verdicts: what is missing, broken, mixed or noisy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lightning_modules.specs.text import format_count, join_words, name_seeds
from reports.analysis.arms import ArmDifference, ArmSummary
from reports.analysis.chance import describe_identical_arms, describe_training
from reports.analysis.endpoints import endpoint_values
from reports.analysis.integrity import IntegrityCheck, describe_digest_mismatches
from reports.analysis.placebos import without_placebos
from reports.formatting import format_contrast, format_fixed, format_significant
from reports.statistics.families import study_family
from reports.statistics.power import FamilyDesign, variance_excess
from studies.records.registration import Registration
from studies.records.registration_log import RegistrationCheck
from studies.records.results import UNTRAINED_STATUSES
from studies.records.study_record import RecordedTrial, StudyRecord, StudyStart

# With ten seeds, unequal correlation brings at most 6.2% of wrong studies (docs/explanation/statistics.md).
SUFFICIENT_SEEDS = 10
MAX_LISTED_DAMAGES = 5


def collect_cautions(
    record: StudyRecord,
    trials: Sequence[RecordedTrial],
    dependencies: Sequence[RecordedTrial],
    arms: Sequence[ArmSummary],
    checks: Sequence[IntegrityCheck],
    differences: Sequence[ArmDifference],
    identical_groups: Sequence[tuple[str, ...]],
) -> tuple[str, ...]:
    """Collect all cautions, the most severe kinds first.

    Args:
        identical_groups: of arms with equal results in every seed.
    """
    every_trial = (*trials, *dependencies)
    return (
        *_damage_cautions(record),
        *_foreign_run_cautions(record),
        *_registration_cautions(record.registration_check),
        *_late_registration_cautions(record.registration),
        *_changed_claim_cautions(record),
        *_budget_cautions(record),
        *_missing_trial_cautions(record, trials, arms),
        *_lost_dependency_cautions(record.registration, dependencies),
        *_pairing_cautions(checks),
        *(f"{describe_identical_arms(arms)}." for arms in identical_groups),
        *describe_digest_mismatches(every_trial),
        *_unplanned_trial_cautions(record, every_trial),
        *_added_seed_cautions(record),
        *_noise_cautions(differences),
        *_correlation_cautions(record),
        *_uncommitted_code_cautions(record.starts),
        *_unlisted_code_cautions(record.starts, every_trial),
    )


def _damage_cautions(record: StudyRecord) -> Iterator[str]:
    """Stored content that could not be used, and is left out of all that follows."""
    yield from record.damages[:MAX_LISTED_DAMAGES]
    num_more = len(record.damages) - MAX_LISTED_DAMAGES
    if num_more > 0:
        yield f"{format_count(num_more, 'more file')} cannot be used: `ablate doctor --deep` names each."


def _foreign_run_cautions(record: StudyRecord) -> Iterator[str]:
    if not record.is_own:
        yield (
            f"This run was started by {record.owner or 'an unknown user'}, with another runs folder than the one that "
            "this report was compiled in."
        )


def _registration_cautions(check: RegistrationCheck | None) -> Iterator[str]:
    """Copies of the registration that do not match, and amendments; added seeds have a caution of their own."""
    if check is None:
        return
    for mismatch in check.mismatches:
        yield f"The registration does not match: {mismatch}."
    for entry, changes in check.amendments:
        others = [change for change in changes if not change.startswith(("seed added", "seeds added"))]
        if others:
            yield (
                f"The registration was amended by {entry.author} on {entry.time[:10]}, {entry.results_seen}: "
                f"{'; '.join(others)}."
            )


def _late_registration_cautions(registration: Registration) -> Iterator[str]:
    """Claims that were registered when results of the same setups and seeds existed already, under any name."""
    if registration.num_visible:
        planned = format_count(registration.num_planned, "result")
        yield (
            f"These claims were registered after {registration.num_visible} of {planned} could be seen: trials of the "
            "same settings and seeds had ended before."
        )


def _changed_claim_cautions(record: StudyRecord) -> Iterator[str]:
    """Claims that the ablation's file made at a later start, and those that it no longer made."""
    registered = [claim.sentence for claim in record.registration.claims]
    since = f" on {record.registration.registered[:10]}" if record.registration.registered else " at the first start"
    known: set[tuple[str, ...]] = {tuple(registered)}
    for start in record.starts:
        if start.claims is None or start.claims in known:
            continue
        known.add(start.claims)
        changes = []
        ignored = [sentence for sentence in start.claims if sentence not in registered]
        dropped = [sentence for sentence in registered if sentence not in start.claims]
        if ignored:
            changes.append(f"not judged, as not registered: {' / '.join(ignored)}")
        if dropped:
            changes.append(f"judged, although the file no longer made it: {' / '.join(dropped)}")
        if changes:
            yield (
                f"The claims judged are those registered{since}. The start of {start.time[:10]} declared others "
                f"({'; '.join(changes)})."
            )


def _budget_cautions(record: StudyRecord) -> Iterator[str]:
    """A stop for want of time or money, which depends on no result."""
    if record.stop_reason:
        yield f"The study {record.stop_reason}."


def _missing_trial_cautions(
    record: StudyRecord, trials: Sequence[RecordedTrial], arms: Sequence[ArmSummary]
) -> Iterator[str]:
    registration = record.registration
    never_started = "not started yet" if record.stop_reason else "never started, or were deleted from the store"
    num_planned = len(registration.arms) * len(registration.seeds)
    cancelled = [trial.seed for trial in trials if trial.state == "cancelled"]
    owner, noun = "its" if len(cancelled) == 1 else "their", "seed" if len({*cancelled}) == 1 else "seeds"
    for count, outcome in (
        (sum(arm.num_running for arm in arms), "still running: what follows is provisional"),
        (sum(arm.num_not_started for arm in arms), never_started),
        (sum(arm.num_failed for arm in arms), "failed"),
        (sum(arm.num_cancelled for arm in arms), f"cancelled: the pairs of {owner} {noun} are missing"),
        (sum(arm.num_nonfinite for arm in arms), "non-finite"),
        (sum(arm.num_without_error for arm in arms), "finished without a finite test error"),
    ):
        if count:
            yield f"{count} of {format_count(num_planned, 'planned trial')} {outcome}."
    at_chance = [trial for trial in trials if trial.state == "at chance"]
    if at_chance:
        outcome = f"at chance{describe_training(at_chance)}: too few epochs?"
        yield f"{len(at_chance)} of {format_count(num_planned, 'planned trial')} {outcome}"
    if len(registration.seeds) == 1:
        yield "One seed: two trained networks can be told apart, two methods cannot."
    empty = [arm.name for arm in arms if arm.num_finished == arm.num_without_error]
    # With no test error at all, the answer itself says so.
    if empty and len(empty) < len(arms):
        pronoun = "it" if len(empty) == 1 else "them"
        yield f"No test error for {join_words(empty, max_words=6)}: nothing can be said of {pronoun}."


def _lost_dependency_cautions(registration: Registration, dependencies: Sequence[RecordedTrial]) -> Iterator[str]:
    """Source and evaluated networks that failed or did not train, with the arms that need them."""
    lost_seeds: dict[tuple[str, str], list[int]] = {}
    for trial in dependencies:
        if trial.state in ("failed", *UNTRAINED_STATUSES):
            lost_seeds.setdefault((trial.arm, trial.state), []).append(trial.seed)
    for (network, state), seeds in lost_seeds.items():
        evaluating = [arm for arm in registration.arms if network in registration.tested.get(arm, ())]
        starting = [arm for arm in registration.arms if network in registration.source_chain(arm)]
        arms = evaluating or starting
        ending = "s" if len(arms) == 1 else ""  # of the verb
        relation = f"evaluate{ending} it" if evaluating else f"start{ending} from it"
        outcome = "failed" if state == "failed" else f"is {state}"
        seeds_text = name_seeds(seeds, max_seeds=10)
        yield f"{network} {outcome} under {seeds_text}; {join_words(arms, max_words=6)} {relation}."


def _pairing_cautions(checks: Sequence[IntegrityCheck]) -> Iterator[str]:
    for check in checks:
        if check.state == "broken":
            yield f"The pairing is broken: {check.warning}."


def _unplanned_trial_cautions(record: StudyRecord, trials: Sequence[RecordedTrial]) -> Iterator[str]:
    # Trials of a former registration, or logged twice by two drivers.
    num_extra = len(record.trials) - len(trials)
    if num_extra:
        pronoun = "it is" if num_extra == 1 else "they are"
        yield f"{format_count(num_extra, 'trial')} of unregistered arms or seeds, or repeated: {pronoun} left out."


def _added_seed_cautions(record: StudyRecord) -> Iterator[str]:
    """Seeds that a later start added after results could be seen; those that were registered before are fine."""
    # Adding seeds until a result is significant raises the error rate above 5% (optional stopping).
    registered = {*record.registration.seeds} if record.registration.looks else _seeds_before_results(record)
    known: set[int] = set()
    for number, start in enumerate(record.starts, 1):
        added = sorted(set(start.seeds) - known - registered)
        known |= set(start.seeds)
        if number > 1 and added:
            seeds = join_words(map(str, added))
            yield (
                f"Start {number} added {format_count(len(added), 'seed')} ({seeds}), when results could be seen: if "
                "they decided a verdict, it is wrong more often than 5%."
            )


def _seeds_before_results(record: StudyRecord) -> set[int]:
    """The seeds that were registered before any result could be seen, if all of them were trained.

    A later start adds none by training them. But of many registered seeds, a user may train some, look, and train more
    until a result suits.
    """
    check = record.registration_check
    if check is None or check.state == "does not match":
        return set()
    seeds: set[int] = set()
    for entry in check.entries:
        if not entry.num_results:
            seeds.update(entry.declaration.get("seeds", ()))
    trained = {seed for start in record.starts for seed in start.seeds}
    return seeds if seeds <= trained else set()


def _noise_cautions(differences: Sequence[ArmDifference]) -> Iterator[str]:
    pairs = [format_contrast(difference.over, difference.arm) for difference in differences if difference.is_noisy]
    if pairs:
        yield f"Unequal noise: the intervals of {join_words(pairs, max_words=3)} were widened to those pairs' own."


def _correlation_cautions(record: StudyRecord) -> Iterator[str]:
    """Differences that vary more than arms of equal noise and correlation explain: their intervals are too narrow."""
    record = without_placebos(record)
    registration = record.registration
    family = study_family(registration.claims, registration.arms)
    if not len(family):
        return
    design = FamilyDesign.of_family(family, registration.arms)
    excess = variance_excess(endpoint_values(record, "test_error"), design)
    if excess is None or not excess.is_unequal or excess.num_seeds >= SUFFICIENT_SEEDS:
        return
    low, high = (format_fixed(correlation, 2) for correlation in excess.correlations)
    yield (
        f"Unequal correlation over seeds: the differences that are judged have {format_significant(excess.ratio, 2)} "
        "times the variance that arms of equal noise and correlation would give them (above "
        f"{format_significant(excess.limit, 2)} in 1% of such studies; measured correlations of two arms {low} to "
        f"{high}). Their intervals may be too narrow: verdicts are then wrong in up to 12% of studies with two seeds, "
        "9% with three and 8% with five."
    )


def _uncommitted_code_cautions(starts: Sequence[StudyStart]) -> Iterator[str]:
    num_unclean = sum(not start.clean for start in starts)
    if num_unclean:
        yield f"{num_unclean} of {format_count(len(starts), 'start')} ran code that was not committed."


def _unlisted_code_cautions(starts: Sequence[StudyStart], trials: Sequence[RecordedTrial]) -> Iterator[str]:
    """Trials whose code is that of none of the listed starts, as of one that was killed before it was recorded."""
    revisions = {start.revision for start in starts}
    revision_states = {(start.revision, "clean" if start.clean else "uncommitted changes") for start in starts}
    # Starts of `ablate sync` train nothing and name no code; those of older records name none either.
    codes = {start.code for start in starts if start.code}
    is_every_code_known = codes and all(start.code or start.claims is None for start in starts)
    unlisted: dict[str, int] = {}
    for trial in trials:
        if not trial.revision:
            continue
        is_listed = trial.revision in revisions
        if trial.working_tree:
            is_listed = (trial.revision, trial.working_tree) in revision_states
        code = str(trial.result.digests.get("code", "")) if trial.result else ""
        if is_listed and is_every_code_known and trial.working_tree and code:
            is_listed = code in codes
        if not is_listed:
            working_tree = f", {trial.working_tree}" if trial.working_tree == "uncommitted changes" else ""
            description = f"revision {trial.revision}{working_tree}"
            unlisted[description] = unlisted.get(description, 0) + 1
    if unlisted:
        details = join_words(f"{count} by {description}" for description, count in unlisted.items())
        yield (
            f"{format_count(sum(unlisted.values()), 'trial')} ran code of no start that is listed ({details}): that "
            "start was not recorded, or its code was changed while it ran."
        )
