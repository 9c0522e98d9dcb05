"""A runs folder can be copied, moved and named at will: nothing outside of it is read or written."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner

from studies.cli.app import main
from studies.settings import Settings, SettingsError, sqlite_uri
from studies.tracking.artifact_addresses import locate_artifacts, relocate_artifacts
from studies.tracking.errors import TrackingError
from studies.tracking.store import open_store

pytestmark = pytest.mark.xdist_group("one recorded study")
ODD_NAMES = ["per%20cent", "100%", "sp ace", "ha#sh", "qu?est", "ünï", "at@x", "q'uote", "%(x)s"]


def checksums(folder: Path) -> dict[str, str]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def stored_addresses(folder: Path) -> set[str]:
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        runs = database.execute("SELECT artifact_uri FROM runs").fetchall()
        experiments = database.execute("SELECT artifact_location FROM experiments WHERE name = 'depth'").fetchall()
    return {address for (address,) in (*runs, *experiments)}


def call(*arguments, code=0):
    shown = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert shown.exit_code == code, shown.output
    return shown.output


def test_writing_to_a_copy_leaves_the_original_as_it_was(recorded, tmp_path):
    before = checksums(recorded.runs)
    copy = tmp_path / "copy"
    shutil.copytree(recorded.runs, copy)
    for trial in copy.glob("trials/*/result.json"):  # recorded again, as another run
        trial.write_text(trial.read_text().replace('"finished"', '"non-finite"'))
    call("sync", "depth", "--runs", copy)
    call("report", "depth", "--runs", copy)
    store = open_store(Settings.from_environment(copy))
    store.runs.log_file(recorded.record.run_id, "note.txt", b"here")
    assert list(copy.rglob("note.txt"))
    assert checksums(recorded.runs) == before


def test_the_addresses_of_a_copy_are_corrected_once_and_that_is_said(recorded, tmp_path, caplog):
    copy = tmp_path / "copy"
    shutil.copytree(recorded.runs, copy)
    assert all(str(recorded.runs) in address for address in stored_addresses(copy))
    open_store(Settings.from_environment(copy))
    assert all(str(copy) in address for address in stored_addresses(copy))
    assert [record.message for record in caplog.records if "was moved or copied" in record.message] == [
        f"{copy}/mlflow.db was moved or copied: MLflow's addresses of its artifacts now lead to {copy}/artifacts, "
        f"no longer to {recorded.runs}/artifacts."
    ]
    caplog.clear()
    open_store(Settings.from_environment(copy))
    assert not caplog.records


def test_a_folder_that_was_moved_twice_is_read_under_its_new_name(copied):
    first, second = copied.runs.with_name("first"), copied.runs.with_name("second")
    copied.runs.rename(first)
    assert len(open_store(Settings.from_environment(first)).reader.read_study("depth").trials) == 8
    first.rename(second)
    for command in ("report", "status", "sync"):
        call(command, "depth", "--runs", second)
    assert "error" not in call("doctor", "--runs", second)
    assert not first.exists()
    assert not copied.runs.exists()


def test_a_copy_whose_database_cannot_be_corrected_is_read_all_the_same(copied, monkeypatch):
    monkeypatch.setattr("studies.tracking.runs.relocate_artifacts", id)
    moved = copied.runs.rename(copied.runs.with_name("read-only"))
    record = open_store(Settings.from_environment(moved), create=False).reader.read_study("depth")
    assert [trial.result for trial in record.trials] == [trial.result for trial in copied.record.trials]


def test_a_folder_seen_through_a_link_is_left_as_it_is(copied):
    open_store(Settings.from_environment(copied.runs))
    before = stored_addresses(copied.runs)
    link = copied.runs.with_name("link")
    link.symlink_to(copied.runs)
    assert open_store(Settings.from_environment(link)).reader.read_study("depth").labels is not None
    assert stored_addresses(copied.runs) == before


def test_addresses_of_files_that_are_elsewhere_are_kept(recorded, tmp_path):
    """A database alone was copied: where its files are must not be forgotten."""
    shutil.copy(recorded.runs / "mlflow.db", tmp_path)
    before = stored_addresses(tmp_path)
    relocate_artifacts(Settings.from_environment(tmp_path))
    assert stored_addresses(tmp_path) == before


@pytest.mark.parametrize(
    "address",
    ["mlflow-artifacts:/1/0123/artifacts", "s3://lab/artifacts/1/0123/artifacts", "file:///elsewhere/mlruns/1/0123/x"],
)
def test_addresses_that_are_not_of_a_runs_folder_are_followed_as_they_are(address, tmp_path):
    assert locate_artifacts(Settings.from_environment(tmp_path), address) == address


def test_a_database_beside_the_runs_folder_keeps_its_addresses(tmp_path):
    settings = Settings.from_environment(tmp_path / "runs", tracking_uri=f"sqlite:///{tmp_path}/shared.db")
    address = "file:///other/artifacts/depth/0123/artifacts"
    assert locate_artifacts(settings, address) == address
    inside = replace(settings, tracking_uri=sqlite_uri(tmp_path / "runs" / "mlflow.db"))
    assert locate_artifacts(inside, address) == f"file://{tmp_path}/runs/artifacts/depth/0123/artifacts"


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_runs_folder_may_have_any_name(copied, name):
    folder = copied.runs.rename(copied.runs.with_name(name))
    siblings = set(folder.parent.iterdir())
    settings = Settings.from_environment(folder)
    assert settings.database_file == folder / "mlflow.db"
    store = open_store(settings, create=False)
    assert len(store.reader.read_study("depth").trials) == 8
    store.runs.log_file(copied.record.run_id, "note.txt", b"here")
    assert list(folder.rglob("note.txt"))
    assert set(folder.parent.iterdir()) == siblings


@pytest.mark.parametrize("content", [b"no database at all, but some text\n" * 40, b"SQLite format 3\0" + bytes(4000)])
def test_a_file_that_is_no_database_is_refused_at_once_with_what_to_do(content, tmp_path):
    (tmp_path / "mlflow.db").write_bytes(content)
    with pytest.raises(TrackingError, match=r"mlflow\.db is damaged .* `ablate sync` makes it"):
        open_store(Settings.from_environment(tmp_path))


def test_a_folder_in_place_of_the_database_is_refused_at_once(tmp_path):
    (tmp_path / "mlflow.db").mkdir()
    with pytest.raises(TrackingError, match=r"mlflow\.db cannot be opened"):
        open_store(Settings.from_environment(tmp_path))


def test_an_address_that_was_not_encoded_is_refused_with_the_remedy(tmp_path):
    (tmp_path / "per%20cent").mkdir()
    with pytest.raises(SettingsError, match=r"there is no folder .*per cent\. \(In an address, % is written as %25"):
        Settings.from_environment(tmp_path, tracking_uri=f"sqlite:///{tmp_path}/per%20cent/mlflow.db")


def test_the_installed_mlflow_has_the_names_that_limit_its_retries():
    database_utils = import_module("mlflow.store.db.utils")
    for name in ("MAX_RETRY_COUNT", "_make_parent_dirs_if_sqlite", "create_sqlalchemy_engine_with_retry"):
        assert name in vars(database_utils)


def test_a_database_that_was_cut_off_as_it_was_made_is_made_anew(tmp_path, monkeypatch):
    def killed(engine):
        with engine.connect() as connection:
            connection.exec_driver_sql("CREATE TABLE webhooks (webhook_id INTEGER)")
        raise KeyboardInterrupt

    settings = Settings.from_environment(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(import_module("mlflow.store.db.utils"), "_initialize_tables", killed)
        with pytest.raises(KeyboardInterrupt):
            open_store(settings)
    assert not settings.database_file.exists()
    assert open_store(settings).reader.list_studies() == []
    assert [file.name for file in tmp_path.iterdir()] == ["mlflow.db"]
