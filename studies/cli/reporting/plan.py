"""Command ``ablate plan``: how many seeds a question takes, and what they cost."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from studies.cli.common.budget_options import planned_budget_options
from studies.cli.common.completers import complete_ablation
from studies.cli.common.number_ranges import NumberRange
from studies.cli.common.options import (
    StudyOptions,
    format_examples,
    json_option,
    run_id_option,
    settings_options,
    study_options,
)
from studies.cli.reporting.reports import read_study
from studies.console.tables import print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lightning_modules.specs.values import Leaf
    from reports.pages.seed_plan import SeedPlan
    from studies.design.budget import RunBudget
    from studies.design.study import Study
    from studies.records.study_record import StudyRecord
    from studies.settings import Settings


@click.command(
    epilog=format_examples(
        "ablate plan depth",
        "ablate plan depth --difference 0.3 --spread 0.4",
        "ablate plan depth --equivalence 0.5",
        "ablate plan depth --max-time 3h",
    )
)
@click.argument("name", shell_complete=complete_ablation)
@study_options
@click.option(
    "--difference",
    type=NumberRange(min=0, min_open=True),
    metavar="POINTS",
    help="True difference in test error to detect, percentage points.",
)
@click.option(
    "--equivalence",
    type=NumberRange(min=0, min_open=True),
    metavar="POINTS",
    help="Margin within which two equal arms are to be shown equivalent, percentage points.",
)
@click.option(
    "--power",
    type=NumberRange(0.5, 0.99),
    default=0.8,
    show_default=True,
    metavar="P",
    help="Probability of detecting the difference, or of showing the equivalence.",
)
@click.option(
    "--spread",
    type=NumberRange(min=0, min_open=True),
    metavar="POINTS",
    help="SD of a paired difference, percentage points.  [default: the calibration's or the recorded study's]",
)
@planned_budget_options
@click.option(
    "--gpus-per-trial",
    type=NumberRange(min=0),
    metavar="N",
    help="GPUs of a trial of the planned run.  [default: as in the recorded study, else as `ablate run` takes]",
)
@run_id_option
@settings_options()
@json_option
def plan(
    name: str,
    options: StudyOptions,
    difference: float | None,
    equivalence: float | None,
    power: float,
    spread: float | None,
    budget: RunBudget,
    gpus_per_trial: float | None,
    run_id: str | None,
    settings: Settings,
    as_json: bool,
) -> None:
    """Plan how many seeds a question takes, and what they cost.

    The noise is that of `ablate calibrate`, or of the recorded study, taken as a pilot, whichever has more seeds; or a
    --spread that you state. Without --difference and --equivalence, both are planned for the protocol's smallest effect
    of interest.

    With a budget (--max-time, --max-gpu-hours, --max-cost) it also counts the whole seeds that `ablate run` with the
    same budget is expected to train, and says which differences they can detect.

    NAME is an ablation, or the path of its file: ./my_ablation.py.
    """
    from reports.calibration.recorded_trainings import read_calibration
    from reports.comparison.seed_planning import plan_seeds
    from reports.pages.seed_plan import SeedPlan, estimate_arm_seconds, estimate_trial

    study = options.declare_study(name)

    def read_recorded(recorded_name: str) -> StudyRecord:
        return read_study(recorded_name, study.protocol.name, settings, overrides=study.overrides)

    # A spread that is stated replaces the noise that was measured; an id names the run whose noise is meant.
    seed_plan = plan_seeds(
        study,
        _read_pilot(name, study, settings, run_id, for_noise=not spread),
        calibration=None if spread or run_id else read_calibration(study.name, study.overrides, read_recorded),
        standard_deviation=spread,
        difference=difference,
        equivalence=equivalence,
        power=power,
        num_seeds=len(study.seeds) if options.seeds else None,
        gpus_per_trial=gpus_per_trial,
        budget=budget,
        estimate_trial=estimate_trial,
        # Called only where no pilot has recorded its times.
        estimate_arm_seconds=lambda: estimate_arm_seconds(study, partial(click.echo, err=True)),
    )
    if as_json:
        print_json(seed_plan)
        return
    print_plan(SeedPlan.of_data(seed_plan), click.echo, print_table)


def print_plan(plan: SeedPlan, log: Callable[[str], None], print_table: Callable[..., None]) -> None:
    """Print the noise, the seeds per question with their cost, and what the seeds at hand can detect."""
    # First what the plan rests on: with another noise, all numbers below are others.
    log(f"noise    {plan.noise_line}")
    log(f"family   {plan.family_line}")
    if plan.budget_line:
        log(f"budget   {plan.budget_line}")
    log("")
    print_table(plan.header, plan.rows)
    for note in plan.notes:
        log(note)


def _read_pilot(
    name: str, study: Study, settings: Settings, run_id: str | None, *, for_noise: bool
) -> StudyRecord | None:
    """The recorded study; ``None`` where there is none, and none was asked for by its id.

    Args:
        for_noise: whether its noise is used, and not its seeds and times alone: these are of the same settings.
    """
    from studies.tracking.errors import TrackingError

    try:
        pilot = read_study(name, study.protocol.name, settings, run_id, study.overrides)
    except TrackingError:
        if run_id:
            raise
        return None
    # Other settings, such as fewer epochs, may have other noise.
    recorded = pilot.registration.overrides
    if recorded != study.overrides and not for_noise:
        return None
    if recorded != study.overrides:
        click.echo(
            f"note: the noise is that of a run {_describe_overrides(recorded)}; planned is a study "
            f"{_describe_overrides(study.overrides)}",
            err=True,
        )
    return pilot


def _describe_overrides(overrides: Mapping[str, Leaf]) -> str:
    if not overrides:
        return "without --set"
    return "with " + " ".join(f"--set {path}={value}" for path, value in overrides.items())


COMMANDS = (plan,)
