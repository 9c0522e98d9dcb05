"""MLflow client of a tracking store: paged searches, batched logging and artifact files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import mlflow
from mlflow.entities import Experiment, LoggedModel, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from lightning_modules.specs.errors import DamagedFileError
from lightning_modules.stored_files import dump_json, hash_bytes, read_bounded
from studies.gc_pause import pause_gc
from studies.records.identity import TrialKey
from studies.records.results import RECORD_SCHEMA
from studies.scratch import temporary_folder
from studies.settings import Settings, sqlite_uri
from studies.tracking.artifact_addresses import locate_artifacts, lock_database, relocate_artifacts
from studies.tracking.errors import NotRecordedError, TrackingError, report_unreachable_store, require_readable_database
from studies.tracking.ownership import RunsOwner, find_runs_owner

# Limits of MLflow's REST interface per request, see `MlflowClient.log_batch`.
MAX_BATCH_SIZES = {"metrics": 1000, "params": 100}
# Characters. MLflow cuts longer values without a word, and PostgreSQL refuses longer names.
MAX_TAG_LENGTH = 8000
MAX_PARAM_LENGTH = 6000
MAX_EXPERIMENT_TAG_LENGTH = 5000
MAX_RUN_NAME_LENGTH = 250
PAGE_SIZE = 1000  # runs or experiments per search request
MAX_SINGLE_SEARCHES = (
    100  # for trials by their fingerprints; for more of them, the store's trials are read page by page
)
PARENT_RUN_TAG = "mlflow.parentRunId"  # MLflow's own: its interface nests runs by it
CANCELLED_KIND = "cancelled"  # of the run of a trial that the user cancelled, which holds no result
CHECKSUM_TAG = "checksum."  # followed by the path of an artifact that does not hold its own checksum
STUDY_RUN_TAG = "study_run"  # on searches and candidates: the study's run, which is not a candidate's direct parent
OVERRIDES_TAG = "overrides"  # on a study's run: its ``--set`` changes
NO_OVERRIDES = "none"
DEFAULT_EXPERIMENT = "Default"
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # opens as training, not as a chat bot


@dataclass(frozen=True)
class MlflowRuns:
    """Runs and experiments of one tracking store, through MLflow's client.

    Attributes:
        owner: whose runs are read and written.
        addresses: of the artifacts of runs that have been looked up, by run. MLflow's client remembers them for all
            stores of a process alike, and would confuse a folder with its copy.
    """

    client: mlflow.MlflowClient
    settings: Settings
    owner: RunsOwner
    addresses: dict[str, str] = field(default_factory=dict, repr=False)

    # -- experiments and searches --------------------------------------------------------------------------------

    def ensure_experiment(self, name: str) -> str:
        """Id of the experiment of that study, which is created or restored as needed.

        One that was renamed is found by its studies' runs.
        """
        experiment: Experiment | None = self.client.get_experiment_by_name(name)
        if experiment is None:
            study_runs = self.find_study_runs(name)
            if study_runs:
                return str(study_runs[-1].info.experiment_id)
            # A server chooses where artifacts lie; a local database would put them into the working directory.
            location = None
            if self.settings.tracking_uri.startswith("sqlite"):
                location = f"{self.settings.artifacts_folder.as_uri()}/{quote(name)}"
            try:
                created = self.client.create_experiment(name, artifact_location=location, tags=EXPERIMENT_TAGS)
                self._hide_empty_default()
                return str(created)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                return self.ensure_experiment(name)  # another process was first
        if experiment.lifecycle_stage == "deleted":
            try:
                self.client.restore_experiment(experiment.experiment_id)
            except MlflowException:
                if self.client.get_experiment(experiment.experiment_id).lifecycle_stage == "deleted":
                    raise  # else another process was first
        return str(experiment.experiment_id)

    def _hide_empty_default(self) -> None:
        """Delete the experiment ``Default`` of the runs folder's own database where nothing is logged to it.

        MLflow makes it with every database, would make it again if it were not there at all, and can restore it.
        """
        if not self.settings.has_own_database:
            return
        default = self.client.get_experiment_by_name(DEFAULT_EXPERIMENT)
        if default is None or default.lifecycle_stage != "active":
            return
        if self.client.search_runs([default.experiment_id], run_view_type=ViewType.ALL, max_results=1):
            return
        with suppress(MlflowException):  # another process was first
            self.client.delete_experiment(default.experiment_id)

    def tag_experiment(self, experiment_id: str, tags: Mapping[str, str]) -> None:
        """Set those tags of an experiment that it does not have: a user may have changed them."""
        present = self.client.get_experiment(experiment_id).tags
        for name, value in tags.items():
            if name not in present:
                self.client.set_experiment_tag(experiment_id, name, value[:MAX_EXPERIMENT_TAG_LENGTH])

    def experiment_of(self, run_id: str) -> str:
        """Id of the experiment that a run belongs to."""
        return str(self.client.get_run(run_id).info.experiment_id)

    def all_experiments(self) -> list[str]:
        """Ids of all experiments in the store."""
        return [experiment.experiment_id for experiment in _iterate_pages(self.client.search_experiments)]

    def search(
        self,
        experiment_ids: Sequence[str],
        tags: Mapping[str, str] | None = None,
        order: str = "attributes.start_time ASC",
    ) -> list[Run]:
        """All runs of some experiments that carry the given tags."""
        return list(self.iterate_runs(experiment_ids, tags, order))

    def iterate_runs(
        self,
        experiment_ids: Sequence[str],
        tags: Mapping[str, str] | None = None,
        order: str = "attributes.start_time ASC",
    ) -> Iterator[Run]:
        """The runs of :meth:`search`, of which only a page at a time is in memory: a run takes 0.1 MB."""
        if not experiment_ids:  # MLflow refuses a search over no experiment
            return
        condition = " AND ".join(f"tags.`{name}` = '{value}'" for name, value in (tags or {}).items())
        yield from _iterate_pages(
            self.client.search_runs, list(experiment_ids), filter_string=condition, order_by=[order]
        )

    def iterate_trial_runs(self, kind: str, fingerprints: Collection[str]) -> Iterator[Run]:
        """Runs of trials with some fingerprints, in any experiment; for each fingerprint the oldest first.

        MLflow has no search for several values of a tag. A search for one takes as long as reading 20 runs, however
        large the store is.
        """
        experiments = self.all_experiments() if fingerprints else []
        if len(fingerprints) <= MAX_SINGLE_SEARCHES:
            for fingerprint in fingerprints:
                yield from self.iterate_runs(experiments, {"kind": kind, "fingerprint": fingerprint})
            return
        for run in self.iterate_runs(experiments, {"kind": kind}):
            if run.data.tags.get("fingerprint") in fingerprints:
                yield run

    def find_study_runs(self, study: str, **tags: str) -> list[Run]:
        """Runs of a study that carry the given tags, in all experiments, the oldest first.

        By tags, since an experiment may have been renamed; in an order on which all readers agree.
        """
        runs = self.search(self.all_experiments(), {"kind": "study", "study": study, **tags})
        return sorted(runs, key=creation_order)

    def find_own_run(self, study: str, conditions: str) -> Run | None:
        """This runs folder's run of a study under its conditions; the oldest where there are several."""
        runs = self.find_study_runs(study, conditions=conditions)
        return next(filter(self.owner.owns, runs), None)

    def delete_running(self, experiment_ids: Sequence[str], tags: Mapping[str, str]) -> None:
        """Delete the runs with these tags whose trial was cut off before its end."""
        for run in self.search(experiment_ids, {**tags, "status": "running"}):
            self.client.delete_run(run.info.run_id)

    # -- logging -------------------------------------------------------------------------------------------------

    def create_run(self, experiment_id: str, name: str, tags: Mapping[str, str]) -> Run:
        """Create a run; a long name and long tags are cut at MLflow's limits, visibly."""
        shortened = {tag: _shorten(value, MAX_TAG_LENGTH) for tag, value in tags.items()}
        return self.client.create_run(experiment_id, run_name=_shorten(name, MAX_RUN_NAME_LENGTH), tags=shortened)

    def set_tags(self, run_id: str, tags: Mapping[str, object], metrics: Sequence[Metric] = ()) -> None:
        """Set tags of a run, with metrics in the same request; long ones are cut at MLflow's limit, visibly."""
        run_tags = [RunTag(name, _shorten(str(value), MAX_TAG_LENGTH)) for name, value in tags.items()]
        self.client.log_batch(run_id, metrics=list(metrics), tags=run_tags)

    def log_metrics(self, run_id: str, metrics: Sequence[Metric]) -> None:
        """Log metrics, in batches that MLflow accepts."""
        batch_size = MAX_BATCH_SIZES["metrics"]
        for start in range(0, len(metrics), batch_size):
            self.client.log_batch(run_id, metrics=metrics[start : start + batch_size])

    def log_params(self, run_id: str, values: Mapping[str, object]) -> None:
        """Log parameters as text, in batches that MLflow accepts; long ones are cut at its limit, visibly."""
        params = [Param(name, _shorten(str(value), MAX_PARAM_LENGTH)) for name, value in values.items()]
        batch_size = MAX_BATCH_SIZES["params"]
        for start in range(0, len(params), batch_size):
            self.client.log_batch(run_id, params=params[start : start + batch_size])

    def log_file(self, run_id: str, path: str, content: bytes) -> None:
        """Store bytes as an artifact of a run, at a path below its artifacts."""
        parent, _, name = path.rpartition("/")
        with temporary_folder() as folder:
            file = folder / name
            file.write_bytes(content)
            self._artifacts_of(run_id).log_artifact(str(file), parent or None)

    def log_tagged_file(self, run_id: str, path: str, content: bytes) -> None:
        """Store bytes as an artifact of a run, and their checksum as a tag."""
        self.log_file(run_id, path, content)
        self.client.set_tag(run_id, f"{CHECKSUM_TAG}{path}", hash_bytes(content))

    def log_json(self, run_id: str, path: str, data: Mapping[str, Any]) -> None:
        """Store a JSON object as an artifact of a run, with a checksum of itself."""
        self.log_file(run_id, path, dump_json(data, indent=2))

    def log_folder(self, run_id: str, path: str, folder: Path) -> None:
        """Store the files of a folder as artifacts of a run."""
        self._artifacts_of(run_id).log_artifacts(str(folder), path)

    # -- artifacts -----------------------------------------------------------------------------------------------

    def artifact_address(self, run: Run) -> str:
        """Where the artifacts of a run are now; MLflow may still have the address of another folder."""
        return locate_artifacts(self.settings, str(run.info.artifact_uri))

    def list_files(self, run_id: str, folder: str | None = None) -> set[str]:
        """Paths of a run's artifacts, of one folder or at the top."""
        return {item.path for item in self._artifacts_of(run_id).list_artifacts(folder)}

    def list_file_names(self, artifact_uri: str) -> set[str]:
        """Names of the artifacts under an address."""
        items = self._artifacts_at(artifact_uri).list_artifacts()
        return {PurePosixPath(item.path).name for item in items}

    def read_artifact(self, artifact_uri: str, path: str, max_bytes: int, source: object, remedy: str) -> bytes:
        """Content of an artifact by the address of its run's artifacts.

        Args:
            source: path of the artifact, for the error.

        Raises:
            DamagedFileError: where it is missing, no file, or larger.
        """
        artifacts = self._artifacts_at(artifact_uri)
        # Without ``dst_path`` MLflow would leave its copy in the system's temporary folder for good.
        with temporary_folder() as folder:
            try:
                file = Path(artifacts.download_artifacts(path, dst_path=folder))
                return read_bounded(file, max_bytes, remedy)
            except DamagedFileError as error:
                raise DamagedFileError(source, error.reason, remedy) from error
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
                raise DamagedFileError(source, error.strerror or "it cannot be read", remedy) from error
            except (MlflowException, OSError) as error:
                parent = path.rpartition("/")[0]
                listed = {item.path for item in artifacts.list_artifacts(parent or None)}  # fails where the store does
                if path in listed:
                    raise
                raise DamagedFileError(source, "it is missing", remedy) from error

    def count_bytes(self, artifact_uri: str) -> int:
        """Size of all artifacts under an address, those in folders included."""
        artifacts = self._artifacts_at(artifact_uri)
        num_bytes, folders = 0, [""]
        while folders:
            for item in artifacts.list_artifacts(folders.pop() or None):
                if item.is_dir:
                    folders.append(item.path)
                else:
                    num_bytes += item.file_size or 0
        return num_bytes

    def delete_artifacts(self, artifact_uri: str) -> None:
        """Delete all artifacts under an address."""
        self._artifacts_at(artifact_uri).delete_artifacts()

    def iterate_models(self) -> Iterator[LoggedModel]:
        """All logged models of the store."""
        experiments = self.all_experiments()
        if experiments:  # MLflow refuses a search over no experiment
            yield from _iterate_pages(self.client.search_logged_models, experiments)

    def _artifacts_of(self, run_id: str) -> Any:  # MLflow's ``ArtifactRepository``, whose methods have no types
        if run_id not in self.addresses:
            self.addresses[run_id] = self.artifact_address(self.client.get_run(run_id))
        return self._artifacts_at(self.addresses[run_id])

    def _artifacts_at(self, artifact_uri: str) -> Any:
        return get_artifact_repository(artifact_uri, tracking_uri=self.settings.tracking_uri)


def connect_mlflow(settings: Settings, *, create: bool) -> MlflowRuns:
    """Connect to a tracking store, and check that it answers.

    Args:
        create: whether a local database that does not exist is created; otherwise it is an error.

    Raises:
        TrackingError: if the store does not answer, or does not exist.
    """
    database = settings.database_file
    if not create and database and not database.exists():
        raise NotRecordedError(
            f"there is no tracking store {database}: nothing has been run there yet. Call this in the folder where the "
            "study ran, or give its runs folder with --runs."
        )
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it logs what it raises as well
    _limit_retries()
    if database and database.exists():
        require_readable_database(database, for_writing=create)
        relocate_artifacts(settings)
    creation_lock = lock_database(database) if create and database else nullcontext()
    with report_unreachable_store(settings.tracking_uri), creation_lock:
        if create and database and not database.exists():
            _create_database(database)
        client = mlflow.MlflowClient(settings.tracking_uri)
        client.search_experiments(max_results=1)  # the client itself connects lazily
    return MlflowRuns(client, settings, find_runs_owner(settings, create=create))


def _shorten(text: str, max_length: int) -> str:
    return text if len(text) <= max_length else text[: max_length - 2] + " …"


def creation_order(run: Run) -> tuple[int, str]:
    """Sort key of runs by their creation; their ids decide where two were created in the same millisecond."""
    return int(run.info.start_time), str(run.info.run_id)


def _limit_retries() -> None:
    """Let MLflow give up on a database within seconds.

    By default it tries ten times, for 102 seconds. It also creates the folder of a database, by an undecoded address:
    ``per%20cent`` beside ``per cent``. These names are private to MLflow: a test checks that the installed release
    still has them.
    """
    database_utils: Any = import_module("mlflow.store.db.utils")
    database_utils.MAX_RETRY_COUNT = 3
    database_utils._make_parent_dirs_if_sqlite = lambda db_uri: None  # noqa: ARG005  (MLflow's name)


def _create_database(database: Path) -> None:
    """Make a database whole or not at all: MLflow does not open one that was cut off among its 50 migrations."""
    database_utils: Any = import_module("mlflow.store.db.utils")
    partial = database.with_name(f".{database.name}.partial")
    partial.unlink(missing_ok=True)  # of a process that was killed meanwhile
    engine = database_utils.create_sqlalchemy_engine(sqlite_uri(partial))
    try:
        database_utils._initialize_tables(engine)
    finally:
        engine.dispose()
    partial.rename(database)


def trial_key_of(run: Run) -> TrialKey:
    """The key of the trial that a run records."""
    tags = run.data.tags
    return TrialKey(*(tags.get(name, "") for name in ("fingerprint", "data", "code", "platform")))


def require_run_schema(run: Run) -> None:
    """Refuse a run that another version of this package recorded.

    Raises:
        TrackingError: if its schema is not this version's.
    """
    schema = run.data.tags.get("schema", "none")
    if schema == str(RECORD_SCHEMA):
        return
    if schema.isdecimal() and int(schema) > RECORD_SCHEMA:
        age, remedy = "newer", "Update this package."
    else:
        age, remedy = "older", "Compile its report with the version that recorded it."
    raise TrackingError(
        f"run {run.info.run_id} ({run.info.run_name}) was recorded under schema {schema}, which is {age} than this "
        f"version's, {RECORD_SCHEMA}. {remedy}"
    )


def _iterate_pages(search: Callable[..., Any], *arguments: Any, **keywords: Any) -> Iterator[Any]:
    token = None
    while True:
        with pause_gc():  # a page holds some 100,000 live objects: collecting garbage would only visit them all
            page: Iterable[Any] = search(*arguments, max_results=PAGE_SIZE, page_token=token, **keywords)
        yield from page
        token = page.token  # type: ignore[attr-defined]  # MLflow's `PagedList`, a list with a token
        if not token:
            return
