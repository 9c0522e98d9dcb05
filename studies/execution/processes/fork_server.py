"""Fork server: a process with torch loaded that forks a new process for each trial.

Loading takes seconds, and one server suffices for all workers of a machine. It loads in the background: only a request
for a child waits until it has loaded. In contrast to the fork server of :mod:`multiprocessing`, unrelated processes
share one server through its socket.
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

from studies.scratch import process_folder, remove_abandoned

PRELOAD_MODULE = "studies.execution.processes.preload"
FORK_REQUEST = "fork"
LOAD_TIMEOUT_SECONDS = 300.0  # loading takes seconds, but minutes on a file system that many nodes read at once
REQUEST_TIMEOUT_SECONDS = 1.0  # a client sends its request right after it connects; a silent one must not block others
POLL_SECONDS = 0.05  # between two checks of a child whose end a client waits for
STDIN, OUTPUT_DESCRIPTORS = 0, (1, 2)

# glibc keeps freed memory until the trial ends: returning it to the kernel and faulting it in again, page by page,
# takes up to a fifth of a training step. Values that the user has set take precedence.
MALLOC_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(2**40)}


class ForkError(RuntimeError):
    """A fork server does not answer, or could not load its modules; the text gives the reason."""


class ForkServer:
    """Fork server started by this process; it and all its children end with this process.

    It has a session of its own, so that a Ctrl-C does not reach it. Its output is discarded; its children inherit the
    output of the client that asked for them.

    Attributes:
        folder: the folder of its socket, which only this user may open.
        address: the path of its socket.
        process: the server's process. The server ends when this process closes its standard input, however it does.
    """

    def __init__(self, preload_module: str = PRELOAD_MODULE) -> None:
        remove_abandoned()  # of this user's killed processes on this machine
        self.folder = Path(tempfile.mkdtemp(prefix="forks-", dir=process_folder()))
        self.address = str(self.folder / "socket")
        warning_options = [f"-W{option}" for option in sys.warnoptions]
        environment = MALLOC_ENVIRONMENT | os.environ | {"OMP_NUM_THREADS": "1"}  # a trial sets its own thread count
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen(128)
            code = (
                f"import sys; sys.path[:] = {sys.path!r}; from studies.execution.processes import fork_server; "
                f"fork_server.run_server({listener.fileno()}, {preload_module!r})"
            )
            self.process = subprocess.Popen(
                [sys.executable, *warning_options, "-c", code],
                env=environment,
                pass_fds=[listener.fileno()],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def close(self) -> None:
        """End the server and its children, also while it is still loading."""
        self.process.terminate()
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


_server_addresses: list[str] = []  # at most one: the server from which this process's studies fork their trials


@contextmanager
def prestart_fork_server() -> Iterator[None]:
    """Provide a fork server for all studies that this process runs within the block."""
    if _server_addresses:
        yield
        return
    server = ForkServer()
    register_server(server.address)
    try:
        yield
    finally:
        _server_addresses.clear()
        server.close()


def register_server(socket_address: str) -> None:
    """Let this process's studies fork their trials from a running server."""
    _server_addresses.append(socket_address)


def server_address() -> str:
    """Return the socket address of the server that studies of this process use; empty where there is none."""
    return _server_addresses[0] if _server_addresses else ""


class ForkClient:
    """Source of a worker's child processes: a shared fork server, else one of its own.

    Attributes:
        address: the shared server's socket; empty for none.
        own_server: the worker's own server, started where there is no shared one, or it has died.
    """

    def __init__(self, shared_address: str) -> None:
        self.address = shared_address
        self.own_server = None if shared_address else ForkServer()

    def fork(self, target: Callable[..., None], *arguments: object) -> ForkedProcess:
        """Fork a child that calls ``target(*arguments, connection)``.

        Raises:
            ForkError: where no server answers, or it could not load its modules.
        """
        if self.own_server is None:
            with suppress(OSError, EOFError):  # the shared server has died
                return ForkedProcess(self.address, target, *arguments)
        if self.own_server is None or self.own_server.process.poll() is not None:
            self.close()
            self.own_server = ForkServer()
        try:
            return ForkedProcess(self.own_server.address, target, *arguments)
        except (OSError, EOFError) as error:
            raise ForkError(f"the fork server has ended ({error or 'no reason given'})") from error

    def close(self) -> None:
        """End the worker's own server, if it has started one."""
        if self.own_server:
            self.own_server.close()


class ForkedProcess:
    """Handle of a child process, held by the client that asked for it.

    Attributes:
        address: the socket of the server that has forked it.
        exitcode: its exit code, negative for a signal; ``None`` until it was joined or killed.
        connection: pipe to the child; at end of file once the child and all that it has started have ended.
        pid: the child's process ID.
    """

    def __init__(self, address: str, target: Callable[..., None], *arguments: object) -> None:
        self.address = address
        self.exitcode: int | None = None
        self.connection = _open_connection(address)
        self.connection.send(FORK_REQUEST)
        if not self.connection.poll(LOAD_TIMEOUT_SECONDS):
            raise ForkError(f"the fork server started no process within {LOAD_TIMEOUT_SECONDS:g} s")
        answer = self.connection.recv()
        if isinstance(answer, str):  # the error that kept the server from loading
            raise ForkError(answer)
        self.pid: int = answer
        self.connection.send((Path.cwd(), sys.path, dict(os.environ)))
        for output in OUTPUT_DESCRIPTORS:
            reduction.send_handle(self.connection, output, self.pid)
        self.connection.send((target, arguments))

    def join(self) -> int:
        """Wait until the child has ended; return its exit code, negative for a signal."""
        return self._reap(kill=False)

    def kill(self) -> int:
        """Kill the child unless it has ended; return its exit code."""
        return self._reap(kill=True)

    def _reap(self, *, kill: bool) -> int:
        if self.exitcode is not None:
            return self.exitcode
        try:
            with _open_connection(self.address) as connection:
                connection.send((self.pid, kill))
                self.exitcode = int(connection.recv())
        except (OSError, EOFError):  # the server, its parent, is gone: only a parent learns an exit code
            self.exitcode = -signal.SIGKILL
            if kill:
                with suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
        self.connection.close()
        return self.exitcode


def _open_connection(address: str) -> Connection:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address)
        return Connection(client.detach())


def run_server(socket_descriptor: int, preload_module: str) -> None:
    """Run the server; the body of its process.

    Args:
        socket_descriptor: file descriptor of its listening socket.
        preload_module: name of the module to load; where that fails, every client gets the traceback.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    load_error = ""
    try:
        importlib.import_module(preload_module)
    except Exception:
        load_error = f"{preload_module} cannot be loaded:\n{traceback.format_exc()}"
    with socket.socket(fileno=socket_descriptor) as listener:
        _ServerLoop(listener, load_error).run()


class _ServerLoop:
    """Fork children and report their exit codes, until the server's standard input is closed.

    It has one thread, since a fork copies only the thread that calls it, with locks that other threads may hold.

    Attributes:
        children: forked processes by process ID, until a client has learnt their exit code.
        pending_requests: connections of clients that wait for the end of a child, with its process ID.
    """

    def __init__(self, listener: socket.socket, load_error: str) -> None:
        self.listener = listener
        self.load_error = load_error
        self.context = multiprocessing.get_context("fork")
        self.children: dict[int, BaseProcess] = {}
        self.pending_requests: list[tuple[Connection, int]] = []

    def run(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        try:
            while STDIN not in (ready := self._wait_for_ready()):
                if self.listener in ready:
                    self._handle_request(Connection(self.listener.accept()[0].detach()))
                self._report_exits()
        finally:
            for child in self.children.values():
                child.kill()
            shutil.rmtree(Path(self.listener.getsockname()).parent, ignore_errors=True)

    def _wait_for_ready(self) -> list[Any]:
        awaited = [self.children[pid].sentinel for _, pid in self.pending_requests]
        return wait([self.listener, STDIN, *awaited], POLL_SECONDS if awaited else None)

    def _handle_request(self, connection: Connection) -> None:
        """Fork a child, or note that a client waits for the end of one."""
        with suppress(OSError, EOFError):  # the client is gone
            if not connection.poll(REQUEST_TIMEOUT_SECONDS):
                return
            request = connection.recv()
            if request == FORK_REQUEST:
                with connection:
                    connection.send(self.load_error or self._fork_child(connection))
            else:
                pid, kill = request
                if kill:
                    self.children[pid].kill()
                self.pending_requests.append((connection, pid))

    def _fork_child(self, connection: Connection) -> int:
        child = self.context.Process(target=_run_child, args=(connection, self.listener))
        child.start()
        assert child.pid
        self.children[child.pid] = child
        return child.pid

    def _report_exits(self) -> None:
        waiting = []
        for connection, pid in self.pending_requests:
            if self.children[pid].is_alive():
                waiting.append((connection, pid))
                continue
            with suppress(OSError), connection:
                connection.send(self.children.pop(pid).exitcode)
        self.pending_requests = waiting


def _run_child(connection: Connection, listener: socket.socket) -> None:
    """Run what the client asks for, in its folder, with its environment and output; the body of a child."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    listener.close()
    try:
        folder, sys.path[:], environment = connection.recv()
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        for output in OUTPUT_DESCRIPTORS:
            descriptor = reduction.recv_handle(connection)
            os.dup2(descriptor, output)
            os.close(descriptor)
        target, arguments = connection.recv()
    except (OSError, EOFError):  # the client is gone
        return
    target(*arguments, connection)
