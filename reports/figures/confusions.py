"""Confusion matrices, one panel an arm: which class is taken for which."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from reports.analysis.classes.confusions import ArmConfusions, Confusions
from reports.comparison.comparison import Comparison
from reports.figures import style
from reports.figures.style import RULE, Figure, Panel, shorten_name
from reports.formatting import format_fixed

CONFUSIONS_FIGURE = "confusions"
MAX_PANELS = 8
MAX_CLASSES = 12  # of a panel; of more, those whose error changes most in any arm
MIN_SHARE = 0.05  # percent; smaller shares are left blank
CELL_INCHES = 0.24


def confusions_figure(comparison: Comparison) -> Figure | None:
    """The figure; ``None`` without stored predictions."""
    confusions = comparison.confusions
    if confusions is None or len(confusions.class_names) < 2:
        return None
    classes = _choose_classes(confusions)
    chosen = [confusions.arms[position] for position in style.choose_arms(len(confusions.arms), MAX_PANELS)]
    highest = max(float(np.nanmax(_wrong_shares(arm, classes), initial=0.0)) for arm in chosen)
    if highest < MIN_SHARE:
        return None
    names = [confusions.class_names[index] for index in classes]
    panels = []
    for arm in chosen:
        index = comparison.registration.arms.index(arm.arm)
        panels.append(
            Panel(
                name=f"confusions-{index + 1}",
                title=f"{shorten_name(arm.arm, 30)}: answers by true class",
                alternative=_describe_panel(arm, names, classes),
                draw=partial(_draw_matrix, arm, index, names, classes, highest),
                height_inches=0.75 + CELL_INCHES * len(classes),
            )
        )
    caption = (
        "Rows: true classes; columns: answers. The darker a square, the more of the row's test examples get that wrong "
        f"answer (darkest: {format_fixed(highest, 1)}%, on a square-root scale; mean over the finished networks). On "
        "the diagonal: the error on the class, in percent."
    )
    if len(classes) < len(confusions.class_names):
        caption += f" Shown: the {len(classes)} of {len(confusions.class_names)} classes whose error changes most."
    caption += style.describe_choice(len(chosen), len(confusions.arms))
    return Figure(name=CONFUSIONS_FIGURE, title="Confusion matrices", caption=caption, panels=tuple(panels))


def _choose_classes(confusions: Confusions) -> list[int]:
    num_classes = len(confusions.class_names)
    if num_classes <= MAX_CLASSES:
        return list(range(num_classes))
    errors = np.array([arm.class_errors for arm in confusions.arms])
    spread = np.nan_to_num(errors.max(axis=0) - errors.min(axis=0))
    return sorted(map(int, np.argsort(-spread, kind="stable")[:MAX_CLASSES]))


def _wrong_shares(arm: ArmConfusions, classes: list[int]) -> npt.NDArray[np.float64]:
    shares = arm.shares[np.ix_(classes, classes)].copy()
    np.fill_diagonal(shares, 0)
    return shares


def _draw_matrix(
    arm: ArmConfusions, arm_index: int, names: list[str], classes: list[int], highest: float, axes: Axes
) -> None:
    shares = _wrong_shares(arm, classes)
    count = len(classes)
    color = style.arm_color(arm_index)
    for row in range(count):
        for column in range(count):
            share, height = float(shares[row, column]), count - 1 - row
            if row == column:
                error = float(arm.class_errors[classes[row]])
                text = format_fixed(error, 0 if error >= 9.95 else 1)
                axes.text(column, height, text, ha="center", va="center", fontsize=6, color=style.MUTED)
                style.add_mark(axes, column, height, names[row], f"error {format_fixed(error, 1)}%", arm_index)
            elif share >= MIN_SHARE:
                axes.add_patch(Rectangle((column - 0.46, height - 0.46), 0.92, 0.92, color=color, linewidth=0,
                                         alpha=round((share / highest) ** 0.5, 2)))  # fmt: skip
                label = f"{names[row]} taken for {names[column]}"
                style.add_mark(axes, column, height, label, f"{format_fixed(share, 1)}% of its examples", arm_index)
    labels = [shorten_name(name, 12) for name in names]
    axes.set_yticks([count - 1 - row for row in range(count)], labels)
    is_long = max(map(len, labels)) > 2
    axes.set_xticks(range(count), labels, rotation=90 if is_long else 0)
    axes.tick_params(axis="both", length=0, labelcolor=style.INK)
    axes.set(xlim=(-0.5, count - 0.5), ylim=(-0.5, count - 0.5), aspect="equal")
    for edge in range(count + 1):
        axes.axhline(edge - 0.5, color=RULE, linewidth=0.4, zorder=0)
        axes.axvline(edge - 0.5, color=RULE, linewidth=0.4, zorder=0)


def _describe_panel(arm: ArmConfusions, names: list[str], classes: list[int]) -> str:
    shares = _wrong_shares(arm, classes)
    order = np.argsort(-np.nan_to_num(shares), axis=None)[:3]
    found = []
    for place in order:
        row, column = divmod(int(place), len(classes))
        if shares[row, column] > 0:
            found.append(f"{names[row]} taken for {names[column]} {format_fixed(float(shares[row, column]), 1)}%")
    return f"Most frequent confusions of {arm.arm}: {'; '.join(found) or 'none'}."
