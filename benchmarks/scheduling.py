"""Claim: of 1,000 trials of about a second, on two workers, nine tenths of the workers' time goes into the trials.

Cost: ten minutes on two cores. Command: ``python benchmarks/scheduling.py [--trials 1000] [--workers N] [--write]``;
with ``--write`` the numbers go to ``benchmarks/results/scheduling.json``.

A whole study is measured, run like any other: planned, dispatched by Ray to a fresh process per trial, trained and
evaluated by Lightning on digits, written durably to its folder, recorded in MLflow on SQLite, read back. A trial's
network has one weight per pixel and class. Its first training step sleeps for a stated time, and the rest computes
next to nothing. So other load on the machine changes the figures little, and the cores that the workers leave idle
are free for the driver, as on a machine whose trials train on a GPU.

There are two figures, both over workers x wall time. ``asleep`` is the declared sleep alone, and counts everything
else in a trial (building, evaluating, writing) as overhead. ``work`` is the time in the trial's process from the
message of its start to its result. Both are given for the whole command, and ``..._in_dispatch``: from the start of the
first trial to the end of the last.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "scheduling.json"
SLEEP_SECONDS = 1.0
ARMS = 2
MARKS = (0, 250, 500, 750, 1000)

NETWORK = '''
import time

import pytorch_lightning as lightning
import torch
from torch import nn


class Sleeper(lightning.LightningModule):
    """A linear classifier of 64 pixels that sleeps in its first step."""

    def __init__(self, classes: int, seconds: float, arm: int) -> None:
        super().__init__()
        self.seconds = seconds
        self.classifier = nn.Linear(64, classes)

    def forward(self, images):
        return self.classifier(nn.functional.adaptive_avg_pool2d(images, 8).flatten(1))

    def training_step(self, batch, number):
        if number == 0:
            time.sleep(self.seconds)
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.02)
'''

ABLATION = '''
"""Does it matter which sleeper sleeps?"""

from ablations import Ablation, Arm
from lightning_modules.spec import Custom


def sleeper(arm):
    return Custom(
        class_path="sleeping_networks.Sleeper", init_args={{"classes": "$classes", "seconds": {seconds}, "arm": arm}}
    )


ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("0", {{"network": sleeper(0)}}),
    arms=tuple(Arm(str(arm), {{"network": sleeper(arm)}}) for arm in range(1, {arms})),
    varies=("network.init_args.arm",),
)
'''


class Memory(threading.Thread):
    """Follows this process's memory as trials end, and the machine's load."""

    def __init__(self, runs: Path) -> None:
        super().__init__(daemon=True)
        self.trials, self.over = runs / "trials", threading.Event()
        self.megabytes: dict[int, float] = {}
        self.loads: list[float] = [os.getloadavg()[0]]

    def run(self) -> None:
        """Note the memory when the first trial has begun, and when the number of results passes a mark."""
        while not self.over.wait(0.5):
            self.loads.append(os.getloadavg()[0])
            if next(self.trials.glob("*/attempts.jsonl"), None):
                self.note()

    def note(self) -> None:
        """Note it now."""
        ended = sum(1 for _ in self.trials.glob("*/result.json"))
        for mark in MARKS:
            if ended >= mark:
                self.megabytes.setdefault(mark, resident_megabytes())


def resident_megabytes() -> float:
    """Of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 2**20, 1)


def measure(trials: int, workers: int) -> dict[str, Any]:
    """Run the study in this process."""
    import studies
    from studies.execution.resources import Resources

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sleeping_networks.py").write_text(NETWORK)
        (folder / "sleepers.py").write_text(ABLATION.format(seconds=SLEEP_SECONDS, arms=ARMS))
        memory = Memory(folder / "runs")
        memory.start()
        began = time.monotonic()
        record = studies.run(
            str(folder / "sleepers.py"),
            seeds=trials // ARMS,
            overrides={"recipe.epochs": 1, "recipe.batch_size": 128},
            runs=folder / "runs",
            resources=Resources(max_concurrent=workers),
            quiet=True,
        )
        wall = time.monotonic() - began
        memory.over.set()
        memory.note()
        return {
            "trials": len(record.trials),
            "workers": workers,
            "finished": sum(trial.state == "finished" for trial in record.trials),
            "cores": os.cpu_count(),
            "mean_load": round(statistics.mean(memory.loads), 1),
            "wall_seconds": round(wall, 1),
            "megabytes_of_the_driver": memory.megabytes,
            **_figures(folder / "runs", wall, workers),
        }


def _figures(runs: Path, wall: float, workers: int) -> dict[str, Any]:
    works, ends, starts = [], [], []
    for folder in (runs / "trials").iterdir():
        begun = json.loads((folder / "attempts.jsonl").read_text().splitlines()[-1])["time"]
        ended = (folder / "result.json").stat().st_mtime
        works.append(ended - begun)
        starts.append(begun)
        ends.append(ended)
    span, count = max(ends) - min(starts), len(works)
    return {
        "seconds_per_trial": round(statistics.median(works), 3),
        "dispatch_seconds": round(span, 1),
        "around_seconds": round(wall - span, 1),
        "asleep": round(count * SLEEP_SECONDS / (workers * wall), 3),
        "work": round(sum(works) / (workers * wall), 3),
        "asleep_in_dispatch": round(count * SLEEP_SECONDS / (workers * span), 3),
        "work_in_dispatch": round(sum(works) / (workers * span), 3),
        "overhead_per_trial_seconds": round((workers * span - sum(works)) / count, 3),
    }


def main() -> None:
    """Measure, and print or write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="100 trials")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    found = measure(100 if asked.quick else asked.trials, asked.workers)
    print(json.dumps(found, indent=1))
    if asked.write:
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
