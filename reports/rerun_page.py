"""The comparison of two runs of one study as files: a page, Markdown, LaTeX, CSV and a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from matplotlib.axes import Axes

from reports import drawing, latex, markdown, page
from reports.arms import ArmRow
from reports.compile import PAGE, replace_folder
from reports.content import SYMBOLS
from reports.csv_tables import COMPUTED_DIGITS, Value, written
from reports.drawing import MUTED, Figure, Panel
from reports.figures import ROW_INCHES, places
from reports.numbers import NOTHING, Estimate, arrow, bracketed, plural, plus_minus, printed
from reports.rerun import (
    Judged,
    Pair,
    Rerun,
)
from reports.sections import MISSING_CELL, Cell, Column, Section, Table, text

NOTE = (
    "Both runs are read on their own; no interval is given for the difference between them. Where their conditions "
    "differ, a difference between them belongs to everything in the first table at once."
)


def write_rerun(found: Rerun, folder: Path) -> Path:
    """Write the comparison into a folder, replacing what was there; returns the page's path."""
    replace_folder(folder, rerun_files(found))
    return folder / PAGE


def rerun_files(found: Rerun) -> dict[str, bytes]:
    """Every file of the comparison by its path below the folder."""
    drawn = [figure for figure in (_figure(found),) if figure]
    parts, figures = _sections(found, drawn), {figure.name: figure for figure in drawn}
    title, question = _title(found), found.first.registration.question
    html = page.template("rerun.html.j2").render(
        title=title, question=question, rerun=found, sections=parts, figures=figures, symbols=SYMBOLS
    )
    blocks = [f"# {markdown.escape(title)}", f"*{markdown.escape(question)}*", f"**{markdown.escape(found.answer)}**"]
    article = [
        rf"\section*{{{latex.escape(title)}}}",
        rf"\noindent {latex.escape(question)}",
        rf"\noindent\textbf{{{latex.escape(found.answer)}}}",
    ]
    for part in parts:
        blocks += markdown.section(part, figures)
        article += latex.section(part, figures)
    texts = {
        PAGE: html,
        "rerun.md": markdown.joined(blocks),
        "rerun.tex": latex.article(article),
        "changed.csv": written(_changed_rows(found)),
        "arms.csv": written(_arms_rows(found), COMPUTED_DIGITS),
        "differences.csv": written(_pairs_rows(found), COMPUTED_DIGITS),
        "claims.csv": written([_claim_row(each) for each in found.claims]),
    }
    pictures = {
        f"figures/{panel.name}.{form}": data
        for figure in drawn
        for panel in figure.panels
        for form, data in (("svg", panel.svg), ("pdf", panel.pdf))
    }
    return {name: content.encode() for name, content in texts.items()} | pictures


# -- how it is shown -----------------------------------------------------------------------------------------------


def _title(found: Rerun) -> str:
    return f"Two runs of {found.first.registration.study}: {found.names[0]} and {found.names[1]}"


def _sections(found: Rerun, figures: Sequence[Figure]) -> tuple[Section, ...]:
    cautions = tuple(
        f"{name}: {caution}"
        for name, run in zip(found.names, (found.first, found.other), strict=True)
        for caution in run.cautions
    )
    return (
        Section(name="claims", title="The verdicts", tables=_filled(_claims_table(found))),
        Section(
            name="changed",
            title="What differs",
            paragraphs=_conditions(found),
            tables=_filled(_changed_table(found, setting=False), _changed_table(found, setting=True)),
        ),
        Section(
            name="numbers",
            title="The numbers",
            paragraphs=(NOTE,),
            tables=_filled(_arms_table(found), _pairs_table(found)),
            figures=tuple(figure.name for figure in figures),
        ),
        Section(name="cautions", title="What to know beside it", points=cautions),
        Section(name="runs", title="The two runs", points=_runs(found)),
    )


def _filled(*tables: Table) -> tuple[Table, ...]:
    return tuple(table for table in tables if table.rows)


def _conditions(found: Rerun) -> tuple[str, ...]:
    told = [] if found.changed else ["Nothing that was recorded differs: settings, data, code, versions, hardware."]
    if found.repeated:
        equal = f"{found.equal} of {plural(found.repeated, 'trial')} that both finished"
        told.append(f"The same setup under the same seed gave the same test error, to the last digit, in {equal}.")
    if found.shared:
        told.append(
            f"{plural(found.shared, 'trial')} of the two runs {'is' if found.shared == 1 else 'are'} one and the same "
            "training, used twice: there, agreement says nothing."
        )
    return tuple(told)


def _claims_table(found: Rerun) -> Table:
    rows = tuple(
        (text(each.sentence, "strong"), _verdict(each.first), _verdict(each.other), _agreement(each))
        for each in found.claims
    )
    columns = (Column(title="Claim"), *(Column(title=name) for name in found.names), Column(title="Agree"))
    note = (
        "Open: inconclusive in one of the two, so that the other one's verdict is neither confirmed nor contradicted."
    )
    notes = [note] if any(each.agree == "open" for each in found.claims) else []
    both = (*found.first.claims, *found.other.claims)
    notes += dict.fromkeys(f"{claim.sentence} {caveat}" for claim in both for caveat in claim.caveats)
    return Table(
        name="verdicts", caption="Both verdicts on every claim", columns=columns, rows=rows, notes=tuple(notes)
    )


def _verdict(word: str) -> Cell:
    return text(f"{SYMBOLS[word]} {word}") if word else text("not registered", "quiet")


def _agreement(each: Judged) -> Cell:
    return text(each.agree, "alert" if each.agree == "no" else "")


def _changed_table(found: Rerun, *, setting: bool) -> Table:
    rows = tuple(
        (text(each.what, "" if setting else "strong"), text(each.first), text(each.other))
        for each in found.changed
        if each.setting == setting
    )
    kind = "code" if setting else "text"
    columns = (
        Column(title="Setting" if setting else "What", kind=kind),  # type: ignore[arg-type]
        *(Column(title=name, kind=kind) for name in found.names),  # type: ignore[arg-type]
    )
    if setting:
        return Table(name="settings", caption="Settings of every arm that differ", columns=columns, rows=rows)
    return Table(name="conditions", caption="Conditions that differ", columns=columns, rows=rows)


def _digits(found: Rerun) -> int:
    return max(places(found.first), places(found.other))


def _by_arm(found: Rerun) -> dict[str, tuple[ArmRow | None, ArmRow | None]]:
    ours, theirs = ({arm.name: arm for arm in run.arms} for run in (found.first, found.other))
    return {name: (ours.get(name), theirs.get(name)) for name in dict.fromkeys((*ours, *theirs))}


def _arms_table(found: Rerun) -> Table:
    digits = _digits(found)
    columns = (
        Column(title="Arm"),
        *(Column(title=name, unit="test error, %", kind="number") for name in found.names),
        *(Column(title=f"Trained, {name}", unit="of run") for name in found.names),
        Column(title="Published", unit="%, other data", kind="number"),
    )
    rows = tuple(
        (
            text(name, "strong"),
            *(Cell(text=plus_minus(arm.error, digits), sort=arm.error.value) if arm else MISSING_CELL for arm in both),
            *(text(arm.trained) if arm else MISSING_CELL for arm in both),
            _published(both),
        )
        for name, both in _by_arm(found).items()
    )
    if not any(math.isfinite(row[-1].sort) for row in rows):
        columns, rows = columns[:-1], tuple(row[:-1] for row in rows)
    note = "Test error: mean over the finished seeds ± half-width of the arm's own 95% interval."
    return Table(name="arms", caption="Every arm in both runs", columns=columns, rows=rows, notes=(note,))


def _published(both: Sequence[ArmRow | None]) -> Cell:
    figure = next((arm.published for arm in both if arm and math.isfinite(arm.published)), math.nan)
    return Cell(text=printed(figure), sort=figure) if math.isfinite(figure) else MISSING_CELL


def _pairs_table(found: Rerun) -> Table:
    digits = _digits(found)
    columns = (
        Column(title="Contrast"),
        *(Column(title=name, unit="points", kind="number") for name in found.names),
        Column(title="The two intervals"),
    )
    rows = tuple(
        (
            text(arrow(each.over, each.arm), "strong"),
            *(Cell(text=bracketed(one, digits), sort=one.value) for one in (each.first, each.other)),
            text(each.said, "alert" if each.said == "opposite signs" else ""),
        )
        for each in found.pairs
    )
    note = "Positive where the second arm has the lower error; each run's own simultaneous 95% intervals."
    return Table(name="differences", caption="Every difference in both runs", columns=columns, rows=rows, notes=(note,))


def _figure(found: Rerun) -> Figure | None:
    pairs = [each for each in found.pairs if math.isfinite(each.first.value) or math.isfinite(each.other.value)]
    if not pairs:
        return None
    digits = _digits(found)
    told = "; ".join(
        f"{each.over} to {each.arm} {bracketed(each.first, digits)} and {bracketed(each.other, digits)}"
        for each in pairs
    )
    panel = Panel(
        name="both",
        title="Lower error of the second arm, points",
        alternative=f"Differences in percentage points, {found.names[0]} and {found.names[1]}: {told}.",
        draw=partial(_draw, found, pairs),
        height_inches=0.85 + 1.4 * ROW_INCHES * len(pairs),
    )
    caption = (
        f"Above, filled: {found.names[0]}; below, hollow: {found.names[1]}. Each with its own run's simultaneous 95% "
        "interval."
    )
    return Figure(name="both", title="The differences in both runs", caption=caption, panels=(panel,))


def _draw(found: Rerun, pairs: Sequence[Pair], axes: Axes) -> None:
    names = list(_by_arm(found))
    heights = range(len(pairs) - 1, -1, -1)
    axes.axvline(0, color=MUTED, linewidth=0.8, zorder=1)
    for height, each in zip(heights, pairs, strict=True):
        shade = drawing.colour(names.index(each.arm))
        for estimate, place, hollow in ((each.first, height + 0.16, False), (each.other, height - 0.16, True)):
            if estimate.bounded:
                axes.plot([estimate.low, estimate.high], [place] * 2, color=shade, zorder=3,
                          linewidth=1.2 if hollow else 1.8)  # fmt: skip
            axes.plot([estimate.value], [place], marker="o", color=shade, markersize=5.5, markeredgewidth=1.4,
                      markerfacecolor=drawing.PAPER if hollow else shade, zorder=4)  # fmt: skip
    axes.set_yticks(list(heights), [drawing.pair(each.over, each.arm) for each in pairs])
    axes.set_ylim(-0.6, len(pairs) - 0.4)
    axes.tick_params(axis="y", labelcolor=drawing.INK)
    axes.locator_params(axis="x", nbins=6)
    axes.xaxis.set_major_formatter(lambda value, _: drawing.signed(round(value, 6)))


def _runs(found: Rerun) -> tuple[str, ...]:
    return tuple(
        f"{name}: run {run.run_id} of experiment {run.experiment_id} at {run.tracking}"
        + (f", started {run.starts[0].time[:19].replace('T', ' ')}: {run.starts[0].command}" if run.starts else "")
        for name, run in zip(found.names, (found.first, found.other), strict=True)
    )


# -- as CSV --------------------------------------------------------------------------------------------------------


def _changed_rows(found: Rerun) -> list[dict[str, Value]]:
    runs: dict[str, Value] = {"what": "run", "first": found.first.run_id, "other": found.other.run_id}
    rows: list[dict[str, Value]] = [
        {"what": each.what, "first": each.first, "other": each.other} for each in found.changed
    ]
    return [runs, *rows]


def _arms_rows(found: Rerun) -> list[dict[str, Value]]:
    return [
        {"arm": name, **_limits("test_error", *(arm.error if arm else NOTHING for arm in both))}
        for name, both in _by_arm(found).items()
    ]


def _pairs_rows(found: Rerun) -> list[dict[str, Value]]:
    return [
        {"over": each.over, "arm": each.arm, **_limits("lower_by", each.first, each.other), "intervals": each.said}
        for each in found.pairs
    ]


def _limits(name: str, first: Estimate, other: Estimate) -> dict[str, Value]:
    return {
        f"{which}_{name}{part}": value
        for which, each in (("first", first), ("other", other))
        for part, value in (("", each.value), ("_low", each.low), ("_high", each.high))
    }


def _claim_row(each: Judged) -> dict[str, Value]:
    return {"claim": each.sentence, "first": each.first, "other": each.other, "agree": each.agree}
