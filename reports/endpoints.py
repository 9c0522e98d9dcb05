"""What a study's trials say of each endpoint: an array of arms x planned seeds, NaN where a trial says nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from ablations import Endpoint
from studies.records import StudyRecord, TrialRecord
from studies.results import Result

Values = npt.NDArray[np.float64]
MEBIBYTE = 2.0**20
SMALL_SHARE = 0.05  # of the baseline's mean, for endpoints without a registered smallest effect
UNITS: dict[Endpoint, str] = {
    "test_error": "points",
    "training_error": "points",
    "trainability": "",
    "gradient_norm": "",
    "memory": "MiB",
    "time": "s",
}


def values(record: StudyRecord, endpoint: Endpoint) -> Values:
    """The endpoint of every finished trial; time with that of the donor.

    Trainability also of every diverged trial, and the gradient of those whose loss and gradient stayed finite.
    """
    found = table(record, _READERS[endpoint])
    return found + donor_seconds(record) if endpoint == "time" else found


def donor_seconds(record: StudyRecord) -> Values:
    """Training time of all that each trial started from: 0 for arms from scratch, NaN where it is not known.

    A donor that diverged is charged like any other: its time was spent. So is the donor that a donor started from.
    """
    trials = {(trial.arm, trial.seed): trial for trial in reversed(record.trials)}

    def read(trial: TrialRecord) -> float:
        donors = [trials.get((name, trial.seed)) for name in record.registration.chain(trial.arm)]
        return math.fsum(cost(donor, "train_seconds", diverged=True) if donor else math.nan for donor in donors)

    return table(record, read)


def table(record: StudyRecord, read: Callable[[TrialRecord], float]) -> Values:
    """One number per registered arm and planned seed; NaN where there is no trial or no finite number."""
    registration = record.registration
    trials = {(trial.arm, trial.seed): trial for trial in reversed(record.trials)}
    made = np.full((len(registration.arms), len(registration.seeds)), np.nan)
    for row, arm in enumerate(registration.arms):
        for column, seed in enumerate(registration.seeds):
            trial = trials.get((arm, seed))
            if trial is not None and math.isfinite(value := read(trial)):
                made[row, column] = value
    return made


def untrained(record: StudyRecord, endpoint: Endpoint) -> npt.NDArray[np.bool_]:
    """Where a trial diverged, arms x planned seeds; for the gradient, where it diverged and left none to read."""
    lost = np.asarray(table(record, lambda trial: float(trial.state == "diverged")) == 1)
    return lost & ~np.isfinite(values(record, endpoint)) if endpoint == "gradient_norm" else lost


def smallest_effect(record: StudyRecord, endpoint: Endpoint) -> float:
    """The registered smallest effect for errors; none for trainability; else 5% of the baseline's mean."""
    if endpoint in ("test_error", "training_error"):
        return record.registration.smallest_effect
    if endpoint == "trainability":
        return 0.0
    baseline = values(record, endpoint)[0]
    return SMALL_SHARE * float(np.nanmean(baseline)) if np.isfinite(baseline).any() else 0.0


def metric(trial: TrialRecord, name: str, *, diverged: bool = False) -> float:
    """A finished trial's final metric, or that of a diverged one where asked for; NaN for any other."""
    return _mapped(trial, lambda result: result.metrics, name, diverged=diverged)


def cost(trial: TrialRecord, name: str, *, diverged: bool = False) -> float:
    """A finished trial's cost, or that of a diverged one where asked for; NaN for any other."""
    return _mapped(trial, lambda result: result.cost, name, diverged=diverged)


def _mapped(
    trial: TrialRecord, of: Callable[[Result], Mapping[str, float]], name: str, *, diverged: bool = False
) -> float:
    states = ("finished", "diverged") if diverged else ("finished",)
    if trial.state not in states or trial.result is None:
        return math.nan
    return float(of(trial.result).get(name, math.nan))


def _first_layers_gradient(trial: TrialRecord) -> float:
    """Mean over the epochs of the gradient norm of the first layer's weights: low where early layers starve.

    It is a mechanism and no performance: of a diverged trial it is read as well, where loss and gradient are finite
    to the end. A trial stuck at chance is what starved layers look like; one that stopped has no mean over all epochs.
    """
    if trial.state not in ("finished", "diverged") or trial.result is None:
        return math.nan
    curves = trial.result.curves
    if trial.state == "diverged" and not np.isfinite(curves.get("train_loss", ())).all():
        return math.nan
    layers = [curve for name, curve in curves.items() if name.startswith("gradient_norm/")]
    return float(np.mean(layers[0])) if layers and len(layers[0]) else math.nan


def _trained(trial: TrialRecord) -> float:
    return {"finished": 1.0, "diverged": 0.0}.get(trial.state, math.nan)


_READERS: dict[Endpoint, Callable[[TrialRecord], float]] = {
    "test_error": lambda trial: metric(trial, "test_error"),
    "training_error": lambda trial: metric(trial, "train_error"),
    "trainability": _trained,
    "gradient_norm": _first_layers_gradient,
    "memory": lambda trial: cost(trial, "peak_memory_bytes") / MEBIBYTE,
    "time": lambda trial: cost(trial, "train_seconds"),
}
