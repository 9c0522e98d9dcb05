"""How the program ends from outside: a pipe without a reader, a folder that cannot be written."""

import subprocess
import sys

import pytest

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


@pytest.mark.parametrize("is_in_background", [False, True])
def test_sigterm_ends_the_program_also_where_a_script_runs_it_in_the_background(is_in_background):
    lines = [
        "import signal, time",
        "from studies.cli.common.errors import run_and_exit",
        # A shell without job control lets background processes ignore SIGINT.
        "signal.signal(signal.SIGINT, signal.SIG_IGN)" if is_in_background else "",
        "def wait():",
        "    print('ready', flush=True)",
        "    time.sleep(60)",
        "run_and_exit(wait)",
    ]
    program = subprocess.Popen(
        [sys.executable, "-c", "\n".join(lines)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert program.stdout.readline() == "ready\n"
    program.terminate()
    assert program.wait(timeout=30) == 143
    program.stdout.close()


@pytest.mark.parametrize(("is_waiting", "told"), [(True, "Ended 0.5 s after SIGTERM, as Ray does not"), (False, "")])
def test_a_program_that_waits_for_ray_after_sigterm_ends_all_the_same(is_waiting, told):
    lines = [
        "import time",
        "from contextlib import nullcontext",
        "from studies.cli.common import errors",
        "from studies.execution.interrupts import waiting_for_ray",
        "errors.LONGEST_END_SECONDS = 0.5",
        "def wait():",
        f"    with {'waiting_for_ray' if is_waiting else 'nullcontext'}():",
        "        try:",
        "            print('ready', flush=True)",
        "            time.sleep(60)",
        "        except KeyboardInterrupt:",
        f"            time.sleep({60 if is_waiting else 2})",  # what is in order takes its own time
        "errors.run_and_exit(wait)",
    ]
    program = subprocess.Popen(
        [sys.executable, "-c", "\n".join(lines)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert program.stdout.readline() == "ready\n"
    program.terminate()
    _, shown = program.communicate(timeout=30)
    assert program.returncode == (143 if is_waiting else 0)
    assert shown.startswith(told)
    assert bool(shown) is is_waiting


@pytest.mark.parametrize(("action", "told"), [("print('closed', flush=True)", "closed\n"), ("time.sleep(60)", "")])
def test_before_it_is_ended_a_program_that_waits_for_ray_closes_what_it_has_open(action, told):
    lines = [
        "import time",
        "from studies.cli.common import errors",
        "from studies.execution import interrupts",
        "errors.LONGEST_END_SECONDS = 0.5",
        "errors.run_last_actions = lambda: interrupts.run_last_actions(1.0)",
        "def wait():",
        f"    with interrupts.waiting_for_ray(), interrupts.before_late_end(lambda: {action}):",
        "        try:",
        "            print('ready', flush=True)",
        "            time.sleep(60)",
        "        except KeyboardInterrupt:",
        "            time.sleep(60)",
        "errors.run_and_exit(wait)",
    ]
    program = subprocess.Popen(
        [sys.executable, "-c", "\n".join(lines)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert program.stdout.readline() == "ready\n"
    program.terminate()
    shown, _ = program.communicate(timeout=30)
    assert (program.returncode, shown) == (143, told)


def test_what_ray_prints_as_it_dies_goes_to_a_file_and_what_this_program_says_does_not(tmp_path):
    lines = [
        "import os, sys",
        "from pathlib import Path",
        "from studies.execution.cluster.ray_shutdown import divert_native_output",
        f"divert_native_output(Path({str(tmp_path / 'log')!r}))",
        "os.write(1, b'a stack '), os.write(2, b'of C++')",
        "print('one line', file=sys.stderr)",
        "print('another')",
    ]
    ended = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("another\n", "one line\n")
    assert (tmp_path / "log").read_text() == "a stack of C++"
