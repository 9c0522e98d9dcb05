"""Run a command in a session of its own, which goes on when the terminal that started it is closed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from studies.settings import Settings
from studies.storage.study_status import find_status

PLANNING_SECONDS = 60.0  # imports and planning take 5 on two cores; reading a large data set may take minutes
POLL_SECONDS = 0.2
MAX_TAIL_BYTES = 2000


def start_detached(arguments: Sequence[str], log_file: Path) -> subprocess.Popen[bytes]:
    """Start `ablate` with these arguments, all of its output in a file."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("xb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "studies.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )


def wait_until_planned(
    process: subprocess.Popen[bytes], settings: Settings, study: str, protocol: str, started_at: float
) -> None:
    """Wait until `ablate status` shows the study that a process runs, the process ends, or a minute has passed.

    Args:
        started_at: seconds since 1970; a status from before is that of an earlier start.
    """
    deadline = time.monotonic() + PLANNING_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        status = find_status(settings, study, protocol)
        if status and status.state == "running" and status.planned_at >= started_at:
            return
        time.sleep(POLL_SECONDS)


def read_tail(log_file: Path) -> str:
    """The last lines of a log."""
    content = log_file.read_bytes()[-MAX_TAIL_BYTES:]
    return content.decode(errors="replace").strip()
