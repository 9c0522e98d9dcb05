"""Options that describe a table of results."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from studies.cli.common.number_ranges import NumberRange

if TYPE_CHECKING:
    from reports.external.judgement import Judgement
    from studies.settings import Settings

Command = Callable[..., Any]
JudgeTable = Callable[[str, "Settings"], "Judgement"]

TABLE_OPTIONS = (
    click.option(
        "--baseline",
        default="",
        metavar="ARM",
        help="Arm to compare with.  [default: one named baseline, control, reference or vanilla, else the first]",
    ),
    click.option("--metric", default="", metavar="COLUMN", help="Column of the metric, if there are several."),
    click.option("--arm-column", default="", metavar="COLUMN", help="Column of the arms.  [default: arm, model, …]"),
    click.option("--seed-column", default="", metavar="COLUMN", help="Column of the seeds.  [default: seed, …]"),
    click.option(
        "--higher-is-better/--lower-is-better",
        "higher_is_better",
        default=None,
        help="Direction of an improvement.  [default: by the metric's name]",
    ),
    click.option(
        "--smallest-effect",
        type=NumberRange(min=0),
        default=0.0,
        metavar="X",
        help="Smallest difference of interest, in the unit of the values; without it, nothing is equivalent.",
    ),
    click.option(
        "--claim",
        "claims",
        multiple=True,
        metavar="TEXT",
        help='What to judge, such as "B helps over A"; repeatable.  [default: every arm helps over the baseline]',
    ),
    click.option(
        "--unit",
        type=click.Choice(["percent", "fraction"]),
        help="Unit of the values: 0 to 100 percent, or a fraction of 0 to 1. Printed as they are.",
    ),
    click.option(
        "--resolution",
        type=NumberRange(min=0),
        metavar="X",
        help="Smallest step between two values, such as 0.01 for percentages of 10,000 images.  "
        "[default: how the values are rounded]",
    ),
    click.option(
        "--chosen-without-test",
        is_flag=True,
        help="State that each run's best value was chosen on other data than the test set, such as a validation set.",
    ),
)

# Names of the values of these options.
TABLE_PARAMETERS = (
    "metric",
    "arm_column",
    "seed_column",
    "baseline",
    "higher_is_better",
    "smallest_effect",
    "claims",
    "unit",
    "resolution",
    "chosen_without_test",
)


def table_options(command: Command) -> Command:
    """Add the options of a table of results; the command receives a function ``judge_table`` of a source."""

    @wraps(command)
    def call_command(
        baseline: str,
        metric: str,
        arm_column: str,
        seed_column: str,
        higher_is_better: bool | None,
        smallest_effect: float,
        claims: tuple[str, ...],
        unit: str | None,
        resolution: float | None,
        chosen_without_test: bool,
        **values: Any,
    ) -> Any:
        def judge_table(source: str, settings: Settings) -> Judgement:
            from reports.external.judgement import judge
            from reports.external.results_columns import Columns
            from reports.external.results_file import read_results

            return judge(
                read_results(source, settings),
                baseline=baseline,
                claims=claims,
                columns=Columns(arm=arm_column, seed=seed_column, metric=metric),
                higher_is_better=higher_is_better,
                smallest_effect=smallest_effect,
                unit=unit or "",  # type: ignore[arg-type]  # click has checked it
                resolution=resolution,
                chosen_without_test=chosen_without_test,
                source=source,
            )

        return command(judge_table=judge_table, **values)

    for option in reversed(TABLE_OPTIONS):
        call_command = option(call_command)
    return call_command
