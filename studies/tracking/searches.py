"""Runs of the hyperparameter searches: one per tuned arm, with its candidates below it."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict, cast

from mlflow.entities import Metric, Run

from lightning_modules.specs.recipe import Recipe
from lightning_modules.specs.values import Leaf, flatten_fields
from studies.design.tuning import TuningBudget
from studies.records.registration import Registration
from studies.records.results import RECORD_SCHEMA, current_status
from studies.records.study_record import RecordedCandidate, RecordedTrial, RecordedTuning, TrialState
from studies.tracking.runs import PARENT_RUN_TAG, STUDY_RUN_TAG, MlflowRuns

# What a recorded setup has where it names no value: fields may be left out at their default (``OMIT_DEFAULT``).
DEFAULT_RECIPE: Mapping[str, Leaf] = flatten_fields(Recipe(), "recipe", with_omitted=True)


class SearchOutcome(TypedDict):
    """The tag ``found`` of a search that has ended, as JSON.

    Attributes:
        chosen: the best candidate's values by path; empty where no candidate has a finite error.
        best: its number.
        importance: per path, its share in what decided the error.
    """

    chosen: dict[str, Leaf]
    best: int | None
    importance: dict[str, float]


@dataclass(frozen=True)
class SearchRuns:
    """Logs the searches of a study that tunes its arms, and reads them back."""

    runs: MlflowRuns

    def start_search(
        self, study_run_id: str, arm: str, tuning: TuningBudget, epochs: int, tags: Mapping[str, str]
    ) -> str:
        """Create or reopen the run of one arm's search; returns its id.

        Args:
            epochs: of the arm's shared recipe, from which the budget follows.
        """
        experiment = self.runs.experiment_of(study_run_id)
        for run in self.runs.search([experiment], {PARENT_RUN_TAG: study_run_id, "kind": "search"}):
            if run.data.tags["arm"] == arm:
                self.runs.client.update_run(run.info.run_id, status="RUNNING")
                return str(run.info.run_id)
        search_tags = {
            "kind": "search",
            "arm": arm,
            STUDY_RUN_TAG: study_run_id,
            PARENT_RUN_TAG: study_run_id,
            "schema": str(RECORD_SCHEMA),
        }
        run = self.runs.create_run(experiment, f"{arm}: tuning", {**tags, **search_tags})
        run_id = str(run.info.run_id)
        params: dict[str, object] = {
            "budget.candidates": tuning.trials,
            "budget.epochs": tuning.total_epochs(epochs),
            "sampler": tuning.sampler,
            "pruning": tuning.pruning,
        }
        for dimension in tuning.space:
            params[f"space.{dimension.path}"] = str(dimension)
        self.runs.log_params(run_id, params)
        return run_id

    def end_search(
        self,
        run_id: str,
        best_errors: Sequence[float],
        best_values: Mapping[str, Leaf],
        best_candidate: int | None,
        importance: Mapping[str, float],
    ) -> None:
        """Log the outcome of one arm's search.

        Args:
            best_errors: lowest validation error after each candidate, percent.
            best_values: of the best candidate, by path; empty where none has a finite error.
            best_candidate: its number.
            importance: per path, its share in what decided the error.
        """
        now = int(time.time() * 1000)
        metrics = [Metric("best_validation_error", error, now, number) for number, error in enumerate(best_errors)]
        for path, share in importance.items():
            metrics.append(Metric(f"importance.{path}", share, now, 0))
        outcome = SearchOutcome(chosen=dict(best_values), best=best_candidate, importance=dict(importance))
        self.runs.log_metrics(run_id, metrics)
        self.runs.set_tags(run_id, {"found": json.dumps(outcome)})
        self.runs.client.set_terminated(run_id, "FINISHED")

    def read_tuning(
        self, study_run: Run, registration: Registration, trials: Iterable[RecordedTrial]
    ) -> RecordedTuning:
        """Read the searches of a study, and select the trials that ran under tuned recipes.

        Args:
            trials: all of the study, under the shared and under tuned recipes.
        """
        assert registration.tuning is not None
        search_tags: dict[str, str] = {}
        candidate_runs: list[Run] = []
        for run in self.runs.search([study_run.info.experiment_id], {STUDY_RUN_TAG: study_run.info.run_id}):
            tags = run.data.tags
            if tags["kind"] == "candidate":
                candidate_runs.append(run)
            elif tags["kind"] == "search":
                search_tags[tags["arm"]] = tags.get("found", "{}")
        outcomes: dict[str, SearchOutcome] = {}
        for arm, text in search_tags.items():
            outcome = json.loads(text)
            if outcome.get("chosen"):
                outcomes[arm] = outcome

        # An arm whose tuned recipe is the shared one was not trained again: its shared trials count for both.
        unchanged = _arms_tuned_to_shared(outcomes, registration)
        tuned_trials: list[RecordedTrial] = []
        for trial in trials:
            if trial.recipe == "tuned" or trial.arm in unchanged:
                tuned_trials.append(replace(trial, recipe="tuned"))
        return RecordedTuning(
            candidates=read_candidates(candidate_runs, registration.tuning),
            best_values={arm: outcome["chosen"] for arm, outcome in outcomes.items()},
            best_candidates={arm: cast(int, outcome["best"]) for arm, outcome in outcomes.items()},
            importance={arm: outcome["importance"] for arm, outcome in outcomes.items()},
            trials=tuple(tuned_trials),
        )


def _arms_tuned_to_shared(outcomes: Mapping[str, SearchOutcome], registration: Registration) -> set[str]:
    """Arms whose search chose the shared recipe, with the source networks that these start from."""
    assert registration.tuning is not None
    shared = {path: registration.held.get(path, DEFAULT_RECIPE[path]) for path in registration.tuning.paths}
    unchanged: set[str] = set()
    for arm, outcome in outcomes.items():
        if outcome["chosen"] == shared:
            unchanged |= {arm, *registration.source_chain(arm)}
    return unchanged


def read_candidates(runs: Iterable[Run], tuning: TuningBudget) -> tuple[RecordedCandidate, ...]:
    """The candidates that runs record: the newest attempt of each, with the number of its attempts."""
    latest: dict[tuple[str, bool, str, int, int, int], RecordedCandidate] = {}
    for run in _of_last_searches(sorted(runs, key=lambda run: run.info.start_time), tuning):
        candidate = _to_candidate(run, tuning)
        # A candidate's source network is a candidate of the same number: the run's own arm tells them apart.
        identity = (
            candidate.arm,
            candidate.is_source,
            run.data.tags["arm"],
            candidate.number,
            candidate.rung,
            candidate.seed,
        )
        # Oldest first: each newer attempt replaces the one before, and counts it.
        if identity in latest:
            candidate = replace(candidate, num_attempts=latest[identity].num_attempts + 1)
        latest[identity] = candidate
    return tuple(latest[identity] for identity in sorted(latest))


def _of_last_searches(runs: Sequence[Run], tuning: TuningBudget) -> list[Run]:
    """The runs without those of an arm's earlier searches, by other code, data or platform.

    These may have promoted other candidates, which are none of the budget. They stay until a later search is whole:
    with ``--reuse any`` it counts their candidates as its own.

    Args:
        runs: the oldest first.
    """
    whole = {number: rung.num_candidates * len(tuning.seeds) for number, rung in enumerate(tuning.rung_schedule)}
    by_arm: dict[str, list[Run]] = {}
    for run in runs:
        by_arm.setdefault(run.data.tags["search"], []).append(run)
    kept: list[Run] = []
    for arm, of_arm in by_arm.items():
        own = [run for run in of_arm if run.data.tags["arm"] == arm]  # the others are source networks
        newest = [run for run in own if _conditions_of(run) == _conditions_of(own[-1])]
        trials = {tuple(int(run.data.tags[name]) for name in ("rung", "candidate", "seed")) for run in newest}
        is_whole = Counter(rung for rung, _, _ in trials) == whole
        superseded = [run for run in own if run not in newest] if is_whole else []
        kept += [run for run in of_arm if run not in superseded]
    return kept


def _conditions_of(run: Run) -> tuple[str | None, ...]:
    return tuple(run.data.tags.get(name) for name in ("code", "data", "platform"))


def _candidate_state(status: str, metrics: Mapping[str, float]) -> TrialState:
    if status == "running":
        return "running"
    losses = [metrics.get(f"final_{name}", math.nan) for name in ("validation_error", "validation_loss")]
    return current_status(status, losses)


def _to_candidate(run: Run, tuning: TuningBudget) -> RecordedCandidate:
    tags, params, metrics = run.data.tags, run.data.params, run.data.metrics
    return RecordedCandidate(
        arm=tags["search"],
        number=int(tags["candidate"]),
        rung=int(tags["rung"]),
        seed=int(tags["seed"]),
        epochs=int(params["recipe.epochs"]),
        epochs_trained=int(tags.get("epochs", 0)),
        state=_candidate_state(tags["status"], metrics),
        validation_error=metrics.get("final_validation_error", math.nan),
        validation_loss=metrics.get("final_validation_loss", math.nan),
        # Of a bundle, its share of the time.
        seconds=metrics.get("train_seconds", 0.0) / int(tags.get("environment.bundle_size", 1)),
        values={path: params.get(path, str(DEFAULT_RECIPE[path])) for path in tuning.paths},
        run_id=run.info.run_id,
        is_source=tags["arm"] != tags["search"],
        has_test_metrics="test_error" in metrics,
    )
