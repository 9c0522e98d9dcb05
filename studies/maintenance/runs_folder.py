"""Health checks of the runs folder and the object store: space, file system, leases, stored trials."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from lightning_modules.specs.text import format_count
from studies.design.declare import resuming_command
from studies.maintenance.cleanup import format_size
from studies.maintenance.health_check import HealthCheck, Severity
from studies.maintenance.runs_index import RunsFolderIndex
from studies.records.results import RECORD_SCHEMA
from studies.settings import Settings
from studies.storage import lease
from studies.storage.object_store import open_object_store
from studies.storage.status_files import find_status_damage

# Bytes. A checkpoint of VGG-D at 224 pixels takes 1.1e9, one of the digits protocol 1e5.
LOW_SPACE_BYTES, MIN_SPACE_BYTES = 5e9, 5e8

# Network file systems, by the names that Linux gives them.
SHARED_FILE_SYSTEMS = ("nfs", "cifs", "smb", "lustre", "gpfs", "ceph", "glusterfs", "beegfs", "9p")


def check_storage(settings: Settings) -> Iterator[HealthCheck]:
    """Check that the object store, if there is one, permits all that a study does with it."""
    object_store = open_object_store(settings)
    if object_store:
        object_store.require_writable()
        finding = f"{object_store.address} permits listing, reading, writing and deleting"
        yield HealthCheck(area="storage", level="ok", finding=finding)


def check_runs_folder(settings: Settings) -> Iterator[HealthCheck]:
    """Check that the runs folder is writable, has space, and holds no leftovers of killed processes."""
    if not settings.runs_folder.exists():
        finding = f"{settings.runs_folder} does not exist yet: the first `ablate run` creates it"
        yield HealthCheck(area="runs folder", level="ok", finding=finding)
        return
    settings.create_folders()
    yield _check_free_space(settings)
    yield from _check_file_system(settings)
    yield from _check_leases(settings)
    yield from _check_stored_trials(settings)


def _check_free_space(settings: Settings) -> HealthCheck:
    free = shutil.disk_usage(settings.shared_folder).free
    level: Severity = "ok"
    if free < MIN_SPACE_BYTES:
        level = "error"
    elif free < LOW_SPACE_BYTES:
        level = "warning"
    finding = f"{settings.shared_folder} is writable; {format_size(free)} free"
    advice = "free space (`ablate gc`), or give another folder with --runs" if level != "ok" else ""
    return HealthCheck(area="runs folder", level=level, finding=finding, advice=advice)


def _check_file_system(settings: Settings) -> Iterator[HealthCheck]:
    # SQLite locks through the file system, and network file systems implement such locks unreliably
    # (https://www.sqlite.org/faq.html, question 5).
    kind = file_system_type(settings.database_file) if settings.database_file else ""
    if kind.startswith(SHARED_FILE_SYSTEMS):
        finding = f"the tracking database {settings.database_file} is SQLite on {kind}, whose file locks are unreliable"
        advice = "use an MLflow server (--tracking-uri http://...), or move the database to a local disk"
        yield HealthCheck(area="runs folder", level="warning", finding=finding, advice=advice)


def file_system_type(path: Path) -> str:
    """Type of the file system that holds a path, such as ``ext4``; empty where it is unknown."""
    try:
        lines = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:  # not Linux
        return ""
    types = {}
    for line in lines:
        _, mount_point, kind, *_ = line.split()
        types[mount_point.replace("\\040", " ")] = kind  # a space is written in octal there
    for folder in (path, *path.parents):
        if str(folder) in types:
            return types[str(folder)]
    return ""


def _check_leases(settings: Settings) -> Iterator[HealthCheck]:
    study_folders = [path for path in settings.studies_folder.glob("[!.]*") if path.is_dir()]
    for folder in sorted(study_folders):
        study, driver = folder.name.rpartition("-")[0], lease.find_holder(folder)
        if driver:
            yield HealthCheck(area="runs folder", level="ok", finding=f"{study} is running, by {driver}")
        elif lease.is_lease_expired(folder):
            finding = f"the driver of {study} died during the run"
            advice = f"`{resuming_command(study)} ...` resumes it; `ablate sync {study}` logs the trials that had ended"
            yield HealthCheck(area="runs folder", level="warning", finding=finding, advice=advice)
    trial_folders = [path for path in settings.trials_folder.glob("[!.]*") if path.is_dir()]
    num_expired = sum(map(lease.is_lease_expired, trial_folders))
    if num_expired:
        finding = (
            f"{format_count(num_expired, 'trial')} interrupted (the process ended without releasing its lease): the "
            "next `ablate run` resumes"
        )
        yield HealthCheck(area="runs folder", level="ok", finding=finding)


def _check_stored_trials(settings: Settings) -> Iterator[HealthCheck]:
    """Check that this version can read all that is stored, and that some study lists every trial folder."""
    index = RunsFolderIndex.scan(settings)
    for error_text in index.read_errors:
        yield HealthCheck(area="runs folder", level="error", finding=error_text)
    for damage in (*index.damages, *find_status_damage(settings)):
        finding = f"{damage.file} cannot be used: {damage.reason}"
        yield HealthCheck(area="runs folder", level="error", finding=finding, advice=damage.remedy)
    finding = f"{len(index.manifests)} studies, {len(index.trials)} trial folders, schema {RECORD_SCHEMA}"
    yield HealthCheck(area="runs folder", level="ok", finding=finding)
    listed = index.planned_folders | {*index.candidate_manifests}
    unlisted = [name for name in index.trials if name not in listed]
    if unlisted:
        finding = f"no study here lists {len(unlisted)} of the trial folders, such as {unlisted[0]}"
        advice = "their results are reused if the same study is run again; otherwise delete them"
        yield HealthCheck(area="runs folder", level="warning", finding=finding, advice=advice)
