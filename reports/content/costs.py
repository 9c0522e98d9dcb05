"""Tables of network properties, costs, and source or evaluated networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product

from ablations import PROPERTIES
from lightning_modules.specs.text import format_count, join_words
from reports.analysis.arms import ArmSummary, CostSpread
from reports.analysis.endpoints import MILLISECOND, read_cost, read_metric
from reports.analysis.trials import find_failures
from reports.comparison.comparison import Comparison
from reports.document import MAX_UNFOLDED_ROWS, Cell, Column, Table, number_cell, text_cell
from reports.figures.seeds import error_decimals
from reports.formatting import (
    MISSING,
    byte_unit,
    format_fixed,
    format_integer,
    metric_prefix,
    shared_decimals,
    time_unit,
)
from studies.latency.measurement import CLAIMED_BATCH_SIZE, PERCENTILES, LatencyMeasurement, Percentile

FilledColumn = tuple[Column, list[Cell]]  # a column with one cell per arm
UnitChoice = Callable[[Sequence[float]], tuple[float, str]]  # values to (factor, name of the unit)


def has_evaluations(arms: Sequence[ArmSummary]) -> bool:
    """Whether any arm evaluates networks that others trained."""
    return any(arm.evaluated_arms for arm in arms)


def networks_table(comparison: Comparison) -> Table:
    """Properties measured on the instantiated networks."""
    arms = comparison.arms
    pass_description = "one forward pass of one image"
    if has_evaluations(arms):  # dense and multi-crop tests take more than one pass
        pass_description = "the whole test of one image"
    notes = [f"Multiply-adds: {pass_description}. Receptive field: of the last feature map before the head."]
    unknown = [arm.name for arm in arms if not arm.properties.keys() >= set(PROPERTIES)]
    if unknown:
        notes.append(f"{MISSING}: unknown for the network of {join_words(unknown, max_words=6)}.")
    columns = [
        _property_column(arms, "Weight layers", "weight_layers"),
        _scaled_property_column(arms, "Parameters", "parameters"),
        _scaled_property_column(arms, "Multiply-adds", "multiply_adds"),
        _property_column(arms, "Receptive field", "receptive_field", "px"),
        _property_column(arms, "Non-linearities", "nonlinearities"),
    ]
    return arm_table(arms, "networks", "Network properties", columns, notes)


def costs_table(comparison: Comparison) -> Table:
    """Cost of training, source networks included, and of inference."""
    arms = comparison.arms
    notes = [
        "Median over the finished trials, with the smallest and the largest value, on the hardware listed under "
        "Reproducibility. Memory: peak in training."
    ]
    columns: list[FilledColumn] = []
    if not all(arm.evaluated_arms for arm in arms):  # arms that only evaluate have no cost of training
        columns += [
            _spread_column("Training", [arm.train_seconds for arm in arms], time_unit),
            *_source_time_column(arms),
            _spread_column("Throughput", [arm.images_per_second for arm in arms], _throughput_unit),
            _spread_column("Peak memory", [arm.peak_memory_bytes for arm in arms], byte_unit),
        ]
    inference = _inference_columns(arms)
    if inference:
        notes.append("Inference: the pass over the test examples, and the memory that it adds to what was in use.")
    if comparison.latency:
        inference.append(_latency_column(arms, comparison.latency, CLAIMED_BATCH_SIZE, "p50"))
        notes.append("Latency: of one forward pass of one image; see the table of latencies.")
    notes += [
        *_bundle_notes(comparison),
        *_outlier_notes(arms),
        *_source_cost_notes(arms),
        *_evaluated_network_notes(arms),
    ]
    return arm_table(arms, "cost", "Cost per trial", [*columns, *inference], notes)


def latency_table(comparison: Comparison) -> Table:
    """Percentiles of the latency at every batch size; without rows where it was not measured."""
    arms, measurement = comparison.arms, comparison.latency
    columns = []
    if measurement:
        for batch_size, percentile in product(measurement.batch_sizes, PERCENTILES):
            columns.append(_latency_column(arms, measurement, batch_size, percentile))
    return arm_table(arms, "latency", "Latency of a forward pass", columns, _latency_notes(measurement))


def _latency_column(
    arms: Sequence[ArmSummary], measurement: LatencyMeasurement, batch_size: int, percentile: Percentile
) -> FilledColumn:
    spreads = []
    for arm in arms:
        latency = measurement.find(arm.name, batch_size)
        spreads.append(CostSpread.of_values(latency.values(percentile) if latency else ()))
    title = f"Latency {percentile.upper()}, batch {batch_size}"
    return _spread_column(title, spreads, _latency_unit)


def _latency_notes(measurement: LatencyMeasurement | None) -> list[str]:
    """Say where and how latency was measured, and what disturbed it."""
    if measurement is None:
        return []
    notes = [
        f"Latency: one forward pass of the arm's network, once per arm and not per trial; median over "
        f"{measurement.num_processes} fresh processes, with the smallest and the largest, on {measurement.hardware}."
    ]
    if measurement.disturbances:
        notes.append(f"The machine was not quiet while latency was measured. {' '.join(measurement.disturbances)}")
    for arm, reason in measurement.skipped.items():
        notes.append(f"No latency of {arm}: {reason}.")
    return notes


def test_cost_columns(arms: Sequence[ArmSummary]) -> list[FilledColumn]:
    """Cost of testing, for arms that evaluate; empty where every arm trains."""
    if not has_evaluations(arms):
        return []
    throughput = [arm.inference_images_per_second for arm in arms]
    return [
        _scaled_property_column(arms, "Multiply-adds", "multiply_adds"),
        _spread_column("Test throughput", throughput, _throughput_unit),
    ]


def arm_table(
    arms: Sequence[ArmSummary], name: str, caption: str, columns: Sequence[FilledColumn], notes: Sequence[str]
) -> Table:
    """Make a table with a row per arm; without columns, it has no rows."""
    headings = [Column(title="Arm")]
    name_cells = [text_cell(arm.name, "strong") for arm in arms]
    cells_by_column = [name_cells]
    for heading, cells in columns:
        headings.append(heading)
        cells_by_column.append(cells)
    return Table(
        name=name,
        caption=caption,
        columns=tuple(headings),
        rows=tuple(zip(*cells_by_column, strict=True)) if columns else (),
        notes=tuple(notes),
        folded=name != "results" and len(arms) > MAX_UNFOLDED_ROWS,
    )


def _bundle_notes(comparison: Comparison) -> list[str]:
    """Say of what the costs are where several trials trained at once in one process."""
    sizes = dict(comparison.environments).get("bundle_size")
    if sizes is None:
        return []
    return [
        f"Several trials were trained at once in one process, a bundle (bundle_size {sizes}). Training and memory: a "
        "trial's share of its bundle's. Throughput: of the bundle."
    ]


def _outlier_notes(arms: Sequence[ArmSummary]) -> list[str]:
    """Note which arms have a trial whose cost is far from the others'."""
    measured = {
        "training time": [arm.train_seconds for arm in arms],
        "throughput": [arm.images_per_second for arm in arms],
        "peak memory": [arm.peak_memory_bytes for arm in arms],
        "throughput of inference": [arm.inference_images_per_second for arm in arms],
    }
    uneven = []
    for quantity, spreads in measured.items():
        names = [arm.name for arm, spread in zip(arms, spreads, strict=True) if spread.has_outlier]
        if names:
            uneven.append(f"{quantity} of {join_words(names, max_words=6)}")
    if not uneven:
        return []
    return [
        f"A trial differs from the median by a factor of two or more in {join_words(uneven)}: as where another process "
        "ran on the machine at the same time. Medians are little moved by it."
    ]


def _source_cost_notes(arms: Sequence[ArmSummary]) -> list[str]:
    """Note which arms are charged for which source networks."""
    arms_by_source: dict[tuple[tuple[str, ...], int], list[str]] = {}
    for arm in arms:
        if arm.source_arms:
            arms_by_source.setdefault((arm.source_arms, arm.source_epochs), []).append(arm.name)
    notes = []
    for (sources, epochs), names in arms_by_source.items():
        notes.append(_describe_source_cost(names, sources, epochs))
    return notes


def _describe_source_cost(names: Sequence[str], sources: Sequence[str], epochs: int) -> str:
    verb, charged = ("starts", "it") if len(names) == 1 else ("start", "each of them")
    its, plural = ("its", "") if len(sources) == 1 else ("their", "s")
    chain = ", which starts from that of ".join(sources)
    return (
        f"{join_words(names)} {verb} from the trained network of {chain} under the same seed; {its} "
        f"{format_count(epochs, 'epoch')} are charged to {charged}: Training includes the time of the source "
        f"network{plural}, which is also listed separately."
    )


def _evaluated_network_notes(arms: Sequence[ArmSummary]) -> list[str]:
    """Note the evaluated networks, whose training is charged to no arm."""
    arms_by_network: dict[tuple[str, ...], list[str]] = {}
    for arm in arms:
        if arm.evaluated_arms:
            arms_by_network.setdefault(arm.evaluated_arms, []).append(arm.name)
    notes = []
    for networks, names in arms_by_network.items():
        verb = "trains nothing and evaluates" if len(names) == 1 else "train nothing and evaluate"
        plural = "" if len(networks) == 1 else "s"
        notes.append(
            f"{join_words(names)} {verb} the network{plural} of {join_words(networks)}, trained under the same seed "
            "once for all arms: that training is charged to none of them."
        )
    return notes


def dependencies_table(comparison: Comparison) -> Table:
    """The source networks and evaluated networks that belong to no arm."""
    digits = error_decimals(comparison)
    failed = {(failure.arm, failure.seed) for failure in find_failures(comparison.dependencies)}
    rows = []
    for trial in comparison.dependencies:
        has_failed = (trial.arm, trial.seed) in failed
        rows.append(
            (
                text_cell(trial.arm, "strong"),
                Cell(text=str(trial.seed), sort=trial.seed),
                text_cell(trial.state, "alert" if has_failed else ""),
                number_cell(read_metric(trial, "test_error", untrained=True), digits),
                number_cell(read_cost(trial, "train_seconds", untrained=True), 1),
            )
        )
    kind = "Evaluated network" if has_evaluations(comparison.arms) else "Source network"
    columns = (
        Column(title=kind),
        Column(title="Seed", kind="number"),
        Column(title="State"),
        Column(title="Test error", unit="%", kind="number"),
        Column(title="Training", unit="s", kind="number"),
    )
    return Table(
        name="donors",
        caption=f"{kind}s",
        columns=columns,
        rows=tuple(rows),
        notes=(f"{kind}s are not arms: they enter no difference and no verdict.",),
        folded=len(rows) > MAX_UNFOLDED_ROWS,
    )


def _property_values(arms: Sequence[ArmSummary], name: str) -> list[float]:
    """A measured property of each arm's network; NaN where it is unknown."""
    return [float(arm.properties.get(name, math.nan)) for arm in arms]


def _property_column(arms: Sequence[ArmSummary], title: str, name: str, unit: str = "") -> FilledColumn:
    cells = [Cell(text=format_integer(value), sort=value) for value in _property_values(arms, name)]
    return Column(title=title, unit=unit, kind="number"), cells


def _scaled_property_column(arms: Sequence[ArmSummary], title: str, name: str) -> FilledColumn:
    return _measurement_column(title, _property_values(arms, name), metric_prefix)


def _measurement_column(title: str, values: Sequence[float], choose_unit: UnitChoice) -> FilledColumn:
    """Make a column in one unit, with decimals that suit its smallest value."""
    factor, unit = choose_unit(values)
    digits = shared_decimals([value / factor for value in values])
    # Sorted by the unscaled value: it does not depend on the unit that was chosen.
    cells = [Cell(text=format_fixed(value / factor, digits), sort=value) for value in values]
    return Column(title=title, unit=unit, kind="number"), cells


def _spread_column(title: str, spreads: Sequence[CostSpread], choose_unit: UnitChoice) -> FilledColumn:
    """Make a column of medians with their ranges in one unit."""
    factor, unit = choose_unit([spread.median for spread in spreads])
    digits = shared_decimals([spread.median / factor for spread in spreads])
    cells = []
    for spread in spreads:
        median, limits = format_spread(spread.scale(factor), digits)
        cells.append(Cell(text=median, detail=limits, sort=spread.median))
    return Column(title=title, unit=unit, kind="number", about="median, with the smallest and the largest"), cells


def format_spread(spread: CostSpread, num_decimals: int) -> tuple[str, str]:
    """Format the median and the limits as ``("10.5", "9.8 to 120.9")``; no limits where all values look alike."""
    limits = [format_fixed(value, num_decimals) for value in (spread.smallest, spread.largest)]
    median = format_fixed(spread.median, num_decimals)
    return median, "" if limits[0] == limits[1] else " to ".join(limits)


def _latency_unit(_: Sequence[float]) -> tuple[float, str]:
    return MILLISECOND, "ms"


def _throughput_unit(_: Sequence[float]) -> tuple[float, str]:
    return 1.0, "images/s"


def _source_time_column(arms: Sequence[ArmSummary]) -> list[FilledColumn]:
    """Training time of the source networks; empty where there are none."""
    if not any(arm.source_arms for arm in arms):
        return []
    factor, unit = time_unit([arm.train_seconds.median for arm in arms])
    times = [arm.donor_seconds.median / factor if arm.source_arms else math.nan for arm in arms]
    digits = shared_decimals(times)
    cells = []
    for arm, time in zip(arms, times, strict=True):
        if arm.source_arms:
            epochs = format_count(arm.source_epochs, "epoch")
            cells.append(Cell(text=format_fixed(time, digits), detail=epochs, sort=time))
        else:
            cells.append(Cell(text="from scratch", tone="quiet"))
    return [(Column(title="Source network", unit=f"included, {unit}", kind="number"), cells)]


def _inference_columns(arms: Sequence[ArmSummary]) -> list[FilledColumn]:
    """Speed and memory of inference, as far as any trial measured them."""
    throughput = [arm.inference_images_per_second for arm in arms]
    memory = [arm.inference_peak_memory_bytes for arm in arms]
    columns = []
    if any(spread.values for spread in throughput):
        columns.append(_spread_column("Inference", throughput, _throughput_unit))
    if any(spread.values for spread in memory):
        columns.append(_spread_column("Inference memory", memory, byte_unit))
    return columns
