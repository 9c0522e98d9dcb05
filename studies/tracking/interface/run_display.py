"""How runs appear in MLflow's lists: the names of studies and trials, and how long a run lasted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlflow.entities import Run

from lightning_modules.specs.values import Leaf
from studies.design.trial import Trial
from studies.records.registration import Registration
from studies.records.results import Result
from studies.tracking.interface.trial_values import training_seconds


def join_overrides(overrides: Mapping[str, Leaf]) -> str:
    """``--set`` changes as text, as a study's run bears them."""
    return ", ".join(f"{path}={value}" for path, value in overrides.items())


def study_run_name(registration: Registration) -> str:
    """Name of a study's run: its ablation, its protocol and its ``--set`` changes."""
    name = f"{registration.study} under {registration.protocol}"
    overrides = join_overrides(registration.overrides)
    return f"{name} ({overrides})" if overrides else name


def study_end_ms(study_run: Run, own_results: Sequence[Result], searches: Sequence[Run]) -> int | None:
    """The end by which MLflow shows how long a study trained, in all of its starts; ``None`` for now.

    With a search, now: its candidates' times are not at hand; nor is there another where all trials were reused.
    """
    seconds = 0.0 if searches else training_seconds(own_results)
    return int(study_run.info.start_time + 1000 * seconds) if seconds else None


def trial_end_ms(run: Run, result: Result) -> int | None:
    """The end by which MLflow shows how long a trial trained where it was logged afterwards; ``None`` for now."""
    if not result.times or 1000 * result.times[-1] > run.info.start_time:
        return None
    return int(run.info.start_time + 1000 * training_seconds([result]))


def trial_run_name(trial: Trial, tags: Mapping[str, str]) -> str:
    """Name of a trial's run: its arm and seed, and which candidate it is or that its recipe was tuned."""
    if trial.is_candidate:
        return f"{trial.arm}, candidate {trial.candidate}, rung {tags['rung']}, seed {trial.seed}"
    suffix = ", tuned" if tags["recipe"] == "tuned" else ""
    return f"{trial.arm}, seed {trial.seed}{suffix}"
