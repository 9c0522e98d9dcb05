"""The networks layer by layer, an arm a column, as in Table 1 of Simonyan & Zisserman 2015."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lightning_modules.specs.text import format_count, join_words
from reports.content.sections.layer_labels import describe_layer
from reports.document import Cell, Column, Section, Table, Tone, text_cell
from studies.records.registration import Registration

MAX_COLUMNS = 8  # architectures side by side
MAX_ROWS = 80
DIFFERENCE_MARK = "*"

# Written in the row of the layer before them, as in the paper: they keep the shape of their input.
FOLLOWERS = ("ReLU", "GELU", "Tanh", "Sigmoid", "SiLU", "LeakyReLU", "BatchNorm2d", "GroupNorm", "Dropout", "Identity")

Rows = Mapping[str, str]  # labels by layer path, in the order of the network


def architectures_section(registration: Registration) -> Section:
    """The section; empty in records of earlier versions, and where all arms have one network."""
    table = architectures_table(registration)
    return Section(name="architectures", title="Architectures", tables=(table,) if table else ())


def architectures_table(registration: Registration) -> Table | None:
    """A column per distinct network, a row per layer; ``None`` where there are fewer than two networks."""
    arms_by_network: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for arm in registration.arms:
        layers = registration.layers.get(arm)
        if layers:
            arms_by_network.setdefault(layers, []).append(arm)
    if len(arms_by_network) < 2 or registration.baseline not in registration.layers:
        return None
    shown = list(arms_by_network.items())[:MAX_COLUMNS]
    networks = [fold_layers(layers) for layers, _ in shown]
    paths = merge_orders([list(network) for network in networks])
    columns = [Column(title="Layer", kind="code")]
    columns += [Column(title=join_words(arms, max_words=3)) for _, arms in shown]
    rows = []
    for path in paths[:MAX_ROWS]:
        rows.append((text_cell(path, "strong"), *_layer_cells(networks, path)))
    return Table(
        name="architectures",
        caption="Networks layer by layer",
        columns=tuple(columns),
        rows=tuple(rows),
        notes=tuple(_describe_limits(registration, len(arms_by_network), len(paths))),
        folded=len(rows) > MAX_ROWS // 2,
    )


def fold_layers(layers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Label layers by their path; normalization, non-linearity and dropout join the layer before them."""
    rows: dict[str, str] = {}
    last = ""
    for path, description in layers:
        label = describe_layer(description)
        name = label.partition(" ")[0].partition("(")[0]
        if name in FOLLOWERS and last:
            if name != "Identity":
                rows[last] += f", {label if name == 'Dropout' else name}"
        else:
            rows[path] = label
            last = path
    return rows


def merge_orders(orders: Sequence[Sequence[str]]) -> list[str]:
    """Merge sequences of paths; one that is new stands after the one before it in its own sequence."""
    merged: list[str] = []
    for order in orders:
        place = 0
        for path in order:
            if path in merged:
                place = merged.index(path) + 1
            else:
                merged.insert(place, path)
                place += 1
    return merged


def _layer_cells(networks: Sequence[Rows], path: str) -> list[Cell]:
    expected = networks[0].get(path)
    cells = []
    for network in networks:
        label = network.get(path)
        is_different = label != expected
        text = label if label is not None else "absent" if is_different else ""
        tone: Tone = "quiet" if label is None else "strong" if is_different else ""
        cells.append(Cell(text=text, mark=DIFFERENCE_MARK if is_different else "", tone=tone))
    return cells


def _describe_limits(registration: Registration, num_networks: int, num_rows: int) -> Iterable[str]:
    yield f"{DIFFERENCE_MARK} differs from {registration.baseline}."
    if num_networks > MAX_COLUMNS:
        yield f"Shown: {MAX_COLUMNS} of {format_count(num_networks, 'distinct network')}, in the order of their arms."
    if num_rows > MAX_ROWS:
        yield f"Shown: the first {MAX_ROWS} of {format_count(num_rows, 'layer')}."
