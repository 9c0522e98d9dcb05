"""Chance: what a constant answer would get, which trials are no better, and whether any arm is.

A constant answer is the class with the most examples, whatever the image: with 98 % of one class it has 2 % error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from lightning_modules.specs.text import format_count, join_words
from reports.formatting import format_fixed
from studies.records.results import UNTRAINED_STATUSES, Result
from studies.records.study_record import RecordedTrial, StudyRecord

Classes = npt.NDArray[np.uint16]
LUCK = 0.05  # probability that any arm passes for better than chance by the draw of the test images
BALANCED_THRESHOLD = 0.9  # of a constant answer's balanced error: small classes make that error coarse


@dataclass(frozen=True, kw_only=True)
class ConstantAnswer:
    """The largest class of the test split, always answered.

    Attributes:
        error: on the test split, percent.
        counts: test examples per class; empty where the record holds no labels.
    """

    error: float
    counts: tuple[int, ...] = ()


def constant_answer(record: StudyRecord) -> ConstantAnswer | None:
    """The constant answer on the test split; ``None`` in records of earlier versions without labels."""
    if record.labels is not None and len(record.labels):
        counts = np.bincount(record.labels)
        error = 100 * (1 - float(counts.max()) / len(record.labels))
        return ConstantAnswer(error=error, counts=tuple(map(int, counts)))
    for trial in record.trials:
        error = trial.result.metrics.get("test_constant_error", math.nan) if trial.result else math.nan
        if math.isfinite(error):
            return ConstantAnswer(error=error)
    return None


def describe_missing_learning(record: StudyRecord, trials: Sequence[RecordedTrial]) -> str:
    """Say that no arm beats the constant answer on the test split; empty where one does, or it is too early to tell."""
    arms = record.registration.arms
    ended: dict[str, list[RecordedTrial]] = {arm: [] for arm in arms}
    for trial in trials:
        if trial.state in ("finished", *UNTRAINED_STATUSES):
            ended[trial.arm].append(trial)
    unfinished = {trial.arm for trial in trials if trial.state == "running"}
    for arm in arms:
        num_recorded = sum(trial.arm == arm for trial in trials)
        if not ended[arm] and (arm in unfinished or num_recorded < len(record.registration.seeds)):
            return ""  # it may still learn
    states = {trial.state for arm_trials in ended.values() for trial in arm_trials}
    if not states or states == {"non-finite"}:  # there, something else is wrong
        return ""
    constant = constant_answer(record)
    finished = {arm: [trial for trial in ended[arm] if trial.state == "finished"] for arm in arms}
    if any(_beats_constant_answer(record, constant, finished[arm]) for arm in arms):
        return ""
    error_text = f", whose error is {format_fixed(constant.error, 1)}%" if constant else ""
    answer = "a constant answer (always the largest class)"
    text = f"Too short, or nothing to learn: no arm beats {answer} on the test split{error_text}."
    at_chance = describe_at_chance([trial for arm_trials in ended.values() for trial in arm_trials])
    return f"{text} {at_chance}" if at_chance else text


def _beats_constant_answer(
    record: StudyRecord, constant: ConstantAnswer | None, finished: Sequence[RecordedTrial]
) -> bool:
    results = [trial.result for trial in finished if trial.result]
    errors = [result.metrics.get("test_error", math.nan) for result in results]
    finite = [error for error in errors if math.isfinite(error)]
    if not finite:
        return False
    if constant is None:
        return True  # nothing is known against it
    predictions = _comparable_predictions(record, results)
    if not predictions or record.labels is None:
        return sum(finite) / len(finite) < constant.error
    return exceeds_chance(record.labels, predictions, len(record.registration.arms))


def _comparable_predictions(record: StudyRecord, results: Iterable[Result]) -> list[Classes]:
    size = 0 if record.labels is None else len(record.labels)
    return [
        result.predictions for result in results if result.predictions is not None and len(result.predictions) == size
    ]


def exceeds_chance(labels: Classes, predictions: Sequence[Classes], num_arms: int = 1) -> bool:
    """Whether an arm's networks beat the constant answer on a test split by more than luck.

    Their mean error must be below that of the largest class, or their balanced error clearly below that of any one
    class; and right answers more frequent than those of a classifier that answers the same classes equally often
    without looking at the image, beyond the one-sided 95 % quantile of the draw of the images (Bonferroni over arms).
    """
    num_classes = 1 + max(int(labels.max()), *(int(classes.max()) for classes in predictions))
    counts = np.bincount(labels, minlength=num_classes)
    hits = np.zeros(num_classes)
    rates = np.zeros(num_classes)
    for classes in predictions:
        hits += np.bincount(labels[classes == labels], minlength=num_classes) / len(predictions)
        rates += np.bincount(classes, minlength=num_classes) / (len(labels) * len(predictions))
    is_present = counts > 0
    counts, hits, rates = counts[is_present], hits[is_present], rates[is_present]
    recalls, variances = hits / counts, rates * (1 - rates) / counts
    quantile = NormalDist().inv_cdf(1 - LUCK / num_arms)
    for weights, required in (
        (counts / counts.sum(), counts.max() / counts.sum()),
        (np.full(len(counts), 1 / len(counts)), 1 - BALANCED_THRESHOLD * (1 - 1 / len(counts))),
    ):
        score, blind_score = float(weights @ recalls), float(weights @ rates)
        if score > required and score - blind_score > quantile * math.sqrt(weights**2 @ variances):
            return True
    return False


def describe_at_chance(trials: Iterable[RecordedTrial]) -> str:
    """Describe the trials that ended at chance, with their epochs and training errors; empty where there are none."""
    at_chance = [trial for trial in trials if trial.state == "at chance"]
    if not at_chance:
        return ""
    number = format_count(len(at_chance), "trial is", "trials are")
    return f"{number} at chance{describe_training(at_chance)}: too few epochs?"


def describe_training(trials: Sequence[RecordedTrial]) -> str:
    """Describe epochs and training error beside a constant answer's: `` after 2 epochs (training error …)``."""
    results = [trial.result for trial in trials if trial.result]
    epochs = sorted({len(result.times) for result in results if result.times})
    text = ""
    if epochs:
        shown = format_count(epochs[0], "epoch") if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]} epochs"
        text = f" after {shown}"
    details = []
    for name, label in (("train_error", "training error"), ("train_constant_error", "of a constant answer")):
        values = [result.metrics.get(name, math.nan) for result in results]
        shown_range = _format_range([value for value in values if math.isfinite(value)])
        if shown_range:
            details.append(f"{label} {shown_range}")
    return f"{text} ({', '.join(details)})" if details else text


def _format_range(values: Sequence[float]) -> str:
    if not values:
        return ""
    low, high = format_fixed(min(values), 1), format_fixed(max(values), 1)
    return f"{low}%" if low == high else f"{low} to {high}%"


def identical_arms(record: StudyRecord, trials: Iterable[RecordedTrial]) -> tuple[tuple[str, ...], ...]:
    """Groups of arms whose results are equal bit for bit under every seed, in registered order."""
    signatures: dict[str, dict[int, tuple[object, ...]]] = {arm: {} for arm in record.registration.arms}
    for trial in trials:
        if trial.result and trial.state in ("finished", *UNTRAINED_STATUSES):
            signatures[trial.arm][trial.seed] = _result_signature(trial.result)
    groups: dict[tuple[tuple[int, tuple[object, ...]], ...], list[str]] = {}
    for arm, by_seed in signatures.items():
        if by_seed:
            groups.setdefault(tuple(sorted(by_seed.items(), key=lambda item: item[0])), []).append(arm)
    return tuple(tuple(arms) for arms in groups.values() if len(arms) > 1)


def _result_signature(result: Result) -> tuple[object, ...]:
    """Everything that a trial computed, but no time; as text, in which not-a-number equals itself."""
    curves = {name: values for name, values in result.curves.items() if name != "seconds"}
    predictions = b"" if result.predictions is None else result.predictions.tobytes()
    return (repr(sorted(result.metrics.items())), repr(sorted(curves.items())), predictions)


def describe_identical_arms(arms: Sequence[str]) -> str:
    """Say what equal results mean."""
    return (
        f"{join_words(arms)} gave results that are equal bit for bit in every seed: what distinguishes them "
        "had no effect here"
    )
