"""The run of a study in the tracking store, and the runs of its trials below it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from studies.design.trial import Trial
from studies.execution.resources import describe_nodes
from studies.records.identity import EndedTrial
from studies.records.registration import Registration
from studies.records.results import Result
from studies.records.study_record import StudyRecord, StudyStart
from studies.runner.context import StudyContext
from studies.runner.placement import Placement
from studies.runner.provenance import make_study_start
from studies.runner.trial_store import TrialStore
from studies.settings import redact_credentials
from studies.storage.manifest import read_manifest
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
        # Before anything is trained: a start that is killed has said by which code its trials were trained.
        self.context.store.writer.log_start(self.run_id, self._make_start(has_ended=False))

    # -- trials --------------------------------------------------------------------------------------------------

    def start_trial(self, trial: Trial, tags: Mapping[str, str] | None = None) -> str:
        """Create the run of a trial that starts now, or was trained by an earlier start; returns its id.

        Args:
            tags: of the earlier start, in place of this one's.
        """
        placement = self.placement_of(trial)
        return self.context.store.writer.start_trial(
            placement.parent_run_id, trial, self.trial_store.key(trial), {**self._tags_of(placement), **(tags or {})}
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

    def _make_start(self, *, has_ended: bool) -> StudyStart:
        context = self.context
        return make_study_start(
            context.started_at,
            context.revision,
            describe_nodes(context.nodes, context.resources),
            self.started_seeds,
            code=context.digests["code"],
            claims=tuple(claim.sentence for claim in context.study.ablation.claims),
            has_ended=has_ended,
        )

    def close(self, *, complete: bool) -> None:
        """End this start of the study.

        Raises:
            TrackingError: if the store fails although the study is complete; otherwise the error that ended the study
                takes precedence, and this one is only printed.
        """
        context = self.context
        try:
            start = self._make_start(has_ended=True)
            labels = context.inventory.test_labels
            for damage in context.store.writer.close_study(self.run_id, start, labels, complete=complete):
                context.log(str(damage))
        except STORE_ERRORS as error:
            message = (
                f"the tracking store {redact_credentials(context.settings.tracking_uri)} failed as the study ended. "
                f"All results are in {context.settings.trials_folder}; "
                f"`ablate sync {context.study.name}{context.settings.command_options}` logs what is missing."
            )
            if complete:
                raise TrackingError(message) from error
            context.log(message)


def count_visible_results(context: StudyContext) -> Registration:
    """The registration of a new study, with the number of its trials whose results could be seen before it.

    By fingerprint, which holds setup and seed and no name: neither a renamed arm nor a renamed study hides a result.
    """
    study = context.study
    planned = {trial.fingerprint for trial in study.trials() if trial.arm in context.registration.arms}
    visible = {ended.key.fingerprint for ended in context.store.reader.ended_trials(planned)}
    for fingerprint in planned - visible:
        if any(context.settings.trials_folder.glob(f"{fingerprint}-*/result.json")):
            visible.add(fingerprint)
    return replace(
        context.registration,
        registered=datetime.fromtimestamp(context.started_at, UTC).isoformat(timespec="seconds"),
        num_planned=len(planned),
        num_visible=len(visible),
    )


def read_first_registration(context: StudyContext, run_id: str) -> Registration:
    """The study as it was registered first; a registration that was lost is logged again from the runs folder."""
    registration = context.store.reader.read_registration(run_id)
    if registration is not None:
        return registration
    folder, registration, source = context.study_folder, context.registration, "the ablation's file of today"
    if (folder / "study.json").exists():
        registration, source = read_manifest(folder).registration, f"{folder / 'study.json'}"
    context.store.writer.log_registration(run_id, registration)
    context.log(f"registration.json of run {run_id} was missing or damaged: logged again from {source}")
    return registration


def describe_claim_changes(context: StudyContext, registration: Registration) -> str:
    """Say which claims are judged where the ablation's file makes others today; empty where it makes the same."""
    registered = [claim.sentence for claim in registration.claims]
    declared = [claim.sentence for claim in context.study.ablation.claims]
    if registered == declared:
        return ""
    since = f" on {registration.registered[:10]}" if registration.registered else ""
    lines = [f"the claims of {registration.study} were registered{since}, before today's file, and stay as they were:"]
    lines += [f"  judged: {sentence}" for sentence in registered] or ["  judged: none"]
    lines += [
        f"  not judged, as it was not registered: {sentence}" for sentence in declared if sentence not in registered
    ]
    return "\n".join(lines)
