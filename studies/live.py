"""What a person sees while a study runs: a table that stays in place on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

STYLES = {"waiting": "dim", "running": "cyan", "finished": "green", "diverged": "yellow", "failed": "red"}


@dataclass
class Row:
    """One trial as the view shows it; errors in percent."""

    arm: str
    seed: int
    epochs: int
    state: str = "waiting"
    epoch: int = 0
    error: float = float("nan")
    started: float = 0.0
    seconds: list[float] = field(default_factory=list)

    @property
    def left_seconds(self) -> float:
        """Time left at the pace of the epochs so far."""
        pace = sum(self.seconds) / len(self.seconds) if self.seconds else 0.0
        return (self.epochs - self.epoch) * pace


class Progressing:
    """The live view of a study. Use it as a context."""

    def __init__(self, rows: Sequence[Row], console: Console | None = None, *, quiet: bool = False) -> None:
        self.rows = {(row.arm, row.seed): row for row in rows}
        self.console = console or Console(stderr=True, quiet=quiet, markup=False)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
        )
        self.task = self.progress.add_task("epochs", total=sum(row.epochs for row in rows))
        self.ended = 0
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

    def started(self, arm: str, seed: int) -> None:
        """A trial has a worker."""
        row = self.rows[arm, seed]
        row.state, row.started = "running", time.monotonic()

    def epoch(self, arm: str, seed: int, values: Mapping[str, float]) -> None:
        """A trial has trained an epoch."""
        row = self.rows[arm, seed]
        row.epoch, row.error = int(values["epoch"]) + 1, values["validation_error"]
        row.seconds.append(values["seconds"])
        self.progress.update(self.task, completed=sum(row.epoch for row in self.rows.values()))

    def finished(self, arm: str, seed: int, state: str, error: float | None, part: str = "test") -> None:
        """A trial has ended: one lasting line, with its error on a part of the data."""
        row = self.rows[arm, seed]
        row.state, row.epoch = state, row.epochs
        self.ended += 1
        outcome = f"{part} error {error:.2f} %" if error is not None else ""
        seconds = time.monotonic() - row.started
        line = f"[{self.ended:>3}/{len(self.rows)}] {arm}, seed {seed}: {state} {outcome} in {seconds:.0f} s"
        self.console.print(Text(line, style=STYLES.get(state, "")), highlight=False)

    def note(self, text: str) -> None:
        """A lasting line of news."""
        self.console.print(Text(text, style="yellow"), highlight=False)

    def render(self) -> Group:
        """The trials that run now, and how far all of them are."""
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in ("arm", "seed", "epoch", "validation error", "left"):
            table.add_column(name, justify="left" if name == "arm" else "right")
        for row in self.rows.values():
            if row.state == "running":
                error = "" if row.error != row.error else f"{row.error:.2f} %"
                table.add_row(row.arm, str(row.seed), f"{row.epoch}/{row.epochs}", error, f"{row.left_seconds:.0f} s")
        return Group(table, self.progress)
