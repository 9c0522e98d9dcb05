"""Where a study stores and finds its files.

Runs, caches, data and the tracking store.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from lightning_modules.specs.errors import UserError

INSTALL_ROOT = Path(__file__).parents[1]  # the folder that holds the four packages
DEFAULT_RUNS_FOLDER = "runs"
DEFAULT_DATA_ROOT = "data"
DATABASE_NAME = "mlflow.db"
HANG_AFTER_SECONDS = 1800.0  # without a heartbeat, which every step sends: no step takes half an hour
MAX_SECONDS = 1e6  # 11 days; poll(2) takes its milliseconds as 32 bits
CHECKPOINT_INTERVAL_SECONDS = 15.0  # a fault costs about that much training; epochs of small networks take less

# What MLflow accepts without a deprecated file store: a database, with its driver where given, or a server.
TRACKING_URI_PATTERN = r"^(sqlite|postgresql|mysql|mssql|https?)(\+\w+)?://"


class SettingsError(UserError):
    """A setting that cannot be used; the text says which, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Paths and URIs of one run of a study; all paths are absolute.

    Attributes:
        runs_folder: holds reports, the default tracking store, and, without a storage folder, everything else; with an
            object store, also this machine's copies of trials and studies.
        data_root: folder of image data, or of the local copy of those at ``data_uri``.
        tracking_uri: MLflow's.
        storage_folder: of trials, decoded data and leases, where several hosts share them; ``runs_folder`` by default.
        object_store_uri: of the object store that holds trials and studies; empty where there is none.
        data_uri: of image data that are downloaded; empty for a folder.
        hang_after_seconds: longest time without a heartbeat before a trial is killed and tried again; 0 for no limit.
        checkpoint_seconds: least time between two checkpoints of a trial.
    """

    runs_folder: Path
    data_root: Path
    tracking_uri: str
    storage_folder: Path | None = None
    # Both URIs may hold credentials, which must not reach a traceback.
    object_store_uri: str = field(default="", repr=False)
    data_uri: str = field(default="", repr=False)
    hang_after_seconds: float = HANG_AFTER_SECONDS
    checkpoint_seconds: float = CHECKPOINT_INTERVAL_SECONDS

    def __post_init__(self) -> None:
        for name in ("hang_after_seconds", "checkpoint_seconds"):
            value = getattr(self, name)
            if not 0 <= value <= MAX_SECONDS:  # not-a-number, too
                raise SettingsError(f"{name} is {value}; expected seconds, from 0 to {MAX_SECONDS:.0f}.")

    @classmethod
    def from_environment(
        cls,
        runs: str | Path | None = None,
        data_root: str | Path | None = None,
        tracking_uri: str | None = None,
        storage: str | Path | None = None,
    ) -> Settings:
        """Settings from arguments, or else from environment variables.

        These are ``ABLATE_RUNS``, ``ABLATE_DATA_ROOT``, ``MLFLOW_TRACKING_URI`` and ``ABLATE_STORAGE``.

        Raises:
            SettingsError: for a tracking URI of neither a database nor a server, or a database in a missing folder.
        """
        runs_folder = Path(runs or os.environ.get("ABLATE_RUNS", DEFAULT_RUNS_FOLDER)).absolute()
        uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(runs_folder / DATABASE_NAME)
        if not re.match(TRACKING_URI_PATTERN, uri):
            raise SettingsError(
                f"the tracking URI is {redact_credentials(uri)!r}; expected a database (sqlite:///runs/mlflow.db, "
                "postgresql://...) or a server (http://host:5000)."
            )
        data_folder, data_uri = _split_location(data_root or os.environ.get("ABLATE_DATA_ROOT", DEFAULT_DATA_ROOT))
        storage_folder, object_store_uri = _split_location(storage or os.environ.get("ABLATE_STORAGE", ""))
        settings = cls(
            runs_folder=runs_folder,
            data_root=data_folder or (storage_folder or runs_folder) / "cache" / "fetched",
            tracking_uri=uri,
            storage_folder=storage_folder,
            object_store_uri=object_store_uri,
            data_uri=data_uri,
        )
        # The runs folder is created; that of another database may be a typing error, which would start an empty store.
        database = settings.database_file
        if database and database.parent != runs_folder and not database.parent.is_dir():
            raise SettingsError(
                f"the tracking store is {database}, but there is no folder {database.parent}. "
                "(In an address, % is written as %25 and ? as %3F.)"
            )
        return settings

    @property
    def redacted_tracking_uri(self) -> str:
        """The tracking URI without credentials, to be shown and recorded."""
        return redact_credentials(self.tracking_uri)

    @property
    def redacted_data_location(self) -> str:
        """URI or folder of the image data, without credentials."""
        return redact_credentials(self.data_uri) or str(self.data_root)

    @property
    def store_options(self) -> str:
        """Options that lead a further command to the same tracking store; empty where it finds it by itself."""
        text = ""
        if self.runs_folder != Path(os.environ.get("ABLATE_RUNS", DEFAULT_RUNS_FOLDER)).absolute():
            text += f" --runs {_quote_path(self.runs_folder)}"
        default_uri = os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(self.runs_folder / DATABASE_NAME)
        if self.tracking_uri != default_uri:
            text += f" --tracking-uri {shlex.quote(self.redacted_tracking_uri)}"
        return text

    @property
    def command_options(self) -> str:
        """As :attr:`store_options`, and the option of the storage, for commands that read trial folders."""
        default_folder, default_uri = _split_location(os.environ.get("ABLATE_STORAGE", ""))
        text = self.store_options
        if self.object_store_uri and self.object_store_uri != default_uri:
            text += f" --storage {shlex.quote(redact_credentials(self.object_store_uri))}"
        elif self.storage_folder and self.storage_folder != default_folder:
            text += f" --storage {_quote_path(self.storage_folder)}"
        return text

    @property
    def data_option(self) -> str:
        """The option that leads a further command to the same image data; empty where it finds them by itself."""
        default_folder, default_uri = _split_location(os.environ.get("ABLATE_DATA_ROOT", DEFAULT_DATA_ROOT))
        if self.data_uri:
            is_default = self.data_uri == default_uri
            return "" if is_default else f" --data-root {shlex.quote(redact_credentials(self.data_uri))}"
        return "" if self.data_root == default_folder else f" --data-root {_quote_path(self.data_root)}"

    @property
    def database_file(self) -> Path | None:
        """File of a local tracking store; ``None`` for a server."""
        return database_file_of(self.tracking_uri)

    @property
    def has_own_database(self) -> bool:
        """Whether the tracking store is a database inside the runs folder, with which it moves."""
        database = self.database_file
        return database is not None and self.runs_folder.resolve() in database.resolve().parents

    @property
    def trials_folder(self) -> Path:
        """Parent of the trials' folders."""
        return self.shared_folder / "trials"

    @property
    def studies_folder(self) -> Path:
        """Parent of the studies' folders.

        One per study and conditions, with its manifest, lease and status.
        """
        return self.shared_folder / "studies"

    @property
    def shared_folder(self) -> Path:
        """Folder that all hosts of a study must share."""
        return self.storage_folder or self.runs_folder

    @property
    def cache_folder(self) -> Path:
        """Folder of decoded data sets."""
        return self.shared_folder / "cache"

    @property
    def artifacts_folder(self) -> Path:
        """Folder of MLflow's artifacts, where its store is a local database."""
        return self.runs_folder / "artifacts"

    @property
    def reports_folder(self) -> Path:
        """Parent of the compiled reports' folders."""
        return self.runs_folder / "reports"

    def report_folder(self, name: str) -> Path:
        """The folder of one compiled report.

        Raises:
            SettingsError: where the name would lead out of the reports' folder.
        """
        return self.reports_folder / require_plain_name(name, "a report")

    def create_folders(self) -> None:
        """Create the runs folder and the storage folder.

        Raises:
            SettingsError: where one cannot be written to.
        """
        _require_writable(self.runs_folder, "run folder", "--runs")
        if self.storage_folder:
            _require_writable(self.storage_folder, "storage", "--storage")

    def require_creatable_folders(self) -> None:
        """Check that the folders can be written or created, and create none.

        Raises:
            SettingsError: where one cannot be.
        """
        _require_creatable(self.runs_folder, "run folder", "--runs")
        if self.storage_folder:
            _require_creatable(self.storage_folder, "storage", "--storage")


def database_file_of(tracking_uri: str) -> Path | None:
    """File of the database at an address; ``None`` for a server."""
    match = re.match(r"sqlite(?:\+\w+)?:///([^?]+)", tracking_uri)
    # SQLite's own addresses (``file:...?uri=true``) are left to SQLite.
    if match is None or match[1].startswith("file:"):
        return None
    return Path(unquote(match[1])).absolute()


def sqlite_uri(file: Path) -> str:
    """The address of a database file, as SQLAlchemy reads it.

    It decodes ``%20`` in a path, and takes ``?`` for the start of the options.
    """
    return "sqlite:///" + str(file).replace("%", "%25").replace("?", "%3F")


def _quote_path(path: Path) -> str:
    """A path as an argument of a command, relative where it lies below the present folder."""
    folder = Path.cwd()
    return shlex.quote(str(path.relative_to(folder) if folder in path.parents else path))


def _split_location(location: str | Path) -> tuple[Path | None, str]:
    """A location as a folder or as a URI.

    The other one is empty, and both are for an empty location.
    """
    if "://" in str(location):
        return None, str(location)
    folder = Path(location).absolute() if location else None
    return folder, ""


def _require_creatable(folder: Path, description: str, option: str) -> None:
    if folder.is_dir():
        _require_writable(folder, description, option)
        return
    # The closest ancestor that exists decides: a refused command must leave nothing behind.
    ancestor = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not ancestor.is_dir() or not os.access(ancestor, os.W_OK | os.X_OK):
        reason = "is not writable" if ancestor.is_dir() else "is not a folder"
        raise SettingsError(f"cannot write to the {description} {folder} ({ancestor} {reason}). Give another {option}.")


def _require_writable(folder: Path, description: str, option: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # By writing: permissions alone do not tell of a read-only mount or a full quota.
        probe = folder / f".probe-{secrets.token_hex(4)}"  # several hosts that share the folder have equal process ids
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise SettingsError(
            f"cannot write to the {description} {folder} ({error.strerror}). Give another one with {option}."
        ) from error


def require_plain_name(name: str, description: str) -> str:
    """Return a name that stays in its folder.

    Names read from a tracking store or a file may have been written by anybody.

    Raises:
        SettingsError: for any other name.
    """
    if name in ("", ".", "..") or name.startswith(".") or re.search(r"[/\\\0]", name):
        raise SettingsError(
            f"{description} is named {name!r}; expected a plain name, without slashes or a leading dot. "
            "Such a name leads to another folder: delete whatever has it."
        )
    return name


def redact_credentials(text: str) -> str:
    """A text without the user, password and query of its URIs.

    Whatever stands between ``://`` and the last ``@``, and from ``?`` on: signed URLs carry their secret in the query.
    """
    without_user = re.sub(r"(?<!sqlite)://\S*@", "://", text)  # a path may hold an @
    return re.sub(r"(://[^\s?]*)\?\S*", r"\1", without_user)
