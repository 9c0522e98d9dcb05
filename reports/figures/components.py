"""Figures of a generated design: a ladder of steps, and bars of what each component contributes."""

from __future__ import annotations

import math
from functools import partial

from matplotlib.axes import Axes

from ablations import ENDPOINT_LABELS, capitalize_first
from lightning_modules.specs.text import format_points
from reports.comparison.comparison import Comparison
from reports.comparison.components import ComponentAnalysis, ComponentEffect
from reports.figures import style
from reports.figures.style import BAND, INK, MUTED, PAPER, RULE, Figure, Panel, shorten_name
from reports.formatting import format_fixed, format_interval, format_plus_minus

LOWER, HIGHER = style.ARM_COLORS[2], style.ARM_COLORS[1]  # green where the error falls, orange where it rises
BAR_HEIGHT = 0.5  # of the distance of two rows
MAX_LABEL_CHARACTERS = 24


def components_figure(comparison: Comparison) -> Figure | None:
    """The ladder of a step-by-step design and the bars of any generated one; ``None`` where nothing has numbers."""
    analysis = comparison.components
    if analysis is None:
        return None
    label = ENDPOINT_LABELS[analysis.design.endpoint]
    smallest_effect = comparison.registration.smallest_effect
    panels = []
    caption = ""
    if analysis.design.kind == "step-by-step" and any(math.isfinite(mean.value) for mean in analysis.means.values()):
        panels.append(
            Panel(
                name="component-ladder",
                title=f"{capitalize_first(label)} after each step, %",
                alternative=_describe_means(analysis, label),
                draw=partial(_draw_ladder, analysis),
                height_inches=style.panel_height(len(analysis.means)),
            )
        )
        caption += (
            "Ladder: the mean after each step with the arm's own 95% interval; a bar leads from the mean before, green "
            "where the error falls and orange where it rises, with the difference of the two means. "
        )
        if any(effect.num_pairs < effect.num_planned for effect in analysis.effects):
            caption += "It differs from the contribution, which reads complete pairs alone, where trials are missing. "
    if any(math.isfinite(item.estimate.value) for item in analysis.effects):
        panels.append(
            Panel(
                name="component-effects",
                title=f"Reduction in {label}, {analysis.unit}",
                alternative=_describe_effects(comparison, analysis, label),
                draw=partial(_draw_effects, analysis, smallest_effect),
                height_inches=style.panel_height(len(analysis.means)),
            )
        )
        order = "" if analysis.design.kind == "step-by-step" else ", the largest first"
        caption += (
            f"Bars: mean over the pairs of seeds with its simultaneous {comparison.confidence_level} interval{order}; "
            "positive: the error is lower with the component. Filled where the interval excludes 0. Shaded band: the "
            f"smallest effect of interest, ±{format_points(smallest_effect)}."
        )
    if not panels:
        return None
    noun = "step" if analysis.design.kind == "step-by-step" else "component"
    return Figure(
        name="components", title=f"What each {noun} contributes", caption=caption.strip(), panels=tuple(panels)
    )


def _draw_ladder(analysis: ComponentAnalysis, axes: Axes) -> None:
    means = list(analysis.means.values())  # in the order of the steps
    labels = [analysis.design.contrasts[0].over, *(effect.contrast.component for effect in analysis.effects)]
    heights = [float(height) for height in reversed(range(len(means)))]
    for index, (mean, height) in enumerate(zip(means, heights, strict=True)):
        axes.axhline(height, color=RULE, linewidth=0.6, zorder=0)
        if index and math.isfinite(mean.value) and math.isfinite(means[index - 1].value):
            _draw_rung(axes, means[index - 1].value, mean.value, height, analysis.num_decimals)
        if mean.is_bounded:
            axes.plot([mean.low, mean.high], [height] * 2, color=INK, linewidth=1.2, zorder=3)
        axes.plot([mean.value], [height], marker="o", markersize=4.5, color=INK, zorder=4)
        text = f"mean {format_plus_minus(mean, analysis.num_decimals)}%"
        style.add_mark(axes, mean.value, height, labels[index], text, index)
    _label_rows(axes, heights, labels)
    axes.margins(x=0.16)  # room for the numbers beside the bars


def _draw_rung(axes: Axes, before: float, after: float, height: float, num_decimals: int) -> None:
    """Draw the bar from one mean to the next, the riser that leads down to it, and their difference."""
    color = LOWER if after <= before else HIGHER
    axes.plot([before] * 2, [height + 1, height], color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
    axes.barh(height, after - before, left=before, height=BAR_HEIGHT, color=color, alpha=0.45, linewidth=0, zorder=2)
    side = 1 if after >= before else -1
    axes.annotate(
        format_fixed(after - before, num_decimals, sign=True), (after, height + 0.36),
        ha="left" if side > 0 else "right", va="center", color=color, fontsize=7.5, annotation_clip=False,
    )  # fmt: skip


def _draw_effects(analysis: ComponentAnalysis, smallest_effect: float, axes: Axes) -> None:
    effects = _sort_effects(analysis)
    heights = [float(height) for height in reversed(range(len(effects)))]
    axes.axvspan(-smallest_effect, smallest_effect, color=BAND, linewidth=0, zorder=0)
    axes.axvline(0, color=MUTED, linewidth=0.8, zorder=1)
    for effect, height in zip(effects, heights, strict=True):
        estimate = effect.estimate
        text = f"{format_interval(estimate, analysis.num_decimals)} {analysis.unit}"
        style.add_mark(axes, estimate.value, height, effect.contrast.component, text)
        if not math.isfinite(estimate.value):
            continue
        color = LOWER if estimate.value >= 0 else HIGHER
        is_clear = estimate.is_bounded and not estimate.low <= 0 <= estimate.high
        axes.barh(height, estimate.value, height=BAR_HEIGHT, color=color if is_clear else PAPER, edgecolor=color,
                  linewidth=1.2, alpha=0.75 if is_clear else 1, zorder=2)  # fmt: skip
        if estimate.is_bounded:
            axes.plot([estimate.low, estimate.high], [height] * 2, color=INK, linewidth=1.4, zorder=3)
    _label_rows(axes, heights, [effect.contrast.component for effect in effects])
    axes.xaxis.set_major_formatter(lambda value, _: style.format_signed(round(value, 6)))
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, -1.4 * smallest_effect), max(high, 1.4 * smallest_effect))


def _sort_effects(analysis: ComponentAnalysis) -> list[ComponentEffect]:
    """The effects from the top down: steps in their order, other components by size."""
    if analysis.design.kind == "step-by-step":
        return list(analysis.effects)
    # Components without an estimate come last.
    return sorted(
        analysis.effects,
        key=lambda effect: effect.estimate.value if math.isfinite(effect.estimate.value) else -math.inf,
        reverse=True,
    )


def _label_rows(axes: Axes, heights: list[float], labels: list[str]) -> None:
    style.label_rows(axes, heights, [shorten_name(label, MAX_LABEL_CHARACTERS) for label in labels])
    axes.set_ylim(-0.6, len(heights) - 0.4)
    axes.locator_params(axis="x", nbins=6)


def _describe_means(analysis: ComponentAnalysis, label: str) -> str:
    descriptions = []
    for arm, mean in analysis.means.items():
        descriptions.append(f"{arm} {format_plus_minus(mean, analysis.num_decimals)}")
    return f"Mean {label} in percent and half-width of the 95% interval: {style.join_descriptions(descriptions)}."


def _describe_effects(comparison: Comparison, analysis: ComponentAnalysis, label: str) -> str:
    descriptions = []
    for effect in _sort_effects(analysis):
        interval = format_interval(effect.estimate, analysis.num_decimals)
        descriptions.append(f"{effect.contrast.component} {interval}")
    return (
        f"Reduction in {label} in {analysis.unit} with simultaneous {comparison.confidence_level} intervals: "
        f"{style.join_descriptions(descriptions)}."
    )
