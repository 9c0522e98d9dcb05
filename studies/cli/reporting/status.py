"""The command that shows studies as they are recorded: status."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

import ablations
from studies import protocols
from studies.cli.common.completers import complete_protocol, complete_study
from studies.cli.common.options import format_examples, json_option, settings_options
from studies.cli.reporting import reports
from studies.settings import SettingsError

if TYPE_CHECKING:
    from studies.settings import Settings


@click.command(epilog=format_examples("ablate status", "ablate status depth --watch", "ablate status depth --record"))
@click.argument("name", required=False, shell_complete=complete_study)
@click.option(
    "--protocol",
    metavar="NAME",
    shell_complete=complete_protocol,
    help="Protocol: the conditions that all arms share.  [default: the latest run's]",
)
@settings_options(storage=True)
@click.option("--watch", is_flag=True, help="Refresh until the study ends, or Ctrl-C; with --json, wait for it.")
@click.option("--record", is_flag=True, help="Read the tracking store instead of the runs folder.")
@json_option
def status(
    name: str | None, protocol: str | None, settings: Settings, watch: bool, record: bool, as_json: bool
) -> None:
    """Show the progress of study NAME, or of all studies.

    Works from any terminal and any machine that sees the runs folder. A study that the folder does not hold is read
    from the tracking store.
    """
    from studies.console import status_output

    if settings.object_store_uri and not record:
        # The runs folder of this machine holds only what this machine works on.
        _fetch_manifests(settings)
    if name is None:
        status_output.print_studies(settings, as_json=as_json)
        return
    if not record and not name.endswith(".zip"):
        study = ablations.ablation_name(name)
        is_found = status_output.follow_study(settings, study, protocol, watch=watch, as_json=as_json)
        if is_found:
            return
    study_record = reports.read_study(name, protocol or protocols.DEFAULT_PROTOCOL, settings)
    status_output.print_recorded_status(study_record, as_json=as_json)


def _fetch_manifests(settings: Settings) -> None:
    """Fetch manifests and results from the object store; if that fails, the local copies are shown."""
    from studies.storage.manifest import fetch_all

    try:
        fetch_all(settings)
    except SettingsError as error:
        click.echo(f"{error} Showing the local copies:", err=True)


COMMANDS = (status,)
