"""What a report says of a study, computed once from its record and rendered many times."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ablations import ENDPOINT_WORDS, AllOf, Claim, DoesNotHelp, Endpoint
from reports.arms import ArmRow, PairDifference, arm_rows
from reports.conduct import Check, Failure, donors_of, environments, failures, mixtures, pairing, trials_of
from reports.crossing import Crossing, crossings
from reports.endpoints import UNITS, Values, smallest_effect, untrained, values
from reports.examples import SeedPair, seed_pairs
from reports.limits import Wrong, crossed, limits, wrong_predictions
from reports.looks import Looks, alpha_of, judged, level, looks_of
from reports.moved import moved_between
from reports.numbers import Estimate, arrow, listed, plural, significant, typographic
from reports.statistics import Contrast, Evidence, Verdict, contrasts, judge
from reports.statistics.readers import ALPHA
from reports.tuning import Budgets, as_tuned, budgets
from studies.records import Registration, Start, StudyRecord, TrialRecord
from studies.settings import without_credentials


@dataclass(frozen=True, kw_only=True)
class JudgedClaim:
    """A registered claim and its verdict.

    Attributes:
        sentence: the claim in words.
        word: ``supported``, ``contradicted``, ``practically equivalent`` or ``inconclusive``.
        reason: one line that says why.
        caveats: what keeps its two sides from being like for like; they stand beside the verdict.
        notes: what else must be known to read it.
        source: who made the claim; empty for the user's own.
        agreement: what this study says to that source; empty where there is none.
        bundles: the contrasts that the verdict reads and that are not clean, or not known to be, with what moved.
        under_tuning: what comes out where every arm's recipe is tuned alike; empty where none was.
    """

    claim: Claim
    sentence: str
    word: str
    reason: str
    caveats: tuple[str, ...]
    notes: tuple[str, ...]
    source: str
    agreement: str
    bundles: tuple[str, ...]
    under_tuning: str = ""

    @property
    def beside(self) -> tuple[str, ...]:
        """All that must be known beside the verdict, what tuning changes and the caveats first."""
        return (*filter(None, [self.under_tuning]), *self.caveats, *self.notes, *self.bundles)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All that a report shows.

    Attributes:
        registration: the study as registered at its first start.
        answer: the verdict in a sentence.
        cautions: what a reader must know before anything else: what is missing, broken or mixed.
        arms: the registered arms, the baseline first.
        claims: the registered claims with their verdicts.
        differences: between arms: the registered ones, then the others to the baseline.
        effects: main effects and interactions of a registered factorial, endpoint by endpoint.
        pairing: what the paired trials shared.
        limits: what these seeds could and could not have shown.
        failures: trials without a figure.
        trials: the planned trials, arm by arm.
        donors: the trials that arms start from or test, and that are no arm's own.
        examples: where arms test what others have trained, an arm and the baseline under each seed, by example.
        environments: what the trials ran on.
        starts: every start of the study.
        tracking: where the record was read, without credentials.
        looks: the registered looks of a sequential study.
        tuned: the other answer, where every arm's recipe was tuned.
    """

    registration: Registration
    answer: str
    cautions: tuple[str, ...]
    arms: tuple[ArmRow, ...]
    claims: tuple[JudgedClaim, ...]
    differences: tuple[PairDifference, ...]
    effects: tuple[Crossing, ...]
    pairing: tuple[Check, ...]
    limits: tuple[str, ...]
    failures: tuple[Failure, ...]
    trials: tuple[TrialRecord, ...]
    donors: tuple[TrialRecord, ...]
    environments: tuple[tuple[str, str], ...]
    starts: tuple[Start, ...]
    tracking: str
    run_id: str
    experiment_id: str
    looks: Looks | None = None
    tuned: TunedAnswer | None = None
    examples: tuple[SeedPair, ...] = ()

    @property
    def level(self) -> str:
        """The confidence of the simultaneous intervals, as printed."""
        return level(self.registration)

    @property
    def measured(self) -> bool:
        """Whether any arm has an error."""
        return any(math.isfinite(arm.error.value) for arm in self.arms)


def compare(record: StudyRecord) -> Comparison:
    """What the record says: arms, verdicts, conduct and limits. Pure: the same record gives the same comparison."""
    shared = _compared(record)
    if record.tuning is None:
        return shared
    spent = budgets(record.registration, record.tuning)
    other = None if spent.refused else _compared(as_tuned(record, record.tuning))
    words = {claim.claim: claim.word for claim in other.claims} if other else {}
    claims = tuple(replace(claim, under_tuning=_under_tuning(words, claim)) for claim in shared.claims)
    return replace(
        shared,
        claims=claims,
        cautions=(*spent.refused, *shared.cautions),
        tuned=TunedAnswer(budgets=spent, comparison=other),
    )


@dataclass(frozen=True, kw_only=True)
class TunedAnswer:
    """What came out where every arm's recipe was tuned alike.

    Attributes:
        comparison: of the arms under their own recipes; ``None`` where the budgets do not allow one.
    """

    budgets: Budgets
    comparison: Comparison | None


def unresolved(record: StudyRecord) -> tuple[str, ...]:
    """The sentences of the registered claims that the record leaves open, under the shared recipe or tuned ones."""
    shared = compare(record)
    answers = [shared, *([shared.tuned.comparison] if shared.tuned and shared.tuned.comparison else [])]
    open_claims = (claim.sentence for each in answers for claim in each.claims if claim.word == "inconclusive")
    return tuple(dict.fromkeys(open_claims))


def _under_tuning(words: Mapping[Claim, str], claim: JudgedClaim) -> str:
    if claim.claim not in words:
        return ""
    other = words[claim.claim]
    if other == claim.word:
        return f"With every arm's recipe tuned alike: {other} as well."
    return f"With every arm's recipe tuned alike: {other}. The verdict depends on the recipes."


def _compared(record: StudyRecord) -> Comparison:
    registration = record.registration
    trials, donors = trials_of(record), donors_of(record)
    errors = values(record, "test_error")
    looks = looks_of(record)
    verdicts = _verdicts(record, looks)
    wrong = wrong_predictions(record)
    differences = _differences(record, errors, wrong)
    arms = arm_rows(record, trials, errors, differences)
    claims = tuple(_judged(record, verdict) for verdict in verdicts)
    checks = pairing(registration, trials, donors)
    return Comparison(
        registration=registration,
        answer=_answer(arms, claims),
        cautions=_cautions(record, trials, donors, arms, checks, differences),
        arms=arms,
        claims=claims,
        differences=differences,
        effects=crossings(record, _crossed_endpoints(registration)),
        pairing=checks,
        limits=limits(record, errors, differences, wrong),
        failures=failures((*trials, *donors)),
        trials=trials,
        donors=donors,
        environments=environments((*trials, *donors)),
        starts=tuple(replace(start, command=without_credentials(start.command)) for start in record.starts),
        tracking=without_credentials(record.tracking_uri),
        run_id=record.run_id,
        experiment_id=record.experiment_id,
        looks=looks,
        examples=seed_pairs(registration, wrong),
    )


def _crossed_endpoints(registration: Registration) -> tuple[Endpoint, ...]:
    """Test error, and training error where a claim is about it."""
    claimed = {part.endpoint for claim in registration.claims for part in parts_of(claim)}
    return ("test_error", "training_error") if "training_error" in claimed else ("test_error",)


def _verdicts(record: StudyRecord, looks: Looks | None) -> tuple[Verdict, ...]:
    if not record.registration.claims:
        return ()
    return judged(record, looks, _judged_at) if looks else _judged_at(record, ALPHA)


def _judged_at(record: StudyRecord, alpha: float) -> tuple[Verdict, ...]:
    claims = record.registration.claims
    endpoints = dict.fromkeys(part.endpoint for claim in claims for part in parts_of(claim))
    evidence = {
        endpoint: Evidence(
            values=values(record, endpoint),
            untrained=untrained(record, endpoint),
            smallest_effect=smallest_effect(record, endpoint),
            unit=UNITS[endpoint],
        )
        for endpoint in endpoints
    }
    return judge(claims, record.registration.arms, evidence, alpha=alpha)


def _differences(record: StudyRecord, errors: Values, wrong: dict[str, Wrong]) -> tuple[PairDifference, ...]:
    """One interval per pair of arms: the registered family's where a claim reads it, else one of the rest's own."""
    registration = record.registration
    parts = [part for claim in registration.claims for part in parts_of(claim) if part.endpoint == "test_error"]
    registered = tuple(dict.fromkeys(pair for part in parts for pair in part.contrasts))
    to_baseline = ((registration.baseline, arm) for arm in registration.arms[1:])
    rest = tuple(pair for pair in to_baseline if pair not in registered)
    return tuple(
        _difference(record, contrast, is_registered, crossed(wrong[contrast.over], wrong[contrast.arm]))
        for family, is_registered in ((registered, True), (rest, False))
        for contrast in contrasts(errors, registration.arms, family, alpha=alpha_of(registration))
    )


def _difference(
    record: StudyRecord, contrast: Contrast, registered: bool, over_images: tuple[Estimate, float]
) -> PairDifference:
    return PairDifference(
        over=contrast.over,
        arm=contrast.arm,
        estimate=Estimate(value=contrast.estimate, low=contrast.low, high=contrast.high),
        registered=registered,
        pairs=contrast.pairs,
        planned=contrast.planned,
        noisy=contrast.noisy,
        equivalent_from=contrast.smallest_equivalence,
        crossed=_at_least_as_wide(over_images[0], contrast),
        image_noise=over_images[1],
        moved=moved_between(record.registration, contrast.over, contrast.arm),
    )


def _at_least_as_wide(over_images: Estimate, contrast: Contrast) -> Estimate:
    """Images are one more source of chance: with them, no interval is narrower than over seeds alone."""
    return replace(over_images, low=min(over_images.low, contrast.low), high=max(over_images.high, contrast.high))


def _costs_compared(record: StudyRecord, claim: Claim) -> Iterable[str]:
    """What a claim on time or memory must say of where its trials ran."""
    if not {part.endpoint for part in parts_of(claim)} & {"time", "memory"}:
        return
    named = {*claim.arms, *(donor for arm in claim.arms for donor in record.registration.chain(arm))}
    trials = [trial for trial in record.trials if trial.arm in named and trial.result and trial.state == "finished"]
    devices = {str(trial.result.environment.get("device_name", "")) for trial in trials if trial.result}
    if len(devices) > 1:
        yield f"not comparable: measured on different machines ({listed(sorted(devices))})"
    elsewhere = {trial.arm for trial in trials if trial.reused_from}
    if elsewhere and not elsewhere >= set(claim.arms):
        yield f"the trials of {listed(sorted(elsewhere))} were taken over from another study: perhaps another load"


def _judged(record: StudyRecord, verdict: Verdict) -> JudgedClaim:
    claim = verdict.claim
    caveats = dict.fromkeys(each.caveat for each in (claim, *parts_of(claim)) if each.caveat)
    moved = ((arrow(*pair), moved_between(record.registration, *pair)) for pair in dict.fromkeys(claim.contrasts))
    return JudgedClaim(
        claim=claim,
        sentence=claim.sentence,
        word=verdict.word,
        reason=typographic(verdict.reason),
        caveats=tuple(f"Not like for like: {caveat.rstrip('.')}." for caveat in caveats),
        notes=(
            *map(typographic, verdict.notes),
            *_relative_effects(record, claim),
            *_costs_compared(record, claim),
        ),
        source=claim.source,
        agreement=agreement(claim, verdict.word),
        bundles=tuple(f"{pair}: {found.words}" for pair, found in moved if not found.settled),
    )


def _relative_effects(record: StudyRecord, claim: Claim) -> Iterable[str]:
    """What counts as small for the endpoints that have no registered smallest effect."""
    for endpoint in dict.fromkeys(part.endpoint for part in parts_of(claim)):
        if endpoint in ("time", "memory", "gradient_norm") and (effect := smallest_effect(record, endpoint)):
            amount = f"{significant(effect)} {UNITS[endpoint]}".strip()
            yield f"smallest effect of interest in {ENDPOINT_WORDS[endpoint]}: 5% of the baseline's mean, {amount}"


def agreement(claim: Claim, word: str) -> str:
    """What a verdict says to the claim's source: it agrees, contradicts, or cannot tell from this data."""
    if not claim.source:
        return ""
    if word == "supported" or (word == "practically equivalent" and _claims_no_gain(claim)):
        return f"agrees with {claim.source}"
    if word == "contradicted":
        return f"contradicts {claim.source}"
    if word == "practically equivalent":
        return f"finds less than the smallest effect of interest of what {claim.source} says"
    return f"cannot tell from this data whether {claim.source} holds"


def parts_of(claim: Claim) -> tuple[Claim, ...]:
    """The parts of a conjunction; any other claim is its only part."""
    return claim.parts if isinstance(claim, AllOf) else (claim,)


def _claims_no_gain(claim: Claim) -> bool:
    return all(isinstance(part, DoesNotHelp) for part in parts_of(claim))


def _answer(arms: Sequence[ArmRow], claims: Sequence[JudgedClaim]) -> str:
    if not any(math.isfinite(arm.error.value) for arm in arms):
        return "No trial has finished with a test error, so there is nothing to compare yet."
    if not claims:
        return "No claim was registered: the differences are shown without a verdict."
    if len(claims) == 1:
        return f"{claims[0].word.capitalize()}: {claims[0].sentence}"
    counts = Counter(claim.word for claim in claims)
    told = [f"{count} {'is' if count == 1 else 'are'} {word}" for word, count in sorted(counts.items(), key=_by_word)]
    if len(counts) == 1:
        return f"{'Both' if len(claims) == 2 else f'All {len(claims)}'} claims are {claims[0].word}."
    return f"Of {len(claims)} claims, {listed(told)}."


WORDS = ("supported", "practically equivalent", "contradicted", "inconclusive")


def _by_word(item: tuple[str, int]) -> int:
    return WORDS.index(item[0])


def _cautions(
    record: StudyRecord,
    trials: Sequence[TrialRecord],
    donors: Sequence[TrialRecord],
    arms: Sequence[ArmRow],
    checks: Sequence[Check],
    differences: Sequence[PairDifference],
) -> tuple[str, ...]:
    return (
        *_incomplete(record.registration, arms),
        *_donors_lost(record.registration, donors),
        *(f"The pairing is broken: {check.alarm}." for check in checks if check.state == "broken"),
        *mixtures((*trials, *donors)),
        *_unplanned(record, (*trials, *donors)),
        *_extended(record.starts, record.registration.seeds if record.registration.looks else ()),
        *_noisy(differences),
        *_unclean(record.starts),
    )


def _extended(starts: Sequence[Start], registered: Iterable[int]) -> Iterable[str]:
    """Seeds that a later start added: whoever adds them has seen results. Those of registered looks are none."""
    for number, start in enumerate(starts[1:], 2):
        before = {seed for earlier in starts[: number - 1] for seed in earlier.seeds}
        added = sorted(set(start.seeds) - before - set(registered))
        if added:
            yield (
                f"Start {number} added {plural(len(added), 'seed')} ({listed([str(seed) for seed in added])}), when "
                "results could be seen: where they decided it, verdicts are wrong more often than 5%."
            )


def _incomplete(registration: Registration, arms: Sequence[ArmRow]) -> tuple[str, ...]:
    said = []
    for count, words in (
        (sum(arm.running for arm in arms), "still running: what follows is provisional"),
        (sum(arm.absent for arm in arms), "never started, or were deleted from the store"),
        (sum(arm.failed for arm in arms), "failed"),
        (sum(arm.diverged for arm in arms), "diverged"),
        (sum(arm.without_figure for arm in arms), "finished without a finite test error"),
    ):
        if count:
            planned = len(registration.arms) * len(registration.seeds)
            said.append(f"{count} of {plural(planned, 'planned trial')} {words}.")
    if len(registration.seeds) == 1:
        said.append("One seed: two trained networks can be told apart, two methods cannot.")
    empty = [arm.name for arm in arms if arm.finished == arm.without_figure]
    if empty and len(empty) < len(arms):
        said.append(f"No figure for {listed(empty)}: nothing can be said of {'it' if len(empty) == 1 else 'them'}.")
    return tuple(said)


def _donors_lost(registration: Registration, donors: Sequence[TrialRecord]) -> Iterable[str]:
    """Donors that failed or diverged, with the arms that start from them or test them."""
    lost: dict[tuple[str, str], list[str]] = {}
    for trial in donors:
        if trial.state in ("failed", "diverged"):
            lost.setdefault((trial.arm, trial.state), []).append(str(trial.seed))
    for (donor, state), seeds in lost.items():
        tests = [arm for arm in registration.arms if donor in registration.tested.get(arm, ())]
        arms = tests or [arm for arm in registration.arms if donor in registration.chain(arm)]
        under = f"seed{'s' if len(seeds) > 1 else ''} {listed(seeds)}"
        verb = "starts" if len(arms) == 1 else "start"
        told = f"{'tests' if len(arms) == 1 else 'test'} it" if tests else f"{verb} from it"
        yield f"{donor} {state} under {under}; {listed(arms)} {told}."


def _unplanned(record: StudyRecord, trials: Sequence[TrialRecord]) -> tuple[str, ...]:
    extra = len(record.trials) - len(trials)
    if not extra:
        return ()
    what = f"{plural(extra, 'trial')} of unregistered arms or seeds, or repeated"
    return (f"{what}: {'it is' if extra == 1 else 'they are'} left out.",)


def _noisy(differences: Sequence[PairDifference]) -> tuple[str, ...]:
    pairs = [arrow(difference.over, difference.arm) for difference in differences if difference.noisy]
    if not pairs:
        return ()
    return (f"Unequal noise: the intervals of {listed(pairs)} were widened to those pairs' own.",)


def _unclean(starts: Sequence[Start]) -> tuple[str, ...]:
    unclean = sum(not start.clean for start in starts)
    if not unclean:
        return ()
    return (f"{unclean} of {plural(len(starts), 'start')} ran code that was not committed.",)
