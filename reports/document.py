"""Format-independent document of a report: sections, tables and cells."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from reports.formatting import MISSING, Interval, format_fixed, format_interval, format_plus_minus

Tone = Literal["", "quiet", "alert", "strong"]
CLIPPED_NOTE = (
    "Intervals are cut at what is possible: a mean at 0 and 100%, a difference at ±100 points, an interaction at ±200. "
    "Beside a mean, a cut interval is given by its two limits."
)


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table.

    Attributes:
        kind: numbers are aligned right, code is set in a fixed width.
        about: explanation that a page shows on hovering over the heading.
    """

    title: str
    unit: str = ""
    kind: Literal["text", "number", "code"] = "text"
    about: str = ""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell of a table.

    Attributes:
        detail: what belongs to the text and stands below it on a page, in parentheses behind it elsewhere: a range.
        mark: sign that a footnote explains.
        sort: number by which a page sorts the column; NaN sorts by text.
        tone: emphasis.
        is_clipped: whether it shows an interval that was cut at what is possible.
        anchor: id by which a page links to the row; unique within the page.
        links: parts of the page that it refers to, each with a few words and its address; on pages alone.
    """

    text: str
    detail: str = ""
    mark: str = ""
    sort: float = math.nan
    tone: Tone = ""
    is_clipped: bool = False
    anchor: str = ""
    links: tuple[tuple[str, str], ...] = ()


Row = tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of cells under columns, with a caption and footnotes.

    Attributes:
        notes: without the one on clipped intervals, see :attr:`footnotes`.
        folded: whether a page shows the caption alone until it is opened.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    folded: bool = False

    @property
    def footnotes(self) -> tuple[str, ...]:
        """The notes, and one where an interval was cut at what is possible."""
        is_clipped = any(cell.is_clipped for row in self.rows for cell in row)
        return (*self.notes, CLIPPED_NOTE) if is_clipped else self.notes


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading with paragraphs, a list, links, tables and figures.

    Attributes:
        points: sentences of the list.
        figures: names of figures, in their order.
        links: other pages, each with its name and its address relative to the page.
    """

    name: str
    title: str
    paragraphs: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether it has nothing to show."""
        return not (self.paragraphs or self.points or self.links or self.tables or self.figures)


MAX_UNFOLDED_ROWS = 12  # rows beyond which a table of details is folded
MISSING_CELL = Cell(text=MISSING, tone="quiet")


def nonempty_tables(*tables: Table) -> tuple[Table, ...]:
    """The tables that have rows."""
    return tuple(table for table in tables if table.rows)


def text_with_detail(cell: Cell) -> str:
    """A cell's text with its detail in one line."""
    return f"{cell.text} ({cell.detail})" if cell.detail else cell.text


def text_with_mark(cell: Cell) -> str:
    """A cell's text with its detail and its mark."""
    text = text_with_detail(cell)
    return f"{text} {cell.mark}" if cell.mark else text


def number_cell(value: float, num_decimals: int) -> Cell:
    """Make a cell of a number with fixed decimals."""
    return Cell(text=format_fixed(value, num_decimals), sort=value)


def mean_cell(mean: Interval, num_decimals: int) -> Cell:
    """Make a cell of a mean ± the half-width of its interval."""
    return Cell(text=format_plus_minus(mean, num_decimals), sort=mean.value, is_clipped=mean.is_clipped)


def interval_cell(estimate: Interval, num_decimals: int) -> Cell:
    """Make a cell of a difference with the limits of its interval."""
    return Cell(text=format_interval(estimate, num_decimals), sort=estimate.value, is_clipped=estimate.is_clipped)


def text_cell(value: object, tone: Tone = "") -> Cell:
    """Make a cell of a value's text."""
    return Cell(text=str(value), tone=tone)
