"""Render a report as a LaTeX article, and its results as a table."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from reports.comparison.comparison import Comparison
from reports.content.report import claims_table, report_sections, study_facts
from reports.content.results import results_table
from reports.document import Column, Section, Table, text_with_mark
from reports.figures.seeds import DECISIVE_FIGURE
from reports.figures.style import Figure
from reports.formatting import to_single_line

PREAMBLE = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{textcomp}
\usepackage[margin=25mm]{geometry}
\usepackage{array}
\usepackage{booktabs}
\usepackage{graphicx}
\newcolumntype{L}{>{\raggedright\arraybackslash}X}
\usepackage{tabularx}
\begin{document}
"""

MAX_WORD_LENGTH = 30  # characters; a longer word, such as a digest or a path, may break anywhere
MAX_UNSCALED_COLUMNS = 5  # a table with more columns is scaled down to the width of the text
MAX_ROWS_PER_PAGE = 36  # of a table: a float cannot break across pages
MAX_NARROW_CHARACTERS = 24  # of a cell; a column with more wraps its text
BREAK_OPPORTUNITY = "\u200b"

# Hyphens are set in braces, because fonts join two of them into a dash: --seeds would become –seeds.
LATEX_ESCAPES = {
    BREAK_OPPORTUNITY: r"\allowbreak{}",
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "'": r"{'}", "`": r"\textasciigrave{}", "[": "{[}", "]": "{]}",
    "−": r"$-$", "±": r"$\pm$", "×": r"$\times$", "·": r"$\cdot$", "≈": r"$\approx$", "≤": r"$\le$", "≥": r"$\ge$",
    "→": r"$\to$", "ε": r"$\varepsilon$", "σ": r"$\sigma$", "θ": r"$\theta$", "φ": r"$\varphi$", "ρ": r"$\rho$",
    "–": r"--", "—": r"---", "…": r"\ldots{}", "°": r"$^\circ$", "✓": r"$\surd$", "✗": r"$\times$", "²": r"$^2$",
    "‘": "`", "’": "'", "“": "``", "”": "''", "\u00a0": "~", "-": "{-}",
}  # fmt: skip


def render_report(comparison: Comparison, figures: Sequence[Figure]) -> str:
    """Render the document; it reads the figures from ``figures/`` beside it."""
    registration = comparison.registration
    blocks = [
        rf"\section*{{{escape_text(registration.question)}}}",
        rf"\noindent Ablation study {escape_text(registration.study)}, protocol {escape_text(registration.protocol)}.",
        rf"\noindent\textbf{{{escape_text(comparison.answer)}}}",
    ]
    if comparison.claims:
        blocks.append(render_table(claims_table(comparison)))
    figures_by_name = {figure.name: figure for figure in figures}
    if DECISIVE_FIGURE in figures_by_name:
        blocks.append(_render_figure(figures_by_name[DECISIVE_FIGURE]))
    blocks += _render_notes(comparison)
    blocks.append(_render_list(f"{name}: {value}" for name, value in study_facts(comparison)))
    for section in report_sections(comparison, figures):
        blocks += render_section(section, figures_by_name)
    return render_article(blocks)


def render_article(blocks: Iterable[str]) -> str:
    """Join non-empty blocks into a document that compiles as it is."""
    body = "\n\n".join(block for block in blocks if block)
    return f"{PREAMBLE}{body}\n\\end{{document}}\n"


def render_results_table(comparison: Comparison) -> str:
    """Render the table of results for a paper; it needs booktabs and tabularx."""
    return render_table(results_table(comparison)) + "\n"


def escape_text(words: str) -> str:
    """Escape text for LaTeX.

    A character that its fonts lack becomes the nearest letter, or its code point.
    """
    escaped = []
    for word in to_single_line(words).split(" "):
        escaped.append("".join(map(_escape_character, _allow_breaks(word))))
    return " ".join(escaped)


def render_table(table: Table) -> str:
    """Render a booktabs table, as wide as the text where it has sentences."""
    specifiers = [_column_specifier(table, index) for index in range(len(table.columns))]
    has_sentences = "L" in specifiers
    # Only tabularx has columns that wrap; it needs the whole width, which looks odd for a few short numbers.
    environment, width = ("tabularx", r"{\linewidth}") if has_sentences else ("tabular", "")
    layout = "".join(specifiers)
    head = _render_row(map(_column_title, table.columns))
    rows = []
    for row in table.rows:
        rows.append(_render_row(map(escape_text, map(text_with_mark, row))))
    notes = "\n".join(rf"\par\smallskip\footnotesize\raggedright {escape_text(note)}" for note in table.footnotes)
    lines = [
        f"\\begin{{{environment}}}{width}{{@{{}}{layout}@{{}}}}",
        r"\toprule",
        head,
        r"\midrule",
        "\n".join(rows),
        r"\bottomrule",
        f"\\end{{{environment}}}",
    ]
    body = "\n".join(lines)
    if len(table.columns) > MAX_UNSCALED_COLUMNS and not has_sentences:
        body = f"\\resizebox{{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}}{{!}}{{%\n{body}}}"
    return (
        f"\\begin{{table}}[htbp]\n\\centering\\small\n\\caption{{{escape_text(table.caption)}}}\n"
        f"{body}\n{notes}\n\\end{{table}}"
    )


def _split_pages(table: Table) -> list[Table]:
    """Split a table into pages, with the notes below the last one."""
    pages = []
    for start in range(0, max(len(table.rows), 1), MAX_ROWS_PER_PAGE):
        end = start + MAX_ROWS_PER_PAGE
        caption = f"{table.caption}, continued" if start else table.caption
        notes = table.notes if end >= len(table.rows) else ()
        pages.append(replace(table, caption=caption, rows=table.rows[start:end], notes=notes))
    return pages


def _allow_breaks(word: str) -> str:
    """Let a word too long for a column break after every 12 characters."""
    if len(word) <= MAX_WORD_LENGTH:
        return word
    return BREAK_OPPORTUNITY.join(re.findall(".{1,12}", word))


def _escape_character(character: str) -> str:
    if character in LATEX_ESCAPES:
        return LATEX_ESCAPES[character]
    if ord(character) < 0x180:  # Latin-1 and Latin Extended-A, which the T1 encoding has
        return character
    letters = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    escaped = "".join(LATEX_ESCAPES.get(letter, letter) for letter in letters)
    return escaped or rf"\texttt{{U+{ord(character):04X}}}"


def _render_notes(comparison: Comparison) -> list[str]:
    blocks = []
    for claim in comparison.claims:
        if claim.all_notes:
            blocks += [rf"\paragraph{{Notes: {escape_text(claim.sentence)}}}", _render_list(claim.all_notes)]
    if comparison.cautions:
        blocks += [r"\paragraph{Caveats}", _render_list(comparison.cautions)]
    return blocks


def render_section(section: Section, figures: Mapping[str, Figure]) -> list[str]:
    """Render the blocks of a section; none where it is empty."""
    if not (section.paragraphs or section.points or section.tables or section.figures):
        return []
    blocks = [
        rf"\section*{{{escape_text(section.title)}}}",
        *map(escape_text, section.paragraphs),
        _render_list(section.points),
    ]
    for table in section.tables:
        blocks += map(render_table, _split_pages(table))
    for name in section.figures:
        blocks.append(_render_figure(figures[name]))
    if section.figures:
        blocks.append(r"\clearpage")  # else LaTeX stops at too many unprocessed floats
    return blocks


def _render_figure(figure: Figure) -> str:
    options = r"[width=0.49\linewidth]"  # two panels side by side
    pictures = "\n".join(rf"\includegraphics{options}{{figures/{panel.name}.pdf}}" for panel in figure.panels)
    caption = f"{escape_text(figure.title)}. {escape_text(figure.caption)}"
    return f"\\begin{{figure}}[htbp]\n\\centering\n{pictures}\n\\caption{{{caption}}}\n\\end{{figure}}"


def _column_specifier(table: Table, column_index: int) -> str:
    """Alignment of a column; ``L`` where its text wraps."""
    if table.columns[column_index].kind == "number":
        return "r"
    longest = max((len(row[column_index].text) for row in table.rows), default=0)
    return "L" if longest > MAX_NARROW_CHARACTERS else "l"


def _render_row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _column_title(column: Column) -> str:
    return escape_text(f"{column.title}, {column.unit}" if column.unit else column.title)


def _render_list(points: Iterable[str]) -> str:
    items = "\n".join(rf"\item {escape_text(point)}" for point in points)
    return f"\\begin{{itemize}}\n{items}\n\\end{{itemize}}" if items else ""
