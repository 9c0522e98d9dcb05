"""Unpack the trials and plans of an archive into a runs folder (`ablate import`)."""

from __future__ import annotations

import json
from _thread import interrupt_main
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from lightning_modules.stored_files import hash_file
from studies.scratch import temporary_folder
from studies.settings import Settings, SettingsError
from studies.storage.atomic import AtomicWriter
from studies.storage.copies.archive import TRIAL_FILES, WEIGHTS_FILE, StudyArchive
from studies.storage.lease import find_holder
from studies.storage.manifest import StudyManifest, hold_study_lease, read_manifest
from studies.storage.trial_folder import TrialFolder

LOG_FILES = ("attempts.jsonl", "faults.jsonl")  # those here count the attempts of this runs folder


def unpack_trials(archive: StudyArchive, settings: Settings) -> tuple[int, list[str]]:
    """Unpack the trials and plans of an archive into a runs folder, and never replace a result.

    Returns:
        The number of trials that are new here, and one line per trial that was left as it is, with the reason.

    Raises:
        SettingsError: where a file is damaged, or a process runs the study.
    """
    archive.verify()
    kept: list[str] = []
    num_new = 0
    with ExitStack() as leases:
        for name in archive.study_folders:  # a driver would not log the trials, and writes the plan as well
            study, folder = name.rpartition("-")[0], settings.studies_folder / name
            leases.enter_context(hold_study_lease(folder, study, on_lost=interrupt_main))
        for name in sorted({path.split("/")[1] for path in archive.checksums if path.startswith("trials/")}):
            reason = _unpack_trial(archive, name, settings.trials_folder / name)
            if reason:
                kept.append(f"{name}: {reason}")
            elif reason is None:
                num_new += 1
        for name in archive.study_folders:
            _unpack_study(archive, name, settings.studies_folder / name)
    return num_new, kept


def _unpack_trial(archive: StudyArchive, name: str, folder: Path) -> str | None:
    """Unpack a trial; returns why not, empty where it is here already, ``None`` where it is new."""
    paths = [f"trials/{name}/{file}" for file in (WEIGHTS_FILE, *TRIAL_FILES)]  # the result last
    present = [path for path in paths if path in archive.checksums]
    local_result, result_path = folder / "result.json", f"trials/{name}/result.json"
    is_new = not local_result.exists()
    if not is_new and hash_file(local_result) != archive.checksums.get(result_path, ("", 0))[0]:
        # A failed trial would be tried again: the archive's result is that of such a try.
        is_ended_there = result_path in archive.checksums and not _is_failure(archive.read(result_path))
        if not (is_ended_there and _is_failure(local_result.read_bytes())):
            return "the result here differs from the archive's, and is kept"
        is_new = True
    if find_holder(folder):
        return "a process is training it"
    folder.mkdir(parents=True, exist_ok=True)
    if is_new and result_path in archive.checksums:
        _remove_leftovers(TrialFolder(folder), {Path(path).name for path in present}, archive.read(result_path))
    for path in present:
        target = folder / Path(path).name
        # An interrupted trial may have left predictions or weights that are not those of the archive's result.
        if not target.exists() or (is_new and target.name not in LOG_FILES):
            with AtomicWriter(target) as partial, partial.open("wb") as file:
                for chunk in archive.chunks(path):
                    file.write(chunk)
    return None if is_new else ""


def _remove_leftovers(folder: TrialFolder, replaced: set[str], result: bytes) -> None:
    """Remove what an interrupted or failed trial left and an archive does not replace: it is not the result's."""
    stale = {WEIGHTS_FILE, *TRIAL_FILES} - replaced - {*LOG_FILES}
    if not _is_failure(result):  # which would be tried again from the checkpoint
        stale.add(folder.checkpoint.name)
    for name in sorted(stale):
        folder.delete_file(folder.folder / name)


def _is_failure(content: bytes) -> bool:
    """Whether the content of a result's file is that of a failed trial; a damaged one is none."""
    try:
        return bool(json.loads(content)["status"] == "failed")
    except (ValueError, KeyError, TypeError):
        return False


def _unpack_study(archive: StudyArchive, name: str, folder: Path) -> None:
    """Merge an archived plan into that of this runs folder."""
    with temporary_folder() as temporary:
        imported = archive.read_manifest(name, temporary)
        if f"{imported.registration.study}-{imported.conditions}" != name:
            raise SettingsError(f"studies/{name} in {archive.file} is the plan of another study: refused.")
    if (folder / "study.json").exists():
        _require_same_labels(imported, read_manifest(folder), archive.file)
    imported.write(folder)
    board = f"studies/{name}/board.json"
    if board in archive.checksums and not (folder / "board.json").exists():
        with AtomicWriter(folder / "board.json") as partial:
            partial.write_bytes(archive.read(board))


def _require_same_labels(imported: StudyManifest, local: StudyManifest, file: Path) -> None:
    if not np.array_equal(imported.labels, local.labels):
        raise SettingsError(f"{file} was made on other test data than the study of the same conditions here: refused.")
