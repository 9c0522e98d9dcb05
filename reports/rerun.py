"""Two runs of one study side by side: what was otherwise, and whether the verdicts agree. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lightning_modules.values import Misuse
from reports.changes import ABSENT, compact
from reports.comparison import Comparison, JudgedClaim, compare
from reports.numbers import MISSING, NOTHING, Estimate, listed, plural
from studies.records import StudyRecord, TrialRecord

ONE_ONLY = "in one only"


class NotTheSameStudy(Misuse):
    """Two runs that cannot be compared; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Otherwise:
    """One thing that the two runs have otherwise."""

    what: str
    first: str
    other: str
    setting: bool = False


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A contrast in both runs.

    Attributes:
        said: what both intervals say of the sign, together.
    """

    over: str
    arm: str
    first: Estimate
    other: Estimate
    said: str


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A claim in both runs; a word is empty where the claim was not registered.

    Attributes:
        agree: ``yes``, ``no``, ``open`` where one of the two is inconclusive, or ``in one only``.
    """

    sentence: str
    first: str
    other: str
    agree: str


@dataclass(frozen=True, kw_only=True)
class Rerun:
    """Two runs of one study.

    Attributes:
        names: how the two are told apart.
        repeated: trials of equal fingerprint and seed in both.
        equal: those among them whose test errors are equal to the last digit.
        shared: those among them that are one and the same training.
    """

    first: Comparison
    other: Comparison
    names: tuple[str, str]
    answer: str
    changed: tuple[Otherwise, ...]
    pairs: tuple[Pair, ...]
    claims: tuple[Judged, ...]
    repeated: int
    equal: int
    shared: int


def rerun(first: StudyRecord, other: StudyRecord) -> Rerun:
    """Both runs compared.

    Raises:
        NotTheSameStudy: where they are of different ablations, or one and the same run.
    """
    ours, theirs = first.registration.study, other.registration.study
    if ours != theirs:
        raise NotTheSameStudy(
            f"run {other.run_id} is of the study {theirs!r}, not of {ours!r}: only two runs of one study are compared."
        )
    if first.run_id == other.run_id:
        raise NotTheSameStudy(f"run {first.run_id} cannot be compared with itself; name another run of {ours!r}.")
    one, two = compare(first), compare(other)
    claims = _claims(one, two)
    repeated = _repeated(one, two)
    return Rerun(
        first=one,
        other=two,
        names=_names(one, two),
        answer=_answer(claims),
        changed=tuple(_changed(one, two)),
        pairs=_pairs(one, two),
        claims=claims,
        repeated=len(repeated),
        equal=sum(_error(ours) == _error(theirs) for ours, theirs in repeated),
        shared=sum(
            (ours.reused_from or ours.run_id) == (theirs.reused_from or theirs.run_id) for ours, theirs in repeated
        ),
    )


# -- what was otherwise --------------------------------------------------------------------------------------------


def _changed(first: Comparison, other: Comparison) -> Iterable[Otherwise]:
    for what, read in _FACTS.items():
        ours, theirs = read(first), read(other)
        if ours != theirs:
            yield Otherwise(what=what, first=ours or MISSING, other=theirs or MISSING)
    yield from _arms_changed(first, other)
    yield from _entries("data", first.registration.data, other.registration.data, setting=False)
    yield from _entries("", first.registration.held, other.registration.held, setting=True)
    yield from _entries("ran on:", dict(first.environments), dict(other.environments), setting=False)
    yield from _entries("version of", _versions(first), _versions(other), setting=False)


def _arms_changed(first: Comparison, other: Comparison) -> Iterable[Otherwise]:
    """Arms of one name that are other edits."""
    for arm in first.registration.arms[1:]:
        ours, theirs = _edits(first, arm), _edits(other, arm)
        if arm in other.registration.arms and ours != theirs:
            yield Otherwise(what=f"what {arm} changes", first=ours or "nothing", other=theirs or "nothing")


def _edits(comparison: Comparison, arm: str) -> str:
    return "; ".join(
        f"{each.path}{f' ({each.where})' if each.where else ''}: {each.before} → {each.after}"
        for each in compact(comparison.registration.changes.get(arm, ()))
    )


def _entries(
    prefix: str, first: Mapping[str, object], other: Mapping[str, object], *, setting: bool
) -> Iterable[Otherwise]:
    for name in dict.fromkeys((*first, *other)):
        ours, theirs = str(first.get(name, ABSENT)), str(other.get(name, ABSENT))
        if ours != theirs:
            yield Otherwise(what=f"{prefix} {name}".strip(), first=ours, other=theirs, setting=setting)


def _versions(comparison: Comparison) -> dict[str, str]:
    names = sorted({name for start in comparison.starts for name in start.versions})
    return {name: _each(start.versions.get(name, "") for start in comparison.starts) for name in names}


def _digests(kind: str) -> Callable[[Comparison], str]:
    return lambda comparison: _each(
        sorted({str(trial.result.digests.get(kind, "")) for trial in comparison.trials if trial.result})
    )


def _each(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if value != ""))


_FACTS: dict[str, Callable[[Comparison], str]] = {
    "protocol": lambda found: found.registration.protocol,
    "overrides": lambda found: _each(f"{path} = {value}" for path, value in found.registration.overrides.items()),
    "arms": lambda found: _each(found.registration.arms),
    "starts": lambda found: _each(f"{arm} from {donor}" for arm, donor in found.registration.donors.items()),
    "seeds": lambda found: _each(found.registration.seeds),
    "smallest effect of interest, points": lambda found: f"{found.registration.smallest_effect:g}",
    "revision": lambda found: _each(start.revision[:12] for start in found.starts),
    "tree": lambda found: _each("clean" if start.clean else "uncommitted changes" for start in found.starts),
    "hardware": lambda found: _each(start.hardware for start in found.starts),
    "code digest": _digests("code"),
    "digest of the user's own code": _digests("user_code"),
    "data digest": _digests("data"),
    "platform digest": _digests("platform"),
}


# -- what came out -------------------------------------------------------------------------------------------------


def _pairs(first: Comparison, other: Comparison) -> tuple[Pair, ...]:
    ours, theirs = _by_contrast(first), _by_contrast(other)
    return tuple(
        Pair(over=over, arm=arm, first=one, other=two, said=_said(one, two))
        for over, arm in dict.fromkeys((*ours, *theirs))
        for one, two in [(ours.get((over, arm), NOTHING), theirs.get((over, arm), NOTHING))]
    )


def _by_contrast(comparison: Comparison) -> dict[tuple[str, str], Estimate]:
    return {(each.over, each.arm): each.estimate for each in comparison.differences}


def _said(first: Estimate, other: Estimate) -> str:
    """What two intervals say of the sign of one difference."""
    signs = [_sign(each) for each in (first, other)]
    if None in signs:
        return "no two intervals"
    if signs[0] == signs[1]:
        return {1: "both above 0", -1: "both below 0", 0: "neither excludes 0"}[signs[0] or 0]
    return "one excludes 0" if 0 in signs else "opposite signs"


def _sign(estimate: Estimate) -> int | None:
    if not estimate.bounded:
        return None
    return int(estimate.low > 0) - int(estimate.high < 0)


def _claims(first: Comparison, other: Comparison) -> tuple[Judged, ...]:
    ours, theirs = _words(first.claims), _words(other.claims)
    return tuple(
        Judged(sentence=sentence, first=one, other=two, agree=agree(one, two))
        for sentence in dict.fromkeys((*ours, *theirs))
        for one, two in [(ours.get(sentence, ""), theirs.get(sentence, ""))]
    )


def _words(claims: Sequence[JudgedClaim]) -> dict[str, str]:
    return {claim.sentence: claim.word for claim in claims}


def agree(first: str, other: str) -> str:
    """Whether two verdict words agree: ``yes``, ``no``, ``near`` (both may be true), ``open``, or one is missing."""
    if not (first and other):
        return ONE_ONLY
    if first == other:
        return "yes"
    if "inconclusive" in (first, other):
        return "open"
    return "no" if {first, other} == {"supported", "contradicted"} else "near"


def _answer(claims: Sequence[Judged]) -> str:
    both = [claim for claim in claims if claim.agree != ONE_ONLY]
    if not both:
        return "No claim was registered in both runs, so no verdicts can be compared."
    counts = Counter(claim.agree for claim in both)
    if counts["yes"] == len(both):
        return f"The verdicts agree on {'the only claim' if len(both) == 1 else f'all {len(both)} claims'}."
    told = {
        "yes": "agree",
        "no": "contradict each other",
        "open": "are inconclusive in one of the two runs",
        "near": "differ without contradiction",
    }
    return f"Of the verdicts on {plural(len(both), 'claim')}, " + listed(
        f"{counts[word]} {words}" for word, words in told.items() if counts[word]
    ) + "."  # fmt: skip


def _repeated(first: Comparison, other: Comparison) -> list[tuple[TrialRecord, TrialRecord]]:
    theirs = {_key(trial): trial for trial in other.trials if trial.state == "finished"}
    return [
        (trial, theirs[_key(trial)]) for trial in first.trials if trial.state == "finished" and _key(trial) in theirs
    ]


def _key(trial: TrialRecord) -> tuple[str, int, str]:
    return trial.arm, trial.seed, trial.result.fingerprint if trial.result else ""


def _error(trial: TrialRecord) -> float | None:
    return trial.result.metrics.get("test_error") if trial.result else None


def _names(first: Comparison, other: Comparison) -> tuple[str, str]:
    """By protocol where that tells them apart, else by run."""
    ours, theirs = first.registration.protocol, other.registration.protocol
    if ours != theirs:
        return ours, theirs
    return f"run {first.run_id[:8]}", f"run {other.run_id[:8]}"
