"""Commands that look after a runs folder and its tracking store: sync, doctor, gc."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

import click

import ablations
from studies import protocols
from studies.cli.common.completers import complete_protocol, complete_study
from studies.cli.common.errors import EXIT_FAILURE
from studies.cli.common.options import format_examples, json_option, settings_options
from studies.console.tables import print_json, print_result, print_table
from studies.settings import Settings, SettingsError, redact_credentials

if TYPE_CHECKING:
    from studies.maintenance.cleanup import GarbageItem
    from studies.tracking.store import Store


class GarbageData(TypedDict):
    """An item of `ablate gc --json`; ``size`` in bytes."""

    path: str
    kind: str
    why: str
    size: int


@click.command(epilog=format_examples("ablate sync", "ablate sync depth"))
@click.argument("name", required=False, shell_complete=complete_study)
@click.option("--repair", is_flag=True, help="Verify all that is logged, and log again what is damaged.")
@settings_options(storage=True)
@json_option
def sync(name: str | None, repair: bool, settings: Settings, as_json: bool) -> None:
    """Log results that the tracking store misses, without training.

    Reads the trial folders of study NAME, or of all studies; neither the ablation's file nor its data are needed.

    Use it when the tracking store was unreachable at the end of a study, when a driver was killed, or when the
    tracking store was lost. A second call finds nothing to log, and changes nothing. With --repair it also replaces
    damaged files of the tracking store by those of the trial folders.
    """
    from studies.maintenance.sync import sync_studies
    from studies.runner.provenance import make_sync_start

    study = ablations.ablation_name(name) if name else None
    lines: list[str] = []
    num_logged = sync_studies(settings, study, make_sync_start, lines.append if as_json else click.echo, repair=repair)
    if as_json:
        print_result("sync", {"logged": num_logged, "findings": lines})


@click.command(
    epilog=format_examples(
        "ablate doctor", "ablate doctor --protocol cifar10 --data-root /data", "ablate doctor --json"
    )
)
@settings_options(data_root=True, storage=True)
@click.option(
    "--protocol", metavar="NAME", shell_complete=complete_protocol, help="Protocol whose data set to read as well."
)
@click.option(
    "--ray-address",
    envvar="RAY_ADDRESS",
    metavar="HOST:PORT",
    help="Ray cluster to check as well.  [env var: RAY_ADDRESS]",
)
@click.option("--deep", is_flag=True, help="Read and verify every stored file: checksums, and results against plans.")
@json_option
def doctor(settings: Settings, protocol: str | None, ray_address: str | None, deep: bool, as_json: bool) -> None:
    """Check the installation, the runs folder and the tracking store.

    Also checks devices, and the data and the Ray cluster where they are given. Finds what killed processes left
    incomplete. Prints one line per check, with advice where something needs fixing.

    Changes nothing, except that decoded data may be added to the cache in the runs folder; in an object store a small
    file is written, read and removed. The exit code is 1 if any check is an error, and 0 otherwise.
    """
    from studies.execution.resources import configure_ray

    configure_ray(ray_address or "")  # before Ray is imported, which reads its settings from the environment
    from studies.maintenance.doctor import check_health

    has_data_root = click.get_current_context().params["data_root"] is not None
    if protocol is None and has_data_root:
        protocol = protocols.DEFAULT_PROTOCOL  # without a data root, no data are read unless asked for
    checks = []
    for check in check_health(settings, protocol, ray_address or "", deep=deep):
        checks.append(check)
        if not as_json:  # at once, since some checks take seconds
            click.echo(check.text)
    if as_json:
        print_json([check.to_json() for check in checks])
    if any(check.level == "error" for check in checks):
        sys.exit(EXIT_FAILURE)


@click.command(epilog=format_examples("ablate gc", "ablate gc --dry-run --weights", "ablate gc --yes"))
@settings_options(storage=True)
@click.option("--weights", is_flag=True, help="Include weights of ended trials that no trial starts from.")
@click.option("--yes", is_flag=True, help="Free everything listed, without asking.")
@click.option("--dry-run", is_flag=True, help="List only, and ask nothing.")
@json_option
def gc(settings: Settings, weights: bool, yes: bool, dry_run: bool, as_json: bool) -> None:
    """List what no study needs, and free it once confirmed.

    On a terminal it asks for confirmation; elsewhere it needs --yes.

    Lists checkpoints of ended trials; folders of candidates of finished searches, of trials that were trained again
    by other code, and of interrupted trials that no study lists; models logged with --log-models of trials that were
    trained again; partially written files, and leases of dead processes.

    Keeps results and predictions, and weights unless --weights is given, so that reports, further seeds and warm
    starts lose nothing. Nothing that is in use is touched.
    """
    from studies.maintenance.cleanup import find_garbage, format_size, free_garbage
    from studies.storage.manifest import fetch_all

    if not (settings.object_store_uri or settings.shared_folder.is_dir()):  # a misspelled --runs frees nothing for ever
        raise SettingsError(f"there is no folder {settings.shared_folder}; expected the runs folder of a study.")
    fetch_all(settings)  # the manifests in the object store say what other machines' studies need
    garbage = find_garbage(settings, _open_store(settings), weights=weights, log=_print_warning)
    if as_json:
        rows = [_garbage_to_json(item, settings) for item in garbage]
        freed_bytes = free_garbage(garbage, settings) if yes and not dry_run else 0
        print_json({"found": rows, "freed": freed_bytes})
        return
    if not garbage:
        location = redact_credentials(settings.object_store_uri) or settings.shared_folder
        click.echo(f"nothing to free: studies need everything in {location}")
        return
    print_table(("what", "why", "how many", "size"), _summarize_garbage(garbage))
    total = format_size(sum(item.size for item in garbage))
    # Never without consent: a script cannot be asked, so it has to state it.
    can_free = yes or sys.stdin.isatty()
    if dry_run or not can_free:
        options = (" --weights" if weights else "") + settings.command_options
        click.echo(f"{total} would be freed; nothing was. To free it: ablate gc --yes{options}")
        return
    if yes or click.confirm(f"Free {total}?"):
        click.echo(f"{format_size(free_garbage(garbage, settings))} freed")


def _print_warning(text: str) -> None:
    click.echo(text, err=True)


def _garbage_to_json(item: GarbageItem, settings: Settings) -> GarbageData:
    path = str(item.path)
    if item.object_key:
        path = f"{redact_credentials(settings.object_store_uri)}/{item.object_key}"
    if item.model:
        path = redact_credentials(item.model.address)
    return {"path": path, "kind": item.kind, "why": item.reason, "size": item.size}


def _summarize_garbage(garbage: Sequence[GarbageItem]) -> list[tuple[str, str, int, str]]:
    """One row per kind and reason: both, the number of items, and their size."""
    from studies.maintenance.cleanup import format_size

    sizes: dict[tuple[str, str], list[int]] = {}
    for item in garbage:
        sizes.setdefault((item.kind, item.reason), []).append(item.size)
    rows = []
    for (kind, reason), group_sizes in sizes.items():
        rows.append((kind, reason, len(group_sizes), format_size(sum(group_sizes))))
    return rows


def _open_store(settings: Settings) -> Store | None:
    """The tracking store; ``None`` if it does not respond, and then what only it can tell is kept."""
    from studies.tracking.errors import TrackingError
    from studies.tracking.store import open_store

    try:
        return open_store(settings, create=False)
    except TrackingError as error:
        click.echo(f"{error} What only the tracking store can tell is kept.", err=True)
        return None


COMMANDS = (sync, doctor, gc)
