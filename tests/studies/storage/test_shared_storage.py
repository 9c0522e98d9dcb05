"""Trials in a folder of their own, apart from record and reports: `--storage`."""

import shutil

import pytest
from click.testing import CliRunner

import studies
from studies.cli.app import main
from studies.settings import Settings, SettingsError
from studies.tracking.store import open_store
from tests.studies.conftest import ONE, SHORT

pytestmark = pytest.mark.xdist_group("one recorded study")

MOVED = ("trials", "studies", "cache")


def test_all_that_several_hosts_must_see_lies_in_the_storage(tmp_path):
    settings = Settings.from_environment(
        tmp_path / "runs", storage=tmp_path / "shared", tracking_uri="http://127.0.0.1:1"
    )
    assert {getattr(settings, f"{name}_folder") for name in MOVED} == {tmp_path / "shared" / name for name in MOVED}
    assert {settings.reports_folder, settings.artifacts_folder} == {
        tmp_path / "runs" / name for name in ("reports", "artifacts")
    }


def test_the_environment_gives_it_as_well(tmp_path, monkeypatch):
    monkeypatch.setenv("ABLATE_STORAGE", str(tmp_path / "shared"))
    assert Settings.from_environment(tmp_path).trials_folder == tmp_path / "shared" / "trials"


def test_storage_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"cannot write to the storage .*file/trials .* another one with --storage"):
        Settings.from_environment(tmp_path / "runs", storage=tmp_path / "file" / "trials").create_folders()


@pytest.mark.slow
def test_a_study_goes_on_in_the_storage_and_is_looked_after_there(copied, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    for name in MOVED:
        if (copied.runs / name).exists():
            shutil.move(copied.runs / name, shared / name)
    lost = copied.record.trials[3]
    copied.store.runs.client.delete_run(lost.run_id)
    (folder,) = shared.glob(f"trials/{lost.result.fingerprint}-*")
    shutil.rmtree(folder)
    news = []
    places = {"runs": copied.runs, "storage": shared}
    again = {"seeds": (0, 1), "overrides": SHORT, "resources": ONE, "quiet": True, "say": news.append}
    record = studies.run("depth", **again, **places)
    assert any(line.startswith("1 of 8 trials to train") for line in news), news
    assert record.trials[3].result.predictions.tolist() == lost.result.predictions.tolist()
    assert (folder / "weights.pt").exists()
    assert not any((copied.runs / name).exists() for name in MOVED)
    for command, words in (
        ("sync", "all 8 trials are logged"),
        ("gc", "nothing to free"),
        ("doctor", "8 trial folders"),
    ):
        shown = CliRunner().invoke(main, [command, "--runs", str(copied.runs), "--storage", str(shared)])
        assert shown.exit_code == 0, shown.output
        assert words in " ".join(shown.output.split())
    assert len(open_store(Settings.from_environment(copied.runs)).reader.read_study("depth").trials) == 8
