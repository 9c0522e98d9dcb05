"""Commands that show studies as they are recorded: status, ui."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

import ablations
from studies import protocols
from studies.cli.common.options import format_examples, json_option, settings_options
from studies.cli.reporting import reports
from studies.settings import SettingsError

if TYPE_CHECKING:
    from studies.settings import Settings


LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")


@click.command(epilog=format_examples("ablate status", "ablate status depth --watch", "ablate status depth --record"))
@click.argument("name", required=False)
@click.option(
    "--protocol", metavar="NAME", help="Protocol: the conditions that all arms share.  [default: the latest run's]"
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
    from studies.console import status as console_status

    if settings.object_store_uri and not record:
        # The runs folder of this machine holds only what this machine works on.
        _fetch_manifests(settings)
    if name is None:
        console_status.print_studies(settings, as_json=as_json)
        return
    if not record and not name.endswith(".zip"):
        study = ablations.ablation_name(name)
        is_found = console_status.follow_study(settings, study, protocol, watch=watch, as_json=as_json)
        if is_found:
            return
    study_record = reports.read_study(name, protocol or protocols.DEFAULT_PROTOCOL, settings)
    console_status.print_recorded_status(study_record, as_json=as_json)


def _fetch_manifests(settings: Settings) -> None:
    """Fetch manifests and results from the object store; if that fails, the local copies are shown."""
    from studies.storage.manifest import fetch_all

    try:
        fetch_all(settings)
    except SettingsError as error:
        click.echo(f"{error} Showing the local copies:", err=True)


@click.command(epilog=format_examples("ablate ui", "ablate ui --runs /shared/runs --port 8080"))
@settings_options()
@click.option(
    "--port", type=click.IntRange(1, 65535), default=5000, show_default=True, metavar="PORT", help="Port to listen on."
)
@click.option("--host", default="127.0.0.1", show_default=True, metavar="HOST", help="Address to listen on.")
def ui(settings: Settings, port: int, host: str) -> None:
    """Open the MLflow UI on the tracking store.

    Ctrl-C stops it.
    """
    if settings.tracking_uri.startswith("http"):
        click.echo(f"The tracking store is a server: open {settings.redacted_tracking_uri} in a browser.")
        return
    settings.require_creatable_folders()
    if settings.database_file and not settings.database_file.exists():
        # MLflow would create an empty one, which later looks like a record that was lost.
        raise SettingsError(f"there is no tracking store {settings.database_file}: nothing has been run there yet.")
    click.echo(f"MLflow UI on http://{host}:{port} (Ctrl-C stops it)")
    if host not in LOOPBACK_HOSTS:
        warning = f"The UI asks for no password: anyone who can reach {host}:{port} can read, change and delete runs."
        click.echo(warning, err=True)
    store_uri = settings.tracking_uri
    if settings.database_file:
        from studies.tracking.artifact_addresses import relocate_artifacts

        relocate_artifacts(settings)  # MLflow's server reads the addresses as they are stored
        # Relative, since MLflow's server would take a path with ``%20`` in it for another one.
        os.chdir(settings.database_file.parent)
        store_uri = f"sqlite:///{settings.database_file.name}"
    # By the environment, since the arguments of a process are visible to every user of the machine.
    os.environ["MLFLOW_BACKEND_STORE_URI"] = store_uri
    # One worker serves one person; each further one would import MLflow again.
    server = ("mlflow", "server", "--workers", "1", "--host", host, "--port", str(port))
    # Replaces this process, so that Ctrl-C and signals reach the server directly.
    os.execv(sys.executable, [sys.executable, "-m", *server])


COMMANDS = (status, ui)
