"""What the queue does with trials that the user cancels, or wants trained again, while others run."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from studies.execution.cluster.queue import TrialQueue


@dataclass(frozen=True)
class FakeTrial:
    """A trial is named by its fingerprint."""

    fingerprint: str


@dataclass(frozen=True)
class FakeJob:
    """As much of a job as the queue looks at."""

    trial: FakeTrial
    folder: Path
    dependency_folders: tuple[Path, ...] = ()


class FakeGate:
    """Admits everything; the test sets the requests."""

    def __init__(self):
        self.cancelled, self.retried = set(), set()

    def read_cancelled(self):
        return frozenset(self.cancelled)

    def take_retries(self):
        retried, self.retried = self.retried, set()
        return frozenset(retried)

    def is_admitted(self, bundle):
        return bool(bundle)

    def on_start(self, bundle):
        """Nothing is measured here."""

    def on_trial_end(self, job, bundle):
        """Nothing is measured here."""

    def on_end(self, bundle):
        """Nothing is measured here."""


@pytest.fixture
def gate():
    return FakeGate()


def queue_of(gate, *names, bundles=None):
    """``warm<a`` depends on ``a``; two jobs fit at once."""
    pairs = [name.partition("<") for name in names]
    jobs = [
        FakeJob(FakeTrial(name), Path(name), tuple(map(Path, filter(None, (needed,))))) for name, _, needed in pairs
    ]
    return TrialQueue(jobs, lambda _: 0.5, bundles=bundles, gate=gate)


def started(queue):
    found = []
    while (bundle := queue.start_next()) is not None:
        found += [queue.jobs[index].trial.fingerprint for index in bundle]
    return found


def test_a_waiting_trial_is_dropped_with_those_that_need_its_weights(gate):
    queue = queue_of(gate, "a", "b", "source", "warm<source", "warmer<warm", "c")
    assert started(queue) == ["a", "b"]
    gate.cancelled.add("source")
    assert queue.apply_requests() == [2, 3, 4]
    queue.mark_ended(0)
    assert started(queue) == ["c"]
    assert queue.is_over


def test_a_running_trial_must_stop_and_frees_its_place(gate):
    queue = queue_of(gate, "a", "b", "c")
    assert started(queue) == ["a", "b"]
    gate.cancelled.add("b")
    assert queue.apply_requests() == []
    assert (queue.must_stop((0,)), queue.must_stop((1,))) == (False, True)
    assert queue.mark_stopped((1,)) == [1]
    assert started(queue) == ["c"]


def test_a_trial_that_ended_before_it_could_be_stopped_has_ended(gate):
    queue = queue_of(gate, "a", "b")
    started(queue)
    queue.mark_ended(0)
    gate.cancelled.add("a")
    assert not queue.must_stop((0,))
    assert queue.mark_stopped((0,)) == []


def test_the_others_of_a_bundle_are_queued_again(gate):
    queue = queue_of(gate, "a0", "a1", "a2", "b", bundles=[(0, 1, 2), (3,)])
    assert started(queue) == ["a0", "a1", "a2", "b"]
    gate.cancelled.add("a1")
    assert queue.must_stop((0, 1, 2))
    assert queue.mark_stopped((0, 1, 2)) == [1]
    assert started(queue) == ["a0", "a2"]


def test_a_cancelled_or_failed_trial_is_queued_again_and_a_running_one_is_not(gate):
    queue = queue_of(gate, "a", "b", "c", "d")
    started(queue)
    gate.cancelled.add("c")
    queue.apply_requests()
    queue.mark_ended(0)
    gate.cancelled.clear()
    gate.retried = {"b", "c"}
    assert queue.apply_requests() == []
    assert started(queue) == ["c"]
    assert queue.cancelled == set()
    queue.mark_ended(1)
    gate.retried = {"b"}
    queue.apply_requests()
    assert started(queue) == ["b"]


def test_a_trial_that_ends_normally_is_neither_stopped_nor_queued_again(gate):
    queue = queue_of(gate, "a", "b")
    started(queue)
    queue.mark_ended(0)
    assert queue.mark_stopped((0,)) == []
    assert started(queue) == []
