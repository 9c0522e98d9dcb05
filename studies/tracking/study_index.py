"""The studies of a tracking store, of which one run is chosen, and the runs of other programs' experiments."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from lightning_modules.specs.errors import DamagedFileError, UserError, did_you_mean
from lightning_modules.specs.values import Leaf
from studies.design.declare import resuming_command
from studies.storage.manifest import list_study_folders, read_manifest
from studies.tracking.errors import NotRecordedError, report_unreachable_store
from studies.tracking.interface.run_display import join_overrides
from studies.tracking.ownership import describe_owner
from studies.tracking.runs import NO_OVERRIDES, OVERRIDES_TAG, PARENT_RUN_TAG, MlflowRuns, creation_order

MAX_LISTED_EXPERIMENTS = 20


@dataclass(frozen=True, kw_only=True)
class RecordedStudy:
    """A study in a list of all studies of a store.

    Attributes:
        conditions: digest of what decides its trials, except seeds, code and platform.
        owner: user and host that started it.
        is_own: whether this runs folder started it.
        started: seconds since 1970 of its last start.
        overrides: its ``--set`` changes as text; empty where it has none.
    """

    study: str
    protocol: str
    conditions: str
    run_id: str
    owner: str
    is_own: bool
    started: float
    overrides: str

    def __str__(self) -> str:
        time = datetime.fromtimestamp(self.started, UTC).strftime("%Y-%m-%d %H:%M")
        overrides = f", --set {self.overrides}" if self.overrides else ""
        return f"{self.run_id} under {self.protocol} (by {self.owner}, {time} UTC{overrides})"


@dataclass(frozen=True)
class StudyIndex:
    """Finds the runs of studies."""

    runs: MlflowRuns

    def list_studies(self) -> list[RecordedStudy]:
        """All studies in the store, the latest first."""
        found = self.runs.search(self.runs.all_experiments(), {"kind": "study"})
        return [self._to_study(run) for run in sorted(found, key=creation_order, reverse=True)]

    def choose_run(
        self, study: str, protocol: str | None, overrides: Mapping[str, Leaf] | None = None
    ) -> tuple[Run, tuple[RecordedStudy, ...]]:
        """The run of a study that a command means, and the others that it could mean.

        Runs of this runs folder come before those of others, runs with the given ``--set`` changes before those as
        declared, these before runs with other changes, and the one started last before earlier ones.

        Args:
            protocol: considers only runs under this protocol.
            overrides: the preferred ``--set`` changes; ``None`` for none.

        Raises:
            NotRecordedError: if there is none, with a list of the studies that exist.
        """
        tags = {"protocol": protocol} if protocol else {}
        runs = self.runs.find_study_runs(study, **tags)
        if not runs:
            raise NotRecordedError(self._describe_missing_study(study, protocol))
        candidates = [run for run in runs if self.runs.owner.owns(run)] or runs
        # Latest last: of two quick tries and the study as declared, the latter is what a report is about.
        preferred = sorted(join_overrides(overrides or {}).split(", "))

        def rank(run: Run) -> tuple[bool, bool, float, tuple[int, str]]:
            text = _overrides(run)
            return sorted(text.split(", ")) == preferred, not text, _start_time(run), creation_order(run)

        *others, chosen = sorted(candidates, key=rank)
        return chosen, tuple(self._to_study(run) for run in reversed(others))

    def find_latest_run(self) -> Run | None:
        """The run of the study that was started last: of this runs folder, else of whomever; ``None`` without any."""
        runs = self.runs.search(self.runs.all_experiments(), {"kind": "study"})
        candidates = [run for run in runs if self.runs.owner.owns(run)] or runs
        return max(candidates, key=lambda run: (_start_time(run), creation_order(run)), default=None)

    def find_run(self, study: str, run_id: str) -> Run:
        """The run of a study with this id, or with the only id that begins so.

        Raises:
            NotRecordedError: where there is none, with a list of the study's runs.
        """
        with suppress(MlflowException):  # it is no whole id, or none at all
            run = self.runs.client.get_run(run_id)
            is_study = run.data.tags.get("kind") == "study" and run.data.tags.get("study") == study
            if is_study and run.info.lifecycle_stage == "active":
                return run
        studies = self.list_studies()
        same_name = [item for item in studies if item.study == study]
        matches = [item for item in same_name if item.run_id.startswith(run_id)]
        if len(matches) == 1:
            return self.runs.client.get_run(matches[0].run_id)
        listed = "; ".join(map(str, same_name)) or "none"
        raise NotRecordedError(
            f"{run_id!r} {_describe_other_run(studies, study, run_id)}. "
            f"Its runs in {self.runs.settings.redacted_tracking_uri}: {listed}."
        )

    def _to_study(self, run: Run) -> RecordedStudy:
        tags = run.data.tags
        return RecordedStudy(
            study=tags.get("study", ""),  # tags may have been edited in MLflow's interface
            protocol=tags.get("protocol", ""),
            conditions=tags.get("conditions", ""),
            run_id=str(run.info.run_id),
            owner=describe_owner(run),
            is_own=self.runs.owner.owns(run),
            started=_start_time(run),
            overrides=_overrides(run),
        )

    def _describe_missing_study(self, study: str, protocol: str | None) -> str:
        studies = self.list_studies()
        names = {item.study for item in studies}
        listed = sorted({f"{item.study} under {item.protocol}" for item in studies})
        under_protocol = f" under the protocol {protocol!r}" if protocol else ""
        suggestion = "" if study in names else did_you_mean(study, names)
        options = (f" --protocol {protocol}" if protocol else "") + self.runs.settings.command_options
        remedy = f" `ablate run` records it: {resuming_command(study)}{options}"
        if suggestion:  # the name is misspelled: there is no such ablation to be run
            remedy = ""
        elif self._is_only_planned_here(study, protocol, studies):  # its run, or the database, was deleted
            sync = f"ablate sync {study}{self.runs.settings.command_options}"
            remedy = f" {self.runs.settings.studies_folder} has its plan: `ablate sync` logs its trials again: {sync}"
        return (
            f"{self.runs.settings.redacted_tracking_uri} holds no study {study!r}{under_protocol}.{suggestion} "
            f"It holds: {', '.join(listed) or 'nothing yet'}.{remedy}"
        )

    def _is_only_planned_here(self, study: str, protocol: str | None, recorded: Sequence[RecordedStudy]) -> bool:
        """Whether the runs folder has the manifest of a study whose run is not in the store."""
        known = {(item.study, item.conditions) for item in recorded}
        for folder in list_study_folders(self.runs.settings):
            name, _, conditions = folder.name.rpartition("-")
            if name == study and (study, conditions) not in known:
                with suppress(DamagedFileError, UserError):
                    manifest = read_manifest(folder)
                    if manifest.entries and protocol in (None, manifest.registration.protocol):
                        return True
        return False


def _describe_other_run(studies: Sequence[RecordedStudy], study: str, run_id: str) -> str:
    for item in studies:
        if item.run_id == run_id:
            return f"is of the study {item.study!r}, not of {study!r}"
    return f"is no run of the study {study!r}"


def _overrides(run: Run) -> str:
    overrides = run.data.tags.get(OVERRIDES_TAG)
    if overrides is None:  # recorded by an earlier version, which wrote them into the run's name alone
        match = re.search(r" \((.+)\)$", run.info.run_name or "")
        return match[1] if match else ""
    return "" if overrides == NO_OVERRIDES else str(overrides)


def _start_time(run: Run) -> float:
    """Seconds since 1970 of the last start of a study."""
    created: float = run.info.start_time / 1000
    try:
        started = float(run.data.tags.get("started", created))
    except ValueError:
        return created
    return started if 0 < started < 1e11 else created


def read_foreign_runs(runs: MlflowRuns, experiment: str) -> list[dict[str, object]]:
    """Read the runs of an experiment: tags, parameters and last metrics of each run, by their names.

    A run that has not finished keeps its row: it is a result without a value where it has no metric.

    Raises:
        NotRecordedError: there is no such experiment, or it has no runs.
        TrackingError: the store does not answer.
    """
    with report_unreachable_store(runs.settings.tracking_uri):
        found_experiment = runs.client.get_experiment_by_name(experiment)
        if found_experiment is None:
            names = sorted(item.name for item in runs.client.search_experiments(max_results=MAX_LISTED_EXPERIMENTS))
            raise NotRecordedError(f"MLflow has no experiment {experiment!r}; it has {', '.join(names)}.")
        found = runs.search([found_experiment.experiment_id])
    # A run with runs below it collects them: it trained no network.
    parents = {run.data.tags.get(PARENT_RUN_TAG, "") for run in found}
    rows: list[dict[str, object]] = []
    for run in found:
        if run.info.run_id not in parents:
            # A name that is both a metric and a parameter means the metric; MLflow's own tags are no results.
            tags = {name: value for name, value in run.data.tags.items() if not name.startswith("mlflow.")}
            rows.append({**tags, **run.data.params, **run.data.metrics})
    if not rows:
        raise NotRecordedError(f"The experiment {experiment!r} has no runs.")
    return rows
