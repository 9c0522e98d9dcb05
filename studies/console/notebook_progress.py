"""Live progress of a running study in a notebook: one output that is replaced, and stays as it ended."""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_modules.specs.notebook_html import render_line, render_list, render_table, render_view
from studies.console.study_view import (
    MAX_RUNNING,
    count_ended,
    count_epochs,
    format_mean_error,
    format_time_left,
    group_trials,
    running_cells,
)
from studies.storage.study_status import TrialStatus, count_states, remaining_seconds

SECONDS_BETWEEN_UPDATES = 0.5  # each is a message to the browser, and a study ends up to hundreds of epochs a second


class NotebookProgress:
    """An output of a notebook's cell that shows a study's trials.

    Attributes:
        messages: lines that stay below the tables.
    """

    def __init__(self) -> None:
        # IPython has no annotations, and is there only in a notebook.
        self._display: Any = importlib.import_module("IPython.display")
        self.messages: list[str] = []
        self._handle = self._display.display(self._display.HTML(""), display_id=True)
        self._last_update = 0.0

    def update(self, trials: Mapping[str, TrialStatus], *, has_ended: bool = False) -> None:
        """Replace the output, at most twice a second; at the end always."""
        now = time.monotonic()
        if has_ended or now - self._last_update >= SECONDS_BETWEEN_UPDATES:
            self._last_update = now
            self._handle.update(self._display.HTML(render_progress(list(trials.values()), self.messages, has_ended)))


def render_progress(trials: Sequence[TrialStatus], messages: Sequence[str], has_ended: bool) -> str:
    """Render arms, running trials and overall progress as HTML."""
    num_epochs, total_epochs = count_epochs(trials)
    arms = []
    for group, members in group_trials(trials).items():
        arms.append((group, count_states(members), format_mean_error(members)))
    running = [] if has_ended else [trial for trial in trials if trial.state in ("running", "interrupted")]
    time_left = "" if has_ended else format_time_left(remaining_seconds(trials))
    bar = f'<progress style="width:24em" max="{max(1, total_epochs)}" value="{num_epochs}"></progress>'
    return render_view(
        f"{count_ended(trials, ' of ', ' trials')}, {num_epochs:,} of {total_epochs:,} epochs",
        bar,
        render_line(time_left, quiet=True),
        render_table(("arm", "trials", "mean error"), arms, numbers=(2,)),
        render_table(
            ("running", "state", "epoch", "validation error", "left", "node"),
            [running_cells(trial) for trial in running[:MAX_RUNNING]],
            numbers=(2, 3, 4),
        ),
        render_list(messages),
    )
