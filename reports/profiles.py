"""Pictures of profiles: where the parameters sit, where the arithmetic sits, how the receptive field grows."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Patch

from reports import drawing
from reports.drawing import INK, MUTED, PAPER, STYLE, short
from reports.numbers import metric_unit, significant, whole
from studies.profiles import Part, Profiled, grouped, merged

WIDTH_INCHES, ROW_INCHES, FRAME_INCHES, LEGEND_ROW_INCHES, FIELD_INCHES = 6.4, 0.36, 0.75, 0.2, 3.4
LEGEND_COLUMNS = 6
PIXELS_PER_INCH = 200
DEPTHS = LinearSegmentedColormap.from_list("depths", ["#d6e6f2", "#0072b2", "#08324f"])  # early parts pale, late dark
LAST = "#d55e00"  # of the part that gives the logits, most often fully connected
LABELLED_FROM = 0.04  # share of a bar in which "4%" fits

Bars = Mapping[str, Mapping[str, int]]  # by network, by part


def write_pictures(networks: Sequence[Profiled], folder: Path) -> list[Path]:
    """Every picture as SVG and PNG; receptive fields where at least one network's are known."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {found.name: grouped(found.parts) for found in networks}
    parameters = _bars(parts, lambda part: part.parameters)
    operations = _bars(parts, lambda part: part.multiply_adds)
    pictures = {
        "parameters": _stacked("Where the parameters sit", parameters),
        "multiply-adds": _stacked("Where the multiply-adds of one image sit", operations),
    }
    fields = {found.name: line for found in networks if (line := field_by_depth(found))}
    if fields:
        sides = {found.scale.resolution for found in networks}
        pictures["receptive-field"] = _fields(fields, sides.pop() if len(sides) == 1 else 0)
    return [path for name, canvas in pictures.items() for path in _saved(canvas, folder / name)]


def field_by_depth(found: Profiled) -> list[tuple[int, int]]:
    """The largest field, in pixels, after each weight layer along the longest path, as far as it is known."""
    largest: dict[int, int] = {}
    for layer in found.profile.layers:
        if layer.receptive_field is None:
            break
        if layer.receptive_field:
            largest[layer.depth] = max(largest.get(layer.depth, 0), layer.receptive_field)
    return sorted(largest.items())


def _bars(parts: Mapping[str, Sequence[Part]], counted: Callable[[Part], int]) -> Bars:
    return {name: {part.name: counted(part) for part in of if counted(part)} for name, of in parts.items()}


def _stacked(title: str, bars: Bars) -> Canvas:
    names = merged([list(of) for of in bars.values()])
    legend_rows = -(-len(names) // LEGEND_COLUMNS)
    height = FRAME_INCHES + ROW_INCHES * len(bars) + LEGEND_ROW_INCHES * legend_rows
    return _canvas(title, height, partial(_draw_bars, bars, _colours(bars, names)))


def _colours(bars: Bars, names: Sequence[str]) -> dict[str, str]:
    """By the place in the depth, from pale to dark; the parts that stand last in a colour of their own."""
    places: dict[str, list[float]] = {}
    for of in bars.values():
        before = list(of)[:-1]
        for place, name in enumerate(before):
            places.setdefault(name, []).append((place + 0.5) / len(before))
    return {name: to_hex(DEPTHS(fmean(places[name]))) if name in places else LAST for name in names}


def _draw_bars(bars: Bars, colours: Mapping[str, str], axes: Axes) -> None:
    totals = {name: sum(of.values()) for name, of in bars.items()}
    factor, prefix = metric_unit(totals.values())
    heights = range(len(bars) - 1, -1, -1)
    for height, (name, of) in zip(heights, bars.items(), strict=True):
        left = 0.0
        for part, value in of.items():
            share = value / totals[name]
            axes.barh([height], [share], left=[left], height=0.62, color=colours[part], edgecolor=PAPER, linewidth=0.7)
            if share >= LABELLED_FROM:
                axes.text(left + share / 2, height, f"{100 * share:.0f}%", ha="center", va="center", fontsize=7.5,
                          color=_on(colours[part]))  # fmt: skip
            left += share
        axes.annotate(f"{significant(totals[name] / factor)} {prefix}".strip(), (1, height), xytext=(6, 0), color=INK,
                      textcoords="offset points", va="center", fontsize=8, annotation_clip=False)  # fmt: skip
    axes.annotate("in all", (1, len(bars) - 0.45), xytext=(6, 0), color=MUTED, textcoords="offset points", va="center",
                  fontsize=7.5, annotation_clip=False)  # fmt: skip
    axes.set_yticks(list(heights), [short(name, 24) for name in bars])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set(xlim=(0, 1), ylim=(-0.6, len(bars) - 0.4))
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
    handles = [Patch(color=shade, label=part) for part, shade in colours.items()]
    axes.figure.legend(handles=handles, loc="outside lower left", ncols=LEGEND_COLUMNS, frameon=False, fontsize=7.5,
                       handlelength=1.0, handleheight=1.0, columnspacing=1.2, labelcolor=INK)  # fmt: skip


def _on(shade: str) -> str:
    """Ink or paper, whichever can be read on a colour."""
    red, green, blue = (int(shade[place : place + 2], 16) for place in (1, 3, 5))
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else PAPER


def _fields(fields: Mapping[str, Sequence[tuple[int, int]]], side: int) -> Canvas:
    return _canvas("Receptive field by weight layer, pixels", FIELD_INCHES, partial(_draw_fields, fields, side))


def _draw_fields(fields: Mapping[str, Sequence[tuple[int, int]]], side: int, axes: Axes) -> None:
    highest = 1.06 * max(side, *(line[-1][1] for line in fields.values()))
    deepest = max(line[-1][0] for line in fields.values())
    axes.set(xlim=(0, deepest), ylim=(0, highest))
    told = []
    for index, (name, line) in enumerate(fields.items()):
        shade, mark = drawing.colour(index), drawing.marker(index)
        axes.plot(*zip(*line, strict=True), color=shade, linestyle=drawing.line(index), zorder=3)
        (end,) = axes.plot(*line[-1], marker=mark, markersize=5, color=shade, zorder=4, clip_on=False, linestyle="")
        told.append((line[-1][1], f"{short(name, 20)}  {whole(line[-1][1])}", end))
    if side:
        edge = axes.axhline(side, color=MUTED, linewidth=0.9, linestyle=(0, (3, 2)), zorder=1)
        told.append((side, f"side of the image  {side}", edge))
    told.sort(key=lambda entry: -entry[0])
    axes.figure.legend([end for _, _, end in told], [words for _, words, _ in told], loc="outside right upper",
                       frameon=False, fontsize=8, labelcolor=INK, handlelength=1.4)  # fmt: skip
    axes.set_xlabel("convolutions and fully connected layers up to here, on the longest path")
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def _canvas(title: str, height: float, draw: Callable[[Axes], None]) -> Canvas:
    with matplotlib.rc_context(STYLE):
        canvas = Canvas(figsize=(WIDTH_INCHES, height), layout="constrained")
        canvas.suptitle(title, x=0.006, ha="left")
        draw(canvas.add_subplot())
        canvas.draw_without_rendering()
    return canvas


def _saved(canvas: Canvas, stem: Path) -> list[Path]:
    metadata = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}
    paths = []
    for form, told in metadata.items():
        stream = io.BytesIO()
        with matplotlib.rc_context(STYLE | {"svg.fonttype": "path"}):
            canvas.savefig(stream, format=form, dpi=PIXELS_PER_INCH, facecolor=PAPER, metadata=told)
        paths.append(stem.with_suffix(f".{form}"))
        paths[-1].write_bytes(stream.getvalue())
    return paths
