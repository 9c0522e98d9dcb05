"""The trainings of a study's calibration, where the tracking store has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lightning_modules.specs.values import Leaf
from studies.design.declare import CALIBRATION_PREFIX
from studies.records.study_record import StudyRecord


def read_calibration(
    study: str, overrides: Mapping[str, Leaf], read_record: Callable[[str], StudyRecord]
) -> StudyRecord | None:
    """The trainings of a study's calibration; ``None`` where there are none, or under other settings.

    Args:
        study: name of the ablation.
        overrides: of the study, by ``--set``.
        read_record: reads the record of a study by name, under the study's protocol.
    """
    from studies.tracking.errors import TrackingError  # imports MLflow, which pages of a record at hand do not need

    try:
        record = read_record(f"{CALIBRATION_PREFIX}{study}")
    except TrackingError:
        return None
    # With other settings the noise is another.
    return record if dict(record.registration.overrides) == dict(overrides) else None
