"""What the commands share: kinds of parameters, options, errors as one line, tables."""

from __future__ import annotations

import atexit
import json
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import wraps
from typing import Any, TypeVar

import click

from lightning_modules.values import Misuse
from studies import protocols
from studies.resources import PER_TRIAL, Resources
from studies.settings import CHECKPOINT_SECONDS, HANG_AFTER_SECONDS
from studies.tuning import PRUNINGS, RUNGS, SAMPLERS

MISUSE, FAILURE, INTERRUPTED = 2, 1, 130
Command = TypeVar("Command", bound=Callable[..., Any])


class Overrides(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """``path=value``."""

    name = "path=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Split at the first equals sign."""
        path, equals, text = str(value).partition("=")
        if not (path and equals and text):
            self.fail(f"{value!r} is not of the form path=value, such as recipe.epochs=5.", param, ctx)
        return path, text


class Seeds(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """A number of seeds (``5``: 0 to 4) or the seeds themselves (``0,1,7``)."""

    name = "N or a,b,c"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Read the one form or the other."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(int(text) for text in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is neither a number of seeds (5) nor a list of them (0,1,7).", param, ctx)
        if "," not in str(value):
            if numbers[0] < 1:
                self.fail(f"{value} seeds; expected 1 or more.", param, ctx)
            return tuple(range(numbers[0]))
        return numbers


class Looks(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """Growing numbers of seeds: ``3,5,10``."""

    name = "a,b,c"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Read them; whether they grow is for the study to say."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(text) for text in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is no list of numbers of seeds, such as 3,5,10.", param, ctx)


class Numbers(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """Numbers of a kind: ``256,384,512``."""

    name = "a,b,c"

    def __init__(self, kind: type[int] | type[float]) -> None:
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Read them."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self.kind(text) for text in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is no list of numbers, such as 256,384,512.", param, ctx)


class ForArm(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """``ARM:gpus=2,cpus=4``."""

    name = "ARM:gpus=2,cpus=4"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, dict[str, float]]:
        """Split at the last colon: an arm's name may have one."""
        if isinstance(value, tuple):
            return value
        arm, colon, text = str(value).rpartition(":")
        try:
            values = {
                name.strip(): float(number) for name, _, number in (each.partition("=") for each in text.split(","))
            }
        except ValueError:
            values = {}
        if not (colon and arm and values):
            self.fail(f"{value!r} is not of the form ARM:gpus=2,cpus=4 ({', '.join(PER_TRIAL)}).", param, ctx)
        return arm, values


def of_patience(command: Command) -> Command:
    """The options that say how a trial outlives faults; they reach the command together, as ``patience``."""

    @wraps(command)
    def gathered(hang_after: float, checkpoint_every: float, **options: Any) -> Any:
        patience = {"hang_after_seconds": hang_after, "checkpoint_seconds": checkpoint_every}
        return command(patience=patience, **options)

    options = (
        click.option(
            "--hang-after", type=click.FloatRange(min=0), default=HANG_AFTER_SECONDS, show_default=True,
            metavar="SECONDS", help="End a trial that does no step for so long, and try it again; 0: never.",
        ),
        click.option(
            "--checkpoint-every", type=click.FloatRange(min=0), default=CHECKPOINT_SECONDS, show_default=True,
            metavar="SECONDS", help="Between two checkpoints of a trial, at least; they lie between epochs.",
        ),
    )  # fmt: skip
    for option in reversed(options):
        gathered = option(gathered)
    return gathered  # type: ignore[return-value]


def of_resources(command: Command) -> Command:
    """The options that say where trials run and what one takes; they reach the command together, as ``resources``."""

    @wraps(command)
    def gathered(for_arm: Any, ray_address: str | None, **options: Any) -> Any:
        names = (*PER_TRIAL.values(), "max_concurrent")
        resources = Resources(address=ray_address or "", **{name: options.pop(name) for name in names})
        for arm, values in for_arm:
            resources = resources.for_arm(arm, **values)
        return command(resources=resources, **options)

    options = (
        click.option(
            "--ray-address", envvar="RAY_ADDRESS", metavar="HOST:PORT",
            help="A Ray cluster to run on.  [RAY_ADDRESS, this machine]",
        ),
        click.option(
            "--gpus-per-trial", type=click.FloatRange(min=0), default=0.0, show_default=True,
            help="A share of one (0.5), one, or several: a worker on each.",
        ),
        click.option(
            "--cpus-per-trial", type=click.IntRange(min=1), default=1, show_default=True,
            help="Threads of a trial; of each of its workers.",
        ),
        click.option(
            "--workers-per-trial", type=click.IntRange(min=1), default=1, show_default=True,
            help="Processes that train one trial together, each on its part of every batch.",
        ),
        click.option(
            "--max-concurrent", type=click.IntRange(min=0), default=0, help="Trials at once.  [as many as fit]"
        ),
        click.option(
            "--for-arm", type=ForArm(), multiple=True,
            help="What the trials of one arm take instead; repeatable.",
        ),
    )  # fmt: skip
    for option in reversed(options):
        gathered = option(gathered)
    return gathered  # type: ignore[return-value]


def of_a_store(command: Command) -> Command:
    """The options of every command that reads or writes a store."""
    options = (
        click.option("--runs", type=click.Path(), help="Folder of trials, store and reports.  [ABLATE_RUNS, runs]"),
        click.option("--tracking-uri", help="MLflow store.  [MLFLOW_TRACKING_URI, sqlite in the runs folder]"),
    )
    for option in options:
        command = option(command)
    return command


in_storage = click.option(
    "--storage",
    type=click.Path(),
    help="Folder or bucket (s3://bucket/folder) of the trials, where it is another.  [ABLATE_STORAGE, the runs']",
)

in_data_root = click.option(
    "--data-root",
    type=click.Path(),
    help="Folder of image data, or where it is fetched from (s3://bucket/folder).  [ABLATE_DATA_ROOT, data]",
)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How a study was asked for on the command line, as text where only its ablation can tell the type.

    Attributes:
        tune: candidates per arm; 0 tunes nothing.
        space: dimensions as text; none stands for the default space.
        looks: numbers of seeds after which the claims are looked at.
    """

    protocol: str
    seeds: tuple[int, ...] | None
    overrides: tuple[tuple[str, str], ...]
    tune: int
    space: tuple[str, ...]
    sampler: Any
    pruning: Any
    rungs: int
    tuning_seeds: tuple[int, ...] | None
    looks: tuple[int, ...]


def of_a_study(command: Command) -> Command:
    """The options of every command that declares a study; they reach it together, as ``asked``."""
    names = tuple(field.name for field in fields(Asked))

    @wraps(command)
    def gathered(**options: Any) -> Any:
        asked = Asked(**{name: options.pop(name) for name in names})
        if not asked.tune and (
            asked.space or asked.tuning_seeds or asked.pruning != "none" or asked.sampler != "random"
        ):
            raise click.UsageError("--space, --sampler, --pruning and --tuning-seeds go with --tune N.")
        if asked.rungs != RUNGS and asked.pruning != "halving":
            raise click.UsageError("--rungs goes with --pruning halving.")
        return command(asked=asked, **options)

    options = (
        click.option(
            "--protocol", default=protocols.DEFAULT, show_default=True, help="Conditions that all arms share."
        ),
        click.option("--seeds", type=Seeds(), help="How many, or which; the same for every arm.  [the protocol's]"),
        click.option(
            "--set", "overrides", type=Overrides(), multiple=True, help="Change a setting for all arms; repeatable."
        ),
        click.option(
            "--tune", type=click.IntRange(min=0), default=0, metavar="N",
            help="Tune every arm's recipe as well: N candidates each, on validation.",
        ),
        click.option(
            "--space", multiple=True, metavar="PATH=LOW..HIGH",
            help="What is tuned; x0.2..x5 for multiples, :linear, or a,b,c; repeatable.  [rate, weight decay]",
        ),
        click.option("--sampler", type=click.Choice(SAMPLERS), default="random", show_default=True),
        click.option(
            "--pruning", type=click.Choice(PRUNINGS), default="none", show_default=True,
            help="Successive halving gives every arm the same trials and epochs.",
        ),
        click.option(
            "--rungs", type=click.IntRange(min=2), default=RUNGS, show_default=True,
            help="Of halving: rounds, each with half the candidates and twice the epochs.",
        ),
        click.option("--tuning-seeds", type=Seeds(), help="Of the candidates.  [one, far from others]"),
        click.option(
            "--looks", type=Looks(), default=(), metavar="3,5,10",
            help="Stop after so many seeds if every claim is resolved; the error rate is split.",
        ),
    )  # fmt: skip
    for option in reversed(options):
        gathered = option(gathered)
    return gathered  # type: ignore[return-value]


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


class CommandGroup(click.Group):
    """Tells misuse (2) and failure (1) apart, in one line and without a traceback unless ``--debug`` asks for it."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; print what went wrong."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except KeyboardInterrupt:
            click.echo("Interrupted. What had ended is recorded; the same command goes on from there.", err=True)
            ctx.exit(INTERRUPTED)
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            text = str(error) or type(error).__name__
            known = isinstance(error, (Misuse, _tracking_error()))
            hint = "" if known else f" ({type(error).__name__}; `ablate --debug ...` shows where)"
            click.echo(f"Error: {text}{hint}", err=True)
            ctx.exit(MISUSE if isinstance(error, Misuse) else FAILURE)


def run_and_leave(command: Callable[[], Any]) -> None:
    """Run a command, and end this process with it.

    All that is to be done at the end is done; but Python does not take Ray, torch and MLflow apart after it, which
    takes two seconds that nobody needs.
    """
    code = FAILURE

    def leave() -> None:
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # nobody reads it any more
                stream.flush()
        os._exit(code)

    atexit.register(leave)  # the first one, which is called last
    try:
        command()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else FAILURE if end.code else 0
        raise
    except KeyboardInterrupt:
        code = INTERRUPTED
        raise


def _tracking_error() -> type[Exception]:
    module = sys.modules.get("studies.tracking")
    return module.TrackingError if module else Misuse


def print_json(data: Any) -> None:
    """Plain data as JSON."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def print_table(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    """A table without lines; columns of numbers to the right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    numbers = {column for column in range(len(header)) if rows and all(_is_number(row[column]) for row in rows)}
    for column, name in enumerate(header):
        table.add_column(name, justify="right" if column in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(str, row))
    console = Console(width=None if sys.stdout.isatty() else 160, markup=False, highlight=False)
    console.print(table)
    console.print()


def _is_number(cell: Any) -> bool:
    return str(cell).replace(",", "").replace(".", "").replace(" %", "").strip().isdigit() or cell == ""
