"""The figures of a report: every seed and the differences, error against cost, the published figures; and the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from matplotlib.axes import Axes

from ablations import FallsWith, SaturatesAt
from reports import drawing
from reports.arms import ArmRow, PairDifference
from reports.comparison import Comparison
from reports.drawing import BAND, INK, MUTED, PAPER, RULE, Figure, Panel, short
from reports.interaction import interactions
from reports.layers import gradients_by_layer
from reports.learning import learning_curves
from reports.numbers import bracketed, decimals, fixed, metric_unit, plus_minus, significant, time_unit
from reports.receptive import receptive_fields
from reports.search_curves import search_curves

ROW_INCHES, FRAME_INCHES = 0.3, 0.85


def figures(comparison: Comparison) -> tuple[Figure, ...]:
    """All figures that the comparison has numbers for."""
    made = (
        _seeds(comparison),
        interactions(comparison),
        learning_curves(comparison),
        gradients_by_layer(comparison),
        _costs(comparison),
        receptive_fields(comparison),
        _published(comparison),
        search_curves(comparison),
    )
    return tuple(figure for figure in made if figure is not None)


def _panel(name: str, title: str, alternative: str, draw: Callable[[Axes], None], height: float = 2.7) -> Panel:
    return Panel(name=name, title=title, alternative=alternative, draw=draw, height_inches=height)


def places(comparison: Comparison) -> int:
    """Decimals of errors and of their differences throughout the report."""
    widths = [arm.error.half_width for arm in comparison.arms]
    return decimals([*widths, *(each.estimate.half_width for each in comparison.differences)], least=1)


def _seeds(comparison: Comparison) -> Figure | None:
    measured = [arm for arm in comparison.arms if math.isfinite(arm.error.value)]
    if not measured:
        return None
    differences = [each for each in comparison.differences if math.isfinite(each.estimate.value)]
    rows = max(len(comparison.arms), len(differences))
    height = FRAME_INCHES + ROW_INCHES * rows
    panels = [_panel("errors", "Test error, %", _errors_told(comparison), partial(_draw_errors, comparison), height)]
    caption = (
        "Left: every seed is a dot, and a faint line ties the trials of one seed; below the dots, the arm's mean with "
        "its own 95% interval."
    )
    if differences:
        told = _differences_told(comparison, differences)
        title = "Lower error of the second arm, points"
        panels.append(_panel("differences", title, told, partial(_draw_differences, comparison, differences), height))
        caption += (
            " Right: mean difference over the pairs of seeds with its simultaneous "
            f"{comparison.level} interval, positive where the second arm has the lower error. The shaded band is the "
            "smallest effect of interest, "
            f"±{comparison.registration.smallest_effect:g} points. Hollow: no registered claim reads it."
        )
    return Figure(name="seeds", title="Every seed, and the differences", caption=caption, panels=tuple(panels))


def _draw_errors(comparison: Comparison, axes: Axes) -> None:
    arms = comparison.arms
    heights = _heights(len(arms))
    _rules(axes, heights)
    _ties(axes, arms, heights)
    for index, (arm, height) in enumerate(zip(arms, heights, strict=True)):
        shade = drawing.colour(index)
        below = height - 0.24
        if arm.error.bounded:
            axes.plot([arm.error.low, arm.error.high], [below, below], color=shade, linewidth=1.8, zorder=3)
        if math.isfinite(arm.error.value):
            axes.plot([arm.error.value] * 2, [below - 0.11, below + 0.11], color=shade, linewidth=1.8, zorder=3)
        axes.plot(arm.errors, [height] * len(arm.errors), linestyle="", marker="o", markersize=4.2, color=shade,
                  alpha=0.55, markeredgewidth=0, zorder=4)  # fmt: skip
    _rows(axes, heights, [short(arm.name) for arm in arms])


def _ties(axes: Axes, arms: Sequence[ArmRow], heights: Sequence[float]) -> None:
    """A faint line through the trials of one seed: what is paired with what."""
    for trials in zip(*(arm.errors for arm in arms), strict=True):
        axes.plot(trials, heights, color=MUTED, linewidth=0.5, alpha=0.45, zorder=2)


def _draw_differences(comparison: Comparison, differences: Sequence[PairDifference], axes: Axes) -> None:
    heights = _heights(len(differences))
    effect = comparison.registration.smallest_effect
    names = [arm.name for arm in comparison.arms]
    axes.axvspan(-effect, effect, color=BAND, linewidth=0, zorder=0)
    axes.axvline(0, color=MUTED, linewidth=0.8, zorder=1)
    for each, height in zip(differences, heights, strict=True):
        shade = drawing.colour(names.index(each.arm))
        if each.estimate.bounded:
            axes.plot([each.estimate.low, each.estimate.high], [height] * 2, color=shade, linewidth=1.8, zorder=3)
        axes.plot([each.estimate.value], [height], marker="o" if each.registered else "D", color=shade, markersize=5.5,
                  markeredgewidth=1.4, markerfacecolor=shade if each.registered else PAPER, zorder=4)  # fmt: skip
    _rows(axes, heights, [drawing.pair(each.over, each.arm) for each in differences])
    axes.xaxis.set_major_formatter(lambda value, _: drawing.signed(round(value, 6)))
    _at_least_around_zero(axes, effect)


def _at_least_around_zero(axes: Axes, effect: float) -> None:
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, -1.4 * effect), max(high, 1.4 * effect))


def _heights(count: int) -> list[float]:
    """Rows from the top down."""
    return [float(place) for place in reversed(range(count))]


def _rows(axes: Axes, heights: Sequence[float], labels: Sequence[str]) -> None:
    axes.set_yticks(heights, labels)
    axes.set_ylim(-0.6, len(heights) - 0.4)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.locator_params(axis="x", nbins=6)


def _rules(axes: Axes, heights: Sequence[float]) -> None:
    for height in heights:
        axes.axhline(height, color=RULE, linewidth=0.6, zorder=0)


def _costs(comparison: Comparison) -> Figure | None:
    panels = tuple(
        _panel(name, title, _cost_told(comparison, name, values), partial(_draw_cost, comparison, values, label))
        for name, title, label, values in _cost_axes(comparison)
        if len(_drawn(comparison, values)) > 1
    )
    if not panels:
        return None
    caption = (
        "Mean test error with each arm's own 95% interval against what the arm costs. The stepped line is the Pareto "
        "front of the means: no arm on it is beaten in both error and cost. Nearby arms may differ by chance alone."
    )
    return Figure(name="costs", title="Error against cost", caption=caption, panels=panels)


def _cost_axes(comparison: Comparison) -> list[tuple[str, str, str, list[float]]]:
    def scaled(
        values: list[float], unit: Callable[[list[float]], tuple[float, str]], empty: str = ""
    ) -> tuple[list[float], str]:
        factor, prefix = unit(values)
        return [value / factor for value in values], prefix or empty

    def counted(name: str) -> list[float]:
        return [float(arm.properties.get(name, math.nan)) for arm in comparison.arms]

    parameters, kilo = scaled(counted("parameters"), metric_unit)
    operations, mega = scaled(counted("multiply_adds"), metric_unit)
    seconds, clock = scaled([arm.train_seconds for arm in comparison.arms], time_unit)
    per_trial = "training time per trial" + (", with its donor's" if any(arm.donors for arm in comparison.arms) else "")
    memory = [arm.peak_memory_bytes / 2**20 or math.nan for arm in comparison.arms]
    return [
        ("cost-parameters", "Test error, %, by parameters", f"parameters, {kilo}".rstrip(", "), parameters),
        ("cost-multiply-adds", "Test error, %, by multiply-adds", f"multiply-adds, {mega}".rstrip(", "), operations),
        ("cost-time", "Test error, %, by training time", f"{per_trial}, {clock}", seconds),
        ("cost-memory", "Test error, %, by peak memory", "peak memory, MiB", memory),
    ]


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other beats in both coordinates (smaller is better), by the first coordinate."""
    front: list[tuple[float, float]] = []
    for point in sorted(points):
        if not front or point[1] < front[-1][1]:
            front.append(point)
    return front


def _drawn(comparison: Comparison, values: Sequence[float]) -> list[tuple[float, int, ArmRow]]:
    """Cost, place and row of the arms that have both a cost and an error."""
    rows = enumerate(zip(values, comparison.arms, strict=True))
    return [(x, place, arm) for place, (x, arm) in rows if math.isfinite(x) and math.isfinite(arm.error.value)]


def _draw_cost(comparison: Comparison, values: list[float], label: str, axes: Axes) -> None:
    points = _drawn(comparison, values)
    for x, index, arm in points:
        shade = drawing.colour(index)
        if arm.error.bounded:
            axes.plot([x, x], [arm.error.low, arm.error.high], color=shade, linewidth=1.2, zorder=2)
        axes.plot([x], [arm.error.value], marker=drawing.marker(index), markersize=5.5, color=shade, zorder=3)
        axes.annotate(short(arm.name, 14), (x, arm.error.value), xytext=(6, 4), textcoords="offset points",
                      color=shade, fontsize=8, annotation_clip=False)  # fmt: skip
    drawn = [x for x, _, _ in points]
    if max(drawn) > 8 * min(drawn) > 0:
        drawing.logarithmic(axes, "x")
    axes.margins(x=0.14, y=0.12)
    _draw_front(axes, pareto([(x, arm.error.value) for x, _, arm in points]))
    axes.set_xlabel(label)
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def _draw_front(axes: Axes, front: Sequence[tuple[float, float]]) -> None:
    """A staircase through the front, from the top edge to the right one."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    corners = [(front[0][0], top), *front, (right, front[-1][1])]
    axes.step(*zip(*corners, strict=True), where="post", color=MUTED, linewidth=0.8, linestyle=(0, (3, 2)), zorder=1)
    axes.set(xlim=(left, right), ylim=(bottom, top))


def _published(comparison: Comparison) -> Figure | None:
    reference = comparison.registration.reference
    arms = [arm for arm in comparison.arms if math.isfinite(arm.published)]
    if reference is None or len(arms) < 2 or not any(math.isfinite(arm.error.value) for arm in arms):
        return None
    measured = [arm.error.value for arm in arms]
    published = [arm.published for arm in arms]
    here = f"Measured here: test error, % ({comparison.registration.data.get('name', 'data')})"
    panels = (
        _panel("measured", short(here, 46), _pairs_told(here, arms, measured), partial(_draw_order, comparison, True)),
        _panel(
            "published",
            "Published, %",
            _pairs_told("Published", arms, published),
            partial(_draw_order, comparison, False),
        ),
    )
    caption = (
        "Measured and published figures stand on their own axes: they are other data. Published: "
        f"{reference.quantity}; {reference.source}{f' ({reference.caveat})' if reference.caveat else ''}."
    )
    return Figure(name="published", title="Beside the published figures", caption=caption, panels=panels)


def _draw_order(comparison: Comparison, measured: bool, axes: Axes) -> None:
    arms = [arm for arm in comparison.arms if math.isfinite(arm.published)]
    values = [arm.error.value if measured else arm.published for arm in arms]
    if _ordered(comparison, arms):
        axes.plot(range(len(arms)), values, color=MUTED, linewidth=0.9, zorder=1)
    for place, (arm, value) in enumerate(zip(arms, values, strict=True)):
        index = comparison.arms.index(arm)
        shade = drawing.colour(index)
        if measured and arm.error.bounded:
            axes.plot([place, place], [arm.error.low, arm.error.high], color=shade, linewidth=1.6, zorder=2)
        axes.plot([place], [value], marker=drawing.marker(index), markersize=6, color=shade, zorder=3,
                  markerfacecolor=shade if measured else PAPER, markeredgewidth=1.4)  # fmt: skip
    long = max(len(arm.name) for arm in arms) * len(arms) > 40
    axes.set_xticks(range(len(arms)), [short(arm.name) for arm in arms], rotation=30 if long else 0,
                    ha="right" if long else "center")  # fmt: skip
    axes.tick_params(axis="x", labelcolor=INK)
    axes.margins(x=0.12, y=0.15)
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def _ordered(comparison: Comparison, arms: Sequence[ArmRow]) -> bool:
    names = [arm.name for arm in arms]
    orders = [claim.claim.order for claim in comparison.claims if isinstance(claim.claim, FallsWith | SaturatesAt)]
    return any([name for name in order if name in names] == names for order in orders)


def _errors_told(comparison: Comparison) -> str:
    digits = places(comparison)
    told = [
        f"{arm.name} {plus_minus(arm.error, digits)}" if math.isfinite(arm.error.value) else f"{arm.name} none"
        for arm in comparison.arms
    ]
    return f"Test error in percent, mean and half-width of the 95% interval per arm: {'; '.join(told)}."


def _differences_told(comparison: Comparison, differences: Sequence[PairDifference]) -> str:
    digits = places(comparison)
    told = [f"{each.over} to {each.arm} {bracketed(each.estimate, digits)}" for each in differences]
    return f"Differences in percentage points with simultaneous {comparison.level} intervals: {'; '.join(told)}."


def _cost_told(comparison: Comparison, name: str, values: Sequence[float]) -> str:
    digits = places(comparison)
    told = [
        f"{arm.name} {significant(x)}, {fixed(arm.error.value, digits)}%" for x, _, arm in _drawn(comparison, values)
    ]
    return f"{name.removeprefix('cost-').replace('-', ' ').capitalize()} and mean test error: {'; '.join(told)}."


def _pairs_told(what: str, arms: Sequence[ArmRow], values: Sequence[float]) -> str:
    told = [f"{arm.name} {significant(value)}" for arm, value in zip(arms, values, strict=True)]
    return f"{what}: {'; '.join(told)}."


__all__ = ["Figure", "Panel", "figures", "pareto", "places"]
