"""Shared parts of the benchmarks: options, runs in turn, ratios within each repeat, a description of the machine."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
VERSIONS = ("torch", "torchvision", "pytorch-lightning", "ray", "mlflow", "numpy")


def asked(doc: str, *, repeats: int = 5, quick: int = 3, parts: Sequence[str] = ()) -> argparse.Namespace:
    """Parse the options that every benchmark takes; ``--smallest`` is for tests, to show that the benchmark runs.

    Args:
        parts: names for ``--parts``, of a benchmark that can be run in part; all of them by default.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a shorter form, for a look")
    parser.add_argument("--smallest", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=int, help=f"{repeats}; with --quick {quick}")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--write", action="store_true", help="keep the numbers under benchmarks/results")
    if parts:
        parser.add_argument("--parts", default=",".join(parts), help="which parts, with commas between them")
    options = parser.parse_args()
    if parts:
        options.parts = tuple(options.parts.split(","))
        unknown = sorted(set(options.parts) - set(parts))
        if unknown:
            parser.error(f"--parts names {', '.join(unknown)}; there are {', '.join(parts)}")
    options.quick = options.quick or options.smallest
    options.repeats = options.repeats or (1 if options.smallest else quick if options.quick else repeats)
    return options


def in_turn(arms: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """What every arm gives (seconds, or a rate), one arm after the other, again and again: drift meets all alike.

    The order turns round at every second repeat.
    """
    found: dict[str, list[float]] = {name: [] for name in arms}
    for repeat in range(repeats):
        for name in list(arms)[:: -1 if repeat % 2 else 1]:
            found[name].append(arms[name]())
    return found


def timed(work: Callable[[], object]) -> float:
    """Seconds that something takes, on the device as well."""
    began = time.perf_counter()
    work()
    _wait_for_the_device()
    return time.perf_counter() - began


def _wait_for_the_device() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ratio(above: Sequence[float], below: Sequence[float]) -> dict[str, float]:
    """The median of the ratios, repeat by repeat, with the smallest and the largest."""
    ratios = [first / second for first, second in zip(above, below, strict=True)]
    return {
        "median": round(statistics.median(ratios), 4),
        "least": round(min(ratios), 4),
        "most": round(max(ratios), 4),
    }


def told(name: str, values: Mapping[str, float], goal: str = "") -> str:
    """A ratio in a line."""
    line = f"{name:<44} {values['median']:7.3f}  [{values['least']:.3f}, {values['most']:.3f}]"
    return f"{line}  goal {goal}" if goal else line


def peak_mebibytes() -> float:
    """The most memory that this process held so far; ``ru_maxrss`` would begin with what its parent held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def where() -> dict[str, Any]:
    """Hardware and versions, as far as they are installed."""
    versions = {name: _version(name) for name in VERSIONS}
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": _gpu(),
        "load_before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "versions": {name: version for name, version in versions.items() if version},
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""


def keep(name: str, found: Mapping[str, Any], options: argparse.Namespace) -> None:
    """Write what was found, where that was asked; of a GPU apart from a CPU."""
    if options.write:
        file = RESULTS / f"{name}{'' if options.device == 'cpu' else '_' + options.device}.json"
        file.write_text(json.dumps(found, indent=1) + "\n")
