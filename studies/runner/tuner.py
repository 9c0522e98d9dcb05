"""Tune all arms by successive halving: rounds of candidates, and the best of each arm."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lightning_modules.specs.setup import Setup
from lightning_modules.specs.values import Leaf, edit_fields
from studies.design.trial import Trial
from studies.design.tuning import Rung, TuningBudget
from studies.records.results import Result
from studies.runner.optuna_search import ArmSearch, Candidate


@dataclass(frozen=True, kw_only=True)
class TuningRound:
    """Trials that may be trained together.

    Attributes:
        rung: of successive halving, from 0.
        arms_by_trial: the arm whose search each trial serves.
    """

    rung: int
    arms_by_trial: Mapping[Trial, str]


@dataclass(frozen=True, order=True)
class _CandidateScore:
    """Rank of a candidate on one rung, the lowest is best; fields in the order in which they decide.

    Attributes:
        is_lost: whether a trial of it is non-finite, at chance or failed.
        error: on validation, percent, mean over tuning seeds.
        loss: on validation, nats, mean over tuning seeds; breaks the ties of small validation sets.
        number: of the candidate; the earlier one wins a tie.
    """

    is_lost: bool
    error: float
    loss: float
    number: int


class Tuner:
    """Runs the searches of all arms by one schedule, so that all spend the same budget.

    The caller trains the trials of each round before it asks for the next.

    Args:
        searches: per arm.
        read_result: of a trial that has ended.
    """

    def __init__(
        self,
        tuning: TuningBudget,
        setups: Mapping[str, Setup],
        searches: Mapping[str, ArmSearch],
        read_result: Callable[[Trial], Result],
    ) -> None:
        self.tuning, self.setups, self.searches, self.read_result = tuning, setups, searches, read_result
        # Per arm and rung, the scores by candidate number.
        self.scores: dict[str, list[dict[int, _CandidateScore]]] = {arm: [] for arm in setups}

    def rounds(self) -> Iterator[TuningRound]:
        """Yield the rounds in order: the first rung in batches that samplers learn from, each further rung at once."""
        first_rung, *further_rungs = self.tuning.rung_schedule
        self._open_rung()
        batch_size = self.tuning.ask_batch_size
        for start in range(0, first_rung.num_candidates, batch_size):
            stop = min(start + batch_size, first_rung.num_candidates)
            batch = {arm: search.first_candidates(stop)[start:] for arm, search in self.searches.items()}
            yield from self._run_round(0, first_rung, batch)
            self._report_errors(batch)
        for rung_index, rung in enumerate(further_rungs, 1):
            promoted = {arm: self._best_candidates(arm, rung.num_candidates) for arm in self.setups}
            self._open_rung()
            yield from self._run_round(rung_index, rung, promoted)

    def best_candidate(self, arm: str) -> Candidate | None:
        """The best candidate of the last rung; ``None`` where none has a finite error."""
        (best,) = self._best_candidates(arm, 1)
        return best if math.isfinite(self.scores[arm][-1][best.number].error) else None

    def best_errors(self, arm: str) -> tuple[float, ...]:
        """The lowest error after each candidate of the first rung, percent."""
        lowest, errors = math.inf, []
        for _, score in sorted(self.scores[arm][0].items()):
            lowest = min(lowest, score.error)
            errors.append(lowest)
        return tuple(errors)

    def _run_round(
        self, rung_index: int, rung: Rung, candidates: Mapping[str, Sequence[Candidate]]
    ) -> Iterator[TuningRound]:
        trials: dict[tuple[str, int], list[Trial]] = {}
        arms_by_trial: dict[Trial, str] = {}
        for arm, arm_candidates in candidates.items():
            for candidate in arm_candidates:
                seeded = [self._make_trial(arm, candidate, rung, seed) for seed in self.tuning.seeds]
                trials[arm, candidate.number] = seeded
                arms_by_trial.update(dict.fromkeys(seeded, arm))
        yield TuningRound(rung=rung_index, arms_by_trial=arms_by_trial)
        # Here the caller has trained the round, and asks for the next.
        for (arm, number), seeded in trials.items():
            results = [self.read_result(trial) for trial in seeded]
            self.scores[arm][-1][number] = _score_candidate(number, results)

    def _make_trial(self, arm: str, candidate: Candidate, rung: Rung, seed: int) -> Trial:
        setup = edit_fields(self.setups[arm], candidate.values)
        recipe = replace(setup.recipe, epochs=rung.epochs_per_candidate(setup.recipe.epochs))
        return Trial(arm=arm, setup=replace(setup, recipe=recipe), seed=seed, candidate=candidate.number)

    def _open_rung(self) -> None:
        for scores in self.scores.values():
            scores.append({})

    def _report_errors(self, candidates_by_arm: Mapping[str, Sequence[Candidate]]) -> None:
        for arm, candidates in candidates_by_arm.items():
            for candidate in candidates:
                self.searches[arm].tell(candidate.number, self.scores[arm][0][candidate.number].error)

    def _best_candidates(self, arm: str, count: int) -> tuple[Candidate, ...]:
        ranked = sorted(self.scores[arm][-1].values())[:count]
        all_candidates = self.searches[arm].first_candidates(self.tuning.trials)
        return tuple(all_candidates[score.number] for score in ranked)


def _score_candidate(number: int, results: Sequence[Result]) -> _CandidateScore:
    """Score a candidate by its mean over tuning seeds; one lost seed loses the candidate."""
    # A recipe under which some seeds do not train is not one to compare under.
    is_lost = any(result.status != "finished" for result in results)
    error = _mean_metric(results, "validation_error")
    loss = _mean_metric(results, "validation_loss")
    return _CandidateScore(is_lost, error, loss, number)


def _mean_metric(results: Sequence[Result], name: str) -> float:
    """Mean of a metric over results; infinite where one lacks it, since NaN would not sort."""
    values: list[float] = []
    for result in results:
        value = result.metrics.get(name, math.inf)
        values.append(value if math.isfinite(value) else math.inf)
    return sum(values) / len(values)


def candidate_values(candidate: Candidate | None) -> Mapping[str, Leaf]:
    """Values of a candidate; empty where there is none."""
    return candidate.values if candidate else {}
