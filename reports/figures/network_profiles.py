"""Figures of parameters, multiply-adds and receptive fields of networks."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Patch

from reports.figures import style
from reports.figures.style import INK, MUTED, PAPER, RC_PARAMS, shorten_name
from reports.formatting import format_integer, format_significant, metric_prefix
from studies.inspection.named_profile import ProfileSection
from studies.inspection.network_profiles import NetworkProfile, group_sections, merge_orders

WIDTH_INCHES, ROW_INCHES, FRAME_INCHES, LEGEND_ROW_INCHES, FIELD_PLOT_INCHES = 6.4, 0.36, 0.75, 0.2, 3.4
LEGEND_COLUMNS = 6
PIXELS_PER_INCH = 200
DEPTH_COLORMAP = LinearSegmentedColormap.from_list("depths", ["#d6e6f2", "#0072b2", "#08324f"])  # from input to output
LAST_SECTION_COLOR = "#d55e00"  # of the section that gives the logits, most often fully connected
MIN_LABELED_FRACTION = 0.04  # share of a bar in which "4%" fits
BarSegments = Mapping[str, Mapping[str, int]]  # by network, by section
FieldByDepth = Sequence[tuple[int, int]]  # (weight layers up to here, side in pixels)


def write_profile_figures(networks: Sequence[NetworkProfile], folder: Path) -> list[Path]:
    """Write every figure as SVG and PNG.

    Receptive fields are drawn where those of at least one network are known.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parameters: dict[str, Mapping[str, int]] = {}
    operations: dict[str, Mapping[str, int]] = {}
    fields: dict[str, FieldByDepth] = {}
    for network in networks:
        sections = group_sections(network.sections)
        parameters[network.name] = _nonzero_counts(sections, lambda section: section.parameters)
        operations[network.name] = _nonzero_counts(sections, lambda section: section.multiply_adds)
        field = receptive_field_by_depth(network)
        if field:
            fields[network.name] = field
    figures = {
        "parameters": _stacked_bar_figure("Parameters by section", parameters),
        "multiply-adds": _stacked_bar_figure("Multiply-adds of one image by section", operations),
    }
    if fields:
        sides = {network.scale.resolution for network in networks}
        image_side = sides.pop() if len(sides) == 1 else 0
        figures["receptive-field"] = _receptive_field_figure(fields, image_side)
    paths = []
    for name, canvas in figures.items():
        paths += _save_figure(canvas, folder / name)
    return paths


def receptive_field_by_depth(network: NetworkProfile) -> list[tuple[int, int]]:
    """Largest receptive field, in pixels, after each weight layer.

    Layers are counted along the longest path; the list ends at the first unknown field.
    """
    largest: dict[int, int] = {}
    for layer in network.profile.layers:
        if layer.receptive_field is None:
            break  # behind an operator without a rule, no field is known
        if layer.receptive_field:
            largest[layer.depth] = max(largest.get(layer.depth, 0), layer.receptive_field)
    return sorted(largest.items())


def _nonzero_counts(sections: Sequence[ProfileSection], count: Callable[[ProfileSection], int]) -> dict[str, int]:
    return {section.name: count(section) for section in sections if count(section)}


def _stacked_bar_figure(title: str, bars: BarSegments) -> Canvas:
    names = merge_orders([list(segments) for segments in bars.values()])
    legend_rows = -(-len(names) // LEGEND_COLUMNS)  # rounded up
    height = FRAME_INCHES + ROW_INCHES * len(bars) + LEGEND_ROW_INCHES * legend_rows
    return _create_canvas(title, height, partial(_draw_bars, bars, _section_colors(bars, names)))


def _section_colors(bars: BarSegments, names: Sequence[str]) -> dict[str, str]:
    """Colors of sections by relative depth, from pale to dark.

    A section that is the last one in every network has a color of its own.
    """
    depths: dict[str, list[float]] = {}
    for segments in bars.values():
        before_last = list(segments)[:-1]
        for index, name in enumerate(before_last):
            depths.setdefault(name, []).append((index + 0.5) / len(before_last))
    colors = {}
    for name in names:
        # Networks of unequal depth share a legend: a section gets the color of its mean depth.
        colors[name] = to_hex(DEPTH_COLORMAP(fmean(depths[name]))) if name in depths else LAST_SECTION_COLOR
    return colors


def _draw_bars(bars: BarSegments, colors: Mapping[str, str], axes: Axes) -> None:
    totals = {name: sum(segments.values()) for name, segments in bars.items()}
    factor, prefix = metric_prefix(totals.values())
    heights = range(len(bars) - 1, -1, -1)
    for height, (name, segments) in zip(heights, bars.items(), strict=True):
        _draw_bar(axes, height, segments, colors)
        total = f"{format_significant(totals[name] / factor)} {prefix}".strip()
        axes.annotate(total, (1, height), xytext=(6, 0), color=INK, textcoords="offset points", va="center",
                      fontsize=8, annotation_clip=False)  # fmt: skip
    axes.annotate("total", (1, len(bars) - 0.45), xytext=(6, 0), color=MUTED, textcoords="offset points", va="center",
                  fontsize=7.5, annotation_clip=False)  # fmt: skip
    axes.set_yticks(list(heights), [shorten_name(name, 24) for name in bars])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set(xlim=(0, 1), ylim=(-0.6, len(bars) - 0.4))
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
    handles = [Patch(color=color, label=section) for section, color in colors.items()]
    axes.figure.legend(handles=handles, loc="outside lower left", ncols=LEGEND_COLUMNS, frameon=False, fontsize=7.5,
                       handlelength=1.0, handleheight=1.0, columnspacing=1.2, labelcolor=INK)  # fmt: skip


def _draw_bar(axes: Axes, height: float, segments: Mapping[str, int], colors: Mapping[str, str]) -> None:
    """Draw one network as a bar of length 1, each section as its share."""
    total = sum(segments.values())
    left = 0.0
    for section, value in segments.items():
        share = value / total
        axes.barh([height], [share], left=[left], height=0.62, color=colors[section], edgecolor=PAPER, linewidth=0.7)
        if share >= MIN_LABELED_FRACTION:
            axes.text(left + share / 2, height, f"{100 * share:.0f}%", ha="center", va="center", fontsize=7.5,
                      color=_contrasting_color(colors[section]))  # fmt: skip
        left += share


def _contrasting_color(background: str) -> str:
    """Ink or paper, whichever is legible on a background."""
    red, green, blue = (int(background[start : start + 2], 16) for start in (1, 3, 5))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue  # ITU-R BT.601
    return INK if luma > 140 else PAPER


def _receptive_field_figure(fields: Mapping[str, FieldByDepth], image_side: int) -> Canvas:
    return _create_canvas(
        "Receptive field by weight layer, pixels", FIELD_PLOT_INCHES, partial(_draw_fields, fields, image_side)
    )


def _draw_fields(fields: Mapping[str, FieldByDepth], image_side: int, axes: Axes) -> None:
    depths, sides = zip(*(curve[-1] for curve in fields.values()), strict=True)  # where the curves end
    axes.set(xlim=(0, max(depths)), ylim=(0, 1.06 * max(image_side, *sides)))
    entries: list[tuple[int, str, Artist]] = []  # height, label and handle, for the legend
    for index, (name, curve) in enumerate(fields.items()):
        depth, field = curve[-1]
        color = style.arm_color(index)
        axes.plot(*zip(*curve, strict=True), color=color, linestyle=style.arm_line_style(index), zorder=3)
        (end,) = axes.plot(depth, field, marker=style.arm_marker(index), markersize=5, color=color, zorder=4,
                           clip_on=False, linestyle="")  # fmt: skip
        entries.append((field, f"{shorten_name(name, 20)}  {format_integer(field)}", end))
    if image_side:
        side_line = axes.axhline(image_side, color=MUTED, linewidth=0.9, linestyle=(0, (3, 2)), zorder=1)
        entries.append((image_side, f"side of the image  {image_side}", side_line))
    entries.sort(key=lambda entry: -entry[0])  # from the top down, as the lines end
    _, labels, handles = zip(*entries, strict=True)
    axes.figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8, labelcolor=INK,
                       handlelength=1.4)  # fmt: skip
    axes.set_xlabel("convolutions and fully connected layers up to here, on the longest path")
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def _create_canvas(title: str, height: float, draw: Callable[[Axes], None]) -> Canvas:
    with matplotlib.rc_context(RC_PARAMS):
        canvas = Canvas(figsize=(WIDTH_INCHES, height), layout="constrained")
        canvas.suptitle(title, x=0.006, ha="left")
        draw(canvas.add_subplot())
        canvas.draw_without_rendering()
    return canvas


def _save_figure(canvas: Canvas, stem: Path) -> list[Path]:
    # None removes an entry: dates and versions would make equal figures differ in their bytes.
    metadata = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}
    paths = []
    for file_format, file_metadata in metadata.items():
        stream = io.BytesIO()
        with matplotlib.rc_context(RC_PARAMS | {"svg.fonttype": "path"}):
            canvas.savefig(stream, format=file_format, dpi=PIXELS_PER_INCH, facecolor=PAPER, metadata=file_metadata)
        paths.append(stem.with_suffix(f".{file_format}"))
        paths[-1].write_bytes(stream.getvalue())
    return paths
