"""Tables of errors and differences, arm by arm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from reports.analysis.arms import ArmDifference, ArmSummary
from reports.comparison.comparison import Comparison
from reports.content.costs import FilledColumn, arm_table, test_cost_columns
from reports.content.links import arm_anchor, arm_links
from reports.content.replications import replication_column
from reports.document import (
    MAX_UNFOLDED_ROWS,
    Cell,
    Column,
    Row,
    Table,
    interval_cell,
    mean_cell,
    number_cell,
    text_cell,
)
from reports.figures.seeds import error_decimals
from reports.formatting import format_contrast, format_published

BASELINE_LABEL = "baseline"
EXPLORATORY_MARK = "°"
CONTROL_MARK = "†"


def results_table(comparison: Comparison) -> Table:
    """Error, difference, outcomes and published value, arm by arm."""
    arms, digits = comparison.arms, error_decimals(comparison)
    columns = [
        _error_column(arms, digits),
        _difference_column(comparison, digits),
        *_pair_columns(arms),
        _outcome_column(arms),
        *_top5_columns(arms, digits),
        *test_cost_columns(arms),
        *_published_columns(comparison),
        *filter(None, (replication_column(comparison),)),
    ]
    table = arm_table(arms, "results", "Test error and outcomes of the trials", columns, _result_notes(comparison))
    return replace(table, rows=tuple(_link_row(comparison, index, row) for index, row in enumerate(table.rows)))


def _link_row(comparison: Comparison, index: int, row: Row) -> Row:
    """Give an arm's row an anchor, and the claims that read the arm."""
    name, *others = row
    links = arm_links(comparison, comparison.arms[index].name)
    return (replace(name, anchor=arm_anchor(index), links=links), *others)


def _error_column(arms: Sequence[ArmSummary], digits: int) -> FilledColumn:
    about = "mean over seeds ± half-width of its 95% interval"
    cells = [mean_cell(arm.mean_error, digits) for arm in arms]
    return Column(title="Test error", unit="%", kind="number", about=about), cells


def _difference_column(comparison: Comparison, digits: int) -> FilledColumn:
    column = Column(
        title=f"Error reduction against {comparison.registration.baseline}",
        unit="points",
        kind="number",
        about=f"positive: lower error than the baseline; simultaneous {comparison.confidence_level} interval",
    )
    return column, [_difference_cell(arm.difference, digits) for arm in comparison.arms]


def _difference_cell(difference: ArmDifference | None, digits: int) -> Cell:
    if difference is None:
        return Cell(text=BASELINE_LABEL, sort=0.0, tone="quiet")
    cell = interval_cell(difference.estimate, digits)
    if difference.is_control:
        return replace(cell, mark=CONTROL_MARK)
    is_exploratory = not difference.is_registered and math.isfinite(difference.estimate.value)
    return replace(cell, mark=EXPLORATORY_MARK) if is_exploratory else cell


def _pair_columns(arms: Sequence[ArmSummary]) -> list[FilledColumn]:
    """Complete pairs of seeds with the baseline; empty where all are complete."""
    differences = [arm.difference for arm in arms if arm.difference]
    if all(difference.num_pairs == difference.num_planned for difference in differences):
        return []
    cells = [_pair_cell(arm.difference) if arm.difference else text_cell(BASELINE_LABEL, "quiet") for arm in arms]
    return [(Column(title="Complete pairs", unit="of seeds", kind="number"), cells)]


def _pair_cell(difference: ArmDifference) -> Cell:
    is_complete = difference.num_pairs == difference.num_planned
    text = f"{difference.num_pairs} of {difference.num_planned}"
    return Cell(text=text, sort=difference.num_pairs, tone="" if is_complete else "alert")


def contrasts_table(comparison: Comparison) -> Table:
    """Differences between arms other than to the baseline; no rows where their pairs are complete."""
    baseline, digits = comparison.registration.baseline, error_decimals(comparison)
    others = [difference for difference in comparison.differences if difference.over != baseline]
    if all(difference.num_pairs == difference.num_planned for difference in others):
        others = []  # the figure shows them
    rows = []
    for difference in others:
        contrast = text_cell(format_contrast(difference.over, difference.arm), "strong")
        rows.append((contrast, interval_cell(difference.estimate, digits), _pair_cell(difference)))
    columns = (
        Column(title="Contrast"),
        Column(title="Error reduction by the second arm", unit="points", kind="number"),
        Column(title="Complete pairs", unit="of seeds", kind="number"),
    )
    caption = "Differences between other arms"
    folded = len(rows) > MAX_UNFOLDED_ROWS
    return Table(name="contrasts", caption=caption, columns=columns, rows=tuple(rows), folded=folded)


def _outcome_column(arms: Sequence[ArmSummary]) -> FilledColumn:
    cells = []
    for arm in arms:
        num_incomplete = arm.num_running + arm.num_not_started + arm.num_without_error + arm.num_cancelled
        is_complete = arm.num_finished == arm.num_ended and not num_incomplete
        cells.append(Cell(text=arm.describe_outcomes, sort=arm.num_finished, tone="" if is_complete else "alert"))
    # Running trials and those never started are not in the denominator; the text of the cell names them.
    return Column(title="Completed", unit="of ended trials"), cells


def _top5_columns(arms: Sequence[ArmSummary], digits: int) -> list[FilledColumn]:
    """Top-5 error; empty where no trial has counted it."""
    if not any(math.isfinite(arm.top5.value) for arm in arms):
        return []
    cells = [mean_cell(arm.top5, digits) for arm in arms]
    about = "the right class is not among the five most likely ones"
    return [(Column(title="Top-5 error", unit="%", kind="number", about=about), cells)]


def _published_columns(comparison: Comparison) -> list[FilledColumn]:
    """Published values, with the decimals of their source, if there is one."""
    if comparison.registration.reference is None:
        return []
    values = [arm.published_value for arm in comparison.arms]
    digits = max(map(_count_published_decimals, values), default=0)
    cells = [number_cell(value, digits) for value in values]
    about = "for comparison only: never combined with measured values"
    return [(Column(title="Published", unit="%, other data", kind="number", about=about), cells)]


def _count_published_decimals(value: float) -> int:
    if not math.isfinite(value):
        return 0
    _, _, decimals = format_published(value).partition(".")
    return len(decimals)


def _result_notes(comparison: Comparison) -> tuple[str, ...]:
    differences = comparison.differences
    notes = [
        "Test error: mean over the finished seeds ± half-width of the arm's own 95% t interval.",
        "Differences: mean over the pairs of seeds in which both trials finished. The intervals are simultaneous: in "
        f"{comparison.confidence_level} of studies, they cover all differences of their family.",
    ]
    if any(difference.is_control for difference in differences):
        notes.append(
            f"{CONTROL_MARK} control: the baseline again, with another draw of one stream of random numbers. Its "
            "interval is its own 95% interval; it takes no part in those of the other arms."
        )
    if any(not (difference.is_registered or difference.is_control) for difference in differences):
        notes.append(
            f"{EXPLORATORY_MARK} exploratory: this difference is not part of a registered claim and has no verdict."
        )
    if comparison.registration.replications:
        notes.append("Replications: test errors of public replications on CIFAR-10; see the table of differences.")
    reference = comparison.registration.reference
    if reference:
        caveat = f" Caveat: {reference.caveat}." if reference.caveat else ""
        notes.append(f"Published: {reference.quantity}. Source: {reference.source}.{caveat}")
    return tuple(notes)
