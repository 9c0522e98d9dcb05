"""Interaction plots: the levels of one factor along the axis, a line for each level of the other one."""

from __future__ import annotations

import math
from functools import partial

from matplotlib.axes import Axes

from ablations import ENDPOINT_WORDS
from reports import drawing
from reports.comparison import Comparison
from reports.crossing import Crossing
from reports.drawing import INK, Figure, Panel, short
from reports.numbers import plus_minus

APART = 0.06  # of the distance of two levels: lines stand beside each other,
ASIDE = 0.04  # and the dots of their seeds beside them


def interactions(comparison: Comparison) -> Figure | None:
    """A panel for each endpoint of a factorial that has numbers; ``None`` where there is none."""
    panels = tuple(
        Panel(
            name=f"interaction-{each.endpoint.replace('_', '-')}",
            title=f"{ENDPOINT_WORDS[each.endpoint].capitalize()}, {'%' if each.unit == 'points' else each.unit}",
            alternative=_told(each),
            draw=partial(_draw, each),
            height_inches=2.9,
        )
        for each in comparison.effects
        if any(math.isfinite(mean.value) for row in each.means for mean in row)
    )
    if not panels:
        return None
    rows, columns = comparison.effects[0].factorial.rows, comparison.effects[0].factorial.columns
    caption = (
        f"A line for each level of {rows.name}, the levels of {columns.name} along the axis: mean with the arm's own "
        "95% interval, and every seed as a dot. Parallel lines are no interaction: whether they are is read from the "
        "interval of the interaction, not from the bars."
    )
    return Figure(name="interaction", title=f"{rows.name} × {columns.name}", caption=caption, panels=panels)


def _draw(crossing: Crossing, axes: Axes) -> None:
    rows, columns = crossing.factorial.rows, crossing.factorial.columns
    ends = []
    for index, (cells, means) in enumerate(zip(crossing.cells, crossing.means, strict=True)):
        shift = APART * (index - (len(rows.levels) - 1) / 2)
        aside = ASIDE if shift >= 0 else -ASIDE
        shade, mark = drawing.colour(index), drawing.marker(index)
        places = [place + shift for place in range(len(columns.levels))]
        for x, seeds, mean in zip(places, cells, means, strict=True):
            axes.plot([x + aside] * len(seeds), seeds, linestyle="", marker="o", markersize=3.4, color=shade,
                      alpha=0.4, markeredgewidth=0, zorder=2)  # fmt: skip
            if mean.bounded:
                axes.plot([x, x], [mean.low, mean.high], color=shade, linewidth=1.4, zorder=3)
        heights = [mean.value for mean in means]
        axes.plot(places, heights, color=shade, linestyle=drawing.line(index), marker=mark, markersize=6, zorder=4)
        known = [height for height in heights if math.isfinite(height)]
        if known:
            ends.append((short(rows.levels[index]), index, known[-1]))
    axes.set_xticks(range(len(columns.levels)), [short(level) for level in columns.levels])
    axes.set_xlim(-0.35, len(columns.levels) - 0.65)
    axes.margins(y=0.12)
    axes.tick_params(axis="x", labelcolor=INK)
    axes.set_xlabel(short(columns.name, 40))
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    drawing.name_ends(axes, ends)


def _told(crossing: Crossing) -> str:
    rows, columns = crossing.factorial.rows, crossing.factorial.columns
    told = [
        f"{row}, {column} {plus_minus(mean, crossing.digits)}"
        for row, means in zip(rows.levels, crossing.means, strict=True)
        for column, mean in zip(columns.levels, means, strict=True)
    ]
    return f"Mean {ENDPOINT_WORDS[crossing.endpoint]} and half-width of the 95% interval: {'; '.join(told)}."
