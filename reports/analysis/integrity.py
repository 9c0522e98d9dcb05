"""Integrity of the pairing: what trials under one seed shared, and whether their code, data and platform match.

The statistics assume that trials of two arms under one seed differ in nothing but the arm. Every trial logs digests of
its data order, augmentation, split, steps and initial weights; here they are compared with the baseline's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from lightning_modules.specs.text import format_count, join_words, name_seeds
from reports.analysis.trials import REASON_STATES, REASON_TEXTS, WEIGHTS_REASONS, WeightsReason, format_counts
from studies.records.registration import Registration
from studies.records.results import UNTRAINED_STATUSES, Result
from studies.records.study_record import RecordedTrial

SHARED_ASPECTS = {"order": "Data order", "augmentation": "Augmentation", "split": "Split", "steps": "Steps"}

# Setting paths that declare another value of an aspect: an arm that changes one need not share the aspect.
DECLARING_PATHS = {
    "order": ("recipe.batch_size", "recipe.remainder", "recipe.epochs", "data."),
    "augmentation": ("recipe.augmentation", "recipe.remainder", "recipe.side", "recipe.epochs", "data.", "scale."),
    "split": ("data.",),
    "steps": ("recipe.batch_size", "recipe.remainder", "recipe.epochs", "data."),
}

# Aspects in which a placebo differs, by the stream that it redraws. The digest of the augmentation is taken in the
# order of the data: in another order every example is augmented alike, and the digest is another.
REDRAWN_ASPECTS = {"order": ("order", "augmentation"), "augmentation": ("augmentation",)}

PER_EPOCH_ASPECTS = ("order", "augmentation", "steps")  # digests over all epochs that a trial ran
WEIGHTS_PREFIX = "weights."  # of a trial's evidence: one digest per layer path
INITIALIZATION_PATHS = ("network.init", "network.kind", "network.class_path")  # settings that declare other weights
TrialsByKey = Mapping[tuple[str, int], Result]  # arm and seed


class PairedResult(NamedTuple):
    """Results of the baseline and of an arm under one seed."""

    arm: str
    seed: int
    baseline: Result
    result: Result


@dataclass(frozen=True, kw_only=True)
class IntegrityCheck:
    """One thing that paired trials should share; ``unknown`` where no pair of trials can show it.

    Attributes:
        warning: where it is broken, the sentence that a reader must see first.
    """

    subject: str
    state: Literal["kept", "declared", "in part", "broken", "unknown"]
    finding: str
    warning: str = ""


def check_pairing(
    registration: Registration, trials: Iterable[RecordedTrial], dependencies: Iterable[RecordedTrial] = ()
) -> tuple[IntegrityCheck, ...]:
    """Check that arms shared data order, augmentation, split, steps and initial weights under each seed."""
    trials, dependencies = tuple(trials), tuple(dependencies)
    training = [arm for arm in registration.arms if arm not in registration.tested]
    pairs = _pair_with_baseline(registration, trials, training)
    checks: list[IntegrityCheck] = []
    # A study in which one arm trains and the others evaluate it has no pairs of trained networks to compare.
    if len(training) > 1 or not registration.tested:
        for aspect in SHARED_ASPECTS:
            checks.append(_check_shared_aspect(aspect, registration, pairs))
    checks += _check_weights(registration, pairs)
    results = _results_by_key((*trials, *dependencies))
    checks += _check_warm_starts(registration, results)
    checks += _check_evaluations(registration, results)
    return tuple(checks)


def describe_restarts(trials: Iterable[RecordedTrial]) -> str:
    """Describe trials that were started more than once, with their faults; empty where none was."""
    restarts = []
    for trial in trials:
        if trial.num_attempts > 1:
            details = "; ".join((f"{trial.num_attempts} times", *trial.faults))
            restarts.append(f"{trial.arm}, seed {trial.seed} ({details})")
    if not restarts:
        return ""
    return (
        "Started more than once, with the same seed, because the study was interrupted, the trial was cancelled and "
        "tried again, or the trial or its machine failed; each resumed from its last checkpoint, where it had one: "
        f"{'; '.join(restarts)}."
    )


def describe_digest_mismatches(trials: Iterable[RecordedTrial]) -> tuple[str, ...]:
    """One sentence for each of code, data and platform that is not the same in all trials that ended."""
    ended = []
    for trial in trials:
        if trial.state in ("finished", *UNTRAINED_STATUSES) and trial.result:
            ended.append((trial.arm, trial.result))
    sentences = []
    # Failed trials are left out: they enter no comparison.
    for digest_name, text in _MISMATCH_TEXTS.items():
        sentence = _describe_digest_mismatch(digest_name, text, ended)
        if sentence:
            sentences.append(sentence)
    return tuple(sentences)


_MISMATCH_TEXTS = {
    "code": "These trials were trained by different code",
    "data": "These trials read different data",
    "platform": "These trials ran on different platforms, so results are not reproducible bit for bit",
}


def _results_by_key(trials: Iterable[RecordedTrial]) -> TrialsByKey:
    return {(trial.arm, trial.seed): trial.result for trial in trials if trial.result is not None}


def _pair_with_baseline(
    registration: Registration, trials: Iterable[RecordedTrial], training: list[str]
) -> list[PairedResult]:
    """Pair every result of an arm that trains with the baseline's under the same seed."""
    results = _results_by_key(trials)
    pairs = []
    for (arm, seed), result in results.items():
        baseline = results.get((registration.baseline, seed))
        if arm != registration.baseline and arm in training and baseline is not None:
            pairs.append(PairedResult(arm, seed, baseline, result))
    return pairs


def _check_shared_aspect(aspect: str, registration: Registration, pairs: list[PairedResult]) -> IntegrityCheck:
    subject = SHARED_ASPECTS[aspect]
    known = [pair for pair in pairs if aspect in pair.baseline.evidence and aspect in pair.result.evidence]
    # A digest over all epochs cannot match where one trial stopped early: such pairs are reported, not compared.
    stopped = _find_stopped_pairs(registration, known) if aspect in PER_EPOCH_ASPECTS else {}
    compared = [pair for pair in known if (pair.arm, pair.seed) not in stopped]
    distinct_texts = list(dict.fromkeys(stopped.values()))
    stopped_text = f"; {join_words(distinct_texts, max_words=4)}" if distinct_texts else ""
    if not compared:
        finding = f"no two trials under one seed can show it{stopped_text}"
        return IntegrityCheck(subject=subject, state="unknown", finding=finding)
    broken: dict[str, list[int]] = {}
    for pair in compared:
        if pair.baseline.evidence[aspect] != pair.result.evidence[aspect]:
            broken.setdefault(pair.arm, []).append(pair.seed)
    if not broken:
        arms_text = ""
        if not stopped:
            arms_text = "every arm that trains" if registration.tested else "every arm"
        finding = _describe_equality(compared, arms_text) + stopped_text
        return IntegrityCheck(subject=subject, state="in part" if stopped else "kept", finding=finding)
    undeclared = {arm: seeds for arm, seeds in broken.items() if not _is_declared(aspect, registration, arm)}
    broken_text = "; ".join(f"{arm} under {name_seeds(seeds)}" for arm, seeds in (undeclared or broken).items())
    if not undeclared:
        finding = f"different from the baseline's: {broken_text}{stopped_text}"
        return IntegrityCheck(subject=subject, state="declared", finding=finding)
    return IntegrityCheck(
        subject=subject,
        state="broken",
        finding=f"not the baseline's: {broken_text}{stopped_text}",
        warning=f"{subject.lower()} is not the baseline's: {broken_text}",
    )


def _describe_equality(compared: list[PairedResult], arms_text: str) -> str:
    seeds = format_count(len({pair.seed for pair in compared}), "seed")
    if arms_text:
        return f"equal to the baseline's in {arms_text}, under {seeds}"
    return f"equal to the baseline's in {format_count(len(compared), 'pair')} of trials, under {seeds}"


def _find_stopped_pairs(registration: Registration, pairs: list[PairedResult]) -> dict[tuple[str, int], str]:
    """Find pairs in which one trial became non-finite and stopped early: a text by arm and seed."""
    stopped = {}
    for pair in pairs:
        if any(change.path == "recipe.epochs" for change in registration.changes.get(pair.arm, ())):
            continue  # the arms declare unequal lengths: the shorter one need not have stopped
        name, shorter, longer = pair.arm, pair.result, pair.baseline
        if len(pair.baseline.times) < len(pair.result.times):
            name, shorter, longer = registration.baseline, pair.baseline, pair.result
        if shorter.status == "non-finite" and len(shorter.times) < len(longer.times):
            num_epochs = format_count(len(shorter.times), "epoch")
            stopped[pair.arm, pair.seed] = f"{name} under seed {pair.seed} stopped after {num_epochs}"
    return stopped


def _is_declared(aspect: str, registration: Registration, arm: str) -> bool:
    """Whether an arm changes a setting that gives it another value of an aspect."""
    if aspect in REDRAWN_ASPECTS.get(registration.placebos.get(arm, ""), ()):
        return True
    changes = registration.changes.get(arm, ())
    return any(change.path.startswith(DECLARING_PATHS[aspect]) for change in changes)


def _check_weights(registration: Registration, pairs: list[PairedResult]) -> Iterator[IntegrityCheck]:
    """Check, per arm, that layers common with the baseline start from equal weights."""
    for arm in registration.arms[1:]:
        reasons: dict[str, WeightsReason] = {}
        for pair in pairs:
            if pair.arm != arm:
                continue
            for layer_path, reason in _compare_layers(registration, pair).items():
                # Over seeds, the most severe reason of a layer counts.
                reasons[layer_path] = max(reasons.get(layer_path, "equal"), reason, key=WEIGHTS_REASONS.index)
        if reasons:
            yield _make_weights_check(arm, registration.baseline, reasons)


def _compare_layers(registration: Registration, pair: PairedResult) -> dict[str, WeightsReason]:
    """Return, per layer that both networks have, why its initial weights differ, or ``equal``."""
    before, after = pair.baseline.evidence, pair.result.evidence
    copied = {*str(before.get("copied", "")).split(","), *str(after.get("copied", "")).split(",")}
    changes = registration.changes.get(pair.arm, ())
    is_redrawn = registration.placebos.get(pair.arm) == "weights"
    is_declared = is_redrawn or any(change.path in INITIALIZATION_PATHS for change in changes)
    reasons: dict[str, WeightsReason] = {}
    for name in before:
        if not name.startswith(WEIGHTS_PREFIX) or name not in after:
            continue
        layer_path = name.removeprefix(WEIGHTS_PREFIX)
        if before[name] == after[name]:
            reasons[layer_path] = "equal"
        elif layer_path in copied:
            reasons[layer_path] = "copied"
        elif is_declared:
            reasons[layer_path] = "declared"
        else:
            reasons[layer_path] = _undeclared_reason(registration, pair.arm, layer_path)
    return reasons


def _undeclared_reason(registration: Registration, arm: str, layer_path: str) -> WeightsReason:
    """Explain weights that differ although no setting declares it."""
    # Another shape is visible in the instantiated networks.
    if arm not in registration.built or any(change.path == layer_path for change in registration.built[arm]):
        return "another shape"
    # An external module draws all its layers from one stream: one more layer shifts the draws of those after it.
    changes = registration.changes.get(arm, ())
    return "another order" if any(change.path.startswith("network.init_args") for change in changes) else "unexplained"


def _make_weights_check(arm: str, baseline: str, reasons: Mapping[str, WeightsReason]) -> IntegrityCheck:
    counts = Counter(reasons.values())
    layers = format_count(len(reasons), "layer")
    findings = [f"{counts['equal']} of the {layers} that {arm} and {baseline} both have start equal"]
    for reason, text in REASON_TEXTS.items():
        layer_paths = [layer_path for layer_path, found in reasons.items() if found == reason]
        if layer_paths:
            findings.append(f"{text}: {_abbreviate_list(layer_paths)}")
    worst = max(reasons.values(), key=WEIGHTS_REASONS.index)
    # `REASON_TEXTS` ends with "unexplained", so the last finding is the one to warn of.
    warning = f"layers of {arm} start {findings[-1]}" if worst == "unexplained" else ""
    return IntegrityCheck(
        subject=f"Initial weights of {arm}", state=REASON_STATES[worst], finding="; ".join(findings), warning=warning
    )


def _abbreviate_list(layer_paths: list[str]) -> str:
    """Join the first three layer paths and the number of others."""
    if len(layer_paths) <= 3:
        return join_words(layer_paths)
    return join_words([*layer_paths[:3], format_count(len(layer_paths) - 3, "other")])


def _check_warm_starts(registration: Registration, results: TrialsByKey) -> Iterator[IntegrityCheck]:
    """Check that every warm start took the weights of the source network trained under its own seed."""
    for arm, source in registration.donors.items():
        correct: list[int] = []
        wrong: list[int] = []
        for (name, seed), result in results.items():
            if name != arm or "donor" not in result.evidence or (source, seed) not in results:
                continue
            # A trial logs the fingerprint of the network that it started from.
            is_correct = result.evidence["donor"] == results[source, seed].fingerprint
            (correct if is_correct else wrong).append(seed)
        subject = f"Start of {arm}"
        if wrong:
            finding = f"not from the trial of {source} in this record, under {name_seeds(wrong)}"
            yield IntegrityCheck(subject=subject, state="broken", finding=finding, warning=f"{arm} starts {finding}")
        elif correct:
            finding = f"from {source} as trained under the same seed, under {format_count(len(correct), 'seed')}"
            yield IntegrityCheck(subject=subject, state="kept", finding=finding)


def _check_evaluations(registration: Registration, results: TrialsByKey) -> Iterator[IntegrityCheck]:
    """Check that every evaluating arm evaluated the networks trained under its own seed, bit for bit."""
    hashes = _evaluated_weight_hashes(registration, results)
    for arm, evaluated in registration.tested.items():
        correct: list[int] = []
        wrong: list[int] = []
        for (name, seed), result in results.items():
            has_networks = all((network, seed) in results for network in evaluated)
            if name != arm or "donors" not in result.evidence or not has_networks:
                continue
            fingerprints = [results[network, seed].fingerprint for network in evaluated]
            has_same_trials = fingerprints == str(result.evidence["donors"]).split(",")
            # All arms that evaluated a network must have found the same weights in it.
            has_same_weights = all(len(hashes[network, seed]) == 1 for network in evaluated)
            (correct if has_same_trials and has_same_weights else wrong).append(seed)
        subject, networks = f"Networks evaluated in {arm}", join_words(evaluated)
        if wrong:
            seeds = name_seeds(wrong)
            finding = f"not those of {networks} as this record and the other arms have them, under {seeds}"
            warning = f"{arm} evaluated networks that are {finding}"
            yield IntegrityCheck(subject=subject, state="broken", finding=finding, warning=warning)
        elif correct:
            seeds = format_count(len(correct), "seed")
            finding = f"those of {networks} as trained under the same seed, bit for bit, under {seeds}"
            yield IntegrityCheck(subject=subject, state="kept", finding=finding)


def _evaluated_weight_hashes(registration: Registration, results: TrialsByKey) -> dict[tuple[str, int], set[str]]:
    """Hashes of the weights that evaluating arms loaded, by network and seed: one each where all is well."""
    hashes: dict[tuple[str, int], set[str]] = {}
    for (arm, seed), result in results.items():
        logged = str(result.evidence.get("tested", "")).split(",")
        for network, weights_hash in zip(registration.tested.get(arm, ()), logged, strict=False):
            hashes.setdefault((network, seed), set()).add(weights_hash)
    return hashes


def _describe_digest_mismatch(digest_name: str, text: str, ended: list[tuple[str, Result]]) -> str:
    """Describe which arms have which value of a digest; empty where all trials agree."""
    arms_by_digest: dict[str, Counter[str]] = {}
    for arm, result in ended:
        digest = str(result.digests.get(digest_name, "unknown"))
        arms_by_digest.setdefault(digest, Counter())[arm] += 1
    if len(arms_by_digest) < 2:
        return ""
    # Twelve hexadecimal digits identify a digest, as for Git.
    groups = [f"{digest[:12]}: {format_counts(arms)}" for digest, arms in sorted(arms_by_digest.items())]
    return f"{text} ({'; '.join(groups)})."
