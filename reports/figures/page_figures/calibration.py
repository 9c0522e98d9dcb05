"""Figures of a calibration: rates of wrong verdicts by seeds, and the errors of the trainings."""

from __future__ import annotations

from functools import partial

import numpy as np
from matplotlib.axes import Axes

from reports.calibration.cases import Calibration, MeasuredRate
from reports.figures import style
from reports.figures.style import MUTED, Figure, Panel, shorten_name

NOMINAL_PERCENT = 5.0
NUM_BINS = 24


def calibration_figures(calibration: Calibration) -> tuple[Figure, ...]:
    """Both figures."""
    return (_rates_figure(calibration), _trainings_figure(calibration))


def _rates_figure(calibration: Calibration) -> Figure:
    panels = []
    worlds = dict.fromkeys((rate.case.world, rate.case.arm) for rate in calibration.select_rates("wrong"))
    for number, (world, arm) in enumerate(worlds):
        rates = [
            rate
            for rate in calibration.select_rates("wrong")
            if (rate.case.world, rate.case.arm) == (world, arm) and rate.case.claims.startswith("each arm")
        ]
        title = f"{world}: seeds of {shorten_name(arm)}" if arm else f"{world}: all arms, centered"
        highest = max(rates, key=lambda rate: rate.percent)
        panels.append(
            Panel(
                name=f"rates-{number}",
                title=title,
                alternative=f"Wrong verdicts in percent by seeds, a line per number of arms; at most "
                f"{highest.percent:.1f}, with {highest.case.num_arms} arms and {highest.case.num_seeds} seeds.",
                draw=partial(_draw_rates, tuple(rates)),
            )
        )
    caption = (
        "Percent of studies with a wrong verdict on the claims that each arm improves on the first, by number of "
        "seeds; one line per number of arms, with its 95% interval. Dashed: the 5% that the rule promises."
    )
    return Figure(name="rates", title="Wrong verdicts where nothing differs", caption=caption, panels=tuple(panels))


def _draw_rates(rates: tuple[MeasuredRate, ...], axes: Axes) -> None:
    axes.axhline(NOMINAL_PERCENT, color=MUTED, linewidth=0.8, linestyle="dashed", zorder=1)
    ends = []
    for index, num_arms in enumerate(sorted({rate.case.num_arms for rate in rates})):
        line = sorted((rate for rate in rates if rate.case.num_arms == num_arms), key=lambda rate: rate.case.num_seeds)
        seeds, color = [rate.case.num_seeds for rate in line], style.arm_color(index)
        axes.fill_between(seeds, [rate.low for rate in line], [rate.high for rate in line], color=color, alpha=0.12,
                          linewidth=0, zorder=2)  # fmt: skip
        axes.plot(seeds, [rate.percent for rate in line], color=color, linestyle=style.arm_line_style(index), zorder=3)
        ends.append((f"{num_arms} arms", index, line[-1].percent))
    axes.set_ylim(0, max(8.0, 1.1 * max(rate.high for rate in rates)))
    axes.set_xlim(2, 20)
    axes.set_xticks([2, 5, 10, 15, 20])
    axes.set_xlabel("seeds")
    style.label_line_ends(axes, ends)


def _trainings_figure(calibration: Calibration) -> Figure:
    trainings = calibration.trainings
    edges = np.linspace(trainings.errors.min(), trainings.errors.max() + trainings.resolution, NUM_BINS + 1)
    panels = []
    for index, (noise, errors) in enumerate(zip(calibration.arm_noise, trainings.errors, strict=True)):
        panels.append(
            Panel(
                name=f"trainings-{index}",
                title=f"{shorten_name(noise.arm)}: test error, %",
                alternative=f"Histogram of {noise.num_trainings} trainings: mean {noise.mean:.2f}%, standard deviation "
                f"{noise.deviation.value:.2f} points; {noise.shape}.",
                draw=partial(_draw_histogram, tuple(errors.tolist()), tuple(edges.tolist()), index),
                height_inches=1.9,
            )
        )
    caption = "Test error of every training, one panel per arm, all with the same bins."
    return Figure(name="trainings", title="The trainings", caption=caption, panels=tuple(panels))


def _draw_histogram(errors: tuple[float, ...], edges: tuple[float, ...], index: int, axes: Axes) -> None:
    axes.hist(errors, bins=list(edges), color=style.arm_color(index), alpha=0.75)
    axes.axvline(float(np.mean(errors)), color=MUTED, linewidth=1.0, linestyle="dashed")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylabel("trainings")
