"""Commands about single trials of a study: cancel, retry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

import ablations
from studies.cli.common.completers import complete_study
from studies.cli.common.number_ranges import IntegerRange
from studies.cli.common.options import format_examples, json_option, settings_options
from studies.console.tables import print_json

if TYPE_CHECKING:
    from studies.settings import Settings

protocol_of_latest_option = click.option(
    "--protocol", metavar="NAME", help="Protocol: the conditions that all arms share.  [default: the latest run's]"
)


@click.command(
    epilog=format_examples("ablate cancel depth E 3", "ablate cancel depth E 3 --reason 'the loss explodes'")
)
@click.argument("name", shell_complete=complete_study)
@click.argument("arm")
@click.argument("seed", type=IntegerRange(min=0))
@protocol_of_latest_option
@click.option("--reason", metavar="TEXT", default="", help="Why, in the record and the report.")
@settings_options(storage=True)
@json_option
def cancel(
    name: str, arm: str, seed: int, protocol: str | None, reason: str, settings: Settings, as_json: bool
) -> None:
    """Cancel the trial of ARM under SEED, in a study that runs or has ended.

    A running one is stopped, and keeps its checkpoint. The trial stays in the record as cancelled, with the reason,
    and later starts leave it out; the report pairs its arm without that seed. Trials that need its weights are
    cancelled with it. A trial that has a result cannot be cancelled.

    Choose by what a trial costs, not by its errors: a seed left out because of its result biases the comparison.

    ARM is as `ablate status` shows it.
    """
    from studies.maintenance.cancellation import cancel_trial

    study = ablations.ablation_name(name)
    outcome = cancel_trial(settings, study, protocol, arm, seed, " ".join(reason.split()))
    _print_outcome("cancel", study, arm, seed, outcome, as_json=as_json)


@click.command(epilog=format_examples("ablate retry depth E 3"))
@click.argument("name", shell_complete=complete_study)
@click.argument("arm")
@click.argument("seed", type=IntegerRange(min=0))
@protocol_of_latest_option
@settings_options(storage=True)
@json_option
def retry(name: str, arm: str, seed: int, protocol: str | None, settings: Settings, as_json: bool) -> None:
    """Train the cancelled or failed trial of ARM under SEED again.

    In a study that runs it is queued again at once; otherwise the next `ablate run` trains it. A cancelled trial
    resumes from its checkpoint.

    ARM is as `ablate status` shows it.
    """
    from studies.maintenance.cancellation import retry_trial

    study = ablations.ablation_name(name)
    outcome = retry_trial(settings, study, protocol, arm, seed)
    _print_outcome("retry", study, arm, seed, outcome, as_json=as_json)


def _print_outcome(kind: str, study: str, arm: str, seed: int, outcome: str, *, as_json: bool) -> None:
    from studies.records.schema import PRINTED_SCHEMA  # loads NumPy, which completion does without

    if as_json:
        trial = {"study": study, "arm": arm, "seed": seed}
        print_json({"schema": PRINTED_SCHEMA, "kind": kind, **trial, "outcome": outcome})
    else:
        click.echo(outcome)


COMMANDS = (cancel, retry)
