"""Comparison of two runs of one study: their differences, and whether the verdicts agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lightning_modules.specs.errors import UserError
from lightning_modules.specs.text import format_count, join_words
from reports.analysis.setting_changes import ABSENT, collapse_changes
from reports.comparison.claims import OPEN_WORDS, JudgedClaim
from reports.comparison.comparison import Comparison, compare_arms
from reports.formatting import MISSING, NO_INTERVAL, Interval
from studies.records.study_record import RecordedTrial, StudyRecord

IN_ONE_RUN_ONLY = "in one only"
BOTH_INCONCLUSIVE = "both cannot tell"  # no agreement: neither run says anything


class DifferentStudiesError(UserError):
    """Raised for two runs that cannot be compared."""


@dataclass(frozen=True, kw_only=True)
class RunDifference:
    """One fact or setting in which two runs differ."""

    subject: str
    first: str
    other: str
    is_setting: bool = False


@dataclass(frozen=True, kw_only=True)
class ContrastInBothRuns:
    """A contrast in both runs.

    Attributes:
        sign_agreement: whether the intervals of both runs agree on the sign.
    """

    over: str
    arm: str
    first: Interval
    other: Interval
    sign_agreement: str


@dataclass(frozen=True, kw_only=True)
class ClaimInBothRuns:
    """A claim in both runs; a word is empty where the claim was not registered.

    Attributes:
        agreement: see :func:`compare_verdicts`.
    """

    sentence: str
    first: str
    other: str
    agreement: str


@dataclass(frozen=True, kw_only=True)
class TwoRunComparison:
    """Comparison of two runs of one study.

    Attributes:
        run_labels: names that distinguish the two.
        answer: agreement of the verdicts in one sentence.
        num_repeated: trials of equal fingerprint and seed in both.
        num_equal: those among them whose test errors are equal to the last digit.
        num_shared: those among them that are one and the same training, reused.
    """

    first: Comparison
    other: Comparison
    run_labels: tuple[str, str]
    answer: str
    differences: tuple[RunDifference, ...]
    contrasts: tuple[ContrastInBothRuns, ...]
    claims: tuple[ClaimInBothRuns, ...]
    num_repeated: int
    num_equal: int
    num_shared: int


def compare_runs(first: StudyRecord, other: StudyRecord) -> TwoRunComparison:
    """Compare two runs of one study.

    Raises:
        DifferentStudiesError: where they are of different studies, or one and the same run.
    """
    study, other_study = first.registration.study, other.registration.study
    if study != other_study:
        raise DifferentStudiesError(
            f"run {other.run_id} is of the study {other_study!r}, not of {study!r}: only two runs of one study can be "
            "compared."
        )
    if first.run_id == other.run_id:
        raise DifferentStudiesError(
            f"run {first.run_id} cannot be compared with itself; name another run of {study!r}."
        )
    first_comparison, other_comparison = compare_arms(first), compare_arms(other)
    claims = _pair_claims(first_comparison, other_comparison)
    num_repeated, num_equal, num_shared = 0, 0, 0
    for trial, repetition in _find_repeated_trials(first_comparison, other_comparison):
        num_repeated += 1
        num_equal += _test_error(trial) == _test_error(repetition)
        num_shared += (trial.reused_from or trial.run_id) == (repetition.reused_from or repetition.run_id)
    return TwoRunComparison(
        first=first_comparison,
        other=other_comparison,
        run_labels=_label_runs(first_comparison, other_comparison),
        answer=_summarize_agreement(claims),
        differences=tuple(_find_differences(first_comparison, other_comparison)),
        contrasts=_pair_contrasts(first_comparison, other_comparison),
        claims=claims,
        num_repeated=num_repeated,
        num_equal=num_equal,
        num_shared=num_shared,
    )


def _find_differences(first: Comparison, other: Comparison) -> Iterable[RunDifference]:
    for subject, read_fact in _COMPARED_FACTS.items():
        first_fact, other_fact = read_fact(first), read_fact(other)
        if first_fact != other_fact:
            yield RunDifference(subject=subject, first=first_fact or MISSING, other=other_fact or MISSING)
    # Settings that vary are compared arm by arm, those held equal once for all arms.
    yield from _arm_differences(first, other)
    yield from _entry_differences("data", first.registration.data, other.registration.data, is_setting=False)
    yield from _entry_differences("", first.registration.held, other.registration.held, is_setting=True)
    yield from _entry_differences("ran on:", dict(first.environments), dict(other.environments), is_setting=False)
    yield from _entry_differences("version of", _package_versions(first), _package_versions(other), is_setting=False)


def _arm_differences(first: Comparison, other: Comparison) -> Iterable[RunDifference]:
    """Arms of the same name that change different settings."""
    for arm in first.registration.arms[1:]:
        changes, other_changes = _describe_changes(first, arm), _describe_changes(other, arm)
        if arm in other.registration.arms and changes != other_changes:
            subject = f"settings changed by {arm}"
            yield RunDifference(subject=subject, first=changes or "nothing", other=other_changes or "nothing")


def _describe_changes(comparison: Comparison, arm: str) -> str:
    texts = []
    for change in collapse_changes(comparison.registration.changes.get(arm, ())):
        locations = f" ({change.location_text})" if change.location_text else ""
        texts.append(f"{change.path}{locations}: {change.before} → {change.after}")
    return "; ".join(texts)


def _entry_differences(
    prefix: str, first: Mapping[str, object], other: Mapping[str, object], *, is_setting: bool
) -> Iterable[RunDifference]:
    """Entries of two mappings that differ; ``absent`` where one lacks an entry."""
    for name in dict.fromkeys((*first, *other)):
        first_value, other_value = str(first.get(name, ABSENT)), str(other.get(name, ABSENT))
        if first_value != other_value:
            subject = f"{prefix} {name}".strip()
            yield RunDifference(subject=subject, first=first_value, other=other_value, is_setting=is_setting)


def _package_versions(comparison: Comparison) -> dict[str, str]:
    """Versions of every package, over all starts of a run."""
    names: set[str] = set()
    for start in comparison.starts:
        names.update(start.versions)
    versions = {}
    for name in sorted(names):
        versions[name] = _join_distinct(start.versions.get(name, "") for start in comparison.starts)
    return versions


def _digest_reader(kind: str) -> Callable[[Comparison], str]:
    """Make a function that reads all values of one digest of a run's trials."""

    def read(comparison: Comparison) -> str:
        digests = {str(trial.result.digests.get(kind, "")) for trial in comparison.trials if trial.result}
        return _join_distinct(sorted(digests))

    return read


def _join_distinct(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if value != ""))


def _read_overrides(comparison: Comparison) -> str:
    return _join_distinct(f"{path} = {value}" for path, value in comparison.registration.overrides.items())


def _read_warm_starts(comparison: Comparison) -> str:
    return _join_distinct(f"{arm} from {source}" for arm, source in comparison.registration.donors.items())


def _read_tree(comparison: Comparison) -> str:
    return _join_distinct("clean" if start.clean else "uncommitted changes" for start in comparison.starts)


# Facts in the order in which their differences are printed. The revision is cut as Git prints it with `--abbrev=12`.
_COMPARED_FACTS: dict[str, Callable[[Comparison], str]] = {
    "protocol": lambda comparison: comparison.registration.protocol,
    "overrides": _read_overrides,
    "arms": lambda comparison: _join_distinct(comparison.registration.arms),
    "starts": _read_warm_starts,
    "seeds": lambda comparison: _join_distinct(comparison.registration.seeds),
    "smallest effect of interest, points": lambda comparison: f"{comparison.registration.smallest_effect:g}",
    "revision": lambda comparison: _join_distinct(start.revision[:12] for start in comparison.starts),
    "tree": _read_tree,
    "hardware": lambda comparison: _join_distinct(start.hardware for start in comparison.starts),
    "code digest": _digest_reader("code"),
    "digest of the user's own code": _digest_reader("user_code"),
    "data digest": _digest_reader("data"),
    "platform digest": _digest_reader("platform"),
}


def _pair_contrasts(first: Comparison, other: Comparison) -> tuple[ContrastInBothRuns, ...]:
    """Pair the contrasts of both runs; one that is in one run only has no interval in the other."""
    first_intervals, other_intervals = _intervals_by_contrast(first), _intervals_by_contrast(other)
    for over, arm in first_intervals:  # the other run may ask for a difference the other way round
        if (arm, over) in other_intervals:
            other_intervals[over, arm] = other_intervals.pop((arm, over)).reverse()
    contrasts = []
    for pair in dict.fromkeys((*first_intervals, *other_intervals)):
        over, arm = pair
        first_interval = first_intervals.get(pair, NO_INTERVAL)
        other_interval = other_intervals.get(pair, NO_INTERVAL)
        contrast = ContrastInBothRuns(
            over=over,
            arm=arm,
            first=first_interval,
            other=other_interval,
            sign_agreement=_compare_signs(first_interval, other_interval),
        )
        contrasts.append(contrast)
    return tuple(contrasts)


def _intervals_by_contrast(comparison: Comparison) -> dict[tuple[str, str], Interval]:
    return {(difference.over, difference.arm): difference.estimate for difference in comparison.differences}


def _compare_signs(first: Interval, other: Interval) -> str:
    """Describe whether two intervals agree on the sign of a difference."""
    first_sign, other_sign = _interval_sign(first), _interval_sign(other)
    if first_sign is None or other_sign is None:
        return "no two intervals"
    if first_sign == other_sign:
        return {1: "both above 0", -1: "both below 0", 0: "neither excludes 0"}[first_sign]
    return "one excludes 0" if 0 in (first_sign, other_sign) else "opposite signs"


def _interval_sign(interval: Interval) -> int | None:
    """Return 1 or -1 where an interval lies above or below 0, 0 where it includes 0, ``None`` without an interval."""
    if not interval.is_bounded:
        return None
    return int(interval.low > 0) - int(interval.high < 0)


def _pair_claims(first: Comparison, other: Comparison) -> tuple[ClaimInBothRuns, ...]:
    first_words, other_words = _words_by_sentence(first.claims), _words_by_sentence(other.claims)
    claims = []
    for sentence in dict.fromkeys((*first_words, *other_words)):
        first_word, other_word = first_words.get(sentence, ""), other_words.get(sentence, "")
        agreement = compare_verdicts(first_word, other_word)
        claims.append(ClaimInBothRuns(sentence=sentence, first=first_word, other=other_word, agreement=agreement))
    return tuple(claims)


def _words_by_sentence(claims: Sequence[JudgedClaim]) -> dict[str, str]:
    return {claim.sentence: claim.word for claim in claims}


def compare_verdicts(first: str, other: str) -> str:
    """Compare two verdict words.

    Returns:
        ``yes`` or ``no``; ``near`` where they differ but both may be true; ``open`` where one is inconclusive, ``both
        cannot tell`` where both are; ``in one only`` where one is missing.
    """
    if not (first and other):
        return IN_ONE_RUN_ONLY
    if first == other:
        return BOTH_INCONCLUSIVE if first in OPEN_WORDS else "yes"
    if {first, other} & set(OPEN_WORDS):
        return "open"
    # "Practically equivalent" and "supported" may both hold of a small improvement.
    return "no" if {first, other} == {"supported", "contradicted"} else "near"


def _summarize_agreement(claims: Sequence[ClaimInBothRuns]) -> str:
    both = [claim for claim in claims if claim.agreement != IN_ONE_RUN_ONLY]
    if not both:
        return "No claim was registered in both runs, so no verdicts can be compared."
    counts = Counter(claim.agreement for claim in both)
    if counts["yes"] == len(both):
        claims_text = "the only claim" if len(both) == 1 else f"all {len(both)} claims"
        return f"The verdicts agree on {claims_text}."
    if counts[BOTH_INCONCLUSIVE] == len(both):
        claims_text = "the only claim holds" if len(both) == 1 else f"any of the {len(both)} claims hold"
        return f"Both runs cannot tell whether {claims_text}: that is no agreement."
    texts = {
        "yes": "with the same verdict",
        BOTH_INCONCLUSIVE: "inconclusive in both",
        "no": "with opposite verdicts",
        "open": "inconclusive in one of them",
        "near": "with different verdicts that do not contradict each other",
    }
    counted = [f"{counts[agreement]} {text}" for agreement, text in texts.items() if counts[agreement]]
    return f"Of {format_count(len(both), 'claim')} in both runs: {join_words(counted)}."


def _find_repeated_trials(first: Comparison, other: Comparison) -> list[tuple[RecordedTrial, RecordedTrial]]:
    """Pair the finished trials of equal arm, seed and fingerprint."""
    # Equal fingerprints mean equal settings: a deterministic trial then gives an equal error on the same platform.
    other_trials = {_trial_key(trial): trial for trial in other.trials if trial.state == "finished"}
    repeated = []
    for trial in first.trials:
        if trial.state == "finished" and _trial_key(trial) in other_trials:
            repeated.append((trial, other_trials[_trial_key(trial)]))
    return repeated


def _trial_key(trial: RecordedTrial) -> tuple[str, int, str]:
    return trial.arm, trial.seed, trial.result.fingerprint if trial.result else ""


def _test_error(trial: RecordedTrial) -> float | None:
    return trial.result.metrics.get("test_error") if trial.result else None


def _label_runs(first: Comparison, other: Comparison) -> tuple[str, str]:
    """Label two runs by protocol where that distinguishes them, else by run id."""
    first_protocol, other_protocol = first.registration.protocol, other.registration.protocol
    if first_protocol != other_protocol:
        return first_protocol, other_protocol
    return f"run {first.run_id[:8]}", f"run {other.run_id[:8]}"
