"""Outcomes of trials: failures, their reasons, and the environments they ran in."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Literal, get_args

from lightning_modules.specs.text import format_count
from reports.analysis.chance import describe_training
from reports.analysis.endpoints import read_metric
from studies.records.results import UNTRAINED_STATUSES
from studies.records.study_record import RecordedTrial, StudyRecord


@dataclass(frozen=True, kw_only=True)
class TrialFailure:
    """A trial without a test error, and the reason."""

    arm: str
    seed: int
    state: str
    reason: str


def planned_trials(record: StudyRecord) -> tuple[RecordedTrial, ...]:
    """Trials of registered arms under planned seeds, one per arm and seed, in registered order."""
    return _first_trials(record, record.registration.arms)


def dependency_trials(record: StudyRecord) -> tuple[RecordedTrial, ...]:
    """Trials that arms start from or evaluate and that belong to no arm, under planned seeds."""
    registration = record.registration
    required = dict.fromkeys((*registration.donors.values(), *chain(*registration.tested.values())))
    return _first_trials(record, [name for name in required if name not in registration.arms])


def _first_trials(record: StudyRecord, arms: Iterable[str]) -> tuple[RecordedTrial, ...]:
    """The first recorded trial of every arm under every planned seed, where there is one."""
    # Reversed, so that of repeated trials the first one recorded wins.
    first = {(trial.arm, trial.seed): trial for trial in reversed(record.trials)}
    trials = []
    for arm in arms:
        for seed in record.registration.seeds:
            if (arm, seed) in first:
                trials.append(first[arm, seed])
    return tuple(trials)


def find_failures(trials: Iterable[RecordedTrial]) -> tuple[TrialFailure, ...]:
    """List every trial that ended without a test error, or has not ended."""
    failures = []
    for trial in trials:
        reason = _failure_reason(trial)
        if reason:
            state = "finished, no test error" if trial.state == "finished" else trial.state
            failures.append(TrialFailure(arm=trial.arm, seed=trial.seed, state=state, reason=reason))
    return tuple(failures)


def summarize_environments(trials: Iterable[RecordedTrial]) -> tuple[tuple[str, str], ...]:
    """Hardware and versions that the trials ran on: each entry with its value, or with the trials per value."""
    counts_by_name: dict[str, Counter[str]] = {}
    for trial in trials:
        environment = trial.result.environment if trial.result else {}
        for name, value in environment.items():
            counts_by_name.setdefault(name, Counter())[str(value)] += 1
    return tuple((name, format_counts(counts)) for name, counts in sorted(counts_by_name.items()))


WeightsReason = Literal["equal", "copied", "declared", "another order", "another shape", "unexplained"]
WEIGHTS_REASONS: tuple[WeightsReason, ...] = get_args(WeightsReason)  # in increasing severity

REASON_TEXTS: dict[WeightsReason, str] = {
    "copied": "copied from a source network",
    "declared": "drawn differently, as the arm declares",
    "another order": "drawn in another order by an external module",
    "another shape": "of another shape or scale",
    "unexplained": "differently, and nothing that the arm changes explains it",
}

REASON_STATES: dict[WeightsReason, Literal["kept", "declared", "in part", "broken"]] = {
    "equal": "kept",
    "copied": "declared",
    "declared": "declared",
    "another order": "in part",
    "another shape": "in part",
    "unexplained": "broken",
}


def _failure_reason(trial: RecordedTrial) -> str:
    """Return why a trial has no test error; empty where it has one."""
    if trial.state == "running":
        return "has not ended"
    if trial.state == "cancelled":
        return trial.cancel_reason or "cancelled"
    if trial.state in UNTRAINED_STATUSES:
        return _untrained_reason(trial)
    if trial.state == "failed":
        lines = (trial.result.error if trial.result else "").strip().splitlines()
        # The last line of a traceback holds the exception and its message.
        return lines[-1].strip() if lines else "failed without a traceback"
    return "" if math.isfinite(read_metric(trial, "test_error")) else "its test error is not a finite number"


def _untrained_reason(trial: RecordedTrial) -> str:
    evidence = trial.result.evidence if trial.result else {}
    if "donors" in evidence:  # a trial that only evaluates
        return f"evaluates a network that is {trial.state}"
    if trial.state == "at chance":
        return f"at chance{describe_training([trial])}: too few epochs?"
    if "classifier" in evidence:  # a trial that trains a linear probe
        return "its features are not finite"
    num_epochs = len(trial.result.times) if trial.result else 0
    return f"a loss or weight is not finite after {format_count(num_epochs, 'epoch')}"


def format_counts(counts: Mapping[str, int]) -> str:
    """Format trials per value: the value alone where there is one, else ``A (2 trials), B (1 trial)``."""
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{name} ({format_count(count, 'trial')})" for name, count in sorted(counts.items()))
