"""Names of metrics in MLflow, and those of the curves in a trial's result that they stand for."""

from __future__ import annotations

from collections.abc import Mapping

# MLflow shows a group of charts for each prefix before a slash, ahead of all other charts, and sorts those by name. A
# norm per layer makes 19 charts of VGG-E: without a slash, and under a name behind ``validation_loss``, they come last.
CURVE_PREFIX = "gradient_norm/"  # in results, and in MLflow as earlier versions logged it
METRIC_PREFIX = "weight_gradient_norm."
LEADING_CURVES = ("validation_error", "train_error", "validation_loss", "train_loss")


def metric_name(curve: str) -> str:
    """Name under which a curve is logged."""
    if curve.startswith(CURVE_PREFIX):
        return METRIC_PREFIX + curve.removeprefix(CURVE_PREFIX)
    return curve


def display_rank(curve: str) -> int:
    """Place of a curve among those that are logged at once: errors and losses first, norms of single layers last.

    MLflow lists metrics in the order in which they came, and its page of comparison opens with the first one.
    """
    if curve in LEADING_CURVES:
        return LEADING_CURVES.index(curve)
    return len(LEADING_CURVES) + curve.startswith(CURVE_PREFIX)


def curve_name(metric: str) -> str:
    """Name of the curve that a metric holds, whichever version logged it."""
    if metric.startswith(METRIC_PREFIX):
        return CURVE_PREFIX + metric.removeprefix(METRIC_PREFIX)
    return metric


def to_curves(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics that are read back, by the names of the curves that they hold."""
    return {curve_name(name): value for name, value in metrics.items()}
