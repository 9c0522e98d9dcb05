"""Run a command of the user's when a study has ended (`--notify`), with the verdict as JSON on its standard input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from studies.design.study import Study
    from studies.records.study_record import StudyRecord
    from studies.settings import Settings

Event = Literal["done", "failed", "resolved early", "stopped at its budget"]
NOTIFICATION_SECONDS = 60.0  # then the command is killed: the study has ended, and its terminal waits

notify_option = click.option(
    "--notify",
    metavar="COMMAND",
    help="Command of the shell to run when the study is done, failed, resolved early or stopped at its budget; the "
    "verdict is JSON on its standard input.",
)


@contextmanager
def notify_of_failure(command: str | None, study: Study) -> Iterator[None]:
    """Run the command where the study ends with an error, which is raised again."""
    try:
        yield
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        send_notification(command, {**_describe(study, "failed"), "error": lines[0]})
        raise


def notify_of_end(
    command: str | None, study: Study, settings: Settings, record: StudyRecord, errors: list[dict[str, Any]]
) -> None:
    """Run the command with the verdict of a study that has ended.

    Args:
        errors: arm, seed and error of each failed trial.
    """
    if not command:
        return
    content = _describe(study, _find_event(study, record, bool(errors))) | {
        "run_id": record.run_id,
        "trials": len(record.trials),
        "failed": errors,
        "stopped": record.stop_reason or None,
    }
    try:
        content["verdict"] = _describe_verdict(record, settings)
    except Exception as error:  # a study that has ended must not fail because nobody can be told its verdict
        content["error"] = f"the verdict could not be made: {error}"
    send_notification(command, content)


def send_notification(command: str | None, content: dict[str, Any]) -> None:
    """Run a shell command with JSON on its standard input; whatever goes wrong is one line on standard error."""
    if not command:
        return
    text = json.dumps(content, ensure_ascii=False) + "\n"
    try:
        # Its output goes to standard error: standard output holds only what this command returns.
        process = subprocess.Popen(
            command, shell=True, stdin=subprocess.PIPE, stdout=sys.stderr.fileno(), start_new_session=True
        )
    except OSError as error:
        click.echo(f"the command of --notify could not be started: {error}", err=True)
        return
    try:
        process.communicate(text.encode(), timeout=NOTIFICATION_SECONDS)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the shell, and what it has started
        process.wait()
        click.echo(f"the command of --notify was killed: it ran for {NOTIFICATION_SECONDS:g} s", err=True)
        return
    if process.returncode:
        click.echo(f"the command of --notify failed with exit code {process.returncode}", err=True)


def _describe(study: Study, event: Event) -> dict[str, Any]:
    from studies.records.schema import PRINTED_SCHEMA  # loads NumPy, which completion does without

    return {
        "schema": PRINTED_SCHEMA,
        "kind": "notification",
        "event": event,
        "study": study.name,
        "protocol": study.protocol.name,
    }


def _find_event(study: Study, record: StudyRecord, has_failed: bool) -> Event:
    if has_failed:
        return "failed"
    if record.stop_reason:
        return "stopped at its budget"
    is_early = len(study.seed_stages) > 1 and not {*study.seed_stages[-1]} <= {*record.registration.seeds}
    return "resolved early" if is_early else "done"


def _describe_verdict(record: StudyRecord, settings: Settings) -> dict[str, Any]:
    from reports.pages.gate_outcome import gate_comparison
    from reports.pages.verdict_json import describe_gate
    from studies.cli.reporting.reports import compare_study

    study = record.registration.study
    return describe_gate(gate_comparison(record, compare_study(study, record, settings)), study)
