"""Tables of a study's trials, shared by the live view and by `ablate status`."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from studies.storage.study_status import StudyStatus, TrialStatus, count_states, remaining_seconds

STATE_STYLES = {
    "waiting": "dim",
    "running": "cyan",
    "interrupted": "magenta",
    "finished": "green",
    "reused": "green",
    "non-finite": "yellow",
    "at chance": "yellow",
    "failed": "red",
    "cancelled": "magenta",
}

STATE_SYMBOLS = {
    "waiting": "·",
    "running": "▸",
    "interrupted": "!",
    "finished": "✓",
    "reused": "=",
    "non-finite": "∞",
    "at chance": "≈",
    "failed": "✗",
    "cancelled": "⊘",
}

ASCII_SYMBOLS = STATE_SYMBOLS | {
    "waiting": ".", "running": ">", "finished": "+", "non-finite": "n", "at chance": "~", "failed": "x",
    "cancelled": "c",
}  # fmt: skip

# Which groups keep their line where there is no room for all: those that need attention first.
STATE_PRIORITY = (
    "running",
    "failed",
    "interrupted",
    "non-finite",
    "at chance",
    "cancelled",
    "waiting",
    "finished",
    "reused",
)
MAX_SYMBOLS = 40  # per group; the trials of a larger group are counted instead
MAX_GROUPS, MAX_RUNNING = 16, 12  # lines of the live view, which must fit on a screen
RIGHT_ALIGNED = ("epoch", "validation error", "left", "mean error")


def state_symbols(console: Console) -> Mapping[str, str]:
    """One character per trial state, ASCII where the console cannot encode more."""
    try:
        "".join(STATE_SYMBOLS.values()).encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return ASCII_SYMBOLS
    return STATE_SYMBOLS


def format_headline(status: StudyStatus) -> str:
    """A study and its state in one line."""
    return f"{status.study} under {status.protocol}: {status.description}"


def render_study(
    trials: Sequence[TrialStatus],
    *,
    symbols: Mapping[str, str] = STATE_SYMBOLS,
    max_groups: int = 0,
    is_running: bool = True,
) -> Group:
    """Render arms, running trials and overall progress, however many trials there are.

    Args:
        max_groups: maximum number of lines for arms, and then ``MAX_RUNNING`` for running trials; 0 for all.
        is_running: whether a process runs the study: otherwise no time is left that one could wait for.
    """
    sections: list[RenderableType] = [render_arms(trials, symbols, max_groups)]
    running = [trial for trial in trials if trial.state in ("running", "interrupted")]
    if running:
        sections += [Text(), _render_running(running, MAX_RUNNING if max_groups else 0)]
    return Group(*sections, Text(), render_totals(trials, symbols, is_running=is_running))


def render_totals(
    trials: Sequence[TrialStatus], symbols: Mapping[str, str] = STATE_SYMBOLS, *, is_running: bool = True
) -> Table:
    """Render the progress of all trials in one line."""
    done, total = count_epochs(trials)
    epochs = f"{done}/{total} epochs, " if total else ""  # those of a study that has not begun are not known
    cells: list[RenderableType] = [
        f"{epochs}{count_ended(trials, '/', ' trials')}",
        format_time_left(remaining_seconds(trials)) if is_running else "",
    ]
    if symbols is STATE_SYMBOLS:  # a console without these symbols has no characters for a bar either
        cells.insert(0, ProgressBar(total=max(1, total), completed=done, width=30))
    line = Table.grid(padding=(0, 1))
    line.add_row(*cells)
    return line


def count_epochs(trials: Iterable[TrialStatus]) -> tuple[int, int]:
    """Epochs that are trained, and all of them, of the trials that are not cancelled."""
    to_train = [trial for trial in trials if trial.state != "cancelled"]
    return sum(trial.epoch for trial in to_train), sum(trial.epochs for trial in to_train)


def count_ended(trials: Sequence[TrialStatus], separator: str, noun: str = "") -> str:
    """How many trials have ended, of those that are not cancelled: ``5 of 7, 1 cancelled``."""
    to_train = [trial for trial in trials if trial.state != "cancelled"]
    num_cancelled = len(trials) - len(to_train)
    cancelled = f", {num_cancelled} cancelled" if num_cancelled else ""
    return f"{sum(trial.has_ended for trial in to_train)}{separator}{len(to_train)}{noun}{cancelled}"


def _make_table(columns: Iterable[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in columns:
        table.add_column(name, justify="right" if name in RIGHT_ALIGNED else "left", no_wrap=name == "trials")
    return table


def render_arms(trials: Sequence[TrialStatus], symbols: Mapping[str, str], max_groups: int = 0) -> Table:
    """Render one line per arm, or per rung of an arm's search: its trials' states and their mean error."""
    groups = group_trials(trials)
    table = _make_table(("arm", "trials", "", "mean error"))
    selected = _select_groups(groups, max_groups)
    omitted: list[TrialStatus] = []
    for name, members in groups.items():
        if name not in selected:
            omitted += members
            continue
        strip = _symbol_strip(members, symbols) if len(members) <= MAX_SYMBOLS else Text(f"{len(members)}")
        table.add_row(name, strip, count_states(members), format_mean_error(members))
    if omitted:
        num_omitted = len(groups) - len(selected)
        table.add_row(f"and {num_omitted} more", f"{len(omitted)}", count_states(omitted), "", style="dim")
    return table


def group_trials(trials: Iterable[TrialStatus]) -> dict[str, list[TrialStatus]]:
    """The trials of each arm, or of each rung of an arm's search, in order."""
    groups: dict[str, list[TrialStatus]] = {}
    for trial in trials:
        groups.setdefault(trial.group, []).append(trial)
    return groups


def _select_groups(groups: Mapping[str, Sequence[TrialStatus]], max_groups: int) -> set[str]:
    """The groups that get a line of their own; one line is left for the count of the others."""
    if not max_groups or len(groups) <= max_groups:
        return set(groups)
    # A group ranks as its most urgent trial.
    ranks = {name: min(map(_state_rank, members)) for name, members in groups.items()}
    return set(sorted(groups, key=ranks.__getitem__)[: max_groups - 1])


def _state_rank(trial: TrialStatus) -> int:
    return STATE_PRIORITY.index(trial.state)


def _symbol_strip(trials: Iterable[TrialStatus], symbols: Mapping[str, str]) -> Text:
    """One character per trial."""
    strip = Text()
    for trial in trials:
        strip.append(symbols[trial.state], STATE_STYLES[trial.state])
    return strip


def format_mean_error(trials: Sequence[TrialStatus]) -> str:
    """Mean final error of the trials that have ended; empty without one."""
    errors = [trial.error for trial in trials if trial.has_ended and not math.isnan(trial.error)]
    return f"{sum(errors) / len(errors):.2f} %" if errors else ""


def _render_running(trials: Sequence[TrialStatus], max_rows: int) -> Table:
    columns = ["trial", "state", "epoch", "validation error", "left"]
    # On one machine the node is always the same; a column of it would say nothing.
    has_remote = any(trial.node not in ("", platform.node()) for trial in trials)
    table = _make_table([*columns, "node"] if has_remote else columns)
    shown = trials[:max_rows] if max_rows else trials
    for trial in shown:
        table.add_row(*running_cells(trial)[: len(table.columns)], style=STATE_STYLES[trial.state])
    if len(shown) < len(trials):
        table.add_row(f"and {len(trials) - len(shown)} more", style="dim")
    return table


def running_cells(trial: TrialStatus) -> tuple[str, ...]:
    """Trial, state, epoch, validation error, time left and node of a running trial."""
    is_retry = trial.num_attempts > 1
    return (
        f"{trial.arm}, seed {trial.seed}",
        f"{trial.state}, attempt {trial.num_attempts}" if is_retry else trial.state,
        f"{trial.epoch}/{trial.epochs}",
        "" if math.isnan(trial.error) else f"{trial.error:.2f} %",
        _format_duration(trial.remaining_seconds),
        trial.node,
    )


def format_time_left(seconds: float) -> str:
    """``about 12 min left``; empty where it is unknown."""
    return "" if math.isnan(seconds) or not seconds else f"about {_format_duration(seconds)} left"


def _format_duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``, ``2 d 4 h``; empty where it is unknown."""
    if math.isnan(seconds):
        return ""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    # Two units are enough: the estimate itself is not more precise.
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
