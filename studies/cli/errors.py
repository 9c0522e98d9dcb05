"""Exit codes and error handling of the command line."""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import click

from lightning_modules.specs.errors import DamagedFileError, UserError

EXIT_MISUSE, EXIT_FAILURE = 2, 1  # as click and pytest use them
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it


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
            click.echo("Interrupted. Ended trials are logged; the same command resumes from there.", err=True)
            ctx.exit(EXIT_INTERRUPTED)
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            text = str(error) or type(error).__name__
            # The text of an expected error says what to do; an unexpected one also needs its type and its place.
            is_expected = isinstance(error, (UserError, DamagedFileError, _tracking_error_type()))
            hint = "" if is_expected else f" ({type(error).__name__}; `ablate --debug ...` prints the traceback)"
            click.echo(f"Error: {text}{hint}", err=True)
            ctx.exit(EXIT_MISUSE if isinstance(error, UserError) else EXIT_FAILURE)


def run_and_exit(command: Callable[[], Any]) -> None:
    """Run a command, then end this process without tearing down what it imported.

    All exit handlers run and all output is flushed; but finalizing Ray, torch and MLflow would take two more seconds.
    """
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
        raise
    except KeyboardInterrupt:
        exit_code = EXIT_INTERRUPTED
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
