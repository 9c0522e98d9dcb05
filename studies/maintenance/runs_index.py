"""Index of a runs folder: what its studies plan, and which trial folders it holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from lightning_modules.specs.errors import DamagedFileError, UserError
from studies.records.identity import TrialKey
from studies.records.results import Result
from studies.records.schema import SchemaVersionError
from studies.settings import Settings
from studies.storage.manifest import ManifestEntry, StudyManifest, list_study_folders, read_manifest
from studies.storage.trial_folder import TrialFolder


@dataclass(frozen=True, kw_only=True)
class StoredTrial:
    """A trial folder with its plan and its result.

    Attributes:
        entry: the manifest entry that planned it; ``None`` where no study lists it.
        is_latest: whether it is that study's latest plan of this trial.
    """

    folder: Path
    entry: ManifestEntry | None
    is_latest: bool
    result: Result | None

    @property
    def has_ended(self) -> bool:
        """Whether it has ended with any result but a failure."""
        return self.result is not None and self.result.status != "failed"

    @property
    def key(self) -> TrialKey | None:
        """Identity in the tracking store; ``None`` where there is neither plan nor result to tell it."""
        if self.entry:
            return self.entry.key
        return TrialKey.from_digests(self.result.fingerprint, self.result.digests) if self.result else None


@dataclass(frozen=True)
class RunsFolderIndex:
    """The manifests of a runs folder's studies and its trial folders.

    Attributes:
        read_errors: why manifests cannot be read, or results of another version; while there are any, nobody can say
            what is not needed.
        damages: results that cannot be used; their trials count as not ended.
    """

    settings: Settings
    manifests: dict[Path, StudyManifest] = field(default_factory=dict)
    trials: dict[str, StoredTrial] = field(default_factory=dict)
    read_errors: list[str] = field(default_factory=list)
    damages: list[DamagedFileError] = field(default_factory=list)

    @classmethod
    def scan(cls, settings: Settings) -> RunsFolderIndex:
        """Read all manifests and results of a runs folder."""
        index = cls(settings)
        for folder in list_study_folders(settings):
            try:
                index.manifests[folder] = read_manifest(folder)
            except (UserError, DamagedFileError) as error:
                index.read_errors.append(str(error))
        for folder in settings.trials_folder.glob("[!.]*"):
            # What a link leads to may be anybody's: it is never listed, and so never freed.
            if not folder.is_dir() or folder.is_symlink():
                continue
            result = None
            try:
                result = TrialFolder(folder).load_result()
            except DamagedFileError as error:
                index.damages.append(error)
            except SchemaVersionError as error:
                # Of another version of the package: whether it has ended cannot be said.
                index.read_errors.append(str(error))
                continue
            index.trials[folder.name] = index.stored_trial(folder, result)
        return index

    def stored_trial(self, folder: Path, result: Result | None) -> StoredTrial:
        """A trial folder with the manifest entry that planned it."""
        entry = self.entries.get(folder.name)
        return StoredTrial(folder=folder, entry=entry, is_latest=folder.name in self.latest_folders, result=result)

    @cached_property
    def entries(self) -> dict[str, ManifestEntry]:
        """Every planned trial, by its folder's name."""
        return {entry.folder: entry for manifest in self.manifests.values() for entry in manifest.entries}

    @cached_property
    def latest_entries(self) -> tuple[ManifestEntry, ...]:
        """The latest plan of every trial, over all studies."""
        return tuple(entry for manifest in self.manifests.values() for entry in manifest.latest_entries)

    @cached_property
    def latest_folders(self) -> set[str]:
        """Folder names of the latest plans."""
        return {entry.folder for entry in self.latest_entries}

    @property
    def planned_folders(self) -> set[str]:
        """Folder names that any study plans, or planned once."""
        return {*self.entries}

    @property
    def dependency_fingerprints(self) -> set[str]:
        """Fingerprints of trials that others start from, or evaluate."""
        return {dependency.fingerprint for entry in self.latest_entries for dependency in entry.trial.dependencies}

    @property
    def candidate_manifests(self) -> dict[str, StudyManifest]:
        """The study of every candidate, by the candidate's folder name."""
        return {name: manifest for manifest in self.manifests.values() for name in manifest.candidate_folders}

    def replacement_of(self, trial: StoredTrial) -> StoredTrial | None:
        """The latest trial of the same setup and seed, if a study has planned one since."""
        entry = trial.entry
        if entry is None or trial.is_latest:
            return None
        for manifest in self.manifests.values():
            if entry not in manifest.entries:
                continue
            for latest in manifest.latest_entries:
                if latest.trial.fingerprint == entry.trial.fingerprint:
                    return self.trials.get(latest.folder)
        return None
