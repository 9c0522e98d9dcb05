"""Read studies and trials back from the tracking store."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from mlflow.entities import Run

from lightning_modules.specs.errors import DamagedFileError
from lightning_modules.specs.values import Leaf
from studies.records.identity import EndedTrial, TrialKey
from studies.records.registration import Registration
from studies.records.registration_log import RegistrationCheck, RegistrationEntry
from studies.records.results import LEGACY_STATUS, UNTRAINED_STATUSES, Result
from studies.records.study_record import RecordedTrial, StudyRecord, StudyStart
from studies.storage.copies.registration import (
    RegistrationCopy,
    check_registration,
    find_page_digests,
    read_folder_copy,
)
from studies.tracking.artifacts import ArtifactReader, DamageListener, has_trial_tags, planned_seeds, require_trial_tags
from studies.tracking.errors import report_unreachable_store
from studies.tracking.interface.metric_names import to_curves
from studies.tracking.runs import (
    CANCELLED_KIND,
    CHECKSUM_TAG,
    PARENT_RUN_TAG,
    MlflowRuns,
    require_run_schema,
    trial_key_of,
)
from studies.tracking.searches import SearchRuns
from studies.tracking.study_index import RecordedStudy, StudyIndex

RunKind = Literal["fit", "candidate"]

# A search ranks a failed candidate last and continues: to train it again would change what the search has chosen.
ENDED_STATUSES: dict[RunKind, tuple[str, ...]] = {
    "fit": ("finished", *UNTRAINED_STATUSES, LEGACY_STATUS),
    "candidate": ("finished", *UNTRAINED_STATUSES, LEGACY_STATUS, "failed"),
}


@dataclass(frozen=True)
class StudyReader:
    """Reads what :class:`studies.tracking.writer.StudyWriter` logged."""

    runs: MlflowRuns

    @property
    def artifacts(self) -> ArtifactReader:
        """Reads the artifacts of this store's runs."""
        return ArtifactReader(self.runs)

    def read_study(
        self,
        study: str,
        protocol: str | None = None,
        run_id: str | None = None,
        overrides: Mapping[str, Leaf] | None = None,
    ) -> StudyRecord:
        """Read a study by its name: this runs folder's own; see :meth:`StudyIndex.choose_run`.

        Args:
            protocol: considers only studies under this protocol.
            run_id: selects the study by its run instead, whosever it is.
            overrides: prefers a run with these ``--set`` changes.

        Raises:
            TrackingError: if there is no such study, with a list of those that exist; or if another version of this
                package recorded it.
        """
        settings = self.runs.settings
        with report_unreachable_store(settings.tracking_uri):
            index = StudyIndex(self.runs)
            others: tuple[RecordedStudy, ...] = ()
            if run_id:
                study_run = index.find_run(study, run_id)
            else:
                study_run, others = index.choose_run(study, protocol, overrides)
            require_run_schema(study_run)
            run_id = str(study_run.info.run_id)
            files = self.runs.list_files(run_id)
            damages: list[DamagedFileError] = []
            registration = self.artifacts.read_registration(study_run)
            trials = self.read_trials(study_run, damages.append)
            starts = self._read_starts(study_run, damages.append)
            # A damaged measurement costs the record its latency, not its trials.
            latency = None
            try:
                latency = self.artifacts.read_latency(study_run)
            except DamagedFileError as error:
                damages.append(error)
            tuning = None
            if registration.tuning:
                tuning = SearchRuns(self.runs).read_tuning(study_run, registration, trials)
            return StudyRecord(
                registration=replace(
                    registration, seeds=planned_seeds(study_run, registration, starts, damages.append)
                ),
                trials=tuple(trial for trial in trials if trial.recipe == "shared"),
                starts=starts,
                labels=self._read_labels(study_run, files, damages.append),
                run_id=run_id,
                experiment_id=study_run.info.experiment_id,
                tracking_uri=settings.redacted_tracking_uri,
                tuning=tuning,
                damages=tuple(map(str, damages)),
                is_own=self.runs.owner.owns(study_run),
                other_runs=tuple(map(str, others)),
                registration_check=self.check_registration(study_run),
                latency=latency,
            )

    def read_tag(self, run_id: str, name: str) -> str:
        """A tag of a run; empty where it has none."""
        return str(self.runs.client.get_run(run_id).data.tags.get(name, ""))

    def read_conditions(self, run_id: str) -> str:
        """Digest of the conditions of the study that a run records."""
        return str(self.runs.client.get_run(run_id).data.tags["conditions"])

    def read_registration(self, study_run_id: str) -> Registration | None:
        """The registration of a study as first logged; ``None`` where its file is gone or damaged."""
        try:
            return self.artifacts.read_registration(self.runs.client.get_run(study_run_id))
        except DamagedFileError:
            return None

    def read_registration_log(self, study_run_id: str) -> tuple[RegistrationEntry, ...]:
        """The registration as declared, and its amendments; empty where there is none, or a damaged one."""
        try:
            return self.artifacts.read_registration_log(self.runs.client.get_run(study_run_id))
        except DamagedFileError:
            return ()

    def check_registration(self, study_run: Run) -> RegistrationCheck | None:
        """Compare the registration of a study here with that in the runs folder and on compiled pages."""
        study_folder = f"{study_run.data.tags.get('study', '')}-{study_run.data.tags.get('conditions', '')}"
        copies = [self._read_registration_copy(study_run)]
        page_digests = None
        if self.runs.owner.owns(study_run):  # else the folder holds the registration of its own run
            folder_copy = read_folder_copy(self.runs.settings, study_folder)
            copies += [folder_copy] if folder_copy else []
            page_digests = find_page_digests(self.runs.settings, study_folder)
        return check_registration(study_folder, copies, page_digests)

    def check_own_registrations(self) -> dict[str, RegistrationCheck | None]:
        """The checks of all studies that this runs folder has started, by name, protocol and run."""
        checks = {}
        for study in self.list_studies():
            if study.is_own:
                run = self.runs.client.get_run(study.run_id)
                checks[f"{study.study} under {study.protocol} ({study.run_id[:8]})"] = self.check_registration(run)
        return checks

    def _read_registration_copy(self, study_run: Run) -> RegistrationCopy:
        place = "MLflow"
        try:
            registration = self.artifacts.read_registration(study_run)
            entries = self.artifacts.read_registration_log(study_run)
        except DamagedFileError as error:
            return RegistrationCopy(place=place, damage=str(error))
        return RegistrationCopy(place=place, registration=registration, entries=entries)

    def list_studies(self) -> list[RecordedStudy]:
        """All studies in the store, the latest first."""
        return StudyIndex(self.runs).list_studies()

    def ended_trials(self, fingerprints: Collection[str], kind: RunKind = "fit") -> list[EndedTrial]:
        """Trials of some fingerprints, in all studies of the store, whose result can be reused; the oldest first.

        These have ended without failing; candidates may have failed as well.
        """
        return _select_ended(self.runs.iterate_trial_runs(kind, fingerprints), ENDED_STATUSES[kind])

    def ended_trials_below(self, parent_run_id: str, kind: RunKind = "fit") -> list[EndedTrial]:
        """As :meth:`ended_trials`, of all trials below the run of one study or search; with those that failed."""
        experiment = self.runs.experiment_of(parent_run_id)
        runs = self.runs.iterate_runs([experiment], {PARENT_RUN_TAG: parent_run_id, "kind": kind})
        return _select_ended(runs, {*ENDED_STATUSES[kind], "failed"})

    def read_result(self, run_id: str) -> Result:
        """Read the result of the trial that a run records.

        Raises:
            DamagedFileError: if it is missing, or cannot be used.
        """
        return self.artifacts.read_result(self.runs.client.get_run(run_id))

    def read_trials(self, study_run: Run, on_damage: DamageListener) -> tuple[RecordedTrial, ...]:
        """Read the newest attempt of each trial of a study; one that cannot be used is reported and left out."""
        run_id = study_run.info.run_id
        packed_results = self._read_packed_results(study_run, on_damage)
        runs = self.runs.search(
            [study_run.info.experiment_id],
            {PARENT_RUN_TAG: run_id, "kind": "fit"},
            order="attributes.start_time DESC",
        )
        latest: dict[tuple[str, int, str], RecordedTrial] = {}
        started_at: dict[tuple[str, int, str], int] = {}
        for run in runs:
            require_run_schema(run)
            try:
                trial = self._to_recorded_trial(run, packed_results.get(run.info.run_id))
            except DamagedFileError as error:
                on_damage(error)
                continue
            # Runs come newest first, so that the first of a trial is its newest attempt.
            identity = trial.recipe, trial.seed, trial.arm
            if identity not in latest:
                latest[identity], started_at[identity] = trial, run.info.start_time
        # Whichever came last holds: a cancelled trial may have been tried again.
        for run in self._cancelled_runs(study_run):
            try:
                require_trial_tags(run, self.runs.settings.redacted_tracking_uri)
            except DamagedFileError as error:
                on_damage(error)
                continue
            trial = _to_cancelled_trial(run)
            identity = trial.recipe, trial.seed, trial.arm
            if run.info.start_time >= started_at.get(identity, 0):
                latest[identity], started_at[identity] = trial, run.info.start_time
        return tuple(latest[identity] for identity in sorted(latest))

    def cancelled_trials(self, study_run_id: str) -> set[tuple[str, str]]:
        """Fingerprints of the trials of a study that are recorded as cancelled, each with its reason.

        A run whose tags were removed or edited does not count.
        """
        runs = filter(has_trial_tags, self._cancelled_runs(self.runs.client.get_run(study_run_id)))
        return {(run.data.tags.get("fingerprint", ""), run.data.tags.get("reason", "")) for run in runs}

    def _cancelled_runs(self, study_run: Run) -> list[Run]:
        tags = {PARENT_RUN_TAG: study_run.info.run_id, "kind": CANCELLED_KIND}
        return list(self.runs.search([study_run.info.experiment_id], tags))

    def find_study_damage(self, study_run_id: str) -> list[DamagedFileError]:
        """What the run of a study itself holds that cannot be used."""
        return list(self.artifacts.find_damage(self.runs.client.get_run(study_run_id)))

    def find_trial_damage(self, study_run_id: str) -> list[tuple[str, TrialKey, str, DamagedFileError]]:
        """Runs of a study's trials that hold something damaged: id, trial, recipe, and the first damage."""
        experiment = self.runs.experiment_of(study_run_id)
        damaged = []
        for run in self.runs.search([experiment], {PARENT_RUN_TAG: study_run_id, "kind": "fit"}):
            for damage in self.artifacts.find_damage(run):
                recipe = run.data.tags.get("recipe", "shared")
                # The first is enough: the whole run is logged again.
                damaged.append((str(run.info.run_id), trial_key_of(run), recipe, damage))
                break
        return damaged

    def _to_recorded_trial(self, run: Run, packed_result: Result | None) -> RecordedTrial:
        tags = run.data.tags
        require_trial_tags(run, self.runs.settings.redacted_tracking_uri)
        has_ended = tags["status"] != "running"
        result = None
        if has_ended:
            result = packed_result or self.artifacts.read_result(run)
        return RecordedTrial(
            arm=tags["arm"],
            seed=int(tags["seed"]),
            run_id=run.info.run_id,
            # Not the tag: earlier versions had one word there for two outcomes, which the result tells apart.
            state=result.status if result else "running",
            result=result,
            reused_from=tags.get("reused_from", ""),
            num_attempts=int(tags.get("attempts", 1)),
            faults=tuple(json.loads(tags.get("faults", "[]"))),
            progress={} if has_ended else to_curves(run.data.metrics),
            recipe="tuned" if tags.get("recipe") == "tuned" else "shared",
            # A reused trial bears the tags of the study that reuses it, not of the start that trained it.
            revision="" if "reused_from" in tags else tags.get("revision", ""),
            working_tree="" if "reused_from" in tags else tags.get("working_tree", ""),
        )

    def _read_packed_results(self, study_run: Run, on_damage: DamageListener) -> dict[str, Result]:
        """Results that were packed into one table, which saves a download per trial; empty where there is none."""
        tags = study_run.data.tags
        is_expected = f"{CHECKSUM_TAG}results.parquet" in tags
        if not is_expected and "results.parquet" not in self.runs.list_files(study_run.info.run_id):
            return {}
        try:
            return self.artifacts.read_packed_results(study_run, on_damage)
        except DamagedFileError as error:
            reason = f"{error.reason}; the results are read from each trial's own file"
            on_damage(DamagedFileError(error.file, reason, error.remedy))
            return {}

    def _read_starts(self, study_run: Run, on_damage: DamageListener) -> tuple[StudyStart, ...]:
        starts = []
        try:
            self.artifacts.require_all_starts(study_run)
        except DamagedFileError as error:
            on_damage(error)
        for path in self.artifacts.list_starts(study_run):
            try:
                starts.append(self.artifacts.read_start(study_run, path))
            except DamagedFileError as error:
                on_damage(error)
        return tuple(starts)

    def _read_labels(
        self, study_run: Run, files: Collection[str], on_damage: DamageListener
    ) -> npt.NDArray[np.uint16] | None:
        if "test_labels.npy" not in files and f"{CHECKSUM_TAG}test_labels.npy" not in study_run.data.tags:
            return None
        try:
            return self.artifacts.read_labels(study_run)
        except DamagedFileError as error:
            reason = f"{error.reason}; what needs the true labels is left out"
            on_damage(DamagedFileError(error.file, reason, error.remedy))
            return None


def _select_ended(runs: Iterable[Run], statuses: Collection[str]) -> list[EndedTrial]:
    ended: list[EndedTrial] = []
    for run in runs:
        tags = run.data.tags
        if tags.get("status") in statuses and has_trial_tags(run):
            ended.append(
                EndedTrial(
                    key=trial_key_of(run),
                    status=tags["status"],
                    run_id=run.info.run_id,
                    parent_run_id=tags.get(PARENT_RUN_TAG, ""),
                )
            )
    return ended


def _to_cancelled_trial(run: Run) -> RecordedTrial:
    tags = run.data.tags
    return RecordedTrial(
        arm=tags["arm"],
        seed=int(tags["seed"]),
        run_id=run.info.run_id,
        state="cancelled",
        result=None,
        recipe="tuned" if tags.get("recipe") == "tuned" else "shared",
        cancel_reason=tags.get("reason", ""),
    )
