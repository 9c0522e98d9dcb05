"""The run of a study in the tracking store with its registration, and the runs of its trials below it."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime

from lightning_modules.specs.errors import DamagedFileError, UserError
from lightning_modules.specs.text import format_count
from studies.design.budget import RunBudget
from studies.design.study import make_trials
from studies.design.trial import Trial
from studies.execution.resources import describe_nodes
from studies.records.identity import EndedTrial
from studies.records.registration import Registration
from studies.records.registration_log import (
    RegistrationEntry,
    continue_log,
    declaration_of,
    describe_amendment,
    describe_changes,
)
from studies.records.results import Result
from studies.records.serialization import registration_to_json
from studies.records.study_record import RecordedTrial, StudyRecord, StudyStart
from studies.runner.context import StudyContext
from studies.runner.findings.updates import FindingsLog
from studies.runner.provenance import make_study_start
from studies.runner.recorder import Placement, last_line
from studies.runner.trial_store import TrialStore
from studies.settings import redact_credentials
from studies.storage.manifest import StudyManifest, read_manifest, registration_in_force
from studies.storage.trial_requests import find_cancel_reasons, read_cancellations
from studies.tracking.errors import STORE_ERRORS, TrackingError
from studies.tracking.interface.findings import TRIALS_ALONE, TRIALS_DIGEST_TAG, LoggingOptions, StudyFindings
from studies.tracking.ownership import user_name
from studies.tracking.runs import trial_key_of


class StudyRun:
    """Logs one start of a study.

    Trials belong directly below the study's run, unless :meth:`place_trial` says otherwise.
    """

    def __init__(
        self,
        context: StudyContext,
        trial_store: TrialStore,
        run_id: str,
        options: LoggingOptions = TRIALS_ALONE,
    ) -> None:
        self.context, self.trial_store, self.run_id, self.options = context, trial_store, run_id, options
        self.findings = FindingsLog(options.find, self.read_record, self._log_findings, context.log)
        self.placements: dict[Trial, Placement] = {}
        self.started_seeds: tuple[int, ...] = ()
        self.budget: RunBudget | None = None  # of this start, where it is limited
        self.gpu_hours = 0.0  # that its trials have held so far
        self.stop_reason = ""

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
            placement.parent_run_id,
            trial,
            self.trial_store.key(trial),
            {**self._tags_of(placement), **(tags or {})},
            self.context.registration,
        )

    def log_epochs(self, run_id: str, epochs: Iterable[Mapping[str, float]]) -> None:
        """Log the metrics of some epochs of a running trial."""
        self.context.store.writer.log_epochs(run_id, epochs)

    def log_result(self, run_id: str, trial: Trial, result: Result, *, with_curves: bool) -> None:
        """Log a trial's result, with its curves unless they were logged while it ran."""
        folder = self.trial_store.folder(trial)
        self.context.store.writer.log_trial_result(run_id, result, folder, with_curves=with_curves)
        if trial not in self.placements:  # else it is a candidate, or trained under a recipe of its own
            self.findings.add_trial(
                RecordedTrial(arm=trial.arm, seed=trial.seed, run_id=run_id, state=result.status, result=result)
            )

    def log_cancelled_trial(self, trial: Trial, reason: str) -> None:
        """Log that the user has cancelled a trial, unless that is logged."""
        if (trial.fingerprint, reason) in self.context.store.reader.cancelled_trials(self.run_id):
            return
        placement = self.placement_of(trial)
        self.context.store.writer.log_cancelled_trial(
            placement.parent_run_id, trial, self.trial_store.key(trial), self._tags_of(placement), reason
        )

    def cancel_reasons(self, trials: Sequence[Trial]) -> dict[Trial, str]:
        """The trials of these that the user has cancelled, and those that depend on one, each with its reason."""
        cancellations = read_cancellations(self.context.study_folder, self.context.log)
        return find_cancel_reasons(trials, cancellations, self.trial_store.has_weights)

    def log_reused_trial(self, trial: Trial, original: EndedTrial) -> None:
        """Log the result of a trial that another study has trained."""
        placement = self.placement_of(trial)
        self.context.store.writer.log_reused_trial(
            placement.parent_run_id, trial, original, self._tags_of(placement), self.context.registration
        )

    def _tags_of(self, placement: Placement) -> dict[str, str]:
        return {**self.context.tags, **placement.tags}

    # -- the study -----------------------------------------------------------------------------------------------

    def read_record(self) -> StudyRecord:
        """Read the study back as logged so far."""
        return self.context.store.reader.read_study(self.context.study.name, run_id=self.run_id)

    def log_models(self) -> None:
        """Log the trained networks as models, those of earlier starts included; one without weights is named."""
        context, writer = self.context, self.context.store.writer
        trials = {trial.fingerprint: trial for trial in context.study.trials() if trial.setup.has_training}
        num_logged = 0
        for run in writer.find_runs_without_model(self.run_id):
            trial = trials.get(run.data.tags.get("fingerprint", ""))
            if trial is None or trial.setup.recipe.trains != "network":
                continue
            if trial_key_of(run) != self.trial_store.key(trial):  # the weights here are those of another training
                context.log(
                    f"{trial.arm}, seed {trial.seed}: not logged as a model (trained by other code, data or platform)"
                )
                continue
            try:
                network = self.trial_store.load_network(trial)
            except (OSError, RuntimeError, UserError) as error:
                context.log(f"{trial.arm}, seed {trial.seed}: not logged as a model ({last_line(str(error))})")
                continue
            writer.log_model(run, network, trial.setup.scale.image_shape)
            num_logged += 1
        context.log(f"{format_count(num_logged, 'network')} logged as models")

    def log_final_findings(self, record: StudyRecord) -> None:
        """Log what a study that has ended shows to its run."""
        store = self.context.store
        try:
            self.findings.log_final(record, store.reader.read_tag(self.run_id, TRIALS_DIGEST_TAG))
        except STORE_ERRORS as error:
            reason = redact_credentials(str(error).strip().partition("\n")[0])
            self.context.log(f"what was found could not be logged to the study's run ({reason})")

    def _log_findings(self, findings: StudyFindings) -> None:
        self.context.store.writer.log_findings(self.run_id, findings)

    def _make_start(self, *, has_ended: bool) -> StudyStart:
        context = self.context
        start = make_study_start(
            context.started_at,
            context.revision,
            describe_nodes(context.nodes, context.resources),
            self.started_seeds,
            code=context.digests["code"],
            claims=tuple(claim.sentence for claim in context.study.ablation.claims),
            has_ended=has_ended,
        )
        gpu_hours = round(self.gpu_hours, 4) or None
        return replace(start, budget=self.budget, gpu_hours=gpu_hours, stop_reason=self.stop_reason)

    def close(self, *, complete: bool) -> None:
        """End this start of the study.

        Args:
            complete: whether it did all that it was to do; a stop at its budget counts as that.

        Raises:
            TrackingError: if the store fails although the study is complete; otherwise the error that ended the study
                takes precedence, and this one is only printed.
        """
        context = self.context
        try:
            start = self._make_start(has_ended=True)
            labels = context.inventory.test_labels
            has_all_trials = complete and not self.stop_reason
            for damage in context.store.writer.close_study(self.run_id, start, labels, complete=has_all_trials):
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
    return replace(
        context.registration,
        registered=_start_time(context),
        num_planned=context.registration.num_trials,
        num_visible=_count_results(context, context.study.seeds),
    )


def _start_time(context: StudyContext) -> str:
    return datetime.fromtimestamp(context.started_at, UTC).isoformat(timespec="seconds")


def _count_results(context: StudyContext, seeds: Sequence[int]) -> int:
    """Trials of the arms under some seeds that have a result anywhere, under any name."""
    trials = make_trials(context.study.setups(), seeds)
    planned = {trial.fingerprint for trial in trials if trial.arm in context.registration.arms}
    visible = {ended.key.fingerprint for ended in context.store.reader.ended_trials(planned)}
    for fingerprint in planned - visible:
        if any(context.settings.trials_folder.glob(f"{fingerprint}-*/result.json")):
            visible.add(fingerprint)
    return len(visible)


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


def take_up_registration(context: StudyContext, run_id: str, *, amend: bool = False) -> StudyContext:
    """Take up a study's registration and its log, which begins here where there is none.

    Seeds that are new are an amendment: results under the others may have been seen.

    Args:
        amend: whether the registration becomes today's declaration in all else as well.
    """
    first = registration = read_first_registration(context, run_id)
    manifest = _read_manifest(context)
    logged = context.store.reader.read_registration_log(run_id)
    in_folder = manifest.registration_log if manifest else ()
    entries = continue_log(logged, in_folder)
    if in_folder != entries[: len(in_folder)]:
        context.log("the registrations in MLflow and in the runs folder do not match: the report says how")
    if manifest and len(entries) > len(logged):  # of another machine: they reached this runs folder alone
        registration = registration_in_force(manifest, entries)
    if not entries:
        entries = (_make_entry(context, registration, ()),)
        context.log(f"registered {entries[0].results_seen}; digest {entries[0].digest}")
    declared = _declare_again(context, registration, amend=amend)
    if declared != registration:
        amendment = _make_entry(context, declared, entries)
        context.log(describe_amendment(amendment, entries[-1]))
        entries, registration = (*entries, amendment), declared
    if registration != first:
        context.store.writer.log_registration(run_id, registration)
    context = replace(context, registration=registration, registration_log=entries)
    if entries != logged:
        context.store.writer.log_registration_log(run_id, entries)
    if entries != in_folder:
        _write_folder_log(context)
    return context


def _declare_again(context: StudyContext, registration: Registration, *, amend: bool) -> Registration:
    """The registration with the seeds of this start and, to amend it, with all else that is declared today."""
    seeds = registration.seeds
    if not registration.looks:  # registered analyses add their seeds by themselves
        seeds = (*seeds, *sorted({*context.registration.seeds} - {*seeds}))
    if not amend:
        return replace(registration, seeds=seeds)
    today = replace(
        context.registration,
        seeds=seeds,
        registered=registration.registered,
        num_planned=registration.num_planned,
        num_visible=registration.num_visible,
    )
    is_same = declaration_of(registration_to_json(today)) == declaration_of(registration_to_json(registration))
    return registration if is_same else today


def _make_entry(
    context: StudyContext, registration: Registration, before: Sequence[RegistrationEntry]
) -> RegistrationEntry:
    return RegistrationEntry(
        declaration=declaration_of(registration_to_json(registration)),
        time=_start_time(context),
        user=user_name(),
        host=platform.node(),
        num_planned=registration.num_trials,
        num_results=_count_results(context, registration.seeds),
        code=context.digests["code"],
        previous=before[-1].digest if before else "",
    )


def _read_manifest(context: StudyContext) -> StudyManifest | None:
    """The manifest in the study's folder; ``None`` where there is none, or a damaged one."""
    try:
        return read_manifest(context.study_folder)
    except DamagedFileError:
        return None


def _write_folder_log(context: StudyContext) -> None:
    """Write the registration with its log into the study's folder, before anything is trained."""
    folder, object_store = context.study_folder, context.object_store
    manifest = StudyManifest(
        registration=context.registration,
        conditions=context.conditions,
        tags=context.tags,
        labels=context.inventory.test_labels,
        entries=(),
        registration_log=context.registration_log,
    )
    with object_store.as_settings_errors() if object_store else nullcontext():
        manifest.write(folder, object_store.remote_study(folder) if object_store else None)


def describe_declared_changes(context: StudyContext, registration: Registration) -> tuple[str, ...]:
    """Say how today's declaration differs from a registration; seeds are added to it without asking."""
    declared = declaration_of(registration_to_json(replace(context.registration, seeds=registration.seeds)))
    return describe_changes(declaration_of(registration_to_json(registration)), declared)


def describe_setting_changes(context: StudyContext, registration: Registration) -> str:
    """Say what beside claims is declared otherwise today, such as another baseline; empty where nothing is."""
    as_registered = replace(context, registration=replace(context.registration, claims=registration.claims))
    changes = describe_declared_changes(as_registered, registration)
    if not changes:
        return ""
    return (
        f"{registration.study} is registered otherwise, and stays as it was registered; declared today: "
        f"{'; '.join(changes)} (`ablate register` with --amend takes that up)"
    )


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
