"""Whose runs a shared tracking store holds: those of this runs folder, and those of others."""

from __future__ import annotations

import getpass
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Run

from studies.settings import Settings
from studies.storage.folder_id import ensure_folder_id, object_store_id, read_folder_id

# Tags of a study's run, from its creation.
FOLDER_TAG = "runs_folder"
STORAGE_TAG = "storage"
HOST_TAG = "host"
USER_TAG = "mlflow.user"  # MLflow's own: a column of its interface


@dataclass(frozen=True, kw_only=True)
class RunsOwner:
    """The runs folder that opens a tracking store, with its user and host.

    Attributes:
        folder_id: of the runs folder; empty where it has none, and so has started no run in a shared store.
        storage_id: of the storage that several hosts share; empty where there is none.
        owns_store: whether the store is a database inside the runs folder, so that all of its runs are the folder's.
        studies_folder: folders of the studies that were started with this runs folder.
    """

    user: str
    host: str
    folder_id: str
    storage_id: str
    owns_store: bool
    studies_folder: Path

    @property
    def tags(self) -> dict[str, str]:
        """Tags by which a study's run is found again as this folder's."""
        tags = {FOLDER_TAG: self.folder_id, STORAGE_TAG: self.storage_id, HOST_TAG: self.host}
        return {name: value for name, value in tags.items() if value}

    def owns(self, run: Run) -> bool:
        """Whether a study's run was started with this runs folder, or with the storage that it shares."""
        tags = run.data.tags
        if self.owns_store:
            return True
        marks = {tags[name] for name in (FOLDER_TAG, STORAGE_TAG) if name in tags}
        if marks:
            return bool(marks & {self.folder_id, self.storage_id})
        # Earlier versions recorded the user alone.
        if USER_TAG in tags:
            return bool(tags[USER_TAG] == self.user)
        return (self.studies_folder / f"{tags.get('study')}-{tags.get('conditions')}").is_dir()


def find_runs_owner(settings: Settings, *, create: bool) -> RunsOwner:
    """Who opens a tracking store.

    Args:
        create: whether a folder without an id gets one, as by commands that write.

    Raises:
        DamagedFileError: where the folder's id cannot be read.
    """
    owns_store = settings.has_own_database
    folder_id = storage_id = ""
    if not owns_store:
        folder_id = _folder_id(settings.runs_folder, create=create)
        if settings.storage_folder:
            storage_id = _folder_id(settings.storage_folder, create=create)
        elif settings.object_store_uri:
            storage_id = object_store_id(settings.object_store_uri)
    return RunsOwner(
        user=user_name(),
        host=platform.node(),
        folder_id=folder_id,
        storage_id=storage_id,
        owns_store=owns_store,
        studies_folder=settings.studies_folder,
    )


def _folder_id(folder: Path, *, create: bool) -> str:
    if not create:
        return read_folder_id(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return ensure_folder_id(folder)


def user_name() -> str:
    """Name of the user; the numeric id if there is none, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def describe_owner(run: Run) -> str:
    """User and host that started a study's run."""
    tags = run.data.tags
    user = tags.get(USER_TAG) or "an unknown user"
    return f"{user} on {tags[HOST_TAG]}" if tags.get(HOST_TAG) else user
