"""The command group `ablate`, and its console script.

Commands import frameworks when they run, so that `ablate --help` answers at once.
"""

from __future__ import annotations

import sys
from typing import TypedDict

import click

import ablations
from ablations import Ablation
from lightning_modules.specs.errors import UserError
from studies import protocols
from studies.cli import archive, maintenance, networks
from studies.cli.authoring import check, completion, new
from studies.cli.common.errors import EXIT_FAILURE, CommandGroup, run_and_exit
from studies.cli.common.options import format_examples, json_option
from studies.cli.reporting import choose, gate, judge, plan, reports, status, ui
from studies.cli.running import calibrate, cancel, latency, register, run, show
from studies.console.tables import print_json, print_table


class ProtocolSummary(TypedDict):
    """A protocol as `ablate list` shows it."""

    name: str
    seeds: list[int]
    about: str


@click.group(
    cls=CommandGroup,
    # click wraps the help at 80 columns by default, which breaks most options over three lines.
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=format_examples("ablate show depth", "ablate run depth --seeds 3 --report", "ablate run --help"),
)
@click.option("--debug", is_flag=True, help="Print the traceback of an error.")
@click.version_option(package_name="ablation-studies", prog_name="ablate")
def main(debug: bool) -> None:
    """Controlled ablation studies of convolutional networks.

    The arms of a study differ in one verified change, share their seeds, and are compared by registered claims.
    """
    del debug  # read by CommandGroup


@main.command("list", epilog=format_examples("ablate list --json"))
@json_option
def list_(as_json: bool) -> None:
    """List the ablations and the protocols; exit code 1 where the file of an ablation is broken."""
    loaded, broken = _load_ablations()
    summaries = [_summarize_protocol(name) for name in protocols.names()]
    if as_json:
        rows = []
        for name, ablation in loaded.items():
            rows.append(
                {
                    "name": name,
                    "question": ablation.question.strip(),
                    "arms": [arm.name for arm in ablation.all_arms],
                    "claims": [claim.sentence for claim in ablation.claims],
                }
            )
        failures = [{"name": name, "error": error} for name, error in broken.items()]
        print_json({"ablations": rows, "broken": failures, "protocols": summaries})
    else:
        print_table(
            ("ablation", "arms", "question"),
            [(name, len(ablation.all_arms), ablation.question.strip()) for name, ablation in loaded.items()],
        )
        print_table(
            ("protocol", "seeds", "what it is"),
            [(summary["name"], len(summary["seeds"]), summary["about"]) for summary in summaries],
        )
    for name, error in broken.items():
        click.echo(f"Error: {name} is broken: {error}", err=True)
    if broken:
        sys.exit(EXIT_FAILURE)


def _load_ablations() -> tuple[dict[str, Ablation], dict[str, str]]:
    """Load the ablations of this package: those that can be loaded, and of the others what is wrong, by name."""
    loaded: dict[str, Ablation] = {}
    broken: dict[str, str] = {}
    for name in ablations.names():
        try:
            loaded[name] = ablations.load(name)
        except UserError as error:
            broken[name] = str(error)
    return loaded, broken


def _summarize_protocol(name: str) -> ProtocolSummary:
    protocol = protocols.load(name)
    return {"name": name, "seeds": list(protocol.seeds), "about": protocol.note.strip().splitlines()[0]}


COMMAND_MODULES = (
    new,
    check,
    completion,
    show,
    run,
    register,
    cancel,
    reports,
    calibrate,
    latency,
    choose,
    judge,
    gate,
    plan,
    status,
    ui,
    networks,
    archive,
    maintenance,
)

# The help lists commands by name, whatever the order here.
for module in COMMAND_MODULES:
    for command in module.COMMANDS:
        main.add_command(command)


def run_program() -> None:
    """Run `ablate` as the console script of its own process."""
    run_and_exit(main)
