"""Style of all figures, and their export as reproducible SVG and PDF."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, NullLocator

from reports.formatting import MINUS, to_single_line

# PAPER is one step off pure white: it is replaced by the page's variable, which must not touch a white of matplotlib's.
INK, MUTED, RULE, BAND, PAPER = "#1b1f24", "#68717c", "#d5dae0", "#e6ebf1", "#fffffe"

# Okabe & Ito 2008, distinguishable under color blindness; without the yellow, which is lost on white.
ARM_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
LINE_STYLES = ("solid", "dashed", "dashdot")
ROW_INCHES, FRAME_INCHES = 0.3, 0.85  # of a panel of labeled rows
MAX_PANEL_INCHES = 9.0
MAX_ROW_LABELS = 50  # on the highest panel
MAX_DESCRIPTIONS = 12  # parts of a text alternative
MAX_CURVE_POINTS = 400
NO_ARM = -1  # of a mark that belongs to no arm, or to several
PANEL_WIDTH_INCHES = 3.7  # two panels fit side by side on the page
CSS_VARIABLES = {INK: "ink", MUTED: "muted", RULE: "rule", BAND: "band", PAPER: "paper"}
CSS_VARIABLES |= {color: f"arm-{number}" for number, color in enumerate(ARM_COLORS, 1)}

# parse_math is off because names of arms may contain a dollar sign. A fixed hashsalt gives the SVG the same ids every
# time. Fonttype 42 embeds TrueType: publishers reject Type 3 fonts.
RC_PARAMS: dict[Any, Any] = {
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
class Mark:
    """A point of a drawing whose value a page shows under the pointer.

    Attributes:
        x, y: its place from the upper left corner of the panel, points.
        label: what it stands for: an arm, or a contrast.
        text: its value in words.
        arm: index of its arm.
    """

    x: float
    y: float
    label: str
    text: str
    arm: int = NO_ARM


class MarkedCanvas(Canvas):
    """A canvas that knows its marks, in the coordinates of their axes until the layout is known."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.marks: list[tuple[Axes, Mark]] = []

    def placed_marks(self) -> tuple[Mark, ...]:
        """The marks in points from the upper left corner."""
        to_points = 72 / self.dpi
        placed = []
        for axes, mark in self.marks:
            x, y = axes.transData.transform((mark.x, mark.y)) * to_points
            placed.append(replace(mark, x=round(float(x), 1), y=round(self.get_figheight() * 72 - float(y), 1)))
        return tuple(placed)


def add_mark(axes: Axes, x: float, y: float, label: str, text: str, arm: int = NO_ARM) -> None:
    """Let a page show a value at a point, in the coordinates of the axes; no drawing changes by it."""
    if isinstance(axes.figure, MarkedCanvas) and np.isfinite(x) and np.isfinite(y):
        axes.figure.marks.append((axes, Mark(x=x, y=y, label=to_single_line(label), text=text, arm=arm)))


def assign_to_arm(artists: Iterable[Artist], arm: int, *, is_quiet: bool = False) -> None:
    """Let a page highlight these parts of a drawing with their arm, or hide them.

    Args:
        is_quiet: whether they are drawn in gray, behind those of other arms.
    """
    for artist in artists:
        artist.set_gid(f"arm:{arm}:quiet" if is_quiet else f"arm:{arm}")


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Drawing for the page and as files for a paper; rendered on first use.

    Attributes:
        alternative: text alternative, with the numbers that it shows.
        draw: draws it onto axes.
    """

    name: str
    title: str
    alternative: str
    draw: Callable[[Axes], None]
    height_inches: float = 2.7

    @cached_property
    def inline(self) -> str:
        """An ``<svg>`` element for a page; colors and font follow the page's."""
        return _inline_svg(self.name, self._save("svg", "none").decode())

    @cached_property
    def svg(self) -> bytes:
        """A stand-alone SVG file, text as outlines."""
        return self._save("svg", "path")

    @cached_property
    def pdf(self) -> bytes:
        """A stand-alone PDF file, fonts embedded as TrueType."""
        return self._save("pdf", "path")

    @cached_property
    def marks(self) -> tuple[Mark, ...]:
        """Points whose values a page shows under the pointer."""
        with matplotlib.rc_context(RC_PARAMS):
            return self._canvas.placed_marks()

    @cached_property
    def _canvas(self) -> MarkedCanvas:
        canvas = MarkedCanvas(figsize=(PANEL_WIDTH_INCHES, self.height_inches), layout="constrained")
        axes = canvas.add_subplot()
        canvas.suptitle(self.title, x=0.004, ha="left").set_gid("title")
        self.draw(axes)
        canvas.draw_without_rendering()
        # Laid out once: otherwise the layout would depend on which format is saved first.
        canvas.set_layout_engine("none")
        return canvas

    def _save(self, file_format: str, fonttype: str) -> bytes:
        stream = io.BytesIO()
        with matplotlib.rc_context(RC_PARAMS | {"svg.fonttype": fonttype}), warnings.catch_warnings():
            # A name in a script that the font lacks shows as boxes; that is no reason to fail.
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            self._canvas.savefig(stream, format=file_format, metadata=_FILE_METADATA[file_format])
        contents = stream.getvalue()
        if file_format == "svg":
            # Several parts may belong to one arm: what was their id is no id, but a property.
            contents = re.sub(rb'\sid="arm:(\d+):quiet"', rb' data-arm="\1" data-quiet=""', contents)
            contents = re.sub(rb'\sid="arm:(\d+)"', rb' data-arm="\1"', contents)
        return contents


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Panels under one caption.

    Attributes:
        is_switchable: whether a page lets its reader switch arms on and off.
    """

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    is_switchable: bool = False


def choose_arms(num_arms: int, max_arms: int) -> list[int]:
    """Indices of the arms to draw: all, or evenly spaced ones with the first and the last."""
    if num_arms <= max_arms:
        return list(range(num_arms))
    return [round(position) for position in np.linspace(0, num_arms - 1, max_arms)]


def describe_choice(num_shown: int, num_arms: int) -> str:
    """Sentence for the caption of a figure that shows some arms only; empty where it shows all."""
    return f" Shown: {num_shown} of {num_arms} arms, evenly spaced in their order." if num_shown < num_arms else ""


def join_descriptions(descriptions: Sequence[str]) -> str:
    """Join the parts of a text alternative; beyond a dozen, the first ones and the last one."""
    if len(descriptions) > MAX_DESCRIPTIONS:
        num_hidden = len(descriptions) - MAX_DESCRIPTIONS
        hidden = f"{num_hidden} more between, in the tables"
        descriptions = [*descriptions[: MAX_DESCRIPTIONS - 1], hidden, descriptions[-1]]
    return "; ".join(descriptions)


def panel_height(num_rows: int) -> float:
    """Height in inches of a panel of labeled rows, at most that of a printed page."""
    return min(FRAME_INCHES + ROW_INCHES * num_rows, MAX_PANEL_INCHES)


def label_rows(axes: Axes, heights: Sequence[float], labels: Sequence[str]) -> None:
    """Label rows from the top down; every second or third one where they would touch."""
    step = -(-len(labels) // MAX_ROW_LABELS)  # rounded up
    axes.set_yticks(heights[::step], labels[::step])
    axes.tick_params(axis="y", labelcolor=INK)


def thin_curve(values: npt.NDArray[np.float64], max_points: int = MAX_CURVE_POINTS) -> npt.NDArray[np.intp]:
    """Choose the points of a curve to draw; all of a short one.

    The curve is cut into equal spans of points, and the lowest and the highest of each are kept, so that no peak is
    lost; so are the first and the last point. A panel is about 270 points wide: more cannot be seen.

    Args:
        values: shape ``points``, finite.

    Returns:
        Increasing indices, at most ``max_points``.
    """
    if len(values) <= max_points:
        return np.arange(len(values))
    spans = np.array_split(np.arange(1, len(values) - 1), max_points // 2 - 1)
    extremes = [[span[np.argmin(values[span])], span[np.argmax(values[span])]] for span in spans]
    return np.unique([0, len(values) - 1, *np.ravel(extremes)])


def arm_color(index: int) -> str:
    """The color of an arm by its index; the baseline, at index 0, in ink."""
    return INK if index == 0 else ARM_COLORS[(index - 1) % len(ARM_COLORS)]


def arm_marker(index: int) -> str:
    """The marker of an arm by its index, so that color is never the only cue."""
    return MARKERS[index % len(MARKERS)]


def arm_line_style(index: int) -> str:
    """The line style of an arm by its index; changes where colors repeat."""
    return LINE_STYLES[max(0, index - 1) // len(ARM_COLORS) % len(LINE_STYLES)]


def shorten_name(name: str, max_characters: int = 16) -> str:
    """Truncate a name so that it fits beside an axis."""
    line = to_single_line(name)
    return line if len(line) <= max_characters else line[: max_characters - 1] + "…"


def contrast_label(over: str, arm: str, *, is_dense: bool = False) -> str:
    """Label of a contrast beside an axis; long names take two lines, if its rows leave room for them."""
    if max(len(over), len(arm)) <= 9 or is_dense:
        return f"{shorten_name(over)} → {shorten_name(arm)}"
    return f"{shorten_name(over)} →\n{shorten_name(arm)}"


def separate_heights(heights: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move heights apart to at least ``gap``, keeping their order."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    separated = list(heights)
    # Pushing one pair apart may push the next one together: a few labels settle long before 200 rounds.
    for _ in range(200):
        for below, above in pairwise(order):
            overlap = gap - (separated[above] - separated[below])
            if overlap > 1e-9:
                separated[below] -= overlap / 2
                separated[above] += overlap / 2
        separated = [min(max(height, low), high) for height in separated]
    return separated


def label_line_ends(axes: Axes, ends: Sequence[tuple[str, int, float]]) -> list[Artist]:
    """Label lines where they end, without overlaps; returns the labels.

    Args:
        ends: name, index of the color and height of each line's end.
    """
    if not ends:
        return []
    to_axes = axes.transScale + axes.transLimits  # through a logarithmic scale, too
    right = axes.get_xlim()[1]
    heights = [float(to_axes.transform((right, end))[1]) for _, _, end in ends]
    separated = separate_heights(heights, gap=0.065, low=0.0, high=1.0)  # 0.065: about one line of text
    labels: list[Artist] = []
    for (name, index, _), height in zip(ends, separated, strict=True):
        labels.append(axes.annotate(name, (1.02, height), xycoords="axes fraction", color=arm_color(index),
                                    va="center", fontsize=8, annotation_clip=False))  # fmt: skip
    return labels


def set_square_root_scale(axes: Axes, highest: float) -> None:
    """Set a square-root axis: it has a zero, and spreads small errors."""
    axes.set_yscale("function", functions=(lambda y: np.sqrt(np.maximum(y, 0)), np.square))
    axes.set_ylim(0, highest)
    ticks = [0.0]
    for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 40, 60, 80, 100):
        distance = np.sqrt(tick / highest) - np.sqrt(ticks[-1] / highest)  # of the axis's height
        if tick <= highest and distance > 0.09:  # closer labels would touch
            ticks.append(tick)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


def set_log_scale(axes: Axes, which: Literal["x", "y"] = "y") -> None:
    """Set a logarithmic axis with plain numbers as labels."""
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_locator(NullLocator())


def format_signed(value: float) -> str:
    """Format a tick label with a plus or a true minus sign."""
    return f"{value:+g}".replace("-", MINUS) if value else "0"


# None removes an entry: dates and versions would make equal figures differ in their bytes.
_FILE_METADATA = {
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def _inline_svg(name: str, svg: str) -> str:
    """Reduce an SVG file to an ``<svg>`` element for a page.

    Without namespaces and metadata; colors and fonts are the page's, and ids are unique within it.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", body).replace("xlink:href", "href")
    # Several figures share a page, and matplotlib gives their parts the same ids.
    body = re.sub(r'(\sid=")', rf"\g<1>{name}-", body)
    body = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", body)
    body = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", body)
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    for color, variable in CSS_VARIABLES.items():
        body = body.replace(color, f"var(--{variable}, {color})")
    # Without a width and a height, the drawing scales with its column; its role and label are on the parent element.
    head = re.sub(r'\s(width|height|version)="[^"]*"', "", body[: body.index(">")])
    return head + ' aria-hidden="true" focusable="false"' + body[body.index(">") :].strip()
