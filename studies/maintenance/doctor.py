"""All health checks of `ablate doctor`, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from lightning_modules.specs.errors import UserError
from studies.maintenance.environment import check_cluster, check_data, check_devices, check_installation
from studies.maintenance.health_check import HealthCheck
from studies.maintenance.runs_folder import check_runs_folder, check_storage
from studies.maintenance.tracking_checks import check_tracking_store
from studies.settings import Settings
from studies.tracking.errors import TrackingError


def check_health(
    settings: Settings, protocol: str | None, ray_address: str = "", *, deep: bool = False
) -> Iterator[HealthCheck]:
    """Run all checks, one after the other.

    Args:
        protocol: the protocol whose data are read; ``None`` to read none.
        ray_address: a Ray cluster to check as well; empty for none.
        deep: whether to read and verify every stored file.
    """
    yield from _run_guarded("installation", check_installation)
    yield from _run_guarded("devices", check_devices)
    if protocol is not None:
        yield from _run_guarded("data", lambda: check_data(settings, protocol))
    yield from _run_guarded("storage", lambda: check_storage(settings))
    yield from _run_guarded("runs folder", lambda: check_runs_folder(settings))
    if deep:
        from studies.maintenance import deep_checks  # loads torch, which reads checkpoints

        yield from _run_guarded("stored content", lambda: deep_checks.check_stored_content(settings))
    yield from _run_guarded("record", lambda: check_tracking_store(settings))
    if deep:
        yield from _run_guarded("stored artifacts", lambda: deep_checks.check_stored_artifacts(settings))
    if ray_address:
        yield from _run_guarded("cluster", lambda: check_cluster(settings, ray_address))


def _run_guarded(area: str, run_check: Callable[[], Iterable[HealthCheck]]) -> Iterator[HealthCheck]:
    """Run the checks of an area; an exception becomes a finding, so that the other areas are still checked."""
    try:
        yield from run_check()
    except (UserError, TrackingError) as error:
        yield HealthCheck(area=area, level="error", finding=str(error))
    except Exception as error:  # a doctor that crashes helps nobody: report whatever it is
        yield HealthCheck(area=area, level="error", finding=f"the check failed: {type(error).__name__}: {error}")
