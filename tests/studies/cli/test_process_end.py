"""How the program ends from outside: a pipe without a reader, a folder that cannot be written."""

import subprocess
import sys

PROGRAM = [sys.executable, "-m", "studies.cli"]


def test_a_pipe_without_a_reader_ends_the_program_silently():
    program = subprocess.Popen(
        [*PROGRAM, "run", "depth", "--dry-run"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    program.stdout.close()
    assert program.stderr.read() == ""
    assert program.wait() in (0, 141)
    program.stderr.close()


def test_a_runs_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    line = [*PROGRAM, "run", "depth", "--runs", str(tmp_path / "file" / "runs")]
    ended = subprocess.run(line, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("Error: cannot write to the run folder")
    assert len(ended.stderr.splitlines()) == 1
