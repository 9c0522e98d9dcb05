"""MLflow, in this one file: the record of every study, written by the driver alone and read back by the report."""

from __future__ import annotations

import fcntl
import io
import json
import logging
import math
import os
import tempfile
import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any, Literal, cast

import numpy as np
import pandas as pd

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # of every run that ends
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing leaves the machine unasked

import mlflow
from mlflow.entities import Experiment, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from lightning_modules.values import Leaf, did_you_mean, flatten, to_json
from studies.collecting import no_garbage_sought
from studies.fits import Fit
from studies.packing import (
    curves_table,
    npy,
    registration_from_json,
    registration_to_json,
    results_table,
    start_from_json,
    unpacked,
)
from studies.records import (
    CandidateRecord,
    Ended,
    Identity,
    Registration,
    Start,
    State,
    StudyRecord,
    TrialRecord,
    TuningRecord,
)
from studies.results import SCHEMA, Result
from studies.settings import Settings, without_credentials
from studies.spool import result_from_json, result_to_json
from studies.tuning import Tuning

LARGEST_BATCH = {"metrics": 1000, "params": 100}
PAGE = 1000
MOST_FAULTS = 10  # named in a run; each is a line
RunKind = Literal["fit", "candidate"]
ENDED: dict[RunKind, tuple[str, ...]] = {
    "fit": ("finished", "diverged"),
    "candidate": ("finished", "diverged", "failed"),
}
OF_STUDY = "study_run"  # on a search and its candidates: the study's parent run, which is not their own parent
REGISTERS = "registers"  # on a study's run from its first moment: the conditions that it is registered under
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # opens as training, not as a chat bot


StoreFault = (MlflowException, SQLAlchemyError, OSError)  # what a store that falters raises


class TrackingError(RuntimeError):
    """The tracking store does not answer, or holds no such study; the text says what was asked of it."""


class Store:
    """A tracking store. The driver is its only writer; every write may be repeated and changes nothing then."""

    def __init__(self, settings: Settings, *, create: bool = True) -> None:
        """Open a store.

        Args:
            create: make a local database that is not there yet; else a missing one is refused.

        Raises:
            TrackingError: where the store does not answer, or is missing.
        """
        self.settings = settings
        if not create and settings.database and not settings.database.exists():
            raise TrackingError(f"there is no store {settings.database}: nothing has been run there yet.")
        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # what it logs it raises as well
        with _reaching(settings.tracking_uri), _made_by_one(settings.database if create else None):
            self.client = mlflow.MlflowClient(settings.tracking_uri)
            self.client.search_experiments(max_results=1)

    # -- writing -------------------------------------------------------------------------------------------------

    def register(
        self, registration: Registration, conditions: str, tags: Mapping[str, str], *, starts: bool = True
    ) -> str:
        """The parent run of a study under its conditions: made at the first start, found again at later ones.

        What was registered first stays; later seeds are added to the tag ``seeds``.

        Args:
            starts: whether this is a start of the study, which then is the one that was started last.
        """
        experiment = self._experiment(registration.study)
        run = self._registered(experiment, conditions)
        if run:
            seeds = sorted({*json.loads(run.data.tags["seeds"]), *registration.seeds})
            self.client.set_tag(run.info.run_id, "seeds", json.dumps(seeds))
            if starts:
                self.client.set_tag(run.info.run_id, "started", str(time.time()))
            self.client.update_run(run.info.run_id, status="RUNNING")
            return str(run.info.run_id)
        own = {
            "seeds": json.dumps(registration.seeds),
            "started": str(time.time()),
            "schema": str(SCHEMA),
            "mlflow.note.content": registration.question,
        }
        run = self._half_registered(experiment, conditions) or self.client.create_run(
            experiment, run_name=_study_name(registration), tags={**tags, **own, REGISTERS: conditions}
        )
        run_id = str(run.info.run_id)
        self._log_params(run_id, {"protocol": registration.protocol} | dict(registration.held))
        self.client.log_dict(run_id, registration_to_json(registration), "registration.json")
        found_by = [
            RunTag("kind", "study"),
            RunTag("conditions", conditions),
        ]  # last: half a registration is never found
        self.client.log_batch(run_id, tags=found_by)
        return run_id

    def _registered(self, experiment: str, conditions: str) -> Run | None:
        found = self._search(
            [experiment], f"tags.kind = 'study' AND tags.conditions = '{conditions}'", order="attributes.start_time ASC"
        )
        return found[0] if found else None

    def _half_registered(self, experiment: str, conditions: str) -> Run | None:
        """The parent run of a registration that was cut off, as where the store went away in the midst of it."""
        found = self._search([experiment], f"tags.{REGISTERS} = '{conditions}'")
        return next((run for run in found if "kind" not in run.data.tags), None)

    def is_closed(self, study: str, conditions: str) -> str:
        """The parent run of a study under its conditions, where no start of it is left open; else empty."""
        experiment = self.client.get_experiment_by_name(study)
        run = self._registered(experiment.experiment_id, conditions) if experiment else None
        return str(run.info.run_id) if run and run.info.status != "RUNNING" else ""

    def has_tuned(self, study: str, conditions: str) -> bool:
        """Whether every search of a study under its conditions has told what it found."""
        experiment = self.client.get_experiment_by_name(study)
        parent = self._registered(experiment.experiment_id, conditions) if experiment else None
        if not experiment or not parent:
            return False
        condition = f"tags.{OF_STUDY} = '{parent.info.run_id}' AND tags.kind = 'search'"
        searches = self._search([experiment.experiment_id], condition)
        return bool(searches) and all("found" in run.data.tags for run in searches)

    def runs(self) -> list[RunSeen]:
        """Every run that this package made, whatever became of it, the oldest first."""
        found = self._search(self._all_experiments(), "")
        return [_seen(run) for run in found if "study" in run.data.tags]

    def holds_result(self, run: RunSeen) -> bool:
        """Whether a run's files are where it says."""
        where, store = run.artifacts, self.settings.tracking_uri
        listed = mlflow.artifacts.list_artifacts(artifact_uri=where, tracking_uri=store)
        return "result.json" in {PurePosixPath(item.path).name for item in listed}

    def versions(self) -> tuple[str, str]:
        """Of the database's tables, or of the server: what is there, and what this MLflow expects; equal where all is
        well.
        """
        utils: Any = import_module("mlflow.store.db.utils")  # what is asked of it is private; a test holds MLflow to it
        rest: Any = import_module("mlflow.utils.rest_utils")
        if self.settings.tracking_uri.startswith("http"):
            answer = rest.http_request(rest.MlflowHostCreds(self.settings.tracking_uri.rstrip("/")), "/version", "GET")
            return str(answer.text).strip(), mlflow.__version__
        engine = utils.create_sqlalchemy_engine(self.settings.tracking_uri)
        try:
            return str(utils._get_schema_version(engine)), str(utils._get_latest_schema_revision())
        finally:
            engine.dispose()

    def ended(self, kind: RunKind = "fit") -> list[Ended]:
        """Every trial, of any study in the store, that ended as finished or diverged; of candidates, as failed too.

        A search has ranked a failed candidate last and gone on: to train it again would change what was chosen.
        """
        runs = self._search(self._all_experiments(), f"tags.kind = '{kind}'")
        return [
            Ended(
                identity=_identity(run),
                status=run.data.tags["status"],
                run_id=run.info.run_id,
                parent_id=run.data.tags["mlflow.parentRunId"],
            )
            for run in runs
            if run.data.tags.get("status") in ENDED[kind]
        ]

    def begin(self, parent: str, fit: Fit, identity: Identity, tags: Mapping[str, str]) -> str:
        """A child run for a trial that starts now; runs of it that were left unended are removed, failed ones stay.

        Args:
            tags: of the study; ``kind`` and ``recipe`` among them where the trial is a candidate, or of a tuned recipe.
        """
        experiment = self.client.get_run(parent).info.experiment_id
        self._discard(
            [experiment], f"tags.`mlflow.parentRunId` = '{parent}' AND tags.fingerprint = '{fit.fingerprint}'"
        )
        own = {"arm": fit.arm, "seed": str(fit.seed), "status": "running", "mlflow.parentRunId": parent}
        tags = {"kind": "fit", "recipe": "shared", **tags}
        run = self.client.create_run(
            experiment,
            run_name=_trial_name(fit, tags),
            tags={**tags, **identity.tags, **own, "schema": str(SCHEMA)},
        )
        run_id = str(run.info.run_id)
        self._log_params(run_id, flatten(fit.setup) | {"seed": fit.seed})
        self.client.log_dict(run_id, to_json(fit.setup), "setup.json")
        return run_id

    def _discard(self, experiments: list[str], condition: str) -> None:
        for unended in self._search(experiments, f"{condition} AND tags.status = 'running'"):
            self.client.delete_run(unended.info.run_id)

    def log_epochs(self, run_id: str, epochs: Iterable[Mapping[str, float]]) -> None:
        """The curves of some epochs, each under its number and the time at which it ended."""
        metrics = [
            Metric(name, value, int(values["time"] * 1000), int(values["epoch"]))
            for values in epochs
            for name, value in values.items()
            if name not in ("epoch", "time")
        ]
        self._log_metrics(run_id, metrics)

    def recorded(self, parent: str) -> set[tuple[Identity, str]]:
        """Identity and status of every trial of a study that has ended, in whichever way."""
        experiment = self.client.get_run(parent).info.experiment_id
        runs = self._search([experiment], f"tags.`mlflow.parentRunId` = '{parent}' AND tags.kind = 'fit'")
        return {(_identity(run), run.data.tags["status"]) for run in runs if run.info.status in ("FINISHED", "FAILED")}

    def end(self, run_id: str, result: Result, attempts: int = 1, faults: Sequence[str] = ()) -> None:
        """Final metrics, cost, evidence and artifacts of a trial, how often it was begun, and the faults that it met.

        Its status comes last: a run that says how it ended has everything.

        A final value whose name a curve bears (``train_error``: there as seen in training, here in evaluation mode) is
        logged as ``final_<name>``.
        """
        stamp = int(result.times[-1] * 1000) if result.times else 0
        finals = {f"final_{name}" if name in result.curves else name: value for name, value in result.metrics.items()}
        values = {**finals, **result.cost}
        metrics = [Metric(name, value, stamp, len(result.times)) for name, value in values.items()]
        tags = [RunTag("epochs", str(len(result.times))), RunTag("attempts", str(attempts))]
        tags += [RunTag("faults", json.dumps(faults[-MOST_FAULTS:]))] if faults else []
        tags += [
            RunTag(f"evidence.{name}", str(result.evidence[name])) for name in _EVIDENCE if name in result.evidence
        ]
        tags += [RunTag(f"environment.{name}", str(value)) for name, value in result.environment.items()]
        if result.predictions is not None:
            self._log_file(run_id, "predictions.npy", npy(result.predictions))
        if result.error:
            self.client.log_text(run_id, result.error, "traceback.txt")
        self.client.log_dict(run_id, result_to_json(result), "result.json")
        self.client.log_batch(run_id, metrics=metrics, tags=tags)
        self.client.set_terminated(run_id, "FAILED" if result.status == "failed" else "FINISHED")
        self.client.set_tag(run_id, "status", result.status)

    def reuse(self, parent: str, fit: Fit, original: Ended, tags: Mapping[str, str]) -> None:
        """A child run that carries what another study's run of the same trial gave, and names that run."""
        result = self._result(self.client.get_run(original.run_id))
        run_id = self.begin(parent, fit, original.identity, {**tags, "reused_from": original.run_id})
        self.log_curves(run_id, result)
        self.end(run_id, result)

    def log_curves(self, run_id: str, result: Result) -> None:
        """All epochs of a result at once."""
        metrics = [
            Metric(name, value, int(result.times[epoch] * 1000), epoch)
            for name, values in result.curves.items()
            for epoch, value in enumerate(values)
        ]
        self._log_metrics(run_id, metrics)

    def close(self, parent: str, start: Start, labels: np.ndarray | None, *, complete: bool) -> None:
        """End one start of a study: note it, store the true labels, and pack all results into two Parquet files.

        Runs of trials that were cut off are removed: the next start begins them anew, from their checkpoints.
        """
        experiments = [self.client.get_run(parent).info.experiment_id]
        self._discard(experiments, f"tags.`mlflow.parentRunId` = '{parent}'")
        self._discard(experiments, f"tags.{OF_STUDY} = '{parent}'")
        for search in self._search(experiments, f"tags.`mlflow.parentRunId` = '{parent}' AND tags.kind = 'search'"):
            self.client.set_terminated(search.info.run_id, "FINISHED" if complete else "KILLED")
        self.client.log_dict(parent, asdict(start), f"starts/{start.time.replace(':', '')}.json")
        if labels is not None:
            self._log_file(parent, "test_labels.npy", npy(labels.astype(np.uint16)))
        self._pack(parent)
        self.client.set_terminated(parent, "FINISHED" if complete else "KILLED")

    def add_seeds(self, parent: str, seeds: Iterable[int]) -> None:
        """Plan further seeds of a study, at a look that did not resolve its claims."""
        known = json.loads(self.client.get_run(parent).data.tags["seeds"])
        self.client.set_tag(parent, "seeds", json.dumps(sorted({*known, *seeds})))

    # -- tuning --------------------------------------------------------------------------------------------------

    def begin_search(self, parent: str, arm: str, tuning: Tuning, epochs: int, tags: Mapping[str, str]) -> str:
        """The run of one arm's search, below which its candidates stand: made once, found again later."""
        experiment = self.client.get_run(parent).info.experiment_id
        condition = f"tags.`mlflow.parentRunId` = '{parent}' AND tags.kind = 'search'"
        found = [run for run in self._search([experiment], condition) if run.data.tags["arm"] == arm]
        if found:
            self.client.update_run(found[0].info.run_id, status="RUNNING")
            return str(found[0].info.run_id)
        own = {"kind": "search", "arm": arm, OF_STUDY: parent, "mlflow.parentRunId": parent, "schema": str(SCHEMA)}
        run = self.client.create_run(experiment, run_name=f"{arm}: tuning", tags={**tags, **own})
        run_id = str(run.info.run_id)
        budget = {"budget.candidates": tuning.trials, "budget.epochs": tuning.epochs(epochs), "sampler": tuning.sampler}
        space = {f"space.{each.path}": str(each) for each in tuning.space}
        self._log_params(run_id, budget | {"pruning": tuning.pruning} | space)
        return run_id

    def end_search(
        self,
        run_id: str,
        best_so_far: Sequence[float],
        chosen: Mapping[str, Leaf],
        best: int | None,
        importance: Mapping[str, float],
    ) -> None:
        """What one arm's search found: the best error after each candidate, the chosen values, what mattered."""
        now = int(time.time() * 1000)
        metrics = [Metric("best_validation_error", error, now, number) for number, error in enumerate(best_so_far)]
        metrics += [Metric(f"importance.{path}", share, now, 0) for path, share in importance.items()]
        found = {"chosen": dict(chosen), "best": best, "importance": dict(importance)}
        self._log_metrics(run_id, metrics)
        self.client.log_batch(run_id, tags=[RunTag("found", json.dumps(found))])
        self.client.set_terminated(run_id, "FINISHED")

    def attach(self, parent: str, folder: Path) -> None:
        """Put a compiled report under the parent run's artifact ``report``."""
        with _reaching(self.settings.tracking_uri):
            self.client.log_artifacts(parent, str(folder), "report")

    # -- reading -------------------------------------------------------------------------------------------------

    def read(self, study: str, protocol: str | None = None, run_id: str | None = None) -> StudyRecord:
        """The study of that name that was started last, under a protocol where one is given; or that of a parent run.

        Raises:
            TrackingError: where the store holds none; the text lists what it holds. And for a record of another schema.
        """
        with _reaching(self.settings.tracking_uri):
            parent = self._started(study, run_id) if run_id else self._parent(study, protocol)
            _readable(parent)
            run_id = parent.info.run_id
            files = {item.path for item in self.client.list_artifacts(run_id)}
            registration = registration_from_json(self._json(run_id, "registration.json"))
            trials = self._trials(parent, packed="results.parquet" in files)
            seeds = tuple(json.loads(parent.data.tags["seeds"]))
            starts = (
                sorted(item.path for item in self.client.list_artifacts(run_id, "starts")) if "starts" in files else ()
            )
            return StudyRecord(
                registration=replace(registration, seeds=seeds),
                trials=tuple(trial for trial in trials if trial.recipe == "shared"),
                starts=tuple(start_from_json(self._json(run_id, path)) for path in starts),
                labels=self._labels(run_id) if "test_labels.npy" in files else None,
                run_id=run_id,
                experiment_id=parent.info.experiment_id,
                tracking_uri=self.settings.store,
                tuning=self._tuning(parent, registration, trials) if registration.tuning else None,
            )

    def studies(self) -> list[dict[str, str]]:
        """Name, protocol, conditions, seeds and run of every study in the store, the last started first."""
        runs = self._search(self._all_experiments(), "tags.kind = 'study'", order="attributes.start_time DESC")
        names = ("study", "protocol", "conditions", "seeds")
        return [{name: run.data.tags[name] for name in names} | {"run_id": run.info.run_id} for run in runs]

    def _parent(self, study: str, protocol: str | None) -> Run:
        experiment = self.client.get_experiment_by_name(study)
        wanted = {"kind": "study", "protocol": protocol}
        condition = " AND ".join(f"tags.{name} = '{value}'" for name, value in wanted.items() if value)
        found = (
            self._search(
                [experiment.experiment_id],
                condition,
            )
            if experiment
            else []
        )
        if found:
            return max(found, key=_last_started)
        rows = self.studies()
        held, names = (
            sorted({f"{row['study']} under {row['protocol']}" for row in rows}),
            {row["study"] for row in rows},
        )
        under = f" under the protocol {protocol!r}" if protocol else ""
        raise TrackingError(
            f"{self.settings.store} holds no study {study!r}{under}."
            f"{'' if study in names else did_you_mean(study, names)} "
            f"It holds: {', '.join(held) or 'nothing yet'}. Run it with `ablate run {study}`."
        )

    def _started(self, study: str, run_id: str) -> Run:
        """A study's parent run by its id."""
        rows = [row for row in self.studies() if row["study"] == study]
        other = next((row["study"] for row in self.studies() if row["run_id"] == run_id), "")
        if run_id in {row["run_id"] for row in rows}:
            return self.client.get_run(run_id)
        why = f"is of the study {other!r}, not of {study!r}" if other else f"is no run of the study {study!r}"
        held = ", ".join(f"{row['run_id']} under {row['protocol']}" for row in rows) or "none"
        raise TrackingError(f"{run_id!r} {why}. Its runs in {self.settings.store}: {held}.")

    def _trials(self, parent: Run, *, packed: bool) -> tuple[TrialRecord, ...]:
        run_id = parent.info.run_id
        known = self._unpack(run_id) if packed else {}
        runs = self._search(
            [parent.info.experiment_id],
            f"tags.`mlflow.parentRunId` = '{run_id}' AND tags.kind = 'fit'",
            order="attributes.start_time DESC",
        )
        latest: dict[tuple[str, str, int], TrialRecord] = {}
        for run in runs:
            _readable(run)
            tags = run.data.tags
            ended = tags["status"] != "running"
            record = TrialRecord(
                arm=tags["arm"],
                seed=int(tags["seed"]),
                run_id=run.info.run_id,
                state=cast(State, tags["status"]),
                result=(known.get(run.info.run_id) or self._result(run)) if ended else None,
                reused_from=tags.get("reused_from", ""),
                attempts=int(tags.get("attempts", 1)),
                faults=tuple(json.loads(tags.get("faults", "[]"))),
                progress={} if ended else dict(run.data.metrics),
                recipe="tuned" if tags.get("recipe") == "tuned" else "shared",
            )
            latest.setdefault((record.recipe, record.arm, record.seed), record)
        return tuple(latest[key] for key in sorted(latest, key=lambda key: (key[0], key[2], key[1])))

    def _tuning(self, parent: Run, registration: Registration, trials: Iterable[TrialRecord]) -> TuningRecord:
        """What the searches spent and found. A tuned recipe that is the shared one has the shared trials."""
        assert registration.tuning is not None
        runs = self._search([parent.info.experiment_id], f"tags.{OF_STUDY} = '{parent.info.run_id}'")
        searches = {run.data.tags["arm"]: run for run in runs if run.data.tags["kind"] == "search"}
        told = {arm: json.loads(run.data.tags.get("found", "{}")) for arm, run in searches.items()}
        found = {arm: each for arm, each in told.items() if each.get("chosen")}
        shared = {path: registration.held[path] for path in registration.tuning.paths if path in registration.held}
        unchanged = {arm for arm, each in found.items() if each["chosen"] == shared}
        unchanged |= {donor for arm in unchanged for donor in registration.chain(arm)}
        return TuningRecord(
            candidates=candidates_of(
                [run for run in runs if run.data.tags["kind"] == "candidate"], registration.tuning
            ),
            chosen={arm: each["chosen"] for arm, each in found.items()},
            best={arm: each["best"] for arm, each in found.items()},
            importance={arm: each["importance"] for arm, each in found.items()},
            trials=tuple(
                replace(trial, recipe="tuned") for trial in trials if trial.recipe == "tuned" or trial.arm in unchanged
            ),
        )

    def result(self, run_id: str) -> Result:
        """What a run's trial gave."""
        return self._result(self.client.get_run(run_id))

    def _result(self, run: Run) -> Result:
        """A run's own files, by their address: asked by the run's id, MLflow would look it up for each of them."""
        where, store = run.info.artifact_uri, self.settings.tracking_uri
        listed = mlflow.artifacts.list_artifacts(artifact_uri=where, tracking_uri=store)
        files = {PurePosixPath(item.path).name for item in listed}
        if "result.json" not in files:
            raise TrackingError(
                f"run {run.info.run_id} ({run.info.run_name}) has ended, but {where} holds no result.json: its "
                "files were moved or deleted. Put them back, or delete the run; `ablate run` then trains it again."
            )

        def content(name: str) -> bytes:
            return self._fetched(artifact_uri=f"{where}/{name}")

        result = result_from_json(json.loads(content("result.json")))
        if "predictions.npy" not in files:
            return result
        return replace(result, predictions=np.load(io.BytesIO(content("predictions.npy")), allow_pickle=False))

    def _labels(self, run_id: str) -> np.ndarray:
        return np.asarray(np.load(io.BytesIO(self._content(run_id, "test_labels.npy")), allow_pickle=False))

    # -- packing -------------------------------------------------------------------------------------------------

    def _pack(self, parent: str) -> None:
        packed = "results.parquet" in {item.path for item in self.client.list_artifacts(parent)}
        trials = [trial for trial in self._trials(self.client.get_run(parent), packed=packed) if trial.result]
        if not trials:
            return
        for name, table in (("results.parquet", results_table(trials)), ("curves.parquet", curves_table(trials))):
            buffer = io.BytesIO()
            table.to_parquet(buffer, index=False)
            self._log_file(parent, name, buffer.getvalue())

    def _unpack(self, parent: str) -> dict[str, Result]:
        return unpacked(pd.read_parquet(io.BytesIO(self._content(parent, "results.parquet"))))

    # -- small print ---------------------------------------------------------------------------------------------

    def _experiment(self, name: str) -> str:
        found: Experiment | None = self.client.get_experiment_by_name(name)
        if found is None:
            local = self.settings.tracking_uri.startswith("sqlite")
            where = self.settings.artifacts.as_uri() if local else None
            location = f"{where}/{name}" if where else None
            return str(self.client.create_experiment(name, artifact_location=location, tags=EXPERIMENT_TAGS))
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _all_experiments(self) -> list[str]:
        return [experiment.experiment_id for experiment in _pages(self.client.search_experiments)]

    def _search(self, experiments: list[str], condition: str, order: str = "attributes.start_time ASC") -> list[Run]:
        if not experiments:
            return []
        return list(_pages(self.client.search_runs, experiments, filter_string=condition, order_by=[order]))

    def _log_metrics(self, run_id: str, metrics: list[Metric]) -> None:
        for start in range(0, len(metrics), LARGEST_BATCH["metrics"]):
            self.client.log_batch(run_id, metrics=metrics[start : start + LARGEST_BATCH["metrics"]])

    def _log_params(self, run_id: str, values: Mapping[str, Any]) -> None:
        params = [Param(name, str(value)) for name, value in values.items()]
        for start in range(0, len(params), LARGEST_BATCH["params"]):
            self.client.log_batch(run_id, params=params[start : start + LARGEST_BATCH["params"]])

    def _log_file(self, run_id: str, name: str, content: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / name
            file.write_bytes(content)
            self.client.log_artifact(run_id, str(file))

    def _content(self, run_id: str, path: str) -> bytes:
        return self._fetched(run_id=run_id, artifact_path=path)

    def _fetched(self, **which: str) -> bytes:
        """A file of the store; MLflow, told no folder, would leave its copy in the temporary one for good."""
        with tempfile.TemporaryDirectory() as folder:
            uri = self.settings.tracking_uri
            file = mlflow.artifacts.download_artifacts(**which, dst_path=folder, tracking_uri=uri)
            return Path(file).read_bytes()

    def _json(self, run_id: str, path: str) -> Any:
        return json.loads(self._content(run_id, path))


@dataclass(frozen=True, kw_only=True)
class RunSeen:
    """A run as it stands in the store, for whoever looks after it.

    Attributes:
        kind: ``study``, ``search``, ``fit`` or ``candidate``; empty for a study whose registration was cut off.
        state: its tag ``status``: ``running`` until all of a trial is there.
        is_open: whether MLflow shows it as running.
        identity: of a trial.
    """

    run_id: str
    name: str
    kind: str
    study: str
    conditions: str
    parent: str
    state: str
    is_open: bool
    schema: str
    identity: Identity | None
    artifacts: str


def _seen(run: Run) -> RunSeen:
    tags = run.data.tags
    return RunSeen(
        run_id=run.info.run_id,
        name=run.info.run_name,
        kind=tags.get("kind", ""),
        study=tags["study"],
        conditions=tags.get("conditions", ""),
        parent=tags.get(OF_STUDY) or tags.get("mlflow.parentRunId", ""),
        state=tags.get("status", ""),
        is_open=run.info.status == "RUNNING",
        schema=tags.get("schema", "none"),
        identity=_identity(run) if "fingerprint" in tags else None,
        artifacts=run.info.artifact_uri,
    )


def _identity(run: Run) -> Identity:
    return Identity(*(run.data.tags[name] for name in ("fingerprint", "data", "code", "platform")))


def candidates_of(runs: Iterable[Run], tuning: Tuning) -> tuple[CandidateRecord, ...]:
    """The candidates that runs record, one per place: the newest attempt, with how many there were."""
    latest: dict[tuple[str, bool, str, int, int, int], CandidateRecord] = {}
    for run in sorted(runs, key=lambda run: run.info.start_time):
        made = _candidate(run, tuning)
        place = (made.arm, made.of_donor, run.data.tags["arm"], made.number, made.rung, made.seed)
        before = latest.get(place)
        latest[place] = replace(made, attempts=before.attempts + 1) if before else made
    return tuple(latest[place] for place in sorted(latest))


def _candidate(run: Run, tuning: Tuning) -> CandidateRecord:
    tags, params, metrics = run.data.tags, run.data.params, run.data.metrics
    return CandidateRecord(
        arm=tags["search"],
        number=int(tags["candidate"]),
        rung=int(tags["rung"]),
        seed=int(tags["seed"]),
        epochs=int(params["recipe.epochs"]),
        trained=int(tags.get("epochs", 0)),
        state=cast(State, tags["status"]),
        error=metrics.get("final_validation_error", math.nan),
        loss=metrics.get("final_validation_loss", math.nan),
        seconds=metrics.get("train_seconds", 0.0),
        values={path: params[path] for path in tuning.paths},
        run_id=run.info.run_id,
        of_donor=tags["arm"] != tags["search"],
        tested="test_error" in metrics,
    )


_EVIDENCE = ("order", "augmentation", "split", "steps", "donors")


def _last_started(run: Run) -> float:
    return float(run.data.tags.get("started", run.info.start_time / 1000))


def _readable(run: Run) -> None:
    """Refuse a run that another version of this package recorded."""
    schema = run.data.tags.get("schema", "none")
    if schema == str(SCHEMA):
        return
    newer = schema.isdecimal() and int(schema) > SCHEMA
    raise TrackingError(
        f"run {run.info.run_id} ({run.info.run_name}) was recorded under schema {schema}, which is "
        f"{'newer' if newer else 'older'} than this version's, {SCHEMA}. "
        + ("Update this package." if newer else "Compile its report with the version that recorded it.")
    )


def _trial_name(fit: Fit, tags: Mapping[str, str]) -> str:
    if fit.tunes:
        return f"{fit.arm}, candidate {fit.candidate}, rung {tags['rung']}, seed {fit.seed}"
    return f"{fit.arm}, seed {fit.seed}" + (", tuned" if tags["recipe"] == "tuned" else "")


def _study_name(registration: Registration) -> str:
    overrides = ", ".join(f"{path}={value}" for path, value in registration.overrides.items())
    return f"{registration.study} under {registration.protocol}" + (f" ({overrides})" if overrides else "")


def _pages(search: Any, *arguments: Any, **keywords: Any) -> Iterator[Any]:
    token = None
    while True:
        with no_garbage_sought():  # a page is a hundred thousand objects, which all live
            page = search(*arguments, max_results=PAGE, page_token=token, **keywords)
        yield from page
        token = page.token
        if not token:
            return


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Say it in words where a store that answered at first goes away.

    Raises:
        TrackingError: in place of MLflow's own.
    """
    try:
        yield
    except MlflowException as error:
        reason = textwrap.shorten(without_credentials(root_of(error)), 200, placeholder=" ...")
        raise TrackingError(
            f"the tracking store {without_credentials(uri)} does not answer any more ({reason}). What was trained is "
            "kept: call `ablate run` again when it does."
        ) from error


def root_of(error: BaseException) -> str:
    """What an exception that was wrapped again and again said at first."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return f"{type(error).__name__}: {error}"


@contextmanager
def _made_by_one(database: Path | None) -> Iterator[None]:
    """Keep others from making the same local database now: two at once break it, for good."""
    if database is None:
        yield
        return
    with database.with_name(f".{database.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _reaching(uri: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        told = f"the tracking store {without_credentials(uri)} needs the Python package {error.name!r}; install it."
        raise TrackingError(told) from error
    except StoreFault as error:
        reason = textwrap.shorten(without_credentials(str(error)), 200, placeholder=" ...")
        raise TrackingError(
            f"the tracking store {without_credentials(uri)} does not answer as one. "
            "Check --tracking-uri, and that its server runs. "
            f"({reason})"
        ) from error
