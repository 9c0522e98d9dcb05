"""The report as sections of paragraphs, tables and figures: one content, which every renderer writes in its own way."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from reports.numbers import MISSING


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table: numbers stand right, code in a fixed width."""

    title: str
    unit: str = ""
    kind: Literal["text", "number", "code"] = "text"
    about: str = ""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What a cell shows, a mark that a footnote explains, the number it sorts by, and how it should strike the eye."""

    text: str
    mark: str = ""
    sort: float = math.nan
    tone: Literal["", "quiet", "alert", "strong"] = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of cells under columns, with a caption and footnotes; ``folded`` where a page may hide it at first."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    folded: bool = False


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and what stands under it.

    Attributes:
        figures: names of figures, in their order.
        points: sentences that stand as a list.
        links: other pages, each with its name and its address relative to the page.
    """

    name: str
    title: str
    paragraphs: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[str, ...] = field(default=())


FOLDED_FROM = 12  # rows beyond which a table that few will read is folded
MISSING_CELL = Cell(text=MISSING, tone="quiet")


def marked(cell: Cell) -> str:
    """A cell's text with its mark."""
    return f"{cell.text} {cell.mark}" if cell.mark else cell.text


def text(value: object, tone: Literal["", "quiet", "alert", "strong"] = "") -> Cell:
    """A cell of text."""
    return Cell(text=str(value), tone=tone)
