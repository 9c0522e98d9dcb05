"""Command ``ablate gate``: an exit code by verdict, for pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from studies.cli.common.completers import complete_study
from studies.cli.common.options import format_examples, json_option, protocol_option, run_id_option, settings_options
from studies.cli.common.table_options import TABLE_PARAMETERS, JudgeTable, table_options
from studies.cli.reporting.reports import compare_study, read_study
from studies.console.tables import print_json

if TYPE_CHECKING:
    from studies.settings import Settings

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".json", ".jsonl", ".ndjson")


@click.command(
    epilog=format_examples(
        "ablate gate depth",
        'ablate gate results.csv --claim "new helps over old" --smallest-effect 0.2 --accept equivalent',
    )
)
@click.argument("source", metavar="NAME|RESULTS", shell_complete=complete_study)
@protocol_option
@table_options
@click.option(
    "--accept", type=click.Choice(["equivalent"]), help="Pass where two arms are practically equivalent as well."
)
@run_id_option
@json_option
@settings_options()
def gate(
    source: str,
    protocol: str,
    judge_table: JudgeTable,
    accept: str | None,
    run_id: str | None,
    as_json: bool,
    settings: Settings,
) -> None:
    """Print the worst verdict in one line, with an exit code for it.

    Judges a recorded study, or a table of results as `ablate judge` does. What to know before the verdict is used,
    such as an arm that fails now and then, is printed to standard error.

    \b
    Exit codes:
       0  supported, or accepted
      10  contradicted
      11  practically equivalent
      20  inconclusive: more seeds are needed
      30  not judged: one seed, nothing trained, no claim, or a registration that does not match
       2  wrong usage or unreadable results; 1 any other error
    """  # noqa: D301 - click keeps the lines of a paragraph that begins with a backspace
    from reports.pages.gate_outcome import gate_comparison, gate_judgement
    from reports.pages.verdict_json import describe_gate

    accept_equivalent = accept == "equivalent"
    if is_table(source):
        if run_id:
            raise click.UsageError("--run is a run of a study, and a table of results has none.")
        outcome = gate_judgement(judge_table(source, settings), accept_equivalent=accept_equivalent)
    else:
        _refuse_table_options(source)
        record = read_study(source, protocol, settings, run_id)
        comparison = compare_study(source, record, settings)
        outcome = gate_comparison(record, comparison, accept_equivalent=accept_equivalent)
    if as_json:
        print_json(describe_gate(outcome, source))
    else:
        click.echo(outcome.sentence)
        for caution in outcome.cautions:
            click.echo(f"caution: {caution}", err=True)
    click.get_current_context().exit(outcome.exit_code)


def _refuse_table_options(study: str) -> None:
    """Refuse options of a table where a study is judged: its registration holds what they would say.

    Raises:
        click.UsageError: naming those that were given.
    """
    context = click.get_current_context()
    given: list[str] = []
    for parameter in context.command.params:
        is_of_tables = parameter.name in TABLE_PARAMETERS
        if is_of_tables and context.get_parameter_source(parameter.name or "") == ParameterSource.COMMANDLINE:
            given.append(parameter.opts[0])
    if given:
        raise click.UsageError(
            f"{', '.join(given)}: only for a table of results; {study} is a study, whose claims, baseline and smallest "
            "effect are registered."
        )


def is_table(source: str) -> bool:
    """Whether a source names a table of results rather than a study: a study's file is its ablation or its archive."""
    path = Path(source)
    suffix = path.suffix.lower()
    is_other_file = suffix not in ("", ".py", ".zip") and path.is_file()
    return source.startswith("mlflow:") or suffix in TABLE_SUFFIXES or is_other_file


COMMANDS = (gate,)
