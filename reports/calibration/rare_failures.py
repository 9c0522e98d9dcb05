"""Trainings of an arm that fail now and then: what a study of a few seeds cannot see of the mean.

The interval of a mean assumes that its seeds show the spread. Where one training in eighteen ends at many times the
usual error, most studies of eight seeds contain no such training: their means are too low, and their intervals do not
reach the true one. Only the many trainings of a calibration can tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lightning_modules.specs.text import format_count
from reports.analysis.endpoints import endpoint_values
from reports.formatting import format_fixed
from reports.statistics.critical_values import Array
from studies.records.study_record import StudyRecord

# Robust standard deviations above the median. Errors that are merely skewed seldom lie there: of a gamma distribution
# of shape 2, one in 7,000; of an exponential one, one in 600.
FENCE = 8.0
ROBUST_SCALE = 1.4826  # of the median absolute deviation, to estimate the SD of normal errors
ENOUGH_TRAININGS = 50  # with fewer, one failure says little of how often there is one


@dataclass(frozen=True, kw_only=True)
class RareFailures:
    """Trainings of one arm that ended far above its usual test error.

    Attributes:
        num_trainings: finished trainings of the arm.
        num_failures: of these, above ``limit``.
        median: test error, percent.
        limit: test error, percent: the median and eight robust standard deviations.
    """

    num_trainings: int
    num_failures: int
    median: float
    limit: float

    def probability_of_none(self, num_seeds: int) -> float:
        """Probability that a study of so many seeds contains none of these trainings."""
        return float((1 - self.num_failures / self.num_trainings) ** num_seeds)

    def __str__(self) -> str:
        limit, median = format_fixed(self.limit, 1), format_fixed(self.median, 1)
        return f"{self.num_failures} of {self.num_trainings} above {limit}%, the median being {median}%"


def find_rare_failures(errors: Array) -> RareFailures | None:
    """Find trainings far above the usual error; ``None`` where there are none, or too few trainings to tell.

    Args:
        errors: test errors in percent, shape ``trainings``; NaN where a training has none.
    """
    finished = errors[np.isfinite(errors)]
    if len(finished) < ENOUGH_TRAININGS:
        return None
    median = float(np.median(finished))
    spread = ROBUST_SCALE * float(np.median(np.abs(finished - median)))
    limit = median + FENCE * spread
    num_failures = int((finished > limit).sum())
    # Where more than half of the errors are equal, nothing tells what is usual.
    if spread == 0 or num_failures == 0:
        return None
    return RareFailures(num_trainings=len(finished), num_failures=num_failures, median=median, limit=limit)


def rare_failure_cautions(record: StudyRecord, calibration: StudyRecord) -> Iterator[str]:
    """A caution per arm of a study that fails now and then in the trainings of its calibration."""
    num_seeds = len(record.registration.seeds)
    seeds = format_count(num_seeds, "seed")
    for arm, errors in zip(calibration.registration.arms, endpoint_values(calibration, "test_error"), strict=True):
        failures = find_rare_failures(errors) if arm in record.registration.arms else None
        if failures is None:
            continue
        share_without = f"{failures.probability_of_none(num_seeds):.0%}"
        yield (
            f"{arm} fails now and then: in its calibration, trainings ended far above the usual test error "
            f"({failures}). Of studies with {seeds}, {share_without} contain no such "
            f"training, and {arm} then looks better than its mean: verdicts on it are wrong more often than 5%. "
            "`ablate calibrate` tells how often."
        )
