"""Who may work in a folder: one at a time, whoever else asks at the same moment, dies or falls silent."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from studies import leases
from studies.leases import Beating, LeaseLost, acquire, expired, holder

MANY = 8


def test_of_many_who_ask_at_once_one_gets_it_and_keeps_it(tmp_path):
    together = Barrier(MANY)

    def ask(number):
        together.wait()
        return acquire(tmp_path / str(number))

    for number in range(40):
        with ThreadPoolExecutor(MANY) as pool:
            got = [lease for lease in pool.map(ask, [number] * MANY) if lease]
        assert len(got) == 1
        got[0].check()


def test_who_looks_as_another_takes_it_takes_nothing_over(tmp_path, monkeypatch):
    """The other one comes between the two looks: at the lease's number, and at its holder."""
    first, looked = [], leases._numbers

    def look(folder):
        found = looked(folder)
        if not first:
            first.append(None)
            first[0] = acquire(folder)
        return found

    monkeypatch.setattr(leases, "_numbers", look)
    assert acquire(tmp_path) is None
    first[0].check()


def test_a_lease_of_a_process_that_died_is_free_at_once_and_of_a_silent_one_after_a_while(tmp_path):
    code = f"from studies.leases import acquire; from pathlib import Path; acquire(Path({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert expired(tmp_path)
    lease = acquire(tmp_path)
    assert lease.number == 2
    assert acquire(tmp_path) is None
    long_ago = time.time() - leases.EXPIRES_SECONDS - 5
    os.utime(lease.file, (long_ago, long_ago))
    assert acquire(tmp_path).number == 3
    with pytest.raises(LeaseLost, match="taken over"):
        lease.check()
    lease.release()
    assert holder(tmp_path) is not None


def test_who_has_lost_a_lease_hears_of_it_and_gives_back_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.02)
    lost = []
    with Beating(acquire(tmp_path), on_lost=lambda: lost.append(True)) as lease:
        lease.file.unlink()
        deadline = time.monotonic() + 10
        while not lost and time.monotonic() < deadline:
            time.sleep(0.01)
    assert lost == [True]
