"""A sequential study: claims are looked at after registered numbers of seeds, each time at a share of the errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from reports.numbers import listed, plural
from reports.statistics import Verdict
from reports.statistics.readers import ALPHA
from studies.records import Registration, StudyRecord

Judge = Callable[[StudyRecord, float], tuple[Verdict, ...]]


@dataclass(frozen=True, kw_only=True)
class Looks:
    """The registered looks, and how many of them have all their trials.

    Attributes:
        planned: numbers of seeds.
        alpha: what each look may err by.
    """

    planned: tuple[int, ...]
    reached: int
    alpha: float

    @property
    def words(self) -> str:
        """For the study's facts."""
        after = listed(map(str, self.planned), "or")
        return f"after {after} seeds, each at {100 * self.alpha:.3g}%; {self.reached} of {len(self.planned)} reached"


def alpha_of(registration: Registration) -> float:
    """The level of every interval and verdict: 5%, or a look's share of it."""
    return ALPHA / len(registration.looks) if registration.looks else ALPHA


def level(registration: Registration) -> str:
    """The confidence of the study's simultaneous intervals, as printed."""
    return f"{100 * (1 - alpha_of(registration)):.3g}%"


def looks_of(record: StudyRecord) -> Looks | None:
    """The looks of a sequential study; ``None`` for one whose number of seeds was fixed."""
    planned = record.registration.looks
    if not planned:
        return None
    begun = [count for count in planned if len(record.registration.seeds) >= count]
    reached = sum(_has_ended(first_seeds(record, count)) for count in begun)
    return Looks(planned=planned, reached=reached, alpha=alpha_of(record.registration))


def first_seeds(record: StudyRecord, count: int) -> StudyRecord:
    """The study as it stood after its first seeds; fewer where it has not come so far."""
    seeds = record.registration.seeds[:count]
    return replace(
        record,
        registration=replace(record.registration, seeds=seeds),
        trials=tuple(trial for trial in record.trials if trial.seed in seeds),
    )


def judged(record: StudyRecord, looks: Looks, judge: Judge) -> tuple[Verdict, ...]:
    """Every claim's verdict at the first look that resolved it; at the last one reached where none did.

    Each look errs with at most its share of the error rate, so all together do with at most 5% (Bonferroni).
    """
    if not looks.reached:
        early = judge(first_seeds(record, looks.planned[0]), looks.alpha)
        waiting = f"the first look, at {looks.planned[0]} seeds, has not been reached"
        return tuple(replace(each, word="inconclusive", reason=waiting) for each in early)
    stages = [judge(first_seeds(record, count), looks.alpha) for count in looks.planned[: looks.reached]]
    return tuple(_first_resolved(verdicts, looks) for verdicts in zip(*stages, strict=True))


def _first_resolved(verdicts: tuple[Verdict, ...], looks: Looks) -> Verdict:
    for number, verdict in enumerate(verdicts):
        if verdict.word != "inconclusive":
            return _noted(verdict, f"resolved at {_look(number, looks)}")
    return _noted(verdicts[-1], f"open after {_look(len(verdicts) - 1, looks)}")


def _look(number: int, looks: Looks) -> str:
    seeds = plural(looks.planned[number], "seed")
    return f"look {number + 1} of {len(looks.planned)}, at {seeds} and at {100 * looks.alpha:.3g}% instead of 5%"


def _noted(verdict: Verdict, note: str) -> Verdict:
    return replace(verdict, notes=(note, *verdict.notes))


def _has_ended(record: StudyRecord) -> bool:
    registration = record.registration
    trials = [record.of(arm, seed) for arm in registration.arms for seed in registration.seeds]
    return all(trial is not None and trial.state != "running" for trial in trials) and bool(trials)
