"""Run a study: prepare, register, complete its stages, and read it back."""

from __future__ import annotations

import os
import sys
from _thread import interrupt_main
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lightning_modules.specs.errors import InvalidValue
from lightning_modules.specs.notebook_html import render_one_line_error
from lightning_modules.specs.setup import Setup
from lightning_modules.specs.text import name_seeds
from lightning_modules.specs.values import Leaf
from studies import protocols
from studies.design.budget import NO_BUDGET, RunBudget
from studies.design.declare import declare
from studies.design.study import make_trials
from studies.design.trial import Trial
from studies.design.tuning import TuningBudget
from studies.execution.cluster import prestart
from studies.execution.interrupts import before_late_end
from studies.execution.resources import Resources
from studies.records.study_record import StudyRecord
from studies.runner.context import StudyContext, prepare_study
from studies.runner.limits.durations import TrialDurations
from studies.runner.limits.gate import BudgetExhausted, BudgetGate
from studies.runner.recorder import tuned_placement
from studies.runner.reuse_plan import ReusePolicy
from studies.runner.stage import StageRunner
from studies.runner.study_closing import StudyClosing
from studies.runner.study_run import (
    StudyRun,
    count_visible_results,
    describe_claim_changes,
    describe_declared_changes,
    describe_setting_changes,
    take_up_registration,
)
from studies.runner.trial_store import TrialStore
from studies.settings import Settings
from studies.storage.lease import Lease
from studies.storage.manifest import fetch_plan, hold_study_lease
from studies.storage.study_status import mark_stopped
from studies.tracking.errors import report_store_outage
from studies.tracking.interface.findings import TRIALS_ALONE, LoggingOptions
from studies.tracking.interface.system_metrics import monitor_system, require_system_metrics

UnresolvedClaims = Callable[[StudyRecord], Sequence[str]]  # sentences of the claims that a record leaves open


class StudyInterrupted(KeyboardInterrupt):
    """A Ctrl-C, or an interrupt of a notebook's kernel, ended a study in order: its ended trials are logged."""

    def _render_traceback_(self) -> list[str]:
        return render_one_line_error(self)


def run(
    name: str,
    protocol: str = protocols.DEFAULT_PROTOCOL,
    *,
    seeds: int | Sequence[int] | None = None,
    overrides: Mapping[str, Leaf] | None = None,
    data_root: str | Path | None = None,
    runs: str | Path | None = None,
    tracking_uri: str | None = None,
    storage: str | Path | None = None,
    resources: Resources | None = None,
    reuse: ReusePolicy = "matching",
    tuning: TuningBudget | int | None = None,
    looks: Sequence[int] = (),
    unresolved: UnresolvedClaims | None = None,
    budget: RunBudget = NO_BUDGET,
    logging: LoggingOptions = TRIALS_ALONE,
    quiet: bool = False,
    say: Callable[[str], None] | None = None,
) -> StudyRecord:
    """Run what is left of a study, and return it as recorded. Results are cached: a second call trains nothing.

    Args:
        name: of an ablation, or the path of its file (``./my_ablation.py``).
        protocol: the conditions that all arms share, by name.
        seeds: how many, or which; the same for every arm; the protocol's own by default.
        overrides: values by dotted path, applied to every arm alike.
        data_root: folder of image data, or the URI to download it from.
        runs: runs folder: trials, tracking database and reports.
        tracking_uri: MLflow tracking store; by default SQLite in the runs folder.
        storage: folder or object store of the trials; by default the runs folder.
        resources: what each trial takes, and where trials run; by default one core each, on this machine or on the
            cluster at ``RAY_ADDRESS``.
        reuse: which ended trials are reused; see :func:`studies.runner.reuse_plan.plan_trials`.
        tuning: budget to tune every arm's recipe, in addition to the comparison under the shared one; or a number of
            candidates.
        looks: numbers of seeds of interim analyses; the study stops at the first that resolves its claims.
        unresolved: claims that a record leaves open: ``reports.unresolved``. Required with ``looks``.
        budget: what this call may spend: it stops before the first seed that is not expected to end within it, and the
            last of the record's ``starts`` has the reason; the next call resumes, with a budget of its own.
        logging: what is logged beside the trials: ``LoggingOptions(find=describe_findings)`` for what the study found.
        quiet: show no progress.
        say: takes one line of output at a time; ``print`` by default.

    Raises:
        ValueError: for an invalid declaration; the text names the value, what is expected and what to do.
        TrackingError: if the tracking store does not answer.
        StudyInterrupted: after a Ctrl-C (a ``KeyboardInterrupt``); ended trials are recorded, and the next call resumes
            from there.
    """
    study = declare(name, protocol, seeds, overrides, tuning, looks)
    settings = Settings.from_environment(runs, data_root, tracking_uri, storage)
    resources = resources or Resources(address=os.environ.get("RAY_ADDRESS", ""))
    log = say or (_discard_line if quiet else _print_line)
    try:
        with prestart.prestart_ray(study, settings, resources):
            context = prepare_study(study, settings, resources, log)
            return run_study(context, reuse, unresolved=unresolved, budget=budget, logging=logging, quiet=quiet)
    except KeyboardInterrupt:
        raise StudyInterrupted("ended trials are logged; the same call resumes from there.") from None


def run_study(
    context: StudyContext,
    reuse: ReusePolicy = "matching",
    *,
    unresolved: UnresolvedClaims | None = None,
    budget: RunBudget = NO_BUDGET,
    logging: LoggingOptions = TRIALS_ALONE,
    quiet: bool = False,
    resumed_run: str = "",
) -> StudyRecord:
    """Run what is left of a prepared study, and return it as recorded.

    Args:
        unresolved: claims that a record leaves open; required for a study with interim analyses.
        budget: what this start may spend.
        logging: what is logged beside the trials.
        resumed_run: id of the study's run that this start must continue; empty where it may be a new one.

    Raises:
        SettingsError: if another process runs the same study under the same conditions.
        TrackingError: if the store fails while the study is planned or ends; while trials run, logging is deferred.
        InvalidValue: without ``unresolved`` where it is required, if the study's conditions differ from those of
            the resumed run, or for a budget of GPU hours where no trial takes a GPU.
    """
    _require_possible_start(context, unresolved, budget, logging)
    with _hold_study(context) as lease:
        if resumed_run:
            _require_same_conditions(context, resumed_run)
        study_run = _register_study(context, resumed_run, options=logging)
        closing = StudyClosing(study_run, lease)
        complete = False
        try:
            with before_late_end(closing.close_late):
                _train_study(study_run, budget, unresolved, reuse, quiet=quiet)
            complete = True
        finally:
            # Also after an error or a Ctrl-C: what has ended is packed, and no run is left open. But a process that was
            # suspended for long may find that another one runs the study now: its runs are not to be closed.
            closing.close(complete=complete)
        record = study_run.read_record()
        if not closing.is_closed_late:  # then the lease is released, and this process is being ended
            study_run.log_final_findings(record)
        return record


def _require_possible_start(
    context: StudyContext, unresolved: UnresolvedClaims | None, budget: RunBudget, logging: LoggingOptions
) -> None:
    if len(context.study.seed_stages) > 1 and unresolved is None:
        raise InvalidValue(
            "a study with interim analyses stops when its claims are resolved: pass unresolved=reports.unresolved."
        )
    budget.require_gpus(takes_gpus=context.resources.device == "cuda")
    if logging.system_metrics:
        require_system_metrics()


@contextmanager
def _hold_study(context: StudyContext) -> Iterator[Lease]:
    """Hold a study's lease, with its plan as the object store has it; a store that does not answer is a short error."""
    # The lease is held until the study is read back: two drivers would log every trial twice.
    with (
        hold_study_lease(context.study_folder, context.study.name, on_lost=interrupt_main) as lease,
        report_store_outage(context.settings.tracking_uri),
    ):
        if context.object_store:
            with context.object_store.as_settings_errors():
                fetch_plan(context.object_store.remote_study(context.study_folder), may_upload=True)
        yield lease


def _train_study(
    study_run: StudyRun, budget: RunBudget, unresolved: UnresolvedClaims | None, reuse: ReusePolicy, *, quiet: bool
) -> None:
    """Run what is left of a registered study, and log what else was asked for."""
    options = study_run.options
    with ExitStack() as exit_stack:
        if options.system_metrics:
            exit_stack.enter_context(monitor_system(study_run.run_id, study_run.context.settings.tracking_uri))
        _run_within_budget(study_run, budget, unresolved, exit_stack, reuse, quiet=quiet)
    prestart.release_ray()  # Ray takes a second to end, which overlaps with the final writes
    if options.log_models:
        study_run.log_models()


def register_study(context: StudyContext, *, amend: bool = False) -> StudyRecord:
    """Register a prepared study without training it, and return it as recorded.

    Args:
        amend: whether to replace a registration that is there by what is declared today; its seeds are added to.

    Raises:
        SettingsError: if a process runs the study.
        InvalidValue: if it is registered otherwise, without ``amend``.
    """
    study, store = context.study, context.store
    with _hold_study(context):
        status = store.inspector.run_status(study.name, context.conditions) or "SCHEDULED"
        study_run = _register_study(context, "", amend=amend, is_start=False)
        # Registering reopens the run, which nothing will close: no trial is started.
        store.writer.set_run_status(study_run.run_id, status)
        registration = study_run.context.registration
        kept_seeds = {*registration.seeds} - {*context.registration.seeds}
        if kept_seeds and not registration.looks:  # else its analyses have added seeds by themselves
            context.log(
                f"{study.name} stays registered with {name_seeds(kept_seeds, max_seeds=10)} as well: seeds are added "
                "to a registration, and never removed from it"
            )
        changes = describe_declared_changes(context, registration)
        if changes:
            raise InvalidValue(
                f"{study.name} is registered otherwise, and its claims are judged as they were registered. Declared "
                f"today: {'; '.join(changes)}. --amend makes that the registration; the report says what was changed, "
                "and after how many results."
            )
        return study_run.read_record()


def _register_study(
    context: StudyContext,
    resumed_run: str,
    *,
    options: LoggingOptions = TRIALS_ALONE,
    amend: bool = False,
    is_start: bool = True,
) -> StudyRun:
    """Register a study, or take up the registration that it has."""
    registration = context.registration
    is_registered = context.store.inspector.is_registered(context.study.name, context.conditions)
    if not (resumed_run or is_registered):
        _tell_runs_of_others(context)
        registration = count_visible_results(context)
        if registration.num_visible:
            context.log(
                f"registered after {registration.num_visible} of {registration.num_planned} results could be seen: "
                "the report says so"
            )
    run_id = context.store.writer.register_study(
        registration, context.conditions, context.tags, is_start=is_start, run_id=resumed_run
    )
    declared, context = context, take_up_registration(context, run_id, amend=amend)
    if is_start:
        for describe_changes in (describe_setting_changes, describe_claim_changes):
            message = describe_changes(declared, context.registration)
            if message:
                context.log(message)
    return StudyRun(context, TrialStore(context), run_id, options)


def _tell_runs_of_others(context: StudyContext) -> None:
    """Say that other users of the store run the same study: theirs are left alone, and nobody wonders about two."""
    for study in context.store.reader.list_studies():
        if (study.study, study.conditions) == (context.study.name, context.conditions) and not study.is_own:
            context.log(
                f"the tracking store has a run of {study.study} under the same conditions that another runs folder "
                f"started: {study}. It is left as it is; this start gets its own, and takes over matching results."
            )


def _require_same_conditions(context: StudyContext, resumed_run: str) -> None:
    """Refuse to resume a study whose arms, protocol or data have changed since it was recorded."""
    conditions_by_run = {study.run_id: study.conditions for study in context.store.reader.list_studies()}
    if conditions_by_run.get(resumed_run) != context.conditions:
        raise InvalidValue(
            f"{context.study.name} is recorded under other conditions than its file and data give today: its arms, "
            "its protocol or the data have changed since, so that new seeds would not be paired with the old ones. "
            "Start it anew with `ablate run`."
        )


def _run_within_budget(
    study_run: StudyRun,
    budget: RunBudget,
    unresolved: UnresolvedClaims | None,
    exit_stack: ExitStack,
    reuse: ReusePolicy,
    *,
    quiet: bool,
) -> None:
    """Run the stages until they are complete, or the budget has no room for a further seed; then say so."""
    context = study_run.context
    gate = make_gate(context, budget)
    study_run.budget = budget if budget.is_limited else None
    try:
        _run_stages(study_run, StageRunner(study_run, exit_stack, reuse, gate, quiet=quiet), unresolved)
    except BudgetExhausted as stop:
        study_run.stop_reason = str(stop)
        mark_stopped(context.study_folder, study_run.stop_reason)
        context.log(study_run.stop_reason)
    finally:
        study_run.gpu_hours = gate.spent.gpu_hours


def make_gate(context: StudyContext, budget: RunBudget = NO_BUDGET) -> BudgetGate:
    """Make the gate of a start: it admits trials as long as the budget lasts."""
    resources = context.resources
    return BudgetGate(
        budget,
        context.started_at,
        TrialDurations(lambda trial: _estimate_seconds(trial, resources)),
        lambda job: resources.request_of(job.trial.arm).gpus_per_trial,
        resources.max_concurrent,
        context.log,
        study_folder=context.study_folder,
    )


def _estimate_seconds(trial: Trial, resources: Resources) -> float:
    from studies.runner.limits.trial_estimate import estimate_seconds  # needed for trials of unknown time alone

    return estimate_seconds(trial, resources)


def _run_stages(study_run: StudyRun, stage_runner: StageRunner, unresolved: UnresolvedClaims | None) -> None:
    """Train stage by stage: the arms under the shared recipe, and under their own where they are tuned."""
    study = study_run.context.study
    shared_setups = study.setups()
    tuned_setups: dict[str, Setup] = {}
    for number, seeds in enumerate(study.seed_stages):
        study_run.add_seeds(seeds)
        shared_trials = make_trials(shared_setups, seeds)
        if study.tuning and number == 0:
            from studies.runner.tuning_stage import TuningStage  # loads Optuna, which few studies need

            tuned_setups = TuningStage(study_run, stage_runner, study.tuning).tune_arms(shared_trials)
        tuned_trials = []
        for trial in make_trials(tuned_setups, seeds):
            if trial.setup != shared_setups.get(trial.arm):  # else it is trained under the shared recipe already
                study_run.place_trial(trial, tuned_placement(trial, study_run.run_id))
                tuned_trials.append(trial)
        stage_runner.complete_trials((*shared_trials, *tuned_trials))
        if unresolved and number + 1 < len(study.seed_stages):
            open_claims = unresolved(study_run.read_record())
            study_run.context.log(_describe_interim_analysis(number, study.seed_stages, open_claims))
            if not open_claims:
                return


def _describe_interim_analysis(stage_index: int, stages: Sequence[Sequence[int]], open_claims: Sequence[str]) -> str:
    analysis = f"interim analysis {stage_index + 1} of {len(stages)}, after {len(stages[stage_index])} seeds"
    if not open_claims:
        return f"{analysis}: every claim is resolved"
    claims = " ".join(open_claims)
    return f"{analysis}: {len(open_claims)} open, continuing to {len(stages[stage_index + 1])} seeds ({claims})"


def _print_line(line: str) -> None:
    sys.stdout.write(line + "\n")


def _discard_line(line: str) -> None:
    del line
