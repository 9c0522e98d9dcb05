"""Command that writes a new ablation file: new."""

from __future__ import annotations

import keyword
import shlex
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import click

import ablations
from lightning_modules.catalogue import NETWORKS
from lightning_modules.specs.errors import InvalidValue
from studies.cli.authoring.ablation_file import (
    EXAMPLE_NETWORKS,
    EXAMPLE_SETTING,
    protocol_option_of,
    render_module_file,
    render_networks_file,
    render_setting_file,
)
from studies.cli.common.completers import complete_networks_list, complete_setting
from studies.cli.common.options import format_examples, json_option
from studies.console.tables import print_result


@click.command(
    epilog=format_examples(
        f"ablate new my_depth --networks {EXAMPLE_NETWORKS}",
        f"ablate new my_momentum --setting {EXAMPLE_SETTING}",
        "ablate new my_activation --module --into experiments",
    )
    + f"\n\nNetworks: {', '.join(NETWORKS)}."
)
@click.argument("name")
@click.option(
    "--networks",
    metavar="A,B",
    shell_complete=complete_networks_list,
    help=f"Compare networks of the catalogue, the baseline first.  [default: {EXAMPLE_NETWORKS}]",
)
@click.option(
    "--setting",
    metavar="PATH=A,B",
    shell_complete=complete_setting,
    help="Compare values of one setting, the baseline's first.",
)
@click.option("--module", "with_module", is_flag=True, help="Compare networks of your own, written in PyTorch.")
@click.option(
    "--into",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    metavar="DIR",
    help="Folder to write to, made where it is missing.  [default: the current folder]",
)
@json_option
def new(name: str, networks: str | None, setting: str | None, with_module: bool, folder: Path, as_json: bool) -> None:
    """Write a commented ablation file, NAME.py, to start from.

    The file is complete: `ablate check` accepts it, and `ablate run` trains it. An existing file is never overwritten.
    """
    if (networks is not None) + (setting is not None) + with_module > 1:
        raise click.UsageError("--networks, --setting and --module are three ways to start; expected one of them.")
    if Path(name).name != name:
        raise InvalidValue(f"{name!r} is a path; expected a name, and its folder after --into.")
    file = folder / f"{name.removesuffix('.py')}.py"
    _require_free_name(file)
    written = str(file) if len(file.parts) > 1 else f"./{file}"  # by its slash, commands tell a path from a name
    path = target = shlex.quote(written)
    if with_module:
        text = render_module_file(path, ablations.module_name(file))
    elif setting is not None:
        text = render_setting_file(path, setting)
    else:
        names = networks or EXAMPLE_NETWORKS
        target = f"{path}{protocol_option_of(names)}"
        text = render_networks_file(target, names)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("x", encoding="utf-8") as stream:  # another process may have written it meanwhile
        stream.write(text)
    commands = [f"ablate check {target}", f"ablate show {target}", f"ablate run {target} --report"]
    if as_json:
        print_result("new", {"file": str(file), "next": commands})
    else:
        click.echo("\n  ".join((f"{written} is written. Edit it, then:", *commands)))


def _require_free_name(file: Path) -> None:
    """Refuse a file that is there, and a name that another module has.

    Raises:
        InvalidAblation: with what has the name.
    """
    if file.exists():
        raise ablations.InvalidAblation(f"{file} exists, and is left as it is. Give another name, or --into DIR.")
    ablations.require_valid_file_name(file.resolve())
    if keyword.iskeyword(file.stem):
        raise ablations.InvalidAblation(f"{file.stem!r} is a word of Python's own. Give another name.")
    # Its folder comes first on the import path: a file torch.py would be imported in place of torch.
    installed = [entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]
    if PathFinder.find_spec(file.stem, installed) is not None:
        raise ablations.InvalidAblation(
            f"{file.stem!r} is the name of an installed module, which the file would hide. Give another name."
        )


COMMANDS = (new,)
