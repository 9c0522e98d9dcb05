"""Live progress of a running study: tables that stay in place on a terminal or in a notebook, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from studies.console.notebook_progress import NotebookProgress
from studies.console.study_view import MAX_GROUPS, STATE_STYLES, render_study, state_symbols
from studies.storage.study_status import TrialStatus


class StudyProgress:
    """The live view of a study, a context manager.

    On a terminal it redraws the tables, in a notebook it replaces its output; anywhere else it only prints a line per
    ended trial, as a log needs.
    """

    def __init__(
        self, trials: Sequence[TrialStatus], num_trials: int, console: Console | None = None, *, quiet: bool = False
    ) -> None:
        self.trials = {trial.folder: trial for trial in trials}
        # On standard error, so that standard output holds only what a command returns.
        self.console = console or Console(stderr=True, quiet=quiet, markup=False)
        self.started_at: dict[str, float] = {}
        self.epoch_seconds: dict[str, list[float]] = {}
        self.num_trials, self.num_ended = num_trials, 0
        # transient: the tables vanish at the end, and the lines of ended trials stay.
        self.notebook = NotebookProgress() if self.console.is_jupyter and not quiet else None
        self.live = Live(console=self.console, get_renderable=self.render, refresh_per_second=4, transient=True)

    def __enter__(self) -> StudyProgress:
        if self.console.is_terminal:
            self.live.start()
        self._update_notebook()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self.live.stop()
        self._update_notebook(has_ended=True)

    def _update_notebook(self, *, has_ended: bool = False) -> None:
        if self.notebook:
            self.notebook.update(self.trials, has_ended=has_ended)

    def start_trial(self, folder: str, bundle_size: int = 1) -> None:
        """Show a trial as running: a worker has started it, with others of its bundle."""
        trial = self.trials[folder]
        trial.bundle_size = bundle_size
        # The node is known only with the first epoch.
        trial.state, trial.num_attempts, trial.node = "running", trial.num_attempts + 1, ""
        self.started_at[folder] = time.monotonic()
        self._update_notebook()

    def wait_for_trial(self, folder: str) -> None:
        """Show a trial as waiting again: another process trains it, and nothing was started here."""
        trial = self.trials[folder]
        trial.state, trial.num_attempts = "waiting", max(0, trial.num_attempts - 1)
        self.started_at.pop(folder, None)

    def log_epoch(self, folder: str, values: Mapping[str, float], node: str = "") -> None:
        """Show a trained epoch of a trial."""
        seconds = self.epoch_seconds.setdefault(folder, [])
        seconds.append(values["seconds"])
        trial = self.trials[folder]
        # Epochs count from 0 in the curves, and are shown as the number of trained ones.
        trial.epoch, trial.error, trial.node = int(values["epoch"]) + 1, values["validation_error"], node
        trial.seconds_per_epoch = sum(seconds) / len(seconds)
        self._update_notebook()

    def finish_trial(self, folder: str, state: str, error: float | None) -> None:
        """Show a trial as ended, and print a lasting line with its final error, in percent."""
        trial = self.trials[folder]
        trial.state, trial.epoch, trial.error = state, trial.epochs, math.nan if error is None else error
        self.num_ended += 1
        if self.notebook:  # its table counts the trial; a line for each would fill the cell
            self._update_notebook()
            return
        line = f"[{self.num_ended:>3}/{self.num_trials}] {trial.arm}, seed {trial.seed}: {state}"
        if trial.num_attempts > 1:
            line += f" (attempt {trial.num_attempts})"
        if error is not None:
            line += f", {trial.part} error {error:.2f} %"
        if folder in self.started_at:  # otherwise it failed before a worker started it
            comma = "," if error is not None else ""
            line += f"{comma} in {time.monotonic() - self.started_at[folder]:.0f} s"
            line += f", in a bundle of {trial.bundle_size}" if trial.bundle_size > 1 else ""
        self.console.print(Text(line, style=STATE_STYLES.get(state, "")), highlight=False, soft_wrap=True)

    def print_message(self, text: str) -> None:
        """Print a lasting line."""
        if self.notebook:
            self.notebook.messages.append(text)
            self._update_notebook()
            return
        self.console.print(Text(text, style="yellow"), highlight=False, soft_wrap=True)

    def render(self) -> Group:
        """Render the tables as they are now."""
        return render_study(list(self.trials.values()), symbols=state_symbols(self.console), max_groups=MAX_GROUPS)


@contextmanager
def show_activity(text: str, *, only_on_terminal: bool = False) -> Iterator[Callable[[str], None]]:
    """Show on stderr what takes time: a line that is replaced on a terminal, elsewhere one that stays.

    Yields:
        Replaces the line on a terminal.
    """
    console = Console(stderr=True, markup=False, highlight=False)
    if not (console.is_terminal or only_on_terminal):
        console.print(Text(text), soft_wrap=True)
    with console.status(Text(text)) as status:
        yield lambda new_text: status.update(Text(new_text))
