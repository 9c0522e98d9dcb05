"""The status of studies, read from their folders: no Ray, no MLflow.

A study's folder has a status file, ``board.json``: its trials and what was planned for each. A trial's folder has its
progress, which its process replaces after every epoch, its lease and its result.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_modules.specs.errors import DamagedFileError
from lightning_modules.stored_files import dump_json
from studies.design.declare import training_command
from studies.records.json_numbers import null_to_nan
from studies.records.results import UNTRAINED_STATUSES, Result
from studies.records.schema import PRINTED_SCHEMA, SchemaVersionError
from studies.records.study_record import bundle_size_of
from studies.settings import Settings
from studies.storage.lease import find_holder, is_lease_expired
from studies.storage.status_files import STATUS_SCHEMA, load_board, load_progress, read_board
from studies.storage.trial_folder import TrialFolder
from studies.storage.trial_requests import list_cancelled

ENDED_STATES = ("finished", *UNTRAINED_STATUSES, "failed", "reused", "cancelled")
TRIAL_STATES = (*ENDED_STATES, "running", "interrupted", "waiting")


@dataclass(kw_only=True)
class TrialStatus:
    """One trial as a view shows it; errors in percent.

    Attributes:
        arm: as displayed: ``A``, ``A, candidate 3``, ``A, tuned``.
        group: the trials that are counted together: those of an arm, or of one rung of its search.
        folder: name of the trial's folder.
        part: the split on which the final error is measured.
        error: the last validation error while it runs, the final error once it has ended.
        num_attempts: number of times its training was started, as its folder's log and the tracking store count.
        epochs: planned ones; 0 where they are not known, or nothing is trained.
        bundle_size: trials that train at once in its process, itself included.
    """

    arm: str
    seed: int
    epochs: int
    group: str = ""
    folder: str = ""
    part: str = "test"
    state: str = "waiting"
    epoch: int = 0
    error: float = math.nan
    seconds_per_epoch: float = math.nan
    node: str = ""
    num_attempts: int = 0
    bundle_size: int = 1

    def __post_init__(self) -> None:
        self.group = self.group or self.arm

    @property
    def has_ended(self) -> bool:
        """Whether this run of the study has nothing more to do for it."""
        return self.state in ENDED_STATES

    @property
    def remaining_seconds(self) -> float:
        """Time left at the speed of the epochs so far.

        Not-a-number before the first epoch, and for a trial that no process trains.
        """
        if self.state == "interrupted":
            return math.nan
        return (self.epochs - self.epoch) * self.seconds_per_epoch


@dataclass(frozen=True, kw_only=True)
class StudyStatus:
    """The present state of a study.

    Attributes:
        state: ``running``; ``died`` where its process ended without releasing its lease; ``registered`` where nothing
            has been trained yet; else ``ended``.
        owner: the process that runs it; empty where none does.
        planned_at: when the study was last planned, in seconds since 1970.
        stop_reason: why its last start stopped before all of its trials had started; empty where it did not.
        damages: one line per file of its trials that cannot be used.
        source: where the status was read: ``runs folder`` or ``tracking store``.
    """

    study: str
    protocol: str
    state: str
    owner: str
    planned_at: float
    trials: tuple[TrialStatus, ...]
    stop_reason: str = ""
    damages: tuple[str, ...] = ()
    source: str = "runs folder"

    @property
    def remaining_seconds(self) -> float:
        """Time left for all trials; not-a-number while it is unknown, and for a study that does not run."""
        has_ended = all(trial.has_ended for trial in self.trials)
        return remaining_seconds(self.trials) if has_ended or self.state == "running" else math.nan

    @property
    def description(self) -> str:
        """The state in words, and what to do."""
        if self.state == "running":
            return f"running, by {self.owner}"
        resumes = f"`{training_command(self.study)}` resumes it"  # without its name: it may have been run with --set
        if self.state == "registered":
            return f"registered, not begun: `{training_command(self.study)}` begins it"
        if self.state == "died":
            return f"its process died; {resumes}"
        if all(trial.has_ended for trial in self.trials):
            return "complete"
        if self.stop_reason:
            return f"stopped at its budget; {resumes}"
        return f"not running; {resumes}"

    @property
    def state_counts(self) -> str:
        """Number of trials in each state, in words."""
        return count_states(self.trials)


def count_states(trials: Iterable[TrialStatus]) -> str:
    """Number of trials in each state, such as ``3 finished, 1 running``."""
    states = [trial.state for trial in trials]
    return ", ".join(f"{states.count(state)} {state}" for state in TRIAL_STATES if state in states)


def remaining_seconds(trials: Sequence[TrialStatus]) -> float:
    """Time left for all trials, at the speed of each group so far.

    As many processes as run now train what is left; an epoch of a bundle is one of each of its trials.

    Returns:
        Seconds; not-a-number while no trial has trained an epoch.
    """
    unfinished = [trial for trial in trials if not trial.has_ended]
    if not unfinished:
        return 0.0
    speeds_by_group: dict[str, list[float]] = {}
    for trial in trials:
        speeds_by_group.setdefault(trial.group, []).append(trial.seconds_per_epoch / trial.bundle_size)
    mean_by_group = {group: _finite_mean(speeds) for group, speeds in speeds_by_group.items()}
    # A group of which no trial has trained an epoch is taken to be as fast as the others.
    overall_mean = _finite_mean(mean_by_group.values())
    total_seconds = 0.0
    for trial in unfinished:
        mean = mean_by_group[trial.group]
        seconds_per_epoch = overall_mean if math.isnan(mean) else mean
        total_seconds += (trial.epochs - trial.epoch) * seconds_per_epoch
    num_processes = sum(1 / trial.bundle_size for trial in trials if trial.state == "running")
    return total_seconds / max(1.0, num_processes)


def _finite_mean(values: Iterable[float]) -> float:
    """The mean of the values that are known; not-a-number where none is."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def update_status(
    folder: Path,
    study: str,
    protocol: str,
    planned_trials: Iterable[tuple[TrialStatus, str]],
    trials_folder: Path,
    *,
    is_new_start: bool = False,
) -> None:
    """Add planned trials to a study's status file.

    Args:
        folder: the study's.
        planned_trials: each with its plan: ``train``; ``reused``, from another study; or ``ended``, in an earlier run.
        trials_folder: holds all trials' folders.
        is_new_start: whether a new run of the study begins, which drops what earlier runs planned and did not do.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target, partial = folder / "board.json", folder / f".board-{secrets.token_hex(4)}"
    rows = {}
    for row in load_board(target).get("rows", ()):
        # A result is read only where it decides: each is a file, on a shared file system perhaps.
        is_dropped = (
            is_new_start
            and row["planned"] == "train"
            and not _load_result(trials_folder / Path(row["folder"]).name, row["since"], [])
        )
        if not is_dropped:
            rows[row["arm"], row["group"], row["seed"]] = row
    # The time by the file system's clock, with which the times of results are compared.
    partial.touch()
    now = partial.stat().st_mtime
    for trial, plan in planned_trials:
        rows[trial.arm, trial.group, trial.seed] = {
            "arm": trial.arm,
            "group": trial.group,
            "seed": trial.seed,
            "epochs": trial.epochs,
            "folder": trial.folder,
            "part": trial.part,
            "planned": plan,
            "since": now,
        }
    content = {"schema": STATUS_SCHEMA, "study": study, "protocol": protocol, "rows": list(rows.values())}
    partial.write_bytes(dump_json(content))
    partial.replace(target)


def mark_stopped(folder: Path, reason: str) -> None:
    """Write into a study's status file why its start stopped; the next start removes it."""
    target, partial = folder / "board.json", folder / f".board-{secrets.token_hex(4)}"
    content = load_board(target)
    if content:
        partial.write_bytes(dump_json({**content, "stopped": reason}))
        partial.replace(target)


def last_planned_at(folder: Path) -> float:
    """When a study's trials were last planned, in seconds since 1970.

    0 where there is no status file.
    """
    rows = load_board(folder / "board.json").get("rows", ())
    return max((row["since"] for row in rows), default=0.0)


def list_status_folders(settings: Settings) -> list[Path]:
    """Folders of studies with a readable status file, last planned first."""
    files = filter(load_board, settings.studies_folder.glob("*/board.json"))
    return [file.parent for file in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True)]


def find_status(settings: Settings, study: str, protocol: str | None = None) -> StudyStatus | None:
    """The status of the last planned study of a name, or ``None``."""
    folder = find_status_folder(settings, study, protocol)
    return read_status(folder, settings.trials_folder) if folder else None


def find_status_folder(settings: Settings, study: str, protocol: str | None = None) -> Path | None:
    """The folder of the last planned study of a name, or ``None``."""
    for folder in list_status_folders(settings):
        data = load_board(folder / "board.json")
        if data and data["study"] == study and protocol in (None, data["protocol"]):
            return folder
    return None


def read_status(folder: Path, trials_folder: Path) -> StudyStatus:
    """The present status of a study.

    Args:
        folder: the study's.
        trials_folder: holds all trials' folders.

    Raises:
        DamagedFileError: where its status file is damaged, or gone.
    """
    data = read_board(folder / "board.json")
    holder = find_holder(folder)
    if holder:
        state = "running"
    elif is_lease_expired(folder):
        state = "died"  # a process that ends by itself, Ctrl-C included, releases its lease
    else:
        state = "ended"
    trials = []
    damages: list[str] = []
    cancelled = list_cancelled(folder)
    for row in data["rows"]:
        trial_folder = trials_folder / Path(row["folder"]).name
        trial = _read_trial_status(row, trial_folder, damages, is_study_running=holder is not None)
        if trial_folder.name.partition("-")[0] in cancelled and (not trial.has_ended or trial.state == "failed"):
            trial.state = "cancelled"
        trials.append(trial)
    return StudyStatus(
        study=data["study"],
        protocol=data["protocol"],
        state=state,
        owner=str(holder or ""),
        planned_at=(folder / "board.json").stat().st_mtime,
        trials=tuple(trials),
        stop_reason=data.get("stopped", ""),
        damages=tuple(damages),
    )


def _read_trial_status(
    row: Mapping[str, Any], folder: Path, damages: list[str], *, is_study_running: bool
) -> TrialStatus:
    trial = TrialStatus(
        arm=row["arm"],
        group=row["group"],
        seed=row["seed"],
        epochs=row["epochs"],
        folder=row["folder"],
        part=row["part"],
    )
    progress = load_progress(folder / "progress.json", damages)
    trial.node = progress.get("node", "")
    # The log of attempts is ahead of the progress, which is written once an epoch has ended.
    trial.num_attempts = max(progress.get("attempts", 0), TrialFolder(folder).num_attempts)
    # A trial to be trained again may still have the result of an earlier run.
    result = _load_result(folder, row["since"] if row["planned"] == "train" else 0.0, damages)
    if result:
        _apply_result(trial, result, is_reused=row["planned"] == "reused")
        return trial
    if row["planned"] != "train":  # it ended elsewhere, and its folder is not here
        trial.state = "reused" if row["planned"] == "reused" else "finished"
        trial.epoch = trial.epochs
        return trial
    trial.epoch = progress.get("epoch", 0)
    trial.error = null_to_nan(progress.get("validation_error"))
    trial.seconds_per_epoch = null_to_nan(progress.get("pace"))
    trial.bundle_size = max(1, progress.get("bundle_size", 1))
    holder = find_holder(folder)
    if holder:
        trial.state, trial.node = "running", holder.host
    elif progress and not is_study_running:
        trial.state = "interrupted"
    return trial


def _load_result(folder: Path, since: float, damages: list[str]) -> Result | None:
    """A trial's result.

    ``None`` where there is none, it was written before ``since``, or it is damaged, which is added to ``damages``.
    """
    file = folder / "result.json"
    try:
        return TrialFolder(folder).load_result() if file.stat().st_mtime >= since else None
    except DamagedFileError as error:
        damages.append(str(error))
        return None
    except (OSError, SchemaVersionError):
        return None


def _apply_result(trial: TrialStatus, result: Result, *, is_reused: bool) -> None:
    trial.state = "reused" if is_reused and result.status == "finished" else result.status
    trial.error = result.metrics.get(f"{trial.part}_error", math.nan)
    trial.epoch = trial.epochs
    trial.seconds_per_epoch = _finite_mean(result.curves.get("seconds", ()))
    trial.bundle_size = bundle_size_of(result)


def status_to_json(status: StudyStatus) -> dict[str, Any]:
    """A status as JSON data; unknown numbers as ``null``."""
    arms: dict[str, dict[int, dict[str, Any]]] = {}
    tuning = []
    for trial in status.trials:
        if trial.part == "test":
            arms.setdefault(trial.arm, {})[trial.seed] = _trial_to_json(trial)
        else:  # a candidate is judged on validation, and several share an arm and a seed
            identity = {"arm": trial.arm, "group": trial.group, "seed": trial.seed}
            tuning.append(identity | _trial_to_json(trial))
    return {
        "schema": PRINTED_SCHEMA,
        "kind": "status",
        "study": status.study,
        "protocol": status.protocol,
        "state": status.state,
        "by": status.owner,
        "trials": len(status.trials),
        "ended": sum(trial.has_ended for trial in status.trials),
        "left_seconds": _rounded_or_none(status.remaining_seconds),
        "stopped": status.stop_reason or None,
        "arms": arms,
        "tuning": tuning,
        "damaged": list(status.damages),
        "source": status.source,
    }


def _trial_to_json(trial: TrialStatus) -> dict[str, Any]:
    is_test_error = trial.part == "test" and trial.has_ended  # else `error` is on validation
    test_error = trial.error if is_test_error else math.nan
    return {
        "state": trial.state,
        "epoch": trial.epoch,
        "epochs": trial.epochs or None,
        "validation_error": None if is_test_error else _rounded_or_none(trial.error),
        "test_error": _rounded_or_none(test_error),
        "left_seconds": 0.0 if trial.has_ended else _rounded_or_none(trial.remaining_seconds),
        "node": trial.node,
        "attempts": trial.num_attempts,
    }


def _rounded_or_none(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None
