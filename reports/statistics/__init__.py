"""Statistical methods behind every verdict: pure functions of arrays and claims.

``critical_values``: Dunnett and max-t quantiles. ``contrasts``: paired, simultaneous intervals. ``factorial``: effects
of two crossed factors. ``proportions``: Clopper-Pearson and Fisher. ``image_noise``: McNemar, and seeds crossed with
images. ``families``, ``evidence``, ``verdict_options`` and ``verdicts``: from intervals to words. ``simulation``
and ``power``: the seeds that a question takes. Why these methods, and their measured error rates:
docs/explanation/statistics.md.
"""

from reports.statistics.contrasts import (
    ArmInterval,
    Contrast,
    Estimate,
    arm_interval,
    estimate_combinations,
    estimate_contrasts,
    fit_additive_model,
)
from reports.statistics.critical_values import critical_value
from reports.statistics.evidence import Evidence
from reports.statistics.factorial import EffectEstimate, estimate_effects
from reports.statistics.image_noise import (
    CrossedInterval,
    NetworkDifference,
    NoiseRatio,
    compare_networks,
    crossed_interval,
    noise_ratio,
)
from reports.statistics.power import (
    FamilyDesign,
    Sensitivity,
    VarianceExcess,
    detectable_difference,
    deviation_upper_limit,
    difference_power,
    equivalence_power,
    estimate_sensitivity,
    pairing_correlation,
    required_seeds,
    seeds_for_difference,
    seeds_for_equivalence,
    variance_excess,
)
from reports.statistics.proportions import Proportion, estimate_proportion, fisher_p_value
from reports.statistics.simulation import batched_half_widths
from reports.statistics.verdict_options import VerdictWord
from reports.statistics.verdicts import Verdict, judge_claims

__all__ = [
    "ArmInterval",
    "Contrast",
    "CrossedInterval",
    "EffectEstimate",
    "Estimate",
    "Evidence",
    "FamilyDesign",
    "NetworkDifference",
    "NoiseRatio",
    "Proportion",
    "Sensitivity",
    "VarianceExcess",
    "Verdict",
    "VerdictWord",
    "arm_interval",
    "batched_half_widths",
    "compare_networks",
    "critical_value",
    "crossed_interval",
    "detectable_difference",
    "deviation_upper_limit",
    "difference_power",
    "equivalence_power",
    "estimate_combinations",
    "estimate_contrasts",
    "estimate_effects",
    "estimate_proportion",
    "estimate_sensitivity",
    "fisher_p_value",
    "fit_additive_model",
    "judge_claims",
    "noise_ratio",
    "pairing_correlation",
    "required_seeds",
    "seeds_for_difference",
    "seeds_for_equivalence",
    "variance_excess",
]
