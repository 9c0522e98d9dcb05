"""Claim: a whole study on two cores takes less than half the time of the same trials as ordinary Lightning.

Cost: half an hour on two cores; with ``--quick`` three minutes.
Command: ``python benchmarks/study.py [--quick] [--write]``.

Both train `depth` under the protocol `digits`, every arm under every seed, from the command to its end, including
imports. Ours is ``ablate run depth``: planned, paired, recorded in MLflow, with curves, gradient norms and
predictions. Ordinary is one script that trains the same networks one after another, with the same epochs, batches,
optimizer and schedule, as in Lightning's documentation: a ``Dataset`` of images with torchvision's transforms, a
``DataLoader``, ``self.log``, Lightning's own logger and checkpoints, all flags at their defaults. The clock starts
with the command and stops when the last metric is written: to MLflow's store here, to Lightning's log there.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _side_by_side import asked, in_turn, keep, ratio, told, where

GOAL = "2.3 or more"
ORDINARY = Path(__file__).parent / "_ordinary_study.py"


def run(line: list[str], folder: str, written: str) -> float:
    """Seconds from a command's start to the last write to the files of that pattern."""
    began = time.time()
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return max(file.stat().st_mtime for file in Path(folder).glob(written)) - began


def main() -> None:
    """Both in turn."""
    options = asked(__doc__, repeats=5, quick=1)
    seeds = 2 if options.quick else 5  # the protocol's own
    found = measure(options, seeds)
    values = ratio(found["ordinary Lightning"], found["ablate run"])
    for name, seconds in found.items():
        print(f"{name:<20} {', '.join(f'{each:.0f}' for each in seconds)} s for {4 * seeds} trials")
    print(told("ordinary Lightning / ablate run", values, GOAL))
    keep("study", {"where": where(), "trials": 4 * seeds, "seconds": found, "ratio": values}, options)


def measure(options: argparse.Namespace, seeds: int) -> dict[str, list[float]]:
    """Seconds of each, every time in a fresh folder."""
    bare = [sys.executable, "-W", "ignore"]

    def ours() -> float:
        with tempfile.TemporaryDirectory() as folder:
            line = [*bare, "-m", "studies.cli", "run", "depth", "--seeds", str(seeds), "--runs", folder]
            return run(line, folder, "mlflow.db*")

    def theirs() -> float:
        with tempfile.TemporaryDirectory() as folder:
            return run([*bare, str(ORDINARY), str(seeds), folder], folder, "*/*logs/version_*/*")

    return in_turn({"ablate run": ours, "ordinary Lightning": theirs}, options.repeats)


if __name__ == "__main__":
    main()
