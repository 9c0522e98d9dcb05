"""Command ``ablate report``, and the reading of a recorded study that other commands share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

import ablations
from lightning_modules.specs.errors import UserError
from lightning_modules.specs.text import join_clauses
from studies.cli.common.completers import complete_study
from studies.cli.common.errors import EXIT_FAILURE
from studies.cli.common.options import (
    format_examples,
    json_option,
    protocol_option,
    run_id_option,
    settings_options,
)
from studies.console.tables import print_json
from studies.design.declare import CALIBRATION_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lightning_modules.specs.values import Leaf
    from reports.comparison.comparison import Comparison
    from studies.records.study_record import StudyRecord
    from studies.settings import Settings
    from studies.tracking.interface.findings import StudyFindings


MAX_LISTED_RUNS = 3


class CompiledReport(NamedTuple):
    """A report that was written: the comparison behind it, and its page."""

    comparison: Comparison
    page: Path


@click.command(
    epilog=format_examples(
        "ablate report depth",
        "ablate report depth.zip",
        "ablate report --all",
        "ablate report depth --against-protocol cifar10",
    )
)
@click.argument("names", metavar="NAME...", nargs=-1, shell_complete=complete_study)
@protocol_option
@click.option("--all", "all_studies", is_flag=True, help="Report every study recorded under the protocol.")
@click.option("--combine", is_flag=True, help="Also compile one summary page of all reported studies.")
@run_id_option
@click.option("--against", metavar="RUN_ID", help="Another run of the study to compare with: its parent run in MLflow.")
@click.option(
    "--against-protocol", metavar="NAME", help="Another protocol, with whose latest run of the study to compare."
)
@settings_options()
@json_option
def report(
    names: tuple[str, ...],
    protocol: str,
    all_studies: bool,
    combine: bool,
    run_id: str | None,
    against: str | None,
    against_protocol: str | None,
    settings: Settings,
    as_json: bool,
) -> None:
    """Compile reports from the tracking store, without training.

    Prints the path of each page.
    """
    if not (names or all_studies):
        raise click.UsageError("Name a study, or give --all.")
    is_comparison = bool(against or against_protocol)
    is_ambiguous = len(names) != 1 or all_studies or bool(against and against_protocol)
    if is_comparison and is_ambiguous:
        raise click.UsageError("Name one study and one other run of it: --against RUN_ID or --against-protocol NAME.")
    if run_id and (len(names) != 1 or all_studies):
        raise click.UsageError("--run is a run of one study: name that study alone.")
    settings.require_creatable_folders()  # before anything is read: one that is not writable should fail at once
    if all_studies:
        named_studies = set(map(ablations.ablation_name, names))
        names = tuple(sorted(named_studies | _recorded_studies(protocol, settings)))
    show: Callable[[object], None] = _discard if as_json else click.echo
    if len(names) == 1 and not all_studies:  # its error is the command's own
        records = [read_study(names[0], protocol, settings, run_id)]
        compiled = [_compile_named_report(names[0], records[0], settings, by_id=bool(run_id))]
        show(compiled[0].page)
    else:
        records, compiled = _compile_reports(names, protocol, settings, show)
    pages = [report.page for report in compiled]
    further_pages = {}
    if is_comparison:
        further_pages["comparison"] = _compile_run_comparison(records[0], against, against_protocol, settings)
    comparisons = [report.comparison for report in compiled]
    if (combine or all_studies) and (comparisons or not names):
        from reports.pages.summary import write_summary

        further_pages["summary"] = write_summary(comparisons, settings.report_folder(f"summary-{protocol}"), pages)
    for page in further_pages.values():
        show(page)
    if as_json:
        from reports.pages.verdict_json import describe_reports

        print_json(describe_reports(comparisons, pages, further_pages))
    if len(records) < len(names):
        click.echo(f"Error: {len(names) - len(records)} of {len(names)} studies have no report; see above.", err=True)
        sys.exit(EXIT_FAILURE)


def _discard(line: object) -> None:
    del line


def _compile_reports(
    names: Sequence[str], protocol: str, settings: Settings, show: Callable[[object], None]
) -> tuple[list[StudyRecord], list[CompiledReport]]:
    """Compile every study's report; a study without one is named, and does not stop the others."""
    records, compiled = [], []
    for name in names:
        try:
            record = read_study(name, protocol, settings)
            report = _compile_named_report(name, record, settings)
        # Whatever is wrong with one record: the reports of the others do not depend on it.
        except Exception as error:
            if click.get_current_context().find_root().params.get("debug"):
                raise
            kind = "" if isinstance(error, UserError) else f" ({type(error).__name__})"
            click.echo(f"No report of {name}: {error}{kind}", err=True)
            continue
        records.append(record)
        compiled.append(report)
        show(report.page)
    return records, compiled


def read_study(
    name: str,
    protocol: str,
    settings: Settings,
    run_id: str | None = None,
    overrides: Mapping[str, Leaf] | None = None,
) -> StudyRecord:
    """Read a study under a protocol, and say which of several runs is taken, whose, and what of it cannot be used.

    Args:
        run_id: selects the run.
        overrides: prefers a run with these ``--set`` changes.

    Raises:
        TrackingError: if there is none, or the tracking store does not respond.
    """
    from studies.storage.copies.archive import is_archive_name, read_archived_record
    from studies.tracking.store import open_store

    if is_archive_name(name):
        return read_archived_record(Path(name))
    # create=False here and below: reading must not leave an empty database behind.
    reader = open_store(settings, create=False).reader
    record = reader.read_study(ablations.ablation_name(name), protocol, run_id, overrides)
    if not run_id:
        _tell_choice(record, settings)
    for damage in record.damages:
        click.echo(damage, err=True)
    return record


def _tell_choice(record: StudyRecord, settings: Settings) -> None:
    title = f"{record.registration.study} under {record.registration.protocol}"
    if not record.is_own:
        click.echo(
            f"{title}: the runs folder {settings.runs_folder} has started no run of it in "
            f"{settings.redacted_tracking_uri}. Taken is run {record.run_id}, {describe_owner(record)}.",
            err=True,
        )
    if record.other_runs:
        listed = join_clauses(record.other_runs, MAX_LISTED_RUNS)
        click.echo(
            f"{title} has {len(record.other_runs) + 1} runs. Taken is {record.run_id}; not taken: {listed}. "
            "--run RUN_ID takes another.",
            err=True,
        )


def describe_owner(record: StudyRecord) -> str:
    """Who started a study's run, in a clause."""
    return f"started by {record.owner}" if record.owner else "started by an unknown user"


def _recorded_studies(protocol: str, settings: Settings) -> set[str]:
    """Studies of this runs folder under a protocol; where it has started none, all in the tracking store."""
    from studies.tracking.store import open_store

    studies = []
    for item in open_store(settings, create=False).reader.list_studies():
        # The trainings of a calibration answer no question; `ablate calibrate` compiles their page.
        if item.protocol == protocol and not item.study.startswith(CALIBRATION_PREFIX):
            studies.append(item)
    own = [item for item in studies if item.is_own]
    return {item.study for item in own or studies}


def compare_study(name: str, record: StudyRecord, settings: Settings) -> Comparison:
    """Compare the arms of a study or of an archive, with what the tracking store knows of the study beside its record.

    Args:
        name: of the study, or path of the archive, which stands for itself.
    """
    from reports.comparison.comparison import compare_arms
    from reports.pages.study import compare_recorded
    from studies.storage.copies.archive import is_archive_name
    from studies.tracking.store import open_store

    if is_archive_name(name):
        return compare_arms(record)
    return compare_recorded(record, open_store(settings, create=False).reader)


def _compile_named_report(name: str, record: StudyRecord, settings: Settings, *, by_id: bool = False) -> CompiledReport:
    """Write the report of a study or of an archive, which gets a folder of its own and is attached to no run."""
    from reports.comparison.comparison import compare_arms
    from reports.pages.study import write_report
    from studies.storage.copies.archive import is_archive_name

    if not is_archive_name(name):
        return compile_report(record, settings, by_id=by_id)
    registration = record.registration
    folder = settings.report_folder(f"{registration.study}-{registration.protocol}-from-{Path(name).stem}")
    comparison = compare_arms(record)
    return CompiledReport(comparison, write_report(comparison, folder))


def compile_report(
    record: StudyRecord, settings: Settings, *, by_id: bool = False, with_answer: bool = False
) -> CompiledReport:
    """Write a study's report, and attach it to the study's run.

    Args:
        by_id: whether the run was asked for by its id; else nothing is attached to a run of another runs folder.
        with_answer: whether the study's answer, the page's first sentence, is printed.
    """
    from reports.pages import run_findings
    from reports.pages.study import compare_recorded, report_name, write_report
    from studies.tracking.store import open_store

    store = open_store(settings, create=False)
    folder = settings.report_folder(report_name(record, by_id=by_id))
    comparison = compare_recorded(record, store.reader)
    page = write_report(comparison, folder)
    if record.is_own or by_id:
        # With the run, so that users of a tracking server find the report as well.
        store.writer.attach_report(record.run_id, folder)
        store.writer.log_findings(record.run_id, run_findings.describe_findings(record, comparison))
    if with_answer:
        click.echo(comparison.answer)
    return CompiledReport(comparison, page)


def describe_findings(record: StudyRecord) -> StudyFindings:
    """What a record has found, for its run in MLflow."""
    from reports.pages import run_findings  # loads scipy, which a study that is cut off does not need

    return run_findings.describe_findings(record)


def _compile_run_comparison(record: StudyRecord, run_id: str | None, protocol: str | None, settings: Settings) -> Path:
    """Compare a study with another run of it, given by its id or as the latest one under a protocol."""
    from reports.comparison.two_runs import compare_runs
    from reports.pages.study import report_name
    from reports.pages.two_runs import write_run_comparison
    from studies.tracking.store import open_store

    registration = record.registration
    comparison = compare_runs(record, open_store(settings).reader.read_study(registration.study, protocol, run_id))
    other_name = f"{comparison.other.registration.protocol}-{comparison.other.run_id[:8]}"
    folder = settings.report_folder(f"{report_name(record)}-against-{other_name}")
    return write_run_comparison(comparison, folder)


COMMANDS = (report,)
