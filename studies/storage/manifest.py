"""The study manifest.

All that logging a study's trials takes, without its ablation file or its data.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lightning_modules.specs.errors import DamagedFileError, UserError
from lightning_modules.specs.serialization import from_json, to_json
from lightning_modules.specs.setup import SPEC_KINDS
from lightning_modules.stored_files import dump_json, hash_bytes, read_array, read_json
from studies.design.trial import Trial, is_dependency_name
from studies.records.identity import TrialKey
from studies.records.registration import Registration
from studies.records.registration_log import RegistrationEntry, continue_log, entry_from_json, entry_to_json
from studies.records.result_files import RESULT_REMEDY, require_consistent
from studies.records.results import RECORD_SCHEMA, Result
from studies.records.schema import require_schema
from studies.records.serialization import registration_from_json, registration_to_json, to_npy_bytes
from studies.scratch import temporary_folder
from studies.settings import Settings, SettingsError, require_plain_name
from studies.storage import study_status
from studies.storage.atomic import AtomicWriter, RemoteCopy
from studies.storage.lease import Heartbeat, Lease, acquire_lease, find_holder
from studies.storage.object_store import RemoteFolder, open_object_store
from studies.storage.trial_folder import TrialFolder

LABELS_FILE = "test_labels.npy"
MANIFEST_REMEDY = "Move the file away; `ablate run` of this study writes it anew, and trains nothing again."
MANIFEST_SHAPE = {
    "schema": int,
    "registration": {"*": object},
    "conditions": str,
    "tags": {"*": str},
    "candidates?": [str],
    "entries": [
        {"arm": str, "seed": int, "setup": {"*": object}, "digests": {"*": str}, "tags": {"*": str}, "folder": str}
    ],
    "labels_checksum?": str,
    "registration_log?": [{"*": object}],
}


@dataclass(frozen=True, kw_only=True, eq=False)
class ManifestEntry:
    """A planned trial of a study.

    Attributes:
        tags: of the trial's MLflow run, in addition to the study's.
        folder: name of the trial's folder.
    """

    trial: Trial
    digests: Mapping[str, str]
    tags: Mapping[str, str]
    folder: str

    @property
    def key(self) -> TrialKey:
        """Identity of the trial in the tracking store."""
        return TrialKey.from_digests(self.trial.fingerprint, self.digests)

    def trial_folder(self, settings: Settings) -> TrialFolder:
        """The trial's folder under these settings."""
        return TrialFolder(settings.trials_folder / Path(self.folder).name)


@dataclass(frozen=True, kw_only=True)
class StudyManifest:
    """A study under its conditions, with every trial that was ever planned.

    Attributes:
        conditions: digest of the conditions that all trials of the study share.
        tags: of the study's MLflow run and of the runs of its trials.
        labels: true class of every test example.
        entries: in the order of planning; a trial planned again has several.
        candidate_folders: of tuning candidates, which only `ablate run` logs.
        registration_log: the registration as declared, and its amendments; empty in older manifests.
    """

    registration: Registration
    conditions: str
    tags: Mapping[str, str]
    labels: np.ndarray
    entries: tuple[ManifestEntry, ...]
    candidate_folders: tuple[str, ...] = ()
    registration_log: tuple[RegistrationEntry, ...] = ()

    @property
    def latest_entries(self) -> tuple[ManifestEntry, ...]:
        """The last entry of each trial.

        Earlier ones are of other code, data or platform.
        """
        latest = {}
        for entry in self.entries:
            latest[entry.trial.fingerprint, entry.tags.get("recipe")] = entry
        return tuple(latest.values())

    def recorded_entries(self, settings: Settings) -> tuple[ManifestEntry, ...]:
        """The last entry of each trial that has a result, or has lost it; of one without any, the last entry.

        The record shows these: a trial that was planned again and never ended has not replaced its result.
        """
        chosen: dict[tuple[str, str | None], ManifestEntry] = {}
        has_result: set[tuple[str, str | None]] = set()
        for entry in self.entries:
            trial = entry.trial.fingerprint, entry.tags.get("recipe")
            folder = entry.trial_folder(settings)
            is_ended = folder.result_file.exists() or find_lost_result(folder) is not None
            if is_ended or trial not in has_result:
                chosen[trial] = entry
            if is_ended:
                has_result.add(trial)
        return tuple(chosen.values())

    def write(self, folder: Path, remote_copy: RemoteCopy | None = None) -> None:
        """Write the manifest, merged with what earlier runs planned."""
        folder.mkdir(parents=True, exist_ok=True)
        earlier = self._read_earlier(folder)
        merged = self._merged_with(earlier)
        labels = to_npy_bytes(merged.labels.astype(np.uint16))
        # Labels first: the manifest, whose presence makes the folder a study's, must find them.
        with AtomicWriter(folder / LABELS_FILE, remote_copy=remote_copy) as partial:
            partial.write_bytes(labels)
        with AtomicWriter(folder / "study.json", remote_copy=remote_copy) as partial:
            partial.write_bytes(dump_json({**_manifest_to_json(merged), "labels_checksum": hash_bytes(labels)}))

    def _read_earlier(self, folder: Path) -> StudyManifest:
        """The manifest that a folder holds; without entries where there is none, or only a damaged one."""
        if not (folder / "study.json").exists():
            return replace(self, entries=())
        try:
            return read_manifest(folder)
        except DamagedFileError:
            # Kept for whoever wants to mend it: it may list trials that only other starts of the study planned.
            (folder / "study.json").replace(folder / "study.json.damaged")
            return replace(self, entries=())

    def _merged_with(self, earlier: StudyManifest) -> StudyManifest:
        """This manifest with the entries of an earlier one in front of its own."""
        planned = {entry.folder: entry for entry in self.entries}
        # A trial that is planned again moves to the end: `latest_entries` relies on the order.
        entries = [entry for entry in earlier.entries if entry.folder not in planned]
        candidates = dict.fromkeys((*earlier.candidate_folders, *self.candidate_folders))
        log = continue_log(earlier.registration_log, self.registration_log)
        return replace(
            self,
            registration=self._merge_registration(earlier, log),
            registration_log=log,
            entries=(*entries, *planned.values()),
            candidate_folders=tuple(candidates),
        )

    def _merge_registration(self, earlier: StudyManifest, log: Sequence[RegistrationEntry]) -> Registration:
        """The registration in force: the first one, unless this manifest continues its log with an amendment.

        Seeds that were planned elsewhere are in the entries alone, until an amendment of the log declares them.
        """
        if len(log) > max(1, len(earlier.registration_log)):
            return self.registration
        if earlier.registration_log:
            return earlier.registration
        # Earlier versions kept no log, and added the seeds of every start.
        known = () if log else earlier.registration.seeds
        return replace(earlier.registration, seeds=tuple(sorted({*known, *self.registration.seeds})))


def read_manifest(folder: Path) -> StudyManifest:
    """The manifest in a study's folder.

    Raises:
        SchemaVersionError: where another version of this package wrote it.
        SettingsError: where it names a folder outside of the trials' folder.
        DamagedFileError: where it or the labels beside it are damaged.
    """
    file = folder / "study.json"
    try:
        data = read_json(file, MANIFEST_SHAPE, MANIFEST_REMEDY, require_schema)
        return _manifest_from_json(data, folder)
    except (UserError, DamagedFileError):
        raise
    except FileNotFoundError as error:
        raise DamagedFileError(error.filename, "it is missing", MANIFEST_REMEDY) from error
    except Exception as error:  # whatever content of the right form and wrong values makes of the specs' own checks
        raise DamagedFileError(file, f"{type(error).__name__}: {error}", MANIFEST_REMEDY) from error


def _manifest_from_json(data: Mapping[str, Any], folder: Path) -> StudyManifest:
    file = folder / "study.json"
    entries = []
    for entry in data["entries"]:
        trial = Trial(arm=entry["arm"], setup=from_json(entry["setup"], SPEC_KINDS), seed=entry["seed"])
        trial_folder = require_plain_name(entry["folder"], f"a trial in {file}")
        entries.append(ManifestEntry(trial=trial, digests=entry["digests"], tags=entry["tags"], folder=trial_folder))
    candidates = [require_plain_name(name, f"a trial in {file}") for name in data.get("candidates", ())]
    labels_file, checksum = folder / LABELS_FILE, data.get("labels_checksum", "")
    return StudyManifest(
        registration=registration_from_json(data["registration"]),
        conditions=data["conditions"],
        tags=data["tags"],
        labels=read_array(labels_file, np.uint16, MANIFEST_REMEDY, checksum),
        entries=tuple(entries),
        candidate_folders=tuple(candidates),
        registration_log=tuple(map(entry_from_json, data.get("registration_log", ()))),
    )


def registration_in_force(manifest: StudyManifest, entries: Sequence[RegistrationEntry]) -> Registration:
    """What a log declares last, whatever stands in the registration of the manifest beside it."""
    if not entries:
        return manifest.registration
    return registration_from_json({**registration_to_json(manifest.registration), **entries[-1].declaration})


def read_all_manifests(settings: Settings, on_damage: Callable[[DamagedFileError], None]) -> dict[Path, StudyManifest]:
    """The manifests of all studies, by folder; a damaged one is reported and left out.

    Raises:
        SchemaVersionError: where another version of this package wrote one.
    """
    manifests = {}
    for folder in list_study_folders(settings):
        try:
            manifests[folder] = read_manifest(folder)
        except DamagedFileError as error:
            on_damage(error)
    return manifests


def require_planned_result(
    trial: Trial, digests: Mapping[str, str], labels: np.ndarray | None, result: Result, folder: TrialFolder
) -> None:
    """Compare the result in a trial's folder with the trial as planned.

    Args:
        labels: true class of every test example of the study's arms; ``None`` where they are not known. A source
            network that is no arm may be trained on other data, so these say nothing about its predictions.

    Raises:
        DamagedFileError: where it is not this trial's, or contradicts its plan or the labels.
    """
    require_consistent(
        result,
        folder.result_file,
        fingerprint=trial.fingerprint,
        digests=digests,
        max_epochs=trial.epochs,
        num_classes=trial.setup.scale.classes,
        labels=None if is_dependency_name(trial.arm) else labels,
    )


def find_lost_result(folder: TrialFolder) -> DamagedFileError | None:
    """The result that a trial's folder has lost, by what else is there; one that is being trained has none yet."""
    if folder.result_file.exists() or not folder.predictions_file.exists():
        return None
    if folder.checkpoint.exists() or find_holder(folder.folder):
        return None
    return DamagedFileError(folder.result_file, "it is missing, though its predictions are here", RESULT_REMEDY)


def list_study_folders(settings: Settings) -> list[Path]:
    """Folders of all studies that have a manifest, or had one, sorted by name."""
    # The labels are written just before the manifest: without it, the manifest is lost.
    files = [file for name in ("study.json", LABELS_FILE) for file in settings.studies_folder.glob(f"*/{name}")]
    return sorted({file.parent for file in files})


def fetch_all(settings: Settings) -> None:
    """Fetch all studies' manifests and results from the object store.

    Studies that are running here are skipped: their drivers keep both sides equal.

    Raises:
        SettingsError: where the object store fails.
        SchemaVersionError: where another version of this package wrote a manifest.
    """
    object_store = open_object_store(settings)
    if object_store is None:
        return
    with object_store.as_settings_errors():
        for name in object_store.list_folders("studies"):
            folder = settings.studies_folder / name
            if not find_holder(folder):
                fetch_plan(object_store.remote_study(folder))
        trial_folders: list[Path] = []
        for folder in list_study_folders(settings):
            if find_holder(folder):
                continue
            try:
                manifest = read_manifest(folder)
            except DamagedFileError:  # reported by who asked for the studies
                continue
            trial_folders += [settings.trials_folder / entry.folder for entry in manifest.entries]
            trial_folders += [settings.trials_folder / name for name in manifest.candidate_folders]
        object_store.fetch_trials(trial_folders)


def fetch_plan(remote_folder: RemoteFolder, *, may_upload: bool = False) -> None:
    """Merge a study's remote manifest into the local one.

    The status file is fetched where the remote one is newer.

    Args:
        may_upload: whether to upload the merged manifest.
    """
    local_folder = remote_folder.folder
    with temporary_folder() as fetched_folder:
        remote_folder.fetch("test_labels.npy", "study.json", "board.json", into=fetched_folder)
        remote_manifest = fetched_folder / "study.json"
        local_manifest = local_folder / "study.json"
        if remote_manifest.exists() and not _has_same_content(remote_manifest, local_manifest):
            # A damaged remote copy is replaced by the next upload.
            with suppress(DamagedFileError):
                read_manifest(fetched_folder).write(local_folder)
        if may_upload and local_manifest.exists() and not _has_same_content(remote_manifest, local_manifest):
            remote_folder.upload(local_folder / "test_labels.npy")
            remote_folder.upload(local_manifest)
        planned_at = study_status.last_planned_at(fetched_folder)
        if planned_at > study_status.last_planned_at(local_folder):
            local_folder.mkdir(parents=True, exist_ok=True)
            with AtomicWriter(local_folder / "board.json") as partial:
                partial.write_bytes((fetched_folder / "board.json").read_bytes())
            # Views sort studies by this time: fetching must not make a study the newest.
            os.utime(local_folder / "board.json", (planned_at, planned_at))


def _has_same_content(file: Path, other: Path) -> bool:
    return file.exists() and other.exists() and file.read_bytes() == other.read_bytes()


@contextmanager
def hold_study_lease(folder: Path, study: str, on_lost: Callable[[], None]) -> Iterator[Lease]:
    """Hold the lease on a study's folder.

    No other process runs or logs the study meanwhile.

    Raises:
        SettingsError: where another process holds it, or the folder cannot be written.
    """
    try:
        lease = acquire_lease(folder)
    except OSError as error:
        raise SettingsError(f"{folder} cannot be written: {error.strerror or error}.") from error
    if lease is None:
        raise SettingsError(
            f"{study} is being run under the same conditions by {find_holder(folder) or 'another process'}. "
            f"Wait for it, or follow it with `ablate status {study}`. Other studies may run at the same time."
        )
    with Heartbeat(lease, on_lost):
        yield lease


def _manifest_to_json(manifest: StudyManifest) -> dict[str, object]:
    entries = []
    for entry in manifest.entries:
        entries.append(
            {
                "arm": entry.trial.arm,
                "seed": entry.trial.seed,
                "setup": to_json(entry.trial.setup),
                "digests": dict(entry.digests),
                "tags": dict(entry.tags),
                "folder": entry.folder,
            }
        )
    return {
        "schema": RECORD_SCHEMA,
        "registration": registration_to_json(manifest.registration),
        "conditions": manifest.conditions,
        "tags": dict(manifest.tags),
        "registration_log": [entry_to_json(entry) for entry in manifest.registration_log],
        "candidates": list(manifest.candidate_folders),
        "entries": entries,
    }
