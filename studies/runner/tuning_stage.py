"""Tune the recipe of every arm before the trials under tuned recipes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_modules.specs.errors import DamagedFileError
from lightning_modules.specs.setup import Setup
from studies.design.trial import Trial, dependency_chain, hash_content, with_dependencies
from studies.design.tuning import TuningBudget
from studies.records.results import Result
from studies.runner.optuna_search import ArmSearch
from studies.runner.recorder import candidate_placement
from studies.runner.reuse_plan import find_reusable
from studies.runner.stage import StageRunner
from studies.runner.study_run import StudyRun
from studies.runner.tuner import Tuner, TuningRound, candidate_values


@dataclass(frozen=True)
class TuningStage:
    """Searches the recipes of all arms, round by round."""

    study_run: StudyRun
    stage_runner: StageRunner
    tuning: TuningBudget

    def tune_arms(self, shared_trials: Sequence[Trial]) -> dict[str, Setup]:
        """Tune every arm; returns the setups under tuned recipes, none if some arm has no usable candidate.

        Args:
            shared_trials: under the shared recipe; they are trained with the first round, so that no worker idles.
        """
        context = self.study_run.context
        setups = context.study.setups()
        search_runs: dict[str, str] = {}
        for arm, setup in setups.items():
            search_runs[arm] = context.store.searches.start_search(
                self.study_run.run_id, arm, self.tuning, setup.recipe.epochs, context.tags
            )
        searches = self._open_searches(setups)
        tuner = Tuner(self.tuning, setups, searches, self._read_result)

        first_trials = tuple(shared_trials)
        num_batches: Counter[int] = Counter()
        for tuning_round in tuner.rounds():
            candidates = self._place_candidates(tuning_round, search_runs)
            num_batches[tuning_round.rung] += 1
            heading = describe_round(self.tuning, tuning_round.rung, num_batches[tuning_round.rung])
            self.stage_runner.complete_trials((*first_trials, *candidates), heading=heading)
            first_trials = ()
        return self._choose_setups(tuner, searches, search_runs)

    def _open_searches(self, setups: Mapping[str, Setup]) -> dict[str, ArmSearch]:
        """Open every arm's search; a damaged journal is moved aside, and made again from the candidates' results."""
        journal = self._journal_file()
        try:
            return {arm: ArmSearch(self.tuning, setup, journal, arm) for arm, setup in setups.items()}
        except DamagedFileError as error:
            self.study_run.context.log(str(error))
            journal.replace(journal.with_suffix(".damaged"))
            return {arm: ArmSearch(self.tuning, setup, journal, arm) for arm, setup in setups.items()}

    def _journal_file(self) -> Path:
        """File of Optuna's journal, one per study, data, code and platform: others give other errors."""
        context = self.study_run.context
        folder = context.settings.runs_folder / "tuning"
        folder.mkdir(exist_ok=True)
        return folder / f"{hash_content([context.conditions, context.digests])}.log"

    def _place_candidates(self, tuning_round: TuningRound, search_runs: Mapping[str, str]) -> tuple[Trial, ...]:
        """Place the trials of a round below the searches that they serve; returns them after their source networks."""
        served_arms: dict[Trial, str] = {}
        for trial, arm in tuning_round.arms_by_trial.items():
            for dependency in dependency_chain(trial):
                served_arms[dependency] = arm
        served_arms.update(tuning_round.arms_by_trial)  # an arm's own candidate may be another arm's source network
        trials = with_dependencies(tuning_round.arms_by_trial)
        for trial in trials:
            arm = served_arms[trial]
            placement = candidate_placement(trial, arm, tuning_round.rung, search_runs[arm], self.study_run.run_id)
            self.study_run.place_trial(trial, placement)
        return trials

    def _choose_setups(
        self, tuner: Tuner, searches: Mapping[str, ArmSearch], search_runs: Mapping[str, str]
    ) -> dict[str, Setup]:
        """Log the outcome of every search, and give the setups that these chose."""
        context = self.study_run.context
        setups = context.study.setups()
        best_candidates = {arm: tuner.best_candidate(arm) for arm in setups}
        for arm, best in best_candidates.items():
            context.store.searches.end_search(
                search_runs[arm],
                tuner.best_errors(arm),
                candidate_values(best),
                best.number if best else None,
                searches[arm].parameter_importance(),
            )
        without_best = [arm for arm, best in best_candidates.items() if best is None]
        # All arms are tuned or none: one under the shared recipe would confound every contrast with it.
        if without_best:
            context.log(
                f"no candidate of {', '.join(without_best)} has a finite validation error: the arms are not compared "
                "under tuned recipes"
            )
            return {}
        best_values = {arm: candidate_values(best) for arm, best in best_candidates.items()}
        return context.study.ablation.tuned_setups(setups, best_values)

    def _read_result(self, trial: Trial) -> Result:
        """Result of a candidate that has ended: from its folder, else from the tracking store."""
        trial_store = self.study_run.trial_store
        for read in (trial_store.load_result, self._read_logged_result):
            try:
                result = read(trial)
            except DamagedFileError as error:
                self.study_run.context.log(f"{trial.arm}, candidate {trial.candidate}, seed {trial.seed}: {error}")
                continue
            if result is not None:
                return result
        return trial_store.read_result(trial)

    def _read_logged_result(self, trial: Trial) -> Result | None:
        reader = self.study_run.context.store.reader
        ended = reader.ended_trials({trial.fingerprint}, "candidate")
        # Under other code, data or platform the error is another one.
        ended = find_reusable(ended, self.study_run.trial_store.key(trial), self.stage_runner.reuse)
        return reader.read_result(ended[-1].run_id) if ended else None


def describe_round(tuning: TuningBudget, rung: int, batch: int) -> str:
    """Heading of a round: its rung where there are several, and the batch of an adaptive search."""
    num_rungs = len(tuning.rung_schedule)
    rung_text = f", rung {rung + 1} of {num_rungs}" if num_rungs > 1 else ""
    # TPE proposes candidates from the results of earlier ones, so the first rung is trained in batches.
    batch_text = f", batch {batch} of candidates" if tuning.sampler == "tpe" and rung == 0 else ""
    return f"tuning{rung_text}{batch_text}"
