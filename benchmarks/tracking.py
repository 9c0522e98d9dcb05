"""Claim: logging every epoch makes a study at most 1 % longer.

Cost: six minutes on two cores. Command: ``python benchmarks/tracking.py [--quick] [--write]``.

The same eight trials of `depth` on digits run with all that is logged during training (all curves, every epoch, in
MLflow on SQLite), and with only what is logged when a trial ends. The time is measured in the driver's own process,
within one Ray, from the start of the first trial to the end of the last. The record is the same, except for the
curves.

Two equal runs differ by five percent and more, by other load on the machine's host. So the claim is judged by the
processor time that logging takes from the trials, which keep every core busy: the driver's with logging, less that
without it, as a share of all cores' time. The ratio of the two durations is printed beside it.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from _side_by_side import asked, in_turn, keep, ratio, told, where

import studies
from studies.execution.cluster.ray_cluster import ray_session
from studies.execution.processes.fork_server import prestart_fork_server
from studies.hardware import count_cores
from studies.tracking.writer import StudyWriter

GOAL = "1.01 or less"
SETTINGS = {"recipe.epochs": 30}


def once(seeds: int, logged: Callable[[], contextlib.AbstractContextManager[object]], taken: list[float]) -> float:
    """Seconds from the first trial's begin to the last one's end; the driver's processor time is added to ``taken``."""
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder, logged():
        studies.run("depth", seeds=seeds, overrides=SETTINGS, runs=folder, quiet=True)
        taken.append(time.process_time() - began)
        trials = list((Path(folder) / "trials").iterdir())
        begun = [json.loads((each / "attempts.jsonl").read_text().splitlines()[0])["time"] for each in trials]
        return max((each / "result.json").stat().st_mtime for each in trials) - float(min(begun))


def main() -> None:
    """Both in turn."""
    options = asked(__doc__, repeats=5, quick=2)
    seeds = 1 if options.quick else 2

    def not_logged() -> contextlib.AbstractContextManager[object]:
        stack = contextlib.ExitStack()
        for name in ("log_epochs", "log_curves"):
            stack.enter_context(mock.patch.object(StudyWriter, name, return_value=None))
        return stack

    processor: dict[str, list[float]] = {"logged": [], "not": []}
    with ray_session(), prestart_fork_server():
        once(1, contextlib.nullcontext, [])  # the first study of a process starts more slowly
        arms = {
            "logged": lambda: once(seeds, contextlib.nullcontext, processor["logged"]),
            "not": lambda: once(seeds, not_logged, processor["not"]),
        }
        seconds = in_turn(arms, options.repeats)
    whole = [count_cores() * each for each in seconds["not"]]
    taken = [logged - without for logged, without in zip(processor["logged"], processor["not"], strict=True)]
    found = ratio([each + more for each, more in zip(whole, taken, strict=True)], whole)
    print(told("all cores' time, every epoch logged / not", found, GOAL))
    print(told("duration, every epoch logged / not", durations := ratio(seconds["logged"], seconds["not"])))
    keep(
        "tracking",
        {
            "where": where(),
            "trials": 4 * seeds,
            "seconds": seconds,
            "driver_seconds": processor,
            "ratio": found,
            "ratio_of_durations": durations,
        },
        options,
    )


if __name__ == "__main__":
    main()
