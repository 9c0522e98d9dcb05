"""What a calibration measures: trainings, cases, and rates with their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ablations import Claim
from reports.calibration.noise import ArmNoise, PairedNoise
from reports.statistics.critical_values import Array

World = Literal["unpaired", "paired"]
Quantity = Literal["wrong", "found", "wrong equivalence", "found equivalence"]
MIN_TRAININGS = 8  # of an arm; the bootstrap of fewer tells little


@dataclass(frozen=True, kw_only=True, eq=False)
class Trainings:
    """Test errors of many trainings of a study's arms.

    Attributes:
        claims: the study's own, as far as they are on test error and on these arms.
        errors: percent, arms x seeds, the baseline first; finite.
        num_left_out: seeds under which an arm has no test error.
        smallest_effect: points.
        resolution: smallest step of an error, points.
    """

    study: str
    protocol: str
    arms: tuple[str, ...]
    claims: tuple[Claim, ...]
    errors: Array
    num_left_out: int
    smallest_effect: float
    resolution: float

    @property
    def num_trainings(self) -> int:
        """Trainings of every arm."""
        return int(self.errors.shape[1])


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a rate is measured on.

    Attributes:
        quantity: ``wrong`` for studies with a wrong verdict where no arm differs; ``found`` for a true improvement that
            is found; ``wrong equivalence`` for a difference of ε that is called equivalent.
        arm: whose trainings are dealt in the unpaired world; which arm is shifted, empty for the mean over arms.
        claims: the judged claims, in words.
        shift: true improvement of the shifted arm, points.
    """

    quantity: Quantity
    world: World
    claims: str
    num_arms: int
    num_seeds: int
    arm: str = ""
    shift: float = 0.0


@dataclass(frozen=True, kw_only=True)
class MeasuredRate:
    """A share of drawn studies, percent, with the 95% interval of the outer bootstrap."""

    case: Case
    percent: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """All rates of a study's trainings.

    Attributes:
        left_out: what did not fit, in sentences.
        num_checked: drawn studies that were judged one by one as well, with the same words.
        planned_seeds: seeds by which a difference is to be found in 80% of studies, by difference in points.
        planned_equivalence_seeds: the same for the equivalence of equal arms.
    """

    trainings: Trainings
    rates: tuple[MeasuredRate, ...]
    arm_noise: tuple[ArmNoise, ...]
    paired_noise: PairedNoise | None
    planned_seeds: Mapping[float, int] = field(default_factory=dict)
    planned_equivalence_seeds: int = 0
    left_out: tuple[str, ...] = ()
    num_checked: int = 0

    def select_rates(self, quantity: Quantity) -> tuple[MeasuredRate, ...]:
        """The rates of one quantity."""
        return tuple(rate for rate in self.rates if rate.case.quantity == quantity)
