"""Command ``ablate judge``: verdicts on a table of results from any trainer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from studies.cli.common.options import format_examples, json_option, settings_options
from studies.cli.common.table_options import JudgeTable, table_options
from studies.console.tables import print_json

if TYPE_CHECKING:
    from studies.settings import Settings


@click.command(
    epilog=format_examples(
        "ablate judge results.csv --baseline A --smallest-effect 0.3 --unit percent",
        'ablate judge results.csv --metric accuracy --claim "B helps over A" --claim "accuracy rises with A, B, C"',
        "ablate judge mlflow:sweep --metric val_loss --arm-column model --tracking-uri http://server:5000",
    )
)
@click.argument("source", metavar="RESULTS")
@table_options
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Folder of the report.  [default: none]"
)
@json_option
@settings_options()
def judge(source: str, judge_table: JudgeTable, output: Path | None, as_json: bool, settings: Settings) -> None:
    """Judge results of any trainer: one row per arm and seed.

    RESULTS is a CSV, TSV, Parquet, JSON or JSON Lines file, or mlflow:EXPERIMENT. Results are paired by seed; intervals
    hold for all claims together. The exit code is 0 whatever the verdicts: `ablate gate` acts on them.
    """
    from reports.pages.judgement import summarize_judgement, verdict_sentence, write_judgement
    from reports.pages.verdict_json import describe_judgement

    judgement = judge_table(source, settings)
    page = write_judgement(judgement, output) if output else None
    if as_json:
        print_json({**describe_judgement(judgement), "page": str(page) if page else None})
        return
    for caution in judgement.table.cautions:
        click.echo(f"note: {caution}")
    if len(judgement.verdicts) > 1:
        click.echo(summarize_judgement(judgement))
    for verdict in judgement.verdicts:
        click.echo(f"{verdict.word}: {verdict_sentence(verdict)}")
    for sentence in judgement.sensitivity:
        click.echo(sentence)
    if page:
        click.echo(str(page))


COMMANDS = (judge,)
