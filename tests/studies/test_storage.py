"""Trials in a folder of their own, apart from record and reports: `--storage`."""

import shutil

import pytest
from click.testing import CliRunner

import studies
from studies.cli import main
from studies.settings import Settings, SettingsError
from studies.tracking import Store
from tests.studies.conftest import ONE, SHORT

pytestmark = pytest.mark.xdist_group("one recorded study")

MOVED = ("trials", "studies", "cache")


def test_all_that_several_hosts_must_see_lies_in_the_storage(tmp_path):
    settings = Settings.of(tmp_path / "runs", storage=tmp_path / "shared", tracking_uri="http://127.0.0.1:1")
    assert {getattr(settings, name) for name in MOVED} == {tmp_path / "shared" / name for name in MOVED}
    assert {settings.reports, settings.artifacts} == {tmp_path / "runs" / name for name in ("reports", "artifacts")}


def test_the_environment_gives_it_as_well(tmp_path, monkeypatch):
    monkeypatch.setenv("ABLATE_STORAGE", str(tmp_path / "shared"))
    assert Settings.of(tmp_path).trials == tmp_path / "shared" / "trials"


def test_storage_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"cannot write to the storage .*file/trials .* another one with --storage"):
        Settings.of(tmp_path / "runs", storage=tmp_path / "file" / "trials").make()


def test_a_study_goes_on_in_the_storage_and_is_looked_after_there(copied, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    for name in MOVED:
        if (copied.runs / name).exists():
            shutil.move(copied.runs / name, shared / name)
    lost = copied.record.trials[3]
    copied.store.client.delete_run(lost.run_id)
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
    for command, words in (("sync", "all 8 trials are recorded"), ("gc", "nothing to free"), ("doctor", "8 folders")):
        shown = CliRunner().invoke(main, [command, "--runs", str(copied.runs), "--storage", str(shared)])
        assert shown.exit_code == 0, shown.output
        assert words in " ".join(shown.output.split())
    assert len(Store(Settings.of(copied.runs)).read("depth").trials) == 8
