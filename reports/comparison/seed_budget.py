"""Whole seeds that fit a budget, and the differences that these can find, for ``ablate plan --max-time``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from reports.statistics.power import MAX_SEEDS, FamilyDesign, detectable_difference, difference_power
from studies.design.budget import RunBudget, Spending
from studies.design.study import Study, make_trials
from studies.design.trial import Trial
from studies.hardware import count_cores, count_gpus
from studies.records.study_record import RecordedTrial, StudyRecord, bundle_size_of, device_of
from studies.runner.limits.durations import TrialDurations
from studies.runner.limits.seed_forecast import SeedForecast, count_fitting_seeds


@dataclass(frozen=True, kw_only=True)
class SeedBudget:
    """Seeds that fit a budget.

    Attributes:
        limits: the budget.
        text: the limits in words.
        further: whole seeds that fit, beside those that are recorded; ``None`` where an arm's time is unknown.
        seeds: with those that are recorded.
        trials: of the further seeds.
        spending: expected of the further seeds, from the command to its end.
        cost: of the GPU hours; ``None`` without a price.
        detectable: smallest difference that all seeds find with the plan's power, points; ``None`` below two seeds.
        power: of all seeds at the smallest effect of interest, 0 to 1; ``None`` below two seeds.
        note: what is missing, and what to do; empty where at least one seed fits.
    """

    limits: RunBudget
    text: str
    further: int | None = None
    seeds: int | None = None
    trials: int | None = None
    spending: Spending | None = None
    cost: float | None = None
    detectable: float | None = None
    power: float | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class PowerTarget:
    """What decides the power of some seeds: noise and smallest effect in points, and the power that is required."""

    deviation: float
    smallest_effect: float
    power: float
    design: FamilyDesign


def plan_budget(
    study: Study,
    pilot: StudyRecord | None,
    budget: RunBudget,
    target: PowerTarget,
    *,
    num_recorded: int,
    gpus_per_trial: float,
    estimate_trial: Callable[[Trial, float], float],
) -> SeedBudget:
    """Count the whole seeds that a budget has room for, and say what they can find.

    Args:
        pilot: the recorded study, whose times are used.
        num_recorded: its seeds, which are not trained again.
        gpus_per_trial: of this machine's GPUs, of which one is assumed without any; 0 for one core each.
        estimate_trial: seconds of a trial of which nothing is measured, by its GPUs; not-a-number where it is unknown.

    Raises:
        InvalidValue: for a limit of GPU hours without GPUs.
    """
    budget.require_gpus(takes_gpus=gpus_per_trial > 0)
    device = "cuda" if gpus_per_trial else "cpu"
    measured = [trial for trial in pilot.trials if trial.result and device_of(trial.result) == device] if pilot else []
    share = gpus_per_trial / max(1, count_gpus()) if gpus_per_trial else 1 / count_cores()
    forecast = SeedForecast(
        trials=make_trials(study.setups(), study.seeds[:1]),
        durations=_measured_durations(study, measured, lambda trial: estimate_trial(trial, gpus_per_trial)),
        share=min(1.0, share),
        gpus=gpus_per_trial,
        bundle_size=_bundle_size(measured),
    )
    arm = forecast.unmeasured_arm()
    if arm:
        note = (
            f"the time of {arm} is not known, so no seeds can be counted: "
            f"`ablate run {study.name} --seeds 1` measures it"
        )
        return SeedBudget(limits=budget, text=budget.describe(), note=note)
    further = count_fitting_seeds(budget, forecast.spending, MAX_SEEDS)
    if not further:
        note = f"not one seed fits: it takes about {budget.describe_remedy(forecast.spending(1))}"
        return SeedBudget(limits=budget, text=budget.describe(), further=0, seeds=num_recorded, trials=0, note=note)
    spending, seeds = forecast.spending(further), num_recorded + further
    detectable = power = cost = None
    if seeds > 1:  # one seed has no interval, so no power
        detectable = target.deviation * detectable_difference(seeds, target.design, power=target.power)
        power = difference_power(target.smallest_effect, target.deviation, seeds, target.design)
    if budget.price_per_gpu_hour is not None and gpus_per_trial:
        cost = spending.gpu_hours * budget.price_per_gpu_hour
    return SeedBudget(
        limits=budget,
        text=budget.describe(),
        further=further,
        seeds=seeds,
        trials=further * len(forecast.trials),
        spending=spending,
        cost=cost,
        detectable=detectable,
        power=power,
    )


def _measured_durations(
    study: Study, measured: Iterable[RecordedTrial], estimate_trial: Callable[[Trial], float]
) -> TrialDurations:
    """Times of the recorded trials, as a start that resumes the study measures them."""
    durations = TrialDurations(estimate_trial)
    setups = study.setups()
    for recorded in measured:
        if recorded.result is not None and recorded.arm in setups:
            trial = Trial(arm=recorded.arm, setup=setups[recorded.arm], seed=recorded.seed)
            durations.record_result(trial, recorded.result)
    return durations


def _bundle_size(measured: Iterable[RecordedTrial]) -> int:
    """Seeds that the recorded study trained at once."""
    return max((bundle_size_of(trial.result) for trial in measured if trial.result), default=1)
