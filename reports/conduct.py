"""How a study was conducted: what the paired trials shared, whose code trained them, what failed, what is missing."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from reports.endpoints import metric
from reports.numbers import listed, plural
from studies.records import Registration, StudyRecord, TrialRecord
from studies.results import Result

SHARED = {"order": "Data order", "augmentation": "Augmentation", "split": "Split", "steps": "Steps"}
DECLARED_BY = {
    "order": ("recipe.batch_size", "recipe.epochs", "data."),
    "augmentation": ("recipe.augmentation", "recipe.epochs", "data.", "scale."),
    "split": ("data.",),
    "steps": ("recipe.batch_size", "recipe.epochs", "data."),
}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that paired trials should share; ``unknown`` where no pair of trials can show it."""

    what: str
    state: Literal["kept", "declared", "in part", "broken", "unknown"]
    finding: str


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A trial that gave no figure, and why."""

    arm: str
    seed: int
    state: str
    why: str


def trials_of(record: StudyRecord) -> tuple[TrialRecord, ...]:
    """The trials of registered arms under planned seeds, one per place, arms and seeds in their order."""
    registration = record.registration
    first = {(trial.arm, trial.seed): trial for trial in reversed(record.trials)}
    places = ((arm, seed) for arm in registration.arms for seed in registration.seeds)
    return tuple(first[place] for place in places if place in first)


def pairing(registration: Registration, trials: Iterable[TrialRecord]) -> tuple[Check, ...]:
    """Whether arms under one seed shared data order, augmentation, split, steps and the weights they started from."""
    results = {(trial.arm, trial.seed): trial.result for trial in trials if trial.result is not None}
    pairs = [
        (arm, seed, results[registration.baseline, seed], result)
        for (arm, seed), result in results.items()
        if arm != registration.baseline and (registration.baseline, seed) in results
    ]
    return (*(_shared(key, registration, pairs) for key in SHARED), *_weights(registration, pairs))


def failures(trials: Iterable[TrialRecord]) -> tuple[Failure, ...]:
    """Every trial that ended without a figure, or has not ended."""
    made = ((trial, _why(trial)) for trial in trials)
    return tuple(
        Failure(arm=trial.arm, seed=trial.seed, state=trial.state.replace("finished", "finished, no figure"), why=why)
        for trial, why in made
        if why
    )


def mixtures(trials: Iterable[TrialRecord]) -> tuple[str, ...]:
    """A sentence for each of data, code and platform in which the trials that ended are not all alike."""
    ended = [(trial.arm, trial.result) for trial in trials if trial.state in ("finished", "diverged") and trial.result]
    return tuple(sentence for kind, words in _MIXTURES.items() if (sentence := _mixture(kind, words, ended)))


def environments(trials: Iterable[TrialRecord]) -> tuple[tuple[str, str], ...]:
    """What the trials ran on: each entry with its value, or with every value and how many trials had it."""
    seen: dict[str, dict[str, int]] = {}
    for trial in trials:
        for name, value in sorted(trial.result.environment.items()) if trial.result else ():
            counts = seen.setdefault(name, {})
            counts[str(value)] = counts.get(str(value), 0) + 1
    return tuple((name, _counted(counts)) for name, counts in sorted(seen.items()))


_MIXTURES = {
    "code": "These trials were trained by different code",
    "data": "These trials read different data",
    "platform": "These trials ran on different platforms, which changes the last bits",
}


def _shared(key: str, registration: Registration, pairs: list[tuple[str, int, Result, Result]]) -> Check:
    known = [pair for pair in pairs if key in pair[2].evidence and key in pair[3].evidence]
    if not known:
        return Check(what=SHARED[key], state="unknown", finding="no two trials under one seed can show it")
    broken: dict[str, list[int]] = {}
    for arm, seed, before, after in known:
        if before.evidence[key] != after.evidence[key]:
            broken.setdefault(arm, []).append(seed)
    if not broken:
        compared = plural(len({seed for _, seed, _, _ in known}), "seed")
        return Check(what=SHARED[key], state="kept", finding=f"equal to the baseline's in every arm, under {compared}")
    told = "; ".join(f"{arm} under {_seeds(seeds)}" for arm, seeds in broken.items())
    if all(_declared(key, registration, arm) for arm in broken):
        return Check(what=SHARED[key], state="declared", finding=f"otherwise than the baseline's: {told}")
    return Check(what=SHARED[key], state="broken", finding=f"not the baseline's: {told}")


def _declared(key: str, registration: Registration, arm: str) -> bool:
    paths = [difference.path for difference in registration.changes.get(arm, ())]
    return any(path.startswith(prefix) for path in paths for prefix in DECLARED_BY[key])


def _weights(registration: Registration, pairs: list[tuple[str, int, Result, Result]]) -> tuple[Check, ...]:
    checks = []
    for arm in registration.arms[1:]:
        common, otherwise = set[str](), set[str]()
        for _, _, before, after in (pair for pair in pairs if pair[0] == arm):
            layers = {name for name in before.evidence if name.startswith("weights.") and name in after.evidence}
            common |= layers
            otherwise |= {name for name in layers if before.evidence[name] != after.evidence[name]}
        if common:
            checks.append(_weights_of(arm, registration.baseline, len(common), sorted(otherwise)))
    return tuple(checks)


def _weights_of(arm: str, baseline: str, common: int, otherwise: list[str]) -> Check:
    what = f"Initial weights of {arm}"
    equal = common - len(otherwise)
    start = f"{equal} of the {plural(common, 'layer')} that {arm} and {baseline} both have start equal"
    if not otherwise:
        return Check(what=what, state="kept", finding=start)
    names = [name.removeprefix("weights.") for name in otherwise[:3]]
    more = [plural(len(otherwise) - 3, "other")] if len(otherwise) > 3 else []
    return Check(what=what, state="in part", finding=f"{start}; of another shape or scale: {listed(names + more)}")


def _why(trial: TrialRecord) -> str:
    if trial.state == "running":
        return "has not ended"
    if trial.state == "diverged":
        epochs = len(trial.result.times) if trial.result else 0
        return f"diverged after {plural(epochs, 'epoch')}: non-finite, or training error above 0.9 × chance"
    if trial.state == "failed":
        lines = (trial.result.error if trial.result else "").strip().splitlines()
        return lines[-1].strip() if lines else "failed without a traceback"
    return "" if math.isfinite(metric(trial, "test_error")) else "its test error is not a finite number"


def _mixture(kind: str, words: str, finished: list[tuple[str, Result]]) -> str:
    owners: dict[str, dict[str, int]] = {}
    for arm, result in finished:
        arms = owners.setdefault(str(result.digests.get(kind, "unknown")), {})
        arms[arm] = arms.get(arm, 0) + 1
    if len(owners) < 2:
        return ""
    told = "; ".join(f"{digest[:12]}: {_counted(arms)}" for digest, arms in sorted(owners.items()))
    return f"{words} ({told})."


def _counted(counts: dict[str, int]) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{name} ({plural(count, 'trial')})" for name, count in sorted(counts.items()))


def _seeds(seeds: list[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {listed(map(str, sorted(seeds)))}"
