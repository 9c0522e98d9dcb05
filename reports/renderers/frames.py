"""Data frames of a comparison for a notebook: the unrounded numbers of the CSV files, with their units.

A frame's ``attrs["units"]`` maps its columns to their units. pandas is loaded when a frame is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ablations import PROPERTIES, endpoint_label
from reports.comparison.comparison import Comparison
from reports.renderers.csv import CsvValue, arm_rows, trial_rows
from studies.records.results import LOGGED_PREFIX

if TYPE_CHECKING:
    import pandas as pd

PERCENT, POINTS, SECONDS, BYTES, NATS = "percent", "percentage points", "seconds", "bytes", "nats"
# Named by the column's end, so that metrics of later versions have units too.
METRIC_UNITS = {"error": PERCENT, "loss": NATS}  # by the last word of a metric's name
COST_UNITS = {
    "train_seconds": SECONDS,
    "images_per_second": "images per second",
    "peak_memory_bytes": BYTES,
    "inference_images_per_second": "images per second",
    "inference_peak_memory_bytes": BYTES,
}
LAYER_CURVE_PREFIX = "gradient_norm/"


def verdicts_frame(comparison: Comparison) -> pd.DataFrame:
    """One row per registered claim: ``claim``, ``endpoint``, ``verdict``, ``finding``, ``reason``, notes and source."""
    rows = []
    for claim in comparison.claims:
        row = {
            "claim": claim.sentence,
            "endpoint": ", ".join(map(endpoint_label, claim.claim.endpoints)),
            "verdict": claim.word,
            "finding": claim.finding,
            "reason": claim.reason,
            "notes": "; ".join(claim.all_notes),
            "source": claim.source,
            "agreement": claim.agreement,
        }
        rows.append(row)
    columns = ("claim", "endpoint", "verdict", "finding", "reason", "notes", "source", "agreement")
    return _make_frame(rows, {}, columns)


def arms_frame(comparison: Comparison) -> pd.DataFrame:
    """One row per arm, the baseline first: errors, differences from the baseline, outcomes, network, median costs."""
    units = {
        "test_error_percent": PERCENT,
        "test_error_low": PERCENT,
        "test_error_high": PERCENT,
        "test_top5_error_percent": PERCENT,
        "lower_than_baseline_points": POINTS,
        "lower_than_baseline_low": POINTS,
        "lower_than_baseline_high": POINTS,
        "donor_seconds": SECONDS,
        "receptive_field": "pixels",
        "published": comparison.registration.reference.quantity if comparison.registration.reference else "",
    }
    # Medians, each with the range over seeds beside it.
    for name, unit in COST_UNITS.items():
        units |= {name: unit, f"{name}_min": unit, f"{name}_max": unit}
    frame = _make_frame(arm_rows(comparison), units)
    # pandas' boolean has a third value: the baseline is no difference, registered or not.
    frame["registered"] = frame["registered"].map({"true": True, "false": False}).astype("boolean")
    return _convert_counts(frame, (*PROPERTIES, "pairs", "donor_epochs"))


def differences_frame(comparison: Comparison) -> pd.DataFrame:
    """One row per difference of two arms in test error: positive where ``arm`` has the lower error than ``over``.

    ``low_points`` and ``high_points`` are simultaneous limits, at the confidence of ``attrs["confidence_level"]``.
    """
    rows = []
    for difference in comparison.differences:
        row = {
            "over": difference.over,
            "arm": difference.arm,
            "error_reduction_points": difference.estimate.value,
            "low_points": difference.estimate.low,
            "high_points": difference.estimate.high,
            "is_registered": difference.is_registered,
            "is_control": difference.is_control,
            "pairs": difference.num_pairs,
            "planned_pairs": difference.num_planned,
            "equivalence_margin_points": difference.equivalence_margin,
        }
        rows.append(row)
    names = ("error_reduction_points", "low_points", "high_points", "equivalence_margin_points")
    columns = ("over", "arm", *names[:3], "is_registered", "is_control", "pairs", "planned_pairs", names[3])
    frame = _make_frame(rows, dict.fromkeys(names, POINTS), columns)
    frame.attrs["confidence_level"] = comparison.confidence_level
    frame.attrs["smallest_effect_points"] = comparison.registration.smallest_effect
    return frame


def trials_frame(comparison: Comparison) -> pd.DataFrame:
    """One row per started trial, then one per source or evaluated network: state, final metrics, cost, digests, run."""
    frame = _make_frame(trial_rows(comparison), COST_UNITS, ("arm", "seed", "state"))
    frame.attrs["units"] |= _metric_units(frame.columns)
    return _convert_counts(frame, ("epochs",))


def curves_frame(comparison: Comparison, *, layers: bool = False) -> pd.DataFrame:
    """One row per trial and epoch, epochs from 1: losses, errors, learning rate, gradient norm, seconds.

    Args:
        layers: whether to add the gradient norm of every layer, as ``gradient_norm/<layer>``.
    """
    rows: list[dict[str, CsvValue]] = []
    for trial in (*comparison.trials, *comparison.dependencies):
        curves = trial.result.curves if trial.result else {}
        shown = [name for name in curves if layers or not name.startswith(LAYER_CURVE_PREFIX)]
        # Curves may differ in length: a trial that became non-finite ends within an epoch.
        num_epochs = max((len(curves[name]) for name in shown), default=0)
        for index in range(num_epochs):
            row: dict[str, CsvValue] = {"arm": trial.arm, "seed": trial.seed, "epoch": index + 1}
            for name in shown:
                if index < len(curves[name]):
                    row[name] = curves[name][index]
            rows.append(row)
    frame = _make_frame(rows, {"seconds": SECONDS}, ("arm", "seed", "epoch"))
    frame.attrs["units"] |= _metric_units(name for name in frame.columns if not name.startswith(LOGGED_PREFIX))
    return frame


def _metric_units(names: Iterable[str]) -> dict[str, str]:
    units = {}
    for name in names:
        # `test_top5_error` and `validation_loss` alike.
        unit = METRIC_UNITS.get(name.rpartition("_")[2])
        if unit:
            units[name] = unit
    return units


def _convert_counts(frame: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """Make whole numbers of columns whose missing values are empty text, as in a CSV file."""
    for name in names:
        if name in frame:
            frame[name] = frame[name].map(lambda value: None if value == "" else value).astype("Int64")
    return frame


def _make_frame(
    rows: Sequence[Mapping[str, object]], units: Mapping[str, str], columns: Sequence[str] = ()
) -> pd.DataFrame:
    """Make a frame with the units of its columns; ``columns`` are those of a frame without rows."""
    import pandas as pd

    frame = pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(columns))
    frame.attrs["units"] = {name: unit for name, unit in units.items() if unit and name in frame}
    return frame
