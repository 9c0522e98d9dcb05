"""Print network profiles (`ablate profile`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import click

from ablations import PROPERTY_LABELS
from studies.console.tables import print_table
from studies.inspection.named_profile import NamedProfile
from studies.inspection.network_profiles import merge_orders

UNKNOWN = "unknown"


def print_profile(network_profile: NamedProfile) -> None:
    """Print a network layer by layer, section by section, and in total."""
    profile = network_profile.profile
    layer_rows = []
    for layer in profile.layers:
        # 0 stands for a layer behind the last feature map, whose outputs have no position any more.
        receptive_field = UNKNOWN if layer.receptive_field is None else layer.receptive_field or ""
        shape = " x ".join(map(str, layer.output))
        counts = (f"{layer.parameters:,}", f"{layer.multiply_adds:,}")
        layer_rows.append((layer.place, layer.kind, shape, *counts, receptive_field))
    print_table(("layer", "kind", "output", "parameters", "multiply-adds", "receptive field"), layer_rows)
    section_rows = []
    for section in network_profile.sections:
        parameter_share = _format_percent(section.parameters, profile.parameters)
        multiply_add_share = _format_percent(section.multiply_adds, profile.multiply_adds)
        section_rows.append(
            (section.name, f"{section.parameters:,}", parameter_share, f"{section.multiply_adds:,}", multiply_add_share)
        )
    print_table(("section", "parameters", "share", "multiply-adds", "share"), section_rows)
    for name, value in _format_totals(network_profile).items():
        click.echo(f"{name:<26}{value:>16}")


def print_profiles(profiles: Sequence[NamedProfile]) -> None:
    """Print networks side by side: properties, the same relative to the first network, and shares of sections."""
    labels = (*PROPERTY_LABELS.values(), "weights, MB")
    first_values = _property_values(profiles[0])
    absolute_rows, relative_rows = [], []
    for network_profile in profiles:
        values = _property_values(network_profile)
        absolute_rows.append((network_profile.name, *map(_format_value, values)))
        relative_rows.append((network_profile.name, *map(_format_ratio, values, first_values)))
    print_table(("network", *labels), absolute_rows)
    # Without the first row, which would be all ones.
    print_table((f"times {profiles[0].name}", *labels), relative_rows[1:])
    _print_shares("parameters", profiles)
    _print_shares("multiply_adds", profiles)
    for network_profile in profiles:
        for name, value in _format_remarks(network_profile).items():
            click.echo(f"{network_profile.name}: {name} {value}")


def _print_shares(attribute: Literal["parameters", "multiply_adds"], profiles: Sequence[NamedProfile]) -> None:
    """Print which share of a network's parameters or multiply-adds each of its sections has."""
    shares: dict[str, dict[str, str]] = {}
    nonzero_sections = set()
    for network_profile in profiles:
        total = getattr(network_profile.profile, attribute)
        shares[network_profile.name] = {}
        for section in network_profile.sections:
            count = getattr(section, attribute)
            shares[network_profile.name][section.name] = _format_percent(count, total)
            if count:
                nonzero_sections.add(section.name)
    rows = []
    for section_name in merge_orders([list(network_shares) for network_shares in shares.values()]):
        # A section that has multiply-adds but no parameters would be a row of zeros in the table of parameters.
        if section_name in nonzero_sections:
            cells = [network_shares.get(section_name, "") for network_shares in shares.values()]
            rows.append((section_name, *cells))
    title = "multiply-adds in" if attribute == "multiply_adds" else "parameters in"
    print_table((title, *shares), rows)


def _format_totals(network_profile: NamedProfile) -> Mapping[str, str]:
    properties = network_profile.profile.properties()
    totals = {}
    for name, label in PROPERTY_LABELS.items():
        totals[label] = f"{properties[name]:,}" if name in properties else UNKNOWN
    megabytes = network_profile.weights_megabytes
    totals["weights"] = f"{megabytes:,.{_num_decimals(megabytes)}f} MB"
    return totals | _format_remarks(network_profile)


def _format_remarks(network_profile: NamedProfile) -> dict[str, str]:
    """What only some networks have: parameters without use in inference, functions, operations without a rule."""
    profile = network_profile.profile
    remarks = {}
    if profile.idle_parameters:
        remarks["idle parameters"] = f"{profile.idle_parameters:,}"
    if profile.functions:
        remarks["functions"] = ", ".join(f"{name} {count}" for name, count in profile.functions.items())
    if profile.uncounted:
        remarks["arithmetic not counted"] = ", ".join(profile.uncounted)
    return remarks


def _property_values(network_profile: NamedProfile) -> list[float | None]:
    properties = network_profile.profile.properties()
    return [*map(properties.get, PROPERTY_LABELS), network_profile.weights_megabytes]


def _format_value(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{_num_decimals(value)}f}"


def _num_decimals(value: float) -> int:
    """Decimals that show three significant digits."""
    if value >= 100:
        return 0
    return 1 if value >= 10 else 2


def _format_ratio(value: float | None, first: float | None) -> str:
    if value is None or first is None:
        return UNKNOWN
    return f"{value / first:.3g}" if first else "–"


def _format_percent(value: int, total: int) -> str:
    return f"{100 * value / total:.1f} %" if total else ""
