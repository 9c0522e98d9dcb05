"""What to do with trials that another process is training: wait for its result, or take them over when it is gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from studies.child import who_trains
from studies.jobs import Job
from studies.spool import Spool

LOOK_EVERY_SECONDS = 1.0


class Waiting(Protocol):
    """Who wants to know that a trial has ended elsewhere."""

    def on_end(self, job: Job) -> None:
        """Its result is written."""


def wait_for_others(
    jobs: Sequence[Job],
    watcher: Waiting,
    pause: Callable[[], None] = lambda: time.sleep(LOOK_EVERY_SECONDS),
    *,
    until_one: bool = False,
) -> list[Job]:
    """Wait until every job has ended, or may be trained here; gives back those left, as soon as there is one of these.

    Args:
        pause: called between two looks at the trials' folders.
        until_one: come back as soon as any job has ended: others start from it.
    """
    remaining = list(jobs)
    free: list[Job] = []
    while remaining and not free and not (until_one and len(remaining) < len(jobs)):
        held = [job for job in remaining if who_trains(job)]
        for job in remaining:
            if job not in held and has_ended(job):
                watcher.on_end(job)
            elif job not in held:
                free.append(job)
        remaining = held
        if remaining and not free:
            pause()
    return [*free, *remaining]


def has_ended(job: Job) -> bool:
    """Whether a trial has finished or diverged, and its folder holds its result, and weights where it trains any."""
    return Spool(job.folder).is_complete(trains=job.fit.setup.trains)
