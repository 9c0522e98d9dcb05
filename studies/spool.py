"""A trial's folder: its checkpoint while it runs, and its result, predictions and weights once it has ended."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lightning_modules.values import Misuse
from studies.results import SCHEMA, Result
from studies.settings import without_credentials


class UnreadableSchema(Misuse):
    """Something stored by another version of this package; the text says by which, and what to do."""


def _always() -> None:
    return


class Mirror(Protocol):
    """Where a trial's files are kept as well.

    Raises:
        OSError: from both, a fault of the machine's, where that cannot be done.
    """

    def put(self, file: Path) -> None:
        """Keep a file that has taken its place, durably."""

    def drop(self, file: Path) -> None:
        """Keep it no longer."""


@dataclass(frozen=True)
class Spool:
    """One folder per trial, named by its fingerprint and by the digest of the code, data and platform beside it.

    Every file is written under another name and renamed when it is whole.

    Attributes:
        guard: called before any file is renamed into place; raises where the trial is no longer this process's.
        mirror: where its files are kept as well.
    """

    folder: Path
    guard: Callable[[], None] = _always
    mirror: Mirror | None = None

    @property
    def checkpoint(self) -> Path:
        """Where the trial's last checkpoint lies, if there is one."""
        return self.folder / "checkpoint.ckpt"

    @property
    def weights(self) -> Path:
        """Where the final weights lie."""
        return self.folder / "weights.pt"

    @property
    def classifier(self) -> Path:
        """Where the linear classifier lies of a trial that trains one: ``weight`` and ``bias``, as NumPy's arrays."""
        return self.folder / "classifier.npz"

    @property
    def has_ended(self) -> bool:
        """Whether the trial has finished or diverged. A failed one is tried again."""
        result = self.result()
        return result is not None and result.status != "failed"

    def is_complete(self, *, trains: bool) -> bool:
        """Whether the trial has ended, and its weights are here where it trains any."""
        return self.has_ended and (self.weights.exists() or not trains)

    @property
    def attempts(self) -> int:
        """How often the trial was begun."""
        return len(self._lines("attempts.jsonl"))

    @property
    def faults(self) -> tuple[str, ...]:
        """The faults of the machine that it met, each in a line."""
        return tuple(json.loads(line)["fault"] for line in self._lines("faults.jsonl"))

    def note_fault(self, reason: str) -> None:
        """Keep why an attempt came to nothing; where that cannot be written, the attempt still counts."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._append("faults.jsonl", {"fault": without_credentials(reason)})

    def _append(self, name: str, what: dict[str, str]) -> None:
        """Add a line to a file, on a line of its own also where the one before was cut off."""
        with (self.folder / name).open("a+b") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            start = b"" if file.read(1) in (b"", b"\n") else b"\n"
            file.write(start + json.dumps({"time": round(time.time(), 1), **what}).encode() + b"\n")
        if self.mirror:
            self.mirror.put(self.folder / name)

    def _lines(self, name: str) -> list[str]:
        """Those of a file that is appended to; one that was cut off, as on a full disk, does not count."""
        try:
            lines = (self.folder / name).read_text().splitlines()
        except OSError:
            return []
        return [line for line in lines if line.startswith("{") and line.endswith("}")]

    def begin(self, who: str) -> None:
        """Note one more attempt, and drop the result of an earlier one and what it left half; its checkpoint stays."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob("*.partial"):
            left.unlink(missing_ok=True)
        self._append("attempts.jsonl", {"by": who})
        self.drop(self.folder / "result.json")

    def result(self) -> Result | None:
        """The result of a trial that has ended, with its predictions; ``None`` where there is none that can be read.

        Raises:
            UnreadableSchema: where another version of this package wrote it.
        """
        predictions = self.folder / "predictions.npy"
        try:
            data = json.loads((self.folder / "result.json").read_text())
            require_schema(data, self.folder / "result.json")
            result = result_from_json(data)
            return (
                replace(result, predictions=np.load(predictions, allow_pickle=False))
                if predictions.exists()
                else result
            )
        except UnreadableSchema:
            raise
        except (OSError, ValueError, EOFError, KeyError, TypeError):
            return None

    def replacing(self, target: Path) -> replacing:
        """Write one of this folder's files whole, where the trial is still this process's."""
        return replacing(target, self.guard, self.mirror)

    def drop(self, file: Path) -> None:
        """Remove one of this folder's files, if there is one."""
        file.unlink(missing_ok=True)
        if self.mirror:
            self.mirror.drop(file)

    def write(self, result: Result) -> None:
        """Write a result: predictions first, then the file that says the trial has ended.

        The checkpoint of one that has finished or diverged is dropped; a failed one goes on from it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if result.predictions is not None:
            with self.replacing(self.folder / "predictions.npy") as partial, partial.open("wb") as file:
                np.save(file, result.predictions)
        else:
            self.guard()
            self.drop(self.folder / "predictions.npy")
        with self.replacing(self.folder / "result.json") as partial:
            partial.write_text(json.dumps(result_to_json(result), indent=1))
        if result.status != "failed":
            self.drop(self.checkpoint)


def require_schema(data: dict[str, Any], where: object, reads: int = SCHEMA) -> None:
    """Refuse what another version of this package stored.

    Raises:
        UnreadableSchema: which says whether what is stored is newer or older.
    """
    found = data.get("schema")
    if found == reads:
        return
    newer = isinstance(found, int) and found > reads
    raise UnreadableSchema(
        f"{where} was stored under schema {found if found is not None else 'none'}, which is "
        f"{'newer' if newer else 'older'} than this version's, {reads}. "
        + ("Update this package" if newer else "Use the version that stored it")
        + ", or give another --runs."
    )


class replacing:  # noqa: N801 - a context manager reads as a verb
    """Write a file under another name; rename it into place, durably, when the block ends well."""

    def __init__(self, target: Path, guard: Callable[[], None] = _always, mirror: Mirror | None = None) -> None:
        self.target, self.guard, self.mirror = target, guard, mirror
        self.partial = target.with_name(f"{target.name}.{secrets.token_hex(6)}.partial")

    def __enter__(self) -> Path:
        return self.partial

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._rename()
        finally:
            self.partial.unlink(missing_ok=True)

    def _rename(self) -> None:
        flush(self.partial)
        self.guard()
        self.partial.rename(self.target)
        flush(self.target.parent)
        if self.mirror:
            self.mirror.put(self.target)


def flush(path: Path) -> None:
    """Have what was written to a file, or the names in a folder, survive a loss of power."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def result_to_json(result: Result) -> dict[str, Any]:
    """All of a result but its predictions, as plain JSON data; non-finite numbers as ``null``."""
    data = asdict(replace(result, predictions=None))
    del data["predictions"]
    return {key: _finite(value) for key, value in data.items()}


def result_from_json(data: dict[str, Any]) -> Result:
    """The inverse of :func:`result_to_json`, without predictions."""
    metrics = {name: _number(value) for name, value in data["metrics"].items()}
    curves = {name: tuple(map(_number, values)) for name, values in data["curves"].items()}
    return Result(**data | {"metrics": metrics, "curves": curves, "times": tuple(data["times"])})


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
