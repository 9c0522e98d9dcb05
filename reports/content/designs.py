"""The sections on designs: effects of a factorial, and contributions of a generated design's components."""

from __future__ import annotations

from collections.abc import Sequence

from ablations import ENDPOINT_LABELS, DesignKind
from lightning_modules.specs.text import format_count, join_words
from reports.analysis.factorial_effects import FactorEffect, FactorialAnalysis
from reports.comparison.comparison import Comparison
from reports.comparison.components import ComponentAnalysis, ComponentEffect
from reports.document import Cell, Column, Row, Section, Table, interval_cell, mean_cell, text_cell
from reports.formatting import MISSING

# The figures that are shown in these sections, not with the other figures.
INTERACTION_FIGURE = "interaction"
COMPONENTS_FIGURE = "components"
MAX_CHANGES = 4  # that a cell lists

COMPONENT_PARAGRAPHS: dict[DesignKind, str] = {
    "leave-one-out": (
        "Each component is left out alone, so that its contribution is the one that it makes beside all others. Two "
        "components that do the same work may both seem dispensable."
    ),
    "add-one": (
        "Each component is added alone, so that its contribution is the one that it makes without the others. The "
        "contributions need not add up to that of all components together."
    ),
    "step-by-step": (
        "Each step is compared with the one before it, so that its contribution is the one that it makes after all "
        "earlier steps. The steps in another order may divide the whole in another way."
    ),
}


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
        f"Simultaneous {analysis.confidence_level} intervals, one family of "
        f"{format_count(len(analysis.effects), 'effect')}; positive where {endpoint} falls. Effects have no verdict: "
        "claims are about differences between two arms."
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


def components_section(comparison: Comparison, analysis: ComponentAnalysis, figure_names: Sequence[str]) -> Section:
    """Section with what each component of a generated design contributes."""
    return Section(
        name="components",
        title=analysis.design.title,
        paragraphs=(COMPONENT_PARAGRAPHS[analysis.design.kind],),
        tables=(_components_table(comparison, analysis),),
        figures=(COMPONENTS_FIGURE,) if COMPONENTS_FIGURE in figure_names else (),
    )


def _components_table(comparison: Comparison, analysis: ComponentAnalysis) -> Table:
    endpoint = ENDPOINT_LABELS[analysis.design.endpoint]
    columns = [
        Column(title="Step" if analysis.design.kind == "step-by-step" else "Component"),
        Column(title=f"Reduction in {endpoint}", unit=analysis.unit, kind="number"),
        Column(title="Verdict on its claim"),
        Column(title="Changed settings"),
        Column(title="Changed in the network"),
    ]
    if _shows_pairs(analysis):
        columns.insert(2, Column(title="Complete pairs", unit="of seeds", kind="number"))
    notes = [
        f"Simultaneous {comparison.confidence_level} intervals, one family of all registered differences in "
        f"{endpoint}; positive where {endpoint} is lower with the component."
    ]
    if comparison.registration.looks:
        notes.append(
            "Each is from the seeds of the analysis that resolved its claim, or of the last one; the results by arm "
            "are from all seeds."
        )
    return Table(
        name="components",
        caption=f"Contributions to {endpoint}",
        columns=tuple(columns),
        rows=tuple(_component_row(analysis, effect) for effect in analysis.effects),
        notes=tuple(notes),
    )


def _shows_pairs(analysis: ComponentAnalysis) -> bool:
    """Whether pairs are missing, or interim analyses read different numbers of seeds."""
    is_incomplete = any(effect.num_pairs < effect.num_planned for effect in analysis.effects)
    return is_incomplete or len({effect.num_planned for effect in analysis.effects}) > 1


def _component_row(analysis: ComponentAnalysis, effect: ComponentEffect) -> Row:
    # Settings that come or go with another network last: they say less.
    ordered = sorted(effect.changes, key=lambda change: "absent" in change)
    changes = ordered[:MAX_CHANGES]
    if len(ordered) > MAX_CHANGES:
        changes.append(f"and {len(ordered) - MAX_CHANGES} more")
    cells = [
        text_cell(effect.contrast.component, "strong"),
        interval_cell(effect.estimate, analysis.num_decimals),
        text_cell(effect.word or MISSING),
        text_cell("; ".join(changes)),
        text_cell(effect.network_changes.description),
    ]
    if _shows_pairs(analysis):
        is_incomplete = effect.num_pairs < effect.num_planned
        text = f"{effect.num_pairs} of {effect.num_planned}"
        cells.insert(2, Cell(text=text, sort=effect.num_pairs, tone="alert" if is_incomplete else ""))
    return tuple(cells)
