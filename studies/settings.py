"""Where a study lives on this machine: runs, caches, data and the tracking store."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from lightning_modules.values import Misuse

DEFAULT_RUNS = "runs"
DEFAULT_DATA = "data"
HANG_AFTER_SECONDS = 1800.0  # between two steps: no honest step takes that long, however long its epoch is
CHECKPOINT_SECONDS = 15.0


class SettingsError(Misuse):
    """A place that cannot be used; the text says which, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Absolute places. ``runs`` holds reports, unless another URI is given the store, and without ``storage`` all else.

    Attributes:
        data_root: folder of image data; of those at a URI, the copy here.
        tracking_uri: of MLflow.
        storage: folder of the trials, of decoded data and of what several hosts must agree on; ``runs`` where none is
            given.
        bucket: URI of the storage where it is a bucket; then ``runs`` holds this machine's copy of what it works on.
        data_uri: where image data are fetched from; empty for a folder.
        hang_after_seconds: longest silence of a trial (no step trained, no batch evaluated) before it is killed and
            tried again; 0 for any.
        checkpoint_seconds: least time between two checkpoints of a trial.
    """

    runs: Path
    data_root: Path
    tracking_uri: str
    storage: Path | None = None
    bucket: str = field(default="", repr=False)
    data_uri: str = field(default="", repr=False)
    hang_after_seconds: float = HANG_AFTER_SECONDS
    checkpoint_seconds: float = CHECKPOINT_SECONDS

    def __post_init__(self) -> None:
        for name in ("hang_after_seconds", "checkpoint_seconds"):
            value = getattr(self, name)
            if not value >= 0:
                raise SettingsError(f"{name} is {value}; expected seconds, 0 or more.")

    @classmethod
    def of(
        cls,
        runs: str | Path | None = None,
        data_root: str | Path | None = None,
        tracking_uri: str | None = None,
        storage: str | Path | None = None,
    ) -> Settings:
        """Settings from arguments, else from ``ABLATE_RUNS``, ``ABLATE_DATA_ROOT``, ``MLFLOW_TRACKING_URI`` and
        ``ABLATE_STORAGE``.

        Raises:
            SettingsError: for a tracking URI that is neither a database's nor a server's.
        """
        folder = Path(runs or os.environ.get("ABLATE_RUNS", DEFAULT_RUNS)).absolute()
        uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder}/mlflow.db"
        if not re.match(r"^(sqlite|postgresql|mysql|mssql|https?)(\+\w+)?://", uri):
            raise SettingsError(
                f"the tracking URI is {without_credentials(uri)!r}; expected a database (sqlite:///runs/mlflow.db, "
                "postgresql://...) or a server (http://host:5000)."
            )
        data, data_uri = _folder_or_uri(data_root or os.environ.get("ABLATE_DATA_ROOT", DEFAULT_DATA))
        kept, bucket = _folder_or_uri(storage or os.environ.get("ABLATE_STORAGE", ""))
        settings = cls(
            runs=folder,
            data_root=data or (kept or folder) / "cache" / "fetched",
            tracking_uri=uri,
            storage=kept,
            bucket=bucket,
            data_uri=data_uri,
        )
        database = settings.database
        if database and database.parent != folder and not database.parent.is_dir():
            raise SettingsError(f"the tracking store is to be {database}, but there is no folder {database.parent}.")
        return settings

    @property
    def store(self) -> str:
        """The tracking URI as it may be shown and recorded: without a password."""
        return without_credentials(self.tracking_uri)

    @property
    def told_data(self) -> str:
        """Where image data are, as it may be shown."""
        return without_credentials(self.data_uri) or str(self.data_root)

    @property
    def database(self) -> Path | None:
        """The file of a local store; ``None`` for a server."""
        path = self.tracking_uri.removeprefix("sqlite:///")
        return Path(path).absolute() if path != self.tracking_uri else None

    @property
    def trials(self) -> Path:
        """One folder per trial."""
        return self.shared / "trials"

    @property
    def studies(self) -> Path:
        """One folder per study and conditions: what it takes to log its trials, and who runs it now."""
        return self.shared / "studies"

    @property
    def shared(self) -> Path:
        """What all hosts that work on a study must see."""
        return self.storage or self.runs

    @property
    def cache(self) -> Path:
        """Decoded data sets."""
        return self.shared / "cache"

    @property
    def artifacts(self) -> Path:
        """MLflow's artifacts, where the store is a local database."""
        return self.runs / "artifacts"

    @property
    def reports(self) -> Path:
        """One folder per compiled report."""
        return self.runs / "reports"

    def report(self, name: str) -> Path:
        """The folder of one compiled report.

        Raises:
            SettingsError: where the name would lead out of the folder of reports, as that of no study here does.
        """
        return self.reports / plain(name, "a report")

    def make(self) -> None:
        """Make the folder of runs, and that of the trials.

        Raises:
            SettingsError: where nothing can be written there.
        """
        _require_writable(self.runs, "run folder", "--runs")
        if self.storage:
            _require_writable(self.storage, "storage", "--storage")


def _folder_or_uri(place: str | Path) -> tuple[Path | None, str]:
    if "://" in str(place):
        return None, str(place)
    return (Path(place).absolute() if place else None), ""


def _require_writable(folder: Path, what: str, option: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise SettingsError(
            f"cannot write to the {what} {folder} ({error.strerror}). Give another one with {option}."
        ) from error


def plain(name: str, what: str) -> str:
    """A name that stays in its folder: what is read from the record or from a file may have been written by anybody.

    Raises:
        SettingsError: for any other.
    """
    if name in ("", ".", "..") or name.startswith(".") or re.search(r"[/\\\0]", name):
        raise SettingsError(
            f"{what} is to be called {name!r}; expected a plain name, without slashes or a leading dot. Whoever wrote "
            "that name meant another folder: delete what bears it."
        )
    return name


def without_credentials(text: str) -> str:
    """A command or address without what stands before the @ or behind the ? of its URIs."""
    return re.sub(r"(://[^\s?]*)\?\S*", r"\1", re.sub(r"://\S*@", "://", text))
