"""How a running trial reports.

Callbacks for epochs, log lines and heartbeats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from studies.settings import CHECKPOINT_INTERVAL_SECONDS

EpochCallback = Callable[[Mapping[str, float]], None]
Item = TypeVar("Item")


def do_nothing(*_: object) -> None:
    """Ignore whatever is reported."""


@dataclass(frozen=True, kw_only=True)
class TrialCallbacks:
    """Receivers of a trial's progress, and the checkpoint interval.

    Attributes:
        on_epoch: called with an epoch's number, end time and curves.
        log: called with a log line.
        heartbeat: called at every batch, trained on or evaluated; a trial without heartbeats counts as hung.
    """

    on_epoch: EpochCallback = do_nothing
    log: Callable[[str], None] = do_nothing
    heartbeat: Callable[[], None] = do_nothing
    checkpoint_seconds: float = CHECKPOINT_INTERVAL_SECONDS


def with_heartbeats(batches: Iterable[Item], heartbeat: Callable[[], None]) -> Iterator[Item]:
    """The same batches, with a heartbeat before each."""
    for batch in batches:
        heartbeat()
        yield batch
