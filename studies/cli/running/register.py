"""Command ``ablate register``: register a study before it is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from studies.cli.common.completers import complete_ablation
from studies.cli.common.interim_options import interim_options
from studies.cli.common.options import StudyOptions, format_examples, json_option, settings_options, study_options
from studies.console.tables import print_result

if TYPE_CHECKING:
    from studies.settings import Settings


@click.command(epilog=format_examples("ablate register depth --seeds 8", "ablate register depth --amend"))
@click.argument("name", shell_complete=complete_ablation)
@study_options
@interim_options
@settings_options(data_root=True, storage=True)
@click.option(
    "--amend",
    is_flag=True,
    help="Register what is declared today in place of what is registered; seeds are added, and none is removed.",
)
@json_option
def register(name: str, options: StudyOptions, settings: Settings, amend: bool, as_json: bool) -> None:
    """Register a study before it is trained, and print its digest.

    What is registered: question, arms and settings, claims, smallest effect, seeds and interim analyses, and the data.
    The same declaration has the same digest on any machine: publish it, commit it or mail it, and anybody can compare
    it with the one in the report. `ablate run` registers a study that is not registered yet.

    NAME is an ablation, or the path of its file: ./my_ablation.py.
    """
    from reports.pages.verdict_json import describe_registration
    from studies.execution.resources import Resources
    from studies.runner.context import prepare_study
    from studies.runner.driver import register_study

    context = prepare_study(options.declare_study(name), settings, Resources(), lambda line: click.echo(line, err=True))
    check = register_study(context, amend=amend).registration_check
    assert check is not None
    study, protocol = context.study.name, context.study.protocol.name
    if as_json:
        print_result("registration", {"study": study, "protocol": protocol, **describe_registration(check)})
        return
    click.echo(f"{study} under {protocol}: {check.finding}")
    for mismatch in check.mismatches:
        click.echo(f"does not match: {mismatch}")
    click.echo(f"digest {check.digest}")


COMMANDS = (register,)
