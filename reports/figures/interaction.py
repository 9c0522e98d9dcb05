"""Interaction plots of a factorial design.

The levels of one factor are on the axis; each level of the other one is a line.
"""

from __future__ import annotations

import math
from functools import partial

from matplotlib.axes import Axes

from ablations import ENDPOINT_LABELS
from reports.analysis.factorial_effects import FactorialAnalysis
from reports.comparison.comparison import Comparison
from reports.figures import style
from reports.figures.style import INK, Figure, Panel, shorten_name
from reports.formatting import Interval, format_plus_minus

LINE_OFFSET = 0.06  # between lines, of the distance of two levels: equal means would hide each other
SEED_OFFSET = 0.04  # between a line and the dots of its seeds


def interaction_figure(comparison: Comparison) -> Figure | None:
    """Panel per endpoint of a factorial; ``None`` where none has numbers."""
    panels = []
    for analysis in comparison.factorial_analyses:
        if _has_means(analysis):
            unit = "%" if analysis.unit == "points" else analysis.unit  # of a level; differences are in points
            panels.append(
                Panel(
                    name=f"interaction-{analysis.endpoint.replace('_', '-')}",
                    title=f"{ENDPOINT_LABELS[analysis.endpoint].capitalize()}, {unit}",
                    alternative=_describe_means(analysis),
                    draw=partial(_draw_interaction, analysis),
                    height_inches=2.9,
                )
            )
    if not panels:
        return None
    factorial = comparison.factorial_analyses[0].factorial
    rows, columns = factorial.rows, factorial.columns
    caption = (
        f"One line for each level of {rows.name}; the levels of {columns.name} are on the axis. Mean with the arm's "
        "own 95% interval; each dot is one seed. Parallel lines mean no interaction. Whether there is one is read from "
        "the interval of the interaction, not from the bars."
    )
    return Figure(name="interaction", title=f"{rows.name} × {columns.name}", caption=caption, panels=tuple(panels))


def _has_means(analysis: FactorialAnalysis) -> bool:
    return any(math.isfinite(mean.value) for row in analysis.cell_means for mean in row)


def _draw_interaction(analysis: FactorialAnalysis, axes: Axes) -> None:
    rows, columns = analysis.factorial.rows, analysis.factorial.columns
    line_ends = []
    for index, (cells, means) in enumerate(zip(analysis.cell_values, analysis.cell_means, strict=True)):
        shift = LINE_OFFSET * (index - (len(rows.levels) - 1) / 2)
        positions = [level_index + shift for level_index in range(len(columns.levels))]
        for x, seeds, mean in zip(positions, cells, means, strict=True):
            # Seeds lie on the outer side of their line, away from the other lines.
            seed_x = x + (SEED_OFFSET if shift >= 0 else -SEED_OFFSET)
            axes.plot([seed_x] * len(seeds), seeds, linestyle="", marker="o", markersize=3.4,
                      color=style.arm_color(index), alpha=0.4, markeredgewidth=0, zorder=2)  # fmt: skip
            label = f"{rows.levels[index]}, {columns.levels[positions.index(x)]}"
            style.add_mark(axes, x, mean.value, label, f"mean {format_plus_minus(mean, analysis.num_decimals)}")
            if mean.is_bounded:
                axes.plot([x, x], [mean.low, mean.high], color=style.arm_color(index), linewidth=1.4, zorder=3)
        end = _draw_means(axes, index, positions, means)
        if end is not None:
            line_ends.append((shorten_name(rows.levels[index]), index, end))
    axes.set_xticks(range(len(columns.levels)), [shorten_name(level) for level in columns.levels])
    axes.set_xlim(-0.35, len(columns.levels) - 0.65)
    axes.margins(y=0.12)
    axes.tick_params(axis="x", labelcolor=INK)
    axes.set_xlabel(shorten_name(columns.name, 40))
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    style.label_line_ends(axes, line_ends)


def _draw_means(axes: Axes, index: int, positions: list[float], means: tuple[Interval, ...]) -> float | None:
    """Draw the line of one level; returns the height of its last mean."""
    heights = [mean.value for mean in means]
    axes.plot(positions, heights, color=style.arm_color(index), linestyle=style.arm_line_style(index),
              marker=style.arm_marker(index), markersize=6, zorder=4)  # fmt: skip
    known = list(filter(math.isfinite, heights))
    return known[-1] if known else None


def _describe_means(analysis: FactorialAnalysis) -> str:
    rows, columns = analysis.factorial.rows, analysis.factorial.columns
    descriptions = []
    for row, means in zip(rows.levels, analysis.cell_means, strict=True):
        for column, mean in zip(columns.levels, means, strict=True):
            descriptions.append(f"{row}, {column} {format_plus_minus(mean, analysis.num_decimals)}")
    return f"Mean {ENDPOINT_LABELS[analysis.endpoint]} and half-width of the 95% interval: {'; '.join(descriptions)}."
