"""Artifacts of runs as they are read back: bounded, typed, and verified by checksums and by each other.

A JSON artifact holds the checksum of itself, predictions have theirs in the result, and tables and labels have a tag of
their run. What earlier versions logged has no checksums, and is checked for its form only.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow.entities import Run

from lightning_modules.specs.errors import DamagedFileError, UserError
from lightning_modules.stored_files import (
    MAX_ARRAY_BYTES,
    MAX_JSON_BYTES,
    hash_bytes,
    parse_array,
    parse_json,
    require_shape,
)
from studies.latency.measurement import LATENCY_FILE, LatencyMeasurement, measurement_from_json
from studies.records.identity import TrialKey
from studies.records.registration import Registration
from studies.records.registration_log import RegistrationEntry, entry_from_json
from studies.records.result_files import parse_result, require_consistent
from studies.records.results import Result
from studies.records.serialization import (
    registration_from_json,
    results_from_table,
    seeds_from_text,
    start_from_json,
)
from studies.records.study_record import StudyStart
from studies.settings import redact_credentials
from studies.tracking.runs import CANCELLED_KIND, CHECKSUM_TAG, MlflowRuns, trial_key_of

Content = TypeVar("Content")
DamageListener = Callable[[DamagedFileError], None]
STARTS_TAG = "starts"  # of a study's run: names of the starts that have been logged, separated by commas
TAGS_CHECKSUM = f"{CHECKSUM_TAG}tags"
TRIAL_TAGS = (
    "arm", "seed", "recipe", "status", "fingerprint", "data", "code", "platform", "attempts", "faults", "reused_from",
    "revision", "working_tree",
)  # fmt: skip
TABLE_NAMES = ("results.parquet", "curves.parquet")
REGISTRATION_LOG = "registration_log.json"


@dataclass(frozen=True)
class ArtifactReader:
    """Reads the artifacts of the runs of one store.

    Every method raises :class:`DamagedFileError`, with the artifact's path and what to do, for an artifact that is
    missing or cannot be used. A store that does not answer raises MLflow's own errors.
    """

    runs: MlflowRuns

    def read_result(self, run: Run) -> Result:
        """The result of a trial, with its predictions; compared with the trial that the run says it records."""
        folder, remedy = self.runs.artifact_address(run), _result_remedy(run)
        content = self._read(folder, "result.json", MAX_JSON_BYTES, remedy)
        source = describe_path(folder, "result.json")
        result = parse_result(content, source, remedy)
        require_own_result(run, result, source)
        checksum = result.checksums.get("predictions.npy", "")
        if not checksum and "predictions.npy" not in self.runs.list_file_names(folder):
            return result
        content = self._read(folder, "predictions.npy", MAX_ARRAY_BYTES, remedy)
        predictions = parse_array(content, np.uint16, describe_path(folder, "predictions.npy"), remedy, checksum)
        result = replace(result, predictions=predictions)
        require_consistent(result, source, remedy)
        return result

    def read_registration(self, run: Run) -> Registration:
        """The registration of a study as first logged."""
        study = run.data.tags.get("study", "NAME")
        remedy = f"`ablate sync {study} --repair` logs it again from the runs folder; so does `ablate run {study}`."
        registration = self._read_json(run, "registration.json", remedy, registration_from_json)
        if registration.study != run.data.tags.get("study", registration.study):
            source = describe_path(self.runs.artifact_address(run), "registration.json")
            raise DamagedFileError(source, f"it is that of another study, {registration.study[:60]!r}", remedy)
        return registration

    def read_registration_log(self, run: Run) -> tuple[RegistrationEntry, ...]:
        """The registration of a study as declared, and its amendments; empty where an earlier version made it."""
        if REGISTRATION_LOG not in self.runs.list_files(str(run.info.run_id)):
            return ()
        remedy = f"`ablate sync {run.data.tags.get('study', 'NAME')} --repair` logs it again from the runs folder."
        return self._read_json(run, REGISTRATION_LOG, remedy, lambda data: tuple(map(entry_from_json, data["entries"])))

    def read_latency(self, run: Run) -> LatencyMeasurement | None:
        """The latency of a study's arms; ``None`` where it was not measured."""
        if LATENCY_FILE not in self.runs.list_files(str(run.info.run_id)):
            return None
        remedy = f"`ablate latency {run.data.tags.get('study', 'NAME')}` measures it again."
        return self._read_json(run, LATENCY_FILE, remedy, measurement_from_json)

    def read_start(self, run: Run, path: str) -> StudyStart:
        """One start of a study."""
        remedy = (
            f"Delete the file, and take it out of the run's tag {STARTS_TAG}: the report then lacks this start, and "
            "nothing else."
        )
        start = self._read_json(run, path, remedy, start_from_json)
        if Path(path).stem != start.time.replace(":", ""):
            source = describe_path(self.runs.artifact_address(run), path)
            raise DamagedFileError(source, f"it is another start, of {start.time[:40]!r}", remedy)
        return start

    def list_starts(self, run: Run) -> list[str]:
        """Paths of the starts of a study, the earliest first: their names are their times."""
        run_id = str(run.info.run_id)
        return sorted(self.runs.list_files(run_id, "starts")) if "starts" in self.runs.list_files(run_id) else []

    def require_all_starts(self, run: Run) -> None:
        """Refuse a study that lacks a start which was logged."""
        found = {Path(path).stem for path in self.list_starts(run)}
        logged = [name for name in run.data.tags.get(STARTS_TAG, "").split(",") if name]
        for name in logged:
            if name not in found:
                source = describe_path(self.runs.artifact_address(run), f"starts/{name}.json")
                remedy = f"The report lacks this start, and nothing else; take it out of the run's tag {STARTS_TAG}."
                raise DamagedFileError(source, "it is missing", remedy)

    def read_labels(self, run: Run) -> npt.NDArray[np.uint16]:
        """True class of every test example."""
        content = self._read_tagged(run, "test_labels.npy")
        source = describe_path(self.runs.artifact_address(run), "test_labels.npy")
        labels: npt.NDArray[np.uint16] = parse_array(content, np.uint16, source, _sync_remedy(run))
        return labels

    def read_packed_results(self, run: Run, on_damage: DamageListener) -> dict[str, Result]:
        """The results in a study's table, by run; a row that cannot be used is reported and left out."""
        content = self._read_tagged(run, "results.parquet")
        source = describe_path(self.runs.artifact_address(run), "results.parquet")
        is_verified = f"{CHECKSUM_TAG}results.parquet" in run.data.tags
        with report_whatever_fails(source, _sync_remedy(run)):
            return results_from_table(pd.read_parquet(io.BytesIO(content)), source, on_damage, is_verified=is_verified)

    def find_damage(self, run: Run) -> Iterator[DamagedFileError]:
        """All artifacts of a run that cannot be used: those of a study, or those of a trial that has ended."""
        kind = run.data.tags.get("kind")
        if kind == "study":
            yield from self._find_study_damage(run)
        elif kind == CANCELLED_KIND:
            yield from _damage_of(lambda: require_trial_tags(run, self.runs.settings.redacted_tracking_uri))
        elif kind in ("fit", "candidate") and run.data.tags.get("status", "running") != "running":
            yield from _damage_of(lambda: require_trial_tags(run, self.runs.settings.redacted_tracking_uri))
            yield from _damage_of(lambda: self.read_result(run))
            yield from _damage_of(lambda: self._read_json(run, "setup.json", _result_remedy(run), dict))

    def _find_study_damage(self, run: Run) -> Iterator[DamagedFileError]:
        run_id = str(run.info.run_id)
        yield from _damage_of(lambda: self.read_registration(run))
        yield from _damage_of(lambda: self.read_registration_log(run))
        yield from _damage_of(lambda: self.read_latency(run))
        files = self.runs.list_files(run_id)
        yield from _damage_of(lambda: self.require_all_starts(run))
        for path in self.list_starts(run):
            yield from _damage_of(lambda path=path: self.read_start(run, path))  # type: ignore[misc]
        for path in ("test_labels.npy", *TABLE_NAMES):
            if path in files or f"{CHECKSUM_TAG}{path}" in run.data.tags:
                yield from _damage_of(lambda path=path: self._read_tagged(run, path))  # type: ignore[misc]

    def _read_json(self, run: Run, path: str, remedy: str, convert: Callable[[dict[str, Any]], Content]) -> Content:
        folder = self.runs.artifact_address(run)
        content = self._read_tagged(run, path, remedy)
        source = describe_path(folder, path)
        with report_whatever_fails(source, remedy):
            return convert(parse_json(content, {"*": object}, source, remedy))

    def _read_tagged(self, run: Run, path: str, remedy: str = "") -> bytes:
        """Content of an artifact whose checksum is a tag of its run, where it was logged with one."""
        folder, remedy = self.runs.artifact_address(run), remedy or _sync_remedy(run)
        content = self._read(folder, path, MAX_ARRAY_BYTES, remedy)
        checksum = run.data.tags.get(f"{CHECKSUM_TAG}{path}")
        if checksum and hash_bytes(content) != checksum:
            source = describe_path(folder, path)
            raise DamagedFileError(source, "its checksum is not that in the tags of its run", remedy)
        return content

    def _read(self, folder: str, path: str, max_bytes: int, remedy: str) -> bytes:
        return self.runs.read_artifact(folder, path, max_bytes, describe_path(folder, path), remedy)


def require_own_result(run: Run, result: Result, source: object) -> None:
    """Refuse a result that is not that of the trial which a run's tags name.

    Raises:
        DamagedFileError: with the difference.
    """
    remedy = _result_remedy(run)
    with report_whatever_fails(source, remedy):
        found, expected = TrialKey.from_digests(result.fingerprint, result.digests), trial_key_of(run)
    if found != expected:
        raise DamagedFileError(source, f"it is the result of {found.fingerprint}, and not that of its run", remedy)


def require_trial_tags(run: Run, store: str) -> None:
    """Refuse the run of a trial whose tags were removed or edited.

    Args:
        store: address of the tracking store, for the error.

    Raises:
        DamagedFileError: with the tag, and what to do.
    """
    tags = run.data.tags
    reason = ""
    for name in ("arm", "seed", "status", "fingerprint", "data", "code", "platform"):
        if name not in tags:
            reason = f"it lacks the tag {name}"
    for name in ("seed", "attempts"):
        if not tags.get(name, "1").lstrip("-").isdecimal():
            reason = f"its tag {name} is {tags[name][:40]!r}; expected an integer"
    if tags.get(TAGS_CHECKSUM, hash_tags(tags)) != hash_tags(tags):
        reason = "the checksum of its tags does not match them: one was edited"
    try:
        require_shape(json.loads(tags.get("faults", "[]")), [str])
    except ValueError as error:
        reason = f"its tag faults is no list of lines ({error})"
    if reason:
        study, name = tags.get("study", "NAME"), f"run {run.info.run_id} ({run.info.run_name}) in {store}"
        remedy = f"Set it again, or delete the run, in `ablate ui`; `ablate run {study}` then logs the trial anew."
        raise DamagedFileError(name, reason, remedy)


def hash_tags(tags: Mapping[str, str]) -> str:
    """Checksum of those tags of a trial's run that are read back."""
    return hash_bytes(json.dumps([tags.get(name) for name in TRIAL_TAGS]).encode())


def has_trial_tags(run: Run) -> bool:
    """Whether the tags of a trial's run can be read; others do not count as a record of their trial."""
    return not list(_damage_of(lambda: require_trial_tags(run, "")))


def planned_seeds(
    run: Run, registration: Registration, starts: Iterable[StudyStart], on_damage: DamageListener
) -> tuple[int, ...]:
    """The seeds of a study: those first registered, those of its starts, and those in the tag of its run."""
    text = run.data.tags.get("seeds", "")
    seeds = {*registration.seeds, *seeds_from_text(text)}
    for start in starts:
        seeds.update(start.seeds)
    if not re.fullmatch(r"\[?[\d,\s-]*(\]|$)", text):
        reason = f"its tag seeds is {text[:40]!r}; expected a list of integers"
        remedy = "Set it in `ablate ui`, to [0, 1] for instance; until then the seeds of the study's starts are read."
        on_damage(DamagedFileError(f"run {run.info.run_id}", reason, remedy))
    return tuple(sorted(seeds))


def describe_path(folder: str, path: str) -> str:
    """Path of a local artifact, or the address of a remote one without credentials."""
    parts = urlsplit(folder)
    if parts.scheme in ("", "file"):
        return str(Path(unquote(parts.path)) / path)
    return redact_credentials(f"{folder.rstrip('/')}/{path}")


@contextmanager
def report_whatever_fails(source: object, remedy: str) -> Iterator[None]:
    """Translate whatever content of the right form and wrong values makes of its reader.

    Raises:
        DamagedFileError: with the reason.
    """
    try:
        yield
    except (UserError, DamagedFileError):
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        raise DamagedFileError(source, f"{type(error).__name__}: {lines[0][:200]}", remedy) from error


def _damage_of(read: Callable[[], object]) -> Iterator[DamagedFileError]:
    try:
        read()
    except DamagedFileError as error:
        yield error
    except UserError as error:  # of another version
        yield DamagedFileError(getattr(error, "file", "an artifact"), str(error), "Read it with that version.")


def _result_remedy(run: Run) -> str:
    study = run.data.tags.get("study", "NAME")
    return (
        f"`ablate sync {study} --repair` logs it again from the trial's folder. Where that is gone as well, delete the "
        f"run {run.info.run_id} in `ablate ui`, and `ablate run {study}` trains it again."
    )


def _sync_remedy(run: Run) -> str:
    return f"`ablate sync {run.data.tags.get('study', 'NAME')} --repair` writes it anew."
