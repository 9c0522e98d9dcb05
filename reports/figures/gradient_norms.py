"""Gradient norms by layer, from the input to the output, arm by arm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from lightning_modules.specs.text import format_count
from reports.comparison.comparison import Comparison
from reports.figures import style
from reports.figures.style import MUTED, Figure, Panel, shorten_name
from reports.formatting import format_significant
from studies.records.results import UNTRAINED_STATUSES
from studies.records.study_record import RecordedTrial

GRADIENT_NORM_PREFIX = "gradient_norm/"
MAX_PANELS = 8  # a panel per arm: those of 40 arms would fill ten pages
MAX_LABELS = 20  # layer names that fit below a panel without touching
Norms = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class _ArmNorms:
    """Gradient norms of one arm.

    Each table is trials x layers, NaN where there is no finite norm.

    Attributes:
        index: of the arm among all arms, for its color.
        layers: in the order of the network.
        first_epoch, last_epoch: of the trials that finished.
        untrained: the last epoch with a finite norm of the trials that did not train.
    """

    index: int
    name: str
    layers: tuple[str, ...]
    first_epoch: Norms
    last_epoch: Norms
    untrained: Norms

    @property
    def tables(self) -> tuple[Norms, Norms, Norms]:
        return self.first_epoch, self.last_epoch, self.untrained


def gradient_norms_figure(comparison: Comparison) -> Figure | None:
    """Panel per arm, on one scale; ``None`` where no layers were logged."""
    layers_by_index: dict[int, tuple[str, ...]] = {}
    for index, arm in enumerate(comparison.arms):
        layers = _logged_layers(comparison, arm.name)
        if layers:
            layers_by_index[index] = layers
    indices = list(layers_by_index)
    logged = []
    for position in style.choose_arms(len(indices), MAX_PANELS):
        index = indices[position]
        logged.append(_read_arm_norms(comparison, index, comparison.arms[index].name, layers_by_index[index]))
    limits = _shared_limits(logged)
    if limits is None:
        return None
    panels = []
    for norms in logged:
        panels.append(
            Panel(
                name=f"gradients-{norms.index + 1}",
                title=f"{shorten_name(norms.name, 24)}: gradient norm by layer",
                alternative=_describe_norms(norms),
                draw=partial(_draw_gradient_norms, norms, limits),
                height_inches=2.9,
            )
        )
    caption = (
        "Norm of the gradient of each layer's weights, from the input to the output, on one scale for all arms. "
        "Filled: last epoch; hollow: first epoch; both are means over the finished seeds, shaded from the lowest to "
        "the highest seed. Dotted, with crosses: last epoch of each seed at chance or non-finite, not part of any mean."
    ) + style.describe_choice(len(logged), len(indices))
    return Figure(name="gradients", title="Gradient norms by layer", caption=caption, panels=tuple(panels))


def _read_arm_norms(comparison: Comparison, index: int, arm: str, layers: tuple[str, ...]) -> _ArmNorms:
    return _ArmNorms(
        index=index,
        name=arm,
        layers=layers,
        first_epoch=_collect_norms(comparison, arm, layers, ("finished",), 0),
        last_epoch=_collect_norms(comparison, arm, layers, ("finished",), -1),
        untrained=_collect_norms(comparison, arm, layers, UNTRAINED_STATUSES, -1),
    )


def _shared_limits(arms: Iterable[_ArmNorms]) -> tuple[float, float] | None:
    """Axis limits shared by all panels; ``None`` without a positive norm."""
    positive = [np.empty(0)]
    for norms in arms:
        for table in norms.tables:
            positive.append(table[table > 0])
    values = np.concatenate(positive)
    if not values.size:
        return None
    return float(values.min()) / 1.4, float(values.max()) * 1.4  # 1.4: half a doubling of margin at either end


def _logged_layers(comparison: Comparison, arm: str) -> tuple[str, ...]:
    """Layers that the arm's trials logged, in the order of the network."""
    layers: dict[str, None] = {}  # as an ordered set: a trial that stopped early may have logged fewer layers
    for trial in _ended_trials(comparison, arm):
        for name in trial.result.curves if trial.result else ():
            if name.startswith(GRADIENT_NORM_PREFIX):
                layers.setdefault(name.removeprefix(GRADIENT_NORM_PREFIX))
    return tuple(layers)


def _ended_trials(comparison: Comparison, arm: str) -> Iterable[RecordedTrial]:
    for trial in comparison.trials:
        if trial.arm == arm and trial.state in ("finished", *UNTRAINED_STATUSES):
            yield trial


def _collect_norms(
    comparison: Comparison, arm: str, layers: tuple[str, ...], states: Sequence[str], epoch_index: int
) -> Norms:
    """Collect norms, trials x layers, of a trial's first or last epoch.

    The epoch is the first or last one with a finite norm; NaN where there is none.
    """
    rows = []
    for trial in _ended_trials(comparison, arm):
        if trial.state in states and trial.result:
            curves = trial.result.curves
            rows.append([_select_finite(curves.get(GRADIENT_NORM_PREFIX + layer, ()), epoch_index) for layer in layers])
    return np.array(rows, dtype=float).reshape(-1, len(layers))  # two axes, also without a trial


def _select_finite(curve: Iterable[float], epoch_index: int) -> float:
    finite = list(filter(np.isfinite, curve))
    return finite[epoch_index] if finite else np.nan


def _draw_gradient_norms(norms: _ArmNorms, limits: tuple[float, float], axes: Axes) -> None:
    layers = norms.layers
    axes.set_ylim(*limits)
    style.set_log_scale(axes)
    color = style.arm_color(norms.index)
    for table, epoch in ((norms.first_epoch, "first epoch"), (norms.last_epoch, "last epoch")):
        _draw_epoch(axes, table, color, hollow=epoch == "first epoch")
        for layer, mean in _mean_by_layer(layers, table).items():
            style.add_mark(axes, layers.index(layer), mean, layer, f"{epoch}: {format_significant(mean)}", norms.index)
    for untrained_trial in norms.untrained:
        axes.plot(range(len(layers)), untrained_trial, color=color, linewidth=0.8, linestyle=(0, (1, 1.5)), marker="x",
                  markersize=3.5)  # fmt: skip
    step = -(-len(layers) // MAX_LABELS)  # rounded up: deep networks name every second layer, or fewer
    labels = [shorten_name(layer, 18) for layer in layers[::step]]
    axes.set_xticks(range(0, len(layers), step), labels, rotation=90)
    axes.tick_params(axis="x", labelsize=6.5, length=0)
    axes.set_xlim(-0.6, len(layers) - 0.4)
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def _draw_epoch(axes: Axes, norms: Norms, color: str, *, hollow: bool) -> None:
    """Draw mean and range over the trials of one epoch."""
    if not len(norms):
        return
    # Layers that no trial logged are left out: the mean of a column of NaN would warn.
    columns = np.flatnonzero(np.isfinite(norms).any(axis=0))
    if not len(columns):
        return
    logged = norms[:, columns]
    mean, low, high = np.nanmean(logged, axis=0), np.nanmin(logged, axis=0), np.nanmax(logged, axis=0)
    axes.fill_between(columns, low, high, color=MUTED if hollow else color, alpha=0.13, linewidth=0)
    axes.plot(columns, mean, color=color, linewidth=0.9 if hollow else 1.5, linestyle="dashed" if hollow else "solid",
              marker="o", markersize=3.6, markerfacecolor=style.PAPER if hollow else color,
              markeredgewidth=1.0)  # fmt: skip


def _describe_norms(norms: _ArmNorms) -> str:
    descriptions = []
    for table, epoch in ((norms.first_epoch, "first epoch"), (norms.last_epoch, "last epoch")):
        means = _mean_by_layer(norms.layers, table)
        if means:
            least, most = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
            descriptions.append(
                f"{epoch}, mean over seeds, from {format_significant(means[least])} in {least} "
                f"to {format_significant(means[most])} in {most}"
            )
    if len(norms.untrained):
        descriptions.append(f"{format_count(len(norms.untrained), 'untrained seed')} dotted")
    layers = f"{format_count(len(norms.layers), 'layer')} from {norms.layers[0]} to {norms.layers[-1]}"
    return f"{norms.name}, {layers}: {'; '.join(descriptions)}."


def _mean_by_layer(layers: Sequence[str], table: Norms) -> dict[str, float]:
    """Mean over the trials by layer; layers without a norm are left out."""
    means = {}
    for layer, column in zip(layers, table.T, strict=True):
        if np.isfinite(column).any():
            means[layer] = float(np.nanmean(column))
    return means
