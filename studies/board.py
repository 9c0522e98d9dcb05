"""Where a study stands, told by its folder and those of its trials: for the live view and `ablate status`.

A study's folder has a board: its trials, and what was planned of each. A trial's folder tells how far it is: a small
file that its process replaces after every epoch, its lease, and its result. Nothing here asks Ray or MLflow.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies.leases import expired, holder
from studies.results import SCHEMA as RESULTS
from studies.settings import Settings

SCHEMA = 1
ENDED = ("finished", "diverged", "failed", "reused")
STATES = (*ENDED, "running", "interrupted", "waiting")


@dataclass(kw_only=True)
class Row:
    """One trial as a view shows it; errors in percent.

    Attributes:
        arm: as people are told of it: ``A``, ``A, candidate 3``, ``A, tuned``.
        group: the trials that are counted together: an arm's, or those of one rung of its search.
        folder: name of the trial's folder.
        part: of the data, on which the final error is measured.
        error: the last one on validation while it runs, the final one once it has ended.
        pace: seconds per epoch.
        attempts: how often it was begun.
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
    pace: float = math.nan
    node: str = ""
    attempts: int = 0

    def __post_init__(self) -> None:
        self.group = self.group or self.arm

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of it in this start of the study."""
        return self.state in ENDED

    @property
    def left_seconds(self) -> float:
        """Time left at the pace of the epochs so far; not a number before the first."""
        return (self.epochs - self.epoch) * self.pace


@dataclass(frozen=True, kw_only=True)
class Board:
    """A study as it stands.

    Attributes:
        state: ``running``; ``died`` where its process ended without a word; else ``ended``.
        by: who runs it, or ran it as it died.
        changed: when the study was last planned, in seconds since 1970.
    """

    study: str
    protocol: str
    state: str
    by: str
    changed: float
    rows: tuple[Row, ...]

    @property
    def words(self) -> str:
        """The state as people are told of it."""
        if self.state == "running":
            return f"running, by {self.by}"
        if self.state == "died":
            return "its process ended without a word; `ablate run` goes on from there"
        return "complete" if all(row.has_ended for row in self.rows) else "not running; `ablate run` goes on from there"

    @property
    def counted(self) -> str:
        """How many trials are in which state."""
        return counted(self.rows)


def counted(rows: Iterable[Row]) -> str:
    """How many trials are in which state, in words."""
    states = [row.state for row in rows]
    return ", ".join(f"{states.count(state)} {state}" for state in STATES if state in states)


def left_seconds(rows: Sequence[Row], at_once: int = 0) -> float:
    """Time left for all trials, at the pace of each group so far and with as many at once as now.

    Returns:
        Seconds; not a number while no trial has trained an epoch.
    """
    undone = [row for row in rows if not row.has_ended]
    if not undone:
        return 0.0
    paces = {group: _mean(row.pace for row in rows if row.group == group) for group in {row.group for row in rows}}
    average = _mean(paces.values())
    work = sum(
        (row.epochs - row.epoch) * (average if math.isnan(paces[row.group]) else paces[row.group]) for row in undone
    )
    return work / max(1, at_once or sum(row.state == "running" for row in rows))


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def write(
    folder: Path,
    study: str,
    protocol: str,
    planned: Iterable[tuple[Row, str]],
    trials: Path,
    *,
    begins: bool = False,
) -> None:
    """Note what is planned of some trials, beside those that the board holds already.

    Args:
        folder: the study's.
        planned: rows, each with ``train``; ``reused``, taken over from another study; or ``ended`` before.
        trials: folder of all trials' folders.
        begins: whether this is a new start of the study, which forgets what an earlier one planned and did not do.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target, partial = folder / "board.json", folder / f".board-{secrets.token_hex(4)}"
    known = {
        (each["arm"], each["group"], each["seed"]): each
        for each in _load(target).get("rows", ())
        if not begins or each["planned"] != "train" or _result(trials / each["folder"], each["since"])
    }
    partial.touch()
    now = partial.stat().st_mtime  # by the file system's clock, which dates the results as well
    for row, what in planned:
        place = {"arm": row.arm, "group": row.group, "seed": row.seed}
        rest = {"epochs": row.epochs, "folder": row.folder, "part": row.part}
        known[row.arm, row.group, row.seed] = {**place, **rest, "planned": what, "since": now}
    partial.write_text(json.dumps({"schema": SCHEMA, "study": study, "protocol": protocol, "rows": [*known.values()]}))
    partial.replace(target)


def planned_at(folder: Path) -> float:
    """When the trials of a study's board were last planned, in seconds since 1970; 0 where there is no board."""
    return max((each["since"] for each in _load(folder / "board.json").get("rows", ())), default=0.0)


def note_progress(folder: Path, values: Mapping[str, Any]) -> None:
    """Tell in a trial's folder how far it is. A loss of power may lose the file: it is for people alone."""
    partial = folder / f".progress-{secrets.token_hex(4)}"
    try:
        partial.write_text(json.dumps({"schema": SCHEMA, **values}))
        partial.replace(folder / "progress.json")
    except OSError:  # no trial fails because nobody can be told
        partial.unlink(missing_ok=True)


def folders(settings: Settings) -> list[Path]:
    """Of all studies that have a board which can be read, the one planned last first."""
    found = [file for file in settings.studies.glob("*/board.json") if _load(file)]
    return [file.parent for file in sorted(found, key=lambda file: file.stat().st_mtime, reverse=True)]


def find(settings: Settings, study: str, protocol: str | None = None) -> Board | None:
    """The study of a name that was planned last; ``None`` where there is none in the folder."""
    for folder in folders(settings):
        data = _load(folder / "board.json")
        if data["study"] == study and protocol in (None, data["protocol"]):
            return read(folder, settings.trials)
    return None


def read(folder: Path, trials: Path) -> Board:
    """A study as it stands now.

    Args:
        folder: the study's.
        trials: folder of all trials' folders.
    """
    data = _load(folder / "board.json")
    someone = holder(folder)
    state = "running" if someone else "died" if expired(folder) else "ended"
    rows = tuple(_row(each, trials / Path(each["folder"]).name, is_running=bool(someone)) for each in data["rows"])
    return Board(
        study=data["study"],
        protocol=data["protocol"],
        state=state,
        by=str(someone or ""),
        changed=(folder / "board.json").stat().st_mtime,
        rows=rows,
    )


def _row(data: Mapping[str, Any], folder: Path, *, is_running: bool) -> Row:
    row = Row(**{name: data[name] for name in ("arm", "group", "seed", "epochs", "folder", "part")})
    progress = _load(folder / "progress.json")
    row.node, row.attempts = progress.get("node", ""), progress.get("attempts", 0)
    result = _result(folder, data["since"] if data["planned"] == "train" else 0.0)
    if result:
        _end(row, result, reused=data["planned"] == "reused")
        return row
    if data["planned"] != "train":
        row.state, row.epoch = "reused" if data["planned"] == "reused" else "finished", row.epochs
        return row
    row.epoch, row.error = progress.get("epoch", 0), _number(progress.get("validation_error"))
    row.pace = _number(progress.get("pace"))
    someone = holder(folder)
    if someone:
        row.state, row.node = "running", someone.host
    elif progress and not is_running:
        row.state = "interrupted"
    return row


def _result(folder: Path, since: float) -> dict[str, Any]:
    """What a trial gave, where that is no older than its plan; else nothing."""
    file = folder / "result.json"
    try:
        return _load(file, RESULTS) if file.stat().st_mtime >= since else {}
    except OSError:
        return {}


def _end(row: Row, result: Mapping[str, Any], *, reused: bool) -> None:
    row.state = "reused" if reused and result["status"] == "finished" else result["status"]
    row.error, row.epoch = _number(result["metrics"].get(f"{row.part}_error")), row.epochs
    row.pace = _mean(map(_number, result["curves"].get("seconds", ())))


def _load(file: Path, schema: int = SCHEMA) -> dict[str, Any]:
    """A small file's content; empty where it is gone, or of a version that this one does not know."""
    try:
        data = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) and data.get("schema") == schema else {}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan


def as_data(board: Board) -> dict[str, Any]:
    """A board as plain JSON data; numbers that are not known as ``null``."""
    return {
        "study": board.study,
        "protocol": board.protocol,
        "state": board.state,
        "by": board.by,
        "trials": len(board.rows),
        "ended": sum(row.has_ended for row in board.rows),
        "left_seconds": _known(left_seconds(board.rows)),
        "arms": _by_arm(row for row in board.rows if row.part == "test"),
        "tuning": [
            {"arm": row.arm, "group": row.group, "seed": row.seed} | _told(row)
            for row in board.rows
            if row.part != "test"
        ],
    }


def _by_arm(rows: Iterable[Row]) -> dict[str, dict[int, dict[str, Any]]]:
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row.arm, {})[row.seed] = _told(row)
    return found


def _told(row: Row) -> dict[str, Any]:
    final = row.error if row.has_ended else math.nan
    return {
        "state": row.state,
        "epoch": row.epoch,
        "epochs": row.epochs,
        "validation_error": None if row.has_ended and row.part == "test" else _known(row.error),
        "test_error": _known(final) if row.part == "test" else None,
        "left_seconds": 0.0 if row.has_ended else _known(row.left_seconds),
        "node": row.node,
        "attempts": row.attempts,
    }


def _known(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None
