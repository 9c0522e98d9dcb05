"""Time the networks of several arms in this process: ``python -m studies.latency.timing JOB RESULT``.

Arms take turns in rounds of random order, so that a drift of the machine (clock rate, temperature) hits all alike. The
first calls of a turn are not timed: the caches hold another arm's weights then. The garbage collector is off.

Source: Georges, Buytaert & Eeckhout 2007; Kalibera & Jones 2013 (fresh processes as replicates).
"""

from __future__ import annotations

import gc
import json
import math
import os
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightning_modules.evaluation.inference import Scorer
from lightning_modules.networks.build import build_network
from lightning_modules.networks.memory_layout import find_layout, random_images, set_layout
from lightning_modules.specs.errors import UserError
from lightning_modules.specs.networks import Custom
from lightning_modules.specs.serialization import from_json
from lightning_modules.specs.setup import SPEC_KINDS, Setup
from studies.gc_pause import pause_gc

MIN_CALLS_PER_TURN, MAX_CALLS_PER_TURN = 20, 5000
NUM_UNTIMED_CALLS = 2  # at the start of every turn
WARM_UP_SECONDS, MIN_WARM_UP_CALLS = 0.3, 3  # of every network; clock rates settle within it


@dataclass(kw_only=True)
class TimedNetwork:
    """A network at one batch size, and the durations of its calls, seconds."""

    arm: str
    batch_size: int
    call: Callable[[], object]
    calls_per_turn: int = MIN_CALLS_PER_TURN
    durations: list[float] = field(default_factory=list)

    def warm_up(self, seconds_per_turn: float) -> None:
        """Call until the clock rate and the allocator have settled; set the number of calls of a turn."""
        durations: list[float] = []
        while sum(durations) < WARM_UP_SECONDS or len(durations) < MIN_WARM_UP_CALLS:
            durations.append(self._time_call())
        fitting = math.ceil(seconds_per_turn / float(np.median(durations)))
        self.calls_per_turn = min(max(fitting, MIN_CALLS_PER_TURN), MAX_CALLS_PER_TURN)

    def take_turn(self) -> None:
        """Time the calls of one turn."""
        for _ in range(NUM_UNTIMED_CALLS):
            self.call()
        for _ in range(self.calls_per_turn):
            self.durations.append(self._time_call())

    def _time_call(self) -> float:
        started_at = time.perf_counter()
        self.call()
        return time.perf_counter() - started_at

    def as_data(self) -> dict[str, Any]:
        """The percentiles, seconds."""
        p50, p95, p99 = np.percentile(self.durations, (50, 95, 99)).tolist()
        return {
            "arm": self.arm,
            "batch_size": self.batch_size,
            "p50": p50,
            "p95": p95,
            "p99": p99,
            "calls": len(self.durations),
        }


def time_networks(job: Mapping[str, Any]) -> dict[str, Any]:
    """Time every arm of a job at every batch size; see :class:`studies.latency.processes.LatencyPlan`.

    Raises:
        UserError: for a custom network that cannot be built.
    """
    torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    device = torch.device(job["device"])
    timed: list[TimedNetwork] = []
    for arm, setup_data in job["arms"].items():
        timed += _prepare_arm(arm, from_json(setup_data, SPEC_KINDS), job["batch_sizes"], device)
    rng = random.Random(job["number"])
    gc.collect()
    with pause_gc(), torch.inference_mode():
        for network in timed:
            network.warm_up(job["seconds"] / job["rounds"])
        machine_before, own_before, started_at = _busy_seconds(), _own_seconds(), time.perf_counter()
        for _ in range(job["rounds"]):
            for network in rng.sample(timed, len(timed)):
                network.take_turn()
        wall_seconds = time.perf_counter() - started_at
        machine_after, own_after = _busy_seconds(), _own_seconds()
    other_cores = None
    if machine_before is not None and machine_after is not None:
        other_cores = max(0.0, machine_after - machine_before - (own_after - own_before)) / wall_seconds
    return {"networks": [network.as_data() for network in timed], "other_cores": other_cores}


def _prepare_arm(arm: str, setup: Setup, batch_sizes: Sequence[int], device: torch.device) -> list[TimedNetwork]:
    """Build an arm's network as evaluations do, with initial weights: the time of a call does not depend on them."""
    network = build_network(setup.network, setup.scale)
    layout = find_layout(network, setup.scale.image_shape) if isinstance(setup.network, Custom) else "channels-last"
    scorer = Scorer(set_layout(network.to(device), layout), setup.network, setup.recipe).eval()
    timed = []
    for batch_size in batch_sizes:
        images = random_images(batch_size, setup.scale.image_shape).to(device)
        timed.append(TimedNetwork(arm=arm, batch_size=batch_size, call=_make_call(scorer, images)))
    return timed


def _make_call(scorer: Scorer, images: torch.Tensor) -> Callable[[], object]:
    if images.device.type != "cuda":
        return partial(scorer, images)

    def call() -> None:
        scorer(images)
        torch.cuda.synchronize()  # a GPU works on when a call returns

    return call


def _busy_seconds() -> float | None:
    """CPU seconds of all processes on the machine since it started; ``None`` where the kernel does not tell."""
    try:
        user, nice, system, _, _, irq, softirq, steal = map(
            int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
        )
    except (OSError, ValueError, IndexError):
        return None
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system


def run_job() -> None:
    """Run one job of the command line."""
    job_file, result_file = map(Path, sys.argv[1:3])
    try:
        result = time_networks(json.loads(job_file.read_text(encoding="utf-8")))
    except UserError as error:
        sys.exit(str(error))
    result_file.write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    run_job()
