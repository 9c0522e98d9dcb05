"""Render a report as Markdown, for a repository or a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from reports.comparison.comparison import Comparison
from reports.content.report import VERDICT_SYMBOLS, claims_table, report_sections, study_facts
from reports.document import Column, Section, Table, text_with_mark
from reports.figures.seeds import DECISIVE_FIGURE
from reports.figures.style import Figure
from reports.formatting import to_single_line

SPECIAL_CHARACTERS = re.compile(r"([\\`*_{}\[\]<>#|~$&])")  # $ starts mathematics on GitHub


def render_report(comparison: Comparison, figures: Sequence[Figure]) -> str:
    """Render the document; it refers to the figures in ``figures/`` beside it."""
    registration = comparison.registration
    figures_by_name = {figure.name: figure for figure in figures}
    blocks = [
        f"# {escape_text(registration.question)}",
        f"*Ablation study · {escape_text(registration.study)} · protocol {escape_text(registration.protocol)}*",
        f"**{escape_text(comparison.answer)}**",
        *_render_claims(comparison),
        *(_render_figure(figures_by_name[DECISIVE_FIGURE]) if DECISIVE_FIGURE in figures_by_name else ()),
        *_render_cautions(comparison),
        _render_list(f"{name}: {value}" for name, value in study_facts(comparison)),
    ]
    for section in report_sections(comparison, figures):
        blocks += render_section(section, figures_by_name)
    return join_blocks(blocks)


def join_blocks(blocks: Iterable[str]) -> str:
    """Join blocks into a document; empty ones are left out."""
    return "\n\n".join(block for block in blocks if block) + "\n"


def escape_text(words: str) -> str:
    """Escape text for Markdown, its HTML and its mathematics, on one line."""
    escaped = SPECIAL_CHARACTERS.sub(r"\\\1", to_single_line(words))
    # At the start of a line, these would make a list or a heading.
    escaped = re.sub(r"^([-+=](?=\s|$))", r"\\\1", escaped)
    escaped = re.sub(r"^(\d+)([.)]\s)", r"\1\\\2", escaped)
    return escaped.replace("://", ":\\//")  # GitHub links bare addresses; a tracking URI is not a web page


def render_table(table: Table) -> str:
    """Render a table with its caption above and its notes below."""
    alignments = ["---:" if column.kind == "number" else "---" for column in table.columns]
    lines = [_render_row(map(_column_title, table.columns)), _render_row(alignments)]
    for row in table.rows:
        texts = map(text_with_mark, row)
        lines.append(_render_row(map(_render_cell, texts, table.columns)))
    return "\n\n".join([f"**{escape_text(table.caption)}**", "\n".join(lines), *map(escape_text, table.footnotes)])


def _render_claims(comparison: Comparison) -> list[str]:
    if not comparison.claims:
        return []
    blocks = [render_table(claims_table(comparison))]
    for claim in comparison.claims:
        if claim.all_notes:
            heading = f"{VERDICT_SYMBOLS[claim.word]} {escape_text(claim.sentence)}"
            blocks.append(f"{heading}\n\n{_render_list(claim.all_notes)}")
    return blocks


def _render_cautions(comparison: Comparison) -> list[str]:
    return ["**Caveats**", _render_list(comparison.cautions)] if comparison.cautions else []


def render_section(section: Section, figures: Mapping[str, Figure]) -> list[str]:
    """Render the blocks of a section; none where it is empty."""
    if not (section.paragraphs or section.points or section.tables or section.figures):
        return []
    blocks = [f"## {escape_text(section.title)}", *map(escape_text, section.paragraphs), _render_list(section.points)]
    blocks.append("\n".join(f"- [{escape_text(name)}]({address})" for name, address in section.links))
    blocks += map(render_table, section.tables)
    for name in section.figures:
        blocks += _render_figure(figures[name])
    return blocks


def _render_figure(figure: Figure) -> list[str]:
    images = []
    for panel in figure.panels:
        alternative = escape_text(f"{panel.title}. {panel.alternative}")
        images.append(f"![{alternative}](figures/{panel.name}.svg)")
    return [f"### {escape_text(figure.title)}", "\n".join(images), escape_text(figure.caption)]


def _column_title(column: Column) -> str:
    return escape_text(f"{column.title}, {column.unit}" if column.unit else column.title)


def _render_cell(words: str, column: Column) -> str:
    if column.kind != "code" or "`" in words or "|" in words:  # neither can be escaped within code
        return escape_text(words)
    return f"`{to_single_line(words)}`"


def _render_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _render_list(points: Iterable[str]) -> str:
    return "\n".join(f"- {escape_text(point)}" for point in points)
