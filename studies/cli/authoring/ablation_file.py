"""The text of a new ablation file, from the templates beside this module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from string import Template

from ablations import Ablation, Arm, InvalidAblation
from lightning_modules import catalogue
from lightning_modules.specs.errors import InvalidValue
from lightning_modules.specs.networks import Custom, Network
from lightning_modules.specs.setup import Setup
from studies import protocols
from studies.design.declare import parse_override

TEMPLATES_FOLDER = Path(__file__).parent / "templates"
EXAMPLE_NETWORKS, EXAMPLE_SETTING = "vgg-a,vgg-b", "recipe.momentum=0.0,0.9"


def render_module_file(path: str, name: str) -> str:
    """Render the file that compares networks which it defines itself.

    Args:
        path: of the file, as commands take it, and their options.
        name: by which Python imports the file.

    Raises:
        InvalidValue: for a name that Python cannot import, as the networks' class paths need.
    """
    # Checked here, and not when training first imports it, after minutes of planning.
    if not all(part.isidentifier() for part in name.split(".")):
        raise InvalidValue(f"{name!r} cannot be imported; a file with its own networks needs a name without '-'.")
    question = "Does GELU beat ReLU in a small network of mine?"
    return _fill_template("module", path=path, name=name, question=question)


def render_networks_file(path: str, text: str) -> str:
    """Render the file that compares networks of the catalogue.

    Args:
        path: of the file, as commands take it, and their options.
        text: names of the networks, the baseline first: ``vgg-a,vgg-b``.

    Raises:
        InvalidValue: for a network that the catalogue does not have, or a single one.
        InvalidAblation: for two equal ones.
    """
    names = _split_values(text, "--networks", EXAMPLE_NETWORKS)
    networks = {name: catalogue.find_network(name) for name in names}
    # A dictionary keeps one of two equal names.
    if len(networks) < len(names):
        raise InvalidAblation(f"--networks {text} names a network twice: there is nothing to compare.")
    constants = {name: _constant_of(network) for name, network in networks.items()}
    codes = {name: f'Arm("{name}", {{"network": {constant}}})' for name, constant in constants.items()}
    varies = _differing_fields(list(networks.values()))
    note = ""
    # Several differing parts are one declared change of the network: the contract then admits them together.
    if len(varies) > 1 or varies == ("network",):
        parts = ", ".join(path.removeprefix("network.") for path in varies if path != "network")
        what = f"in several parts ({parts})" if parts else "as a whole"
        note = f"    # These networks differ {what}: the verdict is on all of it together.\n"
        varies = ("network",)
    _require_valid_arms({name: {"network": network} for name, network in networks.items()}, varies)
    question = f"Does {' or '.join(names[1:])} err less than {names[0]}?"
    imports = ", ".join(sorted(set(constants.values())))
    return _fill_arms(codes, varies, path=path, question=question, constants=imports, varies_note=note)


def protocol_option_of(text: str) -> str:
    """The option of a protocol that has images for networks of the catalogue; empty where the default one has.

    Args:
        text: names of the networks: ``vgg-a,vgg-b``.
    """
    for name in _split_values(text, "--networks", EXAMPLE_NETWORKS):
        network = catalogue.find_network(name)
        if isinstance(network, Custom) and "$channels" not in network.init_args.values():
            return " --protocol imagenet"  # torchvision's: color images, and large ones
    return ""


def render_setting_file(path: str, text: str) -> str:
    """Render the file that compares values of one setting.

    Args:
        path: of the file, as commands take it, and their options.
        text: the setting and its values, the baseline's first: ``recipe.momentum=0.0,0.9``.

    Raises:
        UnknownPath, InvalidValue: for a setting that does not exist, or a value that it does not admit.
        InvalidAblation: for two equal values.
    """
    setting, equals, values_text = text.partition("=")
    if not equals:
        raise InvalidValue(f"--setting {text} has no values; expected PATH=A,B, such as {EXAMPLE_SETTING}.")
    value_texts = _split_values(values_text, f"--setting {setting}", "0.0,0.9")
    label = setting.rpartition(".")[2].replace("_", " ")
    arms: dict[str, dict[str, Network | bool | int | float | str]] = {}
    codes: dict[str, str] = {}
    for value_text in value_texts:
        value = parse_override(_default_setup(), setting, value_text)
        name = f"{label} {value_text}"
        arms[name] = {"network": catalogue.VGG_A, setting: value}
        codes[name] = f'Arm("{name}", {{"network": VGG_A, "{setting}": {_python_literal(value)}}})'
    if len(arms) < len(value_texts):
        raise InvalidAblation(f"--setting {text} names a value twice: there is nothing to compare.")
    _require_valid_arms(arms, (setting,))
    question = f"Is a {label} of {' or '.join(value_texts[1:])} better than one of {value_texts[0]}?"
    return _fill_arms(codes, (setting,), path=path, question=question, constants="VGG_A", varies_note="")


def _default_setup() -> Setup:
    """The setup of the default protocol, whose network is that of the rendered arms."""
    return protocols.load(protocols.DEFAULT_PROTOCOL).setup


def _split_values(text: str, option: str, example: str) -> list[str]:
    values = [value.strip() for value in text.split(",")]
    if len(values) < 2 or not all(values):
        raise InvalidValue(f"{option} is {text!r}; expected two values or more, such as {example}.")
    return values


def _constant_of(network: Network) -> str:
    """The name under which an ablation's file imports a network."""
    # By identity: two names of the catalogue may stand for equal networks.
    for name, value in vars(catalogue).items():
        if name.isupper() and value is network:
            return name
    raise InvalidValue(f"{network} has no name in lightning_modules.catalogue.")


def _differing_fields(networks: Sequence[Network]) -> tuple[str, ...]:
    """The paths of the parts in which networks differ; that of the whole network where their families do."""
    first, *others = networks
    # Fields of two families have nothing to compare: a VGG has stages, and so has a ResNet, of other kinds.
    if any(type(network) is not type(first) for network in networks):
        return ("network",)
    paths = []
    for field in fields(first):
        if any(getattr(network, field.name) != getattr(first, field.name) for network in others):
            paths.append(f"network.{field.name}")
    return tuple(paths) or ("network",)


def _require_valid_arms(arms: Mapping[str, Mapping[str, object]], varies: tuple[str, ...]) -> None:
    """Declare the ablation that the file will declare, which raises what is wrong with it."""
    # The same constructors as the file's own: what they refuse, importing it would refuse.
    baseline, *others = [Arm(name, edits) for name, edits in arms.items()]
    Ablation(question="?", baseline=baseline, arms=tuple(others), varies=varies)


def _python_literal(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _fill_arms(codes: Mapping[str, str], varies: tuple[str, ...], **texts: str) -> str:
    (baseline, baseline_code), *others = codes.items()
    claims = [f'Helps(arm="{name}", over="{baseline}")' for name, _ in others]
    return _fill_template(
        "settings",
        baseline=baseline_code,
        arms=_format_tuple([code for _, code in others]),
        varies=", ".join(f'"{path}"' for path in varies),
        claims=_format_tuple(claims),
        **texts,
    )


def _format_tuple(items: Sequence[str]) -> str:
    """Format the inside of a tuple: a single item in its line, several in lines of their own."""
    if len(items) == 1:
        return f"{items[0]},"
    return "\n" + "".join(f"        {item},\n" for item in items) + "    "


def _fill_template(template: str, **texts: str) -> str:
    text = (TEMPLATES_FOLDER / f"{template}.py.txt").read_text(encoding="utf-8")
    return Template(text).substitute(texts)
