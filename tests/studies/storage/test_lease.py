"""Who may work in a folder: one at a time, whoever else asks at the same moment, dies or falls silent."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from studies.storage import lease as leases
from studies.storage.lease import (
    Heartbeat,
    LeaseLost,
    acquire_lease,
    find_holder,
    is_lease_expired,
    remove_expired_lease,
)

MANY = 8


def test_of_many_who_ask_at_once_one_gets_it_and_keeps_it(tmp_path):
    together = Barrier(MANY)

    def ask(number):
        together.wait()
        return acquire_lease(tmp_path / str(number))

    for number in range(40):
        with ThreadPoolExecutor(MANY) as pool:
            got = [lease for lease in pool.map(ask, [number] * MANY) if lease]
        assert len(got) == 1
        got[0].check()


def test_who_looks_as_another_takes_it_takes_nothing_over(tmp_path, monkeypatch):
    """The other one comes between the two looks: at the lease's number, and at its holder."""
    first, looked = [], leases._lease_numbers

    def look(folder):
        found = looked(folder)
        if not first:
            first.append(None)
            first[0] = acquire_lease(folder)
        return found

    monkeypatch.setattr(leases, "_lease_numbers", look)
    assert acquire_lease(tmp_path) is None
    first[0].check()


def test_a_lease_of_a_process_that_died_is_free_at_once_and_of_a_silent_one_after_a_while(tmp_path):
    code = "from studies.storage.lease import acquire_lease; from pathlib import Path; "
    code += f"acquire_lease(Path({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert is_lease_expired(tmp_path)
    lease = acquire_lease(tmp_path)
    assert lease.number == 2
    assert acquire_lease(tmp_path) is None
    long_ago = time.time() - leases.LEASE_TIMEOUT_SECONDS - 5
    os.utime(lease.file, (long_ago, long_ago))
    assert acquire_lease(tmp_path).number == 3
    with pytest.raises(LeaseLost, match="taken over"):
        lease.check()
    lease.release()
    assert find_holder(tmp_path) is not None


def test_the_lease_of_a_dead_process_is_removed_and_a_held_one_is_not(tmp_path):
    code = "from studies.storage.lease import acquire_lease; from pathlib import Path; "
    code += f"acquire_lease(Path({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", code], check=True)
    remove_expired_lease(tmp_path)
    assert list(tmp_path.iterdir()) == []
    lease = acquire_lease(tmp_path)
    remove_expired_lease(tmp_path)
    lease.check()


def test_who_has_lost_a_lease_hears_of_it_and_gives_back_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.02)
    lost = []
    with Heartbeat(acquire_lease(tmp_path), on_lost=lambda: lost.append(True)) as lease:
        lease.file.unlink()
        deadline = time.monotonic() + 10
        while not lost and time.monotonic() < deadline:
            time.sleep(0.01)
    assert lost == [True]
