"""Requests of the user about single trials of a study: to cancel one, and to train one again.

Files in the study's folder, which its driver reads while it runs and every later start reads as it plans. A trial is
named by its fingerprint, so that a request outlives a change of the code.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from lightning_modules.specs.errors import DamagedFileError
from lightning_modules.stored_files import dump_json, read_json
from studies.design.trial import Trial, dependency_chain
from studies.storage.atomic import AtomicWriter

REQUEST_SCHEMA = 1
REQUEST_SHAPE = {"schema": int, "arm": str, "seed": int, "reason": str, "time": str, "user": str, "host": str}
REQUEST_REMEDY = "Delete it: the trial is then trained like any other."


@dataclass(frozen=True, kw_only=True)
class Cancellation:
    """A trial that the user has cancelled.

    Attributes:
        arm: as displayed: ``A``, or ``A, tuned``.
        reason: in the user's words; empty where none was given.
        time: ISO 8601.
    """

    arm: str
    seed: int
    reason: str
    user: str
    time: str = ""
    host: str = ""

    def describe(self) -> str:
        """Who cancelled the trial, when and why."""
        reason = f": {self.reason}" if self.reason else ""
        return f"cancelled by {self.user} on {self.host} at {self.time[:16].replace('T', ' ')}{reason}"

    def describe_for_dependents(self) -> str:
        """The reason for which the trials that need the weights of this one are cancelled."""
        return f"needs {self.arm}, seed {self.seed}, {self.describe()}"


def write_cancellation(study_folder: Path, fingerprint: str, cancellation: Cancellation) -> Cancellation:
    """Write a cancellation, made now on this host; returns it."""
    _retry_file(study_folder, fingerprint).unlink(missing_ok=True)
    file = _cancel_file(study_folder, fingerprint)
    file.parent.mkdir(exist_ok=True)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    content = asdict(cancellation) | {"time": now, "host": platform.node()}
    with AtomicWriter(file) as partial:
        partial.write_bytes(dump_json({"schema": REQUEST_SCHEMA, **content}))
    return Cancellation(**content)


def remove_cancellation(study_folder: Path, fingerprint: str) -> bool:
    """Remove a cancellation; returns whether there was one."""
    file = _cancel_file(study_folder, fingerprint)
    was_cancelled = file.exists()
    file.unlink(missing_ok=True)
    return was_cancelled


def read_cancellations(study_folder: Path, log: Callable[[str], None]) -> dict[str, Cancellation]:
    """Cancelled trials of a study, by fingerprint; a file that cannot be used is logged, and cancels nothing."""
    cancellations = {}
    for file in sorted((study_folder / "requests").glob("cancel-*.json")):
        try:
            data = read_json(file, REQUEST_SHAPE, REQUEST_REMEDY)
        except FileNotFoundError:  # removed since it was listed
            continue
        except DamagedFileError as error:
            log(str(error))
            continue
        fields = {name: value for name, value in data.items() if name != "schema"}
        cancellations[file.stem.removeprefix("cancel-")] = Cancellation(**fields)
    return cancellations


def find_cancel_reasons(
    trials: Iterable[Trial], cancellations: Mapping[str, Cancellation], has_weights: Callable[[Trial], bool]
) -> dict[Trial, str]:
    """The trials of these that are cancelled, and those that need the weights of one, each with its reason.

    Args:
        cancellations: by fingerprint.
        has_weights: whether the weights of a cancelled trial exist all the same, as from an earlier start.
    """
    reasons: dict[Trial, str] = {}
    for trial in trials if cancellations else ():
        for needed in reversed(dependency_chain(trial)):
            cancellation = cancellations.get(needed.fingerprint)
            if cancellation and needed == trial:
                reasons[trial] = cancellation.describe()
            elif cancellation and not has_weights(needed):
                reasons.setdefault(trial, cancellation.describe_for_dependents())
    return reasons


def list_cancelled(study_folder: Path) -> frozenset[str]:
    """Fingerprints of the cancelled trials of a study."""
    return frozenset(file.stem.removeprefix("cancel-") for file in (study_folder / "requests").glob("cancel-*.json"))


def request_retry(study_folder: Path, fingerprint: str) -> None:
    """Ask the driver that runs a study to train a trial again."""
    file = _retry_file(study_folder, fingerprint)
    file.parent.mkdir(exist_ok=True)
    file.touch()


def take_retries(study_folder: Path) -> frozenset[str]:
    """Fingerprints of the trials to be trained again; each is returned once."""
    files = list((study_folder / "requests").glob("retry-*"))
    for file in files:
        file.unlink(missing_ok=True)
    return frozenset(file.name.removeprefix("retry-") for file in files)


def _cancel_file(study_folder: Path, fingerprint: str) -> Path:
    return study_folder / "requests" / f"cancel-{fingerprint}.json"


def _retry_file(study_folder: Path, fingerprint: str) -> Path:
    return study_folder / "requests" / f"retry-{fingerprint}"
