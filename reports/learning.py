"""Learning curves: validation and training error, loss and gradient norm by epoch, every arm with its spread."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from reports import drawing
from reports.comparison import Comparison
from reports.drawing import Figure, Panel, short
from reports.numbers import significant

PANELS = (
    ("validation_error", "Validation error, %"),
    ("train_error", "Training error, % (as seen while training)"),
    ("train_loss", "Training loss, nats"),
    ("gradient_norm", "Gradient norm"),
)
Curves = npt.NDArray[np.float64]


def learning_curves(comparison: Comparison) -> Figure | None:
    """A panel for each quantity that the trials logged by epoch; ``None`` where they logged none."""
    panels = []
    for metric, title in PANELS:
        arms = [_curves(comparison, arm.name, metric) for arm in comparison.arms]
        if any(np.isfinite(curves).any() for curves in arms):
            draw = partial(_draw, comparison, arms, metric)
            told = _told(comparison, arms, title)
            name = "learning-" + metric.replace("_", "-")
            panels.append(Panel(name=name, title=title, alternative=told, draw=draw, height_inches=2.9))
    if not panels:
        return None
    caption = (
        "Line: mean over the seeds that finished; shade: from the lowest seed to the highest; dotted, ending in a "
        "cross: seeds that diverged, in no mean. The axis of errors is a square root, which opens the small ones."
    )
    return Figure(name="learning", title="Learning curves", caption=caption, panels=tuple(panels))


def _curves(comparison: Comparison, arm: str, metric: str, state: str = "finished") -> Curves:
    """Trials x epochs, NaN beyond a trial's end and where a value is not finite."""
    curves = [
        trial.result.curves.get(metric, ())
        for trial in comparison.trials
        if trial.arm == arm and trial.state == state and trial.result is not None
    ]
    table = np.full((len(curves), max(map(len, curves), default=0)), np.nan)
    for row, curve in zip(table, curves, strict=True):
        row[: len(curve)] = curve
    table[~np.isfinite(table)] = np.nan
    return table


def _draw(comparison: Comparison, arms: Sequence[Curves], metric: str, axes: Axes) -> None:
    diverged = [_curves(comparison, arm.name, metric, "diverged") for arm in comparison.arms]
    finite = np.concatenate([curves[np.isfinite(curves)] for curves in (*arms, *diverged)])
    if metric.endswith("_error"):
        drawing.square_root(axes, float(min(100.0, max(finite.max() * 1.05, 1.0))))
    elif finite.min() > 0:
        drawing.logarithmic(axes)
    ends = []
    for index, (curves, lost) in enumerate(zip(arms, diverged, strict=True)):
        _draw_diverged(axes, lost, index)
        if np.isfinite(curves).any():
            ends.append((index, _draw_arm(axes, curves, index)))
    drawing.name_ends(axes, [(short(comparison.arms[index].name), index, end) for index, end in ends])
    axes.set_xlabel("epoch")
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def _draw_arm(axes: Axes, curves: Curves, index: int) -> float:
    """Mean and range over seeds; returns the height at which the mean ends."""
    seen = np.isfinite(curves).any(axis=0)
    epochs = np.arange(1, curves.shape[1] + 1)[seen]
    mean = np.nanmean(curves[:, seen], axis=0)
    shade = drawing.colour(index)
    low, high = np.nanmin(curves[:, seen], axis=0), np.nanmax(curves[:, seen], axis=0)
    axes.fill_between(epochs, low, high, color=shade, alpha=0.13, linewidth=0)
    axes.plot(epochs, mean, color=shade, linestyle=drawing.line(index), marker="o" if len(epochs) == 1 else "")
    return float(mean[-1])


def _draw_diverged(axes: Axes, curves: Curves, index: int) -> None:
    for curve in curves:
        epochs = np.flatnonzero(np.isfinite(curve))
        if len(epochs):
            shade = drawing.colour(index)
            axes.plot(epochs + 1, curve[epochs], color=shade, linewidth=0.8, linestyle=(0, (1, 1.5)))
            axes.plot([epochs[-1] + 1], [curve[epochs[-1]]], marker="x", markersize=4.5, color=shade)


def _told(comparison: Comparison, arms: Sequence[Curves], title: str) -> str:
    told = []
    for arm, curves in zip(comparison.arms, arms, strict=True):
        if np.isfinite(curves).any():
            mean = np.nanmean(curves[:, np.isfinite(curves).any(axis=0)], axis=0)
            told.append(f"{arm.name} from {significant(float(mean[0]))} to {significant(float(mean[-1]))}")
    return f"{title}, mean over seeds from the first epoch to the last: {'; '.join(told)}."
