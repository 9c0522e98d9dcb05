"""Run a study in the background (`ablate run --detach`)."""

from __future__ import annotations

import os
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING

import click

from studies.console.tables import print_result
from studies.execution.detached import read_tail, start_detached, wait_until_planned

if TYPE_CHECKING:
    from studies.design.study import Study
    from studies.settings import Settings


def detach_run(study: Study, settings: Settings, *, as_json: bool) -> None:
    """Start this command again without ``--detach``, in a session of its own."""
    started_at = time.time()
    name = f"{study.name}-{study.protocol.name}-{datetime.now():%Y%m%dT%H%M%S}-{os.getpid()}.log"
    log_file = settings.runs_folder.absolute() / "logs" / name
    process = start_detached([argument for argument in sys.argv[1:] if argument != "--detach"], log_file)
    wait_until_planned(process, settings, study.name, study.protocol.name, started_at)
    if process.returncode:
        click.echo(f"{read_tail(log_file)}\nError: the study did not start; its output is in {log_file}", err=True)
        sys.exit(process.returncode)
    status_command = f"ablate status {study.name} --protocol {study.protocol.name}{settings.command_options}"
    if as_json:
        start = {
            "study": study.name,
            "protocol": study.protocol.name,
            "process": process.pid,
            "log": str(log_file),
            "status": f"{status_command} --json",
        }
        print_result("start", start, indent=None)
        return
    state = "has ended" if process.returncode == 0 else f"runs as process {process.pid}"
    click.echo(f"{study.name} under {study.protocol.name} {state}; log: {log_file}; progress: {status_command} --watch")
