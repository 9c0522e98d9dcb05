"""Measured differences beside those of public replications: reproduced, different, or too uncertain to tell.

Levels of error depend on recipe and data; differences between arms do so less. A difference *reproduces* that of a
replication if the 90% Welch interval of measured minus replicated lies within ±0.7 points (two one-sided tests), and
*differs* if the 95% interval lies outside of ±0.7 points; else one cannot tell, as with fewer than three seeds or where
the two arms lost unequal numbers of seeds that did not train. A single run shows no spread: its
standard deviation is assumed to be 0.25 points, about that of the replications with several runs, and known.

Source: Welch 1947; Schuirmann 1987.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from ablations import ReplicatedError, Replication
from reports.analysis.endpoints import EndpointValues
from reports.formatting import Interval
from reports.statistics.power import MIN_SEEDS_FOR_MARGINS
from studies.records.registration import Registration

ReplicationWord = Literal["reproduces", "differs", "cannot tell", "other data", "other networks"]
MARGIN = 0.7  # points
ASSUMED_DEVIATION = 0.25  # points, of a single run
REPRODUCES_LEVEL, DIFFERS_LEVEL = 0.10, 0.05


@dataclass(frozen=True, kw_only=True)
class MeanTerm:
    """A mean that a Welch interval adds or subtracts.

    Attributes:
        variance: of the mean.
        degrees_of_freedom: of that variance; infinite where it is assumed.
    """

    value: float
    variance: float
    degrees_of_freedom: float


@dataclass(frozen=True, kw_only=True)
class ReplicatedDifference:
    """A measured difference, or the level of an arm, beside that of one replication.

    Attributes:
        over: the first arm; empty where the level of ``arm`` is compared.
        measured: error reduction from ``over`` to ``arm``, or the level, with its own 95% interval; points.
        replicated: the same of the replication.
        excess: measured minus replicated, with its 90% Welch interval; without limits where nothing is compared.
        is_spread_assumed: whether the spread of a single run was assumed.
    """

    over: str
    arm: str
    source: str
    measured: Interval
    replicated: float
    excess: Interval
    word: ReplicationWord
    is_spread_assumed: bool


def compare_with_replications(
    registration: Registration,
    errors: EndpointValues,
    pairs: Iterable[tuple[str, str]],
    num_lost: Sequence[int] = (),
) -> tuple[ReplicatedDifference, ...]:
    """Compare measured differences with those of every registered replication that has both arms.

    Args:
        errors: test error, registered arms x seeds.
        pairs: ``(over, arm)``.
        num_lost: of each arm, seeds that did not train; none by default.
    """
    pairs = tuple(pairs)
    num_lost = num_lost or [0] * len(registration.arms)
    lost_by_arm = {"": 0} | dict(zip(registration.arms, num_lost, strict=True))
    found: list[ReplicatedDifference] = []
    for replication in registration.replications:
        obstacle = describe_obstacle(registration, replication)
        if not obstacle and not replication.differs:
            for arm in registration.arms:
                if arm in replication.values:
                    found.append(_compare(registration, errors, replication, "", arm, obstacle, lost_by_arm))
        for over, arm in pairs:
            if {over, arm} <= set(replication.values):
                found.append(_compare(registration, errors, replication, over, arm, obstacle, lost_by_arm))
    return tuple(found)


def describe_obstacle(registration: Registration, replication: Replication) -> ReplicationWord | Literal[""]:
    """Return why a study's figures are not comparable with a replication's; empty where they are."""
    name, form = str(registration.data.get("name", "")), str(registration.data.get("form", ""))
    # A copy in image files was compressed, rescaled or chosen by somebody: other pixels, and perhaps other images.
    if name != replication.data or "image folder" in form:
        return "other data"
    return "" if registration.held.get("scale.width", 1.0) == 1.0 else "other networks"


def _compare(
    registration: Registration,
    errors: EndpointValues,
    replication: Replication,
    over: str,
    arm: str,
    obstacle: ReplicationWord | Literal[""],
    lost_by_arm: Mapping[str, int],
) -> ReplicatedDifference:
    row = errors[registration.arms.index(arm)]
    values = errors[registration.arms.index(over)] - row if over else row
    measured = measured_term(values[np.isfinite(values)])
    replicated = [replicated_term(replication.values[arm], sign=-1 if over else 1)]
    if over:
        replicated.append(replicated_term(replication.values[over], sign=1))
    replicated_value = sum(term.value for term in replicated)
    used = [replication.values[name] for name in (over, arm) if name]
    word: ReplicationWord = obstacle or "cannot tell"
    # From two pairs no margin is stated; and an arm that lost more seeds is flattered by the rest.
    has_equal_losses = lost_by_arm[over] == lost_by_arm[arm]
    is_comparable = np.isfinite(values).sum() >= MIN_SEEDS_FOR_MARGINS and has_equal_losses
    excess = Interval(value=measured.value - replicated_value)
    if not obstacle and math.isfinite(measured.variance):
        excess = welch_interval(measured, replicated, alpha=REPRODUCES_LEVEL)
        if is_comparable:
            word = judge_excess(excess, welch_interval(measured, replicated, alpha=DIFFERS_LEVEL))
    return ReplicatedDifference(
        over=over,
        arm=arm,
        source=replication.source,
        measured=welch_interval(measured, [], alpha=DIFFERS_LEVEL),
        replicated=replicated_value,
        excess=excess,
        word=word,
        is_spread_assumed=any(value.deviation is None for value in used),
    )


def measured_term(values: EndpointValues) -> MeanTerm:
    """Return the mean of values over seeds; its variance is infinite below two of them."""
    if len(values) < 2:
        return MeanTerm(
            value=float(values.mean()) if len(values) else math.nan, variance=math.inf, degrees_of_freedom=1.0
        )
    variance = float(values.var(ddof=1)) / len(values)
    return MeanTerm(value=float(values.mean()), variance=variance, degrees_of_freedom=len(values) - 1)


def replicated_term(error: ReplicatedError, *, sign: int) -> MeanTerm:
    """Return a replication's mean error with a sign; the spread of a single run is assumed."""
    if error.deviation is None:
        variance = ASSUMED_DEVIATION**2 / error.num_runs
        return MeanTerm(value=sign * error.mean, variance=variance, degrees_of_freedom=math.inf)
    variance = error.deviation**2 / error.num_runs
    return MeanTerm(value=sign * error.mean, variance=variance, degrees_of_freedom=error.num_runs - 1)


def welch_interval(measured: MeanTerm, replicated: Sequence[MeanTerm], *, alpha: float) -> Interval:
    """Return measured minus replicated, with degrees of freedom by Welch and Satterthwaite."""
    center = measured.value - sum(term.value for term in replicated)
    terms = [measured, *replicated]
    variance = sum(term.variance for term in terms)
    if not math.isfinite(variance):
        return Interval(value=center)
    if variance == 0:
        return Interval(value=center, low=center, high=center)
    denominator = sum(term.variance**2 / term.degrees_of_freedom for term in terms)
    freedom = variance**2 / denominator if denominator else math.inf
    half_width = float(stats.t.ppf(1 - alpha / 2, freedom)) * math.sqrt(variance)
    return Interval(value=center, low=center - half_width, high=center + half_width)


def judge_excess(narrow: Interval, wide: Interval) -> ReplicationWord:
    """Judge measured minus replicated by its 90% and its 95% interval."""
    if narrow.low > -MARGIN and narrow.high < MARGIN:
        return "reproduces"
    if wide.low > MARGIN or wide.high < -MARGIN:
        return "differs"
    return "cannot tell"


def describe_replications(replications: Iterable[Replication]) -> Iterator[str]:
    """Say, per replication, where it is printed, how it was trained, and what differs."""
    for replication in replications:
        differs = f" What differs: {replication.differs}." if replication.differs else ""
        yield f"{replication.source}: {replication.recipe}.{differs}"
