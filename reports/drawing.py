"""How figures look and how they are saved: one calm style, colours that all can tell apart, bytes that never change."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, NullLocator

from reports.numbers import MINUS, one_line

INK, MUTED, RULE, BAND, PAPER = "#1b1f24", "#68717c", "#d5dae0", "#e6ebf1", "#fffffe"
# Okabe & Ito 2008, without the yellow, which is lost on white; the baseline is drawn in ink.
ARM_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
LINES = ("solid", "dashed", "dashdot")
WIDTH_INCHES = 3.7
VARIABLES = {INK: "ink", MUTED: "muted", RULE: "rule", BAND: "band", PAPER: "paper"} | {
    colour: f"arm-{index + 1}" for index, colour in enumerate(ARM_COLOURS)
}
STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"], "font.size": 8.0, "text.parse_math": False, "axes.unicode_minus": True,
    "text.color": INK, "axes.labelcolor": MUTED, "axes.edgecolor": RULE, "axes.linewidth": 0.8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "figure.titlesize": 9.0, "figure.titleweight": "normal",
    "axes.labelsize": 8.0, "xtick.color": RULE, "ytick.color": RULE, "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED, "xtick.labelsize": 7.5, "ytick.labelsize": 7.5, "ytick.major.size": 0,
    "xtick.major.size": 3, "xtick.major.width": 0.8, "axes.grid": False, "grid.color": RULE, "grid.linewidth": 0.6,
    "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none", "lines.linewidth": 1.5,
    "svg.hashsalt": "ablation-studies", "pdf.fonttype": 42, "path.simplify": True,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One drawing: for the page (text as text, colours as variables), and as files for a paper. Drawn when asked for.

    Attributes:
        alternative: what it shows, in words and numbers.
        draw: puts it onto axes.
    """

    name: str
    title: str
    alternative: str
    draw: Callable[[Axes], None]
    height_inches: float = 2.7

    @cached_property
    def inline(self) -> str:
        """An ``<svg>`` element for a page; its colours and font follow the page's."""
        return _inline(self.name, self._saved("svg", "none").decode())

    @cached_property
    def svg(self) -> bytes:
        """A file of its own, text as outlines."""
        return self._saved("svg", "path")

    @cached_property
    def pdf(self) -> bytes:
        """A file of its own, fonts embedded as TrueType, as publishers want them."""
        return self._saved("pdf", "path")

    @cached_property
    def _canvas(self) -> Canvas:
        canvas = Canvas(figsize=(WIDTH_INCHES, self.height_inches), layout="constrained")
        axes = canvas.add_subplot()
        canvas.suptitle(self.title, x=0.004, ha="left").set_gid("title")
        self.draw(axes)
        canvas.draw_without_rendering()
        canvas.set_layout_engine("none")  # arranged once, whichever form is asked for first
        return canvas

    def _saved(self, form: str, fonttype: str) -> bytes:
        stream = io.BytesIO()
        with matplotlib.rc_context(STYLE | {"svg.fonttype": fonttype}), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            self._canvas.savefig(stream, format=form, metadata=_METADATA[form])
        return stream.getvalue()


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Panels that belong together, under one caption."""

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]


def colour(index: int) -> str:
    """The colour of an arm by its place; the baseline, at place 0, in ink."""
    return INK if index == 0 else ARM_COLOURS[(index - 1) % len(ARM_COLOURS)]


def marker(index: int) -> str:
    """The marker of an arm by its place, so that colour never stands alone."""
    return MARKERS[index % len(MARKERS)]


def line(index: int) -> str:
    """The line of an arm by its place; changes where colours begin anew."""
    return LINES[max(0, index - 1) // len(ARM_COLOURS) % len(LINES)]


def short(name: str, characters: int = 16) -> str:
    """A name that fits beside an axis; the end cut."""
    clean = one_line(name)
    return clean if len(clean) <= characters else clean[: characters - 1] + "…"


def pair(over: str, arm: str) -> str:
    """A contrast that fits beside an axis: on two lines where the names are long."""
    if max(len(over), len(arm)) <= 9:
        return f"{short(over)} → {short(arm)}"
    return f"{short(over)} →\n{short(arm)}"


def spread(heights: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Heights moved apart to at least ``gap``, as little as it takes, in their order."""
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    placed = list(heights)
    for _ in range(200):
        for below, above in pairwise(order):
            overlap = gap - (placed[above] - placed[below])
            if overlap > 1e-9:
                placed[below] -= overlap / 2
                placed[above] += overlap / 2
        placed = [min(max(height, low), high) for height in placed]
    return placed


def name_ends(axes: Axes, ends: Sequence[tuple[str, int, float]]) -> None:
    """Lines named where they end, ``(name, place, height)``, moved apart where the names would overlap."""
    if not ends:
        return
    to_axes = axes.transScale + axes.transLimits
    right = axes.get_xlim()[1]
    heights = [float(to_axes.transform((right, end))[1]) for _, _, end in ends]
    for (name, index, _), height in zip(ends, spread(heights, 0.065, 0.0, 1.0), strict=True):
        axes.annotate(name, (1.02, height), xycoords="axes fraction", color=colour(index), va="center",
                      fontsize=8, annotation_clip=False)  # fmt: skip


def square_root(axes: Axes, highest: float) -> None:
    """A square-root axis for errors: it has a zero and still opens the small values."""
    axes.set_yscale("function", functions=(lambda y: np.sqrt(np.maximum(y, 0)), np.square))
    axes.set_ylim(0, highest)
    apart = [0.0]
    for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 40, 60, 80, 100):
        if tick <= highest and np.sqrt(tick / highest) - np.sqrt(apart[-1] / highest) > 0.09:
            apart.append(tick)
    axes.set_yticks(apart, [f"{tick:g}" for tick in apart])
    axes.minorticks_off()


def logarithmic(axes: Axes, which: Literal["x", "y"] = "y") -> None:
    """A logarithmic axis that names its values in plain numbers."""
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_locator(NullLocator())


def signed(value: float) -> str:
    """A tick label with a true minus sign and a plus."""
    return f"{value:+g}".replace("-", MINUS) if value else "0"


_METADATA = {
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def _inline(name: str, svg: str) -> str:
    """The ``<svg>`` element alone: its own ids, the page's colours and font, no namespaces or metadata."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", body).replace("xlink:href", "href")
    body = re.sub(r'(\sid=")', rf"\g<1>{name}-", body)
    body = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", body)
    body = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", body)
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    for code, variable in VARIABLES.items():
        body = body.replace(code, f"var(--{variable}, {code})")
    head = re.sub(r'\s(width|height|version)="[^"]*"', "", body[: body.index(">")])
    return head + ' aria-hidden="true" focusable="false"' + body[body.index(">") :].strip()
