"""Learning curves by arm, with their spread over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from reports.comparison.comparison import Comparison
from reports.figures import style
from reports.figures.style import Figure, Panel, shorten_name
from reports.formatting import format_significant
from studies.records.results import UNTRAINED_STATUSES

METRIC_TITLES = (
    ("validation_error", "Validation error, %"),
    ("train_error", "Training error, % (as seen while training)"),
    ("train_loss", "Training loss, nats"),
    ("gradient_norm", "Gradient norm"),
)

MAX_RANGE_POINTS = 200  # of either edge of the shade
MAX_COLORED_ARMS = 12  # lines that can be told apart, and labels that fit at their ends
MAX_MARKS = 80  # epochs of an arm whose values a page shows
MAX_QUIET_POINTS, MAX_QUIET_MARKS = 80, 16  # of a gray line, of which there may be hundreds: a page has a bound
QUIET_OPACITY = 0.45
Curves = npt.NDArray[np.float64]
Epochs = npt.NDArray[np.int_]
CurvesByArm = Mapping[int, Curves]  # by the index of the arm


def learning_curves_figure(comparison: Comparison) -> Figure | None:
    """Panel per quantity logged by epoch; ``None`` where none was logged."""
    panels = []
    indices = [index for index, arm in enumerate(comparison.arms) if _has_curves(comparison, arm.name)]
    colored = _choose_colored(comparison, indices)
    for metric, title in METRIC_TITLES:
        curves_by_arm = {index: _collect_curves(comparison, comparison.arms[index].name, metric) for index in indices}
        if not any(np.isfinite(curves).any() for curves in curves_by_arm.values()):
            continue
        panels.append(
            Panel(
                name="learning-" + metric.replace("_", "-"),
                title=title,
                alternative=_describe_curves(comparison, curves_by_arm, title),
                draw=partial(_draw_curves, comparison, curves_by_arm, colored, metric),
                height_inches=2.9,
            )
        )
    if not panels:
        return None
    caption = (
        "Line: mean over the finished seeds; shade: from the lowest to the highest seed. Dotted, ending in a cross: "
        "seeds at chance or non-finite, not part of any mean. Errors are on a square-root axis, which spreads small "
        "values."
    )
    if len(colored) < len(indices):
        caption += (
            f" In color: {len(colored)} of {len(indices)} arms, the baseline and arms that the claims name. The others "
            "are gray, without their shade; the page names a line under the pointer."
        )
    return Figure(name="learning", title="Learning curves", caption=caption, panels=tuple(panels), is_switchable=True)


def _choose_colored(comparison: Comparison, indices: Sequence[int]) -> list[int]:
    """Choose the arms in front: all, or the baseline and those that claims name, or evenly spaced ones of these."""
    if len(indices) <= MAX_COLORED_ARMS:
        return list(indices)
    claimed = {arm for claim in comparison.registration.claims for arm in claim.arms}
    named = [index for index in indices if index == 0 or comparison.arms[index].name in claimed]
    candidates = named if claimed else indices
    return [candidates[position] for position in style.choose_arms(len(candidates), MAX_COLORED_ARMS)]


def _has_curves(comparison: Comparison, arm: str) -> bool:
    return any(trial.arm == arm and trial.result and trial.result.curves for trial in comparison.trials)


def _collect_curves(comparison: Comparison, arm: str, metric: str, states: Sequence[str] = ("finished",)) -> Curves:
    """Collect curves, trials x epochs, NaN beyond an end or if not finite."""
    curves = []
    for trial in comparison.trials:
        if trial.arm == arm and trial.state in states and trial.result is not None:
            curves.append(trial.result.curves.get(metric, ()))
    # Trials end at different epochs: early stopping and divergence leave rows of unequal length.
    table = np.full((len(curves), max(map(len, curves), default=0)), np.nan)
    for row, curve in zip(table, curves, strict=True):
        row[: len(curve)] = curve
    table[~np.isfinite(table)] = np.nan
    return table


def _draw_curves(
    comparison: Comparison, curves_by_arm: CurvesByArm, colored: Sequence[int], metric: str, axes: Axes
) -> None:
    untrained_by_arm = {}
    for index in curves_by_arm:
        untrained_by_arm[index] = _collect_curves(comparison, comparison.arms[index].name, metric, UNTRAINED_STATUSES)
    # The scale must be set before anything is drawn, and must hold the untrained seeds too.
    finite = np.concatenate(
        [curves[np.isfinite(curves)] for curves in (*curves_by_arm.values(), *untrained_by_arm.values())]
    )
    if metric.endswith("_error"):
        style.set_square_root_scale(axes, float(min(100.0, max(finite.max() * 1.05, 1.0))))
    elif finite.min() > 0:
        style.set_log_scale(axes)
    line_ends = []
    for index in sorted(curves_by_arm, key=lambda index: index in colored):  # gray lines first: they lie behind
        curves, is_quiet = curves_by_arm[index], index not in colored
        artists = _draw_untrained(axes, untrained_by_arm[index], index, is_quiet=is_quiet)
        if np.isfinite(curves).any():
            name = comparison.arms[index].name
            if is_quiet:
                artists += _draw_quiet_arm(axes, curves)
            else:
                lines, end_height = _draw_arm(axes, curves, index)
                artists += lines
                line_ends.append((shorten_name(name), index, end_height))
            _mark_epochs(axes, curves, index, name, MAX_QUIET_MARKS if is_quiet else MAX_MARKS)
        style.assign_to_arm(artists, index, is_quiet=is_quiet)
    for (_, index, _), label in zip(line_ends, style.label_line_ends(axes, line_ends), strict=True):
        style.assign_to_arm([label], index)
    axes.set_xlabel("epoch")
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def _summarize_epochs(curves: Curves) -> tuple[Epochs, Curves, Curves, Curves]:
    """Epochs that any trial logged, with mean, lowest and highest value over the trials."""
    has_value = np.isfinite(curves).any(axis=0)
    epochs = np.arange(1, curves.shape[1] + 1)[has_value]
    logged = curves[:, has_value]
    return epochs, np.nanmean(logged, axis=0), np.nanmin(logged, axis=0), np.nanmax(logged, axis=0)


def _mark_epochs(axes: Axes, curves: Curves, index: int, arm: str, max_marks: int) -> None:
    epochs, mean, low, high = _summarize_epochs(curves)
    for position in style.thin_curve(mean, max_marks):
        text = f"epoch {epochs[position]}: {format_significant(float(mean[position]))}"
        if low[position] < high[position]:
            limits = [format_significant(float(value)) for value in (low[position], high[position])]
            text += f" ({limits[0]} to {limits[1]})"
        style.add_mark(axes, float(epochs[position]), float(mean[position]), arm, text, index)


def _draw_arm(axes: Axes, curves: Curves, index: int) -> tuple[list[Artist], float]:
    """Draw mean and range over seeds; returns what was drawn, and the mean's last height."""
    epochs, mean, low, high = _summarize_epochs(curves)
    color = style.arm_color(index)
    shown = np.union1d(style.thin_curve(low, MAX_RANGE_POINTS), style.thin_curve(high, MAX_RANGE_POINTS))
    shade = axes.fill_between(epochs[shown], low[shown], high[shown], color=color, alpha=0.13, linewidth=0)
    marker = "o" if len(epochs) == 1 else ""  # a line of one point would be invisible
    shown = style.thin_curve(mean)
    lines = axes.plot(epochs[shown], mean[shown], color=color, linestyle=style.arm_line_style(index), marker=marker)
    return [shade, *lines], float(mean[-1])


def _draw_quiet_arm(axes: Axes, curves: Curves) -> list[Artist]:
    """Draw the mean as a thin gray line."""
    epochs, mean, _, _ = _summarize_epochs(curves)
    shown = style.thin_curve(mean, MAX_QUIET_POINTS)
    marker = "." if len(epochs) == 1 else ""
    return [*axes.plot(epochs[shown], mean[shown], color=style.MUTED, alpha=QUIET_OPACITY, lw=0.8, marker=marker)]


def _draw_untrained(axes: Axes, curves: Curves, index: int, *, is_quiet: bool) -> list[Artist]:
    color = style.MUTED if is_quiet else style.arm_color(index)
    opacity = QUIET_OPACITY if is_quiet else 1.0
    max_points = MAX_QUIET_POINTS if is_quiet else style.MAX_CURVE_POINTS
    artists: list[Artist] = []
    for curve in curves:
        epochs = np.flatnonzero(np.isfinite(curve))
        if len(epochs):
            shown = epochs[style.thin_curve(curve[epochs], max_points)]
            look: dict[str, Any] = {"color": color, "alpha": opacity}
            artists += axes.plot(shown + 1, curve[shown], linewidth=0.8, linestyle=(0, (1, 1.5)), **look)
            artists += axes.plot([epochs[-1] + 1], [curve[epochs[-1]]], marker="x", markersize=4.5, **look)
    return artists


def _describe_curves(comparison: Comparison, curves_by_arm: CurvesByArm, title: str) -> str:
    descriptions = []
    for index, curves in curves_by_arm.items():
        has_value = np.isfinite(curves).any(axis=0)
        if has_value.any():
            mean = np.nanmean(curves[:, has_value], axis=0)
            first, last = format_significant(float(mean[0])), format_significant(float(mean[-1]))
            descriptions.append(f"{comparison.arms[index].name} from {first} to {last}")
    return f"{title}, mean over seeds from the first epoch to the last: {style.join_descriptions(descriptions)}."
