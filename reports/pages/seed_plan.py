"""Seed plans: made from what is recorded, and shown on a terminal or in a notebook."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

from lightning_modules.specs.errors import UserError
from lightning_modules.specs.notebook_html import render_line, render_table, render_view
from lightning_modules.specs.text import format_count
from lightning_modules.specs.values import Leaf
from reports.calibration.recorded_trainings import read_calibration
from reports.comparison.seed_planning import plan_seeds
from reports.formatting import format_duration, format_significant
from reports.statistics.power import MAX_SEEDS
from studies.design.budget import NO_BUDGET, RunBudget
from studies.design.declare import declare
from studies.design.study import Study
from studies.design.trial import Trial
from studies.execution.resources import Resources
from studies.protocols import DEFAULT_PROTOCOL
from studies.records.study_record import StudyRecord
from studies.settings import Settings
from studies.tracking.errors import TrackingError
from studies.tracking.store import open_store

if TYPE_CHECKING:
    import pandas as pd


class PlannedNoise(TypedDict):
    """Noise that is planned with, percentage points; ``cautious`` is ``None`` for a stated spread."""

    deviation: float
    cautious: float | None
    source: str


class PlannedCost(TypedDict):
    """Cost of the trials that are added; what is unknown is ``None``."""

    trials: int
    hours: float | None
    wall_hours: float | None
    gpu_hours: float | None
    money: float | None


class PlannedAnswer(TypedDict):
    """Seeds that a question takes, ``None`` for more than ``MAX_SEEDS``; ``power_now`` is that of the seeds at hand."""

    question: str
    seeds: int | None
    cautious: int | None
    power_now: float
    power_in_budget: float | None
    cost: PlannedCost | None
    cautious_cost: PlannedCost | None


class PlannedSpending(TypedDict):
    """Expected spending of the seeds that fit a budget."""

    seconds: float
    gpu_hours: float


class PlannedBudget(TypedDict):
    """Whole seeds that fit a budget; see :class:`reports.comparison.seed_budget.SeedBudget`."""

    limits: dict[str, float | None]
    text: str
    further: int | None
    seeds: int | None
    trials: int | None
    spending: PlannedSpending | None
    cost: float | None
    detectable: float | None
    power: float | None
    note: str


class SeedPlanData(TypedDict):
    """A seed plan under the keys of `ablate plan --json`; see :func:`reports.comparison.seed_planning.plan_seeds`."""

    study: str
    protocol: str
    arms: int
    contrasts: int
    alpha: float
    power: float
    spread: PlannedNoise
    seeds_at_hand: int
    detectable_at_hand: float | None
    smallest_effect: float
    difference: float | None
    equivalence: float | None
    gpus_per_trial: float
    answers: list[PlannedAnswer]
    budget: PlannedBudget | None


@dataclass(frozen=True, repr=False)
class SeedPlan:
    """Seeds that the questions to a study take.

    Attributes:
        data: the plan as plain data, under the keys of `ablate plan --json`.
    """

    data: SeedPlanData

    @classmethod
    def of_data(cls, data: dict[str, Any]) -> SeedPlan:
        """Make a plan of what :func:`reports.comparison.seed_planning.plan_seeds` returns."""
        return cls(cast("SeedPlanData", data))

    @property
    def has_pilot(self) -> bool:
        """Whether the noise was measured, so that there is a cautious plan as well."""
        return self.data["spread"]["cautious"] is not None

    @property
    def noise_line(self) -> str:
        """The noise that is planned with, in a line."""
        noise = self.data["spread"]
        line = f"SD of a paired difference {format_significant(noise['deviation'], 2)} points, {noise['source']}"
        if noise["cautious"]:
            line += f"; its upper 90% limit is {format_significant(noise['cautious'], 2)}"
        return line

    @property
    def family_line(self) -> str:
        """The family of differences and its confidence level, in a line."""
        level = f"{100 * (1 - self.data['alpha']):.3g}%"
        differences = format_count(self.data["contrasts"], "registered difference")
        return f"{differences} of {self.data['arms']} arms, {level} simultaneous confidence"

    @property
    def seeds_in_budget(self) -> int | None:
        """Seeds that fit the budget, with those that are recorded; ``None`` without one, or where that is unknown."""
        budget = self.data.get("budget")
        return budget["seeds"] if budget else None

    @property
    def budget_line(self) -> str:
        """The whole seeds that fit the budget and what they find, in a line; empty without a budget."""
        budget = self.data.get("budget")
        if not budget:
            return ""
        if budget["note"] or budget["further"] is None or budget["seeds"] is None:
            return f"{budget['text']}: {budget['note']}"
        num_recorded = budget["seeds"] - budget["further"]
        fit = "fits" if budget["further"] == 1 else "fit"
        or_more = " or more" if budget["further"] == MAX_SEEDS else ""  # none is counted beyond
        line = f"{budget['text']}: {format_count(budget['further'], 'whole seed')}{or_more} {fit}"
        if num_recorded:
            line += f" beside the {num_recorded} recorded, {budget['seeds']} in all"
        line += f" ({_format_budget_cost(budget)})"
        if budget["detectable"] is None or budget["power"] is None:
            return f"{line}; one seed has no interval, so it finds nothing"
        return (
            f"{line}; smallest difference found at {self.data['power']:.0%} power: "
            f"{format_significant(budget['detectable'], 2)} points; power at the smallest effect of interest, "
            f"{self.data['smallest_effect']:g}: {budget['power']:.0%}"
        )

    @property
    def header(self) -> tuple[str, ...]:
        """Column titles of :attr:`rows`."""
        titles = [f"question, at {self.data['power']:.0%} power", "seeds"]
        if self.has_pilot:
            titles.append("cautious")
        powers = [f"power with {self.data['seeds_at_hand']}"]
        if self.seeds_in_budget is not None:
            powers.append(f"with {self.seeds_in_budget}")
        # With a pilot, the cost shown is the higher one: a budget should not run out.
        costs = "the cautious plan adds" if self.has_pilot else "the plan adds"
        return (*titles, *powers, costs)

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """One row of cells per question."""
        return [_answer_row(answer, has_pilot=self.has_pilot) for answer in self.data["answers"]]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the seeds at hand detect, and how to read the plan."""
        plan, notes = self.data, []
        seeds_at_hand, detectable = plan["seeds_at_hand"], plan["detectable_at_hand"]
        if detectable is not None:
            notes.append(
                f"Smallest difference that {format_count(seeds_at_hand, 'seed')} detect at {plan['power']:.0%} power: "
                f"{format_significant(detectable, 2)} points; the smallest effect of interest is "
                f"{plan['smallest_effect']:g}."
            )
        if plan["difference"] is not None and plan["difference"] < plan["smallest_effect"]:
            notes.append(
                "A difference below the smallest effect of interest may be detected and still be practically "
                "equivalent."
            )
        if self.has_pilot:
            notes.append(
                "Cautious: planned with the upper limit of the noise, since a pilot of few seeds may underestimate it."
            )
        costs = [answer["cost"] for answer in plan["answers"]]
        if plan["gpus_per_trial"] and any(cost and cost["hours"] is None for cost in costs):
            notes.append(
                "Time and GPU hours are not known: not of every arm is a trial recorded that was trained on a GPU. A "
                "pilot measures them."
            )
        return tuple(notes)

    def to_frame(self) -> pd.DataFrame:
        """One row per question: ``seeds`` and ``cautious_seeds`` (missing above 500), ``power_now`` (0 to 1).

        With a budget, ``power_in_budget`` as well.
        """
        import pandas as pd

        rows = []
        for answer in self.data["answers"]:
            row: dict[str, object] = {"question": answer["question"], "seeds": answer["seeds"]}
            row |= {"cautious_seeds": answer["cautious"], "power_now": answer["power_now"]}
            cost = answer["cautious_cost"] if self.has_pilot else answer["cost"]
            if self.seeds_in_budget is not None:
                row["power_in_budget"] = answer["power_in_budget"]
            rows.append(row | {f"added_{name}": value for name, value in (cost or {}).items()})
        return pd.DataFrame(rows).astype({"seeds": "Int64", "cautious_seeds": "Int64"})

    def __repr__(self) -> str:
        answers = []
        for answer in self.data["answers"]:
            seeds = answer["cautious"] if self.has_pilot else answer["seeds"]
            answers.append(f"{_format_num_seeds(seeds)} seeds for {answer['question']}")
        return f"<SeedPlan {self.data['study']} under {self.data['protocol']}: {'; '.join(answers)}>"

    def _repr_html_(self) -> str:
        return render_view(
            f"Seeds for {self.data['study']} under {self.data['protocol']}",
            render_table(self.header, self.rows, numbers=range(1, len(self.header) - 1)),
            *map(render_line, self.notes),
            *([render_line(f"Budget: {self.budget_line}.")] if self.budget_line else []),
            render_line(f"Noise: {self.noise_line}. Family: {self.family_line}.", quiet=True),
        )


def plan(
    name: str,
    protocol: str = DEFAULT_PROTOCOL,
    *,
    seeds: int | Sequence[int] | None = None,
    overrides: Mapping[str, Leaf] | None = None,
    difference: float | None = None,
    equivalence: float | None = None,
    power: float = 0.8,
    spread: float | None = None,
    price_per_gpu_hour: float | None = None,
    gpus_per_trial: float | None = None,
    budget: RunBudget = NO_BUDGET,
    runs: str | Path | None = None,
    tracking_uri: str | None = None,
) -> SeedPlan:
    """Plan how many seeds a study takes, and what they cost.

    The noise is that of the recorded study, taken as a pilot, or of its calibration, whichever has more seeds.

    Args:
        name, protocol, seeds, overrides: see :func:`studies.declare`.
        difference: true difference to be found, percentage points.
        equivalence: margin within which equal arms are to be shown equivalent, percentage points; without both, each
            is the protocol's smallest effect.
        power: required power, between 0 and 1.
        spread: SD of a paired difference, percentage points, instead of a recorded one.
        price_per_gpu_hour: in any currency; that of the budget where it states one.
        gpus_per_trial: may be a fraction; by default as many as the pilot's trials had, or else as :func:`studies.run`
            takes.
        budget: limits of a run, whose whole seeds are counted, with what they can find.
        runs, tracking_uri: where the pilot is recorded; see :class:`studies.settings.Settings`.

    Raises:
        UserError: with neither a spread nor a pilot of at least two seeds and arms; for a limit of GPU hours without
            ``gpus_per_trial``; or see :func:`studies.declare`.
    """
    study = declare(name, protocol, seeds, overrides)
    settings = Settings.from_environment(runs, None, tracking_uri)
    seed_plan = plan_seeds(
        study,
        _read_pilot(study, settings, for_noise=not spread),
        calibration=None if spread else _read_calibration(study, settings),
        standard_deviation=spread,
        difference=difference,
        equivalence=equivalence,
        power=power,
        num_seeds=len(study.seeds) if seeds is not None else None,
        gpus_per_trial=gpus_per_trial,
        budget=replace(budget, price_per_gpu_hour=budget.price_per_gpu_hour or price_per_gpu_hour),
        estimate_trial=estimate_trial,
        # Called only where no pilot has recorded its times.
        estimate_arm_seconds=lambda: estimate_arm_seconds(study, warnings.warn),
    )
    return SeedPlan.of_data(seed_plan)


def estimate_arm_seconds(study: Study, log: Callable[[str], None]) -> float | None:
    """Estimate the time of one trial of every arm, on one core of this machine; ``None`` where an arm's is unknown."""
    from studies.design.estimate import estimate_seconds_per_seed  # imports torch

    return estimate_seconds_per_seed(study.setups().values(), log)


def estimate_trial(trial: Trial, gpus_per_trial: float) -> float:
    """Estimate the seconds of a trial, on a core or GPU of this machine; not-a-number where that cannot be told."""
    from studies.runner.limits.trial_estimate import estimate_seconds  # imports torch

    try:
        resources = Resources(gpus_per_trial=gpus_per_trial)
    except UserError:  # it is planned for a machine with a GPU, and this one has none
        return math.nan
    return estimate_seconds(trial, resources)


def _read_pilot(study: Study, settings: Settings, *, for_noise: bool) -> StudyRecord | None:
    """The recorded study; only of the same settings where its seeds and times alone are used."""
    try:
        pilot = _read_record(study, study.name, settings)
    except TrackingError:
        return None
    return pilot if for_noise or pilot.registration.overrides == study.overrides else None


def _read_calibration(study: Study, settings: Settings) -> StudyRecord | None:
    return read_calibration(study.name, study.overrides, lambda name: _read_record(study, name, settings))


def _read_record(study: Study, name: str, settings: Settings) -> StudyRecord:
    """A record under the study's protocol, with its overrides where there is such a run."""
    return open_store(settings, create=False).reader.read_study(name, study.protocol.name, None, study.overrides)


def _answer_row(answer: PlannedAnswer, *, has_pilot: bool) -> tuple[str, ...]:
    cells = [answer["question"], _format_num_seeds(answer["seeds"])]
    if has_pilot:
        cells.append(_format_num_seeds(answer["cautious"]))
    cost = answer["cautious_cost"] if has_pilot else answer["cost"]
    cells.append(f"{answer['power_now']:.0%}")
    if answer.get("power_in_budget") is not None:
        cells.append(f"{answer['power_in_budget']:.0%}")
    return (*cells, _format_cost(cost) if cost else "")


def _format_num_seeds(num_seeds: int | None) -> str:
    return f"over {MAX_SEEDS}" if num_seeds is None else str(num_seeds)


def _format_budget_cost(budget: PlannedBudget) -> str:
    spending = budget["spending"] or PlannedSpending(seconds=0.0, gpu_hours=0.0)
    items = [format_count(budget["trials"] or 0, "trial"), f"about {format_duration(spending['seconds'])}"]
    if spending["gpu_hours"]:
        items.append(f"{format_significant(spending['gpu_hours'], 2)} GPU hours")
    if budget["cost"] is not None:
        items.append(f"for {budget['cost']:,.2f}")
    return ", ".join(items)


def _format_cost(cost: PlannedCost) -> str:
    items = [format_count(cost["trials"], "trial")]
    if cost["wall_hours"] is not None:
        items.append(f"about {format_duration(3600 * cost['wall_hours'])}")
    if cost["gpu_hours"] is not None:
        items.append(f"{format_significant(cost['gpu_hours'], 2)} GPU hours")
    if cost["money"] is not None:
        items.append(f"for {cost['money']:,.2f}")
    return ", ".join(items)
