"""What MLflow holds of a trial's result, and how long a study's trials took."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from mlflow.entities import Metric

from studies.records.results import Result

# Kept per run in one tag, of at most 8,000 characters also where each of these is escaped.
MAX_FAULTS = 10
MAX_FAULT_LENGTH = 350
FULLY_LOGGED_EPOCHS = 512
EVIDENCE_NAMES = ("order", "augmentation", "split", "steps", "donors")  # of what a trial did; logged as tags


def is_logged(epoch: int) -> bool:
    """Whether an epoch's metrics go to the tracking store: all of the first 512, then ever fewer.

    Every second one of the next 512, every fourth one of the next 1,024, and so on: 5,000 epochs give 1,337 points.
    Results and reports have all epochs; the rule needs no planned number of epochs, so that a resumed or extended
    trial logs the same ones.
    """
    stride: int = 1 << (epoch // FULLY_LOGGED_EPOCHS).bit_length()
    return epoch % stride == 0 if epoch >= FULLY_LOGGED_EPOCHS else True


def final_metrics(result: Result) -> list[Metric]:
    """The final metrics and costs of a trial.

    One that shares its name with a curve gets the prefix ``final_``: the curve is of training, it of evaluation mode.
    """
    time_ms = int(result.times[-1] * 1000) if result.times else 0
    values: dict[str, float] = {}
    for name, value in result.metrics.items():
        values[f"final_{name}" if name in result.curves else name] = value
    values.update(result.cost)
    return [Metric(name, value, time_ms, len(result.times)) for name, value in values.items()]


def result_tags(result: Result, attempts: int, faults: Sequence[str]) -> dict[str, object]:
    """Tags of a trial's run once it has ended: attempts, faults, evidence and environment."""
    tags: dict[str, object] = {"epochs": len(result.times), "attempts": attempts}
    if faults:
        shortened = [fault[:MAX_FAULT_LENGTH] for fault in faults[-MAX_FAULTS:]]
        tags["faults"] = json.dumps(shortened, ensure_ascii=False)
    for name in EVIDENCE_NAMES:
        if name in result.evidence:
            tags[f"evidence.{name}"] = result.evidence[name]
    for name, value in result.environment.items():
        tags[f"environment.{name}"] = value
    return tags


def training_seconds(results: Iterable[Result]) -> float:
    """Seconds during which at least one of some trials trained, epoch by epoch.

    A study that was interrupted for a night did not train meanwhile, and trials at the same time count once.
    """
    epochs: list[tuple[float, float]] = []
    for result in results:
        for end, seconds in zip(result.times, result.curves.get("seconds", ()), strict=False):  # damaged: some lack
            epochs.append((end - seconds, end))
    total = 0.0
    covered_until = float("-inf")
    for start, end in sorted(epochs):
        total += max(0.0, end - max(start, covered_until))
        covered_until = max(covered_until, end)
    return total
