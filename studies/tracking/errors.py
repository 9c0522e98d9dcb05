"""Errors of the tracking store, translated from those of MLflow and its database."""

from __future__ import annotations

import os
import sqlite3
import textwrap
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from lightning_modules.specs.errors import UserError
from studies.settings import database_file_of, redact_credentials

STORE_ERRORS = (MlflowException, SQLAlchemyError, OSError)  # what MLflow's client raises when the store fails
MAX_REASON_LENGTH = 200  # characters; MLflow quotes whole SQL statements and web pages


class TrackingError(RuntimeError):
    """The tracking store does not answer, or does not hold what was asked for."""

    def _render_traceback_(self) -> list[str]:
        from lightning_modules.specs.notebook_html import render_one_line_error

        return render_one_line_error(self)


class NotRecordedError(TrackingError, UserError):
    """The tracking store does not hold the study or the run that was asked for."""


@contextmanager
def report_store_outage(uri: str) -> Iterator[None]:
    """Translate MLflow's errors from a store that has answered before.

    Raises:
        TrackingError: with the root cause, and how to resume.
    """
    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        _require_sound_database(uri, error)
        raise TrackingError(
            f"the tracking store {redact_credentials(uri)} does not answer any more "
            f"({_shorten_reason(root_cause(error))}). What was trained is kept: call `ablate run` again when it does."
        ) from error


@contextmanager
def report_unreachable_store(uri: str) -> Iterator[None]:
    """Translate errors of opening, reading and writing a store that may never have answered.

    Raises:
        TrackingError: with the missing Python package, or what to check.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise TrackingError(
            f"the tracking store {redact_credentials(uri)} needs the Python package {error.name!r}; install it."
        ) from error
    except STORE_ERRORS as error:
        if isinstance(error, MlflowException) and error.error_code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
            raise TrackingError(describe_refusal(uri)) from error
        _require_sound_database(uri, error)
        raise TrackingError(
            f"the tracking store {redact_credentials(uri)} does not answer as one. "
            f"Check --tracking-uri, and that its server runs. ({_shorten_reason(str(error))})"
        ) from error


def find_database_damage(database: Path) -> str:
    """What SQLite's own check finds wrong with a database; empty where it finds nothing, or cannot look."""
    # Read-only, and patient: a running study may hold the lock for a moment.
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=20)) as connection:
            answer = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError:
        return ""
    except sqlite3.DatabaseError as error:
        return str(error)
    return "" if answer == "ok" else " ".join(answer.split())


def describe_database_damage(database: Path, reason: str) -> str:
    """Name a damaged database, with what to do."""
    return (
        f"the tracking store {database} is damaged ({reason}). Restore a backup; or move the file away, and "
        "`ablate sync` makes it again from the trial folders (the list of earlier starts is lost with it)."
    )


def _require_sound_database(uri: str, error: Exception) -> None:
    database = database_file_of(uri)
    reason = find_database_damage(database) if database and database.exists() else ""
    if database and reason:
        raise TrackingError(describe_database_damage(database, reason)) from error


def require_readable_database(database: Path, *, for_writing: bool) -> None:
    """Refuse a file that SQLite cannot read, at once: MLflow would try it again and again.

    Raises:
        TrackingError: with what is wrong, and what to do.
    """
    is_writable = os.access(database, os.W_OK)
    if for_writing and not is_writable:
        raise TrackingError(f"the tracking store {database} is read-only: make it writable, or copy its folder.")
    if database.stat().st_size == 0:  # which SQLite, and MLflow, would take for a new one
        raise TrackingError(describe_database_damage(database, "it is empty"))
    # After a driver was killed in a write, SQLite reads a database only where it may undo what was half written.
    mode = "rw" if is_writable else "ro"
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode={mode}", uri=True, timeout=20)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        if "locked" in str(error):  # by another process, for which MLflow waits as well
            return
        raise TrackingError(
            f"the tracking store {database} cannot be opened ({error}): expected a database file that you may read."
        ) from error
    except sqlite3.DatabaseError as error:
        raise TrackingError(describe_database_damage(database, str(error))) from error


def describe_refusal(uri: str) -> str:
    """What a server's refusal of a user means, and what to set."""
    names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
    given = [name for name in names if os.environ.get(name)]
    server = f"the tracking server {redact_credentials(uri)}"
    if given:
        return f"{server} refuses the credentials in {' and '.join(given)}: check them, and the user's permissions."
    return (
        f"{server} asks for credentials: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, "
        "or MLFLOW_TRACKING_TOKEN."
    )


def root_cause(error: BaseException) -> str:
    """Type and text of the exception that a chain of exceptions started with."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return f"{type(error).__name__}: {error}"


def _shorten_reason(reason: str) -> str:
    return textwrap.shorten(redact_credentials(reason), MAX_REASON_LENGTH, placeholder=" ...")
