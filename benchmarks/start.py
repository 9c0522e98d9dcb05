"""How long the command line takes to answer, beside the bare interpreter.

Claim: `ablate --help` and `ablate list` answer within half a second.
Cost: ten seconds on one core.
Command: `.venv/bin/python benchmarks/start.py`
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

REPEATS = 7
COMMANDS = {
    "bare interpreter": [sys.executable, "-c", "pass"],
    "ablate --help": [str(Path(sys.executable).with_name("ablate")), "--help"],
    "ablate list": [str(Path(sys.executable).with_name("ablate")), "list"],
    "ablate list --json": [str(Path(sys.executable).with_name("ablate")), "list", "--json"],
}


def main() -> None:
    """Run all commands in turn, several times, and print medians with their ranges."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(REPEATS):
        for name, command in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            times[name].append(time.perf_counter() - began)
    bare = statistics.median(times["bare interpreter"])
    for name, values in times.items():
        middle = statistics.median(values)
        print(f"{name:<20} {middle:6.3f} s  [{min(values):.3f}, {max(values):.3f}]  {middle / bare:5.1f} x")


if __name__ == "__main__":
    main()
