"""The section on a factorial design: cell means, effects, interaction."""

from __future__ import annotations

from collections.abc import Sequence

from ablations import ENDPOINT_LABELS
from reports.analysis.factorial_effects import FactorEffect, FactorialAnalysis
from reports.comparison.comparison import Comparison
from reports.document import Cell, Column, Row, Section, Table, interval_cell, mean_cell, text_cell
from reports.formatting import format_count, join_words

INTERACTION_FIGURE = "interaction"  # the figure that is shown in this section, not with the other figures


def factorial_section(comparison: Comparison, figure_names: Sequence[str]) -> Section:
    """Section with the cell means, main effects and interaction."""
    factorial = comparison.factorial_analyses[0].factorial
    rows, columns = factorial.rows, factorial.columns
    paragraph = (
        f"Every combination of {rows.name} ({join_words(rows.levels)}) and {columns.name} "
        f"({join_words(columns.levels)}) is an arm. A main effect is averaged over the levels of the other factor. An "
        "interaction is the difference between the effects of one factor at two levels of the other. Its variance is "
        "twice that of a difference between two arms, so that detecting an interaction takes twice as many seeds."
    )
    points: list[str] = []
    tables = []
    for analysis in comparison.factorial_analyses:
        points += analysis.sentences
        tables += [_cell_means_table(analysis), _effects_table(analysis)]
    return Section(
        name="crossed",
        title=f"Factorial design: {rows.name} × {columns.name}",
        paragraphs=(paragraph,),
        points=tuple(points),
        tables=tuple(tables),
        figures=(INTERACTION_FIGURE,) if INTERACTION_FIGURE in figure_names else (),
    )


def _cell_means_table(analysis: FactorialAnalysis) -> Table:
    factorial = analysis.factorial
    quantity = ENDPOINT_LABELS[analysis.endpoint].capitalize()
    unit = "%" if analysis.unit == "points" else analysis.unit  # of a mean; its differences are in points
    if unit:
        quantity += f", {unit}"
    columns = [Column(title=factorial.rows.name)]
    for level in factorial.columns.levels:
        columns.append(Column(title=f"{factorial.columns.name}: {level}", kind="number"))
    rows = []
    for level, means in zip(factorial.rows.levels, analysis.cell_means, strict=True):
        cells = [mean_cell(mean, analysis.num_decimals) for mean in means]
        rows.append((text_cell(level, "strong"), *cells))
    return Table(
        name=f"cells-{analysis.endpoint}",
        caption=f"{quantity}, by {factorial.rows.name} and {factorial.columns.name}",
        columns=tuple(columns),
        rows=tuple(rows),
    )


def _effects_table(analysis: FactorialAnalysis) -> Table:
    endpoint = ENDPOINT_LABELS[analysis.endpoint]
    columns = (
        Column(title="Effect"),
        Column(title="Change"),
        Column(title=f"Reduction in {endpoint}", unit=analysis.unit, kind="number"),
        Column(title="Seeds", unit="complete"),
    )
    note = (
        f"Simultaneous 95% intervals, one family of {format_count(len(analysis.effects), 'effect')}; positive where "
        f"{endpoint} falls. Effects have no verdict: claims are about differences between two arms."
    )
    return Table(
        name=f"effects-{analysis.endpoint}",
        caption=f"Main effects and interaction in {endpoint}",
        columns=columns,
        rows=tuple(_effect_row(analysis, effect) for effect in analysis.effects),
        notes=(note, *_confounding_notes(analysis)),
    )


def _confounding_notes(analysis: FactorialAnalysis) -> tuple[str, ...]:
    """Note that an effect is due to all properties that its factor changes."""
    if not analysis.confounds:
        return ()
    confounds = "; ".join(analysis.confounds)
    return (f"Confounded, at least in some cells: {confounds}. An effect is due to all of these changes together.",)


def _effect_row(analysis: FactorialAnalysis, effect: FactorEffect) -> Row:
    is_incomplete = effect.num_pairs < effect.num_planned
    seeds = f"{effect.num_pairs} of {effect.num_planned}"
    return (
        text_cell(effect.factor_label, "strong"),
        text_cell(effect.change),
        interval_cell(effect.estimate, analysis.num_decimals),
        Cell(text=seeds, sort=effect.num_pairs, tone="alert" if is_incomplete else ""),
    )
