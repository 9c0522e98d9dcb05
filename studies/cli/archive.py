"""Commands that pack a study into one file, and unpack it: export, import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

import ablations
from lightning_modules.specs.text import format_count
from studies.cli.common.completers import complete_study
from studies.cli.common.options import format_examples, json_option, protocol_option, settings_options
from studies.console.tables import print_result

if TYPE_CHECKING:
    from studies.settings import Settings


@click.command(
    "export",
    epilog=format_examples("ablate export depth -o depth.zip", "ablate export depth -o depth.zip --weights --dry-run"),
)
@click.argument("name", shell_complete=complete_study)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Archive to write.  [default: NAME.zip]"
)
@protocol_option
@click.option("--weights", is_flag=True, help="Include the trained weights.")
@click.option("--dry-run", is_flag=True, help="Print what would be written, and its size, and write nothing.")
@settings_options(storage=True)
@json_option
def export_study(
    name: str, output: Path | None, protocol: str, weights: bool, dry_run: bool, settings: Settings, as_json: bool
) -> None:
    """Pack study NAME into one archive, with the checksums of all its files.

    It holds the registration, results, curves, predictions, setups, versions and the compiled report: the supplement
    of a paper, or the way to another machine. `ablate report`, `ablate status` and reports.load read it as it is.
    """
    from reports.pages.study import compare_recorded, report_files
    from studies.maintenance.cleanup import format_size
    from studies.storage.copies.archive import collect_content, write_archive
    from studies.tracking.store import open_store

    study = ablations.ablation_name(name)
    # Nothing is exported from a store that is not there, so that none is made.
    store = open_store(settings, create=False)
    record = store.reader.read_study(study, protocol)
    conditions = store.reader.read_conditions(record.run_id)
    content = collect_content(
        record, report_files(compare_recorded(record, store.reader)), settings, conditions, weights=weights
    )
    for damage in (*record.damages, *content.damages):
        click.echo(damage, err=True)
    has_trials = any(path.startswith("trials/") for path in content.members)
    if not has_trials:
        click.echo(
            f"{settings.trials_folder} holds no trial of {study}: the archive can be read, but not imported.", err=True
        )
    file = output or Path(f"{study}.zip")
    size = f"{format_count(len(content.members), 'file')}, {format_size(content.num_bytes)} before compression"
    if not dry_run:
        write_archive(content, file)
    if as_json:
        described = {
            "file": str(file),
            "files": len(content.members),
            "bytes": content.num_bytes,
            "written": not dry_run,
        }
        print_result("export", described)
    elif dry_run:
        click.echo(f"{file} would hold {size}")
    else:
        click.echo(f"{file}: {size}, {format_size(file.stat().st_size)} written")


@click.command("import", epilog=format_examples("ablate import depth.zip", "ablate import depth.zip --runs lab-runs"))
@click.argument("file", type=click.Path(path_type=Path))
@settings_options(storage=True)
@json_option
def import_study(file: Path, settings: Settings, as_json: bool) -> None:
    """Unpack an archive of `ablate export` into the runs folder, and log its results.

    All checksums are verified before anything is written. A result that is here already and differs is kept, and named.
    """
    from studies.maintenance.sync import sync_studies
    from studies.runner.provenance import make_sync_start
    from studies.settings import SettingsError
    from studies.storage.copies.archive import open_archive
    from studies.storage.copies.unpacking import unpack_trials
    from studies.tracking.store import open_store

    with open_archive(file) as archive:
        record = archive.read_record()
        if not any(path.startswith("trials/") for path in archive.checksums):
            raise click.UsageError(f"{file} holds a record without trial folders: read it with `ablate report {file}`.")
        study = record.registration.study
        conditions = archive.conditions_of(study)
        settings.create_folders()
        num_new, kept = unpack_trials(archive, settings)
    for line in kept:
        click.echo(line, err=True)

    def show(line: str) -> None:
        # With --json, standard output holds the JSON alone.
        if not as_json:
            click.echo(line)

    show(f"{file}: {format_count(num_new, 'trial')} unpacked, {len(kept)} left as they are here")
    num_logged = sync_studies(settings, study, make_sync_start, show)
    store = open_store(settings)
    run_id = store.inspector.closed_run_id(study, conditions)
    if not run_id:
        raise SettingsError(
            f"{study} was started meanwhile: give the same command when it has ended, to log the trials."
        )
    imported = store.reader.read_study(study, run_id=run_id)
    # No trial folder holds these: when the study was run, and how fast its networks are.
    store.writer.log_starts(run_id, record.starts)
    if record.latency and imported.latency is None:
        store.writer.log_latency(run_id, record.latency)
    if as_json:
        described = {"study": study, "run_id": run_id, "unpacked": num_new, "kept": kept, "logged": num_logged}
        print_result("import", described)


COMMANDS = (export_study, import_study)
