"""The numbers, not rounded for the eye: one row per arm and one per trial as CSV, the trials as Parquet too.

In CSV, text that a spreadsheet would run is disarmed; in Parquet all text stands as it is.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence

from ablations import PROPERTIES
from reports.arms import ArmRow
from reports.comparison import Comparison
from reports.crossing import Crossing, FactorEffect
from studies.records import TrialRecord

Value = str | int | float
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
METRICS = ("test_error", "validation_error", "train_error", "test_loss", "validation_loss", "train_loss")
TOP5, TOP5_PERCENT = "test_top5_error", "test_top5_error_percent"
COMPUTED_DIGITS = 8
COSTS = (
    "train_seconds", "images_per_second", "peak_memory_bytes", "inference_images_per_second",
    "inference_peak_memory_bytes",
)  # fmt: skip


def arms_table(comparison: Comparison) -> str:
    """One row per arm: errors in percent, differences in percentage points, empty where there is no number.

    What is computed has eight significant digits: those of an interval that no processor decides.
    """
    has_top5 = any(math.isfinite(arm.top5.value) for arm in comparison.arms)
    rows = [_arm(arm) | ({TOP5_PERCENT: arm.top5.value} if has_top5 else {}) for arm in comparison.arms]
    return written(rows, COMPUTED_DIGITS)


def trials_table(comparison: Comparison) -> str:
    """One row per planned trial that was started, then one per trial that arms start from."""
    return written(_trials(comparison))


def effects_table(comparison: Comparison) -> str:
    """One row per main effect and interaction of a factorial, positive where the endpoint falls."""
    rows = [_effect(crossing, effect) for crossing in comparison.effects for effect in crossing.effects]
    return written(rows, COMPUTED_DIGITS)


def tuning_table(comparison: Comparison) -> str:
    """One row per fit that tuning spent: what it was given, and what it gave on validation."""
    fits = comparison.tuned.budgets.fits if comparison.tuned else ()
    rows: list[dict[str, Value]] = [
        {
            "arm": fit.arm,
            "candidate": fit.number,
            "rung": fit.rung,
            "seed": fit.seed,
            "of_donor": str(fit.of_donor).lower(),
            "state": fit.state,
            "epochs": fit.epochs,
            "epochs_trained": fit.trained,
            "validation_error_percent": fit.error,
            "validation_loss_nats": fit.loss,
            "train_seconds": fit.seconds,
            "attempts": fit.attempts,
            **fit.values,
        }
        for fit in fits
    ]
    return written(rows)


def trials_parquet(comparison: Comparison) -> bytes:
    """The same rows and columns with their types; null where there is no number."""
    import pandas as pd

    rows = _trials(comparison)
    frame = pd.DataFrame(rows, columns=list(rows[0]) if rows else ["arm", "seed", "state"])
    if rows:
        trials = (*comparison.trials, *comparison.donors)
        epochs = [len(trial.result.times) if trial.result else None for trial in trials]
        frame["epochs"] = pd.Series(epochs, dtype="Int64")
    return frame.to_parquet(None, engine="pyarrow", index=False)


def guarded(text: str) -> str:
    """Text with a leading apostrophe where a spreadsheet would take it for a formula."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def _arm(arm: ArmRow) -> dict[str, Value]:
    difference = arm.difference
    bounds = difference.estimate if difference else None
    return {
        "arm": arm.name,
        "test_error_percent": arm.error.value,
        "test_error_low": arm.error.low,
        "test_error_high": arm.error.high,
        "lower_than_baseline_points": bounds.value if bounds else math.nan,
        "lower_than_baseline_low": bounds.low if bounds else math.nan,
        "lower_than_baseline_high": bounds.high if bounds else math.nan,
        "pairs": difference.pairs if difference else "",
        "registered": str(difference.registered).lower() if difference else "",
        "finished": arm.finished,
        "diverged": arm.diverged,
        "failed": arm.failed,
        "running": arm.running,
        "not_started": arm.absent,
        "without_figure": arm.without_figure,
        **{name: arm.properties.get(name, "") for name in PROPERTIES},
        **{name: getattr(arm, name) for name in COSTS},
        "donor": ", ".join(arm.donors),
        "donor_epochs": arm.donor_epochs or "",
        "donor_seconds": arm.donor_seconds if arm.donors else math.nan,
        "published": arm.published,
    }


def _effect(crossing: Crossing, effect: FactorEffect) -> dict[str, Value]:
    rows, columns = crossing.factorial.rows, crossing.factorial.columns
    levels = dict(
        zip(("rows", "columns") if effect.kind == "interaction" else (effect.kind,), effect.levels, strict=True)
    )
    return {
        "endpoint": crossing.endpoint,
        "unit": crossing.unit,
        "effect": effect.kind,
        "row_factor": rows.name if "rows" in levels else "",
        "row_from": rows.levels[0] if "rows" in levels else "",
        "row_to": levels.get("rows", ""),
        "column_factor": columns.name if "columns" in levels else "",
        "column_from": columns.levels[0] if "columns" in levels else "",
        "column_to": levels.get("columns", ""),
        "lower_by": effect.estimate.value,
        "low": effect.estimate.low,
        "high": effect.estimate.high,
        "seeds": effect.pairs,
        "planned": effect.planned,
    }


def _trials(comparison: Comparison) -> list[dict[str, Value]]:
    trials = (*comparison.trials, *comparison.donors)
    names = (TOP5,) if any(TOP5 in trial.result.metrics for trial in trials if trial.result) else ()
    return [_trial(trial, (*METRICS, *names)) | {"donor_of": _donor_of(trial, comparison)} for trial in trials]


def _donor_of(trial: TrialRecord, comparison: Comparison) -> str:
    """The arms that start from a trial's network, or test it."""
    registration = comparison.registration
    served = {arm: (donor,) for arm, donor in registration.donors.items()} | dict(registration.tested)
    return ", ".join(arm for arm, donors in served.items() if trial.arm in donors)


def _trial(trial: TrialRecord, names: Sequence[str]) -> dict[str, Value]:
    result = trial.result
    metrics: Mapping[str, float] = result.metrics if result else {}
    cost: Mapping[str, float] = result.cost if result else {}
    lines = result.error.strip().splitlines() if result else []
    return {
        "arm": trial.arm,
        "seed": trial.seed,
        "state": trial.state,
        **{name: metrics.get(name, math.nan) for name in names},
        **{name: cost.get(name, math.nan) for name in COSTS},
        "epochs": len(result.times) if result else "",
        "fingerprint": result.fingerprint if result else "",
        **{f"{name}_digest": result.digests.get(name, "") if result else "" for name in ("data", "code", "platform")},
        "run_id": trial.run_id,
        "reused_from": trial.reused_from,
        "error": lines[-1].strip() if lines else "",
    }


def written(rows: Sequence[Mapping[str, Value]], digits: int = 17) -> str:
    """Rows under the names of the first one; nothing where there are none."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    if rows:
        writer.writerow(rows[0])
        writer.writerows(_cells(row.values(), digits) for row in rows)
    return stream.getvalue()


def _cells(values: Iterable[Value], digits: int) -> list[str]:
    return [guarded(value) if isinstance(value, str) else _number(value, digits) for value in values]


def _number(value: float, digits: int) -> str:
    if isinstance(value, int) or not math.isfinite(value):
        return str(value) if isinstance(value, int) else ""
    return repr(float(f"{value:.{digits}g}"))
