"""Command that checks an ablation without training it: check."""

from __future__ import annotations

import shlex
import sys

import click

from lightning_modules.specs.text import format_count
from studies import protocols
from studies.cli.common.completers import complete_ablation, complete_setting
from studies.cli.common.errors import EXIT_FAILURE
from studies.cli.common.options import format_examples, json_option, protocol_option, settings_options
from studies.cli.common.parameters import OverrideParam
from studies.console.tables import print_result
from studies.settings import Settings


@click.command(
    epilog=format_examples(
        "ablate check ./my_ablation.py",
        "ablate check ./my_ablation.py --protocol cifar10 --data-root /data",
        "ablate check ./my_ablation.py --json",
    )
)
@click.argument("name", shell_complete=complete_ablation)
@protocol_option
@click.option(
    "--set",
    "overrides",
    type=OverrideParam(),
    shell_complete=complete_setting,
    multiple=True,
    help="Value of a setting in every arm, such as recipe.epochs=5; repeatable.",
)
@settings_options(data_root=True)
@json_option
def check(name: str, protocol: str, overrides: tuple[tuple[str, str], ...], settings: Settings, as_json: bool) -> None:
    """Check an ablation, without training it.

    NAME is the path of a file (./my_ablation.py), or an ablation's name. Prints a line per finding: whether the file
    can be read, what each arm changes, whether the networks can be built and differ as declared, whether the data are
    there and fit, and whether a batch of every arm runs forward and backward.

    Leaves nothing behind; only where the runs folder has a cache of decoded data, these may be added to it. The exit
    code is 1 if any finding is an error, and 0 otherwise.
    """
    from studies.inspection.ablation_check import check_ablation  # loads torch

    findings = []
    for finding in check_ablation(name, protocol, dict(overrides), settings):
        findings.append(finding)
        if not as_json:  # at once, since networks and data take seconds
            click.echo(finding.text)
    num_errors = sum(finding.level == "error" for finding in findings)
    if as_json:
        rows = [finding.to_json() for finding in findings]
        print_result(
            "check",
            {
                "name": name,
                "protocol": protocol,
                "passed": not num_errors,
                "findings": rows,
            },
        )
    elif num_errors:
        click.echo(f"{name} cannot be run yet: {format_count(num_errors, 'error')} above.")
    else:
        options = "" if protocol == protocols.DEFAULT_PROTOCOL else f" --protocol {protocol}"
        options += "".join(f" --set {shlex.quote(f'{path}={value}')}" for path, value in overrides)
        options += settings.data_option + settings.store_options
        click.echo(f"{name} can be run: ablate run {shlex.quote(name)}{options} --report")
    if num_errors:
        sys.exit(EXIT_FAILURE)


COMMANDS = (check,)
