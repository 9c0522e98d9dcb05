"""Endpoint values of a study: arrays of arms x planned seeds, NaN where a trial has no value.

Latency belongs to an arm's network, whatever its seed: its columns are the processes in which it was measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ablations import ERROR_ENDPOINTS, Endpoint
from studies.records.registration import Registration
from studies.records.results import UNTRAINED_STATUSES, Result
from studies.records.study_record import RecordedTrial, StudyRecord, bundle_size_of

EndpointValues = npt.NDArray[np.float64]  # arms x planned seeds
MEBIBYTE = 2.0**20
MILLISECOND = 1e-3
RELATIVE_SMALLEST_EFFECT = 0.05  # of the baseline's mean, for endpoints without a registered smallest effect

ENDPOINT_UNITS: dict[Endpoint, str] = {
    "test_error": "points",
    "balanced_error": "points",
    "training_error": "points",
    "trainability": "",
    "gradient_norm": "",
    "memory": "MiB",
    "time": "s",
    "latency": "ms",
}


def endpoint_values(record: StudyRecord, endpoint: Endpoint) -> EndpointValues:
    """Tabulate an endpoint over all finished trials; time includes that of source networks.

    Trainability is read from untrained networks too, and so is the gradient where loss and gradient stayed finite.
    """
    if endpoint == "latency":
        return latency_by_process(record)
    values = tabulate_trials(record, _ENDPOINT_READERS[endpoint])
    # An arm that starts from a trained network would otherwise look cheaper than it is.
    return values + source_train_seconds(record) if endpoint == "time" else values


def latency_by_process(record: StudyRecord) -> EndpointValues:
    """P50 of the latency at batch size 1, ms, arms x processes; NaN for an arm without one."""
    measurement = record.latency
    table = np.full((len(record.registration.arms), measurement.num_processes if measurement else 0), np.nan)
    for row, arm in enumerate(record.registration.arms):
        latency = measurement.find(arm) if measurement else None
        if latency:
            table[row] = np.array(latency.p50) / MILLISECOND
    return table


def source_train_seconds(record: StudyRecord) -> EndpointValues:
    """Training time of all source networks of each trial, arms x planned seeds.

    0 for arms trained from scratch, NaN where it is unknown. A source network that did not train is charged like any
    other: its time was spent. So is the source of a source.
    """
    trials = {(trial.arm, trial.seed): trial for trial in reversed(record.trials)}

    def read_source_seconds(trial: RecordedTrial) -> float:
        seconds = []
        for name in record.registration.source_chain(trial.arm):
            source = trials.get((name, trial.seed))
            seconds.append(read_cost(source, "train_seconds", untrained=True) if source else math.nan)
        return math.fsum(seconds)

    return tabulate_trials(record, read_source_seconds)


def tabulate_trials(record: StudyRecord, read_value: Callable[[RecordedTrial], float]) -> EndpointValues:
    """Tabulate one number per registered arm and planned seed; NaN where it is missing or not finite."""
    registration = record.registration
    trials = {(trial.arm, trial.seed): trial for trial in reversed(record.trials)}  # the first of repeated trials wins
    table = np.full((len(registration.arms), len(registration.seeds)), np.nan)
    for row, arm in enumerate(registration.arms):
        for column, seed in enumerate(registration.seeds):
            trial = trials.get((arm, seed))
            if trial is None:
                continue
            value = read_value(trial)
            if math.isfinite(value):
                table[row, column] = value
    return table


def lost_to_divergence(record: StudyRecord, endpoint: Endpoint) -> npt.NDArray[np.bool_]:
    """Return where a trial has no value because it is non-finite or at chance: booleans, arms x planned seeds."""
    if endpoint == "latency":  # of the network, trained or not
        return np.zeros(endpoint_values(record, endpoint).shape, dtype=bool)
    lost = np.asarray(tabulate_trials(record, lambda trial: float(trial.state in UNTRAINED_STATUSES)) == 1)
    if endpoint == "gradient_norm":  # a network at chance has a gradient to the end: it is not lost
        return lost & ~np.isfinite(endpoint_values(record, endpoint))
    return lost


def smallest_effect(record: StudyRecord, endpoint: Endpoint) -> float:
    """Smallest effect of interest: as registered for errors, 0 for trainability, else 5% of the baseline's mean."""
    if endpoint in ERROR_ENDPOINTS:
        return record.registration.smallest_effect
    if endpoint == "trainability":
        return 0.0
    baseline = endpoint_values(record, endpoint)[0]  # the first registered arm
    return RELATIVE_SMALLEST_EFFECT * float(np.nanmean(baseline)) if np.isfinite(baseline).any() else 0.0


def value_resolution(registration: Registration, endpoint: Endpoint) -> float:
    """Smallest step of an error: one example of its split, in points; 0 where it has none or none is known."""
    if endpoint == "balanced_error":
        class_sizes = [counts.get("test", 0) for counts in registration.class_counts.values()]
        # The mean over classes: one example of the largest class moves it least.
        largest = max(class_sizes, default=0)
        return 100 / (len(class_sizes) * largest) if largest else 0.0
    split = {"test_error": "test", "training_error": "train"}.get(endpoint, "")
    num_examples = registration.data.get(split, 0)
    return 100 / num_examples if isinstance(num_examples, int) and num_examples > 0 else 0.0


def read_metric(trial: RecordedTrial, name: str, *, untrained: bool = False) -> float:
    """Read the final metric of a finished trial (on request also of one that did not train); NaN for any other."""
    return float(trial.result.metrics.get(name, math.nan)) if _is_read(trial, untrained) and trial.result else math.nan


def read_cost(trial: RecordedTrial, name: str, *, untrained: bool = False) -> float:
    """Read a cost of a finished trial (on request also of one that did not train); NaN for any other."""
    return cost_share(trial.result, name) if _is_read(trial, untrained) and trial.result else math.nan


def cost_share(result: Result, name: str) -> float:
    """A trial's share of a cost; NaN where it was not measured.

    What is measured in a bundle is the bundle's: its trials have a share each of its time and its memory, and it
    handles as many times as many images a second as each of them.
    """
    value = float(result.cost.get(name, math.nan))
    bundle_size = bundle_size_of(result)
    return value * bundle_size if name.endswith("images_per_second") else value / bundle_size


def _is_read(trial: RecordedTrial, untrained: bool) -> bool:
    return trial.state == "finished" or (untrained and trial.state in UNTRAINED_STATUSES)


def _first_layer_gradient_norm(trial: RecordedTrial) -> float:
    """Mean over epochs of the gradient norm of the first layer's weights: low where gradients vanish.

    It measures a mechanism, not performance, so it is read from a trial that did not train as well if loss and gradient
    are finite to the end: one stuck at chance is what vanishing gradients look like. One that stopped early has no
    mean over all epochs.
    """
    if trial.state not in ("finished", *UNTRAINED_STATUSES) or trial.result is None:
        return math.nan
    curves = trial.result.curves  # one value per epoch
    if trial.state != "finished" and not np.isfinite(curves.get("train_loss", ())).all():
        return math.nan
    # Curves are logged layer by layer, from the input on: the first is that of the first layer.
    layers = [curve for name, curve in curves.items() if name.startswith("gradient_norm/")]
    return float(np.mean(layers[0])) if layers and len(layers[0]) else math.nan


def _trained_indicator(trial: RecordedTrial) -> float:
    # A failed or running trial says nothing about trainability.
    return {"finished": 1.0, "non-finite": 0.0, "at chance": 0.0}.get(trial.state, math.nan)


_ENDPOINT_READERS: dict[Endpoint, Callable[[RecordedTrial], float]] = {
    "test_error": lambda trial: read_metric(trial, "test_error"),
    "balanced_error": lambda trial: read_metric(trial, "test_balanced_error"),
    "training_error": lambda trial: read_metric(trial, "train_error"),
    "trainability": _trained_indicator,
    "gradient_norm": _first_layer_gradient_norm,
    "memory": lambda trial: read_cost(trial, "peak_memory_bytes") / MEBIBYTE,
    "time": lambda trial: read_cost(trial, "train_seconds"),
}
