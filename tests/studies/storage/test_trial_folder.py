"""A trial's folder: attempts and faults, also after a disk was full; and what a new attempt clears away."""

import errno
from pathlib import Path

import pytest

from studies.storage import lease as leases
from studies.storage.lease import acquire_lease, find_holder
from studies.storage.trial_folder import TrialFolder


def test_attempts_and_faults_are_counted_in_lines_of_their_own(tmp_path):
    spool = TrialFolder(tmp_path / "trial")
    assert (spool.num_attempts, spool.faults) == (0, ())
    spool.start_attempt("one")
    spool.record_fault("the disk was full")
    spool.start_attempt("another")
    assert (spool.num_attempts, spool.faults) == (2, ("the disk was full",))
    assert len((spool.folder / "attempts.jsonl").read_text().splitlines()) == 2


def test_a_line_that_a_full_disk_cut_off_does_not_count_and_spoils_no_other(tmp_path):
    spool = TrialFolder(tmp_path)
    (tmp_path / "attempts.jsonl").write_text('{"time": 1, "by": "one"}\n{"time": 2, "b')
    (tmp_path / "faults.jsonl").write_text('{"time": 1, "fau')
    spool.start_attempt("another")
    spool.record_fault("no room")
    assert (spool.num_attempts, spool.faults) == (2, ("no room",))


def test_a_new_attempt_clears_away_what_a_killed_one_left_half_and_nothing_else(tmp_path):
    names = ("checkpoint.ckpt", "weights.pt", "checkpoint.ckpt.0123.partial", "result.json")
    for name in names:
        (tmp_path / name).write_text("")
    TrialFolder(tmp_path).start_attempt("one")
    assert {file.name for file in tmp_path.iterdir()} == {"checkpoint.ckpt", "weights.pt", "attempts.jsonl"}


def test_a_lease_that_the_disk_does_not_take_leaves_nothing_that_would_pass_for_one(tmp_path, monkeypatch):
    def full(self, *_):
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            acquire_lease(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with monkeypatch.context() as patched:
        patched.setattr(leases.os, "link", lambda *_: full(tmp_path / "nothing"))
        with pytest.raises(OSError, match="No space left"):
            acquire_lease(tmp_path)
    assert not list(tmp_path.glob("*lease*"))


def test_where_there_are_no_hard_links_a_lease_is_taken_all_the_same_and_by_one_only(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(leases.os, "link", refuse)
    lease = acquire_lease(tmp_path)
    assert find_holder(tmp_path) == lease.holder
    assert acquire_lease(tmp_path) is None
    lease.release()
    assert find_holder(tmp_path) is None
