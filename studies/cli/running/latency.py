"""Command ``ablate latency``: time the networks of a recorded study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from reports.formatting import format_fixed, shared_decimals
from studies.cli.common.completers import complete_study
from studies.cli.common.number_ranges import IntegerRange, NumberRange
from studies.cli.common.options import format_examples, json_option, protocol_option, run_id_option, settings_options
from studies.console.tables import print_result, print_table
from studies.latency.measurement import PERCENTILES, ArmLatency, LatencyMeasurement, Percentile
from studies.latency.processes import DEFAULT_NUM_PROCESSES, DEFAULT_SECONDS

if TYPE_CHECKING:
    from studies.settings import Settings

MILLISECOND = 1e-3


@click.command(
    epilog=format_examples("ablate latency depth", "ablate latency depth --batch-size 8 --batch-size 64 --threads 2")
)
@click.argument("name", shell_complete=complete_study)
@protocol_option
@click.option(
    "--batch-size",
    "batch_sizes",
    type=IntegerRange(1, 65536),
    multiple=True,
    metavar="B",
    help="Images per call, beside 1, which is always measured; may be given several times.",
)
@click.option(
    "--device",
    type=click.Choice(("auto", "cpu", "cuda")),
    default="auto",
    show_default=True,
    help="Device to measure on; auto: a GPU if there is one.",
)
@click.option(
    "--threads", type=IntegerRange(min=1), default=1, show_default=True, metavar="N", help="CPU threads of a call."
)
@click.option(
    "--processes",
    "num_processes",
    type=IntegerRange(2, 100),
    default=DEFAULT_NUM_PROCESSES,
    show_default=True,
    metavar="N",
    help="Fresh processes, each of which times every arm: the replicates of a claim on latency.",
)
@click.option(
    "--seconds",
    type=NumberRange(min=0.05),
    default=DEFAULT_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="Time spent on an arm at a batch size in one process; a slow network takes longer, for 100 calls.",
)
@run_id_option
@settings_options(storage=True)
@json_option
def latency(
    name: str,
    protocol: str,
    batch_sizes: tuple[int, ...],
    device: str,
    threads: int,
    num_processes: int,
    seconds: float,
    run_id: str | None,
    settings: Settings,
    as_json: bool,
) -> None:
    """Measure the latency of every arm of a recorded study, and record it with the study.

    P50, P95 and P99 of the time of a forward pass, at batch size 1 and others: in fresh processes, one at a time, in
    which the arms take turns after a warm-up, with the garbage collector off. Run it after the study, on a machine that
    does nothing else: it says so where the machine was busy. The report's table of costs, claims on latency and `ablate
    choose --latency` read what was measured last.
    """
    from studies.cli.reporting.reports import read_study
    from studies.hardware import count_cores, count_gpus
    from studies.inspection.study_latency import measure_study_latency, plan_latency
    from studies.storage.copies.archive import is_archive_name
    from studies.tracking.store import open_store

    # What is measured is recorded with the study, and an archive has checksums of all that it holds.
    if is_archive_name(name):
        raise click.UsageError(f"{name} is an archive, which is read only; `ablate import {name}` unpacks it first.")
    # More threads than cores wait for each other, which would be timed as the network's latency.
    if threads > count_cores():
        raise click.UsageError(f"--threads is {threads}; expected 1 to {count_cores()}, the cores of this machine.")
    has_gpu = count_gpus() > 0
    if device == "cuda" and not has_gpu:
        raise click.UsageError("--device is cuda, and this machine has no GPU that torch sees; give --device cpu.")
    record = read_study(name, protocol, settings, run_id)
    store = open_store(settings, create=False)
    study = record.registration.study
    # Beside the manifest: the measurement survives a lost tracking store, and `ablate sync` logs it again.
    folder = settings.studies_folder / f"{study}-{store.reader.read_conditions(record.run_id)}"
    plan = plan_latency(
        folder,
        record.registration,
        batch_sizes=batch_sizes,
        device=("cuda" if has_gpu else "cpu") if device == "auto" else device,
        threads=threads,
        num_processes=num_processes,
        seconds=seconds,
    )
    measurement = measure_study_latency(folder, study, plan, lambda line: click.echo(line, err=True))
    store.writer.log_latency(record.run_id, measurement)
    if as_json:
        print_result("latency", _describe(measurement, study, record.registration.protocol))
    else:
        _print_measurement(measurement)


def _print_measurement(measurement: LatencyMeasurement) -> None:
    rows = []
    for arm in measurement.arms:
        cells = [_format_spread(arm, percentile) for percentile in PERCENTILES]
        rows.append((arm.arm, str(arm.batch_size), *cells))
    print_table(("arm", "batch", *(f"{percentile.upper()}, ms" for percentile in PERCENTILES)), rows)
    click.echo(f"Median over {measurement.num_processes} processes (smallest to largest), on {measurement.hardware}.")
    for arm_name, reason in measurement.skipped.items():
        click.echo(f"Not measured: {arm_name}, as {reason}.")
    for sentence in measurement.disturbances:
        click.echo(f"Warning: {sentence}", err=True)
    # After all warnings, what they come to: each of them alone reads like a detail.
    if measurement.disturbances:
        click.echo("Warning: the machine was not quiet; measure again when nothing else runs on it.", err=True)


def _format_spread(arm: ArmLatency, percentile: Percentile) -> str:
    values = [value / MILLISECOND for value in arm.values(percentile)]
    median = arm.median(percentile) / MILLISECOND
    decimals = shared_decimals([median])
    # The extremes and no deviation: of five processes, the range is all that there is to see.
    limits = f"{format_fixed(min(values), decimals)} to {format_fixed(max(values), decimals)}"
    return f"{format_fixed(median, decimals)} ({limits})"


def _describe(measurement: LatencyMeasurement, study: str, protocol: str) -> dict[str, Any]:
    arms = []
    for arm in measurement.arms:
        percentiles: dict[str, Any] = {}
        for percentile in PERCENTILES:
            values = arm.values(percentile)
            # Seconds, as everywhere in JSON; milliseconds are for eyes.
            percentiles[percentile] = {"median": arm.median(percentile), "low": min(values), "high": max(values)}
        arms.append({"arm": arm.arm, "batch_size": arm.batch_size, "calls": sum(arm.calls), **percentiles})
    return {
        "study": study,
        "protocol": protocol,
        "unit": "s",
        "device": measurement.device,
        "device_name": measurement.device_name,
        "threads": measurement.threads,
        "cores": measurement.cores,
        "processes": measurement.num_processes,
        "versions": dict(measurement.versions),
        "load_average": measurement.load_average,
        "other_cores": list(measurement.other_cores),
        "arms": arms,
        "not_measured": dict(measurement.skipped),
        "disturbances": list(measurement.disturbances),
    }


COMMANDS = (latency,)
