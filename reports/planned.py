"""How many seeds a question takes, what they cost, and what the seeds at hand could show: for ``ablate plan``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_modules.values import Misuse
from reports.comparison import parts_of
from reports.endpoints import cost, table, values
from reports.numbers import duration, plural, significant
from reports.statistics import (
    detectable_difference,
    power_of_difference,
    power_of_equivalence,
    resolution,
    seeds_needed,
    upper_limit_of_deviation,
)
from reports.statistics.contrasts import pair_rows
from reports.statistics.power import MOST_SEEDS
from reports.statistics.readers import ALPHA
from studies.machine import cores
from studies.records import StudyRecord
from studies.trials import Study


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The noise that is planned with.

    Attributes:
        deviation: SD of a paired difference of two arms, points.
        cautious: the upper 90% limit of a pilot's; ``None`` for a spread that was stated.
        source: where it comes from.
    """

    deviation: float
    cautious: float | None
    source: str


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What further trials take.

    Attributes:
        trials: that are still to be trained, of all arms.
        hours: of all trials, one after the other; ``None`` where no trial's time is known.
        wall_hours: on this machine's cores, or with one trial per GPU.
        gpu_hours, money: ``None`` for trials without a GPU, and without a price.
    """

    trials: int
    hours: float | None
    wall_hours: float | None
    gpu_hours: float | None
    money: float | None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A question, and the seeds that it takes; ``None`` where five hundred are not enough.

    Attributes:
        cautious: the same, planned with the upper limit of a pilot's noise; a pilot of few seeds may be far too quiet.
        power_now: what the seeds at hand give, between 0 and 1.
    """

    question: str
    seeds: int | None
    cautious: int | None
    power_now: float
    cost: Cost | None
    cautious_cost: Cost | None


def plan_seeds(
    study: Study,
    pilot: StudyRecord | None,
    *,
    spread: float | None = None,
    difference: float | None = None,
    equivalence: float | None = None,
    power: float = 0.8,
    price_per_gpu_hour: float | None = None,
    gpus_per_trial: float = 0.0,
    seconds_of_arms: Callable[[], float | None] = lambda: None,
) -> dict[str, Any]:
    """A plan as plain data.

    Args:
        pilot: the study as recorded, whose noise and times are used.
        spread: SD of a paired difference, points, in the pilot's place.
        difference, equivalence: the questions, in points; without both, the protocol's smallest effect for each.
        seconds_of_arms: one trial of every arm, where no pilot tells.

    Raises:
        Misuse: without a spread and without a pilot of two seeds and arms.
    """
    noise = _spread(study, pilot, spread)
    rows, alpha = _family(study), ALPHA / len(study.looks) if study.looks else ALPHA
    present = len(pilot.registration.seeds) if pilot else len(study.seeds)
    per_seed = _seconds_per_seed(pilot) or seconds_of_arms()
    costs = partial(
        _cost, study, per_seed, len(pilot.registration.seeds) if pilot else 0, gpus_per_trial, price_per_gpu_hour
    )
    if difference is None and equivalence is None:
        difference = equivalence = study.protocol.smallest_effect
    answers = [
        _answer(question, power_at, noise, power, present, costs)
        for question, power_at in _questions(difference, equivalence, rows, alpha)
    ]
    return {
        "study": study.name,
        "protocol": study.protocol.name,
        "arms": len(study.ablation.all_arms),
        "contrasts": len(rows),
        "alpha": alpha,
        "power": power,
        "spread": asdict(noise),
        "seeds_at_hand": present,
        "detectable_at_hand": detectable_difference(noise.deviation, present, rows, power=power, alpha=alpha)
        if present > 1
        else None,
        "smallest_effect": study.protocol.smallest_effect,
        "difference": difference,
        "equivalence": equivalence,
        "answers": [asdict(answer) for answer in answers],
    }


def print_plan(found: Mapping[str, Any], say: Callable[[str], None], print_table: Callable[..., None]) -> None:
    """The plan for a person."""
    noise = found["spread"]
    cautious = f"; its upper 90% limit is {significant(noise['cautious'], 2)}" if noise["cautious"] else ""
    say(f"noise    SD of a paired difference {significant(noise['deviation'], 2)} points, {noise['source']}{cautious}")
    level = f"{100 * (1 - found['alpha']):.3g}%"
    say(f"family   {plural(found['contrasts'], 'registered difference')} of {found['arms']} arms, {level} together\n")
    has_pilot = noise["cautious"] is not None
    adds = "the cautious plan adds" if has_pilot else "the plan adds"
    header = (
        f"to find, {found['power']:.0%} of the time",
        "seeds",
        *(["cautious"] if has_pilot else []),
        f"with {found['seeds_at_hand']}",
        adds,
    )
    print_table(header, [_row(answer, has_pilot=has_pilot) for answer in found["answers"]])
    seeds = found["seeds_at_hand"]
    if found["detectable_at_hand"] is not None:
        say(
            f"{plural(seeds, 'seed')} find a true difference of {significant(found['detectable_at_hand'], 2)} points "
            f"{found['power']:.0%} of the time; the smallest effect of interest is {found['smallest_effect']:g}."
        )
    if found["difference"] is not None and found["difference"] < found["smallest_effect"]:
        say("A difference below the smallest effect of interest may be found and yet be called practically equivalent.")
    if has_pilot:
        say("Cautious: planned with the upper limit of the noise, since few seeds may have been quiet by luck.")


def _row(answer: Mapping[str, Any], *, has_pilot: bool) -> tuple[str, ...]:
    spent = answer["cautious_cost"] if has_pilot else answer["cost"]
    return (
        answer["question"],
        _number(answer["seeds"]),
        *([_number(answer["cautious"])] if has_pilot else []),
        f"{answer['power_now']:.0%}",
        _spent(spent) if spent else "",
    )


def _number(seeds: int | None) -> str:
    return f"over {MOST_SEEDS}" if seeds is None else str(seeds)


def _spent(cost: Mapping[str, Any]) -> str:
    told = [plural(cost["trials"], "trial")]
    if cost["wall_hours"] is not None:
        told.append(f"about {duration(3600 * cost['wall_hours'])}")
    if cost["gpu_hours"] is not None:
        told.append(f"{significant(cost['gpu_hours'], 2)} GPU hours")
    if cost["money"] is not None:
        told.append(f"for {cost['money']:,.2f}")
    return ", ".join(told)


def _spread(study: Study, pilot: StudyRecord | None, stated: float | None) -> Spread:
    if stated is not None:
        return Spread(deviation=stated, cautious=None, source="as stated")
    found = resolution(values(pilot, "test_error")) if pilot else None
    if found is None or not math.isfinite(found.standard_deviation) or found.standard_deviation == 0:
        raise Misuse(
            f"there is no finished study {study.name} under {study.protocol.name} with two seeds and a spread to plan "
            "with. State one: --spread 0.4, the SD of a paired difference in points; or run a pilot: "
            f"ablate run {study.name} --seeds 3."
        )
    return Spread(
        deviation=found.standard_deviation,
        cautious=upper_limit_of_deviation(found.standard_deviation, found.degrees_of_freedom),
        source=f"from {plural(found.seeds, 'recorded seed')} ({found.degrees_of_freedom} degrees of freedom)",
    )


def _family(study: Study) -> npt.NDArray[np.float64]:
    """The differences in test error that the claims read; those to the baseline where none reads any."""
    parts = [part for claim in study.ablation.claims for part in parts_of(claim) if part.endpoint == "test_error"]
    baseline, *arms = (arm.name for arm in study.ablation.all_arms)
    pairs = tuple(dict.fromkeys(pair for part in parts for pair in part.contrasts))
    return pair_rows((baseline, *arms), pairs or tuple((baseline, arm) for arm in arms))


def _questions(
    difference: float | None, equivalence: float | None, rows: npt.NDArray[np.float64], alpha: float
) -> Iterator[tuple[str, Callable[[float, int], float]]]:
    """Every question with its power by noise and number of seeds."""
    if difference is not None:
        yield (
            f"a true difference of {difference:g} points",
            lambda deviation, seeds: power_of_difference(difference, deviation, seeds, rows, alpha=alpha),
        )
    if equivalence is not None:
        yield (
            f"equal arms to be equivalent within ±{equivalence:g}",
            lambda deviation, seeds: power_of_equivalence(equivalence, deviation, seeds, rows, alpha=alpha),
        )


def _answer(
    question: str,
    power_at: Callable[[float, int], float],
    noise: Spread,
    power: float,
    present: int,
    costs: Callable[[int], Cost],
) -> Answer:
    seeds = seeds_needed(partial(power_at, noise.deviation), power=power)
    cautious = seeds_needed(partial(power_at, noise.cautious), power=power) if noise.cautious else None
    return Answer(
        question=question,
        seeds=seeds,
        cautious=cautious,
        power_now=power_at(noise.deviation, present) if present > 1 else 0.0,
        cost=costs(seeds) if seeds else None,
        cautious_cost=costs(cautious) if cautious else None,
    )


def _cost(
    study: Study, per_seed: float | None, done: int, gpus_per_trial: float, price: float | None, seeds: int
) -> Cost:
    further = max(0, seeds - done)
    hours = per_seed * further / 3600 if per_seed is not None else None
    at_once = 1 / gpus_per_trial if gpus_per_trial else cores()
    gpu_hours = hours * gpus_per_trial if hours is not None and gpus_per_trial else None
    return Cost(
        trials=further * len(study.ablation.all_arms),
        hours=hours,
        wall_hours=hours / at_once if hours is not None else None,
        gpu_hours=gpu_hours,
        money=gpu_hours * price if gpu_hours is not None and price is not None else None,
    )


def _seconds_per_seed(pilot: StudyRecord | None) -> float | None:
    """What one trial of every arm took to train, as recorded; ``None`` where an arm has none."""
    if pilot is None:
        return None
    seconds = table(pilot, partial(cost, name="train_seconds"))
    return float(np.nanmean(seconds, axis=1).sum()) if np.isfinite(seconds).any(axis=1).all() else None


__all__: Sequence[str] = ("Answer", "Cost", "Spread", "plan_seeds", "print_plan")
