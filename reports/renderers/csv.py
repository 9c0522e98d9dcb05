"""Export the unrounded numbers as CSV, and those of the trials as Parquet.

In CSV, text that a spreadsheet would run as a formula is escaped; in Parquet, text is unchanged.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence

from ablations import PROPERTIES, Factor
from reports.analysis.arms import ArmSummary, CostSpread
from reports.analysis.endpoints import cost_share
from reports.analysis.factorial_effects import FactorEffect, FactorialAnalysis
from reports.comparison.comparison import Comparison
from reports.formatting import NO_INTERVAL
from studies.latency.measurement import PERCENTILES, LatencyMeasurement
from studies.records.study_record import RecordedCandidate, RecordedTrial

CsvValue = str | int | float

# OWASP, CSV injection: a cell that starts with one of these is run when a spreadsheet opens the file.
FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r")
METRICS = ("test_error", "validation_error", "train_error", "test_loss", "validation_loss", "train_loss")
TOP5_METRIC, TOP5_PERCENT = "test_top5_error", "test_top5_error_percent"
SIGNIFICANT_DIGITS = 8  # of what is computed; the digits beyond depend on the processor

COST_METRICS = (
    "train_seconds", "images_per_second", "peak_memory_bytes", "inference_images_per_second",
    "inference_peak_memory_bytes",
)  # fmt: skip


def arms_csv(comparison: Comparison) -> str:
    """One row per arm: errors in percent, differences in percentage points, costs as medians over trials.

    A cell is empty where there is no number.

    Computed values have eight significant digits: the later ones of an interval depend on the processor.
    """
    return format_csv(arm_rows(comparison), SIGNIFICANT_DIGITS)


def arm_rows(comparison: Comparison) -> list[dict[str, CsvValue]]:
    """Rows of :func:`arms_csv`, numbers unrounded."""
    has_top5 = any(math.isfinite(arm.top5.value) for arm in comparison.arms)
    rows = []
    for arm in comparison.arms:
        row = _arm_row(arm)
        if has_top5:
            row[TOP5_PERCENT] = arm.top5.value
        rows.append(row | _latency_cells(comparison.latency, arm.name))
    return rows


def trials_csv(comparison: Comparison) -> str:
    """One row per started trial, then one per source or evaluated network."""
    return format_csv(trial_rows(comparison))


def effects_csv(comparison: Comparison) -> str:
    """One row per factorial effect, positive where the endpoint falls."""
    rows = []
    for analysis in comparison.factorial_analyses:
        for effect in analysis.effects:
            rows.append(_effect_row(analysis, effect))
    return format_csv(rows, SIGNIFICANT_DIGITS)


def components_csv(comparison: Comparison) -> str:
    """One row per component of a generated design, positive where the endpoint is lower with it."""
    analysis = comparison.components
    rows: list[dict[str, CsvValue]] = []
    for effect in analysis.effects if analysis else ():
        rows.append(
            {
                "component": effect.contrast.component,
                "over": effect.contrast.over,
                "arm": effect.contrast.arm,
                "lower_by": effect.estimate.value,
                "low": effect.estimate.low,
                "high": effect.estimate.high,
                "verdict": effect.word,
                "seeds": effect.num_pairs,
                "planned": effect.num_planned,
            }
        )
    return format_csv(rows, SIGNIFICANT_DIGITS)


def tuning_csv(comparison: Comparison) -> str:
    """One row per candidate: its settings, cost and validation error."""
    candidates = comparison.tuned.tuning_summary.candidates if comparison.tuned else ()
    return format_csv(list(map(_candidate_row, candidates)))


def trials_parquet(comparison: Comparison) -> bytes:
    """Rows of :func:`trials_csv` with their types, null for no number."""
    import pandas as pd

    rows = trial_rows(comparison)
    frame = pd.DataFrame(rows, columns=list(rows[0]) if rows else ["arm", "seed", "state"])
    if rows:
        trials = (*comparison.trials, *comparison.dependencies)
        epochs = [len(trial.result.times) if trial.result else None for trial in trials]
        # A nullable integer: with a missing value, pandas would make the column one of floats.
        frame["epochs"] = pd.Series(epochs, dtype="Int64")
    return frame.to_parquet(None, engine="pyarrow", index=False)


def escape_formula(text: str) -> str:
    """Prepend an apostrophe to text that a spreadsheet would run."""
    return f"'{text}" if text.startswith(FORMULA_PREFIXES) else text


def _arm_row(arm: ArmSummary) -> dict[str, CsvValue]:
    difference = arm.difference
    estimate = difference.estimate if difference else NO_INTERVAL  # the baseline differs from nothing
    return {
        "arm": arm.name,
        "test_error_percent": arm.mean_error.value,
        "test_error_low": arm.mean_error.low,
        "test_error_high": arm.mean_error.high,
        "lower_than_baseline_points": estimate.value,
        "lower_than_baseline_low": estimate.low,
        "lower_than_baseline_high": estimate.high,
        "pairs": difference.num_pairs if difference else "",
        "registered": str(difference.is_registered).lower() if difference else "",
        "finished": arm.num_finished,
        "non_finite": arm.num_nonfinite,
        "at_chance": arm.num_at_chance,
        "failed": arm.num_failed,
        "cancelled": arm.num_cancelled,
        "running": arm.num_running,
        "not_started": arm.num_not_started,
        "without_figure": arm.num_without_error,
        **{name: arm.properties.get(name, "") for name in PROPERTIES},
        **_cost_cells(arm),
        "donor": ", ".join(arm.source_arms),
        "donor_epochs": arm.source_epochs or "",
        "donor_seconds": arm.donor_seconds.median if arm.source_arms else math.nan,
        "published": arm.published_value,
    }


def _cost_cells(arm: ArmSummary) -> dict[str, float]:
    """Medians over trials under the names of the costs, each with the smallest and the largest value."""
    cells: dict[str, float] = {}
    for name in COST_METRICS:
        spread: CostSpread = getattr(arm, name)
        cells |= {name: spread.median, f"{name}_min": spread.smallest, f"{name}_max": spread.largest}
    return cells


def _latency_cells(measurement: LatencyMeasurement | None, arm: str) -> dict[str, CsvValue]:
    """Percentiles of the latency at every batch size, as medians over processes; no cells where it was not measured."""
    cells: dict[str, CsvValue] = {}
    for batch_size in measurement.batch_sizes if measurement else ():
        latency = measurement.find(arm, batch_size) if measurement else None
        for percentile in PERCENTILES:
            name = f"latency_{percentile}_seconds_batch_{batch_size}"
            spread = CostSpread.of_values(latency.values(percentile) if latency else ())
            cells |= {name: spread.median, f"{name}_min": spread.smallest, f"{name}_max": spread.largest}
    return cells


def _candidate_row(candidate: RecordedCandidate) -> dict[str, CsvValue]:
    return {
        "arm": candidate.arm,
        "candidate": candidate.number,
        "rung": candidate.rung,
        "seed": candidate.seed,
        "of_donor": str(candidate.is_source).lower(),
        "state": candidate.state,
        "epochs": candidate.epochs,
        "epochs_trained": candidate.epochs_trained,
        "validation_error_percent": candidate.validation_error,
        "validation_loss_nats": candidate.validation_loss,
        "train_seconds": candidate.seconds,
        "attempts": candidate.num_attempts,
        **candidate.values,
    }


def _effect_row(analysis: FactorialAnalysis, effect: FactorEffect) -> dict[str, CsvValue]:
    factorial = analysis.factorial
    # A main effect has the level of its own factor; an interaction, one of either factor.
    factors = ("rows", "columns") if effect.kind == "interaction" else (effect.kind,)
    levels = dict(zip(factors, effect.levels, strict=True))
    return {
        "endpoint": analysis.endpoint,
        "unit": analysis.unit,
        "effect": effect.kind,
        **_factor_columns("row", factorial.rows, levels.get("rows")),
        **_factor_columns("column", factorial.columns, levels.get("columns")),
        "lower_by": effect.estimate.value,
        "low": effect.estimate.low,
        "high": effect.estimate.high,
        "seeds": effect.num_pairs,
        "planned": effect.num_planned,
    }


def _factor_columns(prefix: str, factor: Factor, level: str | None) -> dict[str, CsvValue]:
    """Change of a factor from its first level; empty where it is averaged."""
    name, first_level = (factor.name, factor.levels[0]) if level is not None else ("", "")
    return {f"{prefix}_factor": name, f"{prefix}_from": first_level, f"{prefix}_to": level or ""}


def trial_rows(comparison: Comparison) -> list[dict[str, CsvValue]]:
    """Rows of :func:`trials_csv`."""
    trials = (*comparison.trials, *comparison.dependencies)
    has_top5 = any(TOP5_METRIC in trial.result.metrics for trial in trials if trial.result)
    metric_names = (*METRICS, TOP5_METRIC) if has_top5 else METRICS
    rows = []
    for trial in trials:
        rows.append(_trial_row(trial, metric_names) | {"donor_of": _dependent_arms(trial, comparison)})
    return rows


def _dependent_arms(trial: RecordedTrial, comparison: Comparison) -> str:
    """The arms that start from a trial's network, or evaluate it."""
    registration = comparison.registration
    networks_by_arm = {arm: (source,) for arm, source in registration.donors.items()} | dict(registration.tested)
    return ", ".join(arm for arm, networks in networks_by_arm.items() if trial.arm in networks)


def _trial_row(trial: RecordedTrial, metric_names: Sequence[str]) -> dict[str, CsvValue]:
    result = trial.result
    metrics: Mapping[str, float] = result.metrics if result else {}
    digests: Mapping[str, str] = result.digests if result else {}
    error_lines = result.error.strip().splitlines() if result else []
    return {
        "arm": trial.arm,
        "seed": trial.seed,
        "state": trial.state,
        **_select_numbers(metrics, metric_names),
        # As in `arms.csv`, a trial's share of what is measured in a bundle of seeds.
        **{name: cost_share(result, name) if result else math.nan for name in COST_METRICS},
        "epochs": len(result.times) if result else "",
        "fingerprint": result.fingerprint if result else "",
        "data_digest": digests.get("data", ""),
        "code_digest": digests.get("code", ""),
        "platform_digest": digests.get("platform", ""),
        "run_id": trial.run_id,
        "reused_from": trial.reused_from,
        "error": error_lines[-1].strip() if error_lines else "",  # of a traceback, the exception
    }


def _select_numbers(values: Mapping[str, float], names: Iterable[str]) -> dict[str, CsvValue]:
    """Columns in a fixed order, NaN where a trial has no such value."""
    return {name: values.get(name, math.nan) for name in names}


def format_csv(rows: Sequence[Mapping[str, CsvValue]], digits: int = 17) -> str:
    """Format rows under the column names of the first one."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    if rows:
        writer.writerow(rows[0])
        for row in rows:
            writer.writerow(_format_value(value, digits) for value in row.values())
    return stream.getvalue()


def _format_value(value: CsvValue, digits: int) -> str:
    if isinstance(value, str):
        return escape_formula(value)
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        return ""
    return repr(float(f"{value:.{digits}g}"))
