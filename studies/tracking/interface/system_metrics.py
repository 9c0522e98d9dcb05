"""The load of the driver's machine, logged to a study's run while it trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from lightning_modules.specs.errors import UserError


def require_system_metrics() -> None:
    """Refuse a start that asks for what MLflow cannot measure here.

    Raises:
        UserError: with the missing Python package.
    """
    if find_spec("psutil") is None:
        raise UserError("--system-metrics needs the Python package psutil: `pip install psutil`.")


@contextmanager
def monitor_system(run_id: str, tracking_uri: str) -> Iterator[None]:
    """Log processor, memory, disk, network and GPUs of this machine every ten seconds, as ``system/...``.

    A further start of the study continues where the last one ended.
    """
    monitoring: Any = import_module("mlflow.system_metrics.system_metrics_monitor")  # has no types
    monitor = monitoring.SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=tracking_uri)
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()
