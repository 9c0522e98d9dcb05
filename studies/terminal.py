"""What the commands share: kinds of parameters, options, errors as one line, tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from lightning_modules.values import Misuse
from studies import protocols

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


def of_a_store(command: Command) -> Command:
    """The options of every command that reads or writes a store."""
    options = (
        click.option("--runs", type=click.Path(), help="Folder of trials, store and reports.  [ABLATE_RUNS, runs]"),
        click.option("--tracking-uri", help="MLflow store.  [MLFLOW_TRACKING_URI, sqlite in the runs folder]"),
    )
    for option in options:
        command = option(command)
    return command


def of_a_study(command: Command) -> Command:
    """The options of every command that declares a study."""
    options = (
        click.option(
            "--protocol", default=protocols.DEFAULT, show_default=True, help="Conditions that all arms share."
        ),
        click.option("--seeds", type=Seeds(), help="How many, or which; the same for every arm.  [the protocol's]"),
        click.option(
            "--set", "overrides", type=Overrides(), multiple=True, help="Change a setting for all arms; repeatable."
        ),
    )
    for option in options:
        command = option(command)
    return command


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
