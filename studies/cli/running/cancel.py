"""Commands about single trials of a study: cancel, retry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

import ablations
from studies.cli.common.completers import complete_study
from studies.cli.common.options import format_examples, settings_options

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
@click.argument("seed", type=click.IntRange(min=0))
@protocol_of_latest_option
@click.option("--reason", metavar="TEXT", default="", help="Why, in the record and the report.")
@settings_options(storage=True)
def cancel(name: str, arm: str, seed: int, protocol: str | None, reason: str, settings: Settings) -> None:
    """Cancel the trial of ARM under SEED, in a study that runs or has ended.

    A running one is stopped, and keeps its checkpoint. The trial stays in the record as cancelled, with the reason,
    and later starts leave it out; the report pairs its arm without that seed. Trials that need its weights are
    cancelled with it. A trial that has a result cannot be cancelled.

    Choose by what a trial costs, not by its errors: a seed left out because of its result biases the comparison.

    ARM is as `ablate status` shows it.
    """
    from studies.maintenance.cancellation import cancel_trial

    click.echo(cancel_trial(settings, ablations.ablation_name(name), protocol, arm, seed, " ".join(reason.split())))


@click.command(epilog=format_examples("ablate retry depth E 3"))
@click.argument("name", shell_complete=complete_study)
@click.argument("arm")
@click.argument("seed", type=click.IntRange(min=0))
@protocol_of_latest_option
@settings_options(storage=True)
def retry(name: str, arm: str, seed: int, protocol: str | None, settings: Settings) -> None:
    """Train the cancelled or failed trial of ARM under SEED again.

    In a study that runs it is queued again at once; otherwise the next `ablate run` trains it. A cancelled trial
    resumes from its checkpoint.

    ARM is as `ablate status` shows it.
    """
    from studies.maintenance.cancellation import retry_trial

    click.echo(retry_trial(settings, ablations.ablation_name(name), protocol, arm, seed))


COMMANDS = (cancel, retry)
