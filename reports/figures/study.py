"""All figures of a report; costs and published values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from ablations import FallsWith, SaturatesAt, capitalize_first
from reports.analysis.arms import ArmSummary
from reports.comparison.comparison import Comparison
from reports.figures import style
from reports.figures.components import components_figure
from reports.figures.confusions import confusions_figure
from reports.figures.gradient_norms import gradient_norms_figure
from reports.figures.interaction import interaction_figure
from reports.figures.learning_curves import learning_curves_figure
from reports.figures.receptive_fields import receptive_fields_figure
from reports.figures.seeds import error_decimals, has_error, seeds_figure
from reports.figures.style import INK, MUTED, PAPER, Figure, Panel, shorten_name
from reports.figures.tuning_curves import search_curves_figure
from reports.formatting import (
    format_fixed,
    format_plus_minus,
    format_significant,
    metric_prefix,
    time_unit,
)

MAX_LABELED_POINTS = 12  # arms beyond which only those on the Pareto front and the baseline are named
UnitChoice = Callable[[list[float]], tuple[float, str]]  # values to (factor, name of the unit)


def report_figures(comparison: Comparison) -> tuple[Figure, ...]:
    """All figures that the comparison has numbers for."""
    candidates = (
        seeds_figure(comparison),
        interaction_figure(comparison),
        components_figure(comparison),
        learning_curves_figure(comparison),
        gradient_norms_figure(comparison),
        confusions_figure(comparison),
        _costs_figure(comparison),
        receptive_fields_figure(comparison),
        _published_figure(comparison),
        search_curves_figure(comparison),
    )
    return tuple(figure for figure in candidates if figure is not None)


def _make_panel(name: str, title: str, alternative: str, draw: Callable[[Axes], None], height: float = 2.7) -> Panel:
    return Panel(name=name, title=title, alternative=alternative, draw=draw, height_inches=height)


# Error against cost


def _costs_figure(comparison: Comparison) -> Figure | None:
    panels = []
    for name, title, label, costs in _cost_axes(comparison):
        if len(_plottable_arms(comparison, costs)) < 2:  # a single point shows no trade-off
            continue
        description = _describe_costs(comparison, label, costs)
        panels.append(_make_panel(name, title, description, partial(_draw_cost, comparison, costs, label)))
    if not panels:
        return None
    caption = (
        "Mean test error with each arm's own 95% interval against the arm's cost; time and memory are medians over its "
        "trials. Stepped line: Pareto front of these points; no arm is better than one on it in both error and cost. "
        "Nearby arms may differ by chance alone."
    )
    return Figure(name="costs", title="Error against cost", caption=caption, panels=tuple(panels))


def _cost_axes(comparison: Comparison) -> list[tuple[str, str, str, list[float]]]:
    """Name, title, axis label and one value per arm of each panel."""
    arms = comparison.arms
    parameters, kilo = _scale_costs(_property_values(comparison, "parameters"), metric_prefix)
    operations, mega = _scale_costs(_property_values(comparison, "multiply_adds"), metric_prefix)
    seconds, clock = _scale_costs([arm.train_seconds.median for arm in arms], time_unit)
    per_trial = "training time per trial"
    if any(arm.source_arms for arm in arms):
        per_trial += ", source network included"
    memory = [arm.peak_memory_bytes.median / 2**20 for arm in arms]
    return [
        ("cost-parameters", "Test error, %, by parameters", f"parameters, {kilo}".rstrip(", "), parameters),
        ("cost-multiply-adds", "Test error, %, by multiply-adds", f"multiply-adds, {mega}".rstrip(", "), operations),
        ("cost-time", "Test error, %, by training time", f"{per_trial}, {clock}", seconds),
        ("cost-memory", "Test error, %, by peak memory", "peak memory, MiB", memory),
    ]


def _property_values(comparison: Comparison, name: str) -> list[float]:
    """A measured property of each arm's network; NaN where it is unknown."""
    return [float(arm.properties.get(name, math.nan)) for arm in comparison.arms]


def _scale_costs(costs: list[float], choose_unit: UnitChoice) -> tuple[list[float], str]:
    factor, unit = choose_unit(costs)
    return [cost / factor for cost in costs], unit


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Pareto-optimal points, smaller being better, by the first coordinate."""
    front: list[tuple[float, float]] = []
    for point in sorted(points):
        if not front or point[1] < front[-1][1]:
            front.append(point)
    return front


def _plottable_arms(comparison: Comparison, costs: Sequence[float]) -> list[tuple[float, int, ArmSummary]]:
    """Cost, index and row of the arms that have both a cost and an error."""
    plottable = []
    for index, (cost, arm) in enumerate(zip(costs, comparison.arms, strict=True)):
        if math.isfinite(cost) and has_error(arm):
            plottable.append((cost, index, arm))
    return plottable


def _draw_cost(comparison: Comparison, costs: list[float], label: str, axes: Axes) -> None:
    plottable = _plottable_arms(comparison, costs)
    digits = error_decimals(comparison)
    points = [(cost, arm.mean_error.value) for cost, _, arm in plottable]
    front = pareto_front(points)
    for cost, index, arm in plottable:
        color = style.arm_color(index)
        error = arm.mean_error
        artists: list[Artist] = []
        if error.is_bounded:
            artists += axes.plot([cost, cost], [error.low, error.high], color=color, linewidth=1.2, zorder=2)
        artists += axes.plot([cost], [error.value], marker=style.arm_marker(index), markersize=5.5, color=color,
                             zorder=3)  # fmt: skip
        text = f"{format_plus_minus(error, digits)}% at {format_significant(cost)} {label.rpartition(', ')[2]}"
        style.add_mark(axes, cost, error.value, arm.name, text, index)
        if len(plottable) <= MAX_LABELED_POINTS or index == 0 or (cost, error.value) in front:
            artists.append(axes.annotate(shorten_name(arm.name, 14), (cost, error.value), xytext=(6, 4),
                                         textcoords="offset points", color=color, fontsize=8,
                                         annotation_clip=False))  # fmt: skip
        style.assign_to_arm(artists, index)
    cheapest, dearest = min(points)[0], max(points)[0]
    if dearest > 8 * cheapest > 0:  # a factor of 8 leaves the cheap arms in one eighth of a linear axis
        style.set_log_scale(axes, "x")
    axes.margins(x=0.14, y=0.12)
    _draw_pareto_front(axes, front)
    axes.set_xlabel(label)
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def _draw_pareto_front(axes: Axes, front: Sequence[tuple[float, float]]) -> None:
    """Draw a staircase through the front, from the top edge to the right one."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    corners = [(front[0][0], top), *front, (right, front[-1][1])]
    axes.step(*zip(*corners, strict=True), where="post", color=MUTED, linewidth=0.8, linestyle=(0, (3, 2)), zorder=1)
    axes.set(xlim=(left, right), ylim=(bottom, top))  # the staircase reaches the edges and must not move them


def _describe_costs(comparison: Comparison, label: str, costs: Sequence[float]) -> str:
    digits = error_decimals(comparison)
    descriptions = []
    for cost, _, arm in _plottable_arms(comparison, costs):
        descriptions.append(f"{arm.name} {format_significant(cost)}, {format_fixed(arm.mean_error.value, digits)}%")
    return f"{capitalize_first(label)}, and mean test error: {style.join_descriptions(descriptions)}."


# Measured and published values


def _published_arms(comparison: Comparison) -> list[ArmSummary]:
    return [arm for arm in comparison.arms if math.isfinite(arm.published_value)]


def _published_figure(comparison: Comparison) -> Figure | None:
    registration, reference = comparison.registration, comparison.registration.reference
    arms = _published_arms(comparison)
    if reference is None or len(arms) < 2 or not any(map(has_error, arms)):
        return None
    measured_title = f"Measured here: test error, % ({registration.data.get('name', 'data')})"
    panels = (
        _make_panel(
            "measured",
            shorten_name(measured_title, 46),
            _describe_values(measured_title, arms, _arm_values(arms, is_measured=True)),
            partial(_draw_arm_values, comparison, is_measured=True),
        ),
        _make_panel(
            "published",
            "Published, %",
            _describe_values("Published", arms, _arm_values(arms, is_measured=False)),
            partial(_draw_arm_values, comparison, is_measured=False),
        ),
    )
    caveat = f" ({reference.caveat})" if reference.caveat else ""
    # One axis for both would suggest that the levels can be compared; only the order of the arms can.
    caption = (
        "Measured and published values have separate axes, because they come from different data. Published: "
        f"{reference.quantity}; {reference.source}{caveat}."
    )
    return Figure(name="published", title="Measured and published values", caption=caption, panels=panels)


def _arm_values(arms: Iterable[ArmSummary], *, is_measured: bool) -> list[float]:
    return [arm.mean_error.value if is_measured else arm.published_value for arm in arms]


def _draw_arm_values(comparison: Comparison, axes: Axes, *, is_measured: bool) -> None:
    arms = _published_arms(comparison)
    values = _arm_values(arms, is_measured=is_measured)
    if _has_claimed_order(comparison, arms):  # a line between unordered arms would suggest a trend
        axes.plot(range(len(arms)), values, color=MUTED, linewidth=0.9, zorder=1)
    for x, (arm, value) in enumerate(zip(arms, values, strict=True)):
        index = comparison.arms.index(arm)
        color = style.arm_color(index)
        error = arm.mean_error
        text = f"{format_significant(value)}%{'' if is_measured else ', published'}"
        style.add_mark(axes, x, value, arm.name, text, index)
        if is_measured and error.is_bounded:
            axes.plot([x, x], [error.low, error.high], color=color, linewidth=1.6, zorder=2)
        axes.plot([x], [value], marker=style.arm_marker(index), markersize=6, color=color, zorder=3,
                  markerfacecolor=color if is_measured else PAPER, markeredgewidth=1.4)  # fmt: skip
    labels = [shorten_name(arm.name) for arm in arms]
    longest_name = max(len(arm.name) for arm in arms)
    if longest_name * len(arms) > 40:  # about 40 characters fit below a panel
        axes.set_xticks(range(len(arms)), labels, rotation=30, ha="right")
    else:
        axes.set_xticks(range(len(arms)), labels, rotation=0, ha="center")
    axes.tick_params(axis="x", labelcolor=INK)
    axes.margins(x=0.12, y=0.15)
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def _has_claimed_order(comparison: Comparison, arms: Sequence[ArmSummary]) -> bool:
    """Whether a claim orders these arms as they are listed."""
    names = [arm.name for arm in arms]
    for judged in comparison.claims:
        if isinstance(judged.claim, FallsWith | SaturatesAt):
            claimed_order = [name for name in judged.claim.order if name in names]
            if claimed_order == names:
                return True
    return False


def _describe_values(quantity: str, arms: Iterable[ArmSummary], values: Iterable[float]) -> str:
    descriptions = [f"{arm.name} {format_significant(value)}" for arm, value in zip(arms, values, strict=True)]
    return f"{quantity}: {style.join_descriptions(descriptions)}."
