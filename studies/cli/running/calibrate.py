"""Command that measures the error rates of the verdict rule on real trainings."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

import click

from studies.cli.common.budget_options import budget_options
from studies.cli.common.completers import complete_ablation, complete_arm, complete_setting
from studies.cli.common.errors import EXIT_FAILURE, EXIT_STOPPED
from studies.cli.common.options import (
    format_examples,
    json_option,
    protocol_option,
    resource_options,
    reuse_option,
    settings_options,
)
from studies.cli.common.parameters import OverrideParam, SeedsParam
from studies.cli.running.full_disk import explain_full_disk
from studies.cli.running.run import (
    complete_study,
    prestart_processes,
    print_dry_run,
    print_failed_trials,
)
from studies.console.tables import print_json, print_table
from studies.design.budget import RunBudget
from studies.runner.reuse_plan import ReusePolicy
from studies.scratch import process_folder
from studies.storage.machine_limits import require_room

if TYPE_CHECKING:
    from reports.calibration.cases import Calibration
    from reports.document import Table
    from studies.design.study import Study
    from studies.execution.resources import Resources
    from studies.records.study_record import StudyRecord
    from studies.settings import Settings

NUM_SEEDS = 200


@click.command(
    epilog=format_examples(
        "ablate calibrate",
        "ablate calibrate depth --arm A --arm E --seeds 200",
        "ablate calibrate residual --protocol cifar10-cpu --seeds 50",
        "ablate calibrate depth --max-time 3h",
    )
)
@click.argument("name", default="depth", shell_complete=complete_ablation)
@click.option(
    "--arm",
    "arms",
    multiple=True,
    metavar="ARM",
    shell_complete=complete_arm,
    help="Arm to train; repeatable.  [default: every arm]",
)
@protocol_option
@click.option(
    "--seeds",
    type=SeedsParam(),
    default=str(NUM_SEEDS),
    show_default=True,
    help="Number of trainings of each arm, or their seeds; at least 200 give useful intervals.",
)
@click.option(
    "--set",
    "overrides",
    shell_complete=complete_setting,
    type=OverrideParam(),
    multiple=True,
    help="Setting to change for all arms, such as recipe.epochs=5; repeatable.",
)
@settings_options(data_root=True, storage=True, fault_tolerance=True)
@resource_options
@reuse_option
@budget_options
@click.option("--dry-run", is_flag=True, help="List the trainings and exit.")
@json_option
def calibrate(
    name: str,
    arms: tuple[str, ...],
    protocol: str,
    seeds: tuple[int, ...],
    overrides: tuple[tuple[str, str], ...],
    settings: Settings,
    resources: Resources,
    reuse: ReusePolicy,
    budget: RunBudget,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Measure how often verdicts are wrong with the noise of real trainings.

    Trains every arm of a study under many seeds, as `ablate run` does: ended trials are reused, interrupted ones
    resume. Then draws thousands of studies from them in which no arm differs, and judges each by the report's rule:
    how often is a verdict wrong? It also measures how often the seeds that `ablate plan` gives find a difference,
    and the noise itself, which `ablate plan` then uses.

    With a budget it stops at whole seeds; the same command goes on. More --seeds than before add to those that are
    there.

    NAME is an ablation, or the path of its file: ./my_ablation.py.  [default: depth]
    """
    from studies.design.declare import declare, declare_calibration

    trainings_study = declare_calibration(name, protocol, seeds, dict(overrides), arms)
    if dry_run:
        print_dry_run(trainings_study, settings, as_json=as_json)
        return
    _require_enough_seeds(seeds)
    settings.require_creatable_folders()
    require_room(settings)
    process_folder()
    log = partial(click.echo, err=as_json)  # standard output holds the JSON alone
    with prestart_processes(trainings_study.name, settings, resources):
        record = _train_seeds(trainings_study, settings, resources, reuse, budget, log)
    failed_trials = print_failed_trials(record)
    write_and_print(record, declare(name, protocol), settings, as_json=as_json)
    if failed_trials:
        sys.exit(EXIT_FAILURE)
    if record.stop_reason:
        sys.exit(EXIT_STOPPED)


def _require_enough_seeds(seeds: tuple[int, ...]) -> None:
    """Refuse before anything is trained."""
    from reports.calibration.cases import MIN_TRAININGS

    if len(seeds) < MIN_TRAININGS:
        raise click.UsageError(
            f"{len(seeds)} seeds are too few to resample studies from; expected {MIN_TRAININGS} or more. 200 or more "
            "give useful intervals."
        )


def _train_seeds(
    study: Study,
    settings: Settings,
    resources: Resources,
    reuse: ReusePolicy,
    budget: RunBudget,
    log: partial[None],
) -> StudyRecord:
    from studies.execution.cluster.prestart import prestart_ray

    with explain_full_disk(study, settings), prestart_ray(study, settings, resources):
        return complete_study(study, settings, resources, reuse, log=log, budget=budget)


def write_and_print(record: StudyRecord, study: Study, settings: Settings, *, as_json: bool) -> None:
    """Measure the rates of recorded trainings, write the page, and print the tables or JSON.

    Where a budget has stopped the calibration before enough seeds were trained, say so instead.
    """
    from reports.calibration.calibration import calibrate_rule
    from reports.calibration.cases import MIN_TRAININGS
    from reports.content.calibration import summarize_calibration
    from reports.pages.calibration import (
        calibration_to_json,
        collect_trainings,
        count_complete_seeds,
        write_calibration,
    )
    from reports.pages.study import report_name
    from studies.console.progress import show_activity

    num_trainings = count_complete_seeds(record)
    if record.stop_reason and num_trainings < MIN_TRAININGS:
        _print_too_few(record, num_trainings, study, as_json=as_json)
        return
    trainings = collect_trainings(record, study)
    with show_activity("drawing and judging studies", only_on_terminal=as_json) as update:

        def report_progress(done: int, total: int) -> None:
            update(f"drawing and judging studies: {done} of {total} resamples of the trainings")

        calibration = calibrate_rule(trainings, report_progress=report_progress)
    page = write_calibration(calibration, settings.report_folder(f"{report_name(record)}-error-rates"))
    if as_json:
        print_json(calibration_to_json(calibration) | {"page": str(page), "stopped": record.stop_reason or None})
        return
    click.echo(f"{summarize_calibration(calibration)}\n")
    _print_tables(calibration)
    click.echo(page)


def _print_too_few(record: StudyRecord, num_trainings: int, study: Study, *, as_json: bool) -> None:
    from reports.calibration.cases import MIN_TRAININGS

    if as_json:
        identity = {"study": study.name, "protocol": study.protocol.name, "trainings": num_trainings}
        print_json(identity | {"page": None, "stopped": record.stop_reason})
        return
    click.echo(
        f"{num_trainings} of the {MIN_TRAININGS} or more seeds that it takes to resample studies are trained in every "
        "arm: no rates yet"
    )


def _print_tables(calibration: Calibration) -> None:
    from reports.content.calibration import equivalence_table, highest_rates_table, noise_table, power_table

    for table in (
        highest_rates_table(calibration),
        power_table(calibration),
        equivalence_table(calibration),
        noise_table(calibration),
    ):
        if table.rows:
            _print_report_table(table)
    for sentence in calibration.left_out:
        click.echo(f"left out: {sentence}")


def _print_report_table(table: Table) -> None:
    from reports.document import text_with_mark

    click.echo(table.caption)
    headings = [f"{column.title} {column.unit}".strip() for column in table.columns]
    print_table(tuple(headings), [tuple(text_with_mark(cell) for cell in row) for row in table.rows])
    for note in table.footnotes:
        click.echo(note)
    click.echo()


COMMANDS = (calibrate,)
