"""Writes the recipe, claims and protocols of docs/reference from the code, and renders its page of commands.

Command: ``python docs/reference.py``. Commands have many options, which ``ablate COMMAND --help`` prints; they are
rendered when the site is built (``docs/site_hooks.py``) and are not written into the repository.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from inspect import cleandoc
from pathlib import Path

import click

from ablations import CLAIM_CLASSES, ENDPOINT_LABELS, ENDPOINTS, Claim, Endpoint
from lightning_modules.spec import (
    Blocks,
    Conv,
    Custom,
    Data,
    Elsewhere,
    ForeignData,
    Head,
    Recipe,
    ResNet,
    Scale,
    Stage,
    Test,
    Vgg,
    WarmStart,
)
from reports.analysis.endpoints import ENDPOINT_UNITS
from studies import protocols
from studies.cli.app import main as program

REFERENCE = Path(__file__).parent / "reference"
MADE = "Made by `python docs/reference.py`."
ATTRIBUTE = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)
SETTINGS: tuple[tuple[str, type], ...] = (
    ("recipe", Recipe),
    ("network", Vgg),
    ("network.stages.0", Stage),
    ("network.stages.0.convs.0", Conv),
    ("network.head", Head),
    ("network", ResNet),
    ("network.stages.0", Blocks),
    ("network", Custom),
    ("scale", Scale),
    ("data", Data),
    ("data", ForeignData),
    ("start", WarmStart),
    ("start.on", Elsewhere),
    ("test", Test),
)
SINGULARS: dict[object, str] = {int: "whole number", float: "number", bool: "`true`, `false`", str: "text"}
PLURALS: dict[object, str] = {int: "whole numbers", float: "numbers", str: "texts", Stage: "`Stage`s", Conv: "`Conv`s"}
PLURALS[Blocks] = "`Blocks`"
# The first class of each part of a setup; further ones of that part follow below it.
HEADINGS = {
    Recipe: "`recipe`",
    Vgg: "`network`",
    Scale: "`scale`",
    Data: "`data`",
    WarmStart: "`start`",
    Test: "`test`",
}


def settings() -> str:
    """Every field of a setup, with its values, default and meaning."""
    parts = [
        "# Settings",
        "",
        f"{MADE} A setup is all that decides a trial's result besides its seed. A dotted path names each of",
        "its settings: in an arm's edits, in `varies`, and in `--set`. The defaults below are those of the classes; a",
        "[protocol](protocols.md) sets its own. `ablate show NAME` prints the values that a study holds.",
        "",
    ]
    for path, spec in SETTINGS:
        if spec in HEADINGS:
            parts += [f"## {HEADINGS[spec]}", ""]
        parts += [f"`{spec.__name__}`: {_lower_first(_summary(spec))}", "", *_field_table(path, spec), ""]
    return "\n".join(parts)


def claims() -> str:
    """Every claim with its fields, and every endpoint."""
    parts = [
        "# Claims",
        "",
        f"{MADE} A claim is a sentence about an endpoint that could be false. It is declared in an",
        "ablation's file, registered before the first trial, and judged by the report: *supported*, *contradicted*,",
        "*practically equivalent* or *inconclusive*. [What a verdict means](../explanation/verdicts.md), and [the rule",
        "for each claim](../explanation/statistics.md#the-rule).",
        "",
        "Every claim also takes `endpoint`, `source` (where in the literature it is made) and `caveat` (why its two",
        "sides are not like for like, printed beside the verdict).",
        "",
    ]
    for name, claim in CLAIM_CLASSES.items():
        own = [field.name for field in fields(claim) if field.name not in _field_names(Claim)]
        parts += [f"## `{name}`", "", _summary(claim), "", "```python", EXAMPLES[name], "```", ""]
        parts += [f"Registered as: *{_example(name).sentence}* Fields: {', '.join(f'`{each}`' for each in own)}.", ""]
    parts += [
        "## Endpoints",
        "",
        *_table(("`endpoint`", "what", "unit"), [_endpoint_row(name) for name in ENDPOINTS]),
        "",
    ]
    return "\n".join(parts)


EXAMPLES = {
    "Helps": 'Helps(arm="momentum", over="no momentum")',
    "DoesNotHelp": 'DoesNotHelp(arm="A-LRN", over="A")',
    "HelpsBy": 'HelpsBy(arm="B", over="A", by=0.5, within=0.2)',
    "FallsWith": 'FallsWith(order=("A", "B", "D", "E"))',
    "SaturatesAt": 'SaturatesAt(arm="E", order=("D", "E", "25 layers"))',
    "Reverses": 'Reverses(worse=("plain 20", "plain 56"), better=("residual 20", "residual 56"))',
    "AllOf": 'AllOf(parts=(Helps(arm="both", over="D"), Helps(arm="both", over="E")))',
}


def _endpoint_row(name: Endpoint) -> tuple[str, str, str]:
    return f"`{name}`", ENDPOINT_LABELS[name], ENDPOINT_UNITS[name].replace("points", "percentage points")


def _example(name: str) -> Claim:
    return typing.cast(Claim, eval(EXAMPLES[name], dict(CLAIM_CLASSES)))


def conditions() -> str:
    """Every protocol: its note, and its settings."""
    parts = [
        "# Protocols",
        "",
        f"{MADE} A protocol is the conditions that every arm of a study shares: data, scale, recipe,",
        "seeds, and the smallest effect of interest. `--protocol NAME` chooses one, `--set PATH=VALUE` changes a",
        "setting of it for all arms. [The settings](settings.md).",
        "",
    ]
    for name in protocols.names():
        protocol = protocols.load(name)
        seeds = f"{len(protocol.seeds)} seeds"
        parts += [f"## `{name}`", "", *_paragraphs(protocol.note), ""]
        parts += [
            f"By default {seeds}; smallest effect of interest {protocol.smallest_effect:g} points of test error.",
            "",
        ]
        rows = [(f"`{path}`", f"`{value}`") for path, value in _set_by(protocol)]
        parts += [*_table(("setting", "value"), rows), ""]
        for kind, edits in protocol.families.items():
            told = ", ".join(f"`{path}={value}`" for path, value in edits.items())
            parts += [f"Networks of the class `{kind}`: {told}.", ""]
    return "\n".join(parts)


def _paragraphs(note: str) -> Iterator[str]:
    """A protocol's note; claim, cost and command, a line each, are a list."""
    for line in note.strip().replace("``", "`").splitlines():
        is_item = line.startswith(("Claim:", "Cost:", "Command:"))
        yield f"- {line}" if is_item else line


def _set_by(protocol: protocols.Protocol) -> Iterator[tuple[str, object]]:
    """Scale and data of a protocol's base setup, and what else of it differs from the defaults."""
    for path, spec in (("data", Data), ("scale", Scale), ("recipe", Recipe), ("test", Test)):
        part = getattr(protocol.setup, path)
        for each in fields(spec):
            value = getattr(part, each.name, None)
            if path in ("scale", "data") or value != _default(each):
                yield f"{path}.{each.name}", value


def commands() -> str:
    """Every command with its help, options and examples, for the site."""
    context = click.Context(program, info_name="ablate")
    parts: list[str] = []
    for name in program.list_commands(context):
        command = program.get_command(context, name)
        if command and not command.hidden:
            parts += _command(click.Context(command, info_name=name, parent=context), command)
    return "\n".join(parts)


def _command(context: click.Context, command: click.Command) -> Iterator[str]:
    pieces = " ".join(command.collect_usage_pieces(context))
    yield from (f"## `{context.command_path}`", "", "```console", f"{context.command_path} {pieces}", "```", "")
    for paragraph in cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith("\b"):
            yield from ("```text", paragraph.removeprefix("\b\n"), "```", "")
        else:
            yield from (_escape(paragraph), "")
    rows = list(_option_rows(context, command))
    if rows:
        yield from (*_table(("option", "what"), rows), "")
    lines = [line.strip() for line in (command.epilog or "").removeprefix("\b\n").splitlines()]
    if len(lines) > 1:
        yield from ("```sh", *lines[1:], "```", "")
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below and not below.hidden:
                yield from _command(click.Context(below, info_name=name, parent=context), below)


def _option_rows(context: click.Context, command: click.Command) -> Iterator[tuple[str, str]]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record and record[1] and parameter.name != "help":
            yield f"`{record[0]}`", _escape(record[1])


def _escape(text: str) -> str:
    """Help as Markdown: what looks like an element, a placeholder or emphasis is text."""
    pieces = text.split("`")
    for index in range(0, len(pieces), 2):
        pieces[index] = re.sub(r"([*_<>\[\]|])", r"\\\1", pieces[index])
    return "`".join(pieces)


def _field_table(path: str, spec: type) -> Iterator[str]:
    told = _attributes(spec)
    hints = typing.get_type_hints(spec)
    rows = []
    for each in fields(spec):
        meaning = _capitalize(told.get(each.name, "").replace("``", "`").replace("|", "\\|"))
        rows.append((f"`{path}.{each.name}`", _type(hints[each.name]), f"{_shown(each)}", meaning))
    yield from _table(("setting", "values", "default", "meaning"), rows)


def _type(hint: object) -> str:
    """The values that a field takes, in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        return f"tuple of {PLURALS.get(arguments[0]) or 'networks'}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "mapping of names to values"
    if isinstance(hint, type):
        return SINGULARS.get(hint, f"`{hint.__name__}`")
    return " or ".join(f"`{each.__name__}`" for each in arguments)


def _shown(each: Field[object]) -> str:
    default = _default(each)
    if default is MISSING:
        return "required"
    return "empty" if default in ((), {}) else f"`{default}`"


def _default(each: Field[object]) -> object:
    return each.default_factory() if each.default_factory is not MISSING else each.default


def _capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _field_names(spec: type) -> set[str]:
    return {each.name for each in fields(spec)}


def _summary(spec: type) -> str:
    """The text of a docstring before its sections, in Markdown."""
    text = cleandoc(spec.__doc__ or "").split("\n\nAttributes:")[0].split("\n\nRaises:")[0]
    return text.replace("``", "`")


def _attributes(spec: type) -> dict[str, str]:
    """What the docstring says of each attribute."""
    section = cleandoc(spec.__doc__ or "").partition("Attributes:\n")[2]
    return {name: re.sub(r"\s+", " ", text).strip() for name, text in ATTRIBUTE.findall(section)}


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


PAGES = {"settings": settings, "claims": claims, "protocols": conditions}

if __name__ == "__main__":
    for page, write in PAGES.items():
        (REFERENCE / f"{page}.md").write_text(write(), encoding="utf-8")
