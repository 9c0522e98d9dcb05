"""Networks by name, profiled and compared: a network of the catalogue, or an arm of an ablation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click

import ablations
from ablations import PROPERTY_WORDS
from lightning_modules.catalogue import NETWORKS, VGG_A, network
from lightning_modules.profile import LayerProfile, Profile, profile
from lightning_modules.spec import Scale, Setup
from lightning_modules.values import InvalidValue, did_you_mean
from studies.terminal import print_table

BYTES_PER_WEIGHT = 4  # float32
UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Part:
    """What stands at the top of a network, such as ``stage3`` or ``head``."""

    name: str
    parameters: int
    multiply_adds: int


@dataclass(frozen=True, kw_only=True)
class Profiled:
    """A network by its name, at a scale."""

    name: str
    scale: Scale
    profile: Profile

    @property
    def parts(self) -> tuple[Part, ...]:
        """Its parts in the order in which they run; those that neither learn nor multiply left out."""
        layers: dict[str, list[LayerProfile]] = {}
        for layer in self.profile.layers:
            layers.setdefault(layer.place.partition(".")[0], []).append(layer)
        parts = (
            Part(
                name=name,
                parameters=sum(layer.parameters for layer in inside),
                multiply_adds=sum(layer.multiply_adds for layer in inside),
            )
            for name, inside in layers.items()
        )
        return tuple(part for part in parts if part.parameters or part.multiply_adds)

    @property
    def megabytes(self) -> float:
        """Of its weights in float32, millions of bytes."""
        return self.profile.parameters * BYTES_PER_WEIGHT / 1e6

    def as_data(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self.profile) | {
            "network": self.name,
            "scale": asdict(self.scale),
            "parts": [asdict(part) for part in self.parts],
            "weights_megabytes": self.megabytes,
        }


def spread(names: Iterable[str]) -> tuple[str, ...]:
    """The names, each once; an ablation's stands for all its arms."""
    return tuple(dict.fromkeys(each for name in names for each in _arms_of(name)))


def _arms_of(name: str) -> Iterable[str]:
    if name in NETWORKS or not (name in ablations.names() or name.endswith(".py")):
        return (name,)
    return (f"{name}/{arm.name}" for arm in ablations.load(name).all_arms)


def profiled(name: str, scale: Scale) -> Profiled:
    """The network of a name: one of the catalogue (``vgg-d``), or an arm as ``ABLATION/ARM`` (``depth/E``), where the
    ablation may be the path of its file (``./my_ablation.py/E``).

    Raises:
        InvalidValue: where there is none of that name, or the resolution is too small for it.
        Misuse: where the network fails on such an image.
    """
    setup = named(name, scale)
    return Profiled(name=name, scale=setup.scale, profile=profile(setup.network, setup.scale))


def named(name: str, scale: Scale) -> Setup:
    """The setup of a network's name at a scale; see :func:`profiled`.

    Raises:
        InvalidValue: where there is none of that name.
    """
    return _arm(name, Setup(network=VGG_A, scale=scale)) if "/" in name else Setup(network=network(name), scale=scale)


def merged(orders: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """All names of several sequences, each before those that follow it in its own, as far as that can be."""
    order: list[str] = []
    for names in orders:
        place = next((order.index(name) for name in names if name in order), len(order))
        for name in names:
            if name not in order:
                order.insert(place, name)
            place = order.index(name) + 1
    return tuple(order)


def print_one(found: Profiled) -> None:
    """Layer by layer, part by part, and the sums."""
    print_table(
        ("place", "kind", "output", "parameters", "multiply-adds", "receptive field"),
        [
            (
                layer.place,
                layer.kind,
                " x ".join(map(str, layer.output)),
                f"{layer.parameters:,}",
                f"{layer.multiply_adds:,}",
                UNKNOWN if layer.receptive_field is None else layer.receptive_field or "",
            )
            for layer in found.profile.layers
        ],
    )
    whole = found.profile
    print_table(
        ("part", "parameters", "share", "multiply-adds", "share"),
        [
            (
                part.name,
                f"{part.parameters:,}",
                _percent(part.parameters, whole.parameters),
                f"{part.multiply_adds:,}",
                _percent(part.multiply_adds, whole.multiply_adds),
            )
            for part in found.parts
        ],
    )
    for name, value in _sums(found).items():
        click.echo(f"{name:<26}{value:>16}")


def print_several(networks: Sequence[Profiled]) -> None:
    """Side by side: all properties, the same relative to the first network, and where each one's sums sit."""
    header = ("network", *PROPERTY_WORDS.values(), "weights, MB")
    rows = [_properties(found) for found in networks]
    print_table(
        header,
        [(found.name, *(_shown(value) for value in row)) for found, row in zip(networks, rows, strict=True)],
    )
    print_table(
        (f"times {networks[0].name}", *header[1:]),
        [
            (found.name, *(_ratio(value, first) for value, first in zip(row, rows[0], strict=True)))
            for found, row in zip(networks[1:], rows[1:], strict=True)
        ],
    )
    _print_shares("parameters in", networks, {found.name: found.profile.parameters for found in networks})
    _print_shares("multiply-adds in", networks, {found.name: found.profile.multiply_adds for found in networks})
    for found in networks:
        for name, value in _remarks(found).items():
            click.echo(f"{found.name}: {name} {value}")


def _arm(name: str, setup: Setup) -> Setup:
    ablation, wanted = _split(name)
    arms = {arm.name: arm for arm in ablations.load(ablation).all_arms}
    if wanted not in arms:
        raise InvalidValue(
            f"The ablation {ablation!r} has no arm {wanted!r}.{did_you_mean(wanted, arms)} "
            f"There are: {', '.join(arms)}."
        )
    return arms[wanted].apply(setup)


def _split(name: str) -> tuple[str, str]:
    """An ablation, by its name or the path of its file, and an arm."""
    path, ending, arm = name.partition(".py/")
    if ending:
        return f"{path}.py", arm
    ablation, _, arm = name.partition("/")
    return ablation, arm


def _print_shares(what: str, networks: Sequence[Profiled], totals: Mapping[str, int]) -> None:
    attribute = "parameters" if what.startswith("parameters") else "multiply_adds"
    held = {found.name: {part.name: getattr(part, attribute) for part in found.parts} for found in networks}
    parts = [part for part in merged([list(of) for of in held.values()]) if any(of.get(part) for of in held.values())]
    print_table(
        (what, *held),
        [
            (part, *(_percent(of[part], totals[name]) if part in of else "" for name, of in held.items()))
            for part in parts
        ],
    )


def _sums(found: Profiled) -> dict[str, str]:
    known = found.profile.properties()
    sums = {words: f"{known[name]:,}" if name in known else UNKNOWN for name, words in PROPERTY_WORDS.items()}
    return sums | {"weights": f"{found.megabytes:,.{_decimals(found.megabytes)}f} MB"} | _remarks(found)


def _remarks(found: Profiled) -> dict[str, str]:
    """What only some networks have."""
    remarks = {}
    if found.profile.idle_parameters:
        remarks["idle parameters"] = f"{found.profile.idle_parameters:,}"
    if found.profile.functions:
        remarks["functions"] = ", ".join(f"{name} {count}" for name, count in found.profile.functions.items())
    if found.profile.uncounted:
        remarks["arithmetic not counted"] = ", ".join(found.profile.uncounted)
    return remarks


def _properties(found: Profiled) -> list[float | None]:
    known = found.profile.properties()
    return [*(known.get(name) for name in PROPERTY_WORDS), found.megabytes]


def _shown(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{_decimals(value)}f}"


def _decimals(value: float) -> int:
    """Three significant digits."""
    return 0 if value >= 100 else 1 if value >= 10 else 2


def _ratio(value: float | None, first: float | None) -> str:
    return f"{value / first:.3g}" if value is not None and first else UNKNOWN


def _percent(value: int, whole: int) -> str:
    return f"{100 * value / whole:.1f} %" if whole else ""


def grouped(parts: Sequence[Part], most: int = 8) -> tuple[Part, ...]:
    """Parts that differ in a last letter as one, where there are many: ``inception3a`` and ``3b`` as ``inception3``."""
    if len(parts) <= most:
        return tuple(parts)
    sums: dict[str, Part] = {}
    for part in parts:
        name = re.sub(r"(?<=\d)[a-z]$", "", part.name)
        before = sums.get(name, Part(name=name, parameters=0, multiply_adds=0))
        sums[name] = Part(
            name=name,
            parameters=before.parameters + part.parameters,
            multiply_adds=before.multiply_adds + part.multiply_adds,
        )
    return tuple(sums.values())
