"""Claim: `ablate run` with nothing to do takes 5 seconds or less in a store of 10,000 runs of other studies.

Cost: two minutes on two cores and 0.3 GB of disk. Command: ``python benchmarks/large_store.py [--quick] [--write]``.

One study is trained in each of two runs folders. The SQLite store of the second is then filled with copies of its runs
as studies of their own. Then the same command runs in both folders, in turn. ``ratio``: seconds in the full store over
seconds in the empty one. Memory is the peak of the command's own process.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from _filled_store import fill_store
from _side_by_side import asked, in_turn, keep, ratio, told, where

RUNS, SMALLEST = 10_000, 200
GOAL = "5 s or less"
STUDY = ["dropout", "--seeds", "2", "--set", "recipe.epochs=1"]


def ablate_run(runs_folder: Path) -> list[str]:
    """The command, as a user gives it."""
    return [sys.executable, "-m", "studies.cli", "run", *STUDY, "--runs", str(runs_folder)]


def measure(runs_folder: Path) -> tuple[float, float]:
    """Seconds and peak mebibytes of a start that has nothing to do."""
    began = time.perf_counter()
    process = subprocess.Popen(ablate_run(runs_folder), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, code, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = code
    assert code == 0, output
    assert "nothing to train" in output, output
    return seconds, usage.ru_maxrss / 1024


def main() -> None:
    """Train, fill, and run again in both folders."""
    options = asked(__doc__)
    num_runs = SMALLEST if options.smallest else RUNS
    mebibytes: dict[str, list[float]] = {"empty store": [], "full store": []}
    with tempfile.TemporaryDirectory() as name:
        folders = {"empty store": Path(name) / "empty", "full store": Path(name) / "full"}
        for folder in folders.values():
            subprocess.run(ablate_run(folder), check=True, capture_output=True)
        began = time.perf_counter()
        fill_store(folders["full store"] / "mlflow.db", num_runs)
        print(f"filled with {num_runs:,} runs in {time.perf_counter() - began:.0f} s", flush=True)

        def seconds_in(store: str) -> float:
            seconds, peak = measure(folders[store])
            mebibytes[store].append(peak)
            return seconds

        seconds = in_turn({store: partial(seconds_in, store) for store in folders}, options.repeats)
    for store, values in seconds.items():
        print(f"{store}: {statistics.median(values):.2f} s [{min(values):.2f}, {max(values):.2f}], "
              f"{statistics.median(mebibytes[store]):,.0f} MiB   goal {GOAL}")  # fmt: skip
    growth = ratio(seconds["full store"], seconds["empty store"])
    print(told("full store / empty store", growth))
    kept = {"where": where(), "runs": num_runs, "seconds": seconds, "mebibytes": mebibytes, "ratio": growth}
    keep("large_store", kept, options)


if __name__ == "__main__":
    main()
