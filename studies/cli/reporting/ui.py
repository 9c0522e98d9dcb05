"""The command that shows studies in MLflow's own interface: ui."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import click

import ablations
from studies.cli.common.completers import complete_study
from studies.cli.common.number_ranges import IntegerRange
from studies.cli.common.options import format_examples, settings_options
from studies.settings import SettingsError

if TYPE_CHECKING:
    from studies.settings import Settings
    from studies.tracking.interface.views import StudyPages

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")


@click.command(epilog=format_examples("ablate ui", "ablate ui depth", "ablate ui --runs /shared/runs --port 8080"))
@click.argument("name", required=False, shell_complete=complete_study)
@settings_options()
@click.option(
    "--port", type=IntegerRange(1, 65535), default=5000, show_default=True, metavar="PORT", help="Port to listen on."
)
@click.option("--host", default="127.0.0.1", show_default=True, metavar="HOST", help="Address to listen on.")
@click.option(
    "--browser/--no-browser",
    default=None,
    help="Open the study in a web browser.  [default: where this is a terminal with a graphical display]",
)
def ui(name: str | None, settings: Settings, port: int, host: str, browser: bool | None) -> None:
    """Open the MLflow UI on the tracking store, with the runs of study NAME.

    Without a name, with those of the study that was started last. Ctrl-C stops it.
    """
    name = ablations.ablation_name(name) if name else None
    if settings.tracking_uri.startswith("http"):
        click.echo(f"The tracking store is a server: open {settings.redacted_tracking_uri} in a browser.")
        pages = _find_pages_of_server(settings, name or "")
        if pages:
            _print_pages(pages)
            _open_browser(pages.trials, is_wanted=browser)
        return
    settings.require_creatable_folders()
    if settings.database_file and not settings.database_file.exists():
        # MLflow would create an empty one, which later looks like a record that was lost.
        raise SettingsError(
            f"there is no tracking store {settings.database_file}: nothing has been run there yet. Call this in the "
            "folder where a study ran, or give its runs folder with --runs."
        )
    from studies.tracking.interface.views import front_page
    from studies.tracking.store import open_store

    server_address = f"http://{_browsable_host(host)}:{port}"
    # Opening the store also corrects the addresses of artifacts in it, which MLflow's server reads as they are.
    pages = open_store(settings, create=False).find_study_pages(server_address, name or "")
    click.echo(f"MLflow UI on http://{host}:{port} (Ctrl-C stops it)")
    if host not in LOOPBACK_HOSTS:
        warning = f"The UI asks for no password: anyone who can reach {host}:{port} can read, change and delete runs."
        click.echo(warning, err=True)
    if pages:
        _print_pages(pages)
    _open_browser(pages.trials if pages else front_page(server_address), is_wanted=browser)
    store_uri = settings.tracking_uri
    if settings.database_file:
        # Relative, since MLflow's server would take a path with ``%20`` in it for another one.
        os.chdir(settings.database_file.parent)
        store_uri = f"sqlite:///{settings.database_file.name}"
    # By the environment, since the arguments of a process are visible to every user of the machine.
    os.environ["MLFLOW_BACKEND_STORE_URI"] = store_uri
    # One worker serves one person; each further one would import MLflow again.
    server = ("mlflow", "server", "--workers", "1", "--host", host, "--port", str(port))
    # Replaces this process, so that Ctrl-C and signals reach the server directly.
    os.execv(sys.executable, [sys.executable, "-m", *server])


def _find_pages_of_server(settings: Settings, name: str) -> StudyPages | None:
    from studies.tracking.errors import NotRecordedError, TrackingError
    from studies.tracking.store import open_store

    try:
        return open_store(settings, create=False).find_study_pages(settings.redacted_tracking_uri, name)
    except NotRecordedError:
        raise
    except TrackingError as error:  # a browser may reach a server that this process does not
        click.echo(str(error), err=True)
        return None


def _browsable_host(host: str) -> str:
    """The host in an address: a browser can open neither "all addresses" nor an IPv6 address without brackets."""
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _print_pages(pages: StudyPages) -> None:
    click.echo(f"trials by arm:     {pages.trials}")
    click.echo(f"curves by arm:     {pages.charts}")
    click.echo(f"what it found:     {pages.study}")


def _open_browser(address: str, *, is_wanted: bool | None) -> None:
    """Open a page as soon as its server answers, from a process of its own: this one becomes the server."""
    if is_wanted is None:
        # A browser in the terminal itself, which Python would take without a display, would cover the server's output.
        has_display = sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))
        is_wanted = has_display and sys.stdout.isatty()
    if is_wanted:
        command = [sys.executable, "-m", "studies.cli.reporting.browser", address]
        subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)


COMMANDS = (ui,)
