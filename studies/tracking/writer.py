"""Log a study and its trials to the tracking store."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from mlflow.entities import Metric, Run
from torch import nn

from lightning_modules.specs.errors import DamagedFileError
from lightning_modules.specs.serialization import to_json
from lightning_modules.specs.values import flatten_fields
from lightning_modules.stored_files import dump_json, hash_bytes
from studies.design.trial import Trial
from studies.latency.measurement import LATENCY_FILE, LatencyMeasurement, measurement_to_json, read_measurement
from studies.records.identity import EndedTrial, TrialKey
from studies.records.registration import Registration
from studies.records.registration_log import RegistrationEntry, entry_to_json
from studies.records.results import RECORD_SCHEMA, Result, result_to_json
from studies.records.serialization import (
    curves_table,
    registration_to_json,
    results_table,
    seeds_from_text,
    seeds_to_text,
    start_to_json,
    to_npy_bytes,
)
from studies.records.study_record import RecordedTrial, StudyStart
from studies.storage.trial_folder import TrialFolder
from studies.tracking.artifacts import REGISTRATION_LOG, STARTS_TAG, TAGS_CHECKSUM, hash_tags
from studies.tracking.errors import report_unreachable_store
from studies.tracking.interface import run_display, trial_description
from studies.tracking.interface.data_inputs import study_inputs, trial_inputs
from studies.tracking.interface.findings import NOTE_TAG, StudyFindings
from studies.tracking.interface.metric_names import display_rank, metric_name
from studies.tracking.interface.trial_values import final_metrics, is_logged, result_tags
from studies.tracking.interface.views import DESCRIPTION_TAG, view_tags
from studies.tracking.reader import StudyReader
from studies.tracking.runs import (
    CANCELLED_KIND,
    MAX_TAG_LENGTH,
    NO_OVERRIDES,
    OVERRIDES_TAG,
    PARENT_RUN_TAG,
    STUDY_RUN_TAG,
    MlflowRuns,
    creation_order,
)

MAX_TAGGED_STARTS = 100  # names of 35 characters: a tag holds 5,000
REGISTRATION_TAG = "registers"  # on a study's run from its creation: the conditions that it is registered under


@dataclass(frozen=True)
class StudyWriter:
    """Logs one study. Every write is idempotent: a driver that was killed repeats it at its next start."""

    runs: MlflowRuns

    # -- studies -------------------------------------------------------------------------------------------------

    def register_study(
        self,
        registration: Registration,
        conditions: str,
        tags: Mapping[str, str],
        *,
        is_start: bool = True,
        run_id: str = "",
    ) -> str:
        """Create this runs folder's run of a study under its conditions, or reopen it; returns its id.

        The first registration is kept; seeds of later ones are added to the tag ``seeds``.

        Args:
            is_start: whether this is a start of the study, which makes it the latest of its name.
            run_id: of the run to reopen, whosever it is; empty for this folder's.
        """
        run = self.runs.client.get_run(run_id) if run_id else self._find_or_create_run(registration, conditions, tags)
        run_id = str(run.info.run_id)
        self.describe_experiment(run, registration)
        if "kind" in run.data.tags:
            self.add_seeds(run_id, registration.seeds)
            if is_start:
                self.runs.set_tags(run_id, {"started": time.time()})
            self.runs.client.update_run(run_id, status="RUNNING")
            return run_id
        self.runs.log_params(run_id, {"protocol": registration.protocol, **registration.held})
        self.runs.client.log_inputs(run_id, study_inputs(registration, self.runs.settings.redacted_data_location))
        self.log_registration(run_id, registration)
        # The tags that a study is found by come last, so that an incomplete registration is never found.
        self.runs.set_tags(run_id, {"kind": "study", "conditions": conditions})
        return run_id

    def describe_experiment(self, study_run: Run, registration: Registration) -> None:
        """Give a study's experiment its question as a description, and a view of the study's trials."""
        views = view_tags(str(study_run.info.run_id), is_tuned=registration.tuning is not None)
        self.runs.tag_experiment(study_run.info.experiment_id, {DESCRIPTION_TAG: registration.question, **views})

    def _find_or_create_run(self, registration: Registration, conditions: str, tags: Mapping[str, str]) -> Run:
        run = self.runs.find_own_run(registration.study, conditions)
        if run:
            return run
        experiment = self.runs.ensure_experiment(registration.study)
        # Asked again: the experiment may have been deleted, and is restored with its runs.
        run = self.runs.find_own_run(registration.study, conditions)
        run = run or self._find_partial_registration(experiment, conditions)
        return run or self._create_study_run(experiment, registration, conditions, tags)

    def _create_study_run(
        self, experiment_id: str, registration: Registration, conditions: str, tags: Mapping[str, str]
    ) -> Run:
        """Create a study's run; where another host of the same storage was first, return that host's."""
        study_tags = {
            **self.runs.owner.tags,
            "seeds": seeds_to_text(registration.seeds, MAX_TAG_LENGTH),
            "started": str(time.time()),
            "schema": str(RECORD_SCHEMA),
            NOTE_TAG: registration.question,
            OVERRIDES_TAG: run_display.join_overrides(registration.overrides) or NO_OVERRIDES,
            REGISTRATION_TAG: conditions,
        }
        created = self.runs.create_run(experiment_id, run_display.study_run_name(registration), {**tags, **study_tags})
        first = self.runs.find_own_run(registration.study, conditions)
        first = first or self._find_partial_registration(experiment_id, conditions) or created
        if first.info.run_id != created.info.run_id:
            self.runs.client.delete_run(created.info.run_id)
        return first

    def _find_partial_registration(self, experiment_id: str, conditions: str) -> Run | None:
        """This folder's run of a registration that was cut off, as by a store that went away, or that begins now."""
        runs = self.runs.search([experiment_id], {REGISTRATION_TAG: conditions})
        partial = [run for run in runs if "kind" not in run.data.tags and self.runs.owner.owns(run)]
        return min(partial, key=creation_order, default=None)

    def add_seeds(self, study_run_id: str, seeds: Iterable[int]) -> None:
        """Plan further seeds of a study, as by an extension or after an interim analysis that left claims open."""
        planned = seeds_from_text(self.runs.client.get_run(study_run_id).data.tags.get("seeds", ""))
        self.runs.set_tags(study_run_id, {"seeds": seeds_to_text({*planned, *seeds}, MAX_TAG_LENGTH)})

    def log_start(self, study_run_id: str, start: StudyStart) -> None:
        """Log one start of a study: when it begins, and again, with its duration, when it ends."""
        self.runs.log_json(study_run_id, f"starts/{start.time.replace(':', '')}.json", start_to_json(start))
        paths = sorted(self.runs.list_files(study_run_id, "starts"))[-MAX_TAGGED_STARTS:]
        self.runs.client.set_tag(study_run_id, STARTS_TAG, ",".join(Path(path).stem for path in paths))

    def log_registration(self, study_run_id: str, registration: Registration) -> None:
        """Log a registration, in place of one that was lost."""
        self.runs.log_json(study_run_id, "registration.json", registration_to_json(registration))

    def set_run_status(self, run_id: str, status: str) -> None:
        """Set MLflow's status of a run."""
        self.runs.client.update_run(run_id, status=status)

    def log_registration_log(self, study_run_id: str, entries: Iterable[RegistrationEntry]) -> None:
        """Log what was registered and its amendments, in place of the log so far."""
        self.runs.log_json(study_run_id, REGISTRATION_LOG, {"entries": list(map(entry_to_json, entries))})

    def log_latency(self, study_run_id: str, measurement: LatencyMeasurement) -> None:
        """Log the latency of a study's arms, in place of an earlier measurement."""
        self.runs.log_json(study_run_id, LATENCY_FILE, measurement_to_json(measurement))

    def restore_latency(self, study_run_id: str, folder: Path) -> None:
        """Log the latency that a study's folder holds, where its run has none.

        Raises:
            DamagedFileError: where the file cannot be used.
        """
        file = folder / LATENCY_FILE
        if file.exists() and LATENCY_FILE not in self.runs.list_files(study_run_id):
            self.log_latency(study_run_id, read_measurement(file))

    def close_study(
        self, study_run_id: str, start: StudyStart, labels: np.ndarray | None, *, complete: bool
    ) -> list[DamagedFileError]:
        """End one start of a study: log it, store the true labels, and pack all results into two Parquet files.

        Runs of interrupted trials are deleted: the next start resumes these from their checkpoints under new runs.

        Returns:
            What is logged of the study and cannot be used: trials among it are not in the two files.
        """
        client = self.runs.client
        experiments = [self.runs.experiment_of(study_run_id)]
        status = "FINISHED" if complete else "KILLED"
        self.runs.delete_running(experiments, {PARENT_RUN_TAG: study_run_id})
        self.runs.delete_running(experiments, {STUDY_RUN_TAG: study_run_id})
        searches = self.runs.search(experiments, {PARENT_RUN_TAG: study_run_id, "kind": "search"})
        for search in searches:
            client.set_terminated(search.info.run_id, status)
        self.log_starts(study_run_id, [start])
        if labels is not None:  # two bytes per label hold 65,536 classes
            self.runs.log_tagged_file(study_run_id, "test_labels.npy", to_npy_bytes(labels.astype(np.uint16)))
        trials, damages = self._pack_results(study_run_id)
        own_results = [trial.result for trial in trials if trial.result and not trial.reused_from]
        end_ms = run_display.study_end_ms(client.get_run(study_run_id), own_results, searches)
        client.set_terminated(study_run_id, status, end_ms)
        return damages

    def log_findings(self, study_run_id: str, findings: StudyFindings) -> None:
        """Log what a study has found so far to its own run, with where the report is."""
        run = self.runs.client.get_run(study_run_id)
        study, protocol = (run.data.tags.get(name, "NAME") for name in ("study", "protocol"))
        report_note = f"Compile the report with `ablate report {study} --protocol {protocol}`."
        if "report/index.html" in self.runs.list_files(study_run_id, "report"):
            report_note = "The report is `report/index.html` under *Artifacts*."
        tags = findings.to_tags(run.data.tags, report_note)
        self.runs.set_tags(study_run_id, tags, findings.to_metrics(int(time.time() * 1000)))

    def log_starts(self, study_run_id: str, starts: Iterable[StudyStart]) -> None:
        """Log the provenance of starts, each under its time."""
        for start in starts:
            self.log_start(study_run_id, start)

    def _pack_results(self, study_run_id: str) -> tuple[tuple[RecordedTrial, ...], list[DamagedFileError]]:
        """Pack the results of a study's trials into two files: a report would download several per trial.

        Returns:
            The trials, and what is logged of them and cannot be used.
        """
        study_run = self.runs.client.get_run(study_run_id)
        damages: list[DamagedFileError] = []
        trials = StudyReader(self.runs).read_trials(study_run, damages.append)
        ended = [trial for trial in trials if trial.result]
        if not ended:
            return trials, damages
        for name, table in (("results.parquet", results_table(ended)), ("curves.parquet", curves_table(ended))):
            buffer = io.BytesIO()
            table.to_parquet(buffer, index=False)
            self.runs.log_tagged_file(study_run_id, name, buffer.getvalue())
        return trials, damages

    def attach_report(self, study_run_id: str, folder: Path) -> None:
        """Store a compiled report as the artifact folder ``report`` of the study's run."""
        with report_unreachable_store(self.runs.settings.tracking_uri):
            self.runs.log_folder(study_run_id, "report", folder)

    def find_runs_without_model(self, study_run_id: str) -> list[Run]:
        """Runs of a study's trained trials whose networks are not logged as models."""
        found = self.runs.search([self.runs.experiment_of(study_run_id)], {PARENT_RUN_TAG: study_run_id, "kind": "fit"})
        trained = (run for run in found if run.data.tags.get("status") in ("finished", "at chance"))
        return [run for run in trained if not (run.outputs and run.outputs.model_outputs)]

    def log_model(self, run: Run, network: nn.Module, image_shape: Sequence[int]) -> None:
        """Log a trained network as a model of its trial's run; with its metrics."""
        from studies.tracking.interface.logged_models import log_model  # MLflow's model formats take a second to load

        log_model(self.runs.client, run, network, image_shape)

    # -- trials --------------------------------------------------------------------------------------------------

    def start_trial(
        self, parent_run_id: str, trial: Trial, key: TrialKey, tags: Mapping[str, str], registration: Registration
    ) -> str:
        """Create the run of a trial that starts now; returns its id.

        Earlier runs of the trial that never ended are deleted; failed ones are kept.

        Args:
            tags: of the study; with ``kind`` and ``recipe`` for a candidate or a tuned recipe.
            registration: of the study, which says what the trial's arm changes.
        """
        experiment = self.runs.experiment_of(parent_run_id)
        self.runs.delete_running([experiment], {PARENT_RUN_TAG: parent_run_id, "fingerprint": trial.fingerprint})
        own_tags = {"arm": trial.arm, "seed": str(trial.seed), "status": "running"}
        study_tags = {"kind": "fit", "recipe": "shared", **tags, **key.tags}
        # Its own come first: MLflow lists tags in the order in which they came.
        trial_tags = own_tags | study_tags | own_tags
        trial_tags |= {PARENT_RUN_TAG: parent_run_id, "schema": str(RECORD_SCHEMA)}
        trial_tags[NOTE_TAG] = trial_description.describe_trial(trial, registration)
        run = self.runs.create_run(experiment, run_display.trial_run_name(trial, trial_tags), trial_tags)
        run_id = str(run.info.run_id)
        properties = trial_description.network_properties(trial, registration)
        params = {"arm": trial.arm, "seed": trial.seed, **properties, **flatten_fields(trial.setup)}
        self.runs.log_params(run_id, params)
        if summary := trial_description.summarize_model(trial, registration):
            self.runs.log_file(run_id, trial_description.MODEL_SUMMARY_FILE, summary.encode())
        self.runs.client.log_inputs(
            run_id, trial_inputs(trial.setup, key.data, self.runs.settings.redacted_data_location)
        )
        self.runs.log_tagged_file(run_id, "setup.json", dump_json(to_json(trial.setup), indent=2))
        return run_id

    def log_cancelled_trial(
        self, parent_run_id: str, trial: Trial, key: TrialKey, tags: Mapping[str, str], reason: str
    ) -> None:
        """Log that a trial was cancelled, and why; a run of the trial that never ended is deleted.

        The cancellation is a run of its own kind, which holds no result.
        """
        experiment = self.runs.experiment_of(parent_run_id)
        self.runs.delete_running([experiment], {PARENT_RUN_TAG: parent_run_id, "fingerprint": trial.fingerprint})
        tags = {"recipe": "shared", **tags}
        cancelled_tags = {
            "kind": CANCELLED_KIND,
            "arm": trial.arm,
            "seed": str(trial.seed),
            "status": "cancelled",
            "reason": reason[:MAX_TAG_LENGTH],
            PARENT_RUN_TAG: parent_run_id,
            "schema": str(RECORD_SCHEMA),
        }
        name = run_display.trial_run_name(trial, tags)
        run = self.runs.create_run(experiment, name, {**tags, **key.tags, **cancelled_tags})
        self.runs.client.set_terminated(run.info.run_id, "KILLED")

    def withdraw_cancellation(self, study_run_id: str, fingerprint: str, dependents_reason: str) -> None:
        """Delete the runs of a cancellation that was taken back: its trial's, and those of trials that depend on it."""
        tags = {PARENT_RUN_TAG: study_run_id, "kind": CANCELLED_KIND}
        for run in self.runs.search([self.runs.experiment_of(study_run_id)], tags):
            if run.data.tags.get("fingerprint") == fingerprint or run.data.tags.get("reason") == dependents_reason:
                self.runs.client.delete_run(run.info.run_id)

    def log_epochs(self, run_id: str, epochs: Iterable[Mapping[str, float]]) -> None:
        """Log the metrics of some epochs, each under its number and the time of its end; see :func:`is_logged`."""
        metrics: list[Metric] = []
        for values in epochs:
            time_ms, epoch = int(values["time"] * 1000), int(values["epoch"])
            if not is_logged(epoch):
                continue
            for name in sorted(values, key=display_rank):
                value = values[name]
                if name not in ("epoch", "time"):
                    metrics.append(Metric(metric_name(name), value, time_ms, epoch))
        self.runs.log_metrics(run_id, metrics)

    def log_curves(self, run_id: str, result: Result) -> None:
        """Log the metrics of a result's epochs at once, thinned as those of a running trial; the artifact has all."""
        times_ms = [int(time * 1000) for time in result.times]
        metrics: list[Metric] = []
        for name in sorted(result.curves, key=display_rank):
            values = result.curves[name]
            for epoch, value in enumerate(values):
                if not is_logged(epoch) and epoch != len(values) - 1:
                    continue
                metrics.append(Metric(metric_name(name), value, times_ms[epoch], epoch))
        self.runs.log_metrics(run_id, metrics)

    def end_trial(self, run_id: str, result: Result, attempts: int = 1, faults: Sequence[str] = ()) -> None:
        """Log the final metrics, cost, evidence and artifacts of a trial, and end its run.

        The tag ``status`` comes last: a run whose status says that it has ended is complete. A final metric that
        shares its name with a curve is logged as ``final_<name>``: the curve's ``train_error`` is seen in training,
        the final one in evaluation mode.

        Args:
            attempts: how many times the trial was started.
            faults: of the machine, one line each; the last ones are kept.
        """
        if result.predictions is not None:
            content = to_npy_bytes(result.predictions)
            self.runs.log_file(run_id, "predictions.npy", content)
            result = replace(result, checksums={**result.checksums, "predictions.npy": hash_bytes(content)})
        client = self.runs.client
        if result.error:
            self.runs.log_file(run_id, "traceback.txt", result.error.encode())
        self.runs.log_json(run_id, "result.json", result_to_json(result))
        self.runs.set_tags(run_id, result_tags(result, attempts, faults), final_metrics(result))
        run = client.get_run(run_id)
        end_ms = run_display.trial_end_ms(run, result)
        client.set_terminated(run_id, "FAILED" if result.status == "failed" else "FINISHED", end_ms)
        # A run that is cut off before this line passes for a running one, which the next start replaces.
        tags = {**run.data.tags, "status": result.status}
        self.runs.set_tags(run_id, {TAGS_CHECKSUM: hash_tags(tags), "status": result.status})

    def log_trial_result(self, run_id: str, result: Result, trial_folder: TrialFolder, *, with_curves: bool) -> None:
        """Log a trial's result with the attempts and faults that its folder counts, and end its run.

        Args:
            with_curves: whether its curves were not logged while it ran, and are logged now.
        """
        if with_curves:
            self.log_curves(run_id, result)
        self.end_trial(run_id, result, trial_folder.num_attempts, trial_folder.faults)

    def relog_trial(self, run_id: str, trial: Trial, result: Result, trial_folder: TrialFolder) -> None:
        """Log the files of a trial that has ended again, in place of damaged ones."""
        self.runs.log_tagged_file(run_id, "setup.json", dump_json(to_json(trial.setup), indent=2))
        self.log_trial_result(run_id, result, trial_folder, with_curves=False)

    def log_reused_trial(
        self,
        parent_run_id: str,
        trial: Trial,
        original: EndedTrial,
        tags: Mapping[str, str],
        registration: Registration,
    ) -> None:
        """Log the result of another study's run of the same trial, with a reference to that run."""
        result = StudyReader(self.runs).read_result(original.run_id)
        tags = {**tags, "reused_from": original.run_id}
        run_id = self.start_trial(parent_run_id, trial, original.key, tags, registration)
        self.log_curves(run_id, result)
        self.end_trial(run_id, result)
