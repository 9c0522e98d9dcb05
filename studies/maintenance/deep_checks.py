"""Verify all that is stored (`ablate doctor --deep`): every checksum, and every result against its plan and its run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lightning_modules.specs.errors import DamagedFileError
from studies.maintenance.health_check import HealthCheck
from studies.maintenance.runs_index import RunsFolderIndex
from studies.maintenance.sync import load_planned_result
from studies.settings import Settings
from studies.storage.lease import verify_lease
from studies.storage.manifest import ManifestEntry, StudyManifest, find_lost_result
from studies.storage.search_journal import verify_journal
from studies.storage.status_files import read_progress
from studies.storage.trial_folder import TrialFolder
from studies.tracking.errors import report_store_outage
from studies.tracking.store import open_store
from studies.training.checkpoints import require_usable

CHECKPOINT_REMEDY = "`ablate run` drops it, and the trial starts over."
LOG_NAMES = ("attempts.jsonl", "faults.jsonl")


def check_stored_content(settings: Settings) -> Iterator[HealthCheck]:
    """Verify every trial's files, leases and journals of searches; one error per damaged file.

    Damaged manifests, results and status files are found by the check of the runs folder itself.
    """
    index = RunsFolderIndex.scan(settings)
    reported = {str(damage.file) for damage in index.damages}
    plans = _group_plans(index)
    num_damaged = 0
    for damage in _find_journal_damages(settings):
        num_damaged += 1
        yield _to_error(damage)
    for name in sorted(index.trials):
        folder = TrialFolder(index.trials[name].folder)
        for damage in (*_find_trial_damages(folder), *_find_plan_damages(settings, plans.get(name, ()))):
            # A file that several studies plan is checked under each plan, and is still one file to mend.
            if str(damage.file) not in reported:
                reported.add(str(damage.file))
                num_damaged += 1
                yield _to_error(damage)
    if not num_damaged:
        finding = f"the files of {len(index.trials)} trials agree with their checksums and plans"
        yield HealthCheck(area="stored content", level="ok", finding=finding)
    yield from _find_absent_weights(index)


def _find_absent_weights(index: RunsFolderIndex) -> Iterator[HealthCheck]:
    """Say how many trials are without weights: a result does not need them, and two commands leave them out."""
    has_weights = [trial for trial in index.trials.values() if trial.result and "weights.pt" in trial.result.checksums]
    num_absent = sum(not TrialFolder(trial.folder).weights.exists() for trial in has_weights)
    if num_absent:
        finding = (
            f"{num_absent} of {len(has_weights)} trials have no weights here, as after `ablate gc --weights` or an "
            "import without them: reports need none, but a warm start from such a trial trains it again"
        )
        yield HealthCheck(area="stored content", level="ok", finding=finding)


def _to_error(damage: DamagedFileError) -> HealthCheck:
    finding = f"{damage.file} cannot be used: {damage.reason}"
    return HealthCheck(area="stored content", level="error", finding=finding, advice=damage.remedy)


def _find_journal_damages(settings: Settings) -> Iterator[DamagedFileError]:
    for file in sorted((settings.runs_folder / "tuning").glob("*.log")):
        try:
            num_bytes = verify_journal(file)
        except DamagedFileError as error:
            yield error
            continue
        # A driver that was killed leaves half a line: no loss, but a reader of the file should know.
        if num_bytes == 0 or num_bytes < file.stat().st_size:
            reason = "its last line was cut off" if num_bytes else "it holds no line"
            yield DamagedFileError(file, reason, "The next start of the search drops it, and goes on from there.")


def check_stored_artifacts(settings: Settings) -> Iterator[HealthCheck]:
    """Verify the artifacts of all runs in the tracking store; one error per damaged file."""
    if settings.database_file and not settings.database_file.exists():
        return
    store = open_store(settings, create=False)
    num_damaged = 0
    with report_store_outage(settings.tracking_uri):
        for damage in store.inspector.find_artifact_damage():
            num_damaged += 1
            finding = f"{damage.file} cannot be used: {damage.reason}"
            yield HealthCheck(area="stored artifacts", level="error", finding=finding, advice=damage.remedy)
        num_runs = len(store.inspector.list_runs())
    if not num_damaged:
        finding = f"the artifacts of {num_runs} runs agree with their checksums and tags"
        yield HealthCheck(area="stored artifacts", level="ok", finding=finding)


def _find_trial_damages(folder: TrialFolder) -> Iterator[DamagedFileError]:
    for file in (folder.weights, folder.classifier):
        if file == folder.weights and not file.exists():  # counted below all damages
            continue
        try:
            folder.verify_file(file)
        except DamagedFileError as error:
            yield error
    # Logs are appended to and have no checksum: their lines are parsed one by one.
    for name in LOG_NAMES:
        yield from folder.find_log_damage(name)
    progress_file = folder.folder / "progress.json"
    lease_files = sorted(folder.folder.glob("lease-*.json"))
    checks: list[tuple[Callable[[Path], object], Path]] = [(verify_lease, file) for file in lease_files]
    if progress_file.exists():
        checks.append((read_progress, progress_file))
    for check, file in checks:
        try:
            check(file)
        except DamagedFileError as error:
            yield error
    yield from _find_missing(folder)
    yield from _find_checkpoint_damage(folder.checkpoint)


def _find_missing(folder: TrialFolder) -> Iterator[DamagedFileError]:
    """Files that are gone, by what else the folder holds; a trial that is being trained has no result yet."""
    lost_result = find_lost_result(folder)
    if lost_result:
        yield lost_result
    elif folder.num_attempts == 0 and folder.has_ended and not folder.find_log_damage("attempts.jsonl"):
        reason = "it names no attempt, though the trial has ended"
        yield DamagedFileError(folder.folder / "attempts.jsonl", reason, "Nothing is lost but the count of attempts.")


def _find_checkpoint_damage(checkpoint: Path) -> Iterator[DamagedFileError]:
    if not checkpoint.exists():
        return
    try:
        require_usable(checkpoint, checkpoint.parent.name)
    except Exception as error:  # whatever damaged content makes of its reader
        lines = str(error).strip().splitlines() or [type(error).__name__]
        yield DamagedFileError(checkpoint, lines[0], CHECKPOINT_REMEDY)


def _group_plans(index: RunsFolderIndex) -> dict[str, list[tuple[ManifestEntry, StudyManifest]]]:
    """Every plan of a trial, with its study, by the name of the trial's folder."""
    plans: dict[str, list[tuple[ManifestEntry, StudyManifest]]] = {}
    for manifest in index.manifests.values():
        for entry in manifest.entries:
            plans.setdefault(entry.folder, []).append((entry, manifest))
    return plans


def _find_plan_damages(
    settings: Settings, plans: Sequence[tuple[ManifestEntry, StudyManifest]]
) -> Iterator[DamagedFileError]:
    for entry, manifest in plans:
        try:
            load_planned_result(entry, settings, manifest.labels)
        except DamagedFileError as error:
            yield error
