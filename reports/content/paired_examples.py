"""Table of discordant test examples, where arms share networks."""

from __future__ import annotations

from reports.analysis.sensitivity import SeedPair
from reports.document import MAX_UNFOLDED_ROWS, Cell, Column, Table, text_cell
from reports.formatting import Interval, format_fixed, format_interval

DIFFERENCE_DECIMALS = 2  # of a difference, points: its interval is over images


def examples_table(pairs: tuple[SeedPair, ...], baseline: str) -> Table:
    """Discordant examples and McNemar's test, by arm and seed."""
    rows = []
    for pair in pairs:
        test = pair.result
        difference = Interval(value=test.difference, low=test.low, high=test.high)
        rows.append(
            (
                text_cell(pair.arm, "strong"),
                Cell(text=str(pair.seed), sort=pair.seed),
                Cell(text=f"{test.num_only_over_wrong:,}", sort=test.num_only_over_wrong),
                Cell(text=f"{test.num_only_arm_wrong:,}", sort=test.num_only_arm_wrong),
                Cell(text=format_interval(difference, DIFFERENCE_DECIMALS), sort=test.difference),
                Cell(text=_format_p_value(test.p_mid), sort=test.p_mid),
            )
        )
    columns = (
        Column(title="Arm"),
        Column(title="Seed", kind="number"),
        Column(title=f"Only {baseline} wrong", unit="examples", kind="number"),
        Column(title="Only the arm wrong", unit="examples", kind="number"),
        Column(title=f"Error reduction against {baseline}", unit="points", kind="number"),
        Column(title="McNemar's p", kind="number"),
    )
    notes = (
        "Both predictions of a row come from one seed and the same test examples. The 95% interval is over examples, "
        "for the networks of that seed alone. p: McNemar's mid-p, two-sided, not corrected for the number of rows. "
        "For a statement about the method, see the intervals over seeds above.",
    )
    return Table(
        name="examples",
        caption="Paired predictions by seed",
        columns=columns,
        rows=tuple(rows),
        notes=notes,
        folded=len(rows) > MAX_UNFOLDED_ROWS,
    )


def _format_p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else format_fixed(value, 3)
