"""Full disks, few inodes, and limits of memory: told before anything starts, and with the remedy when met later."""

import errno
import os
import resource
from types import SimpleNamespace

import pytest

from studies.settings import Settings, SettingsError
from studies.storage import machine_limits


def disk(monkeypatch, *, free_bytes=10**9, free_inodes=10**6, inodes=10**6):
    answer = SimpleNamespace(f_bavail=free_bytes, f_frsize=1, f_favail=free_inodes, f_files=inodes)
    monkeypatch.setattr(machine_limits.os, "statvfs", lambda _: answer)


def test_a_disk_with_room_is_no_word(tmp_path, monkeypatch):
    disk(monkeypatch, inodes=0, free_inodes=0)  # btrfs has no fixed number of them
    machine_limits.require_room(Settings.from_environment(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("state", "told"),
    [({"free_bytes": 10**6}, "MB left; expected at least 4.2 MB"), ({"free_inodes": 12}, "inodes left")],
)
def test_too_little_room_is_refused_before_anything_starts(tmp_path, monkeypatch, state, told):
    disk(monkeypatch, **state)
    with pytest.raises(SettingsError, match=rf"runs: its disk has .* {told}.*ablate gc"):
        machine_limits.require_room(Settings.from_environment(tmp_path / "runs"))


def test_a_limit_of_the_address_space_is_refused_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(machine_limits.resource, "getrlimit", lambda _: (3 * 10**9, resource.RLIM_INFINITY))
    with pytest.raises(SettingsError, match=r"2\.8 GiB \(`ulimit -v`\); expected at least 16 GiB.*ulimit -v unlimited"):
        machine_limits.require_room(Settings.from_environment(tmp_path / "runs"))


def test_a_full_disk_is_recognized_behind_other_errors():
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    outer = RuntimeError("the store failed")
    outer.__cause__ = full
    assert machine_limits.is_full_disk(outer)
    assert machine_limits.is_full_disk("OSError: [Errno 28] No space left on device")
    assert machine_limits.is_full_disk("(sqlite3.OperationalError) database or disk is full")
    assert not machine_limits.is_full_disk(OSError(errno.EACCES, "Permission denied"))


def test_a_full_disk_is_told_with_folder_need_and_remedy(tmp_path, monkeypatch):
    settings = Settings.from_environment(tmp_path)
    trial = settings.trials_folder / "0123-abc"
    trial.mkdir(parents=True)
    (trial / "weights.pt").write_bytes(b"0" * 10**7)
    disk(monkeypatch, free_bytes=50_000)
    text = machine_limits.describe_full_disk(settings, num_trials_left=3)
    assert f"the disk of {tmp_path} is full: its disk has 0.1 MB left; expected at least 60.0 MB" in text
    assert f"ablate gc --runs {tmp_path}" in text
    assert "the same command again" in text
