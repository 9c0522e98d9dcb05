"""Replays of several threads run side by side; a capture runs alone."""

import threading
import time

import pytest

from lightning_modules.modules.captured_steps import CaptureGate

NUM_THREADS, NUM_REPLAYS, NUM_CAPTURES = 4, 200, 3
PATIENCE_SECONDS = 20.0  # far more than anything here takes: only a deadlock waits as long


def test_replays_run_side_by_side():
    gate = CaptureGate()
    both_replay = threading.Barrier(2)

    def replay():
        with gate.replaying():
            both_replay.wait(PATIENCE_SECONDS)  # breaks where one waits for the other

    threads = [threading.Thread(target=replay) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not both_replay.broken


def test_nothing_else_runs_during_a_capture_and_nobody_waits_for_ever():
    """Captures come between replays that never pause: they must neither overlap with one nor be starved by them."""
    gate = CaptureGate()
    running: list[str] = []
    overlaps: list[list[str]] = []
    num_done = [0]
    lock = threading.Lock()

    def work(kind, enter):
        with enter():
            with lock:
                running.append(kind)
                if "capture" in running and len(running) > 1:
                    overlaps.append(list(running))
            time.sleep(0.0002)
            with lock:
                running.remove(kind)
                num_done[0] += 1

    def train():
        for step in range(NUM_REPLAYS):
            if step < NUM_CAPTURES:
                work("capture", gate.capturing)
            work("replay", gate.replaying)

    threads = [threading.Thread(target=train, daemon=True) for _ in range(NUM_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert overlaps == []
    assert num_done[0] == NUM_THREADS * (NUM_REPLAYS + NUM_CAPTURES)


def test_an_error_in_a_capture_or_a_replay_opens_the_gate_again():
    """Were it still closed, the next one would wait for ever."""
    gate = CaptureGate()
    num_entered = 0

    def fail(enter):
        nonlocal num_entered
        with enter():
            num_entered += 1
            raise RuntimeError("a step that cannot be captured")

    for enter in (gate.capturing, gate.replaying, gate.capturing, gate.replaying):
        with pytest.raises(RuntimeError, match="cannot be captured"):
            fail(enter)
    assert num_entered == 4
