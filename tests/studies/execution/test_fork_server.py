"""The server of processes: its children are clean, tell how they end, and outlive neither it nor who asked for them."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from studies.execution.jobs import TrialMessage
from studies.execution.processes import fork_server
from studies.execution.processes.bundle_process import MESSAGE_BATCH_SECONDS, TrialProcess
from studies.execution.processes.fork_server import ForkClient, ForkedProcess, ForkError, ForkServer

SMALL = "json"  # to load; what trials need takes seconds

OWNER = """
import os, signal, sys
from studies.execution.processes.fork_server import ForkedProcess, ForkServer
from tests.studies.execution.test_fork_server import sleep

server = ForkServer("json")
child = ForkedProcess(server.address, sleep)
print(server.process.pid, child.pid, server.folder, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def server():
    started = ForkServer(SMALL)
    yield started
    started.close()


def tell(what, connection):
    connection.send(eval(what))


def leave(how, connection):
    if how < 0:
        os.kill(os.getpid(), -how)
    os._exit(how)


def sleep(connection):
    connection.send("sleeps")
    time.sleep(60)


def speak(connection):
    print("a word of a child", flush=True)


def count(connection):
    """Three epochs at once, a fourth later, the end."""
    for number in range(3):
        connection.send(TrialMessage("epoch", values={"epoch": number}))
        connection.send(TrialMessage("beat"))
    time.sleep(2 * MESSAGE_BATCH_SECONDS)
    connection.send(TrialMessage("epoch", values={"epoch": 3}))
    connection.send(TrialMessage("ended"))
    time.sleep(60)


def is_there(pid):
    """Whether a process lives; one that has ended and is not yet taken note of does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def is_gone_within(seconds, pid):
    deadline = time.monotonic() + seconds
    while is_there(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_there(pid)


def test_a_child_has_the_paths_and_the_environment_of_who_asked_for_it_and_no_terminal(server, monkeypatch, tmp_path):
    monkeypatch.setenv("ASKED_FOR_BY", "me")
    monkeypatch.syspath_prepend("/somewhere/else")
    monkeypatch.chdir(tmp_path)
    what = "(os.environ['ASKED_FOR_BY'], 'OMP_NUM_THREADS' in os.environ, sys.path, os.getcwd(), os.getsid(0))"
    child = ForkedProcess(server.address, tell, what)
    word, has_threads, path, folder, session = child.connection.recv()
    assert (word, path, folder) == ("me", sys.path, str(tmp_path))
    assert has_threads == ("OMP_NUM_THREADS" in os.environ)
    assert session != os.getsid(0)
    assert child.join() == 0


def test_what_one_child_does_no_other_sees(server):
    first = ForkedProcess(server.address, tell, "setattr(sys, 'left_behind', 1)")
    assert first.join() == 0
    second = ForkedProcess(server.address, tell, "(hasattr(sys, 'left_behind'), os.getpid())")
    assert second.connection.recv() == (False, second.pid)


def test_a_child_prints_where_who_asked_for_it_does(server, capfd):
    assert ForkedProcess(server.address, speak).join() == 0
    assert capfd.readouterr().out == "a word of a child\n"


@pytest.mark.parametrize("how", [0, 7, 75, -signal.SIGKILL, -signal.SIGSEGV])
def test_how_a_child_ended_is_told_and_the_next_one_begins(server, how):
    child = ForkedProcess(server.address, leave, how)
    with pytest.raises(EOFError):
        child.connection.recv()
    assert child.join() == how
    assert child.kill() == how


def test_a_child_is_ended_where_it_stands(server):
    child = ForkedProcess(server.address, sleep)
    assert child.connection.recv() == "sleeps"
    assert is_there(child.pid)
    assert child.kill() == -signal.SIGKILL
    assert not is_there(child.pid)


def test_only_its_user_may_ask_a_server_for_a_child(server):
    assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700


def test_a_server_that_is_closed_takes_its_children_and_its_folder_along():
    server = ForkServer(SMALL)
    child = ForkedProcess(server.address, sleep)
    assert child.connection.recv() == "sleeps"
    server.close()
    assert is_gone_within(5, child.pid)
    assert not server.folder.exists()


def test_a_server_that_is_closed_while_it_loads_does_not_load_to_the_end():
    began = time.monotonic()
    ForkServer().close()
    assert time.monotonic() - began < 1


def test_a_server_and_its_children_end_with_who_started_it():
    line = [sys.executable, "-W", "ignore", "-c", OWNER]
    owner = subprocess.run(
        line, capture_output=True, text=True, check=False, timeout=60, cwd=Path(fork_server.__file__).parents[3]
    )
    assert owner.returncode == -signal.SIGKILL, owner.stderr
    *pids, folder = owner.stdout.split()
    assert len(pids) == 2
    assert all(is_gone_within(5, int(pid)) for pid in pids)
    assert not Path(folder).exists()


def test_what_cannot_be_loaded_is_told_to_who_asks_for_a_child():
    server = ForkServer("no_such_module")
    with pytest.raises(ForkError, match="no_such_module cannot be loaded") as told:
        ForkedProcess(server.address, speak)
    server.close()
    assert "ModuleNotFoundError: No module named 'no_such_module'" in str(told.value)


def test_where_the_server_dies_its_child_goes_on_and_the_next_one_is_of_another(monkeypatch):
    monkeypatch.setattr(fork_server, "PRELOAD_MODULE", SMALL)
    monkeypatch.setattr(fork_server.ForkServer.__init__, "__defaults__", (SMALL,))
    ahead = ForkServer(SMALL)
    asked = ForkClient(ahead.address)
    first = asked.fork(sleep)
    assert first.connection.recv() == "sleeps"
    ahead.process.kill()
    ahead.process.wait()
    assert is_there(first.pid)
    second = asked.fork(tell, "os.getppid()")
    assert second.connection.recv() == asked.own_server.process.pid
    assert first.kill() == -signal.SIGKILL
    assert is_gone_within(5, first.pid)
    third = asked.fork(tell, "os.getppid()")
    assert third.connection.recv() == asked.own_server.process.pid
    asked.close()
    ahead.close()
    assert not is_there(asked.own_server.process.pid)


def test_a_long_temporary_folder_is_no_hindrance(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("long" * 25)))
    server = ForkServer(SMALL)
    assert ForkedProcess(server.address, tell, "1").connection.recv() == 1
    server.close()


def test_one_server_does_for_all_studies_of_a_process(monkeypatch):
    monkeypatch.setattr(fork_server.ForkServer.__init__, "__defaults__", (SMALL,))
    monkeypatch.setattr(fork_server, "_server_addresses", [])
    assert not fork_server.server_address()
    with fork_server.prestart_fork_server():
        first = fork_server.server_address()
        with fork_server.prestart_fork_server():
            assert fork_server.server_address() == first
        assert ForkedProcess(first, tell, "2").connection.recv() == 2
    assert not fork_server.server_address()


class Straight(TrialProcess):
    """A trial's process that runs a function of this file."""

    def __init__(self, fork, hang_after_seconds=0.0):
        self.process, self.hang_after_seconds = fork, hang_after_seconds
        self.heard_at = {0: time.monotonic()}


def test_what_a_trial_tells_within_half_a_second_is_heard_at_once(server):
    child = Straight(ForkedProcess(server.address, count))
    assert [(each.kind, each.values.get("epoch")) for each in child.listen()] == [
        ("epoch", 0),
        ("epoch", 1),
        ("epoch", 2),
    ]
    assert [each.kind for each in child.listen()] == ["epoch", "ended"]
    child.stop()
    assert not is_there(child.process.pid)


@pytest.mark.parametrize(
    ("target", "arguments", "kind", "words"),
    [
        (leave, (75,), "elsewhere", "took over its lease"),
        (leave, (3,), "fault", "exit code 3 and left no result"),
        (leave, (-9,), "fault", "was killed (SIGKILL), probably because memory ran out"),
    ],
)
def test_how_a_trial_ended_that_told_nothing(server, target, arguments, kind, words):
    (told,) = Straight(ForkedProcess(server.address, target, *arguments)).listen()
    assert told.kind == kind
    assert words in told.text


def sit(connection):
    time.sleep(60)


def test_a_trial_that_is_silent_for_too_long_is_killed(server):
    child = Straight(ForkedProcess(server.address, sit), hang_after_seconds=0.2)
    (told,) = child.listen()
    assert (told.kind, "sent no heartbeat for 0.2 s" in told.text) == ("fault", True)
    assert not is_there(child.process.pid)
