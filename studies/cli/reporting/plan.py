"""Print a seed plan (`ablate plan`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict, cast

import click

from lightning_modules.specs.errors import UserError
from reports.formatting import format_count, format_duration, format_significant
from reports.statistics.power import MAX_SEEDS
from studies.design.study import Study


class PlannedNoise(TypedDict):
    """Noise that is planned with, percentage points; ``cautious`` is ``None`` for a stated spread."""

    deviation: float
    cautious: float | None
    source: str


class PlannedCost(TypedDict):
    """Cost of the trials that are added; what is unknown is ``None``."""

    trials: int
    hours: float | None
    wall_hours: float | None
    gpu_hours: float | None
    money: float | None


class PlannedAnswer(TypedDict):
    """Seeds that a question takes, ``None`` for more than ``MAX_SEEDS``; ``power_now`` is that of the seeds at hand."""

    question: str
    seeds: int | None
    cautious: int | None
    power_now: float
    cost: PlannedCost | None
    cautious_cost: PlannedCost | None


class SeedPlanData(TypedDict):
    """A seed plan under the keys of `ablate plan --json`; see :func:`reports.comparison.seed_planning.plan_seeds`."""

    study: str
    protocol: str
    arms: int
    contrasts: int
    alpha: float
    power: float
    spread: PlannedNoise
    seeds_at_hand: int
    detectable_at_hand: float | None
    smallest_effect: float
    difference: float | None
    equivalence: float | None
    answers: list[PlannedAnswer]


def print_plan(plan_data: dict[str, Any], log: Callable[[str], None], print_table: Callable[..., None]) -> None:
    """Print the noise, the seeds per question with their cost, and what the seeds at hand can detect."""
    plan = cast("SeedPlanData", plan_data)
    noise = plan["spread"]
    noise_line = f"noise    SD of a paired difference {format_significant(noise['deviation'], 2)} points"
    noise_line += f", {noise['source']}"
    has_pilot = noise["cautious"] is not None
    if noise["cautious"]:
        noise_line += f"; its upper 90% limit is {format_significant(noise['cautious'], 2)}"
    log(noise_line)
    level = f"{100 * (1 - plan['alpha']):.3g}%"
    differences = format_count(plan["contrasts"], "registered difference")
    log(f"family   {differences} of {plan['arms']} arms, {level} simultaneous confidence\n")
    seeds_at_hand = plan["seeds_at_hand"]
    header = [f"question, at {plan['power']:.0%} power", "seeds"]
    if has_pilot:
        header.append("cautious")
    # With a pilot, the cost shown is the higher one: a budget should not run out.
    header += [f"power with {seeds_at_hand}", "the cautious plan adds" if has_pilot else "the plan adds"]
    print_table(tuple(header), [_answer_row(answer, has_pilot=has_pilot) for answer in plan["answers"]])
    detectable = plan["detectable_at_hand"]
    if detectable is not None:
        log(
            f"Smallest difference that {format_count(seeds_at_hand, 'seed')} detect at {plan['power']:.0%} power: "
            f"{format_significant(detectable, 2)} points; the smallest effect of interest is "
            f"{plan['smallest_effect']:g}."
        )
    if plan["difference"] is not None and plan["difference"] < plan["smallest_effect"]:
        log("A difference below the smallest effect of interest may be detected and still be practically equivalent.")
    if has_pilot:
        log("Cautious: planned with the upper limit of the noise, since a pilot of few seeds may underestimate it.")


def _answer_row(answer: PlannedAnswer, *, has_pilot: bool) -> tuple[str, ...]:
    cells = [answer["question"], _format_num_seeds(answer["seeds"])]
    if has_pilot:
        cells.append(_format_num_seeds(answer["cautious"]))
    cost = answer["cautious_cost"] if has_pilot else answer["cost"]
    cells += [f"{answer['power_now']:.0%}", _format_cost(cost) if cost else ""]
    return tuple(cells)


def _format_num_seeds(num_seeds: int | None) -> str:
    return f"over {MAX_SEEDS}" if num_seeds is None else str(num_seeds)


def _format_cost(cost: PlannedCost) -> str:
    items = [format_count(cost["trials"], "trial")]
    if cost["wall_hours"] is not None:
        items.append(f"about {format_duration(3600 * cost['wall_hours'])}")
    if cost["gpu_hours"] is not None:
        items.append(f"{format_significant(cost['gpu_hours'], 2)} GPU hours")
    if cost["money"] is not None:
        items.append(f"for {cost['money']:,.2f}")
    return ", ".join(items)


def estimate_arm_seconds(study: Study) -> float | None:
    """Estimate the time of one trial of every arm, on one core of this machine; ``None`` where an arm's is unknown."""
    from studies.design.estimate import estimate_trial_seconds  # imports torch

    total = 0.0
    for setup in study.setups().values():
        try:
            seconds = estimate_trial_seconds(setup)
        except UserError as error:
            click.echo(f"time unknown: {error}", err=True)
            return None
        if seconds is None:
            return None
        total += seconds
    return total
