"""Commands that train studies: run, extend."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lightning_modules.specs.text import format_count, name_seeds
from studies.cli.common.budget_options import budget_options
from studies.cli.common.completers import complete_ablation
from studies.cli.common.errors import EXIT_FAILURE, EXIT_STOPPED
from studies.cli.common.interim_options import interim_options
from studies.cli.common.options import (
    NOTHING_BESIDE_TRIALS,
    LoggingRequest,
    StudyOptions,
    format_examples,
    json_option,
    logging_options,
    protocol_option,
    report_option,
    resource_options,
    reuse_option,
    run_id_option,
    settings_options,
    study_options,
)
from studies.cli.common.parameters import SeedsParam
from studies.cli.reporting import reports
from studies.cli.running.full_disk import explain_full_disk
from studies.cli.running.notify import notify_of_end, notify_of_failure, notify_option
from studies.console.tables import print_json, print_result, print_table
from studies.design.budget import NO_BUDGET, RunBudget
from studies.gc_pause import exempt_from_gc, pause_gc
from studies.runner.reuse_plan import ReusePolicy
from studies.scratch import process_folder
from studies.storage.machine_limits import describe_full_disk, is_full_disk, require_room

if TYPE_CHECKING:
    from studies.design.study import Study
    from studies.execution.resources import Resources
    from studies.records.study_record import RecordedTrial, StudyRecord
    from studies.settings import Settings


@click.command(
    epilog=format_examples(
        "ablate run depth --seeds 5 --report",
        "ablate run depth --protocol cifar10 --gpus-per-trial 1",
        "ablate run ./my_ablation.py --set recipe.epochs=5 --dry-run",
        "ablate run depth --until-resolved --max-seeds 10",
        "ablate run depth --max-time 3h",
        "ablate run depth --notify 'mail -s depth me@example.org'",
    )
)
@click.argument("name", shell_complete=complete_ablation)
@study_options
@interim_options
@settings_options(data_root=True, storage=True, fault_tolerance=True)
@resource_options
@reuse_option
@logging_options
@budget_options
@notify_option
@click.option("--dry-run", is_flag=True, help="List the study's trials and exit.")
@click.option("--detach", is_flag=True, help="Run on when the terminal is closed; prints where the log is, and exits.")
@report_option
@json_option
def run(
    name: str,
    options: StudyOptions,
    settings: Settings,
    resources: Resources,
    reuse: ReusePolicy,
    logging: LoggingRequest,
    budget: RunBudget,
    notify: str | None,
    dry_run: bool,
    detach: bool,
    with_report: bool,
    as_json: bool,
) -> None:
    """Run a study: train its missing trials and log them.

    Ended trials are reused, and interrupted ones resume from their last checkpoint.

    NAME is an ablation, or the path of its file: ./my_ablation.py.
    """
    if dry_run:  # before any process is started: a dry run leaves nothing behind
        print_dry_run(options.declare_study(name), settings, as_json=as_json)
        return
    settings.require_creatable_folders()  # a refusal should come before the imports
    require_room(settings)
    if detach:
        from studies.cli.running.detach import detach_run

        detach_run(options.declare_study(name), settings, as_json=as_json)
        return
    process_folder()
    with prestart_processes(name, settings, resources):
        study = options.declare_study(name)
        _run_study(
            study,
            settings,
            resources,
            reuse,
            with_report,
            budget=budget,
            notify=notify,
            logging=logging,
            as_json=as_json,
        )


def print_dry_run(study: Study, settings: Settings, *, as_json: bool) -> None:
    """List a study's trials."""
    from lightning_modules.data.inventory import check_classes

    for setup in study.setups().values():
        check_classes(setup, settings.data_root)
    trials = [{"arm": trial.arm, "seed": trial.seed, "fingerprint": trial.fingerprint} for trial in study.trials()]
    if as_json:
        print_json({"study": study.name, "protocol": study.protocol.name, "trials": trials})
        return
    print_table(("arm", "seed", "fingerprint"), [tuple(trial.values()) for trial in trials])
    click.echo(f"{format_count(len(trials), 'trial')}; nothing was trained and nothing was written.")


def prestart_processes(name: str, settings: Settings, resources: Resources) -> AbstractContextManager[None]:
    """Start the fork server while the study is declared, if it has never been run on this machine.

    Otherwise there may be nothing to train, and the fork server starts only once that is known. The nodes of a
    cluster have their own.
    """
    from studies.execution.processes.fork_server import prestart_fork_server

    is_new = not any(settings.studies_folder.glob(f"{Path(name).stem}-*"))
    return prestart_fork_server() if is_new and not resources.address else nullcontext()


def _run_study(
    study: Study,
    settings: Settings,
    resources: Resources,
    reuse: ReusePolicy,
    with_report: bool,
    resumed_run_id: str = "",
    *,
    budget: RunBudget = NO_BUDGET,
    notify: str | None = None,
    logging: LoggingRequest = NOTHING_BESIDE_TRIALS,
    by_id: bool = False,
    as_json: bool = False,
) -> None:
    """Run a study, and exit with a failure if a trial failed, or with a code of its own if it stopped at its budget.

    Args:
        resumed_run_id: MLflow run of the study that must be continued; empty for its latest or a new one.
        notify: command of the user's to run at the end.
        by_id: whether the user named that run.
    """
    from studies.execution.cluster.prestart import prestart_ray

    log = partial(click.echo, err=as_json)
    # Ray starts in the background while the driver imports the frameworks and builds the networks.
    with (
        notify_of_failure(notify, study),
        explain_full_disk(study, settings),
        prestart_ray(study, settings, resources),
    ):
        record = complete_study(
            study,
            settings,
            resources,
            reuse,
            resumed_run_id,
            log,
            budget=budget,
            logging=logging,
            with_findings=True,
            quiet=as_json,
        )
        failed_trials = print_failed_trials(record)
        page = None
        if with_report:
            page = reports.compile_report(record, settings, by_id=by_id, with_answer=not as_json).page
        if as_json:
            _print_ended_run(record, failed_trials, page)
        elif page:
            click.echo(page)
        else:
            report_command = f"ablate report {study.name} --protocol {study.protocol.name}{settings.store_options}"
            click.echo(f"logged to {settings.redacted_tracking_uri}; compile the report with: {report_command}")
    notify_of_end(notify, study, settings, record, _describe_failures(failed_trials))
    if failed_trials:  # after the report, which says what failed, and once Ray has been shut down
        if any(is_full_disk(_last_error_line(trial)) for trial in failed_trials):
            click.echo(f"Error: {describe_full_disk(settings, len(failed_trials))}", err=True)
        sys.exit(EXIT_FAILURE)
    if record.stop_reason:
        sys.exit(EXIT_STOPPED)


def complete_study(
    study: Study,
    settings: Settings,
    resources: Resources,
    reuse: ReusePolicy,
    resumed_run_id: str = "",
    log: Callable[[str], None] = click.echo,
    *,
    budget: RunBudget = NO_BUDGET,
    logging: LoggingRequest = NOTHING_BESIDE_TRIALS,
    with_findings: bool = False,
    quiet: bool = False,
) -> StudyRecord:
    """Train the missing trials of a study, log what it finds where asked to, and read it back."""
    with pause_gc(exempt=True):  # a fifth of the time of large imports
        from studies.runner.context import prepare_study
        from studies.runner.driver import run_study
        from studies.tracking.interface.findings import LoggingOptions

        exempt_from_gc()
        context = prepare_study(study, settings, resources, log)
    return run_study(
        context,
        reuse,
        unresolved=_unresolved_claims,
        budget=budget,
        logging=LoggingOptions(find=reports.describe_findings if with_findings else None, **logging._asdict()),
        resumed_run=resumed_run_id,
        quiet=quiet,
    )


def print_failed_trials(record: StudyRecord) -> list[RecordedTrial]:
    """Print the last line of every failed trial's error, and return these trials."""
    for trial in record.failed_trials:
        recipe = " under its tuned recipe" if trial.recipe == "tuned" else ""
        click.echo(f"{trial.arm}, seed {trial.seed} failed{recipe}: {_last_error_line(trial)}", err=True)
    return list(record.failed_trials)


def _print_ended_run(record: StudyRecord, failed_trials: Sequence[RecordedTrial], page: Path | None) -> None:
    registration = record.registration
    print_result(
        "run",
        {
            "study": registration.study,
            "protocol": registration.protocol,
            "run_id": record.run_id,
            "trials": len(record.trials),
            "failed": _describe_failures(failed_trials),
            "stopped": record.stop_reason or None,
            "digest": record.registration_check.digest if record.registration_check else None,
            "page": str(page) if page else None,
        },
    )


def _describe_failures(failed_trials: Sequence[RecordedTrial]) -> list[dict[str, Any]]:
    return [{"arm": trial.arm, "seed": trial.seed, "error": _last_error_line(trial)} for trial in failed_trials]


def _last_error_line(trial: RecordedTrial) -> str:
    error_text = trial.result.error.strip() if trial.result else ""
    return error_text.splitlines()[-1] if error_text else ""


def _unresolved_claims(record: StudyRecord) -> Any:
    from reports.comparison.comparison import unresolved  # loads scipy, which a study without looks does not need

    return unresolved(record)


@click.command(epilog=format_examples("ablate extend depth --seeds 10", "ablate extend depth --seeds 7,8,9"))
@click.argument("name", shell_complete=complete_ablation)
@protocol_option
@click.option("--seeds", type=SeedsParam(), required=True, help="Total number of seeds, or the seeds to add.")
@run_id_option
@settings_options(data_root=True, storage=True, fault_tolerance=True)
@resource_options
@budget_options
@notify_option
@logging_options
@report_option
@json_option
def extend(
    name: str,
    protocol: str,
    seeds: tuple[int, ...],
    run_id: str | None,
    settings: Settings,
    resources: Resources,
    budget: RunBudget,
    notify: str | None,
    logging: LoggingRequest,
    with_report: bool,
    as_json: bool,
) -> None:
    """Add seeds to a recorded study, for all of its arms.

    The study is continued as it was recorded, with the settings that it was run with. The run of another user is
    continued only where --run names it.

    The report says that the study was extended: adding seeds until a claim becomes significant inflates the error
    rate. To be free to add seeds, register interim analyses before the first run, with `ablate run --looks`.
    """
    from studies.records.register import extend_study

    record = reports.read_study(name, protocol, settings, run_id)
    if not (record.is_own or run_id):
        raise click.UsageError(
            f"That run is another's: name it to add seeds to it, with --run {record.run_id}; or start your own with "
            f"`ablate run {name}`, which takes over matching results."
        )
    study = extend_study(name, record.registration, seeds, record.open_seeds)
    further_seeds = {*record.open_seeds} - {*seeds}
    if further_seeds:
        seeds_text = name_seeds(further_seeds, max_seeds=10)
        click.echo(f"trains {seeds_text} as well: registered, but some arms have no result there yet", err=True)
    # Only matching trials are reused: old and new seeds must not differ in code, data or platform.
    _run_study(
        study,
        settings,
        resources,
        "matching",
        with_report,
        record.run_id,
        budget=budget,
        notify=notify,
        logging=logging,
        by_id=bool(run_id),
        as_json=as_json,
    )


COMMANDS = (run, extend)
