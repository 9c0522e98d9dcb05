"""The files behind `ablate status`: a study's ``board.json``, and a trial's ``progress.json``."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_modules.specs.errors import DamagedFileError
from lightning_modules.stored_files import (
    NUMBER,
    NUMBER_OR_NULL,
    Shape,
    describe_value,
    dump_json,
    read_json,
    require_stored_shape,
)
from studies.records.json_numbers import nonfinite_to_null
from studies.settings import Settings

STATUS_SCHEMA = 1
BOARD_REMEDY = "Delete it: `ablate run` of this study writes it anew, and trains nothing again."
PROGRESS_REMEDY = "Delete it: it only shows how far the trial is."
BOARD_SHAPE = {
    "schema": int,
    "study": str,
    "protocol": str,
    "stopped?": str,
    "rows": [
        {
            "arm": str,
            "group": str,
            "seed": int,
            "epochs": int,
            "folder": str,
            "part": str,
            "planned": str,
            "since": NUMBER,
        }
    ],
}
PROGRESS_SHAPE = {
    "schema": int,
    "trial?": str,
    "epoch": int,
    "epochs?": int,
    "validation_error?": NUMBER_OR_NULL,
    "pace?": NUMBER_OR_NULL,
    "node?": str,
    "attempts?": int,
    "bundle_size?": int,
}


def write_progress(folder: Path, values: Mapping[str, Any]) -> None:
    """Replace the progress file of a trial's folder."""
    # Neither synced to disk nor uploaded: only displays read it, and it is written every epoch.
    partial = folder / f".progress-{secrets.token_hex(4)}"
    try:
        partial.write_bytes(dump_json(nonfinite_to_null({"schema": STATUS_SCHEMA, "trial": folder.name, **values})))
        partial.replace(folder / "progress.json")
    except OSError:  # a trial must not fail because its progress cannot be displayed
        partial.unlink(missing_ok=True)


def read_board(file: Path) -> dict[str, Any]:
    """Content of a study's status file.

    Raises:
        DamagedFileError: where it is missing, damaged or of another schema.
    """
    return _read_stored(file, BOARD_SHAPE, BOARD_REMEDY)


def find_status_damage(settings: Settings) -> list[DamagedFileError]:
    """Status files that are damaged or missing, each with its reason; those of another version are left out."""
    damages = []
    for file in sorted(settings.studies_folder.glob("*/board.json")):
        try:
            read_board(file)
        except DamagedFileError as error:
            damages.append(error)
    for manifest in sorted(settings.studies_folder.glob("*/study.json")):
        board = manifest.with_name("board.json")
        if not board.exists() and _plans_trials(manifest):
            remedy = "`ablate status NAME --record` reads the tracking store; the next `ablate run` writes it anew."
            damages.append(DamagedFileError(board, "it is missing", remedy))
    return damages


def _plans_trials(manifest: Path) -> bool:
    """Whether a start has planned trials; one that registers a study alone writes no status file."""
    try:
        data = read_json(manifest, {"*": object}, BOARD_REMEDY)
    except DamagedFileError:  # told where manifests are read
        return False
    return bool(data.get("entries") or data.get("candidates"))


def load_board(file: Path) -> dict[str, Any]:
    """Content of a study's status file; empty where it is missing, damaged or of another schema."""
    try:
        return read_board(file)
    except DamagedFileError:
        return {}


def read_progress(file: Path) -> dict[str, Any]:
    """Content of a trial's progress file.

    Raises:
        DamagedFileError: where it is missing, damaged, of another schema, or of another trial.
    """
    data = _read_stored(file, PROGRESS_SHAPE, PROGRESS_REMEDY)
    if data.get("trial", file.parent.name) != file.parent.name:
        raise DamagedFileError(file, f"it is of another trial, {data['trial'][:60]}", PROGRESS_REMEDY)
    return data


def load_progress(file: Path, damages: list[str]) -> dict[str, Any]:
    """Content of a trial's progress file; empty where it is missing or damaged, which is added to ``damages``."""
    if not file.exists():
        return {}
    try:
        return read_progress(file)
    except DamagedFileError as error:
        damages.append(str(error))
        return {}


def _read_stored(file: Path, shape: Shape, remedy: str) -> dict[str, Any]:
    try:
        data = read_json(file, {"*": object}, remedy)
    except FileNotFoundError as error:
        raise DamagedFileError(file, "it is missing", remedy) from error
    if data.get("schema") != STATUS_SCHEMA:
        found = describe_value(data.get("schema"))
        raise DamagedFileError(file, f"its schema is {found}; expected {STATUS_SCHEMA}", remedy)
    require_stored_shape(data, shape, file, remedy)
    return data
