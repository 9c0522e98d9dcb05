"""What a round left: every trial exactly once in spool and store, to the expected bits, gone on from its checkpoint."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from studies.storage.trial_folder import TrialFolder
from studies.tracking.interface.metric_names import metric_name
from studies.training.checkpoints import load_checkpoint
from tests.faults import ground
from tests.faults.ground import EPOCHS, Ground, Key, Place
from tests.faults.kinds import FAULTS, OK, Told

ARMS = {"rates": ("half", "fifth"), "more_rates": ("half", "fifth", "none")}
MEASURED = ("seconds",)  # curves that are no bits of the training


@dataclass
class Outcome:
    """One round of one fault.

    Attributes:
        struck: in which phase the fault fell.
        trials: how many there were to be.
        lost, duplicated, equal: how many of them were, in spool or store; bit for bit equal to the undisturbed ones.
        interrupted: how many had a checkpoint and no result when the fault struck; ``resumed`` of these went on.
        wrong: whatever else is not as it should be, in words.
        shown: what the commands printed.
    """

    fault: str
    round: int
    struck: str
    what: str
    trials: int = 0
    lost: int = 0
    duplicated: int = 0
    equal: int = 0
    interrupted: int = 0
    resumed: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Nothing lost, nothing doubled, all equal, all gone on."""
        return (self.lost, self.duplicated, self.equal, self.resumed, self.wrong) == (
            *(0, 0, self.trials, self.interrupted),
            [],
        )

    def __str__(self) -> str:
        told = (
            f"{self.fault:<19} round {self.round:>2} {self.struck:<9}{self.what:<13} trials {self.trials}, "
            f"lost {self.lost}, duplicated {self.duplicated}, equal {self.equal}, "
            f"resumed {self.resumed} of {self.interrupted}, {self.seconds:.0f} s"
        )
        return told + "".join(f"\n    {line}" for line in self.wrong)


def try_fault(common: Ground, name: str, number: int, seed: int = 0) -> Outcome:
    """One round: strike, run again, look."""
    fault, random, began = FAULTS[name], Random(f"{name} {number} {seed}"), time.monotonic()
    with ground.place(common, random) as at, fault.around(at):
        notes: dict[str, list[float]] = {}
        told = fault.strikes(at, lambda: notes.update(checkpoints(at)))
        outcome = Outcome(name, number, told.struck, told.what)
        run_again(at, told, outcome)
        for study in told.studies:
            judge_store(at, study, outcome)
        judge_spool(at, told, outcome)
        judge_checkpoints(at, notes, outcome)
        outcome.shown = [f"{file.name}: {file.read_text().strip()}" for file in sorted(at.folder.glob("*.log"))]
    outcome.seconds = time.monotonic() - began
    return outcome


def run_again(at: Place, told: Told, outcome: Outcome) -> None:
    """`ablate run` again, until it says that all is well: once is to be enough."""
    if told.exits not in told.allowed:
        outcome.wrong.append(f"the command under the fault ended with {told.exits}; expected one of {told.allowed}")
    for study in told.studies:
        again = at.start(study)
        if again.ended() != OK:
            outcome.wrong.append(f"`ablate run` again ended with {again.process.exitcode}")
    for command in at.commands:
        if "Traceback" in command.output:
            outcome.wrong.append("a traceback was shown")


def checkpoints(at: Place) -> dict[str, list[float]]:
    """Of every trial that has a checkpoint and no result: when its epochs ended, as the checkpoint tells."""
    found = {}
    for trial in at.trials():
        copy = at.folder / "copied.ckpt"
        try:
            shutil.copy(trial / "checkpoint.ckpt", copy)
        except FileNotFoundError:
            continue
        if (trial / "result.json").exists():
            continue
        loaded = load_checkpoint(copy)
        found[trial.name] = next(state["times"] for state in loaded["callbacks"].values() if "times" in state)
    return found


def judge_checkpoints(at: Place, notes: dict[str, list[float]], outcome: Outcome) -> None:
    """An interrupted trial went on: the epochs in its checkpoint were not trained again."""
    outcome.interrupted = len(notes)
    for name, times in notes.items():
        result = TrialFolder(at.runs / "trials" / name).read_result()
        outcome.resumed += bool(result) and list(result.times[: len(times)]) == times


def judge_spool(at: Place, told: Told, outcome: Outcome) -> None:
    """Every trial has one folder, which holds the expected bits."""
    wanted = {(arm, seed) for study in told.studies for arm in ARMS[study] for seed in ground.SEEDS}
    expected = {
        TrialFolder(path).read_result().fingerprint: key for key, path in at.ground.expected.items() if key in wanted
    }
    folders: dict[Key, list[Path]] = {key: [] for key in wanted}
    for trial in at.trials():
        folders[expected[trial.name.partition("-")[0]]].append(trial)
    outcome.trials = len(wanted)
    outcome.lost += sum(not places for places in folders.values())
    outcome.duplicated += sum(len(places) > 1 for places in folders.values())
    for key, places in folders.items():
        unlike = differences(at.ground.expected[key], places[0]) if places else ["lost"]
        outcome.equal += not unlike
        outcome.wrong += [f"{key}: {each}" for each in unlike]
        if told.once and places and TrialFolder(places[0]).num_attempts != 1:
            outcome.wrong.append(f"{key} was begun {TrialFolder(places[0]).num_attempts} times")
        left = [
            file.name for place in places for file in place.iterdir() if "lease" in file.name or "partial" in file.name
        ]
        if left:
            outcome.wrong.append(f"{key}: left behind are {', '.join(left)}")


def differences(expected: Path, found: Path) -> list[str]:
    """In what two trials differ, bit by bit; costs and times apart."""
    first, second = TrialFolder(expected).read_result(), TrialFolder(found).read_result()
    if first is None or second is None:
        return ["no result can be read"]
    unlike = [
        name
        for name in ("fingerprint", "status", "metrics", "evidence")
        if getattr(first, name) != getattr(second, name)
    ]
    curves = [
        {name: values for name, values in each.curves.items() if name not in MEASURED} for each in (first, second)
    ]
    unlike += ["curves"] if repr(curves[0]) != repr(curves[1]) else []
    unlike += [] if np.array_equal(first.predictions, second.predictions) else ["predictions"]
    states = [torch.load(place / "weights.pt", weights_only=True) for place in (expected, found)]
    same = (
        all(torch.equal(states[0][name], states[1][name]) for name in states[0])
        and states[0].keys() == states[1].keys()
    )
    return unlike if same else [*unlike, "weights"]


def judge_store(at: Place, study: str, outcome: Outcome) -> None:
    """Every trial has one run that ended, with every epoch once and what its folder holds; nothing runs on."""
    runs = recorded(at.database, study)
    children = [run for run in runs.values() if run["tags"].get("kind") == "fit"]
    ended = [run for run in children if run["tags"]["status"] in ("finished", "non-finite", "at chance")]
    counts = Counter((run["tags"]["arm"], int(run["tags"]["seed"])) for run in ended)
    wanted = {(arm, seed) for arm in ARMS[study] for seed in ground.SEEDS}
    lost, doubled = wanted - set(counts), [key for key, count in counts.items() if count > 1]
    outcome.lost += len(lost)
    outcome.duplicated += len(doubled)
    outcome.wrong += [f"{study}: the store lost {lost}"] if lost else []
    outcome.wrong += [f"{study}: the store has more than one of {doubled}"] if doubled else []
    for run in runs.values():
        name = f"{study}: the run {run['name']}"
        if run["status"] not in ("FINISHED", "FAILED") or run["tags"].get("status") == "running":
            outcome.wrong.append(f"{name} is {run['status']}, {run['tags'].get('status')}")
    for run in ended:
        if run["status"] != "FINISHED":
            outcome.wrong.append(f"{study}: {run['name']} is {run['tags']['status']} and {run['status']}")
        outcome.wrong += [f"{study}: {run['name']}: {each}" for each in unlike_spool(at, run)]


def unlike_spool(at: Place, run: dict[str, Any]) -> list[str]:
    """In what a run differs from its trial's folder."""
    (folder,) = at.runs.glob(f"trials/{run['tags']['fingerprint']}-*")
    result = TrialFolder(folder).read_result()
    unlike = []
    steps = [step for step, _ in sorted(run["history"].get("validation_loss", []))]
    if steps != list(range(EPOCHS)):
        unlike.append(f"epochs recorded: {steps}")
    for name, values in result.curves.items():
        found = [value for _, value in sorted(run["history"].get(metric_name(name), []))]
        if found != list(values):
            unlike.append(f"curve {name}")
    if [value for _, value in run["history"].get("test_error", [])] != [result.metrics["test_error"]]:
        unlike.append("test error")
    place = artifacts(at, run)
    if json.loads((place / "result.json").read_text())["metrics"] != dict(result.metrics):
        unlike.append("result.json")
    if not np.array_equal(np.load(place / "predictions.npy"), result.predictions):
        unlike.append("predictions.npy")
    return unlike


def artifacts(at: Place, run: dict[str, Any]) -> Path:
    """Where a run's artifacts lie."""
    uri = run["artifacts"]
    if uri.startswith("mlflow-artifacts:/"):
        return at.runs / "artifacts" / uri.removeprefix("mlflow-artifacts:/").lstrip("/")
    return Path(uri.removeprefix("file://"))


def recorded(database: Path, study: str) -> dict[str, dict[str, Any]]:
    """The active runs of an experiment, with tags and the history of every metric, straight from the database."""
    chosen = (
        "SELECT run_uuid FROM runs JOIN experiments USING (experiment_id) "
        f"WHERE experiments.name = '{study}' AND runs.lifecycle_stage = 'active'"
    )
    runs = {
        uuid: {"name": name, "status": status, "artifacts": uri, "tags": {}, "history": {}}
        for uuid, name, status, uri in ground.rows(
            database, f"SELECT run_uuid, name, status, artifact_uri FROM runs WHERE run_uuid IN ({chosen})"
        )
    }
    for uuid, key, value in ground.rows(
        database, f"SELECT run_uuid, key, value FROM tags WHERE run_uuid IN ({chosen})"
    ):
        runs[uuid]["tags"][key] = value
    for uuid, key, step, value in ground.rows(
        database, f"SELECT run_uuid, key, step, value FROM metrics WHERE run_uuid IN ({chosen})"
    ):
        runs[uuid]["history"].setdefault(key, []).append((step, value))
    return runs
