"""Optuna, in this one file: which candidates an arm tries, from a journal that survives a kill."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from lightning_modules.spec import Setup
from lightning_modules.values import Leaf, flatten
from studies.tuning import Choice, Dimension, Sampler, Tuning

FEWEST_FOR_IMPORTANCE = 8  # candidates; fewer say nothing of what mattered
BETTER_SHARE = 0.25  # of the candidates whose settings are compared with all: PED-ANOVA's target quantile


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One point of the space, by its place in an arm's search."""

    number: int
    values: Mapping[str, Leaf]


class Search:
    """One arm's search. The sampler is seeded anew by every candidate's number, so that it goes on after a kill as it
    would have gone, and every arm is offered the same candidates as long as nothing has been learnt.
    """

    def __init__(self, tuning: Tuning, setup: Setup, journal: Path, name: str) -> None:
        """Open the search, or go on with it.

        Args:
            tuning: with a space in numbers.
            setup: of the arm, under the shared recipe.
            journal: file of Optuna's journal; its folder exists.
            name: of the search in the journal.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.tuning, self.setup = tuning, setup
        self.space = {each.path: _distribution(each) for each in tuning.space}
        self.study = optuna.create_study(
            study_name=name,
            storage=JournalStorage(JournalFileBackend(str(journal))),
            sampler=SAMPLERS[tuning.sampler](tuning, 0),
            direction="minimize",
            load_if_exists=True,
        )

    def candidates(self, count: int) -> tuple[Candidate, ...]:
        """The first ``count`` candidates; those that have not been asked for yet are drawn now."""
        for number in range(len(self._asked()), count):
            known = self._known(number)
            if known and len(self._trials()) == number:  # else a driver that was killed here has left it behind
                self.study.enqueue_trial(known)
            self.study.sampler = SAMPLERS[self.tuning.sampler](self.tuning, number)
            self.study.ask(self.space)
        return tuple(self._candidate(trial) for trial in self._asked()[:count])

    def tell(self, number: int, error: float) -> None:
        """A candidate's validation error, percent; not finite where it failed. Telling it twice changes nothing."""
        trial = self._asked()[number]
        if trial.state == TrialState.RUNNING:
            failed = not math.isfinite(error)
            self.study.tell(number, None if failed else error, TrialState.FAIL if failed else TrialState.COMPLETE)

    def importance(self) -> dict[str, float]:
        """How much each path decided, as shares of 1; empty where too little is known.

        Source: PED-ANOVA, Watanabe et al. 2023, by Optuna.
        """
        told = [trial for trial in self._asked() if trial.state == TrialState.COMPLETE]
        if len(told) < FEWEST_FOR_IMPORTANCE or len({trial.value for trial in told}) < 2:
            return {}
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=BETTER_SHARE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # experimental, says Optuna
            found = optuna.importance.get_param_importances(self.study, evaluator=evaluator)
        return {path: float(share) for path, share in found.items()}

    def _known(self, number: int) -> dict[str, Leaf]:
        """A candidate that no sampler draws: a point of the grid, or the shared recipe; empty for one that is drawn."""
        if self.tuning.sampler == "grid":
            choices = [each.values for each in self.tuning.space if isinstance(each, Choice)]
            return dict(zip(self.space, list(itertools.product(*choices))[number], strict=True))
        return self._shared() if number == 0 else {}

    def _shared(self) -> dict[str, Leaf]:
        """The shared recipe as a candidate; empty where the space does not hold it."""
        leaves = flatten(self.setup)
        inside = all(each.holds(leaves[each.path]) for each in self.tuning.space)
        return {path: leaves[path] for path in self.space} if inside and self.tuning.sampler != "grid" else {}

    def _trials(self) -> Sequence[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _asked(self) -> list[FrozenTrial]:
        return [trial for trial in self._trials() if trial.state != TrialState.WAITING]

    def _candidate(self, trial: FrozenTrial) -> Candidate:
        shared = self._shared()
        if trial.number == 0 and shared:
            return Candidate(number=0, values=shared)  # to the last digit
        read = {each.path: each.read(trial.params[each.path], self.setup) for each in self.tuning.space}
        return Candidate(number=trial.number, values=read)


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.values)
    low, high = dimension.bounds
    return FloatDistribution(low, high, log=dimension.log)


def _random(tuning: Tuning, number: int) -> optuna.samplers.BaseSampler:
    del tuning
    return optuna.samplers.RandomSampler(seed=number)


def _tpe(tuning: Tuning, number: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(seed=number, n_startup_trials=tuning.batch)


SAMPLERS: dict[Sampler, Callable[[Tuning, int], optuna.samplers.BaseSampler]] = {
    "random": _random,
    "tpe": _tpe,
    "grid": _random,  # every point is known beforehand
}
