"""How a study was conducted: what the paired trials shared, whose code trained them, what failed, what is missing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Literal, get_args

from reports.endpoints import metric
from reports.numbers import listed, plural
from studies.records import Registration, StudyRecord, TrialRecord
from studies.results import Result

SHARED = {"order": "Data order", "augmentation": "Augmentation", "split": "Split", "steps": "Steps"}
DECLARED_BY = {
    "order": ("recipe.batch_size", "recipe.epochs", "data."),
    "augmentation": ("recipe.augmentation", "recipe.side", "recipe.epochs", "data.", "scale."),
    "split": ("data.",),
    "steps": ("recipe.batch_size", "recipe.epochs", "data."),
}
BY_EPOCH = ("order", "augmentation", "steps")  # what trials log of all their epochs
WEIGHTS = "weights."
OTHER_WEIGHTS = ("network.init", "network.kind", "network.class_path")  # other initial weights are what these declare

Pair = tuple[str, int, Result, Result]  # arm, seed, the baseline's result, the arm's


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that paired trials should share; ``unknown`` where no pair of trials can show it.

    Attributes:
        alarm: where it is broken, what a reader must know first.
    """

    what: str
    state: Literal["kept", "declared", "in part", "broken", "unknown"]
    finding: str
    alarm: str = ""


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


def donors_of(record: StudyRecord) -> tuple[TrialRecord, ...]:
    """The trials that arms start from or test, and that are no arm's own, under planned seeds, one per place."""
    registration = record.registration
    first = {(trial.arm, trial.seed): trial for trial in reversed(record.trials)}
    every = (*registration.donors.values(), *chain(*registration.tested.values()))
    names = (name for name in dict.fromkeys(every) if name not in registration.arms)
    places = ((name, seed) for name in names for seed in registration.seeds)
    return tuple(first[place] for place in places if place in first)


def pairing(
    registration: Registration, trials: Iterable[TrialRecord], donors: Iterable[TrialRecord] = ()
) -> tuple[Check, ...]:
    """Whether arms under one seed shared data order, augmentation, split, steps and the weights they started from."""
    trials, donors = tuple(trials), tuple(donors)
    results = {(trial.arm, trial.seed): trial.result for trial in trials if trial.result is not None}
    training = [arm for arm in registration.arms if arm not in registration.tested]
    pairs = [
        (arm, seed, results[registration.baseline, seed], result)
        for (arm, seed), result in results.items()
        if arm != registration.baseline and arm in training and (registration.baseline, seed) in results
    ]
    return (
        *(_shared(key, registration, pairs) for key in SHARED if len(training) > 1 or not registration.tested),
        *_weights(registration, pairs),
        *_starts(registration, (*trials, *donors)),
        *_tests(registration, (*trials, *donors)),
    )


def failures(trials: Iterable[TrialRecord]) -> tuple[Failure, ...]:
    """Every trial that ended without a figure, or has not ended."""
    made = ((trial, _why(trial)) for trial in trials)
    return tuple(
        Failure(arm=trial.arm, seed=trial.seed, state=trial.state.replace("finished", "finished, no figure"), why=why)
        for trial, why in made
        if why
    )


def repeated(trials: Iterable[TrialRecord]) -> str:
    """Which trials were begun more than once, and what they met; empty where none was."""
    told = [
        f"{trial.arm}, seed {trial.seed} ({'; '.join((f'{trial.attempts} times', *trial.faults))})"
        for trial in trials
        if trial.attempts > 1
    ]
    if not told:
        return ""
    return (
        "Begun more than once, with the same seed, because the study was interrupted, the machine failed or the trial "
        f"did; each went on from its last checkpoint, where it had one: {'; '.join(told)}."
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


def _shared(key: str, registration: Registration, pairs: list[Pair]) -> Check:
    known = [pair for pair in pairs if key in pair[2].evidence and key in pair[3].evidence]
    stopped = _stopped(registration, known) if key in BY_EPOCH else {}
    compared = [pair for pair in known if pair[:2] not in stopped]
    early = "".join(f"; {told}" for told in dict.fromkeys(stopped.values()))
    if not compared:
        return Check(what=SHARED[key], state="unknown", finding=f"no two trials under one seed can show it{early}")
    broken: dict[str, list[int]] = {}
    for arm, seed, before, after in compared:
        if before.evidence[key] != after.evidence[key]:
            broken.setdefault(arm, []).append(seed)
    if not broken:
        arms = "every arm that trains" if registration.tested else "every arm"
        finding = _kept(compared, "" if stopped else arms) + early
        return Check(what=SHARED[key], state="in part" if stopped else "kept", finding=finding)
    told = "; ".join(f"{arm} under {_seeds(seeds)}" for arm, seeds in broken.items())
    if all(_declared(key, registration, arm) for arm in broken):
        return Check(what=SHARED[key], state="declared", finding=f"otherwise than the baseline's: {told}{early}")
    alarm = f"{SHARED[key].lower()} is not the baseline's: {told}"
    return Check(what=SHARED[key], state="broken", finding=f"not the baseline's: {told}{early}", alarm=alarm)


def _kept(compared: list[Pair], every: str) -> str:
    seeds = plural(len({seed for _, seed, _, _ in compared}), "seed")
    if every:
        return f"equal to the baseline's in {every}, under {seeds}"
    return f"equal to the baseline's in {plural(len(compared), 'pair')} of trials, under {seeds}"


def _stopped(registration: Registration, pairs: list[Pair]) -> dict[tuple[str, int], str]:
    """Pairs of which one trial diverged and has fewer epochs than the other, by arm and seed, with which one it was."""
    found = {}
    for arm, seed, before, after in pairs:
        if any(change.path == "recipe.epochs" for change in registration.changes.get(arm, ())):
            continue  # the arms declare unequal lengths: the shorter one need not have stopped
        name, shorter, longer = (arm, after, before)
        if len(before.times) < len(after.times):
            name, shorter, longer = (registration.baseline, before, after)
        if shorter.status == "diverged" and len(shorter.times) < len(longer.times):
            found[arm, seed] = f"{name} under seed {seed} stopped after {plural(len(shorter.times), 'epoch')}"
    return found


def _declared(key: str, registration: Registration, arm: str) -> bool:
    paths = [difference.path for difference in registration.changes.get(arm, ())]
    return any(path.startswith(prefix) for path in paths for prefix in DECLARED_BY[key])


def _weights(registration: Registration, pairs: list[Pair]) -> tuple[Check, ...]:
    checks = []
    for arm in registration.arms[1:]:
        reasons: dict[str, Reason] = {}
        for _, _, before, after in (pair for pair in pairs if pair[0] == arm):
            for place, reason in _compared(registration, arm, before, after).items():
                reasons[place] = max(reasons.get(place, "equal"), reason, key=REASONS.index)
        if reasons:
            checks.append(_weights_of(arm, registration.baseline, reasons))
    return tuple(checks)


Reason = Literal["equal", "copied", "declared", "another order", "another shape", "unexplained"]
REASONS: tuple[Reason, ...] = get_args(Reason)  # what weighs more comes later
REASON_WORDS: dict[Reason, str] = {
    "copied": "copied from a donor",
    "declared": "drawn otherwise, as the arm declares",
    "another order": "drawn in another order by a foreign module",
    "another shape": "of another shape or scale",
    "unexplained": "otherwise, and nothing that the arm changes explains it",
}
REASON_STATES: dict[Reason, Literal["kept", "declared", "in part", "broken"]] = {
    "equal": "kept",
    "copied": "declared",
    "declared": "declared",
    "another order": "in part",
    "another shape": "in part",
    "unexplained": "broken",
}


def _compared(registration: Registration, arm: str, before: Result, after: Result) -> dict[str, Reason]:
    """Per layer that both have, why its initial weights are not the baseline's, or that they are."""
    common = [name for name in before.evidence if name.startswith(WEIGHTS) and name in after.evidence]
    copied = {place for result in (before, after) for place in str(result.evidence.get("copied", "")).split(",")}
    declared = any(change.path in OTHER_WEIGHTS for change in registration.changes.get(arm, ()))
    reasons: dict[str, Reason] = {}
    for name in common:
        place = name.removeprefix(WEIGHTS)
        if before.evidence[name] == after.evidence[name]:
            reasons[place] = "equal"
        elif place in copied:
            reasons[place] = "copied"
        else:
            reasons[place] = "declared" if declared else _undeclared(registration, arm, place)
    return reasons


def _undeclared(registration: Registration, arm: str, place: str) -> Reason:
    """Another shape is seen in the networks as built; a foreign module draws all its layers from one stream."""
    if arm not in registration.built or any(change.path == place for change in registration.built[arm]):
        return "another shape"
    changes = registration.changes.get(arm, ())
    return "another order" if any(change.path.startswith("network.init_args") for change in changes) else "unexplained"


def _weights_of(arm: str, baseline: str, reasons: Mapping[str, Reason]) -> Check:
    equal = sum(reason == "equal" for reason in reasons.values())
    told = [f"{equal} of the {plural(len(reasons), 'layer')} that {arm} and {baseline} both have start equal"]
    for kind, words in REASON_WORDS.items():
        places = [place for place, reason in reasons.items() if reason == kind]
        told += [f"{words}: {_some(places)}"] if places else []
    worst = max(reasons.values(), key=REASONS.index)
    alarm = f"layers of {arm} start {told[-1]}" if worst == "unexplained" else ""
    return Check(what=f"Initial weights of {arm}", state=REASON_STATES[worst], finding="; ".join(told), alarm=alarm)


def _some(places: list[str]) -> str:
    more = [plural(len(places) - 3, "other")] if len(places) > 3 else []
    return listed(places[:3] + more)


def _starts(registration: Registration, trials: Iterable[TrialRecord]) -> Iterable[Check]:
    """Whether every warm start took over the weights of the donor under its own seed."""
    results = {(trial.arm, trial.seed): trial.result for trial in trials if trial.result}
    for arm, donor in registration.donors.items():
        known = [
            (seed, result.evidence["donor"] == results[donor, seed].fingerprint)
            for (name, seed), result in results.items()
            if name == arm and "donor" in result.evidence and (donor, seed) in results
        ]
        wrong = [seed for seed, same in known if not same]
        what = f"Start of {arm}"
        if wrong:
            finding = f"not from the trial of {donor} in this record, under {_seeds(wrong)}"
            yield Check(what=what, state="broken", finding=finding, alarm=f"{arm} starts {finding}")
        elif known:
            finding = f"from {donor} as trained under the same seed, under {plural(len(known), 'seed')}"
            yield Check(what=what, state="kept", finding=finding)


def _tests(registration: Registration, trials: Iterable[TrialRecord]) -> Iterable[Check]:
    """Whether every arm that trains nothing tested the networks that were trained under its own seed, bit by bit."""
    results = {(trial.arm, trial.seed): trial.result for trial in trials if trial.result}
    bits = _tested_bits(registration, results)
    for arm, names in registration.tested.items():
        known = {
            seed: [results[name, seed].fingerprint for name in names] == str(result.evidence["donors"]).split(",")
            and all(len(bits[name, seed]) == 1 for name in names)
            for (other, seed), result in results.items()
            if other == arm and "donors" in result.evidence and all((name, seed) in results for name in names)
        }
        wrong = [seed for seed, same in known.items() if not same]
        what = f"Networks tested in {arm}"
        if wrong:
            finding = f"not those of {listed(names)} as this record and the other arms have them, under {_seeds(wrong)}"
            yield Check(what=what, state="broken", finding=finding, alarm=f"{arm} tested networks that are {finding}")
        elif known:
            finding = f"those of {listed(names)} as trained under the same seed, to the bit, under "
            yield Check(what=what, state="kept", finding=finding + plural(len(known), "seed"))


def _tested_bits(
    registration: Registration, results: Mapping[tuple[str, int], Result]
) -> Mapping[tuple[str, int], set[str]]:
    """Per network and seed, the hashes of its weights as the arms found them that test it: one, where all is well."""
    found: dict[tuple[str, int], set[str]] = {}
    for (arm, seed), result in results.items():
        hashes = str(result.evidence.get("tested", "")).split(",")
        for name, each in zip(registration.tested.get(arm, ()), hashes, strict=False):
            found.setdefault((name, seed), set()).add(each)
    return found


def _why(trial: TrialRecord) -> str:
    if trial.state == "running":
        return "has not ended"
    if trial.state == "diverged":
        epochs = len(trial.result.times) if trial.result else 0
        if trial.result and "donors" in trial.result.evidence:
            return "tests a network that diverged, or gives no finite loss"
        if trial.result and "classifier" in trial.result.evidence:
            return "its features are not finite, or a classifier on them has a training error above 0.9 × chance"
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
