"""Write to the tracking store from a thread, so that trials are dispatched without waiting for it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType

# Writes; with a store that is slower than the trials, the driver waits here rather than letting memory grow.
MAX_PENDING_WRITES = 256
Write = Callable[[], None]


class BackgroundWriter:
    """Executes writes one after the other in a thread of its own.

    Use it as a context: leaving it waits for all pending writes.

    Raises:
        Exception: the first that a write raised, at the next call or at the end; later writes are dropped.
    """

    def __init__(self) -> None:
        self.pending: queue.Queue[Write | None] = queue.Queue(MAX_PENDING_WRITES)
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._write_pending, name="writer", daemon=True)

    def __enter__(self) -> BackgroundWriter:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pending.put(None)
        self.thread.join()
        if kind is None:
            self._raise_error()

    def add(self, write: Write) -> None:
        """Queue a write behind all earlier ones."""
        self._raise_error()
        self.pending.put(write)

    def _write_pending(self) -> None:
        while (write := self.pending.get()) is not None:
            if self.error is None:
                try:
                    write()
                except BaseException as error:  # raised again in the driver's own thread
                    self.error = error

    def _raise_error(self) -> None:
        if self.error is not None:
            raise self.error
