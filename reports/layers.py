"""Gradient norms by layer: how much of the gradient reaches each layer, arm by arm, in the order of the network."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from reports import drawing
from reports.comparison import Comparison
from reports.drawing import MUTED, Figure, Panel, short
from reports.numbers import plural, significant
from studies.records import TrialRecord

PREFIX = "gradient_norm/"
MOST_LABELS = 20
Norms = npt.NDArray[np.float64]


def gradients_by_layer(comparison: Comparison) -> Figure | None:
    """A panel per arm, all on one scale; ``None`` where no trial logged its layers."""
    drawn = [
        (index, arm.name, _layers(comparison, arm.name))
        for index, arm in enumerate(comparison.arms)
        if _layers(comparison, arm.name)
    ]
    tables = {name: [_norms(comparison, name, layers, *row) for row in _ROWS] for _, name, layers in drawn}
    finite = np.concatenate([table[table > 0] for three in tables.values() for table in three] or [np.empty(0)])
    if not finite.size:
        return None
    limits = (float(finite.min()) / 1.4, float(finite.max()) * 1.4)
    panels = tuple(
        Panel(
            name=f"gradients-{index + 1}",
            title=f"{short(name, 24)}: gradient norm by layer",
            alternative=_told(name, layers, tables[name]),
            draw=partial(_draw, index, layers, tables[name], limits),
            height_inches=2.9,
        )
        for index, name, layers in drawn
    )
    caption = (
        "Norm of the gradient of each layer's weights, from the input to the output, one scale for all arms. Filled: "
        "last epoch; hollow: first epoch; each the mean over the seeds that finished, shaded from the lowest seed to "
        "the highest. Dotted, with crosses: the last epoch of each seed that diverged, in no mean."
    )
    return Figure(name="gradients", title="Gradient norms by layer", caption=caption, panels=panels)


_ROWS = (("finished", 0), ("finished", -1), ("diverged", -1))


def _layers(comparison: Comparison, arm: str) -> tuple[str, ...]:
    """The layers that the arm's trials logged, in the order in which they did: that of the network."""
    return tuple(
        dict.fromkeys(
            name.removeprefix(PREFIX)
            for trial in _trials(comparison, arm)
            if trial.result
            for name in trial.result.curves
            if name.startswith(PREFIX)
        )
    )


def _trials(comparison: Comparison, arm: str) -> Iterable[TrialRecord]:
    return (trial for trial in comparison.trials if trial.arm == arm and trial.state in ("finished", "diverged"))


def _norms(comparison: Comparison, arm: str, layers: tuple[str, ...], state: str, place: int) -> Norms:
    """Trials x layers at a trial's first or last epoch with a finite norm, NaN where there is none."""
    rows = [
        [_at(trial.result.curves.get(PREFIX + layer, ()), place) for layer in layers]
        for trial in _trials(comparison, arm)
        if trial.state == state and trial.result
    ]
    return np.array(rows, dtype=float).reshape(-1, len(layers))


def _at(curve: Iterable[float], place: int) -> float:
    finite = [value for value in curve if np.isfinite(value)]
    return finite[place] if finite else np.nan


def _draw(index: int, layers: tuple[str, ...], tables: list[Norms], limits: tuple[float, float], axes: Axes) -> None:
    axes.set_ylim(*limits)
    drawing.logarithmic(axes)
    first, last, diverged = tables
    shade = drawing.colour(index)
    _draw_epoch(axes, first, shade, hollow=True)
    _draw_epoch(axes, last, shade, hollow=False)
    for norms in diverged:
        axes.plot(range(len(layers)), norms, color=shade, linewidth=0.8, linestyle=(0, (1, 1.5)), marker="x",
                  markersize=3.5)  # fmt: skip
    every = -(-len(layers) // MOST_LABELS)
    axes.set_xticks(range(0, len(layers), every), [short(layer, 18) for layer in layers[::every]], rotation=90)
    axes.tick_params(axis="x", labelsize=6.5, length=0)
    axes.set_xlim(-0.6, len(layers) - 0.4)
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def _draw_epoch(axes: Axes, norms: Norms, shade: str, *, hollow: bool) -> None:
    places = np.flatnonzero(np.isfinite(norms).any(axis=0)) if len(norms) else np.empty(0, int)
    if not len(places):
        return
    seen = norms[:, places]
    mean, low, high = np.nanmean(seen, axis=0), np.nanmin(seen, axis=0), np.nanmax(seen, axis=0)
    axes.fill_between(places, low, high, color=MUTED if hollow else shade, alpha=0.13, linewidth=0)
    axes.plot(places, mean, color=shade, linewidth=0.9 if hollow else 1.5, linestyle="dashed" if hollow else "solid",
              marker="o", markersize=3.6, markerfacecolor=drawing.PAPER if hollow else shade,
              markeredgewidth=1.0)  # fmt: skip


def _told(name: str, layers: tuple[str, ...], tables: list[Norms]) -> str:
    told = []
    for norms, epoch in zip(tables, ("first epoch", "last epoch"), strict=False):
        if np.isfinite(norms).any():
            means = {
                layer: float(np.nanmean(column))
                for layer, column in zip(layers, norms.T, strict=True)
                if np.isfinite(column).any()
            }
            least, most = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
            told.append(
                f"{epoch}, mean over seeds, from {significant(means[least])} in {least} "
                f"to {significant(means[most])} in {most}"
            )
    if len(tables[2]):
        told.append(f"{plural(len(tables[2]), 'diverged seed')} dotted")
    return f"{name}, {plural(len(layers), 'layer')} from {layers[0]} to {layers[-1]}: {'; '.join(told)}."
