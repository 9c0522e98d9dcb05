"""A server of processes: it has loaded what trials need, and forks a clean child for each, which begins at once.

Loading takes seconds, and one server does for all workers of a machine. Whoever starts it goes on meanwhile: those who
ask for a child wait until it has loaded.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import reduction
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

PRELOADED = "studies.preloaded"
FORK = "fork"
LOADED_SECONDS = 300.0  # in which a server has loaded; seconds, but on a file system that many read from at once
ASKED_SECONDS = 1.0  # in which one that connects says what it wants
LOOK_SECONDS = 0.05  # between two looks at a child that is awaited
LONGEST_PATH = 90  # of a socket's folder; the kernel takes 108 characters for all of it
STDIN, OUTPUTS = 0, (1, 2)
# A trial keeps what memory it has had until it ends: to give it back and fetch it again, page by page, takes up to a
# fifth of a step. Of glibc; who sets one of these keeps what is set.
OF_TRIALS = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(2**40)}


class NoChild(RuntimeError):
    """A server that does not answer, or could not load what trials need; the text says why."""


class Server:
    """A server that this process has started. It ends with this process, and with it all its children.

    It is in no terminal's foreground: a Ctrl-C does not reach it. What it prints is lost, what its children print goes
    where that of the process goes that asked for them.

    Attributes:
        address: of its socket, which only this user may open.
    """

    def __init__(self, preloaded: str = PRELOADED) -> None:
        folder = tempfile.gettempdir()
        self.folder = Path(tempfile.mkdtemp(prefix="forks-", dir=folder if len(folder) < LONGEST_PATH else "/tmp"))
        self.address = str(self.folder / "socket")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen(128)
            body = f"import sys; sys.path[:] = {sys.path!r}; from studies import forks; "
            body += f"forks.serve({listener.fileno()}, {preloaded!r})"
            self.process = subprocess.Popen(
                [sys.executable, *(f"-W{kind}" for kind in sys.warnoptions), "-c", body],
                env=OF_TRIALS | os.environ | {"OMP_NUM_THREADS": "1"},  # a trial sets its own number of threads
                pass_fds=[listener.fileno()],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def close(self) -> None:
        """End it and its children; what it was loading it does not load to the end."""
        self.process.terminate()
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


_addresses: list[str] = []  # of the server that this process's studies are forked from; at most one


@contextmanager
def server_ahead() -> Iterator[None]:
    """A server for all studies that this process runs on this machine within this."""
    if _addresses:
        yield
        return
    server = Server()
    lend(server.address)
    try:
        yield
    finally:
        _addresses.clear()
        server.close()


def lend(address: str) -> None:
    """Have this process's studies forked from a server that somebody has started."""
    _addresses.append(address)


def address() -> str:
    """Where the server of this process's studies listens; empty where there is none."""
    return _addresses[0] if _addresses else ""


class Forks:
    """Where a worker gets its children from: the server that was started ahead, else one of its own."""

    def __init__(self, ahead: str) -> None:
        self.address, self.own = ahead, None if ahead else Server()

    def fork(self, target: Callable[..., None], *arguments: object) -> Fork:
        """A child that calls ``target(*arguments, connection)``.

        Raises:
            NoChild: where no server gives one.
        """
        if self.own is None:
            with suppress(OSError, EOFError):  # it died
                return Fork(self.address, target, *arguments)
        if self.own is None or self.own.process.poll() is not None:
            self.close()
            self.own = Server()
        try:
            return Fork(self.own.address, target, *arguments)
        except (OSError, EOFError) as error:
            raise NoChild(f"the server of processes ended ({error or 'without a word'})") from error

    def close(self) -> None:
        """End the server, where it is this worker's own."""
        if self.own:
            self.own.close()


class Fork:
    """A child, as the process that asked for it sees it.

    Attributes:
        connection: to the child; at its end once the child has ended, and whatever that has started.
    """

    def __init__(self, address: str, target: Callable[..., None], *arguments: object) -> None:
        self.address = address
        self.exitcode: int | None = None
        self.connection = _connected(address)
        self.connection.send(FORK)
        if not self.connection.poll(LOADED_SECONDS):
            raise NoChild(f"the server of processes gave none within {LOADED_SECONDS:g} s")
        told = self.connection.recv()
        if isinstance(told, str):
            raise NoChild(told)
        self.pid: int = told
        self.connection.send((Path.cwd(), sys.path, dict(os.environ)))
        for output in OUTPUTS:
            reduction.send_handle(self.connection, output, self.pid)
        self.connection.send((target, arguments))

    def join(self) -> int:
        """Wait for its end; gives back its exit code, that of a process: negative for a signal."""
        return self._ended(kill=False)

    def kill(self) -> int:
        """End it where it has not ended; gives back its exit code."""
        return self._ended(kill=True)

    def _ended(self, *, kill: bool) -> int:
        if self.exitcode is not None:
            return self.exitcode
        try:
            with _connected(self.address) as asked:
                asked.send((self.pid, kill))
                self.exitcode = int(asked.recv())
        except (OSError, EOFError):  # its server is gone, and nobody can tell
            self.exitcode = -signal.SIGKILL
            if kill:
                with suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
        self.connection.close()
        return self.exitcode


def _connected(address: str) -> Connection:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.connect(address)
        return Connection(opened.detach())


def serve(listening: int, preloaded: str) -> None:
    """The body of a server's process.

    Args:
        listening: the descriptor of its socket.
        preloaded: the module that it loads; where that fails, all who ask are told why.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    problem = ""
    try:
        importlib.import_module(preloaded)
    except Exception:
        problem = f"{preloaded} cannot be loaded:\n{traceback.format_exc()}"
    with socket.socket(fileno=listening) as listener:
        _Serving(listener, problem).serve()


class _Serving:
    """Forks children, and tells how they ended. It has one thread, and lives until nobody holds its standard input."""

    def __init__(self, listener: socket.socket, problem: str) -> None:
        self.listener, self.problem = listener, problem
        self.context = multiprocessing.get_context("fork")
        self.children: dict[int, BaseProcess] = {}
        self.asked: list[tuple[Connection, int]] = []

    def serve(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        try:
            while STDIN not in (ready := self._ready()):
                if self.listener in ready:
                    self._answer(Connection(self.listener.accept()[0].detach()))
                self._tell_of_the_ended()
        finally:
            for child in self.children.values():
                child.kill()
            shutil.rmtree(Path(self.listener.getsockname()).parent, ignore_errors=True)

    def _ready(self) -> list[Any]:
        awaited = [self.children[pid].sentinel for _, pid in self.asked]
        return wait([self.listener, STDIN, *awaited], LOOK_SECONDS if awaited else None)

    def _answer(self, connection: Connection) -> None:
        with suppress(OSError, EOFError):  # whoever asked is gone
            asked = connection.recv() if connection.poll(ASKED_SECONDS) else None
            if asked == FORK:
                with connection:
                    connection.send(self.problem or self._fork(connection))
            elif asked is not None:
                pid, kill = asked
                if kill:
                    self.children[pid].kill()
                self.asked.append((connection, pid))

    def _fork(self, connection: Connection) -> int:
        child = self.context.Process(target=_child, args=(connection, self.listener))
        child.start()
        assert child.pid
        self.children[child.pid] = child
        return child.pid

    def _tell_of_the_ended(self) -> None:
        waiting = []
        for connection, pid in self.asked:
            if self.children[pid].is_alive():
                waiting.append((connection, pid))
                continue
            with suppress(OSError), connection:
                connection.send(self.children.pop(pid).exitcode)
        self.asked = waiting


def _child(connection: Connection, listener: socket.socket) -> None:
    """The body of a child: the process that asked for it says what it is to do."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    listener.close()
    try:
        folder, sys.path[:], environment = connection.recv()
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        for output in OUTPUTS:
            given = reduction.recv_handle(connection)
            os.dup2(given, output)
            os.close(given)
        target, arguments = connection.recv()
    except (OSError, EOFError):  # it is gone
        return
    target(*arguments, connection)
