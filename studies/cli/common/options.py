"""Options shared by several commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from studies import protocols
from studies.cli.common.completers import complete_protocol, complete_setting
from studies.cli.common.number_ranges import IntegerRange, NumberRange
from studies.cli.common.parameters import ArmResourcesParam, AutoNumberParam, LooksParam, OverrideParam, SeedsParam
from studies.console.tables import reserve_output
from studies.design.tuning import DEFAULT_NUM_RUNGS, FIRST_TUNING_SEED, PRUNINGS, SAMPLERS, Pruning, Sampler
from studies.execution.resources import REQUEST_FIELDS, Resources
from studies.runner.reuse_plan import REUSE_POLICIES
from studies.settings import CHECKPOINT_INTERVAL_SECONDS, HANG_AFTER_SECONDS, Settings

if TYPE_CHECKING:
    from studies.design.study import Study

MAX_CANDIDATES = 10_000  # per arm
MAX_RUNGS = 20  # each halves the candidates: more rungs would need a million of them

Command = TypeVar("Command", bound=Callable[..., Any])
json_option = click.option(
    "--json", "as_json", is_flag=True, is_eager=True, callback=reserve_output, help="Print JSON instead of tables."
)

protocol_option = click.option(
    "--protocol",
    metavar="NAME",
    shell_complete=complete_protocol,
    default=protocols.DEFAULT_PROTOCOL,
    show_default=True,
    help="Protocol: the conditions that all arms share.",
)

run_id_option = click.option(
    "--run",
    "run_id",
    metavar="RUN_ID",
    help="Run of the study in MLflow, also another user's; its first characters are enough.  "
    "[default: the latest of this runs folder without --set changes, else the latest with them]",
)

reuse_option = click.option(
    "--reuse",
    type=click.Choice(REUSE_POLICIES),
    default="matching",
    show_default=True,
    help="Ended trials to reuse: matching code, data and platform; any code of this package and any platform; or none.",
)

report_option = click.option("--report", "with_report", is_flag=True, help="Compile the report at the end.")

ray_address_option = click.option(
    "--ray-address",
    envvar="RAY_ADDRESS",
    metavar="HOST:PORT",
    help="Ray cluster to run on.  [env var: RAY_ADDRESS; default: this machine]",
)

# Each tuple is in the order in which the help lists its options.
RUNS_OPTIONS = (
    click.option(
        "--runs",
        type=click.Path(),
        help="Runs folder: trials, tracking database and reports.  [env var: ABLATE_RUNS; default: runs]",
    ),
    click.option(
        "--tracking-uri",
        metavar="URI",
        help="MLflow tracking store.  [env var: MLFLOW_TRACKING_URI; default: SQLite in the runs folder]",
    ),
)

DATA_ROOT_OPTION = click.option(
    "--data-root",
    type=click.Path(),
    help="Folder of image data, or the URI to download it from (s3://bucket/folder).  "
    "[env var: ABLATE_DATA_ROOT; default: data]",
)

STORAGE_OPTION = click.option(
    "--storage",
    type=click.Path(),
    help="Folder or object store (s3://bucket/folder) of the trials.  "
    "[env var: ABLATE_STORAGE; default: the runs folder]",
)

FAULT_TOLERANCE_OPTIONS = (
    click.option(
        "--hang-after",
        type=NumberRange(min=0),
        default=HANG_AFTER_SECONDS,
        show_default=True,
        metavar="SECONDS",
        help="Kill and retry a trial that completes no step for this long; 0 for never.",
    ),
    click.option(
        "--checkpoint-every",
        type=NumberRange(min=0),
        default=CHECKPOINT_INTERVAL_SECONDS,
        show_default=True,
        metavar="SECONDS",
        help="Shortest time between two checkpoints of a trial, which are written after an epoch.",
    ),
)

RESOURCE_OPTIONS = (
    ray_address_option,
    click.option(
        "--gpus-per-trial",
        type=AutoNumberParam(NumberRange(min=0)),  # a float, since several trials may share a GPU
        default="auto",
        metavar="N",
        help="GPUs of a trial: a share of one (0.5), one, or several with a worker on each.  [default: auto: one if "
        "there is a GPU]",
    ),
    click.option(
        "--bundle-size",
        type=AutoNumberParam(IntegerRange(min=1)),
        default="auto",
        metavar="N",
        help="Seeds of an arm that one process trains at once.  [default: auto: the best number on a GPU, else 1]",
    ),
    click.option(
        "--cpus-per-trial",
        type=IntegerRange(min=1),
        default=1,
        show_default=True,
        metavar="N",
        help="CPU threads of a trial, or of each of its workers.",
    ),
    click.option(
        "--workers-per-trial",
        type=IntegerRange(min=1),
        default=1,
        show_default=True,
        metavar="N",
        help="Data-parallel worker processes of a trial, each with its shard of every batch.",
    ),
    click.option(
        "--max-concurrent",
        type=IntegerRange(min=0),
        default=0,
        metavar="N",
        help="Maximum number of trials at once.  [default: as many as fit]",
    ),
    click.option(
        "--for-arm",
        type=ArmResourcesParam(),
        multiple=True,
        help="Resources of one arm's trials instead of those above; repeatable.",
    ),
)

LOGGING_OPTIONS = (
    click.option("--log-models", is_flag=True, help="Log the trained networks to MLflow as PyTorch models."),
    click.option(
        "--system-metrics",
        is_flag=True,
        help="Log the load of this machine to the study's run: processor, memory, disk, network, GPUs.",
    ),
)

STUDY_OPTIONS = (
    protocol_option,
    click.option(
        "--seeds",
        type=SeedsParam(),
        help="Number of seeds, such as 5, or the seeds themselves, such as 0,1,7 (one alone: 7,); the same for every "
        "arm.  "
        "[default: the protocol's]",
    ),
    click.option(
        "--set",
        "overrides",
        type=OverrideParam(),
        shell_complete=complete_setting,
        multiple=True,
        help="Setting to change for all arms, such as recipe.epochs=5; repeatable.",
    ),
    click.option(
        "--tune",
        type=IntegerRange(0, MAX_CANDIDATES),
        default=0,  # no tuning
        metavar="N",
        help="Also tune every arm's recipe: number of candidates per arm, compared on validation data.",
    ),
    click.option(
        "--space",
        multiple=True,
        shell_complete=complete_setting,
        metavar="PATH=LOW..HIGH",
        help="Setting to tune and its range: log-uniform, :linear for uniform, x0.2..x5 for multiples of the shared "
        "value, or PATH=a,b,c for a choice; repeatable.  [default: learning rate and weight decay]",
    ),
    click.option(
        "--sampler",
        type=click.Choice(SAMPLERS),
        default="random",
        show_default=True,
        help="How candidates are sampled from the search space.",
    ),
    click.option(
        "--pruning",
        type=click.Choice(PRUNINGS),
        default="none",
        show_default=True,
        help="How candidates are pruned; successive halving gives every arm the same trials and epochs.",
    ),
    click.option(
        "--rungs",
        type=IntegerRange(2, MAX_RUNGS),
        default=DEFAULT_NUM_RUNGS,
        show_default=True,
        metavar="N",
        help="Rungs of successive halving, each with half the candidates and twice the epochs.",
    ),
    click.option(
        "--tuning-seeds",
        type=SeedsParam(),
        help=f"Seeds of the candidates, apart from those of the comparison.  [default: {FIRST_TUNING_SEED}]",
    ),
    click.option(
        "--looks",
        type=LooksParam(),
        default=(),
        metavar="3,5,10",
        help="Interim analyses: numbers of seeds after which the study stops if every claim is resolved; they share "
        "the error rate.",
    ),
)


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """A study as requested on the command line, as text where only its ablation knows the type.

    Attributes:
        tune: candidates per arm; 0 for no tuning.
        space: search-space dimensions as text; empty for the default space.
        looks: numbers of seeds after which there is an interim analysis.
    """

    protocol: str
    seeds: tuple[int, ...] | None
    overrides: tuple[tuple[str, str], ...]
    tune: int
    space: tuple[str, ...]
    sampler: Sampler
    pruning: Pruning
    rungs: int
    tuning_seeds: tuple[int, ...] | None
    looks: tuple[int, ...]

    def require_consistent(self) -> None:
        """Refuse options that would have no effect.

        Raises:
            click.UsageError: if an option of tuning is given without tuning.
        """
        # Refused rather than ignored: whoever gives one without --tune believes that the study is tuned.
        has_tuning_options = self.space or self.tuning_seeds or self.pruning != "none" or self.sampler != "random"
        if has_tuning_options and not self.tune:
            raise click.UsageError("--space, --sampler, --pruning and --tuning-seeds need --tune N.")
        if self.rungs != DEFAULT_NUM_RUNGS and self.pruning != "halving":
            raise click.UsageError("--rungs needs --pruning halving.")

    def declare_study(self, name: str) -> Study:
        """Declare the study of an ablation under these options."""
        from studies.design.declare import declare, declare_tuning

        overrides = dict(self.overrides)
        tuning = None
        if self.tune:
            tuning = declare_tuning(
                name,
                self.protocol,
                overrides,
                trials=self.tune,
                space=self.space,
                sampler=self.sampler,
                pruning=self.pruning,
                rungs=self.rungs,
                seeds=self.tuning_seeds,
            )
        return declare(name, self.protocol, self.seeds, overrides, tuning, self.looks)


class LoggingRequest(NamedTuple):
    """What is asked for to be logged beside the trials."""

    log_models: bool = False
    system_metrics: bool = False


NOTHING_BESIDE_TRIALS = LoggingRequest()


def study_options(command: Command) -> Command:
    """Add the options that declare a study; the command receives them as ``options``."""
    names = [field.name for field in fields(StudyOptions)]

    @wraps(command)
    def call_command(**values: Any) -> Any:
        options = StudyOptions(**{name: values.pop(name) for name in names})
        options.require_consistent()
        return command(options=options, **values)

    decorated: Command = _add_options(call_command, STUDY_OPTIONS)
    return decorated


def resource_options(command: Command) -> Command:
    """Add the options of a trial's resources; the command receives them as ``resources``."""
    names = (*REQUEST_FIELDS.values(), "bundle_size", "max_concurrent")

    @wraps(command)
    def call_command(for_arm: Any, ray_address: str | None, **values: Any) -> Any:
        request = {name: values.pop(name) for name in names}
        resources = Resources(address=ray_address or "", **request)
        for arm, arm_request in for_arm:
            resources = resources.for_arm(arm, **arm_request)
        return command(resources=resources, **values)

    decorated: Command = _add_options(call_command, RESOURCE_OPTIONS)
    return decorated


def logging_options(command: Command) -> Command:
    """Add the options of what is logged beside the trials; the command receives them as ``logging``."""

    @wraps(command)
    def call_command(log_models: bool, system_metrics: bool, **values: Any) -> Any:
        return command(logging=LoggingRequest(log_models=log_models, system_metrics=system_metrics), **values)

    decorated: Command = _add_options(call_command, LOGGING_OPTIONS)
    return decorated


def settings_options(
    *, data_root: bool = False, storage: bool = False, fault_tolerance: bool = False
) -> Callable[[Command], Command]:
    """Add the options of folders and stores; the command receives them as ``settings``.

    Args:
        data_root: whether the command reads image data.
        storage: whether it reads or writes trial folders.
        fault_tolerance: whether it trains.
    """
    options = [*RUNS_OPTIONS]
    if storage:
        options.append(STORAGE_OPTION)
    if data_root:
        options.append(DATA_ROOT_OPTION)
    if fault_tolerance:
        options += FAULT_TOLERANCE_OPTIONS

    def decorate(command: Command) -> Command:
        @wraps(command)
        def call_command(
            runs: str | None,
            tracking_uri: str | None,
            # These have defaults, since not every command has their options.
            data_root: str | None = None,
            storage: str | None = None,
            hang_after: float = HANG_AFTER_SECONDS,
            checkpoint_every: float = CHECKPOINT_INTERVAL_SECONDS,
            **values: Any,
        ) -> Any:
            # An option precedes its environment variable, which precedes the default.
            settings = replace(
                Settings.from_environment(runs, data_root, tracking_uri, storage),
                hang_after_seconds=hang_after,
                checkpoint_seconds=checkpoint_every,
            )
            return command(settings=settings, **values)

        decorated: Command = _add_options(call_command, options)
        return decorated

    return decorate


def format_examples(*commands: str) -> str:
    r"""The epilog of a command's help; ``\b`` keeps click from rewrapping the lines."""
    return "\b\n" + "\n  ".join(("Examples:" if len(commands) > 1 else "Example:", *commands))


def _add_options(command: Any, options: Sequence[Callable[[Any], Any]]) -> Any:
    for option in reversed(options):  # the last decorator that is applied comes first in the help
        command = option(command)
    return command
