"""Ray and the server of processes, started beside the planning of a study that will need them: each takes seconds."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import FrameType
from typing import Any

from studies.forks import server_ahead
from studies.resources import Resources, choose_ray
from studies.settings import Settings
from studies.trials import Study

_on_its_way: list[tuple[Future[None], threading.Event]] = []  # at most one, with what says that it may end
_interrupted = threading.Event()


@contextmanager
def ray_ahead(study: Study, settings: Settings, resources: Resources) -> Iterator[None]:
    """Start Ray in a thread, and what trials are forked from, where one was never begun here; end both with this.

    Whoever needs it waits for it (:func:`wait`). The thread lives as long as Ray does: with the thread that started
    them the kernel would end Ray's processes. A Ctrl-C within this is raised, when somebody waits at the latest.
    """
    with _interrupts_noted():
        if _on_its_way or resources.address or not _has_new_trials(study, settings):
            yield
            return
        choose_ray(resources.address)
        with server_ahead():
            started, is_over = Future[None](), threading.Event()
            thread = threading.Thread(target=_keep, args=(started, is_over), name="ray-ahead")
            thread.start()
            _on_its_way.append((started, is_over))
            try:
                yield
            finally:
                is_over.set()
                thread.join()
                _on_its_way.clear()


def wait() -> None:
    """Wait until Ray is there, where it is on its way.

    Raises:
        Exception: where it could not start.
        KeyboardInterrupt: after a Ctrl-C that Python dropped.
    """
    for started, _ in _on_its_way:
        started.result()
    if _interrupted.is_set():
        raise KeyboardInterrupt


def let_go() -> None:
    """Say that it is needed no more: it takes a second to end, which it may do beside what is left."""
    for _, is_over in _on_its_way:
        is_over.set()


@contextmanager
def _interrupts_noted() -> Iterator[None]:
    """Keep in mind that there was a Ctrl-C: Python drops what is raised in a callback of its own, such as a weak
    reference's. One that comes as Ray forks its processes is this process's: in theirs it would be a traceback.
    """
    usual, own = signal.getsignal(signal.SIGINT), os.getpid()
    if usual is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        if os.getpid() == own:
            _interrupted.set()
            signal.default_int_handler(number, frame)

    def tell(dropped: Any) -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            usually_told(dropped)

    usually_told, sys.unraisablehook = sys.unraisablehook, tell
    _interrupted.clear()
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        sys.unraisablehook = usually_told
        _interrupted.clear()


def _keep(started: Future[None], is_over: threading.Event) -> None:
    try:
        from studies import cluster

        with cluster.engine():
            started.set_result(None)
            is_over.wait()
    except BaseException as error:
        if started.done():
            raise
        started.set_exception(error)  # raised where it is waited for


def _has_new_trials(study: Study, settings: Settings) -> bool:
    """Whether some trial left no folder, under any code or data, so that it will almost certainly be trained."""
    known = {folder.name.partition("-")[0] for folder in settings.trials.glob("*-*")}
    return any(fit.fingerprint not in known for fit in study.trials())
