"""Complete the trials of a stage: reuse, log or train each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import replace
from functools import partial

from lightning_modules.specs.errors import DamagedFileError
from studies.console.progress import StudyProgress
from studies.design.study import sort_longest_first
from studies.design.trial import Trial
from studies.execution.cluster import prestart
from studies.execution.jobs import TrialJob
from studies.execution.resources import cluster_share_of
from studies.records.identity import EndedTrial
from studies.runner.limits.gate import BudgetGate
from studies.runner.recorder import RunRecorder
from studies.runner.reuse_plan import (
    ReusePolicy,
    StudyPlan,
    describe_plan,
    merge_plans,
    plan_trials,
    retrain_missing_weights,
)
from studies.runner.study_run import StudyRun
from studies.storage import study_status
from studies.storage.manifest import ManifestEntry, StudyManifest, read_manifest
from studies.storage.object_store import ObjectStoreError
from studies.tracking.background import BackgroundWriter
from studies.tracking.reader import RunKind


class StageRunner:
    """Runs the stages of a study one after the other; Ray is started when a stage first trains.

    Args:
        exit_stack: ends Ray when the study ends.
        gate: admits trials as long as the budget lasts.
    """

    def __init__(
        self, study_run: StudyRun, exit_stack: ExitStack, reuse: ReusePolicy, gate: BudgetGate, *, quiet: bool
    ) -> None:
        self.study_run, self.exit_stack, self.reuse, self.quiet = study_run, exit_stack, reuse, quiet
        self.gate = gate
        self.context, self.trial_store = study_run.context, study_run.trial_store
        self.trained: set[Trial] = set()  # by this start, where nothing is reused
        self.has_started_ray = False
        self.has_published_plan = False

    def complete_trials(self, trials: Sequence[Trial], heading: str = "") -> None:
        """Bring every trial to an end, and log it.

        Raises:
            BudgetExhausted: where trials are left that do not fit into the budget.
        """
        plan = self.plan_trials(trials)
        description = describe_plan(plan)
        self.context.log(f"{heading}: {description}" if heading else description)
        self._publish_plan(plan)
        unlogged, to_train = list(plan.unlogged), list(plan.to_train)
        ended = list(plan.recorded)
        for trial, original in plan.reusable:
            try:
                self.study_run.log_reused_trial(trial, original)
                ended.append(trial)
            except DamagedFileError as error:
                self.context.log(f"{trial.arm}, seed {trial.seed}: not taken over: {error}")
                (unlogged if self.trial_store.has_result(trial) else to_train).append(trial)
        self._list_unplanned(ended)
        planned_tags = self._planned_tags() if unlogged else {}
        for trial in unlogged:
            # Trained by an earlier start, whose revision it keeps.
            tags = planned_tags.get(self.trial_store.folder(trial).folder.name, {})
            run_id = self.study_run.start_trial(trial, tags)
            self.study_run.log_result(run_id, trial, self.trial_store.read_result(trial), with_curves=True)
        cancelled = self._record_cancelled(to_train)
        to_train = [trial for trial in to_train if trial not in cancelled]
        if to_train:
            self._measure_ended_trials(plan)
        while to_train:
            self.train_trials(to_train)
            if self.reuse == "none":
                self.trained.update(filter(self.trial_store.has_result, to_train))
            # A cancellation may be taken back meanwhile, of a trial that was not among the jobs.
            still_cancelled = self.study_run.cancel_reasons(cancelled)
            to_train = [trial for trial in cancelled if trial not in still_cancelled]
            cancelled = [*still_cancelled]

    def _record_cancelled(self, trials: Sequence[Trial]) -> list[Trial]:
        """Record the trials of these that the user has cancelled; returns them."""
        reasons = self.study_run.cancel_reasons(trials)
        for trial, reason in reasons.items():
            self.study_run.log_cancelled_trial(trial, reason)
            self.context.log(f"{trial.arm}, seed {trial.seed}: {reason}")
        return [*reasons]

    def _measure_ended_trials(self, plan: StudyPlan) -> None:
        """Tell the gate how long trials of earlier starts took: by their time it forecasts those that are left."""
        if not self.gate.budget.is_limited:
            return
        for trial in (*plan.recorded, *plan.unlogged, *(trial for trial, _ in plan.reusable)):
            with suppress(DamagedFileError):
                result = self.trial_store.load_result(trial)
                if result is not None:
                    self.gate.durations.record_result(trial, result)

    def _planned_tags(self) -> dict[str, Mapping[str, str]]:
        """Tags of every trial of the study by its folder, as the start that planned it wrote them."""
        folder = self.context.study_folder
        if not (folder / "study.json").exists():
            return {}
        return {entry.folder: entry.tags for entry in read_manifest(folder).entries}

    def _list_unplanned(self, ended: Sequence[Trial]) -> None:
        """List ended trials in the manifest whose last entry is another one, or that have none.

        Another study has trained them, or this one by code that it has returned to since. By the manifest alone,
        `ablate export`, `gc`, `latency` and `sync` know which networks and results a study has.
        """
        listed: set[str] = set()
        planned_tags: dict[str, Mapping[str, str]] = {}
        folder = self.context.study_folder
        if (folder / "study.json").exists():
            try:
                manifest = read_manifest(folder)
            except DamagedFileError:
                return  # kept as it is, for whoever wants to mend it
            listed = {*manifest.candidate_folders, *(entry.folder for entry in manifest.latest_entries)}
            planned_tags = {entry.folder: entry.tags for entry in manifest.entries}
        unplanned: list[Trial] = []
        for trial in ended:
            is_listed = self.trial_store.folder(trial).folder.name in listed
            if not is_listed and self.trial_store.has_result(trial):
                unplanned.append(trial)
        if not unplanned:
            return
        listing = self.make_manifest(unplanned, {})  # the revision that trained them is not this one
        entries = [replace(entry, tags=planned_tags.get(entry.folder, entry.tags)) for entry in listing.entries]
        self._write_manifest(replace(listing, entries=tuple(entries)))

    # -- planning ------------------------------------------------------------------------------------------------

    def plan_trials(self, trials: Sequence[Trial]) -> StudyPlan:
        """Sort trials by what is left to do."""
        self.trial_store.reconcile_trials(trials)
        # A trial counts as recorded only below its own parent run: the study's, or that of an arm's search.
        trials_by_parent: dict[str, list[Trial]] = {}
        for trial in trials:
            trials_by_parent.setdefault(self.study_run.placement_of(trial).parent_run_id, []).append(trial)
        plans = [self._plan_siblings(siblings, parent) for parent, siblings in trials_by_parent.items()]
        return retrain_missing_weights(merge_plans(plans), self.trial_store.has_weights)

    def _plan_siblings(self, trials: Sequence[Trial], parent_run_id: str) -> StudyPlan:
        """Plan the trials of one parent run; the whole store is searched only for those not recorded below it."""
        reader = self.context.store.reader
        kind: RunKind = "candidate" if any(trial.is_candidate for trial in trials) else "fit"
        own = reader.ended_trials_below(parent_run_id, kind)
        recorded = {trial.fingerprint for trial in self._plan_with(own, trials, parent_run_id).recorded}
        others = {trial.fingerprint for trial in trials} - recorded
        ended = [trial for trial in own if trial.key.fingerprint in recorded]
        ended += reader.ended_trials(others)
        if kind == "candidate":
            ended += reader.ended_trials(others, "candidate")
        ended += [trial for trial in own if trial.status == "failed" and trial.key.fingerprint in others]
        return self._plan_with(ended, trials, parent_run_id)

    def _plan_with(self, ended: Sequence[EndedTrial], trials: Sequence[Trial], parent_run_id: str) -> StudyPlan:
        """Plan by ended trials; what this start has trained is not trained again by its later stages."""
        make_plan = partial(
            plan_trials,
            key_of=self.trial_store.key,
            ended_trials=ended,
            has_stored_result=self.trial_store.has_result,
            parent_run_id=parent_run_id,
        )
        trained = [trial for trial in trials if trial in self.trained]
        others = [trial for trial in trials if trial not in self.trained]
        return merge_plans([make_plan(trained), make_plan(others, reuse=self.reuse)])

    def _publish_plan(self, plan: StudyPlan) -> None:
        """Write the plan to the study's status file, which `ablate status` reads."""
        planned: list[tuple[Trial, str]] = []
        planned += [(trial, "ended") for trial in (*plan.recorded, *plan.unlogged)]
        planned += [(trial, "reused") for trial, _ in plan.reusable]
        planned += [(trial, "train") for trial in plan.to_train]
        study, folder = self.context.study, self.context.study_folder
        study_status.update_status(
            folder,
            study.name,
            study.protocol.name,
            [(self._trial_status(trial), action) for trial, action in planned],
            self.context.settings.trials_folder,
            is_new_start=not self.has_published_plan,
        )
        self.has_published_plan = True
        if self.context.object_store:
            with suppress(ObjectStoreError):  # the status informs other machines; no result depends on it
                self.context.object_store.remote_study(folder).upload(folder / "board.json")

    def _trial_status(self, trial: Trial) -> study_status.TrialStatus:
        placement = self.study_run.placement_of(trial)
        return study_status.TrialStatus(
            arm=placement.label,
            group=placement.group,
            seed=trial.seed,
            epochs=trial.epochs,
            folder=self.trial_store.folder(trial).folder.name,
            part="validation" if trial.is_candidate else "test",
        )

    # -- training ------------------------------------------------------------------------------------------------

    def _ensure_ray(self) -> None:
        prestart.wait_for_ray()
        if not self.has_started_ray:
            from studies.execution.cluster.ray_cluster import ray_session  # a study that has ended never loads Ray

            self.exit_stack.enter_context(ray_session(self.context.resources, self.context.study.import_paths))
            self.has_started_ray = True

    def train_trials(self, trials: Sequence[Trial]) -> None:
        """Train trials on Ray's workers, and log them as they run."""
        from studies.execution.cluster.tune_executor import dispatch_jobs
        from studies.execution.processes.bundle_size import find_bundle_size

        context = self.context
        study_folder, trials_folder = context.study_folder, context.settings.trials_folder
        # Written before training: with it `ablate sync` can log the trials even if this process is killed.
        self._write_manifest(self.make_manifest(trials, context.revision_tags))
        costs = {arm: values["multiply_adds"] for arm, values in context.registration.properties.items()}
        # Longest first: a long trial that started last would keep one worker busy after all others.
        jobs = [self._make_job(trial) for trial in sort_longest_first(trials, costs)]
        self.gate.require_first_admitted(
            jobs, lambda job: cluster_share_of(context.resources.request_of(job.trial.arm), context.nodes)
        )
        self._ensure_ray()
        bundle_size = find_bundle_size(
            jobs, context.resources, context.nodes, context.settings.cache_folder, context.log
        )
        rows = study_status.read_status(study_folder, trials_folder).trials
        with StudyProgress(rows, len(jobs), quiet=self.quiet) as progress:
            with BackgroundWriter() as writer:
                recorder = RunRecorder(self.study_run, self.trial_store, progress, writer)
                try:
                    dispatch_jobs(jobs, context.settings, context.resources, recorder, bundle_size, self.gate)
                finally:
                    self.trial_store.release_ended_trials(jobs)
            recorder.log_missed_ends()
        self.gate.require_all_admitted(jobs)

    def _make_job(self, trial: Trial) -> TrialJob:
        dependency_folders = tuple(self.trial_store.folder(source).folder for source in trial.dependencies)
        return TrialJob(
            trial=trial,
            folder=self.trial_store.folder(trial).folder,
            digests=self.trial_store.digests(trial),
            dependency_folders=dependency_folders,
            import_paths=self.context.study.import_paths,
            device_models=self.context.device_models,
            retrain=self.reuse == "none",
        )

    def _write_manifest(self, manifest: StudyManifest) -> None:
        """Write a manifest to the study's folder, and to the object store.

        Raises:
            SettingsError: if the object store does not take it.
        """
        folder, object_store = self.context.study_folder, self.context.object_store
        remote_folder = object_store.remote_study(folder) if object_store else None
        with object_store.as_settings_errors() if object_store else nullcontext():
            manifest.write(folder, remote_folder)

    def make_manifest(self, trials: Sequence[Trial], revision_tags: Mapping[str, str]) -> StudyManifest:
        """Everything needed to log some trials without the study's code and data.

        Trials of searches are listed by folder only: what a search logs depends on its outcome.
        """
        entries: list[ManifestEntry] = []
        candidate_folders: list[str] = []
        for trial in trials:
            placement = self.study_run.placement_of(trial)
            folder = self.trial_store.folder(trial).folder.name
            if placement.parent_run_id != self.study_run.run_id:
                candidate_folders.append(folder)
                continue
            digests = self.trial_store.digests(trial)
            tags = {**placement.tags, **revision_tags}
            entries.append(ManifestEntry(trial=trial, digests=digests, tags=tags, folder=folder))
        return StudyManifest(
            registration=self.context.registration,
            conditions=self.context.conditions,
            tags=self.context.tags,
            labels=self.context.inventory.test_labels,
            entries=tuple(entries),
            candidate_folders=tuple(candidate_folders),
            registration_log=self.context.registration_log,
        )
