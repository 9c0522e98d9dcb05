"""Commands that look after what is stored: sync, doctor, gc."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

import ablations
from studies.settings import Settings, without_credentials
from studies.terminal import FAILURE, as_json, in_data_root, in_storage, of_a_store, print_json, print_table

if TYPE_CHECKING:
    from studies.clearing import Waste
    from studies.tracking import Store


@click.command()
@click.argument("name", required=False)
@of_a_store
@in_storage
def sync(name: str | None, runs: str | None, tracking_uri: str | None, storage: str | None) -> None:
    """Log what the record has missed, of study NAME or of all: without its file, its data, or any training.

    Needed where the record was away as a study ended, where a driver was killed, or where the record was lost: every
    result lies in its trial's folder until it is there. A second call finds nothing to log, and changes nothing.
    """
    from studies.running import start_of_sync
    from studies.syncing import sync as log_missing

    settings = Settings.of(runs, None, tracking_uri, storage)
    log_missing(settings, ablations.name_of(name) if name else None, start_of_sync, click.echo)


@click.command()
@of_a_store
@in_storage
@click.option("--protocol", help="Read its data as well.")
@in_data_root
@click.option(
    "--ray-address", envvar="RAY_ADDRESS", metavar="HOST:PORT", help="Ask a Ray cluster as well.  [RAY_ADDRESS]"
)
@as_json
def doctor(
    runs: str | None,
    tracking_uri: str | None,
    storage: str | None,
    protocol: str | None,
    data_root: str | None,
    ray_address: str | None,
    as_json: bool,
) -> None:
    """Whether all is well: installation, devices, data, runs folder, record, cluster; and what was left half done.

    A line per check, with what to do. Changes nothing, save that data are decoded into the runs folder's cache. Exit
    code 1 where anything is an error; warnings leave it at 0.
    """
    from studies.resources import choose_ray

    choose_ray(ray_address or "")
    from dataclasses import asdict

    from studies import protocols
    from studies.doctor import examine

    settings = Settings.of(runs, data_root, tracking_uri, storage)
    checks = []
    for check in examine(settings, protocol or (protocols.DEFAULT if data_root else None), ray_address or ""):
        checks.append(check)
        if not as_json:
            told = f"{check.level:8} {check.of}: {check.told}" + (f" -> {check.do}" if check.do else "")
            click.echo(told)
    if as_json:
        print_json([asdict(check) for check in checks])
    if any(check.level == "error" for check in checks):
        sys.exit(FAILURE)


@click.command()
@of_a_store
@in_storage
@click.option("--weights", is_flag=True, help="Also the weights of ended trials that no trial starts from.")
@click.option("--yes", is_flag=True, help="Free it, without a question.")
@click.option("--dry-run", is_flag=True, help="Show it, and ask nothing.")
@as_json
def gc(
    runs: str | None,
    tracking_uri: str | None,
    storage: str | None,
    weights: bool,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Show what no study needs, and free it if you say so: on a terminal it asks, elsewhere it wants --yes.

    Checkpoints of trials that have ended, folders of candidates whose search is over, of trials that were trained again
    by other code, and of interrupted ones that no study lists; what was left half written, and leases of the dead.
    Results and predictions stay, and weights unless --weights is given; so no report, no later seed and no warm start
    loses anything. Nothing that is in use is touched.
    """
    from studies.clearing import free, told_size, waste
    from studies.syncing import bring

    settings = Settings.of(runs, None, tracking_uri, storage)
    bring(settings)
    found = waste(settings, _record(settings), weights=weights, say=lambda text: click.echo(text, err=True))
    total = told_size(sum(each.size for each in found))
    if as_json:
        at = f"{without_credentials(settings.bucket)}/"
        rows = [
            {"path": at + each.there if each.there else str(each.path), "kind": each.kind, "why": each.why}
            | {"size": each.size}
            for each in found
        ]
        freed = free(found, settings) if yes and not dry_run else 0
        print_json({"found": rows, "freed": freed})
        return
    if not found:
        place = without_credentials(settings.bucket) or settings.shared
        click.echo(f"nothing to free: studies need all that {place} holds")
        return
    print_table(("what", "why", "how many", "size"), _rows(found))
    if dry_run or not (yes or sys.stdin.isatty()):
        click.echo(f"{total} would be freed; nothing was. To free it: ablate gc --yes")
        return
    if yes or click.confirm(f"Free {total}?"):
        click.echo(f"{told_size(free(found, settings))} freed")


def _rows(found: Iterable[Waste]) -> list[tuple[Any, ...]]:
    from studies.clearing import told_size

    groups: dict[tuple[str, str], list[Waste]] = {}
    for each in found:
        groups.setdefault((each.kind, each.why), []).append(each)
    return [(*group, len(each), told_size(sum(one.size for one in each))) for group, each in groups.items()]


def _record(settings: Settings) -> Store | None:
    """The record, where there is one that answers; what only it can tell is not freed otherwise."""
    from studies.tracking import Store, TrackingError

    try:
        return Store(settings, create=False)
    except TrackingError as error:
        click.echo(f"{error} What only the record can tell is left alone.", err=True)
        return None


COMMANDS = (sync, doctor, gc)
