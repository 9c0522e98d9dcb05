"""What a person sees of a study: tables that stay in place on a terminal while it runs, plain lines elsewhere."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from studies.board import Board, Row, counted, left_seconds

STYLES = {
    "waiting": "dim",
    "running": "cyan",
    "interrupted": "magenta",
    "finished": "green",
    "reused": "green",
    "diverged": "yellow",
    "failed": "red",
}
SIGNS = {
    "waiting": "·",
    "running": "▸",
    "interrupted": "!",
    "finished": "✓",
    "reused": "=",
    "diverged": "≈",
    "failed": "✗",
}
PLAIN_SIGNS = SIGNS | {"waiting": ".", "running": ">", "finished": "+", "diverged": "~", "failed": "x"}
MOST_SIGNS = 40  # of one group; more are counted instead
MOST_GROUPS, MOST_RUNNING = 16, 12  # lines of the live view, which must fit on a screen


class Progressing:
    """The live view of a study. Use it as a context."""

    def __init__(self, rows: Sequence[Row], to_do: int, console: Console | None = None, *, quiet: bool = False) -> None:
        self.rows = {row.folder: row for row in rows}
        self.console = console or Console(stderr=True, quiet=quiet, markup=False)
        self.started_at: dict[str, float] = {}
        self.seconds: dict[str, list[float]] = {}
        self.to_do, self.ended = to_do, 0
        self.live = Live(console=self.console, get_renderable=self.render, refresh_per_second=4, transient=True)

    def __enter__(self) -> Progressing:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def started(self, folder: str) -> None:
        """A trial has a worker."""
        row = self.rows[folder]
        row.state, row.attempts, row.node = "running", row.attempts + 1, ""
        self.started_at[folder] = time.monotonic()

    def epoch(self, folder: str, values: Mapping[str, float], node: str = "") -> None:
        """A trial has trained an epoch."""
        row, seconds = self.rows[folder], self.seconds.setdefault(folder, [])
        seconds.append(values["seconds"])
        row.epoch, row.error, row.node = int(values["epoch"]) + 1, values["validation_error"], node
        row.pace = sum(seconds) / len(seconds)

    def finished(self, folder: str, state: str, error: float | None) -> None:
        """A trial has ended: one lasting line, with its error on the part of the data that its row names."""
        row = self.rows[folder]
        row.state, row.epoch, row.error = state, row.epochs, math.nan if error is None else error
        self.ended += 1
        outcome = f", {row.part} error {error:.2f} %" if error is not None else ""
        again = f" (attempt {row.attempts})" if row.attempts > 1 else ""
        began = self.started_at.get(folder)  # none of a trial that never had a worker
        took = f"{',' if outcome else ''} in {time.monotonic() - began:.0f} s" if began is not None else ""
        line = f"[{self.ended:>3}/{self.to_do}] {row.arm}, seed {row.seed}: {state}{again}{outcome}{took}"
        self.console.print(Text(line, style=STYLES.get(state, "")), highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """A lasting line of news."""
        self.console.print(Text(text, style="yellow"), highlight=False, soft_wrap=True)

    def render(self) -> Group:
        """The arms, the trials that run now, and how far all of them are."""
        return screen(list(self.rows.values()), signs=signs_of(self.console), most_groups=MOST_GROUPS)


def signs_of(console: Console) -> Mapping[str, str]:
    """One character per state, such as the console can show."""
    try:
        "".join(SIGNS.values()).encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return PLAIN_SIGNS
    return SIGNS


def screen(rows: Sequence[Row], *, signs: Mapping[str, str] = SIGNS, most_groups: int = 0) -> Group:
    """Rows as a person wants to see them, however many there are.

    Args:
        most_groups: lines for arms; 0 for all. The trials that run now have at most ``MOST_RUNNING`` then.
    """
    parts: list[RenderableType] = [_groups(rows, signs, most_groups)]
    running = [row for row in rows if row.state in ("running", "interrupted")]
    if running:
        parts += [Text(), _running(running, MOST_RUNNING if most_groups else 0)]
    return Group(*parts, Text(), overall(rows, signs))


def overall(rows: Sequence[Row], signs: Mapping[str, str] = SIGNS) -> Table:
    """How far all trials are, in one line."""
    done, total = sum(row.epoch for row in rows), sum(row.epochs for row in rows)
    line = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=max(1, total), completed=done, width=30)
    told = f"{done}/{total} epochs, {sum(row.has_ended for row in rows)}/{len(rows)} trials"
    line.add_row(*([bar] if signs is SIGNS else []), told, _left(left_seconds(rows)))
    return line


def headline(board: Board) -> str:
    """A study and its state in a line."""
    return f"{board.study} under {board.protocol}: {board.words}"


def _groups(rows: Sequence[Row], signs: Mapping[str, str], most: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("arm", "trials", "", "mean error"):
        table.add_column(name, justify="right" if name == "mean error" else "left", no_wrap=name == "trials")
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    shown = _shown(groups, most)
    for name in shown:
        members = groups[name]
        strip = _strip(members, signs) if len(members) <= MOST_SIGNS else Text(f"{len(members)}")
        table.add_row(name, strip, counted(members), _mean_error(members))
    if len(shown) < len(groups):
        rest = [row for name in groups if name not in shown for row in groups[name]]
        table.add_row(f"and {len(groups) - len(shown)} more", f"{len(rest)}", counted(rest), "", style="dim")
    return table


def _shown(groups: Mapping[str, Sequence[Row]], most: int) -> list[str]:
    """Which groups get a line where not all can: those where something happens, in their order."""
    if not most or len(groups) <= most:
        return list(groups)
    ranks = {name: min(map(_rank, members)) for name, members in groups.items()}
    chosen = set(sorted(groups, key=lambda name: ranks[name])[: most - 1])
    return [name for name in groups if name in chosen]


def _rank(row: Row) -> int:
    return ("running", "failed", "interrupted", "diverged", "waiting", "finished", "reused").index(row.state)


def _strip(rows: Iterable[Row], signs: Mapping[str, str]) -> Text:
    """One character per trial."""
    return Text.assemble(*((signs[row.state], STYLES[row.state]) for row in rows))


def _mean_error(rows: Sequence[Row]) -> str:
    errors = [row.error for row in rows if row.has_ended and not math.isnan(row.error)]
    return f"{sum(errors) / len(errors):.2f} %" if errors else ""


def _running(rows: Sequence[Row], most: int) -> Table:
    shown = rows[:most] if most else rows
    elsewhere = any(row.node not in ("", platform.node()) for row in rows)
    columns: dict[str, Callable[[Row], str]] = {
        "trial": lambda row: f"{row.arm}, seed {row.seed}",
        "state": lambda row: f"{row.state}, attempt {row.attempts}" if row.attempts > 1 else row.state,
        "epoch": lambda row: f"{row.epoch}/{row.epochs}",
        "validation error": lambda row: "" if math.isnan(row.error) else f"{row.error:.2f} %",
        "left": lambda row: _duration(row.left_seconds),
    } | ({"node": lambda row: row.node} if elsewhere else {})
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in columns:
        table.add_column(name, justify="right" if name in ("epoch", "validation error", "left") else "left")
    for row in shown:
        table.add_row(*(cell(row) for cell in columns.values()), style=STYLES[row.state])
    if len(shown) < len(rows):
        table.add_row(f"and {len(rows) - len(shown)} more", style="dim")
    return table


def _left(seconds: float) -> str:
    return "" if math.isnan(seconds) or not seconds else f"about {_duration(seconds)} left"


def _duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``, ``2 d 4 h``; empty where it is not known."""
    if math.isnan(seconds):
        return ""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
