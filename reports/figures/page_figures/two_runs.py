"""Figure of the differences in two runs of one study."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from matplotlib.axes import Axes

from reports.analysis.arms import ArmSummary
from reports.comparison.two_runs import ContrastInBothRuns, TwoRunComparison
from reports.figures import style
from reports.figures.seeds import error_decimals
from reports.figures.style import MUTED, PAPER, Figure, Panel
from reports.formatting import Interval, format_interval


def common_decimals(two_runs: TwoRunComparison) -> int:
    """Decimals of errors and differences that suit both runs."""
    return max(error_decimals(two_runs.first), error_decimals(two_runs.other))


def arms_by_name(two_runs: TwoRunComparison) -> dict[str, tuple[ArmSummary | None, ArmSummary | None]]:
    """Arms of both runs by name; ``None`` where a run lacks an arm."""
    first = {arm.name: arm for arm in two_runs.first.arms}
    other = {arm.name: arm for arm in two_runs.other.arms}
    return {name: (first.get(name), other.get(name)) for name in (first | other)}


def differences_figure(two_runs: TwoRunComparison) -> Figure | None:
    """Differences by contrast in both runs; ``None`` where there are none."""
    digits = common_decimals(two_runs)
    contrasts, descriptions = [], []
    for contrast in two_runs.contrasts:
        if math.isfinite(contrast.first.value) or math.isfinite(contrast.other.value):
            intervals = f"{format_interval(contrast.first, digits)} and {format_interval(contrast.other, digits)}"
            descriptions.append(f"{contrast.over} to {contrast.arm} {intervals}")
            contrasts.append(contrast)
    if not contrasts:
        return None
    first_label, other_label = two_runs.run_labels
    description = (
        f"Differences in percentage points, {first_label} and {other_label}: {style.join_descriptions(descriptions)}."
    )
    panel = Panel(
        name="both",
        title="Error reduction by the second arm, points",
        alternative=description,
        draw=partial(_draw_differences, two_runs, contrasts),
        height_inches=style.panel_height(round(1.4 * len(contrasts))),  # two intervals a row need more room than one
    )
    caption = (
        f"Above, filled: {first_label}; below, hollow: {other_label}. Each interval is its own run's simultaneous 95% "
        "interval."
    )
    return Figure(name="both", title="Differences in both runs", caption=caption, panels=(panel,))


def _draw_differences(two_runs: TwoRunComparison, contrasts: Sequence[ContrastInBothRuns], axes: Axes) -> None:
    names = list(arms_by_name(two_runs))
    heights = range(len(contrasts) - 1, -1, -1)
    axes.axvline(0, color=MUTED, linewidth=0.8, zorder=1)
    for height, contrast in zip(heights, contrasts, strict=True):
        color = style.arm_color(names.index(contrast.arm))
        _draw_interval(axes, contrast.first, height + 0.16, color, hollow=False)
        _draw_interval(axes, contrast.other, height - 0.16, color, hollow=True)
    axes.set_yticks(list(heights), [style.contrast_label(contrast.over, contrast.arm) for contrast in contrasts])
    axes.set_ylim(-0.6, len(contrasts) - 0.4)
    axes.tick_params(axis="y", labelcolor=style.INK)
    axes.locator_params(axis="x", nbins=6)
    # Rounded first: ticks such as 0.30000000000000004 come out of the locator's arithmetic.
    axes.xaxis.set_major_formatter(lambda value, _: style.format_signed(round(value, 6)))


def _draw_interval(axes: Axes, estimate: Interval, height: float, color: str, *, hollow: bool) -> None:
    line_width, fill = (1.2, PAPER) if hollow else (1.8, color)
    if estimate.is_bounded:
        axes.plot([estimate.low, estimate.high], [height] * 2, color=color, zorder=3, linewidth=line_width)
    axes.plot([estimate.value], [height], marker="o", color=color, markersize=5.5, markeredgewidth=1.4,
              markerfacecolor=fill, zorder=4)  # fmt: skip
