"""A trial's folder: checkpoint, result, predictions, weights and logs."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from studies.records.results import Result, result_from_json, result_to_json
from studies.records.schema import SchemaVersionError, require_schema
from studies.settings import redact_credentials
from studies.storage.atomic import AtomicWriter, RemoteCopy, no_guard


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
    def _result(self) -> Path:
        return self.folder / "result.json"

    @property
    def _predictions(self) -> Path:
        return self.folder / "predictions.npy"

    # -- state ---------------------------------------------------------------------------------------------------------

    @property
    def has_ended(self) -> bool:
        """Whether the trial has finished or diverged; a failed one is tried again."""
        result = self.read_result()
        return result is not None and result.status != "failed"

    def is_complete(self, *, trains: bool) -> bool:
        """Whether the trial has ended and, if it trains, its weights are here."""
        return self.has_ended and (self.weights.exists() or not trains)

    @property
    def num_attempts(self) -> int:
        """Number of times the trial was started."""
        return len(self._read_lines("attempts.jsonl"))

    @property
    def faults(self) -> tuple[str, ...]:
        """Reasons of the machine faults that ended its attempts, oldest first."""
        return tuple(json.loads(line)["fault"] for line in self._read_lines("faults.jsonl"))

    def read_result(self) -> Result | None:
        """The result with its predictions.

        ``None`` where there is none that can be read.

        Raises:
            SchemaVersionError: where another version of this package wrote it.
        """
        try:
            data = json.loads(self._result.read_text())
            require_schema(data, self._result)
            result = result_from_json(data)
            if not self._predictions.exists():
                return result
            return replace(result, predictions=np.load(self._predictions, allow_pickle=False))
        except SchemaVersionError:
            raise
        # A damaged file counts as no result: the trial is then run again, which replaces it.
        except (OSError, ValueError, EOFError, KeyError, TypeError):
            return None

    # -- writing -------------------------------------------------------------------------------------------------------

    def start_attempt(self, holder: str) -> None:
        """Log a new attempt, and delete what earlier ones left.

        Their checkpoint stays.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for partial in self.folder.glob("*.partial"):
            partial.unlink(missing_ok=True)
        self._append_line("attempts.jsonl", {"by": holder})
        self.delete_file(self._result)

    def record_fault(self, reason: str) -> None:
        """Log why an attempt ended without a result."""
        # The fault may be a full disk, so the reason may be lost; the attempt itself was logged when it started.
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._append_line("faults.jsonl", {"fault": redact_credentials(reason)})

    def write_result(self, result: Result) -> None:
        """Write a result, and delete the checkpoint unless the trial failed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # The result last: its presence says that the trial has ended, so all else must be in place by then.
        if result.predictions is not None:
            with self.atomic_writer(self._predictions) as partial, partial.open("wb") as file:
                np.save(file, result.predictions)
        else:
            self.guard()
            self.delete_file(self._predictions)
        with self.atomic_writer(self._result) as partial:
            partial.write_text(json.dumps(result_to_json(result), indent=1))
        if result.status != "failed":
            self.delete_file(self.checkpoint)

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
            file.write(separator + json.dumps({"time": round(time.time(), 1), **entry}).encode() + b"\n")
        if self.remote_copy:
            self.remote_copy.upload(self.folder / name)

    def _read_lines(self, name: str) -> list[str]:
        """Complete lines of a log; those that were cut off are left out."""
        try:
            lines = (self.folder / name).read_text().splitlines()
        except OSError:
            return []
        return [line for line in lines if line.startswith("{") and line.endswith("}")]
