"""Test error by seed, and the differences between arms: the figure that decides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from lightning_modules.specs.text import format_points
from reports.analysis.arms import ArmDifference, ArmSummary
from reports.comparison.comparison import Comparison
from reports.figures import style
from reports.figures.style import BAND, MUTED, PAPER, RULE, Figure, Panel, shorten_name
from reports.formatting import (
    choose_decimals,
    decimals_off_zero,
    format_contrast,
    format_fixed,
    format_interval,
    format_plus_minus,
)

MAX_ERROR_DECIMALS = 4  # of percent: one image of a million
MAX_DENSE_ROWS = 24  # rows of a panel beyond which labels have one line
DECISIVE_FIGURE = "seeds"  # its name; it is shown with the verdicts


def error_decimals(comparison: Comparison) -> int:
    """Decimals of errors and of their differences throughout the report."""
    half_widths = [arm.mean_error.half_width for arm in comparison.arms]
    estimates = [difference.estimate for difference in comparison.differences]
    half_widths += [estimate.half_width for estimate in estimates]
    # A limit of 0.04 points is on one side of 0, as the verdict says, and must not be printed as 0.0.
    limits = [limit for estimate in estimates for limit in (estimate.low, estimate.high)]
    return decimals_off_zero(limits, choose_decimals(half_widths, minimum=1), MAX_ERROR_DECIMALS)


def has_error(arm: ArmSummary) -> bool:
    """Whether any trial of an arm has a test error."""
    return math.isfinite(arm.mean_error.value)


def seeds_figure(comparison: Comparison) -> Figure | None:
    """The figure; ``None`` before any trial has a test error."""
    if not any(map(has_error, comparison.arms)):
        return None
    differences = []
    for difference in comparison.differences:
        if math.isfinite(difference.estimate.value):
            differences.append(difference)
    # Both panels have the same height, so that their rows have the same distance side by side.
    height = style.panel_height(max(len(comparison.arms), len(differences)))
    draw_errors = partial(_draw_errors, comparison)
    panels = [
        Panel(
            name="errors",
            title="Test error, %",
            alternative=_describe_errors(comparison),
            draw=draw_errors,
            height_inches=height,
        )
    ]
    caption = (
        "Left: each dot is one seed; a faint line connects the trials of one seed. Below the dots: the arm's mean with "
        "its own 95% interval."
    )
    if differences:
        title = "Error reduction by the second arm, points"
        description = _describe_differences(comparison, differences)
        draw_differences = partial(_draw_differences, comparison, differences)
        panels.append(
            Panel(name="differences", title=title, alternative=description, draw=draw_differences, height_inches=height)
        )
        caption += (
            f" Right: mean difference over the pairs of seeds with its simultaneous {comparison.confidence_level} "
            "interval; positive: the second arm has the lower error. Shaded band: the smallest effect of interest, "
            f"±{format_points(comparison.registration.smallest_effect)}. Hollow: not part of a registered claim."
        )
    return Figure(
        name=DECISIVE_FIGURE, title="Test error by seed, and differences", caption=caption, panels=tuple(panels)
    )


def _draw_errors(comparison: Comparison, axes: Axes) -> None:
    arms, digits = comparison.arms, error_decimals(comparison)
    heights = _row_positions(len(arms))
    _draw_row_lines(axes, heights)
    _draw_seed_lines(axes, arms, heights)
    for index, (arm, height) in enumerate(zip(arms, heights, strict=True)):
        color = style.arm_color(index)
        mean = arm.mean_error
        artists: list[Line2D] = []
        interval_height = height - 0.24  # below the dots: on their line, the interval would hide them
        if mean.is_bounded:
            artists += axes.plot([mean.low, mean.high], [interval_height] * 2, color=color, linewidth=1.8, zorder=3)
        if math.isfinite(mean.value):
            tick = [interval_height - 0.11, interval_height + 0.11]
            artists += axes.plot([mean.value] * 2, tick, color=color, linewidth=1.8, zorder=3)
            text = f"mean {format_plus_minus(mean, digits)}%"
            style.add_mark(axes, mean.value, interval_height, arm.name, text, index)
        # Translucent: seeds with equal errors darken instead of hiding each other.
        artists += axes.plot(arm.errors, [height] * len(arm.errors), linestyle="", marker="o", markersize=4.2,
                             color=color, alpha=0.55, markeredgewidth=0, zorder=4)  # fmt: skip
        for seed, error in zip(comparison.registration.seeds, arm.errors, strict=True):
            style.add_mark(axes, error, height, arm.name, f"seed {seed}: {format_fixed(error, digits)}%", index)
        style.assign_to_arm(artists, index)
    _label_rows(axes, heights, [shorten_name(arm.name) for arm in arms])


def _draw_seed_lines(axes: Axes, arms: Sequence[ArmSummary], heights: Sequence[float]) -> None:
    """Connect the trials of one seed by a faint line: they are paired."""
    alpha = min(0.45, 8 / max(1, len(arms[0].errors)))  # fainter where there are many, which would hide the arms
    for errors_of_seed in zip(*(arm.errors for arm in arms), strict=True):
        axes.plot(errors_of_seed, heights, color=MUTED, linewidth=0.5, alpha=alpha, zorder=2)


def _draw_differences(comparison: Comparison, differences: Sequence[ArmDifference], axes: Axes) -> None:
    heights = _row_positions(len(differences))
    effect, digits = comparison.registration.smallest_effect, error_decimals(comparison)
    axes.axvspan(-effect, effect, color=BAND, linewidth=0, zorder=0)
    axes.axvline(0, color=MUTED, linewidth=0.8, zorder=1)
    for difference, height in zip(differences, heights, strict=True):
        estimate = difference.estimate
        index = comparison.registration.arms.index(difference.arm)
        color = style.arm_color(index)
        artists: list[Line2D] = []
        if estimate.is_bounded:
            artists += axes.plot([estimate.low, estimate.high], [height] * 2, color=color, linewidth=1.8, zorder=3)
        # Shape and fill both tell registered from exploratory: fill alone is lost in small prints.
        marker, fill = ("o", color) if difference.is_registered else ("D", PAPER)
        artists += axes.plot([estimate.value], [height], marker=marker, color=color, markersize=5.5,
                             markeredgewidth=1.4, markerfacecolor=fill, zorder=4)  # fmt: skip
        style.assign_to_arm(artists, index)
        label = format_contrast(difference.over, difference.arm)
        text = f"{format_interval(estimate, digits)} points"
        for x in (estimate.value, estimate.low, estimate.high):  # anywhere on the line
            style.add_mark(axes, x, height, label, text, index)
    is_dense = len(differences) > MAX_DENSE_ROWS
    labels = []
    for difference in differences:
        labels.append(style.contrast_label(difference.over, difference.arm, is_dense=is_dense))
    _label_rows(axes, heights, labels)
    # Rounded first: ticks such as 0.30000000000000004 come out of the locator's arithmetic.
    axes.xaxis.set_major_formatter(lambda value, _: style.format_signed(round(value, 6)))
    _widen_limits(axes, effect)


def _widen_limits(axes: Axes, effect: float) -> None:
    """Show the whole band of the smallest effect, with a margin."""
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, -1.4 * effect), max(high, 1.4 * effect))


def _row_positions(count: int) -> list[float]:
    """Heights of rows from the top down."""
    return list(map(float, reversed(range(count))))


def _label_rows(axes: Axes, heights: Sequence[float], labels: Sequence[str]) -> None:
    style.label_rows(axes, heights, labels)
    axes.set_ylim(-0.6, len(heights) - 0.4)
    axes.locator_params(axis="x", nbins=6)


def _draw_row_lines(axes: Axes, heights: Sequence[float]) -> None:
    for height in heights:
        axes.axhline(height, color=RULE, linewidth=0.6, zorder=0)


def _describe_errors(comparison: Comparison) -> str:
    digits = error_decimals(comparison)
    descriptions = []
    for arm in comparison.arms:
        error = format_plus_minus(arm.mean_error, digits) if has_error(arm) else "none"
        descriptions.append(f"{arm.name} {error}")
    errors = style.join_descriptions(descriptions)
    return f"Test error in percent, mean and half-width of the 95% interval per arm: {errors}."


def _describe_differences(comparison: Comparison, differences: Sequence[ArmDifference]) -> str:
    digits = error_decimals(comparison)
    descriptions = []
    for difference in differences:
        interval = format_interval(difference.estimate, digits)
        descriptions.append(f"{difference.over} to {difference.arm} {interval}")
    intervals = f"simultaneous {comparison.confidence_level} intervals"
    return f"Differences in percentage points with {intervals}: {style.join_descriptions(descriptions)}."
