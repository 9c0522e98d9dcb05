"""Exit codes and error handling of the command line."""

from __future__ import annotations

import atexit
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import click

from lightning_modules.specs.errors import DamagedFileError, UserError
from studies.execution.interrupts import is_waiting_for_ray, run_last_actions

EXIT_MISUSE, EXIT_FAILURE = 2, 1  # as click and pytest use them
EXIT_STOPPED = 3  # at its budget: nothing failed, and seeds are left
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it
LONGEST_END_SECONDS = 20.0  # batch systems kill what is left half a minute after their signal
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE: `ablate list | head -1`


class CommandGroup(click.Group):
    """A group whose commands print an error as one line; ``--debug`` raises it with its traceback.

    Misuse (a :class:`UserError`) exits with 2, any other failure with 1.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command and print what went wrong."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except KeyboardInterrupt:
            verb = "Terminated" if process_end.signals else "Interrupted"
            is_study = ctx.invoked_subcommand in ("run", "extend", "calibrate")
            remedy = " Ended trials are logged; the same command resumes from there." if is_study else ""
            click.echo(f"{verb}.{remedy}", err=True)
            ctx.exit(process_end.interrupted_code)
        except Exception as error:
            if process_end.has_lost_reader:
                ctx.exit(EXIT_BROKEN_PIPE)
            if ctx.params.get("debug"):
                raise
            text = str(error) or type(error).__name__
            # The text of an expected error says what to do; an unexpected one also needs its type and its place.
            is_expected = isinstance(error, (UserError, DamagedFileError, _tracking_error_type()))
            hint = "" if is_expected else f" ({type(error).__name__}; `ablate --debug ...` prints the traceback)"
            click.echo(f"Error: {text}{hint}", err=True)
            ctx.exit(EXIT_MISUSE if isinstance(error, UserError) else EXIT_FAILURE)


class ProcessEnd:
    """How this process is made to end from outside: by a signal, or because nobody reads its output any more.

    Attributes:
        signals: those received that ask a process to end, other than a Ctrl-C.
        outputs: copies of the descriptors of the output: libraries replace the original ones once their reader is gone.
    """

    def __init__(self) -> None:
        self.signals: list[int] = []
        self.outputs: list[int] = []

    def watch(self) -> None:
        """Take SIGTERM and SIGHUP as a Ctrl-C, which ends a study in order, and keep an eye on the output."""
        process_id = os.getpid()

        def interrupt(number: int, frame: FrameType | None) -> None:
            del frame
            if os.getpid() != process_id:  # a forked child
                os._exit(128 + number)
            if not self.signals:
                threading.Thread(target=_end_late, args=(number,), name="end-late", daemon=True).start()
            self.signals.append(number)
            if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # by a shell, of a script's background processes
                signal.signal(signal.SIGINT, signal.default_int_handler)
            os.kill(process_id, signal.SIGINT)

        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) == signal.SIG_DFL:  # `nohup` ignores SIGHUP
                signal.signal(number, interrupt)
        for descriptor in (1, 2):
            with suppress(OSError):  # closed: `ablate run ... >&-`
                self.outputs.append(os.dup(descriptor))

    @property
    def interrupted_code(self) -> int:
        """Exit code after an interrupt, as a shell reports the signal."""
        return 128 + self.signals[0] if self.signals else EXIT_INTERRUPTED

    @property
    def has_lost_reader(self) -> bool:
        """Whether the output is a pipe that nobody reads any more."""
        poller = select.poll()
        for descriptor in self.outputs:
            poller.register(descriptor, 0)  # no event asked for: errors are always reported
        return any(event & select.POLLERR for _, event in poller.poll(0))


def _end_late(number: int) -> None:
    """End this process some time after a signal, if it still waits for Ray then; all else ends in its own time.

    A signal to all processes at once, as by `timeout` or a batch system, ends Ray's servers as well, and what Tune asks
    of them waits in C++: for a minute, or for ever.
    """
    time.sleep(LONGEST_END_SECONDS)
    while not is_waiting_for_ray():
        time.sleep(1.0)
    run_last_actions()
    with suppress(OSError, ValueError):  # nobody reads it
        sys.stderr.write(
            f"Ended {LONGEST_END_SECONDS:g} s after {signal.Signals(number).name}, as Ray does not answer. "
            "Ended trials are kept; the same command resumes from there.\n"
        )
        sys.stderr.flush()
    os._exit(128 + number)


process_end = ProcessEnd()


def run_and_exit(command: Callable[[], Any]) -> None:
    """Run a command, then end this process without tearing down what it imported.

    All exit handlers run and all output is flushed; but finalizing Ray, torch and MLflow would take two more seconds.
    """
    process_end.watch()
    exit_code = EXIT_FAILURE

    def leave() -> None:
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # its reader is gone, as in `ablate list | head -1`
                stream.flush()
        os._exit(exit_code)

    atexit.register(leave)  # handlers run last in, first out: this one comes after all others
    try:
        command()
        exit_code = 0
    except SystemExit as end:
        exit_code = _exit_code(end)
        if exit_code and process_end.has_lost_reader:
            exit_code = EXIT_BROKEN_PIPE  # click and rich end with 1 then
        raise
    except KeyboardInterrupt:
        exit_code = process_end.interrupted_code
        raise


def _exit_code(end: SystemExit) -> int:
    """The exit code of ``sys.exit``: an integer as it is, failure for a text, else success."""
    if isinstance(end.code, int):
        return end.code
    return EXIT_FAILURE if end.code else 0


def _tracking_error_type() -> type[Exception]:
    """``TrackingError`` where its module is loaded: an error of it cannot have been raised otherwise."""
    module = sys.modules.get("studies.tracking.errors")
    return module.TrackingError if module else UserError
