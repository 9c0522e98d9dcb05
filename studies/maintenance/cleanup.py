"""Find and free what no study needs in a runs folder or object store (`ablate gc`).

A study needs, of every trial that it plans, the result and the predictions (a lost tracking store is rebuilt from
them), the checkpoint until the trial has ended without failing, and the weights. A candidate's folder is needed until
its search has finished. Whatever is under a lease stays, and we hold a lease ourselves on what is being freed.
"""

from __future__ import annotations

import os
import platform
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lightning_modules.data.datasets import find_unused_caches
from studies.maintenance.runs_index import RunsFolderIndex, StoredTrial
from studies.scratch import find_abandoned
from studies.settings import Settings
from studies.storage import lease
from studies.storage.object_store import ObjectInfo, ObjectStore, open_object_store
from studies.storage.trial_folder import TrialFolder
from studies.tracking.inspection import SupersededModel
from studies.tracking.store import Store, open_store

IN_FLIGHT_SECONDS = 600.0  # a younger temporary file may still be being written
UNUSED_CACHE_DAYS = 30  # decoded images are decoded again when a study needs them
ABANDONED_SECONDS = 86400.0  # an unlisted, interrupted trial untouched for a day will not be resumed
TEMPORARY_PATTERNS = ("*.partial", ".lease-*", ".clock-*", ".seen-*", ".probe-*")
GarbageKind = Literal[
    "temporary file",
    "dead lease",
    "checkpoint",
    "weights",
    "trial folder",
    "logged model",
    "scratch folder",
    "decoded images",
]
REPLACED = "trained since by other code, data or platform"


@dataclass(frozen=True, kw_only=True)
class GarbageItem:
    """A file, folder or object that no study needs.

    Attributes:
        leased_folder: folder whose lease we must hold while freeing the item; ``None`` where there is none.
        object_key: key in the object store; empty for a local file.
        model: a network logged in the tracking store; ``None`` for a file or folder.
    """

    path: Path
    kind: GarbageKind
    reason: str
    size: int
    leased_folder: Path | None = None
    object_key: str = ""
    model: SupersededModel | None = None


def active_drivers(settings: Settings) -> list[lease.LeaseHolder]:
    """Processes that run a study in a runs folder now."""
    drivers = []
    for folder in settings.studies_folder.glob("[!.]*"):
        holder = lease.find_holder(folder) if folder.is_dir() else None
        if holder:
            drivers.append(holder)
    return drivers


def find_garbage(
    settings: Settings, store: Store | None, *, weights: bool = False, log: Callable[[str], None]
) -> tuple[GarbageItem, ...]:
    """Find all that no study needs now.

    Args:
        store: tracking store; without it, what only the store can tell is kept.
        weights: include the weights of ended trials that no trial starts from.
        log: receives the reason why something is kept that may not be needed.
    """
    index = RunsFolderIndex.scan(settings)
    small_items = [
        *_find_scratch_folders(settings),
        *_find_temporary_files(settings),
        *_find_decoded_images(settings),
        *_find_checkpoints(index),
    ]
    for error_text in index.read_errors:
        log(f"{error_text} Until this is fixed, trial folders and weights are kept.")
    for damage in index.damages:
        log(f"{damage} Its folder is kept.")
    drivers = active_drivers(settings)
    for driver in drivers:
        log(f"{driver} is running a study: trial folders and weights are kept until it has ended.")
    # A plan that cannot be read, or that a driver is just making, may need any trial.
    if index.read_errors or drivers:
        return tuple(small_items)
    trial_folders = tuple(_find_trial_folders(index, store))
    if weights:
        small_items += _find_weights(index, store)
    # What is inside a trial folder that goes as a whole is not counted twice.
    removed = {item.path for item in trial_folders}
    found = [item for item in small_items if item.path.parent not in removed]
    object_store = open_object_store(settings)
    if object_store:
        with object_store.as_settings_errors():
            found += _find_stored_objects(object_store, index, store, weights=weights)
    return (*found, *trial_folders, *_find_logged_models(store))


def free_garbage(garbage: Iterable[GarbageItem], settings: Settings) -> int:
    """Free items, each under a lease of our own where it has one; returns the number of freed bytes."""
    return sum(item.size for item in garbage if _free_item(item, settings))


def _free_item(item: GarbageItem, settings: Settings) -> bool:
    if item.kind in ("trial folder", "weights", "logged model") and active_drivers(settings):
        return False  # a study was started after the search for garbage, and may need them
    if item.model:
        open_store(settings, create=False).inspector.delete_model(item.model)
        return True
    if item.object_key:
        return _free_object(item, settings)
    if item.leased_folder is None:
        _remove_path(item.path)
        return True
    if not item.leased_folder.exists():
        return False
    own_lease = lease.acquire_lease(item.leased_folder)
    if own_lease is None:
        return False
    if item.path != item.leased_folder:
        _remove_path(item.path)
        own_lease.release()
        return True
    removed_path = item.path.with_name(f".gone-{secrets.token_hex(6)}")
    own_lease.check()
    # A rename is atomic: no other process ever finds half a trial. The lease goes with its folder.
    item.path.rename(removed_path)
    _remove_path(removed_path)
    return True


def _free_object(item: GarbageItem, settings: Settings) -> bool:
    object_store = open_object_store(settings)
    if object_store is None or (item.leased_folder and lease.find_holder(item.leased_folder)):
        return False
    with object_store.as_settings_errors():
        if item.kind == "trial folder":
            object_store.delete_folder(item.object_key)
        else:
            object_store.delete(item.object_key)
    return True


def _remove_path(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _file_item(path: Path, kind: GarbageKind, reason: str) -> GarbageItem:
    return GarbageItem(path=path, kind=kind, reason=reason, size=disk_size(path), leased_folder=path.parent)


def _find_scratch_folders(settings: Settings) -> Iterator[GarbageItem]:
    """Find folders that killed processes left: their temporary files, and trials that they were removing."""
    for path in (*settings.shared_folder.glob("ray-*"), *Path(tempfile.gettempdir()).glob("ray-*")):
        # Named by host and process id, so another host's folder is never judged by this host's processes.
        match = re.fullmatch(rf"ray-{re.escape(platform.node())}-(\d+)", path.name)
        is_own = path.is_dir() and not path.is_symlink() and path.stat().st_uid == os.getuid()
        if match and is_own and not Path(f"/proc/{match[1]}").exists():
            yield GarbageItem(path=path, kind="scratch folder", reason="its driver has ended", size=disk_size(path))
    for path in find_abandoned():
        yield GarbageItem(path=path, kind="scratch folder", reason="its process has ended", size=disk_size(path))
    for path in settings.trials_folder.glob(".gone-*"):
        yield GarbageItem(path=path, kind="scratch folder", reason="was being removed", size=disk_size(path))


def _find_temporary_files(settings: Settings) -> Iterator[GarbageItem]:
    """Find partially written files, and leases of processes that no longer exist."""
    for path in (*settings.runs_folder.glob(".probe-*"), *settings.trials_folder.glob(".seen-*")):
        if _age_seconds(path) > IN_FLIGHT_SECONDS:
            yield GarbageItem(path=path, kind="temporary file", reason="partially written", size=disk_size(path))
    for folder in _leased_folders(settings):
        if lease.find_holder(folder):
            continue
        for pattern in TEMPORARY_PATTERNS:
            for path in folder.glob(pattern):
                if _age_seconds(path) > IN_FLIGHT_SECONDS:
                    yield _file_item(path, "temporary file", "partially written")
        if lease.is_lease_expired(folder):
            for path in folder.glob("lease-*.json"):
                yield _file_item(path, "dead lease", "its process has ended")


def _find_decoded_images(settings: Settings) -> Iterator[GarbageItem]:
    """Find decoded images that no study has read for a month, as of files that have changed since."""
    reason = f"unused for {UNUSED_CACHE_DAYS} days"
    for folder in find_unused_caches(settings.cache_folder, UNUSED_CACHE_DAYS * 86400.0):
        yield GarbageItem(path=folder, kind="decoded images", reason=reason, size=disk_size(folder))


def _leased_folders(settings: Settings) -> Iterator[Path]:
    for parent in (settings.trials_folder, settings.studies_folder):
        for path in sorted(parent.glob("[!.]*")):
            if path.is_dir() and not path.is_symlink():
                yield path


def _find_checkpoints(index: RunsFolderIndex) -> Iterator[GarbageItem]:
    for trial in index.trials.values():
        checkpoint = TrialFolder(trial.folder).checkpoint
        if trial.has_ended and checkpoint.exists() and not lease.find_holder(trial.folder):
            yield _file_item(checkpoint, "checkpoint", "its trial has ended")


def _find_trial_folders(index: RunsFolderIndex, store: Store | None) -> Iterator[GarbageItem]:
    finished_searches = _finished_search_folders(index, store)
    damaged_folders = {Path(str(damage.file)).parent for damage in index.damages}
    for trial in index.trials.values():
        folder = trial.folder
        if folder in damaged_folders or lease.find_holder(folder):
            continue
        reason = _garbage_reason(trial, index, finished_searches, _age_seconds(folder))
        if reason:
            yield GarbageItem(
                path=folder, kind="trial folder", reason=reason, size=disk_size(folder), leased_folder=folder
            )


def _garbage_reason(trial: StoredTrial, index: RunsFolderIndex, finished_searches: set[str], age_seconds: float) -> str:
    """Why a whole trial folder is not needed; empty where it is."""
    name = trial.folder.name
    # A running search may promote any of its candidates, which then resumes from its folder.
    if trial.entry is None and name in index.candidate_manifests:
        # One without a result is of a search that goes on again, as after a change of the code.
        is_over = name in finished_searches and trial.result is not None
        return "candidate of a finished search" if is_over else ""
    if trial.entry is None:
        is_abandoned = trial.result is None and age_seconds > ABANDONED_SECONDS
        return "interrupted, and no study lists it" if is_abandoned else ""
    # The older result stays until the newer one exists, so that the study always has one.
    replacement = index.replacement_of(trial)
    if replacement is None or not replacement.has_ended:
        return ""
    return REPLACED


def _find_logged_models(store: Store | None) -> Iterator[GarbageItem]:
    for model in store.inspector.find_superseded_models() if store else ():
        path = Path(model.address.removeprefix("file://"))
        yield GarbageItem(path=path, kind="logged model", reason=REPLACED, size=model.num_bytes, model=model)


def _finished_search_folders(index: RunsFolderIndex, store: Store | None) -> set[str]:
    """Folder names of candidates whose study has finished every search."""
    if store is None:
        return set()
    planned = index.planned_folders
    is_finished: dict[tuple[str, str], bool] = {}  # asked once per study: each is a request to a server
    finished_folders = set()
    for name, manifest in index.candidate_manifests.items():
        study = (manifest.registration.study, manifest.conditions)
        if study not in is_finished:
            is_finished[study] = store.inspector.has_finished_tuning(*study)
        if is_finished[study] and name not in planned:
            finished_folders.add(name)
    return finished_folders


def _find_weights(index: RunsFolderIndex, store: Store | None) -> Iterator[GarbageItem]:
    for trial in _without_dependents(index, store):
        file = TrialFolder(trial.folder).weights
        if file.exists() and not lease.find_holder(trial.folder):
            yield _file_item(file, "weights", "no trial starts from them")


def _without_dependents(index: RunsFolderIndex, store: Store | None) -> Iterator[StoredTrial]:
    """Trials that have ended and are in the tracking store, and that no trial starts from or evaluates."""
    fingerprints = {trial.key.fingerprint for trial in index.trials.values() if trial.key}
    recorded = {ended.key for ended in store.reader.ended_trials(fingerprints)} if store else set()
    dependencies = index.dependency_fingerprints
    for trial in index.trials.values():
        key = trial.key
        if key is not None and key in recorded and key.fingerprint not in dependencies and trial.has_ended:
            yield trial


def _find_stored_objects(
    object_store: ObjectStore, index: RunsFolderIndex, store: Store | None, *, weights: bool
) -> Iterator[GarbageItem]:
    """Find what no study needs in an object store.

    The results of all planned trials are in the local index: :func:`studies.storage.manifest.fetch_all` got them.
    """
    finished_searches = _finished_search_folders(index, store)
    without_dependents = {trial.folder.name for trial in _without_dependents(index, store)} if weights else set()
    for name, files in _group_by_folder(object_store.list_files("trials")).items():
        folder = index.settings.trials_folder / name
        trial = index.trials.get(name) or index.stored_trial(folder, None)
        if lease.find_holder(folder):
            continue
        reason = _garbage_reason(trial, index, finished_searches, _object_age_seconds(files))
        if reason:
            yield _object_item(folder, files, "trial folder", reason)
            continue
        if trial.has_ended and "checkpoint.ckpt" in files:
            yield _object_item(folder, files, "checkpoint", "its trial has ended", "checkpoint.ckpt")
        if name in without_dependents and "weights.pt" in files:
            yield _object_item(folder, files, "weights", "no trial starts from them", "weights.pt")


def _group_by_folder(files: Mapping[str, ObjectInfo]) -> dict[str, dict[str, ObjectInfo]]:
    folders: dict[str, dict[str, ObjectInfo]] = {}
    for path, info in files.items():
        folder, _, name = path.partition("/")
        folders.setdefault(folder, {})[name] = info
    return folders


def _object_age_seconds(files: Mapping[str, ObjectInfo]) -> float:
    """Time since the last write to a folder; 0 for one with a result, which is never abandoned."""
    if "result.json" in files:
        return 0.0
    return time.time() - max(info.modified_ns for info in files.values()) / 1e9


def _object_item(
    folder: Path, files: Mapping[str, ObjectInfo], kind: GarbageKind, reason: str, name: str = ""
) -> GarbageItem:
    """A file of a trial's objects, or all of them where no name is given."""
    size = files[name].num_bytes if name else sum(info.num_bytes for info in files.values())
    return GarbageItem(
        path=folder / name,
        kind=kind,
        reason=f"{reason}; in the object store",
        size=size,
        leased_folder=folder,
        object_key=f"trials/{folder.name}/{name}".rstrip("/"),
    )


def _age_seconds(path: Path) -> float:
    """Time since the last change of a path or of what is directly in it; 0 where it has just gone."""
    try:
        newest = max((entry.lstat().st_mtime for entry in (path, *path.glob("*"))), default=0.0)
    except OSError:
        return 0.0
    return time.time() - newest


def disk_size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size if os.path.lexists(path) else 0
    return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir() or file.is_symlink())


def format_size(size: float) -> str:
    """A number of bytes in decimal units: ``500 B``, ``7.7 kB``, ``1.1 GB``."""
    if size < 1000:
        return f"{size:.0f} B"
    for unit in ("kB", "MB"):
        size /= 1000
        if size < 1000:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} GB"
