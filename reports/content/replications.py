"""Table of measured differences beside those of public replications, and the column of replicated errors."""

from __future__ import annotations

import math
from dataclasses import replace

from ablations import ReplicatedError
from reports.comparison.comparison import Comparison
from reports.comparison.replications import (
    ASSUMED_DEVIATION,
    MARGIN,
    ReplicatedDifference,
    describe_obstacle,
    describe_replications,
)
from reports.document import MISSING_CELL, Cell, Column, Row, Table, interval_cell, mean_cell, text_cell
from reports.figures.seeds import error_decimals
from reports.formatting import format_contrast, format_fixed

SYMBOLS = {"reproduces": "✓", "differs": "✗", "cannot tell": "?", "other data": "–", "other networks": "–"}
ASSUMED_MARK = "*"


def replication_column(comparison: Comparison) -> tuple[Column, list[Cell]] | None:
    """Errors of every replication, arm by arm; ``None`` without a replication."""
    registration = comparison.registration
    if not registration.replications:
        return None
    # What holds for all of them stands in the heading.
    obstacles = {describe_obstacle(registration, replication) for replication in registration.replications}
    obstacle = next(iter(obstacles)) if len(obstacles) == 1 else ""
    cells = []
    for arm in comparison.arms:
        errors = [item.values[arm.name] for item in registration.replications if arm.name in item.values]
        if errors:
            cells.append(Cell(text=" / ".join(map(format_replicated, errors)), sort=errors[0].mean))
        else:
            cells.append(MISSING_CELL)
    unit = f"%, {obstacle}" if obstacle else "%"
    about = "public replications on CIFAR-10 at full width: mean ± SD over runs, or one run"
    return Column(title="Replications", unit=unit, kind="number", about=about), cells


def format_replicated(error: ReplicatedError) -> str:
    """A replicated error: ``9.78 ± 0.13``, or one run without a spread."""
    mean = format_fixed(error.mean, 2)
    return mean if error.deviation is None else f"{mean} ± {format_fixed(error.deviation, 2)}"


def replications_table(comparison: Comparison) -> Table:
    """Measured and replicated differences; no rows without a replication."""
    registration = comparison.registration
    rows = tuple(_difference_row(comparison, item) for item in comparison.replications)
    columns = (
        Column(title="Contrast"),
        Column(title="Replication"),
        Column(title="Measured here", unit="points", kind="number", about="with its own 95% interval"),
        Column(title="Replicated", unit="points", kind="number"),
        Column(title="Measured − replicated", unit="points", kind="number", about="with its 90% Welch interval"),
        Column(title="Result"),
    )
    margin = f"±{MARGIN:g} points"
    notes = [
        "Error reduction by the second arm, which depends less on the recipe than the levels of error do. Reproduces: "
        f"the 90% Welch interval of measured − replicated lies within {margin}. Differs: the 95% interval lies outside "
        f"of {margin}. Otherwise one cannot tell.",
    ]
    if any(item.is_spread_assumed for item in comparison.replications):
        notes.append(
            f"{ASSUMED_MARK} of single runs, whose standard deviation is assumed to be {ASSUMED_DEVIATION:g} points."
        )
    words = {item.word for item in comparison.replications}
    if "other data" in words:
        form = registration.data.get("form", "unknown")
        notes.append(
            f"Other data: the replications are of the original CIFAR-10; this study's data are "
            f"{registration.data.get('name', 'unknown')} ({form}), so nothing is judged."
        )
    if "other networks" in words:
        width = registration.held.get("scale.width", math.nan)
        notes.append(
            f"Other networks: the replications are of full width, this study's networks of {float(str(width)):g} times "
            "that, so nothing is judged."
        )
    notes += describe_replications(registration.replications)
    return Table(
        name="replications",
        caption="Differences beside those of public replications",
        columns=columns,
        rows=rows,
        notes=tuple(notes),
    )


def _difference_row(comparison: Comparison, item: ReplicatedDifference) -> Row:
    # The replications themselves are given with two decimals.
    digits = max(2, error_decimals(comparison))
    contrast = format_contrast(item.over, item.arm) if item.over else f"level of {item.arm}, %"
    replicated = Cell(
        text=format_fixed(item.replicated, 2, sign=bool(item.over)),
        sort=item.replicated,
        mark=ASSUMED_MARK if item.is_spread_assumed else "",
    )
    # Numbers under other conditions are shown, but not compared.
    is_judged = item.word not in ("other data", "other networks")
    excess = interval_cell(item.excess, digits) if is_judged else MISSING_CELL
    word = text_cell(f"{SYMBOLS[item.word]} {item.word}", "" if is_judged else "quiet")
    if item.word == "differs":
        word = replace(word, tone="alert")
    return (
        text_cell(contrast, "strong"),
        text_cell(item.source),
        interval_cell(item.measured, digits) if item.over else mean_cell(item.measured, digits),
        replicated,
        excess,
        word,
    )
