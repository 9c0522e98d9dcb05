"""Placebo arms apart from the others: the baseline again, with another draw of one stream of random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from studies.records.study_record import StudyRecord


def without_placebos(record: StudyRecord) -> StudyRecord:
    """Return the record of the arms about which something is claimed; a placebo takes no part in their intervals."""
    placebos = record.registration.placebos
    if not placebos:
        return record
    return select_arms(record, [arm for arm in record.registration.arms if arm not in placebos])


def select_arms(record: StudyRecord, arms: Sequence[str]) -> StudyRecord:
    """Return the record of some arms, the baseline among them."""
    return replace(record, registration=replace(record.registration, arms=tuple(arms)))
