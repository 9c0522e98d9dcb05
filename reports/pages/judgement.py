"""Report on results that were measured elsewhere: page, Markdown, LaTeX and CSV."""

from __future__ import annotations

import math
from pathlib import Path

from ablations import capitalize_first
from lightning_modules.specs.text import format_count, join_words
from reports.comparison.claims import count_verdicts
from reports.content.report import VERDICT_SYMBOLS
from reports.document import (
    MAX_UNFOLDED_ROWS,
    Column,
    Section,
    Table,
    interval_cell,
    mean_cell,
    nonempty_tables,
    text_cell,
)
from reports.external.judgement import UNKNOWN_OF_RESULTS, ExternalArm, Judgement
from reports.figures.page_figures.judgement import (
    changes_by_pair,
    describe_metric,
    judgement_figure,
    value_decimals,
)
from reports.formatting import Interval, explain_finding, format_contrast, typeset_minus_signs
from reports.pages.study import PAGE_FILE, figure_files, write_into
from reports.renderers import html, latex, markdown
from reports.renderers.csv import SIGNIFICANT_DIGITS, CsvValue, format_csv
from reports.statistics import Verdict


def write_judgement(judgement: Judgement, folder: Path) -> Path:
    """Write the report into a folder, in place of an earlier one; returns the page's path.

    Raises:
        InvalidValue: where the folder holds anything else.
    """
    write_into(folder, judgement_files(judgement))
    return folder / PAGE_FILE


def judgement_files(judgement: Judgement) -> dict[str, bytes]:
    """Every file of the report by its path below the folder."""
    figure = judgement_figure(judgement)
    figures, sections = {figure.name: figure}, _judgement_sections(judgement)
    title, answer = judgement_title(judgement), summarize_judgement(judgement)
    page = html.load_template("judgement.html.j2").render(
        title=title,
        answer=answer,
        unknown=UNKNOWN_OF_RESULTS,
        cautions=judgement.table.cautions,
        verdicts=judgement.verdicts,
        sections=sections,
        figures=figures,
        symbols=VERDICT_SYMBOLS,
    )
    blocks = [f"# {markdown.escape_text(title)}", f"**{markdown.escape_text(answer)}**"]
    article = [
        rf"\section*{{{latex.escape_text(title)}}}",
        rf"\noindent\textbf{{{latex.escape_text(answer)}}}",
    ]
    # The page shows these two by its own template; text formats have none.
    for section in (_head_section(judgement), _claims_section(judgement), *sections):
        blocks += markdown.render_section(section, figures)
        article += latex.render_section(section, figures)
    texts = {
        PAGE_FILE: page,
        "judgement.md": markdown.join_blocks(blocks),
        "judgement.tex": latex.render_article(article),
        "arms.csv": format_csv([_arm_row(arm) for arm in judgement.arms], SIGNIFICANT_DIGITS),
        "differences.csv": format_csv(_difference_rows(judgement), SIGNIFICANT_DIGITS),
    }
    contents = {name: text.encode() for name, text in texts.items()}
    return contents | figure_files(figures.values())


def judgement_title(judgement: Judgement) -> str:
    """Title of the report: the metric and where its values come from."""
    name = capitalize_first(judgement.table.metric.name)
    return f"{name} of {len(judgement.arms)} arms in {judgement.table.source}"


def summarize_judgement(judgement: Judgement) -> str:
    """The verdicts in one sentence."""
    return typeset_minus_signs(count_verdicts(judgement.verdicts))


def verdict_sentence(verdict: Verdict) -> str:
    """The finding of a verdict, then the bounds."""
    return typeset_minus_signs(explain_finding(verdict.finding, verdict.reason))


def _head_section(judgement: Judgement) -> Section:
    points = (UNKNOWN_OF_RESULTS, *judgement.table.cautions)
    return Section(name="cautions", title="What to know first", points=points)


def _claims_section(judgement: Judgement) -> Section:
    points = []
    for verdict in judgement.verdicts:
        notes = f" ({'; '.join(verdict.notes)})" if verdict.notes else ""
        sentence = f"{verdict_sentence(verdict)} Claim: {verdict.claim.sentence}{notes}"
        points.append(f"{VERDICT_SYMBOLS[verdict.word]} {verdict.word}: {sentence}")
    return Section(name="verdicts", title="Verdicts", points=tuple(points))


def _judgement_sections(judgement: Judgement) -> tuple[Section, ...]:
    return (
        Section(
            name="numbers",
            title="Results",
            tables=nonempty_tables(arms_table(judgement), _differences_table(judgement)),
            figures=("results",),
        ),
        Section(name="sensitivity", title="What these seeds could have found", points=judgement.sensitivity),
        Section(name="method", title="How the verdicts were reached", points=_describe_method(judgement)),
    )


def _describe_method(judgement: Judgement) -> tuple[str, ...]:
    table = judgement.table
    family = format_count(judgement.num_registered, "difference")
    if judgement.num_trends:
        family += f" and {format_count(judgement.num_trends, 'fitted line')}"
    claims = "the given claims" if judgement.are_claims_given else "the claims that every arm improves on the baseline"
    effect = "No smallest effect of interest was given, so no two arms can be found equivalent."
    # Of the values' own unit: nothing is converted, so accuracies in shares keep an effect in shares.
    if judgement.smallest_effect:
        amount = f"{judgement.smallest_effect:g} {table.difference_unit}".strip()
        effect = f"The smallest effect of interest is {amount}."
    return (
        f"Baseline: {table.baseline}. Seeds: {join_words(table.seeds, max_words=12)}. Results are paired by seed.",
        f"The family is that of {claims}: {family}. The intervals hold for all of them together in 95% of studies.",
        effect,
        "Values are printed in the unit in which they were given.",
    )


def _mean_interval(arm: ExternalArm) -> Interval:
    # A mean of one seed has no interval, and its half-width must not be printed as infinite.
    has_limits = math.isfinite(arm.mean.low)
    low, high = (arm.mean.low, arm.mean.high) if has_limits else (math.nan, math.nan)
    return Interval(value=arm.mean.mean, low=low, high=high)


def arms_table(judgement: Judgement) -> Table:
    """Mean, change from the baseline and seeds, arm by arm."""
    decimals = value_decimals(judgement)
    changes = changes_by_pair(judgement)
    rows = []
    for arm in judgement.arms:
        change = changes.get((judgement.table.baseline, arm.name))
        difference = interval_cell(change, decimals) if change else text_cell("baseline", "quiet")
        # The claims read this arm against another one than the baseline, and only that is estimated.
        if change is None and arm is not judgement.arms[0]:
            difference = text_cell("see below", "quiet")
        num_values = f"{arm.mean.num_seeds} of {len(arm.values)}"
        is_complete = arm.mean.num_seeds == len(arm.values)
        rows.append(
            (
                text_cell(arm.name, "strong"),
                mean_cell(_mean_interval(arm), decimals),
                difference,
                text_cell(num_values, "" if is_complete else "alert"),
            )
        )
    about = "mean over seeds ± half-width of its 95% interval"
    columns = (
        Column(title="Arm"),
        Column(title=capitalize_first(describe_metric(judgement)), kind="number", about=about),
        Column(title=f"Change from {judgement.table.baseline}", unit=judgement.table.difference_unit, kind="number"),
        Column(title="Seeds with a value"),
    )
    notes = (
        "Mean: over the arm's seeds ± half-width of its own 95% t interval. Change: over the pairs of seeds in which "
        "both arms have a value, with its simultaneous 95% interval; positive where the metric rises.",
    )
    folded = len(rows) > MAX_UNFOLDED_ROWS
    caption = "Arms"
    return Table(name="arms", caption=caption, columns=columns, rows=tuple(rows), notes=notes, folded=folded)


def _differences_table(judgement: Judgement) -> Table:
    """All differences; no rows where the table of arms has shown each of them, with all its pairs."""
    decimals, changes = value_decimals(judgement), changes_by_pair(judgement)
    rows = []
    baseline = judgement.table.baseline
    # A second table with the same numbers would only raise the question of what is different in it.
    is_shown = [item.over == baseline and item.num_pairs == item.num_planned for item in judgement.differences]
    for index, contrast in enumerate(() if all(is_shown) else judgement.differences):
        pair = (contrast.over, contrast.arm)
        num_pairs = f"{contrast.num_pairs} of {contrast.num_planned}"
        rows.append(
            (
                text_cell(format_contrast(*pair), "strong"),
                interval_cell(changes[pair], decimals),
                text_cell(num_pairs, "" if contrast.num_pairs == contrast.num_planned else "alert"),
                text_cell("claimed" if index < judgement.num_registered else "exploratory"),
            )
        )
    columns = (
        Column(title="Contrast"),
        Column(title="Change", unit=judgement.table.difference_unit, kind="number"),
        Column(title="Complete pairs", unit="of seeds"),
        Column(title="Read by"),
    )
    folded = len(rows) > MAX_UNFOLDED_ROWS
    return Table(name="differences", caption="Differences", columns=columns, rows=tuple(rows), folded=folded)


def _arm_row(arm: ExternalArm) -> dict[str, CsvValue]:
    mean = _mean_interval(arm)
    return {
        "arm": arm.name,
        "mean": mean.value,
        "low": mean.low,
        "high": mean.high,
        "standard_deviation": arm.mean.standard_deviation,
        "seeds": arm.mean.num_seeds,
        "without_value": arm.num_lost,
    }


def _difference_rows(judgement: Judgement) -> list[dict[str, CsvValue]]:
    changes = changes_by_pair(judgement)
    rows: list[dict[str, CsvValue]] = []
    for index, contrast in enumerate(judgement.differences):
        change = changes[contrast.over, contrast.arm]
        rows.append(
            {
                "over": contrast.over,
                "arm": contrast.arm,
                "change": change.value,
                "low": change.low,
                "high": change.high,
                "pairs": contrast.num_pairs,
                "is_claimed": index < judgement.num_registered,
            }
        )
    return rows
