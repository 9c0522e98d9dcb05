"""The report as Markdown, for a repository or a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from reports.comparison import Comparison
from reports.content import SYMBOLS, claims_table, facts, sections
from reports.drawing import Figure
from reports.numbers import one_line
from reports.sections import Column, Section, Table, marked

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&])")


def render(comparison: Comparison, figures: Sequence[Figure]) -> str:
    """The document as text; figures are read from ``figures/`` beside it."""
    registration = comparison.registration
    blocks = [
        f"# {escape(registration.question)}",
        f"*Ablation study · {escape(registration.study)} · protocol {escape(registration.protocol)}*",
        f"**{escape(comparison.answer)}**",
        *_claims(comparison),
        *_cautions(comparison),
        _list(f"{name}: {value}" for name, value in facts(comparison)),
    ]
    drawn = {figure.name: figure for figure in figures}
    for each in sections(comparison, figures):
        blocks += section(each, drawn)
    return joined(blocks)


def joined(blocks: Iterable[str]) -> str:
    """A document of blocks; empty ones are left out."""
    return "\n\n".join(block for block in blocks if block) + "\n"


def escape(words: str) -> str:
    """Text that Markdown, its HTML and its mathematics leave alone, on one line."""
    flat = SPECIAL.sub(r"\\\1", one_line(words))
    return re.sub(r"^([-+=](?=\s|$)|\d+(?=[.)]\s))", r"\\\1", flat).replace("://", ":\\//")


def table(item: Table) -> str:
    """A table with its caption above and its notes below."""
    lines = [
        _line(_title(column) for column in item.columns),
        _line("---:" if column.kind == "number" else "---" for column in item.columns),
    ]
    lines += [
        _line(_cell(marked(cell), column) for cell, column in zip(row, item.columns, strict=True)) for row in item.rows
    ]
    notes = [escape(note) for note in item.notes]
    return "\n\n".join([f"**{escape(item.caption)}**", "\n".join(lines), *notes])


def _claims(comparison: Comparison) -> list[str]:
    if not comparison.claims:
        return []
    item = claims_table(comparison)
    lines = [table(item)]
    for claim in comparison.claims:
        if claim.beside:
            lines.append(f"{SYMBOLS[claim.word]} {escape(claim.sentence)}\n\n{_list(claim.beside)}")
    return lines


def _cautions(comparison: Comparison) -> list[str]:
    return ["**Before you read on**", _list(comparison.cautions)] if comparison.cautions else []


def section(shown: Section, figures: Mapping[str, Figure]) -> list[str]:
    """The blocks of a section; none where it is empty."""
    if not (shown.paragraphs or shown.points or shown.tables or shown.figures):
        return []
    blocks = [f"## {escape(shown.title)}", *map(escape, shown.paragraphs), _list(shown.points)]
    blocks.append("\n".join(f"- [{escape(name)}]({address})" for name, address in shown.links))
    blocks += [table(item) for item in shown.tables]
    for name in shown.figures:
        figure = figures[name]
        pictures = [
            f"![{escape(f'{panel.title}. {panel.alternative}')}](figures/{panel.name}.svg)" for panel in figure.panels
        ]
        blocks += [f"### {escape(figure.title)}", "\n".join(pictures), escape(figure.caption)]
    return blocks


def _title(column: Column) -> str:
    return escape(f"{column.title}, {column.unit}" if column.unit else column.title)


def _cell(words: str, column: Column) -> str:
    if column.kind != "code" or "`" in words or "|" in words:
        return escape(words)
    return f"`{one_line(words)}`"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _list(points: Iterable[str]) -> str:
    return "\n".join(f"- {escape(point)}" for point in points)
