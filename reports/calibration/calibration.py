"""Error rates and power of the verdict rule, measured on real trainings.

A rate is the share of drawn studies in which a verdict is wrong, or right. Its interval comes from an outer bootstrap:
the trainings are resampled, studies are drawn from each resample, and the spread of the rates over resamples, freed of
the sampling noise of its few drawn studies, is the standard error. It tells how much other trainings would have
changed the rate; drawing more studies does not narrow it.

Source: Efron & Tibshirani 1993, Sect. 6 (bootstrap standard errors).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from reports.calibration.cases import Calibration, Case, MeasuredRate, Trainings
from reports.calibration.noise import measure_arm_noise, measure_paired_noise
from reports.calibration.sampling_plan import SamplingPlan, Share

NUM_STUDIES = 10_000
NUM_RESAMPLES = 200
NUM_STUDIES_PER_RESAMPLE = 1000
NORMAL_QUANTILE = 1.96  # 95%, two-sided


def calibrate_rule(
    trainings: Trainings,
    *,
    num_studies: int = NUM_STUDIES,
    num_resamples: int | None = None,
    seed: int = 0,
    report_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Calibration:
    """Measure the rule's error rates and power on trainings.

    Args:
        num_studies: drawn per rate.
        num_resamples: of the outer bootstrap, ``NUM_RESAMPLES`` by default.
        seed: of the draws: the same trainings give the same rates.
        report_progress: called with the resamples done and their number.

    Raises:
        RuntimeError: if a drawn study gets another word than from the report's own function.
    """
    random = np.random.default_rng(seed)
    plan = SamplingPlan(trainings)
    num_checked = plan.check_words(random)
    num_resamples = num_resamples or NUM_RESAMPLES
    shares = plan.measure_shares(trainings.errors, num_studies, random)
    resampled_shares: dict[Case, list[Share]] = {case: [] for case in shares}
    for number in range(num_resamples):
        chosen = random.integers(trainings.num_trainings, size=trainings.num_trainings)
        resample = trainings.errors[:, chosen]  # jointly for all arms
        for case, share in plan.measure_shares(resample, NUM_STUDIES_PER_RESAMPLE, random).items():
            resampled_shares[case].append(share)
        report_progress(number + 1, num_resamples)
    rates = [make_rate(case, share, resampled_shares[case]) for case, share in shares.items()]
    arm_noise = []
    for arm, errors in zip(trainings.arms, trainings.errors, strict=True):
        arm_noise.append(measure_arm_noise(arm, errors, random))
    return Calibration(
        trainings=trainings,
        rates=tuple(rates),
        arm_noise=tuple(arm_noise),
        paired_noise=measure_paired_noise(trainings.errors, random) if len(trainings.arms) > 1 else None,
        planned_seeds=plan.planned_seeds,
        planned_equivalence_seeds=plan.planned_equivalence_seeds,
        left_out=tuple(plan.describe_left_out()),
        num_checked=num_checked,
    )


def make_rate(case: Case, share: Share, resampled: Sequence[Share]) -> MeasuredRate:
    """Give a share its interval."""
    spread = float(np.var([item.value for item in resampled], ddof=1))
    # What the few studies of a resample add to that spread has nothing to do with the trainings.
    between_trainings = max(0.0, spread - float(np.mean([item.variance for item in resampled])))
    half_width = NORMAL_QUANTILE * math.sqrt(between_trainings + share.variance)
    return MeasuredRate(
        case=case,
        percent=100 * share.value,
        low=100 * max(0.0, share.value - half_width),
        high=100 * min(1.0, share.value + half_width),
    )
