"""Start Ray and the fork server in the background while a study is planned: each takes seconds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from studies.design.study import Study
from studies.execution.interrupts import record_interrupts
from studies.execution.processes.fork_server import prestart_fork_server
from studies.execution.resources import Resources, configure_ray
from studies.scratch import remove_abandoned
from studies.settings import Settings

# At most one entry: whether Ray has started, and the event that lets it end.
_prestarted: list[tuple[Future[None], threading.Event]] = []
_interrupts: list[threading.Event] = []  # one of each `prestart_ray` block that this process is in


@contextmanager
def prestart_ray(study: Study, settings: Settings, resources: Resources) -> Iterator[None]:
    """Start Ray and the fork server in the background; end both with the block.

    Neither is started for a study that has left nothing to train, nor for a cluster, where Ray runs already. Whoever
    needs Ray waits for it (:func:`wait_for_ray`). A Ctrl-C within the block is raised by :func:`wait_for_ray` at the
    latest.
    """
    remove_abandoned()
    with record_interrupts() as interrupted:
        _interrupts.append(interrupted)
        try:
            if _prestarted or resources.address or not _has_new_trials(study, settings):
                yield
            else:
                with _ray_in_background(resources):
                    yield
        finally:
            _interrupts.remove(interrupted)


@contextmanager
def _ray_in_background(resources: Resources) -> Iterator[None]:
    configure_ray(resources.address)
    with prestart_fork_server():
        started, may_end = Future[None](), threading.Event()
        # The thread lives as long as Ray: the kernel ends Ray's processes with the thread that started them.
        thread = threading.Thread(target=_hold_ray, args=(started, may_end), name="prestart-ray")
        thread.start()
        _prestarted.append((started, may_end))
        try:
            yield
        finally:
            may_end.set()
            thread.join()
            _prestarted.clear()


def wait_for_ray() -> None:
    """Wait until Ray has started, if it was started in the background.

    Raises:
        Exception: the one that kept Ray from starting.
        KeyboardInterrupt: after a Ctrl-C that Python dropped.
    """
    for started, _ in _prestarted:
        started.result()
    if any(interrupted.is_set() for interrupted in _interrupts):
        raise KeyboardInterrupt


def release_ray() -> None:
    """Signal Ray to shut down now; the second it takes overlaps the final writes."""
    for _, may_end in _prestarted:
        may_end.set()


def _hold_ray(started: Future[None], may_end: threading.Event) -> None:
    """Keep a Ray session open until it may end; the body of the background thread."""
    try:
        from studies.execution.cluster import ray_cluster

        with ray_cluster.ray_session():
            started.set_result(None)
            may_end.wait()
    except BaseException as error:
        if started.done():
            raise
        started.set_exception(error)  # raised in the thread that waits for Ray


def _has_new_trials(study: Study, settings: Settings) -> bool:
    """Whether some trial has no folder yet, under any code or data, so that it will almost certainly be trained."""
    known_fingerprints = {folder.name.partition("-")[0] for folder in settings.trials_folder.glob("*-*")}
    return any(trial.fingerprint not in known_fingerprints for trial in study.trials())
