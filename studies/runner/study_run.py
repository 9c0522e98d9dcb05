"""The run of a study in the tracking store, and the runs of its trials below it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from studies.design.trial import Trial
from studies.execution.resources import describe_nodes
from studies.records.identity import EndedTrial
from studies.records.results import Result
from studies.records.study_record import StudyRecord
from studies.runner.context import StudyContext
from studies.runner.placement import Placement
from studies.runner.provenance import make_study_start
from studies.runner.trial_store import TrialStore
from studies.settings import redact_credentials
from studies.tracking.errors import STORE_ERRORS, TrackingError


class StudyRun:
    """Logs one start of a study.

    Trials belong directly below the study's run, unless :meth:`place_trial` says otherwise.
    """

    def __init__(self, context: StudyContext, trial_store: TrialStore, run_id: str) -> None:
        self.context, self.trial_store, self.run_id = context, trial_store, run_id
        self.placements: dict[Trial, Placement] = {}
        self.started_seeds: tuple[int, ...] = ()

    def place_trial(self, trial: Trial, placement: Placement) -> None:
        """Set where a trial's run belongs."""
        self.placements[trial] = placement

    def placement_of(self, trial: Trial) -> Placement:
        """Where a trial's run belongs."""
        return self.placements.get(trial, Placement(parent_run_id=self.run_id, tags={}, label=trial.arm))

    def add_seeds(self, seeds: Sequence[int]) -> None:
        """Plan the seeds of a stage, which include those of earlier stages."""
        self.started_seeds = tuple(seeds)
        self.context.store.writer.add_seeds(self.run_id, seeds)

    # -- trials --------------------------------------------------------------------------------------------------

    def start_trial(self, trial: Trial) -> str:
        """Create the run of a trial that starts now; returns its id."""
        placement = self.placement_of(trial)
        return self.context.store.writer.start_trial(
            placement.parent_run_id, trial, self.trial_store.key(trial), self._tags_of(placement)
        )

    def log_epochs(self, run_id: str, epochs: Iterable[Mapping[str, float]]) -> None:
        """Log the metrics of some epochs of a running trial."""
        self.context.store.writer.log_epochs(run_id, epochs)

    def log_result(self, run_id: str, trial: Trial, result: Result, *, with_curves: bool) -> None:
        """Log a trial's result, with its curves unless they were logged while it ran."""
        folder = self.trial_store.folder(trial)
        self.context.store.writer.log_trial_result(run_id, result, folder, with_curves=with_curves)

    def log_reused_trial(self, trial: Trial, original: EndedTrial) -> None:
        """Log the result of a trial that another study has trained."""
        placement = self.placement_of(trial)
        self.context.store.writer.log_reused_trial(placement.parent_run_id, trial, original, self._tags_of(placement))

    def _tags_of(self, placement: Placement) -> dict[str, str]:
        return {**self.context.tags, **placement.tags}

    # -- the study -----------------------------------------------------------------------------------------------

    def read_record(self) -> StudyRecord:
        """Read the study back as logged so far."""
        return self.context.store.reader.read_study(self.context.study.name, run_id=self.run_id)

    def close(self, *, complete: bool) -> None:
        """End this start of the study.

        Raises:
            TrackingError: if the store fails although the study is complete; otherwise the error that ended the study
                takes precedence, and this one is only printed.
        """
        context = self.context
        try:
            hardware = describe_nodes(context.nodes, context.resources)
            start = make_study_start(context.started_at, context.revision, hardware, self.started_seeds)
            context.store.writer.close_study(self.run_id, start, context.inventory.test_labels, complete=complete)
        except STORE_ERRORS as error:
            message = (
                f"the tracking store {redact_credentials(context.settings.tracking_uri)} failed as the study ended. "
                f"All results are in {context.settings.trials_folder}; `ablate sync {context.study.name}` logs what is "
                "missing."
            )
            if complete:
                raise TrackingError(message) from error
            context.log(message)
