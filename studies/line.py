"""The line that jobs stand in: who may start now. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from studies.jobs import Job

ROUNDING = 1e-6


class Line:
    """Jobs in their order. A job is ready once its donors, where they stand in the line as well, have ended.

    Nobody overtakes a ready job for which there is no room yet: one that takes many GPUs would wait for ever.
    """

    def __init__(self, jobs: Sequence[Job], share: Callable[[Job], float], most: int = 0, retries: int = 0) -> None:
        """A line.

        Args:
            share: which share of all machines a job takes, as they are now.
            most: how many may run at once; 0 for as many as fit.
            retries: how often a job that met a fault may start once more.
        """
        self.jobs, self.share, self.most, self.retries = tuple(jobs), share, most, retries
        self.faults: Counter[int] = Counter()
        self.waiting = list(range(len(self.jobs)))
        self.running: set[int] = set()
        self.undone = {job.folder for job in self.jobs}
        self.elsewhere: set[Path] = set()

    def start(self) -> int | None:
        """The number of the next job, which starts now; ``None`` where none can."""
        if self.most and len(self.running) >= self.most:
            return None
        ready = next((number for number in self.waiting if not self._has_donor_in(self.undone, number)), None)
        if ready is None or not self._has_room_for(ready):
            return None
        self.waiting.remove(ready)
        self.running.add(ready)
        return ready

    def _has_donor_in(self, folders: Collection[Path], number: int) -> bool:
        return any(donor in folders for donor in self.jobs[number].donors)

    def _has_room_for(self, number: int) -> bool:
        taken = sum(self.share(self.jobs[each]) for each in self.running)
        return not self.running or taken + self.share(self.jobs[number]) <= 1 + ROUNDING

    def end(self, number: int, *, elsewhere: bool = False) -> None:
        """Note that a job has ended, here; or that somebody else is at it."""
        self.running.discard(number)
        if elsewhere:
            self.elsewhere.add(self.jobs[number].folder)
        else:
            self.undone.discard(self.jobs[number].folder)

    def fault(self, number: int) -> int:
        """Note that a job met a fault of the machine; gives back how often it has begun if it starts again, else 0."""
        self.faults[number] += 1
        if self.faults[number] > self.retries:
            self.end(number)
            return 0
        self.running.discard(number)
        self.waiting.insert(0, number)
        return self.faults[number]

    @property
    def held(self) -> list[Job]:
        """Jobs of which a donor, or a donor of that, is trained elsewhere: none of them can start here yet."""
        folders, found = set(self.elsewhere), list[Job]()
        for number in self._donors_first():
            if self._has_donor_in(folders, number):
                folders.add(self.jobs[number].folder)
                found.append(self.jobs[number])
        return found

    @property
    def is_over(self) -> bool:
        """Whether no job will start any more."""
        return not self.waiting or (bool(self.elsewhere) and len(self.waiting) == len(self.held))

    def _donors_first(self) -> list[int]:
        """The waiting jobs, each after its donors."""
        ordered, waiting = list[int](), list(self.waiting)
        while waiting:
            folders = {self.jobs[number].folder for number in waiting}
            ordered += [number for number in waiting if not self._has_donor_in(folders, number)]
            waiting = [number for number in waiting if self._has_donor_in(folders, number)]
        return ordered
