"""Measure the latency of arms in several fresh processes, one after the other."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from lightning_modules.specs.errors import UserError
from lightning_modules.specs.serialization import to_json
from lightning_modules.specs.setup import Setup
from studies.hardware import count_cores, device_name
from studies.latency.measurement import ArmLatency, LatencyMeasurement
from studies.scratch import temporary_folder

DEFAULT_NUM_PROCESSES, DEFAULT_SECONDS = 5, 1.0
NUM_ROUNDS = 5  # of every process; in each, every arm has one turn


@dataclass(frozen=True, kw_only=True)
class LatencyPlan:
    """What is to be measured.

    Attributes:
        setups: of the arms.
        batch_sizes: images per call.
        threads: of PyTorch's CPU kernels.
        num_processes: fresh processes; each times every arm.
        seconds: timed calls of an arm at a batch size in one process; a slow network takes longer, for 100 calls.
        skipped: arms that are not measured, with the reason.
    """

    setups: Mapping[str, Setup]
    batch_sizes: tuple[int, ...]
    device: str
    threads: int
    num_processes: int = DEFAULT_NUM_PROCESSES
    seconds: float = DEFAULT_SECONDS
    skipped: Mapping[str, str] = field(default_factory=dict)


def measure_latency(plan: LatencyPlan, log: Callable[[str], None]) -> LatencyMeasurement:
    """Measure every arm of a plan.

    Raises:
        UserError: if a process fails, with its last line.
    """
    load_average = _load_average()
    results = []
    for number in range(plan.num_processes):
        log(f"process {number + 1} of {plan.num_processes}")
        results.append(_run_process(plan, number))
    arms = []
    for networks in zip(*(result["networks"] for result in results), strict=True):
        arms.append(
            ArmLatency(
                arm=networks[0]["arm"],
                batch_size=networks[0]["batch_size"],
                p50=tuple(network["p50"] for network in networks),
                p95=tuple(network["p95"] for network in networks),
                p99=tuple(network["p99"] for network in networks),
                calls=tuple(network["calls"] for network in networks),
            )
        )
    return LatencyMeasurement(
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        device=plan.device,
        device_name=device_name(plan.device),
        threads=plan.threads,
        cores=count_cores(),
        image_shape=next(iter(plan.setups.values())).scale.image_shape,
        versions=_versions(plan.device),
        load_average=load_average,
        other_cores=tuple(result["other_cores"] for result in results if result["other_cores"] is not None),
        arms=tuple(arms),
        skipped=plan.skipped,
    )


def _run_process(plan: LatencyPlan, number: int) -> dict[str, Any]:
    job = {
        "arms": {arm: to_json(setup) for arm, setup in plan.setups.items()},
        "batch_sizes": plan.batch_sizes,
        "device": plan.device,
        "threads": plan.threads,
        "seconds": plan.seconds,
        "rounds": NUM_ROUNDS,
        "number": number,
    }
    # A user's network is found where this process finds it.
    search_path = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    environment = {**os.environ, "PYTHONPATH": search_path, "OMP_NUM_THREADS": str(plan.threads)}
    with temporary_folder() as folder:
        job_file, result_file = folder / "job.json", folder / "result.json"
        job_file.write_text(json.dumps(job), encoding="utf-8")
        command = [sys.executable, "-m", "studies.latency.timing", str(job_file), str(result_file)]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if ended.returncode or not result_file.exists():
            lines = ended.stderr.strip().splitlines() or [f"it ended with code {ended.returncode}"]
            raise UserError(f"Latency cannot be measured: {lines[-1]}")
        result: dict[str, Any] = json.loads(result_file.read_text(encoding="utf-8"))
        return result


def _load_average() -> float | None:
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def _versions(device: str) -> dict[str, str]:
    versions = {"python": platform.python_version(), "torch": metadata.version("torch")}
    if device == "cuda":
        import torch

        versions["cuda"] = str(torch.version.cuda)
    return versions
