"""Identity, folder, result and faults of each trial of a study."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace

from torch import nn

from lightning_modules.networks.build import build_network
from lightning_modules.specs.errors import DamagedFileError
from studies.design.trial import Trial
from studies.execution.jobs import TrialJob
from studies.records.digests import collect_class_paths
from studies.records.identity import TrialKey
from studies.records.results import Result, failed_result
from studies.runner.context import StudyContext
from studies.storage.lease import acquire_lease, remove_expired_lease
from studies.storage.manifest import require_planned_result
from studies.storage.object_store import RESULT_FILES, ObjectStoreError
from studies.storage.trial_folder import TrialFolder


@dataclass(frozen=True)
class TrialStore:
    """The trials of a study as they are stored, in the runs folder and in the object store."""

    context: StudyContext

    def digests(self, trial: Trial) -> dict[str, str]:
        """Digests of what decides a trial's result beside setup and seed.

        ``data`` and ``code`` are the study's; ``platform`` is that of the trial's arm; ``user_code`` covers only what
        this trial uses, so that an edit leaves the results of all other arms valid.
        """
        digests = {**self.context.digests, "platform": self.context.platform_digest_of(trial.arm)}
        user_code = self.context.user_code_digests[collect_class_paths([trial.setup])]
        if user_code:
            digests["user_code"] = user_code
        return digests

    def key(self, trial: Trial) -> TrialKey:
        """Key by which an ended trial is reused."""
        return TrialKey.from_digests(trial.fingerprint, self.digests(trial))

    def folder(self, trial: Trial) -> TrialFolder:
        """Folder of a trial, with its remote copy where there is an object store."""
        # Six of sixteen hex digits keep the name readable; the full digests are in the result.
        suffix = "-".join(digest[:6] for digest in self.digests(trial).values())
        folder = self.context.settings.trials_folder / f"{trial.fingerprint}-{suffix}"
        object_store = self.context.object_store
        return TrialFolder(folder, remote_copy=object_store.remote_trial(folder) if object_store else None)

    def has_result(self, trial: Trial) -> bool:
        """Whether a trial's folder holds a result that counts: a failed trial is tried again, a candidate is not.

        A damaged one is logged, and does not count.
        """
        try:
            result = self.load_result(trial)
        except DamagedFileError as error:
            self.context.log(f"{trial.arm}, seed {trial.seed}: {error}")
            return False
        return result is not None and (result.status != "failed" or trial.is_candidate)

    def load_result(self, trial: Trial) -> Result | None:
        """Result in a trial's folder, compared with its plan; ``None`` where there is none.

        Raises:
            DamagedFileError: where it cannot be used.
        """
        folder = self.folder(trial)
        result = folder.load_result()
        if result is not None:
            require_planned_result(trial, self.digests(trial), self.context.inventory.test_labels, result, folder)
        return result

    def has_weights(self, trial: Trial) -> bool:
        """Whether a trial's final weights exist undamaged, here or in the object store.

        Damaged ones are logged, and do not count.
        """
        folder = self.folder(trial)
        weights = folder.weights
        try:
            folder.verify_file(weights)
        except DamagedFileError as error:
            if weights.exists():
                self.context.log(f"{trial.arm}, seed {trial.seed}: {error}")
        object_store = self.context.object_store
        if weights.exists() or not object_store:
            return folder.has_sound_weights() or (weights.exists() and not folder.result_file.exists())
        with object_store.as_settings_errors():
            return object_store.remote_trial(weights.parent).has_file(weights.name)

    def read_result(self, trial: Trial) -> Result:
        """Result in the folder of an ended trial; a failed one if it cannot be read."""
        try:
            result = self.load_result(trial)
        except DamagedFileError as error:
            return failed_result(trial.fingerprint, self.digests(trial), str(error))
        if result is not None:
            return result
        reason = f"{self.folder(trial).folder} holds no result"
        return failed_result(trial.fingerprint, self.digests(trial), reason)

    def load_network(self, trial: Trial) -> nn.Module:
        """The network of an ended trial with its final weights, on the CPU.

        Raises:
            OSError: without weights, here or in the object store.
            DamagedFileError: where they are damaged.
            RuntimeError: where they are those of another network.
        """
        from studies.training.weights import load_final_weights  # loads what trains, which planning does not need

        folder, object_store = self.folder(trial), self.context.object_store
        if object_store and not folder.weights.exists():
            with suppress(ObjectStoreError):
                object_store.remote_trial(folder.folder).fetch(folder.weights.name)
        network = build_network(trial.setup.network, trial.setup.scale)
        network.load_state_dict(load_final_weights(trial, folder.folder))
        return network

    def reconcile_trials(self, trials: Iterable[Trial]) -> None:
        """Sync the folders of some trials with the object store, both ways."""
        object_store = self.context.object_store
        if object_store:
            with object_store.as_settings_errors():
                object_store.fetch_trials((self.folder(trial).folder for trial in trials), may_upload=True)

    def fetch_result(self, trial: Trial) -> None:
        """Fetch the result of a trial that another node of the cluster may have trained."""
        object_store = self.context.object_store
        if object_store and self.context.resources.address:
            with suppress(ObjectStoreError):  # then the next start logs it
                object_store.remote_trial(self.folder(trial).folder).fetch(*RESULT_FILES)

    def record_fault(self, trial: Trial, reason: str) -> None:
        """Write into a trial's folder why an attempt failed."""
        self.fetch_result(trial)  # the line is appended to those of other nodes
        self.folder(trial).record_fault(reason)

    def release_ended_trials(self, jobs: Iterable[TrialJob]) -> None:
        """Remove the leases that processes of ended trials left, such as one that was killed after its last write.

        That of a trial without a result stays: by it, `ablate doctor` counts the trial as interrupted.
        """
        for job in jobs:
            if (job.folder / "result.json").exists():
                remove_expired_lease(job.folder)

    def fail_trial(self, job: TrialJob, reason: str) -> Result:
        """Write the failed result of a trial that used up its attempts; returns what its folder holds then.

        A result of another process takes precedence.
        """
        failed = failed_result(job.trial.fingerprint, job.digests, reason)
        self.fetch_result(job.trial)
        try:
            lease = acquire_lease(job.folder)
            if lease is None:  # another process trains it
                return failed
            folder = replace(self.folder(job.trial), guard=lease.check)
            if not folder.has_ended:
                folder.write_result(failed)
            lease.release()
            return folder.read_result() or failed
        except OSError as error:
            self.context.log(f"cannot write a result to {job.folder} ({error.strerror})")
            return failed
