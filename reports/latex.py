"""The report as LaTeX: a plain article that compiles as it is, and the table of results alone for a paper."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from reports.comparison import Comparison
from reports.content import claims_table, facts, results_table, sections
from reports.drawing import Figure
from reports.numbers import one_line
from reports.sections import Column, Section, Table, marked

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
LONGEST_WORD = 30
MOST_COLUMNS = 5
MOST_ROWS = 36  # of a table on one page
BREAK = "\u200b"
SYMBOLS = {
    BREAK: r"\allowbreak{}",
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "'": r"{'}", "`": r"\textasciigrave{}", "[": "{[}", "]": "{]}",
    "−": r"$-$", "±": r"$\pm$", "×": r"$\times$", "·": r"$\cdot$", "≈": r"$\approx$", "≤": r"$\le$", "≥": r"$\ge$",
    "→": r"$\to$", "ε": r"$\varepsilon$", "σ": r"$\sigma$", "θ": r"$\theta$", "φ": r"$\varphi$", "ρ": r"$\rho$",
    "–": r"--", "—": r"---", "…": r"\ldots{}", "°": r"$^\circ$", "✓": r"$\surd$", "✗": r"$\times$", "²": r"$^2$",
    "‘": "`", "’": "'", "“": "``", "”": "''", "\u00a0": "~", "-": "{-}",
}  # fmt: skip


def render(comparison: Comparison, figures: Sequence[Figure]) -> str:
    """The document as text; figures are read from ``figures/`` beside it."""
    registration = comparison.registration
    blocks = [
        rf"\section*{{{escape(registration.question)}}}",
        rf"\noindent Ablation study {escape(registration.study)}, protocol {escape(registration.protocol)}.",
        rf"\noindent\textbf{{{escape(comparison.answer)}}}",
        *([table(claims_table(comparison))] if comparison.claims else []),
        *_beside(comparison),
        _list(f"{name}: {value}" for name, value in facts(comparison)),
    ]
    drawn = {figure.name: figure for figure in figures}
    for each in sections(comparison, figures):
        blocks += section(each, drawn)
    return article(blocks)


def article(blocks: Iterable[str]) -> str:
    """A document that compiles as it is; empty blocks are left out."""
    return PREAMBLE + "\n\n".join(block for block in blocks if block) + "\n\\end{document}\n"


def results(comparison: Comparison) -> str:
    """The table of results, to be read into a paper; it needs booktabs and tabularx."""
    return table(results_table(comparison)) + "\n"


def escape(words: str) -> str:
    """Text that LaTeX prints as it is; what its fonts lack becomes the nearest letter, or its number."""
    return " ".join("".join(map(_character, piece)) for piece in map(_breakable, one_line(words).split(" ")))


def table(item: Table) -> str:
    """A booktabs table, as wide as the text where it has sentences."""
    wide = [_is_wide(item, place) for place in range(len(item.columns))]
    layout = "".join(_column(column, broad) for column, broad in zip(item.columns, wide, strict=True))
    kind, width = ("tabularx", r"{\linewidth}") if any(wide) else ("tabular", "")
    head = " & ".join(_title(column) for column in item.columns)
    rows = "\n".join(" & ".join(escape(marked(cell)) for cell in row) + r" \\" for row in item.rows)
    notes = "\n".join(rf"\par\smallskip\footnotesize\raggedright {escape(note)}" for note in item.notes)
    body = (
        f"\\begin{{{kind}}}{width}{{@{{}}{layout}@{{}}}}\n\\toprule\n{head} \\\\\n\\midrule\n{rows}\n"
        f"\\bottomrule\n\\end{{{kind}}}"
    )
    if len(item.columns) > MOST_COLUMNS and not any(wide):
        body = f"\\resizebox{{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}}{{!}}{{%\n{body}}}"
    return (
        f"\\begin{{table}}[htbp]\n\\centering\\small\n\\caption{{{escape(item.caption)}}}\n"
        f"{body}\n{notes}\n\\end{{table}}"
    )


def _pages(item: Table) -> list[Table]:
    """A table in pieces that fit on a page, the notes under the last one."""
    starts = range(0, max(len(item.rows), 1), MOST_ROWS)
    pages = [replace(item, rows=item.rows[start : start + MOST_ROWS], notes=()) for start in starts]
    pages[1:] = [replace(page, caption=f"{item.caption}, continued") for page in pages[1:]]
    return [*pages[:-1], replace(pages[-1], notes=item.notes)]


def _breakable(word: str) -> str:
    """A word that is too long for a column, with places where it may break."""
    if len(word) <= LONGEST_WORD:
        return word
    return BREAK.join(word[start : start + 12] for start in range(0, len(word), 12))


def _character(character: str) -> str:
    if character in SYMBOLS:
        return SYMBOLS[character]
    if ord(character) < 0x180:
        return character
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return "".join(SYMBOLS.get(letter, letter) for letter in plain) or rf"\texttt{{U+{ord(character):04X}}}"


def _beside(comparison: Comparison) -> list[str]:
    blocks = []
    for claim in comparison.claims:
        if claim.beside:
            blocks += [rf"\paragraph{{Beside: {escape(claim.sentence)}}}", _list(claim.beside)]
    if comparison.cautions:
        blocks += [r"\paragraph{Before you read on}", _list(comparison.cautions)]
    return blocks


def section(shown: Section, figures: Mapping[str, Figure]) -> list[str]:
    """The blocks of a section; none where it is empty."""
    if not (shown.paragraphs or shown.points or shown.tables or shown.figures):
        return []
    blocks = [rf"\section*{{{escape(shown.title)}}}", *map(escape, shown.paragraphs), _list(shown.points)]
    blocks += [table(page) for item in shown.tables for page in _pages(item)]
    for name in shown.figures:
        blocks.append(_figure(figures[name]))
    return [*blocks, r"\clearpage"] if shown.figures else blocks


def _figure(figure: Figure) -> str:
    pictures = "\n".join(
        rf"\includegraphics[width=0.49\linewidth]{{figures/{panel.name}.pdf}}" for panel in figure.panels
    )
    caption = f"{escape(figure.title)}. {escape(figure.caption)}"
    return f"\\begin{{figure}}[htbp]\n\\centering\n{pictures}\n\\caption{{{caption}}}\n\\end{{figure}}"


def _is_wide(item: Table, place: int) -> bool:
    return item.columns[place].kind != "number" and any(len(row[place].text) > 24 for row in item.rows)


def _column(column: Column, broad: bool) -> str:
    return "L" if broad else "r" if column.kind == "number" else "l"


def _title(column: Column) -> str:
    return escape(f"{column.title}, {column.unit}" if column.unit else column.title)


def _list(points: Iterable[str]) -> str:
    items = "\n".join(rf"\item {escape(point)}" for point in points)
    return f"\\begin{{itemize}}\n{items}\n\\end{{itemize}}" if items else ""
