"""Addresses of artifacts, found relative to the runs folder that holds the database.

MLflow stores absolute addresses, which lead from a folder that was moved or copied back to where it was made. Reading
and writing go by :func:`locate_artifacts`, whatever is stored; :func:`relocate_artifacts` corrects what is stored, for
MLflow's own interface and clients.
"""

from __future__ import annotations

import logging
import re
import sqlite3
from contextlib import AbstractContextManager, closing
from pathlib import Path
from urllib.parse import unquote

from lightning_modules.file_lock import exclusive_lock
from studies.settings import Settings

# Of a run: .../artifacts/<experiment>/<run>/artifacts; of an experiment: .../artifacts/<experiment>.
RUN_ADDRESS = re.compile(r"(?:file:)?/.*/artifacts/([^/]+/[^/]+/artifacts(?:/.*)?)")
EXPERIMENT_ADDRESS = re.compile(r"(?:file:)?/.*/artifacts/([^/]+)")
LOCK_TIMEOUT_SECONDS = 20  # as MLflow waits for a database that another process writes to

logger = logging.getLogger(__name__)


def locate_artifacts(settings: Settings, address: str) -> str:
    """The address of a run's artifacts in this runs folder, if the folder holds the store's database.

    Args:
        address: as MLflow stores it, for the folder in which the run was made.
    """
    match = RUN_ADDRESS.fullmatch(address)
    if match is None or not settings.has_own_database:
        return address
    return f"{settings.artifacts_folder.as_uri()}/{match[1]}"


def relocate_artifacts(settings: Settings) -> None:
    """Correct the addresses in a database whose runs folder was moved or copied, and log a line that says so.

    Addresses stay where the files are not in this runs folder but still at their old place, and where the database
    cannot be written to: reading and writing need neither.
    """
    database = settings.database_file
    if database is None or not settings.has_own_database:
        return
    try:
        with closing(sqlite3.connect(database, timeout=LOCK_TIMEOUT_SECONDS)) as connection:
            if not _find_moved_experiments(connection, settings):  # without a lock: nearly always so
                return
            with lock_database(database), connection:
                connection.execute("BEGIN IMMEDIATE")
                moved = _find_moved_experiments(connection, settings)  # another process may have been first
                for experiment_id, old, new in moved:
                    _replace_address(connection, experiment_id, old, new)
    except sqlite3.Error:  # read-only, locked, or no database of MLflow's, which opening it will tell
        return
    if moved:
        logger.warning(
            "%s was moved or copied: MLflow's addresses of its artifacts now lead to %s, no longer to %s.",
            database,
            settings.artifacts_folder,
            _to_path(moved[0][1]).parent,
        )


def _find_moved_experiments(connection: sqlite3.Connection, settings: Settings) -> list[tuple[int, str, str]]:
    """Id, stored address and present address of each experiment whose artifacts are now in this runs folder."""
    moved = []
    for experiment_id, old in connection.execute("SELECT experiment_id, artifact_location FROM experiments"):
        match = EXPERIMENT_ADDRESS.fullmatch(old or "")
        if match is None:
            continue
        new = f"{settings.artifacts_folder.as_uri()}/{match[1]}"
        if new != old and _is_moved(_to_path(old), _to_path(new)):
            moved.append((experiment_id, old, new))
    return moved


def _to_path(address: str) -> Path:
    return Path(unquote(address.removeprefix("file://")))


def _is_moved(old: Path, new: Path) -> bool:
    if not old.exists():
        return True
    # The same folder by another name, as through a link, needs no correction.
    return new.exists() and not old.samefile(new)


def _replace_address(connection: sqlite3.Connection, experiment_id: int, old: str, new: str) -> None:
    connection.execute(
        "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
        (new, experiment_id),
    )
    connection.execute(
        "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) "
        "WHERE experiment_id = ? AND substr(artifact_uri, 1, ?) = ?",
        (new, len(old) + 1, experiment_id, len(old) + 1, f"{old}/"),
    )
    connection.execute(
        "UPDATE logged_models SET artifact_location = ? || substr(artifact_location, ?) "
        "WHERE experiment_id = ? AND substr(artifact_location, 1, ?) = ?",
        (new, len(old) + 1, experiment_id, len(old) + 1, f"{old}/"),
    )


def lock_database(database: Path) -> AbstractContextManager[object]:
    """Let one process at a time create a database, which two at once corrupt for good, or correct it."""
    return exclusive_lock(database.with_name(f".{database.name}.lock"))
