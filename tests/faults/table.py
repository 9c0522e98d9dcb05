"""Outcomes of many rounds as a table: printed, and kept under benchmarks/results."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from studies.hardware import device_name, memory_gib
from studies.runner.provenance import git_revision
from tests.faults.judging import Outcome

RESULTS = Path(__file__).parent.parent.parent / "benchmarks" / "results"
VERSIONS = ("torch", "pytorch-lightning", "ray", "mlflow", "numpy")
HEADER = (
    "fault",
    "rounds",
    "in training",
    "trials",
    "lost",
    "duplicated",
    "bitwise equal",
    "resumed of interrupted",
    "all well",
)


NOTE = """\
*In training*: the fault fell while trials trained; else as the study started, or was over. *Trials*: that the studies
of all rounds had. *Lost*, *duplicated*: missing, or there more than once, in the folder of trials or in the store,
after `ablate run` again. *Bitwise equal*: weights, metrics, curves, predictions and evidence are those of a trial that
was trained without a fault, without Ray and without MLflow. *Resumed*: had a checkpoint and no result when the fault
struck, and the epochs in it were not trained again. *All well*: all this, and the store holds what the folders hold,
each epoch once; exit codes as documented, no traceback shown, nothing left behind.
"""


def rows(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """One per fault, and one of all."""
    by_fault: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_fault.setdefault(outcome.fault, []).append(outcome)
    return [_row(name, tries) for name, tries in (*by_fault.items(), ("all", outcomes))]


def _row(name: str, tries: Sequence[Outcome]) -> tuple[str, ...]:
    def total(field: str) -> int:
        return sum(getattr(outcome, field) for outcome in tries)

    return (
        name,
        str(len(tries)),
        str(sum(outcome.struck == "training" for outcome in tries)),
        *(str(total(field)) for field in ("trials", "lost", "duplicated", "equal")),
        f"{total('resumed')} of {total('interrupted')}",
        f"{sum(outcome.is_good for outcome in tries)} of {len(tries)}",
    )


def as_markdown(outcomes: Sequence[Outcome], about: dict[str, Any]) -> str:
    """The table with what it was measured on."""
    lines = [HEADER, ("---", *("---:" for _ in HEADER[1:])), *rows(outcomes)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return (
        f"# Faults\n\n`make test-faults ROUNDS={about['rounds']}` at revision {about['revision']}, moments by seed "
        f"{about['seed']}; {about['hardware']}; Python {about['python']}, {versions}.\n\n{table}\n\n"
        f"{NOTE}"
    )


def about(rounds: int, seed: int) -> dict[str, Any]:
    """What a reader must know of where the outcomes come from."""
    revision, clean = git_revision()
    return {
        "revision": revision + ("" if clean else " with changes"),
        "rounds": rounds,
        "seed": seed,
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in VERSIONS},
        "hardware": f"{os.cpu_count()} cores of {device_name('cpu')}, {memory_gib():.0f} GiB memory",
    }


def write(outcomes: Sequence[Outcome], about: dict[str, Any]) -> None:
    """Keep outcomes and table."""
    kept = [{name: value for name, value in asdict(outcome).items() if name != "shown"} for outcome in outcomes]
    data = about | {"outcomes": kept}
    (RESULTS / "faults.json").write_text(json.dumps(data, indent=1) + "\n")
    (RESULTS / "faults.md").write_text(as_markdown(outcomes, about))
