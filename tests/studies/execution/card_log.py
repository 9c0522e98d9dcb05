"""Bodies of trial processes that note on which GPU they run; without Ray, which a trial's process never loads."""

import os
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from studies.execution.processes import trial_process

WAIT_SECONDS = 90.0  # a worker of Ray takes seconds to start, and minutes where other work holds the cores


class Use(NamedTuple):
    """Use of a card by a bundle: from when until when, and which of its trials."""

    card: str
    trials: tuple[str, ...]
    began: float
    ended: float


def prepare_log(jobs, num_at_once: int) -> Path:
    """Make the folder of the log, beside the trials' folders; the processes wait until so many run at once."""
    folder: Path = jobs[0].folder.parent / "log"
    folder.mkdir()
    (folder / "num_at_once").write_text(str(num_at_once))
    return folder


def run_and_log(jobs, settings, machine, sender: Connection) -> None:
    """Run a bundle's process, and log the card that it sees."""
    folder = jobs[0].folder.parent / "log"
    num_at_once = int((folder / "num_at_once").read_text())
    name = "+".join(job.folder.name for job in jobs)
    began = time.time()
    (folder / f"{name}.use").write_text(f"{os.environ['CUDA_VISIBLE_DEVICES']} {began}")
    while len([*folder.glob("*.use")]) < num_at_once:
        if time.time() - began > WAIT_SECONDS:
            return  # as if it had died: a fault, which the test finds
        time.sleep(0.05)
    trial_process.run_trial_process(jobs, settings, machine, sender)


def read_log(folder: Path) -> list[Use]:
    """What the processes have logged, in the order in which they began; a bundle ends with its last result."""
    uses = []
    for file in folder.glob("*.use"):
        card, began = file.read_text().split()
        trials = tuple(file.stem.split("+"))
        ended = max((folder.parent / trial / "result.json").stat().st_mtime for trial in trials)
        uses.append(Use(card, trials, float(began), ended))
    return sorted(uses, key=lambda use: use.began)
