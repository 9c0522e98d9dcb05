"""How far a search has come after so many candidates, arm by arm."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from reports import drawing
from reports.comparison import Comparison
from reports.drawing import Figure, Panel, short
from reports.numbers import fixed
from reports.tuning import Budget


def search_curves(comparison: Comparison) -> Figure | None:
    """The expected best validation error by number of candidates; ``None`` where nothing was tuned."""
    if comparison.tuned is None:
        return None
    tuning, arms = comparison.tuned.budgets.tuning, comparison.tuned.budgets.arms
    if not any(budget.expected for budget in arms):
        return None
    how = (
        "Best so far, in the order of the search" if tuning.sampler == "tpe" else "Expected best of so many candidates"
    )
    share = tuning.schedule[0].share
    length = "" if share == 1 else f", each trained for {share:.3g} of the epochs, the first rung"
    told = "; ".join(
        f"{budget.arm} from {fixed(budget.expected[0], 1)} to {fixed(budget.expected[-1], 1)}"
        for budget in arms
        if budget.expected
    )
    panel = Panel(
        name="search",
        title="Best error on validation, %",
        alternative=f"{how}, percent on validation, from one candidate to all: {told}.",
        draw=lambda axes: _draw(axes, arms),
    )
    caption = (
        f"{how}{length}. Where a curve still falls at its right end, more candidates would help that arm; curves that "
        "are flat before it say that the budget was large enough."
    )
    return Figure(name="search", title="What the search has found", caption=caption, panels=(panel,))


def _draw(axes: Axes, arms: Sequence[Budget]) -> None:
    highest = max(max(budget.expected) for budget in arms if budget.expected)
    drawing.square_root(axes, max(1.0, min(100.0, 1.05 * highest)))
    ends = []
    for index, budget in enumerate(arms):
        if budget.expected:
            counts = range(1, len(budget.expected) + 1)
            axes.plot(counts, budget.expected, color=drawing.colour(index), linestyle=drawing.line(index),
                      marker=drawing.marker(index), markersize=3)  # fmt: skip
            ends.append((short(budget.arm), index, budget.expected[-1]))
    axes.set_xlabel("candidates")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    drawing.name_ends(axes, ends)
