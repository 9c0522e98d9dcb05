"""Estimate the seconds of a trial of which nothing is measured yet, from a few timed steps on its device."""

from __future__ import annotations

import math

from lightning_modules.specs.errors import UserError
from studies.design.estimate import estimate_trial_seconds
from studies.design.trial import Trial
from studies.execution.processes.bundle_size import can_join_bundle, measure_step_seconds
from studies.execution.resources import Resources

INFERENCE_SHARE = 0.5  # of a training step; a forward pass is a third of its arithmetic


def estimate_seconds(trial: Trial, resources: Resources) -> float:
    """Estimate a trial's seconds on its own; not-a-number where no step can be timed."""
    if resources.device == "cuda":
        return _estimate_on_gpu(trial, resources)
    try:
        seconds = estimate_trial_seconds(trial.setup)
    except UserError:  # the trial will say what fails
        return math.nan
    return math.nan if seconds is None else seconds


def _estimate_on_gpu(trial: Trial, resources: Resources) -> float:
    if resources.address or not can_join_bundle(trial.setup):  # no GPU may be here; networks of users train themselves
        return math.nan
    seconds_per_step = measure_step_seconds(trial.setup, "cuda")
    seconds_per_image = seconds_per_step / trial.setup.recipe.batch_size
    if not math.isfinite(seconds_per_image):
        return math.nan
    seconds = estimate_trial_seconds(trial.setup, (seconds_per_image, INFERENCE_SHARE * seconds_per_image))
    return math.nan if seconds is None else seconds
