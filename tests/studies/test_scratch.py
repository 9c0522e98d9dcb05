"""The folder of a process for temporary files, and what killed processes leave of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_modules.specs.errors import UserError
from studies import scratch

MAKE_ONE = "from studies import scratch; print(scratch.process_folder(), flush=True); "


def start(code, folder, **options):
    environment = {**os.environ, "TMPDIR": str(folder)}
    environment.pop("RAY_TMPDIR", None)
    line = [sys.executable, "-c", MAKE_ONE + code]
    return subprocess.Popen(line, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)


@pytest.fixture
def temporary(monkeypatch):
    """A short path, as that of pytest is too long for sockets."""
    folder = Path("/tmp") / f"t{os.getpid()}"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    yield folder
    scratch.shutil.rmtree(folder)


def abandoned_in(folder):
    return [path for path in scratch.find_abandoned() if path.parent == folder]


def test_the_folder_goes_with_its_process(temporary):
    process = start("", temporary)
    made, _ = process.communicate()
    assert Path(made.strip()).parent == temporary
    assert list(temporary.iterdir()) == []


def test_that_of_a_killed_process_is_found_and_removed_and_that_of_a_living_one_stays(temporary):
    killed, alive = (start("input()", temporary) for _ in range(2))
    left, kept = (Path(process.stdout.readline().strip()) for process in (killed, alive))
    assert oct(left.stat().st_mode)[-3:] == "700"
    assert abandoned_in(temporary) == []
    killed.kill()
    killed.communicate()
    assert abandoned_in(temporary) == [left]
    scratch.remove_abandoned()
    assert list(temporary.iterdir()) == [kept]
    alive.communicate("\n")
    assert list(temporary.iterdir()) == []


def test_a_child_of_multiprocessing_has_a_folder_of_its_own(temporary):
    code = (
        "import multiprocessing; process = multiprocessing.get_context('fork').Process("
        "target=lambda: print(scratch.process_folder(), flush=True)); process.start(); process.join()"
    )
    first, second = start(code, temporary).communicate()[0].split()
    assert first != second
    assert list(temporary.iterdir()) == []


def test_a_users_own_folder_of_a_similar_name_is_left_alone(temporary):
    for name, file in {"ablate-runs": "mlflow.db", "ablate-0000001": "lock", "ablate-abcdef": "results.csv"}.items():
        (temporary / name).mkdir()
        (temporary / name / file).write_text("mine")
    (temporary / "ablate-fedcba" / "session_1").mkdir(parents=True)  # what Ray wrote after the folder's removal
    assert abandoned_in(temporary) == [temporary / "ablate-fedcba"]


def test_a_link_and_another_users_folder_are_left_alone(temporary, monkeypatch):
    (temporary / "elsewhere").mkdir()
    (temporary / "ablate-000001").symlink_to(temporary / "elsewhere")
    (temporary / "ablate-000002").mkdir()
    assert abandoned_in(temporary) == [temporary / "ablate-000002"]
    monkeypatch.setattr(scratch.os, "getuid", lambda: 12345)
    assert abandoned_in(temporary) == []


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_path_too_long_for_sockets_is_not_used(variable, tmp_path):
    folder = tmp_path / ("x" * 60)
    folder.mkdir()
    environment = {**os.environ, variable: str(folder)}
    shown = subprocess.run(
        [sys.executable, "-c", MAKE_ONE], env=environment, capture_output=True, text=True, check=True
    )
    made = Path(shown.stdout.strip())
    assert made.parent == Path("/tmp")
    longest = made / "session_2026-11-27_09-15-56_922734_4194304" / "sockets" / "plasma_store"
    assert len(str(longest)) <= 107


def test_no_folder_at_all_is_one_line_with_the_remedy(monkeypatch):
    monkeypatch.setattr(scratch, "_parents", lambda: [Path("/proc/nowhere")])
    with pytest.raises(UserError, match=r"/proc/nowhere: No such file.* set TMPDIR to a folder .* at most \d+ char"):
        scratch._make_folder()
