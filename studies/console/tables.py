"""Plain-text tables and JSON on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any

import click

JSON_OUTPUT = f"{__name__}.json_output"  # of a command's context: its own standard output
PIPED_WIDTH = 160  # columns of a table that is written into a file or pipe, which has no width of its own


def reserve_output(context: click.Context, parameter: click.Parameter, as_json: bool) -> bool:
    """Send to standard error, until a command with ``--json`` ends, all that it prints beside its JSON.

    The user's own modules may print as they are imported, built or called: the option, whose callback this is, is
    eager.
    """
    del parameter
    if as_json and not context.resilient_parsing:  # a shell that completes words needs the output
        context.meta[JSON_OUTPUT] = sys.stdout
        context.with_resource(redirect_stdout(sys.stderr))
    return as_json


def print_json(data: Any, indent: int | None = 2) -> None:
    """Print plain data as JSON; in one line without ``indent``."""
    context = click.get_current_context(silent=True)
    output = context.meta.get(JSON_OUTPUT) if context else None
    click.echo(json.dumps(data, indent=indent, ensure_ascii=False), file=output)


def print_result(kind: str, data: Mapping[str, Any], indent: int | None = 2) -> None:
    """Print what a command did as JSON, with its kind and the schema of what is printed."""
    from studies.records.schema import PRINTED_SCHEMA  # loads NumPy, and a shell waits for the words that it completes

    print_json({"schema": PRINTED_SCHEMA, "kind": kind, **data}, indent)


def print_table(header: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
    """Print a table without rules; columns of numbers are right-aligned."""
    # Loaded here: `ablate --help` has no table, and must answer at once.
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, name in enumerate(header):
        is_numeric = bool(rows) and all(_is_numeric_cell(row[column]) for row in rows)
        table.add_column(name, justify="right" if is_numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(str, row))
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, markup=False, highlight=False)
    console.print(table)
    console.print()


def _is_numeric_cell(cell: Any) -> bool:
    digits = str(cell).replace(",", "").replace(".", "").replace(" %", "").strip()
    return digits.isdigit() or cell == ""
