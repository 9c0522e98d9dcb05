"""Keep a Ctrl-C or a SIGTERM from being lost while Ray starts and Tune runs."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

LAST_SECONDS = 6.0  # for what is done before a process is ended that cannot end by itself

_waits_for_ray = threading.Event()
_last_actions: list[Callable[[], None]] = []


@contextmanager
def waiting_for_ray() -> Iterator[None]:
    """Mark a block that waits for Ray's servers, in C++ perhaps, where no signal is seen."""
    _waits_for_ray.set()
    try:
        yield
    finally:
        _waits_for_ray.clear()


def is_waiting_for_ray() -> bool:
    """Whether a thread is in such a block."""
    return _waits_for_ray.is_set()


@contextmanager
def before_late_end(action: Callable[[], None]) -> Iterator[None]:
    """Within the block, have an action done if this process has to be ended while it waits for Ray.

    Args:
        action: is done in another thread than the one that waits.
    """
    _last_actions.append(action)
    try:
        yield
    finally:
        _last_actions.remove(action)


def run_last_actions(limit_seconds: float = LAST_SECONDS) -> None:
    """Do what is registered to be done before this process is ended, in this time at most; errors are ignored."""

    def run() -> None:
        for action in reversed(_last_actions):
            with suppress(Exception):  # the process ends now, whatever becomes of it: the next start does it again
                action()

    thread = threading.Thread(target=run, name="last-actions", daemon=True)
    thread.start()
    thread.join(limit_seconds)


@contextmanager
def keep_interrupt_handler() -> Iterator[None]:
    """Restore the SIGINT handler at the end of the block.

    Ray Tune leaves a handler of its own behind, which swallows the next Ctrl-C, for example between two rounds of
    tuning.
    """
    if not _is_main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


@contextmanager
def keep_termination_handler() -> Iterator[None]:
    """Restore the handler of SIGTERM at the end of the block, from any thread.

    Ray's core installs one of its own, in C++, which dumps a stack trace and ends the process with its trials
    unrecorded. Python's own functions change handlers in the main thread alone, and Ray starts in another one.
    """
    handler = signal.getsignal(signal.SIGTERM)
    python_api = ctypes.pythonapi
    python_api.PyOS_getsig.restype = ctypes.c_void_p
    python_api.PyOS_setsig.restype = ctypes.c_void_p
    native_handler = python_api.PyOS_getsig(int(signal.SIGTERM))
    try:
        yield
    finally:
        if _is_main_thread() and handler is not None:
            signal.signal(signal.SIGTERM, handler)
        python_api.PyOS_setsig(int(signal.SIGTERM), ctypes.c_void_p(native_handler))


@contextmanager
def record_interrupts() -> Iterator[threading.Event]:
    """Record every Ctrl-C within the block; the caller raises ``KeyboardInterrupt`` where the event is set.

    A Ctrl-C is raised at once as well, but Python drops an exception that is raised in a callback of its own: a weak
    reference's, or those around the forks by which Ray starts its processes. Without a record the study would go on.
    In a forked child the signal is ignored: there it would only print a traceback.
    """
    received = threading.Event()
    with keep_interrupt_handler():
        handler = signal.getsignal(signal.SIGINT)
        if handler is not signal.default_int_handler or not _is_main_thread():
            yield received  # whoever installed that handler records for itself; other threads get no signals
            return
        process_id = os.getpid()

        def record(number: int, frame: FrameType | None) -> None:
            if os.getpid() == process_id:
                received.set()
                signal.default_int_handler(number, frame)

        def report_unless_interrupt(unraisable: Any) -> None:
            if not issubclass(unraisable.exc_type, KeyboardInterrupt):
                report(unraisable)

        report, sys.unraisablehook = sys.unraisablehook, report_unless_interrupt
        signal.signal(signal.SIGINT, record)
        try:
            yield received
        finally:
            sys.unraisablehook = report


def _is_main_thread() -> bool:
    """Whether this thread receives signals and may set their handlers."""
    return threading.current_thread() is threading.main_thread()
