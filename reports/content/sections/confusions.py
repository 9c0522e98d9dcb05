"""The classes whose error changes most from the baseline to an arm, and what they are taken for."""

from __future__ import annotations

import numpy as np

from reports.analysis.classes.confusions import ArmConfusions, Confusions
from reports.comparison.comparison import Comparison
from reports.document import Cell, Column, Row, Section, Table, nonempty_tables, number_cell, text_cell
from reports.figures.confusions import CONFUSIONS_FIGURE
from reports.formatting import format_fixed

MAX_ROWS = 12
MAX_CLASSES_PER_ARM = 3
NUM_DECIMALS = 1


def confusions_section(comparison: Comparison, figure_names: list[str]) -> Section:
    """The section; empty where no predictions were stored."""
    confusions = comparison.confusions
    table = _changes_table(confusions) if confusions else None
    return Section(
        name="confusions",
        title="Errors by class",
        tables=nonempty_tables(table) if table else (),
        figures=(CONFUSIONS_FIGURE,) if CONFUSIONS_FIGURE in figure_names else (),
    )


def _changes_table(confusions: Confusions) -> Table:
    baseline, *others = confusions.arms
    candidates: list[tuple[float, Row]] = []
    for arm in others:
        changes = arm.class_errors - baseline.class_errors
        largest = np.argsort(-np.abs(np.nan_to_num(changes)), kind="stable")[:MAX_CLASSES_PER_ARM]
        for index in map(int, largest):
            if np.isfinite(changes[index]) and changes[index]:
                candidates.append((abs(float(changes[index])), _change_row(confusions, baseline, arm, index)))
    largest_rows = sorted(candidates, key=lambda candidate: -candidate[0])[:MAX_ROWS]
    columns = (
        Column(title="Arm"),
        Column(title="Class"),
        Column(title=f"Error in {baseline.arm}", unit="%", kind="number"),
        Column(title="Error in the arm", unit="%", kind="number"),
        Column(title="Change", unit="points", kind="number"),
        Column(title="Most taken for"),
    )
    note = (
        "Means over the finished networks. These classes are shown because their changes are the largest: some of each "
        "is chance, and no claim was registered on any of them. Most taken for: the arm's most frequent wrong answer."
    )
    return Table(
        name="confused",
        caption="Classes whose error changes most",
        columns=columns,
        rows=tuple(row for _, row in largest_rows),
        notes=(note,),
    )


def _change_row(confusions: Confusions, baseline: ArmConfusions, arm: ArmConfusions, index: int) -> Row:
    before, after = float(baseline.class_errors[index]), float(arm.class_errors[index])
    change = after - before
    return (
        text_cell(arm.arm, "strong"),
        text_cell(confusions.class_names[index]),
        number_cell(before, NUM_DECIMALS),
        number_cell(after, NUM_DECIMALS),
        Cell(text=format_fixed(change, NUM_DECIMALS, sign=True), sort=change),
        text_cell(_describe_answer(confusions, arm, index)),
    )


def _describe_answer(confusions: Confusions, arm: ArmConfusions, index: int) -> str:
    wrong = arm.shares[index].copy()
    wrong[index] = 0
    answer = int(np.argmax(wrong))
    if not wrong[answer]:
        return "never wrong"
    return f"{confusions.class_names[answer]} ({format_fixed(float(wrong[answer]), NUM_DECIMALS)}%)"
