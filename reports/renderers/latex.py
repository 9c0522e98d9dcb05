"""Render a report as a LaTeX article, and its results as a table."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from reports.comparison.comparison import Comparison
from reports.content.report import claims_table, report_sections, study_facts
from reports.content.results import results_table
from reports.document import Column, Row, Section, Table, text_with_detail, text_with_mark
from reports.figures.seeds import DECISIVE_FIGURE
from reports.figures.style import Figure
from reports.formatting import to_single_line

PREAMBLE = r"""\documentclass{article}
\usepackage{cmap}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{lmodern}
\usepackage{textcomp}
\usepackage[margin=25mm]{geometry}
\usepackage{array}
\usepackage{booktabs}
\usepackage{graphicx}
\usepackage{tabularx}
\newcolumntype{L}{>{\raggedright\arraybackslash}X}
\usepackage{float}
\begin{document}
"""

WRAPPED = r">{\raggedright\arraybackslash}X"  # what the column type L stands for
NUMBER = re.compile(r"[+−]?\d[\d,]*(?:\.\d+)?")
SIGNS = ("+", "−")
MAX_WORD_LENGTH = 30  # characters; a longer word, such as a digest or a path, may break anywhere
MAX_UNSCALED_COLUMNS = 5  # a table with more columns is scaled down to the width of the text
MAX_LINES_PER_PAGE = 36  # of a table: a float cannot break across pages
LINE_CHARACTERS = 80  # of a table as wide as the text, in small print
MIN_COLUMN_CHARACTERS = 12  # of a column that wraps
MAX_NARROW_CHARACTERS = 24  # of a cell; a column with more wraps its text
BREAK_OPPORTUNITY = "\u200b"

GREEK_LETTERS = {
    "ε": r"\varepsilon", "θ": r"\theta", "ρ": r"\rho", "σ": r"\sigma", "φ": r"\varphi",
    "α": r"\alpha", "β": r"\beta", "γ": r"\gamma", "δ": r"\delta", "ζ": r"\zeta", "η": r"\eta", "ι": r"\iota",
    "κ": r"\kappa", "λ": r"\lambda", "μ": r"\mu", "µ": r"\mu", "ν": r"\nu", "ξ": r"\xi", "π": r"\pi", "τ": r"\tau",
    "υ": r"\upsilon", "χ": r"\chi", "ψ": r"\psi", "ω": r"\omega", "Γ": r"\Gamma", "Δ": r"\Delta", "Θ": r"\Theta",
    "Λ": r"\Lambda", "Ξ": r"\Xi", "Π": r"\Pi", "Σ": r"\Sigma", "Φ": r"\Phi", "Ψ": r"\Psi", "Ω": r"\Omega",
}  # fmt: skip
# Hyphens are set in braces, because fonts join two of them into a dash: --seeds would become –seeds.
LATEX_ESCAPES = {
    BREAK_OPPORTUNITY: r"\allowbreak{}",
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "'": r"{'}", "`": r"\textasciigrave{}", "[": "{[}", "]": "{]}",
    "−": r"$-$", "±": r"$\pm$", "×": r"$\times$", "·": r"$\cdot$", "≈": r"$\approx$", "≤": r"$\le$", "≥": r"$\ge$",
    "→": r"$\to$", "≠": r"$\ne$", "∞": r"$\infty$",
    "–": r"--", "—": r"---", "…": r"\ldots{}", "°": r"$^\circ$", "✓": r"$\surd$", "✗": r"$\times$", "²": r"$^2$",
    "†": r"\textdagger{}", "‡": r"\textdaggerdbl{}", "*": "{*}",  # a row that begins with a star would lose it
    "‘": "`", "’": "'", "“": "``", "”": "''", "\u00a0": "~", "-": "{-}",
    **{letter: f"${command}$" for letter, command in GREEK_LETTERS.items()},
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
        blocks += render_pages(claims_table(comparison))
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
    body = _number_labels("\n\n".join(block for block in blocks if block))
    return f"{PREAMBLE}{body}\n\\end{{document}}\n"


def _number_labels(body: str) -> str:
    """Number the labels that occur again, such as those of a table for each of several endpoints."""
    counts: Counter[str] = Counter()

    def number_label(match: re.Match[str]) -> str:
        counts[match[1]] += 1
        return match[0] if counts[match[1]] == 1 else rf"\label{{{match[1]}-{counts[match[1]]}}}"

    return re.sub(r"\\label\{([^}]*)\}", number_label, body)


def render_results_table(comparison: Comparison) -> str:
    """Render the table of results for a paper; its first lines say which packages it needs, and its label."""
    registration = comparison.registration
    label = "-".join(("tab", to_single_line(registration.study), to_single_line(registration.protocol), "results"))
    label = re.sub(r"[^A-Za-z0-9:-]+", "-", label).replace("tab-", "tab:", 1)
    table = render_table(results_table(comparison), label, wrapped=WRAPPED, placement="htbp")
    packages = ["booktabs"]
    if r"\begin{tabularx}" in table:
        packages += ["array", "tabularx"]
    if r"\resizebox" in table:
        packages.append("graphicx")
    needed = " ".join(rf"\usepackage{{{package}}}" for package in packages)
    fonts = r"\usepackage[T1]{fontenc} \usepackage{lmodern}"
    return f"% Needs {needed}\n% and {fonts}; refer to it by \\ref{{{label}}}.\n{table}\n"


def escape_text(words: str) -> str:
    """Escape text for LaTeX.

    A character that its fonts lack becomes the nearest letter, or its code point.
    """
    escaped = []
    for word in to_single_line(words).split(" "):
        escaped.append("".join(map(_escape_character, _allow_breaks(word))))
    return " ".join(escaped)


def render_table(table: Table, label: str = "", *, wrapped: str = "L", placement: str = "H") -> str:
    """Render a booktabs table, as wide as the text where it has sentences.

    Args:
        label: by default, that of the table's name.
        wrapped: specifier of a column whose text wraps; by default the type that the report defines.
        placement: where it may float to; by default nowhere, so that it stays in its section.
    """
    specifiers = [_column_specifier(table, index, wrapped) for index in range(len(table.columns))]
    has_sentences = wrapped in specifiers
    # Only tabularx has columns that wrap; it needs the whole width, which looks odd for a few short numbers.
    environment, width = ("tabularx", r"{\linewidth}") if has_sentences else ("tabular", "")
    layout = "".join(specifiers)
    head = _render_row(map(_column_title, table.columns))
    columns = [_render_column(table, index) for index in range(len(table.columns))]
    rows = list(map(_render_row, zip(*columns, strict=True)))
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
        f"\\begin{{table}}[{placement}]\n\\centering\\small\n\\caption{{{escape_text(table.caption)}}}\n"
        f"\\label{{{label or f'tab:{table.name}'}}}\n{body}\n{notes}\n\\end{{table}}"
    )


def _render_column(table: Table, column_index: int) -> list[str]:
    cells = [row[column_index] for row in table.rows]
    if table.columns[column_index].kind != "number":
        return [escape_text(text_with_mark(cell)) for cell in cells]
    return _align_numbers([text_with_detail(cell) for cell in cells], [cell.mark for cell in cells])


def _align_numbers(texts: Sequence[str], marks: Sequence[str]) -> list[str]:
    """Escape the cells of a column so that their decimal points lie below each other.

    Cells of one form, such as ``+1.22 [0.78, 1.67]``, get every number as wide as the widest at its place, by invisible
    signs and digits before it. The figures of Latin Modern are of one width. Marks take up no width.
    """
    integers_by_form: dict[str, list[list[str]]] = {}
    for text in texts:
        integers = [number.partition(".")[0] for number in NUMBER.findall(text)]
        integers_by_form.setdefault(NUMBER.sub("", text), []).append(integers)
    cells = []
    for text, mark in zip(texts, marks, strict=True):
        places = list(zip(*integers_by_form[NUMBER.sub("", text)], strict=True))
        cells.append(_pad_numbers(text, places) + (rf"\rlap{{\,{escape_text(mark)}}}" if mark else ""))
    return cells


def _pad_numbers(text: str, places: Sequence[Sequence[str]]) -> str:
    """Escape a cell, its numbers as wide as the widest.

    Args:
        places: per number of the cell, the integer parts of the numbers at its place in all cells of its form.
    """
    parts = []
    end = 0
    for match, integers in zip(NUMBER.finditer(text), places, strict=True):
        own = match[0].partition(".")[0]
        num_missing = max(map(_count_digits, integers)) - _count_digits(own)
        is_sign_missing = own[0] not in SIGNS and any(integer[0] in SIGNS for integer in integers)
        padding = (r"\phantom{$-$}" if is_sign_missing else "") + (
            rf"\phantom{{{'0' * num_missing}}}" * (num_missing > 0)
        )
        number = escape_text(match[0]).replace("+", "$+$")  # as wide as a minus sign
        parts += [*map(_escape_character, text[end : match.start()]), padding, number]
        end = match.end()
    return "".join([*parts, *map(_escape_character, text[end:])])


def _count_digits(integer: str) -> int:
    return sum(character.isdigit() for character in integer)


def render_pages(table: Table) -> list[str]:
    """Render a table as one float per page that it takes, with the notes below the last one."""
    pages: list[list[Row]] = [[]]
    num_lines = 0
    for row, row_lines in zip(table.rows, _count_lines(table), strict=True):
        num_lines += row_lines
        if num_lines > MAX_LINES_PER_PAGE and pages[-1]:
            pages.append([])
            num_lines = row_lines
        pages[-1].append(row)
    floats = []
    for number, rows in enumerate(pages, start=1):
        caption = table.caption if number == 1 else f"{table.caption}, continued"
        notes = table.notes if number == len(pages) else ()
        floats.append(render_table(replace(table, caption=caption, rows=tuple(rows), notes=notes)))
    return floats


def _count_lines(table: Table) -> list[int]:
    """Lines that each row takes, estimated from the characters that fit a line; only wrapped columns take several."""
    wrapped, num_taken = [], 0
    for index in range(len(table.columns)):
        if _column_specifier(table, index, WRAPPED) == WRAPPED:
            wrapped.append(index)
        else:
            num_taken += max((len(text_with_mark(row[index])) for row in table.rows), default=0)
    if not wrapped:
        return [1] * len(table.rows)
    column_width = max(MIN_COLUMN_CHARACTERS, (LINE_CHARACTERS - num_taken) // len(wrapped))
    counts = []
    for row in table.rows:
        longest = max(len(text_with_mark(row[index])) for index in wrapped)
        counts.append(max(1, math.ceil(longest / column_width)))
    return counts


def _allow_breaks(word: str) -> str:
    """Let a word too long for a column break after every 12 characters."""
    if len(word) <= MAX_WORD_LENGTH:
        return word
    return BREAK_OPPORTUNITY.join(re.findall(".{1,12}", word))


def _escape_character(character: str) -> str:
    if character in LATEX_ESCAPES:
        return LATEX_ESCAPES[character]
    # Latin-1 and Latin Extended-A, which the T1 encoding has with nine exceptions.
    if ord(character) < 0x180 and character not in "ĦħĸĿŀŉŦŧſ":
        return character
    normalized = unicodedata.normalize("NFKD", character).replace("\u2044", "/")  # the slash of a fraction
    position = {"<super>": "^", "<sub>": "_"}.get(unicodedata.decomposition(character).partition(" ")[0])
    if position:
        normalized = normalized.replace("\u2212", "-")
        if normalized.isascii():
            return f"${position}{{{normalized}}}$"
    # Accents may be dropped from letters, and from nothing else: ≮ without its stroke would say the opposite.
    is_letter = normalized[0].isalpha()
    dropped = [part for part in normalized if not part.isascii()]
    if (dropped and not is_letter) or not all(map(unicodedata.combining, dropped)):
        return rf"\texttt{{U+{ord(character):04X}}}"
    escaped = "".join(LATEX_ESCAPES.get(letter, letter) for letter in normalized if letter.isascii())
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
        blocks += render_pages(table)
    for name in section.figures:
        blocks.append(_render_figure(figures[name]))
    return blocks


def _render_figure(figure: Figure) -> str:
    options = r"[width=0.49\linewidth]"  # two panels side by side
    pictures = "\n".join(rf"\includegraphics{options}{{figures/{panel.name}.pdf}}" for panel in figure.panels)
    caption = f"{escape_text(figure.title)}. {escape_text(figure.caption)}"
    head = f"\\begin{{figure}}[H]\n\\centering\n{pictures}\n\\caption{{{caption}}}\n"
    return f"{head}\\label{{fig:{figure.name}}}\n\\end{{figure}}"


def _column_specifier(table: Table, column_index: int, wrapped: str) -> str:
    """Alignment of a column, or the specifier of one that wraps."""
    if table.columns[column_index].kind == "number":
        return "r"
    longest = max((len(row[column_index].text) for row in table.rows), default=0)
    return wrapped if longest > MAX_NARROW_CHARACTERS else "l"


def _render_row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _column_title(column: Column) -> str:
    return escape_text(f"{column.title}, {column.unit}" if column.unit else column.title)


def _render_list(points: Iterable[str]) -> str:
    items = "\n".join(rf"\item {escape_text(point)}" for point in points)
    return f"\\begin{{itemize}}\n{items}\n\\end{{itemize}}" if items else ""
