"""A trial's folder: its checkpoint while it runs, and its result, predictions and weights once it has ended."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from studies.results import Result


@dataclass(frozen=True)
class Spool:
    """One folder per trial, named by its fingerprint and by the digest of the code, data and platform beside it.

    Every file is written under another name and renamed when it is whole.
    """

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """Where the trial's last checkpoint lies, if there is one."""
        return self.folder / "checkpoint.ckpt"

    @property
    def weights(self) -> Path:
        """Where the final weights lie."""
        return self.folder / "weights.pt"

    def result(self) -> Result | None:
        """The result of a trial that has ended, with its predictions; ``None`` where there is none that can be read."""
        predictions = self.folder / "predictions.npy"
        try:
            result = result_from_json(json.loads((self.folder / "result.json").read_text()))
            return replace(result, predictions=np.load(predictions)) if predictions.exists() else result
        except (OSError, ValueError, EOFError, KeyError, TypeError):
            return None

    def write(self, result: Result) -> None:
        """Write a result: predictions first, then the file that says the trial has ended; drop the checkpoint."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "predictions.npy").unlink(missing_ok=True)
        if result.predictions is not None:
            with replacing(self.folder / "predictions.npy") as partial, partial.open("wb") as file:
                np.save(file, result.predictions)
        with replacing(self.folder / "result.json") as partial:
            partial.write_text(json.dumps(result_to_json(result), indent=1))
        self.checkpoint.unlink(missing_ok=True)


class replacing:  # noqa: N801 - a context manager reads as a verb
    """Write a file under another name; rename it into place, durably, when the block ends well."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.partial = target.with_name(f"{target.name}.{os.getpid()}.partial")

    def __enter__(self) -> Path:
        return self.partial

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.partial.unlink(missing_ok=True)
            return
        with self.partial.open("rb") as file:
            os.fsync(file.fileno())
        self.partial.rename(self.target)


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
