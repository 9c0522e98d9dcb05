"""Interim analyses of a sequential study: claims are judged at registered numbers of seeds.

Every analysis gets an equal share of the 5% (Bonferroni), so that all of them together err no more often than one.

Group-sequential boundaries (Pocock 1977; O'Brien & Fleming 1979) would be less conservative.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from lightning_modules.specs.text import format_count, join_words
from reports.statistics import Verdict
from reports.statistics.evidence import ALPHA
from reports.statistics.verdicts import open_verdict
from studies.records.registration import Registration
from studies.records.study_record import StudyRecord

JudgeFunction = Callable[[StudyRecord, float], tuple[Verdict, ...]]  # of a record and a familywise level


@dataclass(frozen=True, kw_only=True)
class InterimSchedule:
    """The registered interim analyses, and how many of them have all their trials.

    Attributes:
        seed_counts: number of seeds at each analysis.
        num_reached: analyses whose trials have all ended.
        alpha: familywise level of each analysis.
    """

    seed_counts: tuple[int, ...]
    num_reached: int
    alpha: float

    @property
    def description(self) -> str:
        """The schedule in words, for the facts of a study."""
        counts = join_words(map(str, self.seed_counts), "or")
        level = f"{100 * self.alpha:.3g}%"
        return f"after {counts} seeds, each at {level}; {self.num_reached} of {len(self.seed_counts)} reached"


def study_alpha(registration: Registration) -> float:
    """Level of every interval and verdict of a study: 5%, or the share of one interim analysis."""
    return ALPHA / len(registration.looks) if registration.looks else ALPHA


def confidence_level(registration: Registration) -> str:
    """Confidence of the study's simultaneous intervals, as printed."""
    return f"{100 * (1 - study_alpha(registration)):.3g}%"


def interim_schedule(record: StudyRecord) -> InterimSchedule | None:
    """The interim analyses of a sequential study; ``None`` for a fixed number of seeds."""
    seed_counts = record.registration.looks
    if not seed_counts:
        return None
    # A study in progress has registered only the seeds that it has started.
    num_seeds = len(record.registration.seeds)
    num_reached = 0
    for count in seed_counts:
        if count <= num_seeds and _has_ended(restrict_to_first_seeds(record, count)):
            num_reached += 1
    return InterimSchedule(seed_counts=seed_counts, num_reached=num_reached, alpha=study_alpha(record.registration))


def restrict_to_first_seeds(record: StudyRecord, count: int) -> StudyRecord:
    """Return the record as it was after its first ``count`` seeds, or all where it has fewer."""
    seeds = record.registration.seeds[:count]
    return replace(
        record,
        registration=replace(record.registration, seeds=seeds),
        trials=tuple(trial for trial in record.trials if trial.seed in seeds),
    )


def judge_sequentially(record: StudyRecord, schedule: InterimSchedule, judge: JudgeFunction) -> tuple[Verdict, ...]:
    """Judge every claim at the first interim analysis that resolves it, else at the last one reached.

    Each analysis errs with at most its share of the error rate, so all together with at most 5% (Bonferroni).
    """
    if not schedule.num_reached:
        # Judged only for the contrasts: nothing may be said before the first analysis.
        premature = judge(restrict_to_first_seeds(record, schedule.seed_counts[0]), schedule.alpha)
        reason = f"the first interim analysis, at {schedule.seed_counts[0]} seeds, has not been reached"
        return tuple(open_verdict(verdict.claim, reason, contrasts=verdict.contrasts) for verdict in premature)
    analyses = []
    for count in schedule.seed_counts[: schedule.num_reached]:
        analyses.append(judge(restrict_to_first_seeds(record, count), schedule.alpha))
    verdicts_by_claim = zip(*analyses, strict=True)
    return tuple(_first_resolved_verdict(verdicts, schedule) for verdicts in verdicts_by_claim)


def _first_resolved_verdict(verdicts: tuple[Verdict, ...], schedule: InterimSchedule) -> Verdict:
    for index, verdict in enumerate(verdicts):
        # A resolved claim stays resolved: later analyses cannot take a verdict back.
        if verdict.word != "inconclusive":
            return _add_note(verdict, f"resolved at {_describe_analysis(index, schedule)}")
    return _add_note(verdicts[-1], f"open after {_describe_analysis(len(verdicts) - 1, schedule)}")


def _describe_analysis(index: int, schedule: InterimSchedule) -> str:
    number = f"interim analysis {index + 1} of {len(schedule.seed_counts)}"
    seeds = format_count(schedule.seed_counts[index], "seed")
    return f"{number}, at {seeds} and at {100 * schedule.alpha:.3g}% instead of 5%"


def _add_note(verdict: Verdict, note: str) -> Verdict:
    return replace(verdict, notes=(note, *verdict.notes))


def _has_ended(record: StudyRecord) -> bool:
    """Whether every planned trial has ended, and there is at least one."""
    registration = record.registration
    for arm in registration.arms:
        for seed in registration.seeds:
            trial = record.find_trial(arm, seed)
            if trial is None or trial.state == "running":
                return False
    return bool(registration.arms and registration.seeds)
