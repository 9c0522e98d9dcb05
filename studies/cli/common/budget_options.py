"""Options of what one start of a study may spend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar

import click

from lightning_modules.specs.errors import InvalidValue
from studies.cli.common.number_ranges import NumberRange
from studies.design.budget import RunBudget, parse_duration

Command = TypeVar("Command", bound=Callable[..., Any])


class DurationParam(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """A duration with its unit: ``90s``, ``12m``, ``3h``."""

    name = "90s|12m|3h"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse into seconds."""
        if isinstance(value, float):
            return value
        try:
            return parse_duration(str(value))
        except InvalidValue as error:
            self.fail(str(error), param, ctx)


POSITIVE = NumberRange(min=0, min_open=True)

BUDGET_OPTIONS = (
    click.option(
        "--max-time",
        type=DurationParam(),
        help="Start no seed that is not expected to end in all arms within this time (90s, 12m, 3h) from the command. "
        "Exit code 3 if seeds are left; the same command goes on, with a budget of its own.",
    ),
    click.option(
        "--max-gpu-hours",
        type=POSITIVE,
        metavar="HOURS",
        help="The same for GPU hours: each trial's share of a GPU times its time.",
    ),
    click.option(
        "--max-cost", type=POSITIVE, metavar="COST", help="The same for their cost; needs --price-per-gpu-hour."
    ),
    click.option(
        "--price-per-gpu-hour", type=POSITIVE, metavar="PRICE", help="Price of a GPU hour; the cost is recorded."
    ),
)


PLAN_OPTIONS = (
    click.option(
        "--max-time",
        type=DurationParam(),
        help="Time of the planned run (90s, 12m, 3h): counts the whole seeds that it has room for, and says what they "
        "can find.",
    ),
    click.option("--max-gpu-hours", type=POSITIVE, metavar="HOURS", help="The same for GPU hours of the planned run."),
    click.option(
        "--max-cost", type=POSITIVE, metavar="COST", help="The same for their cost; needs --price-per-gpu-hour."
    ),
    click.option("--price-per-gpu-hour", type=POSITIVE, metavar="PRICE", help="Price of a GPU hour, to show the cost."),
)


def budget_options(command: Command) -> Command:
    """Add the options of a budget; the command receives them as ``budget``."""
    return _with_options(command, BUDGET_OPTIONS)


def planned_budget_options(command: Command) -> Command:
    """Add the same options for a run that is only planned."""
    return _with_options(command, PLAN_OPTIONS)


def _with_options(command: Command, options: Sequence[Callable[[Any], Any]]) -> Command:

    @wraps(command)
    def call_command(
        max_time: float | None,
        max_gpu_hours: float | None,
        max_cost: float | None,
        price_per_gpu_hour: float | None,
        **values: Any,
    ) -> Any:
        if max_cost and not price_per_gpu_hour:
            raise click.UsageError("--max-cost needs --price-per-gpu-hour: the cost is that of GPU hours.")
        budget = RunBudget(
            max_seconds=max_time,
            max_gpu_hours=max_gpu_hours,
            max_cost=max_cost,
            price_per_gpu_hour=price_per_gpu_hour,
        )
        return command(budget=budget, **values)

    decorated: Any = call_command
    for option in reversed(options):  # the last decorator that is applied comes first in the help
        decorated = option(decorated)
    result: Command = decorated
    return result
