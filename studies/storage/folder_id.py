"""The identity of a runs folder, by which a shared tracking store tells its runs from those of other folders."""

from __future__ import annotations

import hashlib
import platform
import secrets
from pathlib import Path

from lightning_modules.file_lock import exclusive_lock
from lightning_modules.specs.errors import DamagedFileError
from lightning_modules.stored_files import dump_json, read_json
from studies.storage.atomic import AtomicWriter

FOLDER_ID_FILE = "folder_id.json"
FOLDER_ID_SHAPE = {"id": str, "path": str, "host": str}
FOLDER_ID_REMEDY = (
    "Restore the file. Without it the folder gets a new identity, and its earlier runs in a shared tracking store "
    "count as another folder's: name them by --run RUN_ID."
)


def read_folder_id(folder: Path) -> str:
    """The id of a folder; empty where it has none yet, or where it is a copy that must get its own.

    Raises:
        DamagedFileError: where its file cannot be read.
    """
    try:
        data = read_json(folder / FOLDER_ID_FILE, FOLDER_ID_SHAPE, FOLDER_ID_REMEDY)
    except FileNotFoundError:
        return ""
    return "" if _is_copy(folder, data) else str(data["id"])


def ensure_folder_id(folder: Path) -> str:
    """The id of a folder that exists, drawn at random at the first call.

    Raises:
        DamagedFileError: where its file cannot be read.
    """
    folder_id = read_folder_id(folder)
    if folder_id:
        return folder_id
    with exclusive_lock(folder / f".{FOLDER_ID_FILE}.lock"):
        folder_id = read_folder_id(folder)
        if folder_id:
            return folder_id  # another process was first
        folder_id = secrets.token_hex(8)
        data = {"id": folder_id, "path": str(folder.resolve()), "host": platform.node()}
        with AtomicWriter(folder / FOLDER_ID_FILE) as partial:
            partial.write_bytes(dump_json(data))
    return folder_id


def object_store_id(uri: str) -> str:
    """The id of an object store: by its address, since machines that share it share nothing else.

    Args:
        uri: without credentials.
    """
    return hashlib.sha256(uri.rstrip("/").encode()).hexdigest()[:16]


def _is_copy(folder: Path, data: dict[str, str]) -> bool:
    """Whether a folder was copied, rather than moved, from where its id was drawn: that folder still has the id."""
    original = Path(data["path"])
    if data["host"] != platform.node() or original == folder.resolve():
        return False
    try:
        found = read_json(original / FOLDER_ID_FILE, FOLDER_ID_SHAPE, FOLDER_ID_REMEDY)
    except (OSError, DamagedFileError):
        return False
    return bool(found["id"] == data["id"])
