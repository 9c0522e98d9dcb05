"""Report on two runs of one study."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from lightning_modules.specs.text import format_count
from reports.analysis.arms import ArmSummary
from reports.comparison.comparison import Comparison
from reports.comparison.two_runs import ClaimInBothRuns, TwoRunComparison
from reports.content.report import VERDICT_SYMBOLS
from reports.document import (
    MISSING_CELL,
    Cell,
    Column,
    Row,
    Section,
    Table,
    interval_cell,
    mean_cell,
    nonempty_tables,
    text_cell,
)
from reports.figures.page_figures.two_runs import arms_by_name, common_decimals, differences_figure
from reports.formatting import NO_INTERVAL, Interval, format_contrast, format_published
from reports.pages.study import PAGE_FILE, figure_files, replace_folder
from reports.renderers import html, latex, markdown
from reports.renderers.csv import SIGNIFICANT_DIGITS, CsvValue, format_csv

READING_NOTE = (
    "Each run is analyzed separately; there is no interval for the difference between the runs. Where their conditions "
    "differ, a difference between the runs is due to all differences in the first table together."
)


def write_run_comparison(two_runs: TwoRunComparison, folder: Path) -> Path:
    """Write the comparison in place of a folder; returns the page's path."""
    replace_folder(folder, run_comparison_files(two_runs))
    return folder / PAGE_FILE


def run_comparison_files(two_runs: TwoRunComparison) -> dict[str, bytes]:
    """Every file of the comparison by its path below the folder."""
    figure = differences_figure(two_runs)
    # No figure where the runs have no difference of arms in common.
    figures = {figure.name: figure} if figure else {}
    sections = _comparison_sections(two_runs, tuple(figures))
    title, question = _comparison_title(two_runs), two_runs.first.registration.question
    page = html.load_template("rerun.html.j2").render(
        title=title, question=question, rerun=two_runs, sections=sections, figures=figures, symbols=VERDICT_SYMBOLS
    )
    blocks = [
        f"# {markdown.escape_text(title)}",
        f"*{markdown.escape_text(question)}*",
        f"**{markdown.escape_text(two_runs.answer)}**",
    ]
    article = [
        rf"\section*{{{latex.escape_text(title)}}}",
        rf"\noindent {latex.escape_text(question)}",
        rf"\noindent\textbf{{{latex.escape_text(two_runs.answer)}}}",
    ]
    for section in sections:
        blocks += markdown.render_section(section, figures)
        article += latex.render_section(section, figures)
    texts = {
        PAGE_FILE: page,
        "rerun.md": markdown.join_blocks(blocks),
        "rerun.tex": latex.render_article(article),
        "changed.csv": format_csv(_changed_rows(two_runs)),
        "arms.csv": format_csv(_arm_rows(two_runs), SIGNIFICANT_DIGITS),
        "differences.csv": format_csv(_difference_rows(two_runs), SIGNIFICANT_DIGITS),
        "claims.csv": format_csv(list(map(_claim_row, two_runs.claims))),
    }
    contents = {name: text.encode() for name, text in texts.items()}
    return contents | figure_files(figures.values())


def _comparison_title(two_runs: TwoRunComparison) -> str:
    first, other = two_runs.run_labels
    return f"Two runs of {two_runs.first.registration.study}: {first} and {other}"


def _labeled_runs(two_runs: TwoRunComparison) -> tuple[tuple[str, Comparison], tuple[str, Comparison]]:
    first_label, other_label = two_runs.run_labels
    return (first_label, two_runs.first), (other_label, two_runs.other)


def _comparison_sections(two_runs: TwoRunComparison, figure_names: tuple[str, ...]) -> tuple[Section, ...]:
    cautions = []
    for label, run in _labeled_runs(two_runs):
        cautions += [f"{label}: {caution}" for caution in run.cautions]
    # Conditions before settings: another code or another data set explains more than any single setting.
    differing = (_changed_table(two_runs, is_setting=False), _changed_table(two_runs, is_setting=True))
    return (
        Section(name="claims", title="Verdicts", tables=nonempty_tables(_claims_table(two_runs))),
        Section(
            name="changed",
            title="Differences in settings and conditions",
            paragraphs=_describe_conditions(two_runs),
            tables=nonempty_tables(*differing),
        ),
        Section(
            name="numbers",
            title="Results",
            paragraphs=(READING_NOTE,),
            tables=nonempty_tables(_arms_table(two_runs), _differences_table(two_runs)),
            figures=figure_names,
        ),
        Section(name="cautions", title="Caveats", points=tuple(cautions)),
        Section(name="runs", title="Provenance", points=_describe_runs(two_runs)),
    )


def _describe_conditions(two_runs: TwoRunComparison) -> tuple[str, ...]:
    sentences = []
    if not two_runs.differences:
        sentences.append("No recorded condition differs: settings, data, code, versions and hardware are the same.")
    if two_runs.num_repeated:
        trials = format_count(two_runs.num_repeated, "trial")
        sentences.append(
            "The same setup under the same seed gave exactly the same test error in "
            f"{two_runs.num_equal} of {trials} that finished in both runs."
        )
    # Trials are reused wherever all that decides their bits agrees, so two runs may hold one training twice.
    if two_runs.num_shared:
        trials, verb = format_count(two_runs.num_shared, "trial"), "is" if two_runs.num_shared == 1 else "are"
        sentences.append(
            f"{trials} {verb} shared by the two runs, trained once and used in both: their agreement is no replication."
        )
    return tuple(sentences)


def _claims_table(two_runs: TwoRunComparison) -> Table:
    rows = []
    for claim in two_runs.claims:
        agreement = text_cell(claim.agreement, "alert" if claim.agreement == "no" else "")
        verdicts = (_verdict_cell(claim.first), _verdict_cell(claim.other))
        rows.append((text_cell(claim.sentence, "strong"), *verdicts, agreement))
    first_label, other_label = two_runs.run_labels
    columns = (Column(title="Claim"), Column(title=first_label), Column(title=other_label), Column(title="Agree"))
    notes = []
    if any(claim.agreement == "open" for claim in two_runs.claims):
        notes.append(
            "Open: inconclusive in one of the two runs, so that the verdict of the other one is neither confirmed nor "
            "contradicted."
        )
    caveats: dict[str, None] = {}  # as an ordered set: both runs have the caveats of one registration
    for judged in (*two_runs.first.claims, *two_runs.other.claims):
        caveats |= dict.fromkeys(f"{judged.sentence} {caveat}" for caveat in judged.caveats)
    return Table(
        name="verdicts",
        caption="Verdicts of both runs",
        columns=columns,
        rows=tuple(rows),
        notes=(*notes, *caveats),
    )


def _verdict_cell(word: str) -> Cell:
    return text_cell(f"{VERDICT_SYMBOLS[word]} {word}") if word else text_cell("not registered", "quiet")


def _changed_table(two_runs: TwoRunComparison, *, is_setting: bool) -> Table:
    rows = []
    for difference in two_runs.differences:
        if difference.is_setting == is_setting:
            subject = text_cell(difference.subject, "" if is_setting else "strong")
            rows.append((subject, text_cell(difference.first), text_cell(difference.other)))
    kind: Literal["code", "text"] = "code" if is_setting else "text"
    headings = ("Setting" if is_setting else "Condition", *two_runs.run_labels)
    return Table(
        name="settings" if is_setting else "conditions",
        caption="Settings of the arms that differ" if is_setting else "Conditions that differ",
        columns=tuple(Column(title=heading, kind=kind) for heading in headings),
        rows=tuple(rows),
    )


def _arms_table(two_runs: TwoRunComparison) -> Table:
    digits = common_decimals(two_runs)
    first_label, other_label = two_runs.run_labels
    columns = [
        Column(title="Arm"),
        Column(title=first_label, unit="test error, %", kind="number"),
        Column(title=other_label, unit="test error, %", kind="number"),
        Column(title=f"Completed, {first_label}", unit="of ended trials"),
        Column(title=f"Completed, {other_label}", unit="of ended trials"),
    ]
    rows: list[Row] = []
    published_cells = []
    for name, (first, other) in arms_by_name(two_runs).items():
        errors = (_error_cell(first, digits), _error_cell(other, digits))
        rows.append((text_cell(name, "strong"), *errors, _outcome_cell(first), _outcome_cell(other)))
        published_cells.append(_published_cell(first, other))
    # A column of dashes would suggest a publication that does not exist.
    if any(math.isfinite(cell.sort) for cell in published_cells):
        columns.append(Column(title="Published", unit="%, other data", kind="number"))
        rows = [(*row, cell) for row, cell in zip(rows, published_cells, strict=True)]
    note = "Test error: mean over the finished seeds ± half-width of the arm's own 95% interval."
    caption = "Test error and outcomes in both runs"
    return Table(name="arms", caption=caption, columns=tuple(columns), rows=tuple(rows), notes=(note,))


def _error_cell(arm: ArmSummary | None, digits: int) -> Cell:
    return mean_cell(arm.mean_error, digits) if arm else MISSING_CELL


def _outcome_cell(arm: ArmSummary | None) -> Cell:
    return text_cell(arm.describe_outcomes) if arm else MISSING_CELL


def _published_cell(*arms: ArmSummary | None) -> Cell:
    """The published value of an arm, from the first run that has one."""
    for arm in arms:
        if arm and math.isfinite(arm.published_value):
            return Cell(text=format_published(arm.published_value), sort=arm.published_value)
    return MISSING_CELL


def _differences_table(two_runs: TwoRunComparison) -> Table:
    digits = common_decimals(two_runs)
    first_label, other_label = two_runs.run_labels
    columns = (
        Column(title="Contrast"),
        Column(title=first_label, unit="points", kind="number"),
        Column(title=other_label, unit="points", kind="number"),
        Column(title="Intervals"),
    )
    rows = []
    # Each run's intervals are a family of their own; none is given for the difference between the two runs.
    for contrast in two_runs.contrasts:
        rows.append(
            (
                text_cell(format_contrast(contrast.over, contrast.arm), "strong"),
                interval_cell(contrast.first, digits),
                interval_cell(contrast.other, digits),
                text_cell(contrast.sign_agreement, "alert" if contrast.sign_agreement == "opposite signs" else ""),
            )
        )
    levels = dict.fromkeys(run.confidence_level for _, run in _labeled_runs(two_runs))
    note = (
        f"Positive: the second arm has the lower error. Simultaneous {' and '.join(levels)} intervals of each run on "
        "its own."
    )
    caption = "Differences in both runs"
    return Table(name="differences", caption=caption, columns=columns, rows=tuple(rows), notes=(note,))


def _describe_runs(two_runs: TwoRunComparison) -> tuple[str, ...]:
    descriptions = []
    for label, run in _labeled_runs(two_runs):
        description = f"{label}: run {run.run_id} of experiment {run.experiment_id} at {run.tracking_uri}"
        if run.starts:
            start = run.starts[0]
            by = f" by {start.user} on {start.host}" if start.user else ""
            description += f", started {start.time[:19].replace('T', ' ')}{by}: {start.command}"
        descriptions.append(description)
    return tuple(descriptions)


def _changed_rows(two_runs: TwoRunComparison) -> list[dict[str, CsvValue]]:
    rows: list[dict[str, CsvValue]] = [
        {"what": "run", "first": two_runs.first.run_id, "other": two_runs.other.run_id},
    ]
    for difference in two_runs.differences:
        rows.append({"what": difference.subject, "first": difference.first, "other": difference.other})
    return rows


def _arm_rows(two_runs: TwoRunComparison) -> list[dict[str, CsvValue]]:
    rows: list[dict[str, CsvValue]] = []
    for name, (first, other) in arms_by_name(two_runs).items():
        first_error = first.mean_error if first else NO_INTERVAL
        other_error = other.mean_error if other else NO_INTERVAL
        rows.append({"arm": name, **_interval_columns("test_error", first_error, other_error)})
    return rows


def _difference_rows(two_runs: TwoRunComparison) -> list[dict[str, CsvValue]]:
    rows: list[dict[str, CsvValue]] = []
    for contrast in two_runs.contrasts:
        intervals = _interval_columns("lower_by", contrast.first, contrast.other)
        arms = {"over": contrast.over, "arm": contrast.arm}
        rows.append({**arms, **intervals, "intervals": contrast.sign_agreement})
    return rows


def _interval_columns(name: str, first: Interval, other: Interval) -> dict[str, CsvValue]:
    return {
        f"first_{name}": first.value,
        f"first_{name}_low": first.low,
        f"first_{name}_high": first.high,
        f"other_{name}": other.value,
        f"other_{name}_low": other.low,
        f"other_{name}_high": other.high,
    }


def _claim_row(claim: ClaimInBothRuns) -> dict[str, CsvValue]:
    return {"claim": claim.sentence, "first": claim.first, "other": claim.other, "agree": claim.agreement}
