"""The measured latency of a study's arms, its JSON form, and what disturbed it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from lightning_modules.specs.errors import DamagedFileError
from lightning_modules.specs.text import format_count

Percentile = Literal["p50", "p95", "p99"]
PERCENTILES: tuple[Percentile, ...] = get_args(Percentile)
LATENCY_FILE = "latency.json"  # in the study's folder, and an artifact of its run
LATENCY_SCHEMA = 1
MIN_CALLS_OF_P99 = 100  # below, the 99th percentile is about the largest value
CLAIMED_BATCH_SIZE = 1  # of the endpoint ``latency``

# A second measurement should differ by less than 5% in P50 and 20% in P99. Of normal values with standard deviation s,
# the medians of two sets of five differ by less than 1.49 s in 95 of 100 cases, and five values spread by 2.33 s on
# average: beyond such spreads (largest minus smallest over the median) a measurement may not repeat.
REPEATABILITY: Mapping[Percentile, float] = {"p50": 0.05, "p99": 0.20}
SPREAD_PER_DIFFERENCE = 2.33 / 1.49
BUSY_CORES = 0.25  # kept busy by other processes, beyond which they can slow a call on any machine
BUSY_SHARE = 0.10  # the same as a share of all cores


@dataclass(frozen=True, kw_only=True)
class ArmLatency:
    """Latency of one arm's network at one batch size, one value per process.

    Attributes:
        p50, p95, p99: percentiles of the duration of a call, seconds.
        calls: timed calls.
    """

    arm: str
    batch_size: int
    p50: tuple[float, ...]
    p95: tuple[float, ...]
    p99: tuple[float, ...]
    calls: tuple[int, ...]

    def values(self, percentile: Percentile) -> tuple[float, ...]:
        """A percentile in each process, seconds."""
        return {"p50": self.p50, "p95": self.p95, "p99": self.p99}[percentile]

    def median(self, percentile: Percentile) -> float:
        """A percentile's median over the processes, seconds: one disturbed process moves it little."""
        return statistics.median(self.values(percentile))

    def spread(self, percentile: Percentile) -> float:
        """Largest minus smallest value over the processes, relative to the median."""
        values = self.values(percentile)
        return (max(values) - min(values)) / self.median(percentile)


@dataclass(frozen=True, kw_only=True)
class LatencyMeasurement:
    """Latency of a study's arms, all measured on one machine by one command.

    Attributes:
        time: of its end, ISO 8601.
        device: ``cpu`` or ``cuda``.
        device_name: model of the CPU or GPU.
        threads: of PyTorch's CPU kernels.
        cores: CPU cores that the processes could use.
        image_shape: ``(channels, height, width)`` of the images.
        versions: of Python, torch and CUDA.
        load_average: of the machine over the minute before the start; ``None`` where it is unknown.
        other_cores: CPU cores that other processes kept busy during each process; empty where it is unknown.
        skipped: arms without a measurement, with the reason.
    """

    time: str
    device: str
    device_name: str
    threads: int
    cores: int
    image_shape: tuple[int, int, int]
    versions: Mapping[str, str]
    load_average: float | None
    other_cores: tuple[float, ...]
    arms: tuple[ArmLatency, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def num_processes(self) -> int:
        """Fresh processes in which every arm was measured."""
        return len(self.arms[0].p50) if self.arms else 0

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The batch sizes, ascending."""
        return tuple(sorted({arm.batch_size for arm in self.arms}))

    def find(self, arm: str, batch_size: int = CLAIMED_BATCH_SIZE) -> ArmLatency | None:
        """The latency of an arm at a batch size, if it was measured."""
        for latency in self.arms:
            if (latency.arm, latency.batch_size) == (arm, batch_size):
                return latency
        return None

    @property
    def hardware(self) -> str:
        """The machine in words: ``CPU model, 1 thread of 8 cores, torch 2.9.1``."""
        threads, cores = format_count(self.threads, "thread"), format_count(self.cores, "core")
        return f"{self.device_name}, {threads} of {cores}, torch {self.versions.get('torch', 'unknown')}"

    @property
    def disturbances(self) -> tuple[str, ...]:
        """Signs that something else ran on the machine, as sentences; empty for a quiet one."""
        return (*self._busy_signs(), *self._spread_signs())

    def _busy_signs(self) -> Iterable[str]:
        limit = max(BUSY_CORES, BUSY_SHARE * self.cores)
        if self.other_cores:
            busiest = max(self.other_cores)
            if busiest > limit:
                yield f"Other processes kept up to {busiest:.1f} of {self.cores} cores busy meanwhile."
        elif self.load_average is not None and self.load_average > limit:
            yield f"The load average before the start was {self.load_average:.1f} on {self.cores} cores."

    def _spread_signs(self) -> Iterable[str]:
        for percentile, difference in REPEATABILITY.items():
            limit = SPREAD_PER_DIFFERENCE * difference
            worst = max(self.arms, key=lambda arm: arm.spread(percentile), default=None)
            if worst is not None and worst.spread(percentile) > limit:
                yield (
                    f"{percentile.upper()} of {worst.arm} at batch {worst.batch_size} differs by "
                    f"{worst.spread(percentile):.0%} between processes: a second measurement may differ by more than "
                    f"{difference:.0%}."
                )


def measurement_to_json(measurement: LatencyMeasurement) -> dict[str, Any]:
    """Plain JSON data of a measurement."""
    return {"schema": LATENCY_SCHEMA, **asdict(measurement)}


def measurement_from_json(data: Mapping[str, Any]) -> LatencyMeasurement:
    """Invert :func:`measurement_to_json`.

    Raises:
        ValueError: for another schema, or durations that none can be.
    """
    if data.get("schema") != LATENCY_SCHEMA:
        raise ValueError(f"it has schema {data.get('schema')}; expected {LATENCY_SCHEMA}")
    fields = {name: value for name, value in data.items() if name in LatencyMeasurement.__dataclass_fields__}
    arms = []
    for arm in data["arms"]:
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in arm.items()
        }
        latency = ArmLatency(**values)
        _require_durations(latency)
        arms.append(latency)
    if len({len(arm.p50) for arm in arms}) > 1:
        raise ValueError("its arms were measured in different numbers of processes")
    channels, height, width = data["image_shape"]
    fields |= {"arms": tuple(arms), "image_shape": (channels, height, width), "other_cores": tuple(data["other_cores"])}
    return LatencyMeasurement(**fields)


def read_measurement(file: Path) -> LatencyMeasurement:
    """Read a measurement from a study's folder.

    Raises:
        DamagedFileError: where the file cannot be used.
    """
    remedy = "`ablate latency` of this study measures it again."
    from lightning_modules.stored_files import read_json  # loads NumPy, and a shell waits for its completions

    data = read_json(file, {"*": object}, remedy)
    try:
        return measurement_from_json(data)
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedFileError(file, f"{type(error).__name__}: {error}", remedy) from error


def _require_durations(latency: ArmLatency) -> None:
    series: Sequence[tuple[float, ...]] = (latency.p50, latency.p95, latency.p99)
    if len({len(values) for values in (*series, latency.calls)}) != 1 or not latency.p50:
        raise ValueError(f"the values of {latency.arm} do not belong together")
    if not all(math.isfinite(value) and value > 0 for values in series for value in values):
        raise ValueError(f"a duration of {latency.arm} is not above 0")
