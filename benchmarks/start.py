"""How long the command line takes to answer, beside the bare interpreter.

Claim: `ablate --help` and `ablate list` answer within half a second, `ablate status` of 1,000 trials within one.
Cost: twenty seconds on one core.
Command: `.venv/bin/python benchmarks/start.py`
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from studies import board
from studies.results import failed
from studies.settings import Settings
from studies.spool import Spool

TRIALS = 1000
REPEATS = 7
COMMANDS = {
    "bare interpreter": [sys.executable, "-c", "pass"],
    "ablate --help": [str(Path(sys.executable).with_name("ablate")), "--help"],
    "ablate list": [str(Path(sys.executable).with_name("ablate")), "list"],
    "ablate list --json": [str(Path(sys.executable).with_name("ablate")), "list", "--json"],
}


def main() -> None:
    """Run all commands in turn, several times, and print medians with their ranges."""
    with tempfile.TemporaryDirectory() as runs:
        make_study(Settings.of(runs))
        status = [*COMMANDS["ablate list"][:1], "status", "many", "--runs", runs]
        report(measure(COMMANDS | {f"status, {TRIALS} trials": status}))


def make_study(settings: Settings) -> None:
    """A study of which half of the trials have ended, as far as its status is concerned."""
    rows = [
        board.Row(arm="ABCDEFGHIJ"[number % 10], seed=number // 10, epochs=50, folder=f"{number:04d}")
        for number in range(TRIALS)
    ]
    board.write(settings.studies / "many-0", "many", "digits", [(row, "train") for row in rows], settings.trials)
    for row in rows[: TRIALS // 2]:
        Spool(settings.trials / row.folder).write(failed(row.folder, {}, "made up"))
        board.note_progress(settings.trials / row.folder, {"epoch": 50, "node": "here", "attempts": 1})


def measure(commands: dict[str, list[str]]) -> dict[str, list[float]]:
    """Seconds of every command, in turn."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(REPEATS):
        for name, command in commands.items():
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            times[name].append(time.perf_counter() - began)
    return times


def report(times: dict[str, list[float]]) -> None:
    """Print them."""
    bare = statistics.median(times["bare interpreter"])
    for name, values in times.items():
        middle = statistics.median(values)
        print(f"{name:<20} {middle:6.3f} s  [{min(values):.3f}, {max(values):.3f}]  {middle / bare:5.1f} x")


if __name__ == "__main__":
    main()
