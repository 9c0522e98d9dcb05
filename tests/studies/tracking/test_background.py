"""The driver's writer: all of it, in order, and never in the way of what dispatches."""

import threading

import pytest

from studies.tracking.background import BackgroundWriter


def test_writes_are_done_in_order_by_the_end():
    done = []
    with BackgroundWriter() as writer:
        for number in range(100):
            writer.add(lambda number=number: done.append(number))
    assert done == list(range(100))


def test_whoever_adds_a_write_does_not_wait_for_it():
    may_go, done = threading.Event(), []
    with BackgroundWriter() as writer:
        writer.add(may_go.wait)
        writer.add(lambda: done.append("second"))
        assert done == []
        may_go.set()
    assert done == ["second"]


def test_what_a_write_raises_reaches_the_driver_and_nothing_is_written_after_it():
    done = []

    def fault():
        raise OSError("the disk is full")

    def write_both():
        with BackgroundWriter() as writer:
            writer.pending.put(fault)
            writer.pending.put(lambda: done.append("after"))

    with pytest.raises(OSError, match="the disk is full"):
        write_both()
    assert done == []


def test_an_interrupt_waits_for_what_was_given_and_stays_the_news():
    done = []

    def interrupt():
        with BackgroundWriter() as writer:
            writer.add(lambda: done.append("ended"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert done == ["ended"]
