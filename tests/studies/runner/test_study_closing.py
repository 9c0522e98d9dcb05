"""A study's run is closed once, whichever thread comes first."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from studies.runner.study_closing import StudyClosing


class SlowRun:
    """A run whose closing waits until it is let go on."""

    def __init__(self):
        self.closed, self.news = [], []
        self.has_begun, self.may_end = threading.Event(), threading.Event()
        self.context = SimpleNamespace(log=self.news.append, study=SimpleNamespace(name="depth"))

    def close(self, *, complete):
        self.closed.append(complete)
        self.has_begun.set()
        assert self.may_end.wait(10)


class HeldLease:
    is_held = True

    def release(self):
        self.is_held = False


@pytest.mark.parametrize("is_late_first", [True, False])
def test_a_run_that_two_threads_close_at_once_is_closed_by_the_first(is_late_first):
    run, lease = SlowRun(), HeldLease()
    closing = StudyClosing(run, lease)
    actions = [closing.close_late, lambda: closing.close(complete=True)]
    first, second = (threading.Thread(target=each) for each in (actions if is_late_first else reversed(actions)))
    first.start()
    assert run.has_begun.wait(10)
    second.start()
    second.join(0.2)
    assert second.is_alive()  # it waits: what comes after would find the run half closed
    run.may_end.set()
    first.join(10)
    second.join(10)
    assert run.closed == [not is_late_first]
    assert run.news == []
    assert lease.is_held is not is_late_first
