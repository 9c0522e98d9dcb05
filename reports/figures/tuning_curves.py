"""Validation error of the search against the number of candidates, by arm."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from reports.analysis.tuning_budgets import ArmTuningSummary
from reports.comparison.comparison import Comparison
from reports.figures import style
from reports.figures.style import Figure, Panel, shorten_name
from reports.formatting import format_fixed


def search_curves_figure(comparison: Comparison) -> Figure | None:
    """Best validation error by number of candidates; ``None`` if untuned."""
    if comparison.tuned is None:
        return None
    tuning, arms = comparison.tuned.tuning_summary.tuning, comparison.tuned.tuning_summary.arms
    if not any(arm.expected_best_errors for arm in arms):
        return None
    # TPE's candidates depend on the earlier ones, so their order matters. Random candidates are exchangeable: their
    # expected best needs no order (Dodge et al. 2019, Sect. 3).
    is_adaptive = tuning.sampler == "tpe"
    quantity = "Best so far, in the order of the search" if is_adaptive else "Expected best of so many candidates"
    epoch_fraction = tuning.rung_schedule[0].epoch_fraction
    length = ""
    if epoch_fraction != 1:
        length = f", each trained for {epoch_fraction:.3g} of the epochs, the first rung"
    panel = Panel(
        name="search",
        title="Best validation error, %",
        alternative=f"{quantity}, percent on validation, from one candidate to all: {_describe_curves(arms)}.",
        draw=partial(_draw_search_curves, arms),
    )
    caption = (
        f"{quantity}{length}. A curve that still falls at its right end: more candidates would help that arm. A curve "
        "that is flat there: the budget was large enough."
    )
    return Figure(name="search", title="Validation error over the search", caption=caption, panels=(panel,))


def _describe_curves(arms: Sequence[ArmTuningSummary]) -> str:
    descriptions = []
    for arm in arms:
        if not arm.expected_best_errors:  # no candidate of this arm came to an error
            continue
        first, last = format_fixed(arm.expected_best_errors[0], 1), format_fixed(arm.expected_best_errors[-1], 1)
        descriptions.append(f"{arm.arm} from {first} to {last}")
    return "; ".join(descriptions)


def _draw_search_curves(arms: Sequence[ArmTuningSummary], axes: Axes) -> None:
    highest = max(max(arm.expected_best_errors, default=0.0) for arm in arms)
    style.set_square_root_scale(axes, max(1.0, min(100.0, 1.05 * highest)))
    line_ends = []
    for index, arm in enumerate(arms):
        if not arm.expected_best_errors:
            continue
        counts = range(1, len(arm.expected_best_errors) + 1)
        axes.plot(counts, arm.expected_best_errors, color=style.arm_color(index),
                  linestyle=style.arm_line_style(index), marker=style.arm_marker(index), markersize=3)  # fmt: skip
        line_ends.append((shorten_name(arm.arm), index, arm.expected_best_errors[-1]))
    axes.set_xlabel("candidates")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    style.label_line_ends(axes, line_ends)
