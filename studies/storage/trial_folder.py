"""A trial's folder: checkpoint, result, predictions, weights and logs, each verified when it is read."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lightning_modules.specs.errors import DamagedFileError
from lightning_modules.stored_files import (
    MAX_JSON_BYTES,
    NUMBER,
    dump_json,
    hash_file,
    parse_json,
    read_array,
    read_bounded,
)
from studies.records.result_files import RESULT_REMEDY, dump_result, parse_result, require_consistent
from studies.records.results import Result
from studies.records.schema import SchemaVersionError
from studies.settings import redact_credentials
from studies.storage.atomic import AtomicWriter, RemoteCopy, no_guard

# ``<fingerprint>-<first digits of data>-<code>-<platform>``, and of the user's code where the trial has any.
FOLDER_NAME_PATTERN = r"[0-9a-f]{16}(-[0-9a-f]{6}){3,4}"
DIGEST_NAMES = ("data", "code", "platform", "user_code")
LOG_REMEDY = "Nothing is lost but the count of attempts or faults: delete the line, or the file."
LOG_LINE_SHAPE = {"time": NUMBER, "trial?": str, "by?": str, "fault?": str}


@dataclass(frozen=True)
class TrialFolder:
    """The folder of one trial.

    It is named by the trial's fingerprint and a digest of the code, data and platform.

    Every file is written under a temporary name and renamed when it is complete; logs are appended to.

    Attributes:
        guard: called before any file is renamed into place; raises where this process no longer holds the trial.
        remote_copy: where its files are uploaded.
    """

    folder: Path
    guard: Callable[[], None] = no_guard
    remote_copy: RemoteCopy | None = None

    @property
    def checkpoint(self) -> Path:
        """File of the last checkpoint, if there is one."""
        return self.folder / "checkpoint.ckpt"

    @property
    def weights(self) -> Path:
        """File of the final weights."""
        return self.folder / "weights.pt"

    @property
    def classifier(self) -> Path:
        """File of a linear probe's classifier.

        ``weight`` and ``bias`` as NumPy arrays.
        """
        return self.folder / "classifier.npz"

    @property
    def result_file(self) -> Path:
        """File of the result, written last."""
        return self.folder / "result.json"

    @property
    def predictions_file(self) -> Path:
        """File of the predicted class of every test example."""
        return self.folder / "predictions.npy"

    # -- state ---------------------------------------------------------------------------------------------------------

    @property
    def has_ended(self) -> bool:
        """Whether the trial has ended with any result but a failure, which is tried again."""
        result = self.read_result()
        return result is not None and result.status != "failed"

    def is_complete(self, *, trains: bool) -> bool:
        """Whether the trial has ended and, if it trains, its weights are here and undamaged."""
        return self.has_ended and (not trains or self.has_sound_weights())

    def has_sound_weights(self) -> bool:
        """Whether the final weights are here, and are those that the result names."""
        try:
            self.verify_file(self.weights)
        except (DamagedFileError, SchemaVersionError):
            return False
        return self.weights.exists()

    @property
    def num_attempts(self) -> int:
        """Number of times the trial was started."""
        return len(self._read_lines("attempts.jsonl"))

    @property
    def faults(self) -> tuple[str, ...]:
        """Reasons of the machine faults that ended its attempts, oldest first."""
        return tuple(entry["fault"] for entry in self._read_lines("faults.jsonl") if "fault" in entry)

    def read_result(self) -> Result | None:
        """The result with its predictions.

        ``None`` where there is none, or only a damaged one: the trial is then run again, which replaces it.

        Raises:
            SchemaVersionError: where another version of this package wrote it.
        """
        try:
            return self.load_result()
        except DamagedFileError:
            return None

    def load_result(self) -> Result | None:
        """The result with its predictions; ``None`` where there is none.

        Raises:
            SchemaVersionError: where another version of this package wrote it.
            DamagedFileError: where it or its predictions are damaged, cannot be true, or are another trial's.
        """
        try:
            result = parse_result(read_bounded(self.result_file, MAX_JSON_BYTES, RESULT_REMEDY), self.result_file)
        except FileNotFoundError:
            return None
        self._require_own(result)
        checksum = result.checksums.get(self.predictions_file.name, "")
        try:
            predictions = read_array(self.predictions_file, np.uint16, RESULT_REMEDY, checksum)
        except FileNotFoundError:
            if checksum:
                raise DamagedFileError(self.predictions_file, "it is missing", RESULT_REMEDY) from None
            return result
        result = replace(result, predictions=predictions)
        require_consistent(result, self.result_file)
        return result

    def _require_own(self, result: Result) -> None:
        """Refuse the result of another trial: the folder's name holds its fingerprint and the start of its digests."""
        name = self.folder.name
        if not re.fullmatch(FOLDER_NAME_PATTERN, name):
            return
        digests = [result.digests[key][:6] for key in DIGEST_NAMES if result.digests.get(key)]
        found = "-".join((result.fingerprint, *digests))
        if found != name:
            raise DamagedFileError(self.result_file, f"it is the result of another trial, {found}", RESULT_REMEDY)

    def verify_file(self, file: Path) -> None:
        """Compare a file with the checksum in the trial's result, where there are both.

        Raises:
            DamagedFileError: where they disagree, or the result cannot be used.
        """
        result = self.load_result()
        checksum = result.checksums.get(file.name) if result else None
        if not checksum:
            return
        if not file.exists():
            raise DamagedFileError(file, "it is missing", RESULT_REMEDY)
        if hash_file(file) != checksum:
            raise DamagedFileError(file, "its checksum is not that of the trial's result", RESULT_REMEDY)

    # -- writing -------------------------------------------------------------------------------------------------------

    def start_attempt(self, holder: str) -> None:
        """Log a new attempt, and delete what earlier ones left.

        Their checkpoint stays.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for partial in self.folder.glob("*.partial"):
            partial.unlink(missing_ok=True)
        self._append_line("attempts.jsonl", {"by": holder})
        self.delete_file(self.result_file)

    def record_fault(self, reason: str) -> None:
        """Log why an attempt ended without a result."""
        # The fault may be a full disk, so the reason may be lost; the attempt itself was logged when it started.
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._append_line("faults.jsonl", {"fault": redact_credentials(reason)})

    def write_result(self, result: Result, weights_checksum: str = "") -> None:
        """Write a result, and delete the checkpoint unless the trial failed.

        Args:
            weights_checksum: of the weights, where they were hashed as they were written; else they are read.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        # The result last: its presence says that the trial has ended, so all else must be in place by then.
        if result.predictions is not None:
            with self.atomic_writer(self.predictions_file) as partial, partial.open("wb") as file:
                np.save(file, result.predictions)
        else:
            self.guard()
            self.delete_file(self.predictions_file)
        result = replace(result, checksums=self._checksums_of(result, weights_checksum))
        with self.atomic_writer(self.result_file) as partial:
            partial.write_bytes(dump_result(result))
        if result.status != "failed":
            self.delete_file(self.checkpoint)

    def _checksums_of(self, result: Result, weights_checksum: str) -> dict[str, str]:
        """Checksums of the files that belong to a result; a failed trial's weights are those of an earlier attempt."""
        files = (
            [self.predictions_file]
            if result.status == "failed"
            else [self.weights, self.classifier, self.predictions_file]
        )
        known = {self.weights.name: weights_checksum}
        return {file.name: known.get(file.name) or hash_file(file) for file in files if file.exists()}

    def write_hyperparameters(self, hyperparameters: Mapping[str, bool | int | float | str]) -> None:
        """Write what a module that trains itself logged as its hyperparameters; for reading, nothing uses them."""
        with self.atomic_writer(self.folder / "hyperparameters.json") as partial:
            partial.write_bytes(dump_json(hyperparameters, indent=1))

    def atomic_writer(self, target: Path) -> AtomicWriter:
        """A context for writing one of this folder's files, guarded and uploaded."""
        return AtomicWriter(target, self.guard, self.remote_copy)

    def delete_file(self, file: Path) -> None:
        """Delete one of this folder's files, if it exists, and its remote copy."""
        file.unlink(missing_ok=True)
        if self.remote_copy:
            self.remote_copy.delete(file)

    # -- logs ----------------------------------------------------------------------------------------------------------

    def _append_line(self, name: str, entry: dict[str, str]) -> None:
        with (self.folder / name).open("a+b") as file:
            # A line that was cut off, as on a full disk, has no newline: the next one must not continue it.
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            separator = b"" if file.read(1) in (b"", b"\n") else b"\n"
            file.write(
                separator + dump_json({"time": round(time.time(), 1), "trial": self.folder.name, **entry}) + b"\n"
            )
        if self.remote_copy:
            self.remote_copy.upload(self.folder / name)

    def _read_lines(self, name: str) -> list[dict[str, Any]]:
        """Entries of a log; lines that were cut off are left out."""
        return [entry for entry in self._parse_lines(name) if not isinstance(entry, DamagedFileError)]

    def find_log_damage(self, name: str) -> list[DamagedFileError]:
        """Lines of a log that are damaged; one that was cut off, as on a full disk, is none."""
        return [entry for entry in self._parse_lines(name) if isinstance(entry, DamagedFileError)]

    def _parse_lines(self, name: str) -> list[dict[str, Any] | DamagedFileError]:
        file = self.folder / name
        try:
            lines = read_bounded(file, MAX_JSON_BYTES, LOG_REMEDY).splitlines()
        except FileNotFoundError:
            return []
        except DamagedFileError as error:
            return [error]
        entries: list[dict[str, Any] | DamagedFileError] = []
        for number, line in enumerate(lines, start=1):
            try:
                source = f"{file}, line {number},"
                entry = parse_json(line, LOG_LINE_SHAPE, source, LOG_REMEDY)
                if entry.get("trial", self.folder.name) != self.folder.name:
                    raise DamagedFileError(source, f"it is of another trial, {entry['trial'][:60]}", LOG_REMEDY)
                entries.append(entry)
            except DamagedFileError as error:
                is_cut_off = line.startswith(b"{") and not line.endswith(b"}")
                if not is_cut_off:
                    entries.append(error)
        return entries
