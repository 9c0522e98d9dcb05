"""A thread that writes to the store while the driver goes on dispatching: no worker waits for a write."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType

MOST_WAITING = 256  # writes; a store that is slower than the trials holds the driver up then, and memory stays bounded

Write = Callable[[], None]


class Writer:
    """Does what it is given, one after the other. Use it as a context, whose end waits for all of it.

    Raises:
        Exception: what a write raised, at the next one or at the end; what waited behind it is not written.
    """

    def __init__(self) -> None:
        self.waiting: queue.Queue[Write | None] = queue.Queue(MOST_WAITING)
        self.fault: BaseException | None = None
        self.thread = threading.Thread(target=self._work, name="writer", daemon=True)

    def __enter__(self) -> Writer:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.waiting.put(None)
        self.thread.join()
        if kind is None:
            self._raise()

    def add(self, write: Write) -> None:
        """Have something written, after all that was given before."""
        self._raise()
        self.waiting.put(write)

    def _work(self) -> None:
        while (write := self.waiting.get()) is not None:
            if self.fault is None:
                try:
                    write()
                except BaseException as fault:  # raised again in the driver's own thread
                    self.fault = fault

    def _raise(self) -> None:
        if self.fault is not None:
            raise self.fault
