"""Archive of a study: one ZIP file with its record, trials and report, and the checksums of all.

The files of the runs folder keep their paths in it. The same content gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_modules.specs.errors import DamagedFileError
from lightning_modules.stored_files import parse_array, parse_json
from studies.records.record_json import record_from_json, record_to_json, trials_by_run
from studies.records.registration_log import RegistrationCheck
from studies.records.schema import SchemaVersionError, require_schema
from studies.records.serialization import to_npy_bytes
from studies.records.study_record import StudyRecord
from studies.scratch import temporary_folder
from studies.settings import Settings, SettingsError
from studies.storage.atomic import AtomicWriter
from studies.storage.copies.registration import (
    RegistrationCopy,
    check_registration,
    copy_of_manifest,
    read_page_digests,
)
from studies.storage.manifest import StudyManifest, find_lost_result, read_manifest
from studies.storage.trial_folder import TrialFolder

MANIFEST_FILE = "archive.json"
ARCHIVE_REMEDY = "Copy the archive again."
ARCHIVE_SCHEMA = 1
ARCHIVE_SHAPE = {"schema": int, "files": {"*": {"sha256": str, "bytes": int}}}
STUDY_FILES = ("study.json", "test_labels.npy", "board.json")
TRIAL_FILES = ("predictions.npy", "classifier.npz", "attempts.jsonl", "faults.jsonl", "progress.json", "result.json")
WEIGHTS_FILE = "weights.pt"
RECORD_FILE = "record/record.json"
REPORT_PAGE = "report/index.html"
FIXED_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that ZIP knows

# Bounds on what a hostile archive may unpack to: JSON and arrays of a study compress to a tenth, rarely to a hundredth.
MAX_FILES = 1_000_000
MAX_RATIO, FREE_BYTES = 200, 100_000_000
MAX_JSON_BYTES = 1_000_000_000
CHUNK_BYTES = 1 << 20
PLAIN_PART = r"[^/\\\0.][^/\\\0]*"
PATH_PATTERN = re.compile(rf"(?:studies|trials|record|report)(?:/{PLAIN_PART})+")


@dataclass(frozen=True)
class ArchiveContent:
    """What an archive of a study will hold: bytes or a file on disk, by path.

    Attributes:
        damages: of stored files that are left out, a line for each.
    """

    members: Mapping[str, bytes | Path]
    damages: tuple[str, ...] = ()

    @property
    def num_bytes(self) -> int:
        """Size before compression."""
        return sum(len(item) if isinstance(item, bytes) else item.stat().st_size for item in self.members.values())


def collect_content(
    record: StudyRecord, report: Mapping[str, bytes], settings: Settings, conditions: str, *, weights: bool
) -> ArchiveContent:
    """Collect what an archive holds.

    Args:
        report: files of the compiled report, by path.
        conditions: of the study; with its name they name its folder, which may be on another machine.
    """
    damages: list[str] = []
    members: dict[str, bytes | Path] = {f"report/{path}": content for path, content in report.items()}
    members[RECORD_FILE] = _to_json_bytes(record_to_json(record))
    if record.labels is not None:
        members["record/test_labels.npy"] = to_npy_bytes(record.labels)
    for run_id, trial in trials_by_run(record).items():
        if trial.result and trial.result.predictions is not None:
            members[f"record/predictions/{run_id}.npy"] = to_npy_bytes(trial.result.predictions)
    study_folder = settings.studies_folder / f"{record.registration.study}-{conditions}"
    if any((study_folder / name).exists() for name in STUDY_FILES[:2]):
        names = (*TRIAL_FILES, WEIGHTS_FILE) if weights else TRIAL_FILES
        try:
            entries = read_manifest(study_folder).recorded_entries(settings)
            members |= _folder_members(study_folder, "studies", STUDY_FILES)
        except DamagedFileError as error:
            entries = ()
            damages.append(f"left out all trials: {error}")
        for entry in entries:
            folder = entry.trial_folder(settings)
            unusable = _find_unusable(folder, names, damages)
            members |= _folder_members(folder.folder, "trials", [name for name in names if name not in unusable])
    return ArchiveContent(dict(sorted(members.items())), tuple(damages))


def _find_unusable(folder: TrialFolder, names: Sequence[str], damages: list[str]) -> set[str]:
    """Names of a trial's files that are not to be packed, as they are damaged; the damages are added to the list."""
    unusable: set[str] = set()
    try:
        folder.load_result()
        lost_result = find_lost_result(folder)
        if lost_result:
            raise lost_result
    except DamagedFileError as error:
        damages.append(f"left out: {error}")
        return {*names}
    for file in (folder.weights, folder.classifier):
        try:
            if file.name in names:
                folder.verify_file(file)
        except DamagedFileError as error:
            damages.append(f"left out: {error}")
            unusable.add(file.name)
    for name in ("attempts.jsonl", "faults.jsonl"):
        for damage in folder.find_log_damage(name):
            damages.append(f"left out: {damage}")
            unusable.add(name)
    return unusable


def _folder_members(folder: Path, parent: str, names: Iterable[str]) -> dict[str, bytes | Path]:
    return {f"{parent}/{folder.name}/{name}": folder / name for name in names if (folder / name).is_file()}


def write_archive(content: ArchiveContent, file: Path) -> None:
    """Write an archive, with a manifest of the checksums of all its files."""
    file.parent.mkdir(parents=True, exist_ok=True)
    files = {}
    with AtomicWriter(file) as partial, zipfile.ZipFile(partial, "w") as archive:
        for path, item in content.members.items():
            digest = hashlib.sha256()
            num_bytes = 0
            with (
                archive.open(_member_info(path), "w", force_zip64=True) as target,
                io.BytesIO(item) if isinstance(item, bytes) else item.open("rb") as source,
            ):
                while chunk := source.read(CHUNK_BYTES):
                    digest.update(chunk)
                    num_bytes += len(chunk)
                    target.write(chunk)
            files[path] = {"sha256": digest.hexdigest(), "bytes": num_bytes}
        archive.writestr(_member_info(MANIFEST_FILE), _to_json_bytes({"schema": ARCHIVE_SCHEMA, "files": files}))


def _member_info(path: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(path, FIXED_TIME)
    info.create_system, info.external_attr = 3, 0o644 << 16  # as on Unix, wherever it is written
    is_compressed = path.endswith((".pt", ".pdf", ".parquet", ".npz"))
    info.compress_type = zipfile.ZIP_STORED if is_compressed else zipfile.ZIP_DEFLATED
    return info


def _to_json_bytes(data: Any) -> bytes:
    return json.dumps(data, indent=1, sort_keys=False).encode()


@dataclass(frozen=True)
class StudyArchive:
    """An open archive whose form has been checked; the content of a file is checked when it is read.

    Attributes:
        checksums: SHA-256 and size of every file.
    """

    file: Path
    archive: zipfile.ZipFile
    checksums: Mapping[str, tuple[str, int]]

    @property
    def study_folders(self) -> list[str]:
        """Names of the folders of its studies: each a study's name, a hyphen and its conditions."""
        return sorted({path.split("/")[1] for path in self.checksums if path.startswith("studies/")})

    def conditions_of(self, study: str) -> str:
        """Digest of the conditions of a study in it.

        Raises:
            SettingsError: where it holds no plan of the study.
        """
        for name in self.study_folders:
            if name.rpartition("-")[0] == study:
                return name.rpartition("-")[2]
        raise SettingsError(f"{self.file} holds no plan of {study}: it is no archive of `ablate export`, or was cut.")

    def read(self, path: str) -> bytes:
        """Content of a file.

        Raises:
            SettingsError: where it is missing or damaged.
        """
        return b"".join(self.chunks(path))

    def chunks(self, path: str) -> Iterator[bytes]:
        """Content of a file in pieces; the last one is followed by the check of the checksum."""
        if path not in self.checksums:
            raise SettingsError(f"{self.file} holds no {path}: it is no archive of `ablate export`, or was cut.")
        expected, num_bytes = self.checksums[path]
        digest, left = hashlib.sha256(), num_bytes
        with _report_damage(self.file, path), self.archive.open(path) as source:
            while left and (chunk := source.read(min(left, CHUNK_BYTES))):
                digest.update(chunk)
                left -= len(chunk)
                yield chunk
        if left or digest.hexdigest() != expected:
            raise SettingsError(f"{path} in {self.file} is damaged: its checksum differs. Copy the archive again.")

    def verify(self) -> None:
        """Check the checksums of all files."""
        for path in self.checksums:
            for _ in self.chunks(path):
                pass

    def read_record(self) -> StudyRecord:
        """The study as it was recorded."""
        text = self.read(RECORD_FILE)
        predictions = {}
        for path in self.checksums:
            if path.startswith("record/predictions/"):
                predictions[Path(path).stem] = self._read_array(path)
        has_labels = "record/test_labels.npy" in self.checksums
        labels = self._read_array("record/test_labels.npy") if has_labels else None
        with _report_damage(self.file, RECORD_FILE):
            data = parse_json(text, {"*": object}, f"{RECORD_FILE} in {self.file}", ARCHIVE_REMEDY)
            require_schema(data, f"{RECORD_FILE} in {self.file}", alternative="")
            record = record_from_json(data, labels, predictions)
        return replace(record, registration_check=self._check_registration(record))

    def _check_registration(self, record: StudyRecord) -> RegistrationCheck | None:
        """Compare the registration in the record with those in the study's manifest and report."""
        if record.registration_check is None:
            return None
        study_folder, entries = record.registration_check.study_folder, record.registration_check.entries
        registration = record.registration
        if registration.looks and entries:  # the record has the seeds that registered analyses have added
            registration = replace(registration, seeds=tuple(entries[-1].declaration["seeds"]))
        copies = [RegistrationCopy(place="the record", registration=registration, entries=entries)]
        if f"studies/{study_folder}/study.json" in self.checksums:
            with temporary_folder() as folder:
                copies.append(copy_of_manifest("the plan", self.read_manifest(study_folder, folder)))
        page = self.read(REPORT_PAGE) if REPORT_PAGE in self.checksums else b""
        check = check_registration(study_folder, copies, tuple(read_page_digests(page, study_folder)))
        # A page of an archive is none of the runs folder's own study, which may be registered otherwise.
        return check and replace(check, page_digest="")

    def read_manifest(self, study_folder: str, folder: Path) -> StudyManifest:
        """The manifest of a study, which is unpacked into a folder."""
        for name in ("study.json", "test_labels.npy"):
            (folder / name).write_bytes(self.read(f"studies/{study_folder}/{name}"))
        with _report_damage(self.file, f"studies/{study_folder}/study.json"):
            return read_manifest(folder)

    def _read_array(self, path: str) -> npt.NDArray[Any]:
        return parse_array(self.read(path), np.uint16, f"{path} in {self.file}", ARCHIVE_REMEDY)


@contextmanager
def open_archive(file: Path) -> Iterator[StudyArchive]:
    """Open an archive, and check that what it lists is what it holds, within bounds.

    Raises:
        SettingsError: for any other file, or one that would unpack to far more than it is.
    """
    with _report_damage(file, MANIFEST_FILE):
        archive = zipfile.ZipFile(file)
    with archive:
        with _report_damage(file, MANIFEST_FILE):
            infos = {info.filename: info for info in archive.infolist()}
            total = sum(info.file_size for info in infos.values())
            if len(archive.infolist()) > MAX_FILES or total > max(FREE_BYTES, MAX_RATIO * file.stat().st_size):
                raise SettingsError(
                    f"{file} would unpack to {total:,} bytes, far more than a study's archive: refused."
                )
            if len(infos) != len(archive.infolist()) or infos[MANIFEST_FILE].file_size > MAX_JSON_BYTES:
                raise SettingsError(f"{file} holds a file twice, or is no archive of `ablate export`.")
            content = archive.read(MANIFEST_FILE)
            manifest = parse_json(content, ARCHIVE_SHAPE, f"{MANIFEST_FILE} in {file}", ARCHIVE_REMEDY)
            require_schema(manifest, file, ARCHIVE_SCHEMA, alternative="")
            checksums = {path: (str(entry["sha256"]), int(entry["bytes"])) for path, entry in manifest["files"].items()}
        for path in infos.keys() ^ (checksums.keys() | {MANIFEST_FILE}):
            raise SettingsError(f"{file}: {path} is listed but missing, or not listed. Copy the archive again.")
        for path, (_, num_bytes) in checksums.items():
            if not PATH_PATTERN.fullmatch(path) or infos[path].file_size != num_bytes:
                raise SettingsError(f"{file} holds {path!r}, whose path or size is not that of an archive: refused.")
        yield StudyArchive(file, archive, checksums)


def read_archived_record(file: Path) -> StudyRecord:
    """The record in an archive, whose files are checked as they are read."""
    with open_archive(file) as archive:
        return archive.read_record()


def is_archive_name(name: str) -> bool:
    """Whether a command's argument names an archive instead of a study."""
    return name.lower().endswith(".zip")


@contextmanager
def _report_damage(file: Path, path: str) -> Iterator[None]:
    """Translate whatever goes wrong while an archive is read; its bytes may be anything."""
    try:
        yield
    except FileNotFoundError as error:
        raise SettingsError(f"there is no archive {file}. `ablate export NAME -o {file.name}` writes one.") from error
    except (SettingsError, DamagedFileError, SchemaVersionError):
        raise
    except Exception as error:  # whatever damaged content makes of its reader
        raise SettingsError(
            f"{file} cannot be read as an archive of `ablate export`: {path} ({type(error).__name__}: {error}). "
            "Copy the archive again."
        ) from error
