"""Ask Optuna which candidates an arm tries, and tell it their errors; no other module imports Optuna."""

from __future__ import annotations

import itertools
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from lightning_modules.specs.errors import DamagedFileError
from lightning_modules.specs.setup import Setup
from lightning_modules.specs.values import Leaf, flatten_fields
from lightning_modules.stored_files import CHECKSUM_KEY
from studies.design.tuning import Choice, Dimension, Sampler, TuningBudget
from studies.storage.search_journal import JOURNAL_REMEDY, add_checksum, verify_journal

MIN_CANDIDATES_FOR_IMPORTANCE = 8  # completed; below that the top quantile holds fewer than two

# Share of candidates, the best ones, whose values are compared with those of all: PED-ANOVA's target quantile.
TARGET_QUANTILE = 0.25


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One point of the search space.

    Attributes:
        number: position in the arm's search, from 0.
        values: by dotted path.
    """

    number: int
    values: Mapping[str, Leaf]


class CheckedJournal(JournalFileBackend):
    """Optuna's journal, with a checksum in each line, which are verified as it is opened.

    A last line that was cut off is dropped: Optuna would append the next one to it.

    Raises:
        DamagedFileError: for a line that is damaged, or has no checksum.
    """

    def __init__(self, file: Path) -> None:
        super().__init__(str(file))
        num_bytes = verify_journal(file)
        if num_bytes < file.stat().st_size:
            os.truncate(file, num_bytes)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append entries, each with its checksum."""
        super().append_logs([add_checksum(log) for log in logs])

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]  # only iterated
        """Read the entries from a number on, without their checksums."""
        for log in super().read_logs(log_number_from):
            del log[CHECKSUM_KEY]
            yield log


class ArmSearch:
    """Search of one arm, in a journal that survives a kill.

    The sampler is seeded by each candidate's number. So a resumed search asks for the candidates that an uninterrupted
    one would have asked for, and all arms try the same candidates until the sampler has learned from errors.
    """

    def __init__(self, tuning: TuningBudget, setup: Setup, journal: Path, study_name: str) -> None:
        """Open a search, or resume it.

        Args:
            tuning: whose ranges are resolved to numbers.
            setup: of the arm, under the shared recipe.
            journal: file of Optuna's journal, in an existing folder.
            study_name: of the search in the journal.

        Raises:
            DamagedFileError: for a damaged journal.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.tuning, self.setup = tuning, setup
        self.space = {dimension.path: _to_distribution(dimension) for dimension in tuning.space}
        self.study = optuna.create_study(
            study_name=study_name,
            storage=JournalStorage(CheckedJournal(journal)),
            sampler=SAMPLER_FACTORIES[tuning.sampler](tuning, 0),
            direction="minimize",
            load_if_exists=True,
        )
        for trial in self._asked_trials():
            if trial.params.keys() < self.space.keys():  # a driver was killed while it asked
                reason = f"candidate {trial.number} of {study_name} was asked for in part"
                raise DamagedFileError(journal, reason, JOURNAL_REMEDY)

    def first_candidates(self, count: int) -> tuple[Candidate, ...]:
        """The first ``count`` candidates; those that were never asked for are drawn now."""
        for number in range(len(self._asked_trials()), count):
            preset = self._preset_values(number)
            # A driver that was killed between the next two calls has left the trial in the queue.
            is_queued = len(self._all_trials()) > number
            if preset and not is_queued:
                self.study.enqueue_trial(preset)
            self.study.sampler = SAMPLER_FACTORIES[self.tuning.sampler](self.tuning, number)
            self.study.ask(self.space)
        return tuple(self._to_candidate(trial) for trial in self._asked_trials()[:count])

    def tell(self, number: int, error: float) -> None:
        """Report a candidate's validation error, percent; not finite if it failed. Repeating a report has no effect."""
        if self._asked_trials()[number].state != TrialState.RUNNING:
            return
        if math.isfinite(error):
            self.study.tell(number, error, TrialState.COMPLETE)
        else:
            self.study.tell(number, None, TrialState.FAIL)

    def parameter_importance(self) -> dict[str, float]:
        """Importance of each path for the error, as shares of 1; empty where too few candidates are known.

        Source: PED-ANOVA (Watanabe et al., 2023), as implemented by Optuna.
        """
        completed = [trial for trial in self._asked_trials() if trial.state == TrialState.COMPLETE]
        errors = {trial.value for trial in completed}
        if len(completed) < MIN_CANDIDATES_FOR_IMPORTANCE or len(errors) < 2:
            return {}
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=TARGET_QUANTILE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna warns that the evaluator is experimental
            importances = optuna.importance.get_param_importances(self.study, evaluator=evaluator)
        return {path: float(share) for path, share in importances.items()}

    def _preset_values(self, number: int) -> dict[str, Leaf]:
        """A candidate that is not drawn: a point of the grid, or the shared recipe; empty for all others."""
        if self.tuning.sampler == "grid":
            choices = [dimension.values for dimension in self.tuning.space if isinstance(dimension, Choice)]
            points = list(itertools.product(*choices))
            return dict(zip(self.space, points[number], strict=True))
        return self._shared_recipe() if number == 0 else {}

    def _shared_recipe(self) -> dict[str, Leaf]:
        """The shared recipe as a candidate; empty where the space does not contain it."""
        if self.tuning.sampler == "grid":
            return {}
        leaves = flatten_fields(self.setup, with_omitted=True)
        if not all(dimension.contains(leaves[dimension.path]) for dimension in self.tuning.space):
            return {}
        return {path: leaves[path] for path in self.space}

    def _all_trials(self) -> Sequence[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _asked_trials(self) -> list[FrozenTrial]:
        """Trials that were asked for, unlike those that only wait in Optuna's queue."""
        return [trial for trial in self._all_trials() if trial.state != TrialState.WAITING]

    def _to_candidate(self, trial: FrozenTrial) -> Candidate:
        shared = self._shared_recipe()
        if trial.number == 0 and shared:
            return Candidate(number=0, values=shared)  # exact: `cast_value` would round it
        values: dict[str, Leaf] = {}
        for dimension in self.tuning.space:
            values[dimension.path] = dimension.cast_value(trial.params[dimension.path], self.setup)
        return Candidate(number=trial.number, values=values)


def _to_distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.values)
    low, high = dimension.bounds
    return FloatDistribution(low, high, log=dimension.log)


def _random_sampler(tuning: TuningBudget, number: int) -> optuna.samplers.BaseSampler:
    del tuning
    return optuna.samplers.RandomSampler(seed=number)


def _tpe_sampler(tuning: TuningBudget, number: int) -> optuna.samplers.BaseSampler:
    # The first batch is asked for before any error is known, so TPE has nothing to learn from until it ends.
    return optuna.samplers.TPESampler(seed=number, n_startup_trials=tuning.ask_batch_size)


SAMPLER_FACTORIES: dict[Sampler, Callable[[TuningBudget, int], optuna.samplers.BaseSampler]] = {
    "random": _random_sampler,
    "tpe": _tpe_sampler,
    "grid": _random_sampler,  # draws nothing: every point is preset
}
