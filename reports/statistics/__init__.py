"""Statistical methods behind every verdict: pure functions of arrays and claims.

``critical_values``: Dunnett and max-t quantiles. ``contrasts``: paired, simultaneous intervals. ``factorial``: effects
of two crossed factors. ``proportions``: Clopper-Pearson and Fisher. ``random_effects``: seeds crossed with images.
``paired_networks``: McNemar. ``evidence`` and ``verdicts``: from intervals to words. ``planning``, ``simulation`` and
``power``: the seeds that a question takes. Why these methods, and their measured error rates: docs/statistics.md.
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
from reports.statistics.paired_networks import NetworkDifference, NoiseRatio, compare_networks, noise_ratio
from reports.statistics.planning import (
    Sensitivity,
    deviation_upper_limit,
    equivalence_power,
    estimate_sensitivity,
    half_width,
    minimum_detectable_difference,
    pairing_correlation,
    seeds_for_equivalence,
)
from reports.statistics.power import (
    required_seeds,
    simulate_detectable_difference,
    simulate_difference_power,
    simulate_equivalence_power,
)
from reports.statistics.proportions import Proportion, estimate_proportion, fisher_p_value
from reports.statistics.random_effects import CrossedInterval, crossed_interval
from reports.statistics.simulation import batched_half_widths
from reports.statistics.verdicts import Verdict, VerdictWord, judge_claims

__all__ = [
    "ArmInterval",
    "Contrast",
    "CrossedInterval",
    "EffectEstimate",
    "Estimate",
    "Evidence",
    "NetworkDifference",
    "NoiseRatio",
    "Proportion",
    "Sensitivity",
    "Verdict",
    "VerdictWord",
    "arm_interval",
    "batched_half_widths",
    "compare_networks",
    "critical_value",
    "crossed_interval",
    "deviation_upper_limit",
    "equivalence_power",
    "estimate_combinations",
    "estimate_contrasts",
    "estimate_effects",
    "estimate_proportion",
    "estimate_sensitivity",
    "fisher_p_value",
    "fit_additive_model",
    "half_width",
    "judge_claims",
    "minimum_detectable_difference",
    "noise_ratio",
    "pairing_correlation",
    "required_seeds",
    "seeds_for_equivalence",
    "simulate_detectable_difference",
    "simulate_difference_power",
    "simulate_equivalence_power",
]
