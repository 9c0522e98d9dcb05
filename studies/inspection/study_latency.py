"""Plan and store the latency measurement of a recorded study (`ablate latency`)."""

from __future__ import annotations

from _thread import interrupt_main
from collections.abc import Callable, Iterable
from pathlib import Path

from lightning_modules.specs.errors import UserError
from lightning_modules.specs.setup import Setup
from lightning_modules.stored_files import dump_json
from studies.latency.measurement import CLAIMED_BATCH_SIZE, LATENCY_FILE, LatencyMeasurement, measurement_to_json
from studies.latency.processes import LatencyPlan, measure_latency
from studies.records.registration import Registration
from studies.storage.atomic import AtomicWriter
from studies.storage.manifest import StudyManifest, hold_study_lease, read_manifest


def plan_latency(
    folder: Path,
    registration: Registration,
    *,
    batch_sizes: Iterable[int],
    device: str,
    threads: int,
    num_processes: int,
    seconds: float,
) -> LatencyPlan:
    """Plan the measurement of every arm's network, as the study's manifest records it.

    Batch size 1, which claims are about, is always measured. Arms that evaluate other arms' networks are skipped.

    Args:
        folder: of the study in the runs folder.

    Raises:
        UserError: where there is no such study, or no arm to measure.
        DamagedFileError: where its manifest cannot be used.
    """
    if not (folder / "study.json").exists():
        raise UserError(
            f"{folder} has no plan of the study, so its networks are unknown; measure where it ran, or import it with "
            "`ablate export` there and `ablate import` here."
        )
    setups = _recorded_setups(read_manifest(folder))
    measured, skipped = {}, {}
    for arm in registration.arms:
        if arm in registration.tested:
            skipped[arm] = "it evaluates networks of other arms"
        elif arm not in setups:
            skipped[arm] = "no trial of it lies in this runs folder"
        else:
            measured[arm] = setups[arm]
    if not measured:
        raise UserError(f"{registration.study} has no arm to measure: every arm evaluates networks of others.")
    return LatencyPlan(
        setups=measured,
        batch_sizes=tuple(sorted({CLAIMED_BATCH_SIZE, *batch_sizes})),
        device=device,
        threads=threads,
        num_processes=num_processes,
        seconds=seconds,
        skipped=skipped,
    )


def _recorded_setups(manifest: StudyManifest) -> dict[str, Setup]:
    """The setup of each arm under the shared recipe; a tuned recipe has the same network."""
    setups: dict[str, Setup] = {}
    for entry in manifest.latest_entries:
        if entry.tags.get("recipe", "shared") == "shared":
            setups.setdefault(entry.trial.arm, entry.trial.setup)
    return setups


def measure_study_latency(
    folder: Path, study: str, plan: LatencyPlan, log: Callable[[str], None]
) -> LatencyMeasurement:
    """Measure a plan while no other process runs the study, and write the result to the study's folder.

    Raises:
        SettingsError: where another process runs the study.
        UserError: if a network cannot be built or called.
    """
    with hold_study_lease(folder, study, on_lost=interrupt_main):
        measurement = measure_latency(plan, log)
        with AtomicWriter(folder / LATENCY_FILE) as partial:
            partial.write_bytes(dump_json(measurement_to_json(measurement), indent=2))
    return measurement
