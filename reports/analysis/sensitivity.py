"""Sensitivity of a study: what its seeds and test images could and could not have shown.

Detectable differences, equivalence margins, noise of seeds and images, and, with one seed, differences of networks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lightning_modules.specs.text import format_count, format_points
from reports.analysis.arms import ArmDifference
from reports.analysis.endpoints import EndpointValues
from reports.analysis.interim import study_alpha
from reports.formatting import (
    NO_INTERVAL,
    Interval,
    format_contrast,
    format_fixed,
    format_significant,
    typeset_minus_signs,
)
from reports.statistics.families import claimed_family, make_family, study_family
from reports.statistics.image_noise import NetworkDifference, compare_networks, crossed_interval, noise_ratio
from reports.statistics.power import (
    MAX_SEEDS,
    FamilyDesign,
    describe_noise,
    deviation_upper_limit,
    estimate_sensitivity,
    seeds_for_equivalence,
)
from reports.statistics.proportions import estimate_proportion, fewest_seeds, fisher_p_value, is_decidable
from studies.records.registration import Registration
from studies.records.study_record import StudyRecord

MAX_DIFFERENCE = 100.0  # points: no two errors differ by more
MisclassifiedBySeed = dict[int, npt.NDArray[np.bool_]]  # per seed, whether each test example is misclassified


def misclassified_examples(record: StudyRecord) -> dict[str, MisclassifiedBySeed]:
    """Test examples that each finished network misclassifies, by arm and seed, where predictions were stored."""
    misclassified: dict[str, MisclassifiedBySeed] = {arm: {} for arm in record.registration.arms}
    if record.labels is None:
        return misclassified
    for trial in reversed(record.trials):  # of repeated trials the first one wins
        is_planned = trial.arm in misclassified and trial.seed in record.registration.seeds
        if not is_planned or trial.result is None or trial.state != "finished":
            continue
        predictions = trial.result.predictions
        if predictions is not None and predictions.shape == record.labels.shape and predictions.size:
            misclassified[trial.arm][trial.seed] = predictions != record.labels
    return misclassified


def seed_image_interval(over: MisclassifiedBySeed, arm: MisclassifiedBySeed) -> tuple[Interval, float]:
    """Estimate a difference with its interval over seeds and images, and the standard error due to images."""
    seeds = sorted(over.keys() & arm.keys())
    if len(seeds) < 2:  # the variance over seeds is not known
        return NO_INTERVAL, math.nan
    # Signed integers: the difference of two booleans is no subtraction in NumPy.
    differences = np.array([over[seed].astype(np.int8) - arm[seed] for seed in seeds])
    crossed = crossed_interval(differences)
    return Interval(value=crossed.estimate, low=crossed.low, high=crossed.high), crossed.image_standard_error


def describe_sensitivity(
    record: StudyRecord,
    errors: EndpointValues,
    differences: Sequence[ArmDifference],
    misclassified: dict[str, MisclassifiedBySeed],
) -> tuple[str, ...]:
    """Sentences for the report; with no finished trial, only on what the planned seeds cannot show."""
    undecidable = tuple(_trainability_sentences(record.registration))
    if not np.isfinite(errors).any():
        return undecidable
    effect = record.registration.smallest_effect
    return (
        *_noise_sentences(record.registration, errors),
        *_half_width_sentences(differences),
        *_equivalence_sentences(differences, effect),
        *_image_noise_sentences(differences, effect),
        *_seed_noise_sentences(misclassified.values()),
        *_network_difference_sentences(record, misclassified),
        *undecidable,
    )


def _trainability_sentences(registration: Registration) -> Iterable[str]:
    """State where the planned seeds cannot decide any claim on trainability, whatever happens."""
    family = claimed_family(registration.claims, "trainability")
    if not len(family):
        return
    claims = [
        claim
        for claim in registration.claims
        if any(conjunct.endpoint == "trainability" for conjunct in claim.conjuncts)
    ]
    # The most lenient level that any contrast gets: a sole claim may be read at each conjunct's own level.
    alpha = study_alpha(registration)
    level = alpha if len(claims) == 1 else alpha / len(family)
    seeds = len(registration.seeds)
    if not is_decidable(seeds, alpha=level):
        p_value = fisher_p_value(estimate_proportion(seeds, seeds), estimate_proportion(0, seeds))
        p_text = f"Fisher's exact p is {p_value:.2g}, and {level:.2g} is needed"
        yield (
            f"{format_count(seeds, 'seed')} cannot decide a claim on trainability, whatever happens: even if every "
            f"seed of one arm trains and none of the other, {p_text}. It takes at least "
            f"{format_count(fewest_seeds(alpha=level), 'seed')}."
        )


def _noise_sentences(registration: Registration, errors: EndpointValues) -> Iterable[str]:
    family = study_family(registration.claims, registration.arms)
    if not len(family):
        return
    design = FamilyDesign.of_family(family, registration.arms, study_alpha(registration))
    sensitivity = estimate_sensitivity(errors, design)
    yield from describe_noise(sensitivity, errors, name="errors", unit="points", largest_difference=MAX_DIFFERENCE)
    deviation, freedom = sensitivity.standard_deviation, sensitivity.degrees_of_freedom
    effect = registration.smallest_effect
    if math.isnan(deviation) or not deviation or effect <= 0:
        return
    # A standard deviation from few seeds may be far too small: plan with its upper confidence limit.
    cautious = deviation_upper_limit(deviation, freedom)
    num_seeds = seeds_for_equivalence(effect, cautious, design)
    seeds = f"more than {MAX_SEEDS} seeds" if num_seeds is None else format_count(num_seeds, "seed")
    yield (
        f"To show two equal arms equivalent within ±{format_points(effect)} at 80% power takes {seeds}, planned with "
        f"the upper 90% limit of the SD ({format_significant(cautious, 2)} points)."
    )


def _half_width_sentences(differences: Sequence[ArmDifference]) -> Iterable[str]:
    half_widths = []
    for difference in differences:
        if difference.is_registered and difference.estimate.is_bounded:
            half_width = format_fixed(difference.estimate.half_width, 2)
            half_widths.append(f"{format_contrast(difference.over, difference.arm)} {half_width}")
    if half_widths:
        yield f"Half-widths of the registered simultaneous intervals, in points: {', '.join(half_widths)}."


def _equivalence_sentences(differences: Sequence[ArmDifference], effect: float) -> Iterable[str]:
    margins = []
    for difference in differences:
        # Two seeds may state no margin (see `reports.statistics.verdict_options`).
        if difference.is_registered and difference.num_pairs > 2 and math.isfinite(difference.equivalence_margin):
            margin = format_fixed(difference.equivalence_margin, 2)
            margins.append(f"{format_contrast(difference.over, difference.arm)} {margin}")
    if margins:
        yield (
            f"Smallest effect for which these data would show equivalence, in points (registered: {effect:g}): "
            f"{', '.join(margins)}."
        )


def _image_noise_sentences(differences: Sequence[ArmDifference], effect: float) -> Iterable[str]:
    noise = 0.0
    for difference in differences:
        if math.isfinite(difference.image_standard_error):
            noise = max(noise, difference.image_standard_error)
    if noise > effect:
        yield (
            f"The smallest effect of interest, {format_points(effect)}, is below the noise of the test images, "
            f"{format_significant(noise, 2)} points: no number of seeds can resolve so small a difference on a test "
            "set of this size."
        )


def _seed_noise_sentences(misclassified: Iterable[MisclassifiedBySeed]) -> Iterable[str]:
    tables = [np.array([arm[seed] for seed in sorted(arm)]) for arm in misclassified if len(arm) > 1]
    noise = noise_ratio(tables) if tables else None
    if noise is not None and math.isfinite(noise.ratio):
        yield (
            f"The SD over seeds is {format_fixed(noise.ratio, 2)} times that of independent flips of single images "
            f"(95% interval {format_fixed(noise.low, 2)} to {format_fixed(noise.high, 2)})."
        )


def _network_difference_sentences(record: StudyRecord, misclassified: dict[str, MisclassifiedBySeed]) -> Iterable[str]:
    """With one seed, compare the networks themselves: nothing may be said of the methods."""
    registration = record.registration
    if len(registration.seeds) != 1:
        return
    (seed,) = registration.seeds
    # Registered contrasts; without claims, every arm with the baseline.
    pairs = make_family(pair for claim in registration.claims for pair in claim.contrasts).pairs
    for over, arm in pairs or ((registration.baseline, other) for other in registration.arms[1:]):
        if seed in misclassified[over] and seed in misclassified[arm]:
            difference = compare_networks(misclassified[over][seed], misclassified[arm][seed])
            yield f"{format_contrast(over, arm)}: {typeset_minus_signs(difference.sentence)}"


@dataclass(frozen=True, kw_only=True)
class SeedPair:
    """An arm and the baseline under one seed, on the same examples."""

    arm: str
    seed: int
    result: NetworkDifference


def seed_pairs(registration: Registration, misclassified: dict[str, MisclassifiedBySeed]) -> tuple[SeedPair, ...]:
    """Pair every arm with the baseline, per seed, where one of the two only evaluates trained networks.

    The two then often share their weights, and differences example by example are of interest.
    """
    baseline = registration.baseline
    pairs = []
    for arm in registration.arms[1:]:
        if not {arm, baseline} & registration.tested.keys():
            continue
        for seed in registration.seeds:
            if seed in misclassified[arm] and seed in misclassified[baseline]:
                difference = compare_networks(misclassified[baseline][seed], misclassified[arm][seed])
                pairs.append(SeedPair(arm=arm, seed=seed, result=difference))
    return tuple(pairs)
