"""Paired, simultaneous and exact: the numbers behind every verdict. Pure functions of arrays and claims."""

from reports.statistics.contrasts import (
    ArmInterval,
    Contrast,
    Estimate,
    additive_fit,
    arm_interval,
    contrasts,
    estimates,
)
from reports.statistics.critical import critical_value
from reports.statistics.crossed import CrossedInterval, crossed_interval
from reports.statistics.factorial import Effect, factorial
from reports.statistics.many import half_widths
from reports.statistics.one_seed import NoiseRatio, TwoNetworks, noise_ratio, two_networks
from reports.statistics.planning import (
    Resolution,
    equivalence_power,
    half_width,
    minimum_detectable_difference,
    pairing_correlation,
    resolution,
    seeds_for_difference,
    seeds_for_equivalence,
    upper_limit_of_deviation,
)
from reports.statistics.power import (
    detectable_difference,
    power_of_difference,
    power_of_equivalence,
    seeds_needed,
)
from reports.statistics.readers import Evidence
from reports.statistics.trainability import Share, fisher, share
from reports.statistics.verdicts import Verdict, Word, judge

__all__ = [
    "ArmInterval",
    "Contrast",
    "CrossedInterval",
    "Effect",
    "Estimate",
    "Evidence",
    "NoiseRatio",
    "Resolution",
    "Share",
    "TwoNetworks",
    "Verdict",
    "Word",
    "additive_fit",
    "arm_interval",
    "contrasts",
    "critical_value",
    "crossed_interval",
    "detectable_difference",
    "equivalence_power",
    "estimates",
    "factorial",
    "fisher",
    "half_width",
    "half_widths",
    "judge",
    "minimum_detectable_difference",
    "noise_ratio",
    "pairing_correlation",
    "power_of_difference",
    "power_of_equivalence",
    "resolution",
    "seeds_for_difference",
    "seeds_for_equivalence",
    "seeds_needed",
    "share",
    "two_networks",
    "upper_limit_of_deviation",
]
