"""Seed planning for ``ablate plan``: seeds that a question takes, their cost, and what the seeds at hand show.

Noise comes from a calibration, from a pilot (the recorded study), or is stated; power comes from simulation of the
verdict rule.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from lightning_modules.specs.errors import InvalidValue, UserError
from lightning_modules.specs.text import format_count, format_points, join_words
from reports.analysis.endpoints import endpoint_values, read_cost, tabulate_trials
from reports.analysis.placebos import without_placebos
from reports.analysis.trials import planned_trials
from reports.comparison.seed_budget import PowerTarget, plan_budget
from reports.statistics.evidence import ALPHA
from reports.statistics.families import study_family
from reports.statistics.power import (
    FamilyDesign,
    detectable_difference,
    deviation_upper_limit,
    difference_power,
    equivalence_power,
    estimate_sensitivity,
    seeds_for_difference,
    seeds_for_equivalence,
)
from studies.design.budget import NO_BUDGET, RunBudget
from studies.design.study import Study
from studies.design.trial import Trial
from studies.hardware import count_cores, count_gpus
from studies.records.study_record import RecordedTrial, StudyRecord, device_of


@dataclass(frozen=True, kw_only=True)
class _PowerQuestion:
    """A question, its power by SD and number of seeds, and the seeds that it takes by SD and power."""

    text: str
    power_at: Callable[[float, int], float]
    seeds_at: Callable[[float, float], int | None]


@dataclass(frozen=True, kw_only=True)
class PlanningNoise:
    """Noise assumed by a plan.

    Attributes:
        deviation: SD of a paired difference of two arms, points.
        cautious: upper 90% limit of a pilot's SD; ``None`` where the SD was stated.
        source: where the SD comes from, as printed.
    """

    deviation: float
    cautious: float | None
    source: str


@dataclass(frozen=True, kw_only=True)
class SeedCost:
    """Cost of further trials.

    Attributes:
        trials: number of trials still to be trained, of all arms.
        hours: total training time; ``None`` where no trial's time is known.
        wall_hours: the same in parallel on this machine's cores, or on its GPUs, of which one is assumed without any.
        gpu_hours: ``None`` for trials without a GPU.
        money: price of the GPU hours; ``None`` without a price.
    """

    trials: int
    hours: float | None
    wall_hours: float | None
    gpu_hours: float | None
    money: float | None


@dataclass(frozen=True, kw_only=True)
class SeedRequirement:
    """A question, and the seeds that it takes; ``None`` where 500 are not enough.

    Attributes:
        cautious: seeds for the upper limit of the pilot's SD; that of few seeds may be far too small.
        power_now: power of the seeds at hand, between 0 and 1.
        power_in_budget: power of the seeds that fit a budget; ``None`` without one, or where that is unknown.
    """

    question: str
    seeds: int | None
    cautious: int | None
    power_now: float
    power_in_budget: float | None
    cost: SeedCost | None
    cautious_cost: SeedCost | None


def plan_seeds(
    study: Study,
    pilot: StudyRecord | None,
    *,
    calibration: StudyRecord | None = None,
    standard_deviation: float | None = None,
    difference: float | None = None,
    equivalence: float | None = None,
    power: float = 0.8,
    num_seeds: int | None = None,
    gpus_per_trial: float | None = None,
    estimate_arm_seconds: Callable[[], float | None] = lambda: None,
    budget: RunBudget = NO_BUDGET,
    estimate_trial: Callable[[Trial, float], float] = lambda *_: math.nan,
) -> dict[str, Any]:
    """Plan the seeds of a study; the plan is plain data for JSON.

    Args:
        study: the study as declared.
        pilot: the study as recorded, whose noise and times are used.
        calibration: many trainings of the study's arms, whose noise is used if they are more than the pilot's.
        standard_deviation: SD of a paired difference, points, instead of a recorded one.
        difference: true difference to be found, points.
        equivalence: margin within which equal arms are to be shown equivalent, points; without both, each is the
            protocol's smallest effect.
        power: required power, between 0 and 1.
        num_seeds: whose power is told; by default those that are recorded, or else planned.
        gpus_per_trial: may be a fraction; by default as many as the pilot's trials had, or else as `ablate run` takes.
        estimate_arm_seconds: seconds to train one trial of every arm on a CPU, called where no pilot has measured them.
        budget: limits whose whole seeds are counted, and the price of a GPU hour, in any currency.
        estimate_trial: seconds of a trial that no pilot has measured, by its GPUs, for the budget.

    Raises:
        UserError: with neither a standard deviation nor a pilot of at least two seeds and arms; or for a limit of GPU
            hours without GPUs.
        InvalidValue: for a standard deviation, difference or margin that is not above 0, and a power beyond (0, 1).
    """
    _require_plannable(standard_deviation, difference, equivalence, power)
    design = family_design(study)
    noise = _planning_noise(study, pilot, calibration, standard_deviation, design)
    num_recorded = _count_started_seeds(pilot) if pilot else 0
    seeds_at_hand = num_seeds or (num_recorded if pilot else len(study.seeds))
    if gpus_per_trial is None:
        gpus_per_trial = _gpus_of_trials(pilot)
    seconds_per_seed = _seconds_per_seed(pilot, "cuda" if gpus_per_trial else "cpu")
    if seconds_per_seed is None and not gpus_per_trial:
        seconds_per_seed = estimate_arm_seconds()
    cost_of = partial(_cost_of_seeds, study, seconds_per_seed, num_recorded, gpus_per_trial, budget.price_per_gpu_hour)
    if difference is None and equivalence is None:
        difference = equivalence = study.protocol.smallest_effect
    planned_budget = None
    if budget.is_limited:
        target = PowerTarget(
            deviation=noise.deviation, smallest_effect=study.protocol.smallest_effect, power=power, design=design
        )
        planned_budget = plan_budget(
            study,
            pilot,
            budget,
            target,
            num_recorded=num_recorded,
            gpus_per_trial=gpus_per_trial,
            estimate_trial=estimate_trial,
        )
    seeds_in_budget = planned_budget.seeds if planned_budget else None
    answers = []
    for question in _power_questions(difference, equivalence, design):
        answers.append(asdict(_answer_question(question, noise, power, seeds_at_hand, seeds_in_budget, cost_of)))
    detectable = None
    if seeds_at_hand > 1:
        detectable = noise.deviation * detectable_difference(seeds_at_hand, design, power=power)
    return {
        "study": study.name,
        "protocol": study.protocol.name,
        "arms": len(study.ablation.all_arms),
        "contrasts": design.num_pairs,
        "alpha": design.alpha,
        "power": power,
        "spread": asdict(noise),
        "seeds_at_hand": seeds_at_hand,
        "detectable_at_hand": detectable,
        "smallest_effect": study.protocol.smallest_effect,
        "difference": difference,
        "equivalence": equivalence,
        "gpus_per_trial": gpus_per_trial,
        "answers": answers,
        "budget": asdict(planned_budget) if planned_budget else None,
    }


def _require_plannable(
    standard_deviation: float | None, difference: float | None, equivalence: float | None, power: float
) -> None:
    """Raise ``InvalidValue`` for a number that nothing can be planned with."""
    sizes = {"spread": standard_deviation, "difference": difference, "equivalence": equivalence}
    for name, value in sizes.items():
        if value is not None and not 0 < value < math.inf:
            raise InvalidValue(f"{name} is {value:g}; expected a number of points above 0.")
    if not 0 < power < 1:
        raise InvalidValue(f"power is {power:g}; expected a share between 0 and 1, such as 0.8.")


def _planning_noise(
    study: Study,
    pilot: StudyRecord | None,
    calibration: StudyRecord | None,
    stated_deviation: float | None,
    design: FamilyDesign,
) -> PlanningNoise:
    if stated_deviation is not None:
        return PlanningNoise(deviation=stated_deviation, cautious=None, source="as stated")
    pilot = without_placebos(pilot) if pilot else None
    sensitivity = estimate_sensitivity(endpoint_values(pilot, "test_error"), design) if pilot else None
    if calibration:
        noise = _calibration_noise(calibration, design)
        num_pilot_seeds = sensitivity.num_seeds if sensitivity else 0
        if noise and _count_complete_seeds(calibration) > num_pilot_seeds:
            return noise
    # NaN below two seeds or arms; 0 where the noise is not measurable.
    if sensitivity is None or not 0 < sensitivity.standard_deviation < math.inf:
        raise UserError(
            f"{_describe_missing_noise(study, pilot)} "
            "State one: --spread 0.4, the SD of a paired difference in points; or run a pilot: "
            f"ablate run {study.name} --seeds 3."
        )
    deviation, freedom = sensitivity.standard_deviation, sensitivity.degrees_of_freedom
    return PlanningNoise(
        deviation=deviation,
        cautious=deviation_upper_limit(deviation, freedom),
        source=f"from {format_count(sensitivity.num_seeds, 'recorded seed')} "
        f"({format_count(freedom, 'degree')} of freedom)",
    )


def _calibration_noise(record: StudyRecord, design: FamilyDesign) -> PlanningNoise | None:
    """Noise of a calibration's trainings; of one arm alone, as if its seeds were not paired; ``None`` without any."""
    values = endpoint_values(record, "test_error")
    arms = record.registration.arms
    if len(arms) > 1:
        sensitivity = estimate_sensitivity(values, design)
        deviation, freedom = sensitivity.standard_deviation, sensitivity.degrees_of_freedom
        pairing = ""
    else:
        finite = values[np.isfinite(values)]
        deviation, freedom = (math.sqrt(2) * float(finite.std(ddof=1)), len(finite) - 1) if len(finite) > 1 else (0, 0)
        pairing = ", as if unpaired"
    if not 0 < deviation < math.inf:
        return None
    return PlanningNoise(
        deviation=deviation,
        cautious=deviation_upper_limit(deviation, freedom),
        source=f"from a calibration with {format_count(_count_complete_seeds(record), 'seed')} of {join_words(arms)}"
        f"{pairing} ({format_count(freedom, 'degree')} of freedom)",
    )


def _count_complete_seeds(record: StudyRecord) -> int:
    """Seeds under which every arm has a test error."""
    return int(np.isfinite(endpoint_values(record, "test_error")).all(axis=0).sum())


def family_design(study: Study) -> FamilyDesign:
    """Return the family that a study's verdicts on test error are read from, and its level."""
    placebos = study.ablation.placebos
    arms = tuple(arm.name for arm in study.ablation.all_arms if arm.name not in placebos)  # the baseline is the first
    # Every interim analysis gets an equal share of the error rate.
    alpha = ALPHA / len(study.looks) if study.looks else ALPHA
    return FamilyDesign.of_family(study_family(study.ablation.claims, arms), arms, alpha)


def _describe_missing_noise(study: Study, pilot: StudyRecord | None) -> str:
    """Say why the noise of paired differences cannot be estimated from a pilot."""
    title = f"{study.name} under {study.protocol.name}"
    if pilot is None or not pilot.trials:
        return f"No study {title} is recorded from which to estimate the noise."
    has_error = np.isfinite(endpoint_values(pilot, "test_error"))
    num_seeds = has_error.shape[1]
    num_paired = int((has_error.sum(axis=0) >= 2).sum())
    if num_paired >= 2:
        return f"The recorded study {title} shows no noise: its differences are the same in all seeds."
    outcomes = []
    for arm, row in zip(pilot.registration.arms, has_error, strict=True):
        if not row.all():
            states = Counter(trial.state for trial in planned_trials(pilot) if trial.arm == arm)
            del states["finished"]
            num_absent = num_seeds - sum(trial.arm == arm for trial in planned_trials(pilot))
            counts = [f"{count} {state}" for state, count in states.items()]
            counts += [f"{num_absent} not started"] if num_absent else []
            outcomes.append(f"{arm}: {', '.join(counts)}")
    reasons = f" ({'; '.join(outcomes)})" if outcomes else ""
    return (
        "To estimate the noise, two arms must have a test error under two seeds or more; in the recorded study "
        f"{title} that is so under {num_paired} of {num_seeds}{reasons}."
    )


def _power_questions(
    difference: float | None, equivalence: float | None, design: FamilyDesign
) -> Iterator[_PowerQuestion]:
    if difference is not None:
        yield _PowerQuestion(
            text=f"a true difference of {format_points(difference)}",
            power_at=lambda deviation, seeds: difference_power(difference, deviation, seeds, design),
            seeds_at=lambda deviation, power: seeds_for_difference(difference, deviation, design, power=power),
        )
    if equivalence is not None:
        yield _PowerQuestion(
            text=f"equal arms to be equivalent within ±{equivalence:g}",
            power_at=lambda deviation, seeds: equivalence_power(equivalence, deviation, seeds, design),
            seeds_at=lambda deviation, power: seeds_for_equivalence(equivalence, deviation, design, power=power),
        )


def _answer_question(
    question: _PowerQuestion,
    noise: PlanningNoise,
    power: float,
    seeds_at_hand: int,
    seeds_in_budget: int | None,
    cost_of: Callable[[int], SeedCost],
) -> SeedRequirement:
    seeds = question.seeds_at(noise.deviation, power)
    cautious = question.seeds_at(noise.cautious, power) if noise.cautious else None
    return SeedRequirement(
        question=question.text,
        seeds=seeds,
        cautious=cautious,
        power_now=_power_of_seeds(question, noise, seeds_at_hand),
        power_in_budget=None if seeds_in_budget is None else _power_of_seeds(question, noise, seeds_in_budget),
        cost=cost_of(seeds) if seeds else None,
        cautious_cost=cost_of(cautious) if cautious else None,
    )


def _power_of_seeds(question: _PowerQuestion, noise: PlanningNoise, num_seeds: int) -> float:
    return question.power_at(noise.deviation, num_seeds) if num_seeds > 1 else 0.0  # one seed has no interval


def _count_started_seeds(pilot: StudyRecord) -> int:
    """Seeds under which a trial has ended: a study that stopped at its budget has planned more."""
    arms = pilot.registration.arms
    ended = {trial.seed for trial in pilot.trials if trial.arm in arms and trial.result is not None}
    return len(ended.intersection(pilot.registration.seeds))


def _cost_of_seeds(
    study: Study,
    seconds_per_seed: float | None,
    num_recorded: int,
    gpus_per_trial: float,
    price_per_gpu_hour: float | None,
    num_seeds: int,
) -> SeedCost:
    """Cost of the seeds that are not recorded yet."""
    num_further = max(0, num_seeds - num_recorded)
    num_trials = num_further * len(study.ablation.all_arms)
    if seconds_per_seed is None:
        return SeedCost(trials=num_trials, hours=None, wall_hours=None, gpu_hours=None, money=None)
    hours = seconds_per_seed * num_further / 3600
    # A trial of a bundle counts with its share of the bundle's time, so a GPU trains one at a time.
    num_parallel = max(1, count_gpus()) / gpus_per_trial if gpus_per_trial else count_cores()
    gpu_hours = hours * gpus_per_trial if gpus_per_trial else None
    money = None
    if gpu_hours is not None and price_per_gpu_hour is not None:
        money = gpu_hours * price_per_gpu_hour
    return SeedCost(trials=num_trials, hours=hours, wall_hours=hours / num_parallel, gpu_hours=gpu_hours, money=money)


def _gpus_of_trials(pilot: StudyRecord | None) -> float:
    """GPUs that a trial of the pilot had, a share of one counted as one; without a pilot, those of `ablate run`."""
    environments = [trial.result.environment for trial in pilot.trials if trial.result] if pilot else []
    gpus = [float(entries.get("workers", 1)) for entries in environments if entries.get("device") == "cuda"]
    if gpus:
        return max(gpus)
    return 0.0 if environments else float(min(1, count_gpus()))


def _seconds_per_seed(pilot: StudyRecord | None, device: str) -> float | None:
    """Median training time of one trial of every arm, summed over arms; ``None`` where an arm has none on the device.

    Of a trial that trained in a bundle, its share of the bundle's time.
    """
    if pilot is None:
        return None

    def read_seconds(trial: RecordedTrial) -> float:
        is_on_device = trial.result is not None and device_of(trial.result) == device
        return read_cost(trial, "train_seconds") if is_on_device else math.nan

    seconds = tabulate_trials(pilot, read_seconds)
    if not np.isfinite(seconds).any(axis=1).all():
        return None
    return float(np.nanmedian(seconds, axis=1).sum())
