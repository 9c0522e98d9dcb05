"""Figure of results that were measured elsewhere: every seed, and the differences."""

from __future__ import annotations

import math
from functools import partial

from matplotlib.axes import Axes

from ablations import capitalize_first
from reports.external.judgement import Judgement, change_interval
from reports.figures import style
from reports.figures.style import BAND, MUTED, PAPER, Figure, Panel, shorten_name
from reports.formatting import SCIENTIFIC, Interval, choose_decimals, decimals_off_zero, format_interval


def judgement_figure(judgement: Judgement) -> Figure:
    """Values by seed and arm on the left, differences with their intervals on the right."""
    num_rows = max(len(judgement.arms), len(judgement.differences))
    height, label = style.panel_height(num_rows), describe_metric(judgement)
    changes = changes_by_pair(judgement)
    decimals = value_decimals(judgement)
    descriptions = [f"{over} to {arm} {format_interval(change, decimals)}" for (over, arm), change in changes.items()]
    panels = (
        Panel(
            name="values",
            title=capitalize_first(label),
            alternative=f"{label} of {len(judgement.arms)} arms, one dot per seed.",
            draw=partial(_draw_values, judgement),
            height_inches=height,
        ),
        Panel(
            name="changes",
            title=f"Change of {judgement.table.metric.name} from the first arm to the second",
            alternative=f"Changes with simultaneous 95% intervals: {style.join_descriptions(descriptions)}.",
            draw=partial(_draw_changes, judgement),
            height_inches=height,
        ),
    )
    band = " Shaded band: the smallest effect of interest." if judgement.smallest_effect else ""
    better = "higher" if judgement.table.metric.higher_is_better else "lower"
    caption = (
        "Left: each dot is one seed; a faint line connects the results of one seed. Below the dots: the arm's mean "
        f"with its own 95% interval; {better} is better. Right: mean change over the pairs of seeds with its "
        f"simultaneous 95% interval.{band} Hollow: read by no claim."
    )
    return Figure(name="results", title="Results by seed, and differences", caption=caption, panels=panels)


def describe_metric(judgement: Judgement) -> str:
    """The metric with its unit, as a heading."""
    unit = {"percent": ", %", "fraction": "", "": ""}[judgement.table.unit]
    return f"{judgement.table.metric.name}{unit}"


def value_decimals(judgement: Judgement) -> int:
    """Decimals of values and of their changes throughout the page."""
    changes = changes_by_pair(judgement).values()
    # One precision for the whole report, that of the narrowest interval: columns are compared by eye.
    half_widths = [change.half_width for change in changes]
    half_widths += [(arm.mean.high - arm.mean.low) / 2 for arm in judgement.arms]
    limits = [limit for change in changes for limit in (change.low, change.high)]
    return decimals_off_zero(limits, choose_decimals(half_widths, maximum=SCIENTIFIC))


def changes_by_pair(judgement: Judgement) -> dict[tuple[str, str], Interval]:
    """Change of the metric by pair ``(over, arm)``: positive where the metric rises."""
    changes = {}
    for contrast in judgement.differences:
        value, low, high = change_interval(contrast, higher_is_better=judgement.table.metric.higher_is_better)
        has_limits = math.isfinite(low) and math.isfinite(high)
        changes[contrast.over, contrast.arm] = Interval(
            value=value, low=low if has_limits else math.nan, high=high if has_limits else math.nan
        )
    return changes


def _draw_values(judgement: Judgement, axes: Axes) -> None:
    arms = judgement.arms
    heights = list(range(len(arms) - 1, -1, -1))
    for values_of_seed in zip(*(arm.values for arm in arms), strict=True):
        axes.plot(values_of_seed, heights, color=MUTED, linewidth=0.5, alpha=0.45, zorder=2)
    for index, (arm, height) in enumerate(zip(arms, heights, strict=True)):
        color = style.arm_color(index)
        axes.plot(arm.values, [height] * len(arm.values), linestyle="", marker="o", markersize=4.2, color=color,
                  alpha=0.55, markeredgewidth=0, zorder=4)  # fmt: skip
        below = height - 0.24  # on the line of the dots, the interval would hide them
        if math.isfinite(arm.mean.low):
            axes.plot([arm.mean.low, arm.mean.high], [below] * 2, color=color, linewidth=1.8, zorder=3)
        if math.isfinite(arm.mean.mean):
            axes.plot([arm.mean.mean] * 2, [below - 0.11, below + 0.11], color=color, linewidth=1.8, zorder=3)
    _label_rows(axes, heights, [shorten_name(arm.name) for arm in arms])


def _draw_changes(judgement: Judgement, axes: Axes) -> None:
    changes = changes_by_pair(judgement)
    heights = list(range(len(changes) - 1, -1, -1))
    effect = judgement.smallest_effect
    if effect:
        axes.axvspan(-effect, effect, color=BAND, linewidth=0, zorder=0)
    axes.axvline(0, color=MUTED, linewidth=0.8, zorder=1)
    labels = []
    for index, ((over, arm), change) in enumerate(changes.items()):
        color = style.arm_color(judgement.table.arms.index(arm))
        if change.is_bounded:
            axes.plot([change.low, change.high], [heights[index]] * 2, color=color, linewidth=1.8, zorder=3)
        # Shape and fill both tell claimed from unclaimed: fill alone is lost in small prints.
        marker, fill = ("o", color) if index < judgement.num_registered else ("D", PAPER)
        axes.plot([change.value], [heights[index]], marker=marker, color=color, markersize=5.5, markeredgewidth=1.4,
                  markerfacecolor=fill, zorder=4)  # fmt: skip
        labels.append(style.contrast_label(over, arm))
    _label_rows(axes, heights, labels)
    # Rounded first: ticks such as 0.30000000000000004 come out of the locator's arithmetic.
    axes.xaxis.set_major_formatter(lambda value, _: style.format_signed(round(value, 6)))


def _label_rows(axes: Axes, heights: list[int], labels: list[str]) -> None:
    style.label_rows(axes, heights, labels)
    axes.set_ylim(-0.6, len(heights) - 0.4)
    axes.locator_params(axis="x", nbins=6)
