"""What a study's seeds and test images could have shown: from their noise and number, never from what was found."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from ablations import AllOf, Claim
from reports.arms import PairDifference
from reports.endpoints import Values
from reports.numbers import NOTHING, Estimate, arrow, fixed, plural, significant, typographic
from reports.statistics.crossed import crossed_interval
from reports.statistics.one_seed import noise_ratio, two_networks
from reports.statistics.planning import resolution, seeds_for_equivalence, upper_limit_of_deviation
from reports.statistics.readers import ALPHA
from reports.statistics.trainability import decidable, fewest_seeds, fisher, share
from studies.records import Registration, StudyRecord

Wrong = dict[int, npt.NDArray[np.bool_]]


def wrong_predictions(record: StudyRecord) -> dict[str, Wrong]:
    """Per arm and seed, which test examples the finished network gets wrong; only where predictions were stored."""
    found: dict[str, Wrong] = {arm: {} for arm in record.registration.arms}
    if record.labels is None:
        return found
    for trial in reversed(record.trials):
        predictions = trial.result.predictions if trial.result and trial.state == "finished" else None
        planned = trial.arm in found and trial.seed in record.registration.seeds
        if planned and predictions is not None and predictions.shape == record.labels.shape and predictions.size:
            found[trial.arm][trial.seed] = predictions != record.labels
    return found


def crossed(over: Wrong, arm: Wrong) -> tuple[Estimate, float]:
    """The difference with its interval over seeds and images, and the part of its error that is the images'."""
    seeds = sorted(over.keys() & arm.keys())
    if len(seeds) < 2:
        return NOTHING, math.nan
    found = crossed_interval(np.array([over[seed].astype(np.int8) - arm[seed] for seed in seeds]))
    return Estimate(value=found.estimate, low=found.low, high=found.high), found.image_standard_error


def limits(
    record: StudyRecord, errors: Values, differences: Sequence[PairDifference], wrong: dict[str, Wrong]
) -> tuple[str, ...]:
    """Sentences for the report; where nothing has finished, only on what could not have been shown anyway."""
    undecidable = tuple(_trainability(record.registration))
    if not np.isfinite(errors).any():
        return undecidable
    effect = record.registration.smallest_effect
    return (
        *_spread(errors, effect),
        *_half_widths(differences),
        *_equivalence(differences, effect),
        *_images(differences, effect),
        *_seed_noise(wrong.values()),
        *_two_networks(record, wrong),
        *undecidable,
    )


def _trainability(registration: Registration) -> Iterable[str]:
    """Whether the planned seeds could decide the claims on trainability at all, at the most lenient level they get."""
    parts = [(number, part) for number, claim in enumerate(registration.claims) for part in _parts(claim)]
    counted = [(number, part) for number, part in parts if part.endpoint == "trainability"]
    if not counted:
        return
    family = {pair for _, part in counted for pair in part.contrasts}
    level = ALPHA if len({number for number, _ in counted}) == 1 else ALPHA / len(family)
    seeds = len(registration.seeds)
    if not decidable(seeds, alpha=level):
        found = fisher(share(seeds, seeds), share(0, seeds))
        yield (
            f"{plural(seeds, 'seed')} cannot decide a claim on trainability, whatever happens: where every seed of one "
            f"arm trains and none of the other, Fisher's exact p is {found:.2g}, and {level:.2g} is needed. It takes "
            f"{plural(fewest_seeds(alpha=level), 'seed')} at least."
        )


def _parts(claim: Claim) -> tuple[Claim, ...]:
    return claim.parts if isinstance(claim, AllOf) else (claim,)


def _spread(errors: Values, effect: float) -> Iterable[str]:
    found = resolution(errors)
    if np.isfinite(errors).all() or errors.shape[1] == 1:
        yield typographic(found.sentence)
    if math.isfinite(found.correlation):
        correlation = fixed(found.correlation, 2)
        yield f"The arms' errors correlate over seeds by {correlation}: the higher, the better pairing pays."
    if math.isnan(found.standard_deviation) or not found.standard_deviation:
        return
    cautious = upper_limit_of_deviation(found.standard_deviation, found.degrees_of_freedom)
    needed = seeds_for_equivalence(effect, cautious) if effect > 0 else None
    if needed is not None:
        yield (
            f"To show two equal arms equivalent within ±{effect:g} points four times in five takes "
            f"{plural(needed, 'seed')}, planned with the upper 90% limit of the SD ({significant(cautious, 2)} points)."
        )


def _half_widths(differences: Sequence[PairDifference]) -> Iterable[str]:
    told = [
        f"{arrow(each.over, each.arm)} {fixed((each.estimate.high - each.estimate.low) / 2, 2)}"
        for each in differences
        if each.registered and each.estimate.bounded
    ]
    if told:
        yield f"Half-widths of the registered simultaneous intervals, in points: {', '.join(told)}."


def _equivalence(differences: Sequence[PairDifference], effect: float) -> Iterable[str]:
    told = [
        f"{arrow(each.over, each.arm)} {fixed(each.equivalent_from, 2)}"
        for each in differences
        if each.registered and each.pairs > 2 and math.isfinite(each.equivalent_from)
    ]
    if told:
        yield (
            f"Smallest effect for which these data would show equivalence, in points (registered: {effect:g}): "
            f"{', '.join(told)}."
        )


def _images(differences: Sequence[PairDifference], effect: float) -> Iterable[str]:
    noise = [each.image_noise for each in differences if math.isfinite(each.image_noise)]
    if noise and max(noise) > effect:
        yield (
            f"The smallest effect of interest, {effect:g} points, is below the noise of the test images, "
            f"{significant(max(noise), 2)} points: no number of seeds settles so small a difference for such images."
        )


def _seed_noise(wrong: Iterable[Wrong]) -> Iterable[str]:
    tables = [np.array([arm[seed] for seed in sorted(arm)]) for arm in wrong if len(arm) > 1]
    found = noise_ratio(tables) if tables else None
    if found is not None and math.isfinite(found.ratio):
        yield (
            f"Seeds vary {fixed(found.ratio, 2)} times as much as independent flips of single images would make them "
            f"(95% interval {fixed(found.low, 2)} to {fixed(found.high, 2)})."
        )


def _two_networks(record: StudyRecord, wrong: dict[str, Wrong]) -> Iterable[str]:
    """With one seed, what may be said of the networks themselves."""
    registration = record.registration
    if len(registration.seeds) != 1:
        return
    (seed,) = registration.seeds
    pairs = dict.fromkeys(pair for claim in registration.claims for pair in claim.contrasts)
    for over, arm in pairs or ((registration.baseline, other) for other in registration.arms[1:]):
        if seed in wrong[over] and seed in wrong[arm]:
            found = two_networks(wrong[over][seed], wrong[arm][seed])
            yield f"{arrow(over, arm)}: {typographic(found.sentence)}"


__all__ = ["crossed", "limits", "wrong_predictions"]
