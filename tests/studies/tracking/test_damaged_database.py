"""A damaged database is told as one, with its file and what to do, by the commands and by `ablate doctor`."""

import os
import random
import shutil

import pytest

from studies.maintenance.tracking_checks import check_tracking_store
from studies.settings import Settings
from studies.tracking.errors import TrackingError
from studies.tracking.store import open_store


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    open_store(Settings.from_environment(folder))
    return folder / "mlflow.db"


def cut(file):
    os.truncate(file, file.stat().st_size // 2)


def empty(file):
    os.truncate(file, 0)


def overwrite_the_end(file):
    size = file.stat().st_size
    with file.open("r+b") as stream:
        stream.seek(size // 5)
        stream.write(random.Random(0).randbytes(size - size // 5))


@pytest.mark.parametrize("damage", [cut, empty, overwrite_the_end])
def test_the_file_and_the_remedy_are_named(sound, tmp_path, damage):
    file = tmp_path / "mlflow.db"
    shutil.copy(sound, file)
    damage(file)
    settings = Settings.from_environment(tmp_path)
    with pytest.raises(TrackingError) as error:
        open_store(settings, create=False).reader.read_study("depth")
    assert str(error.value).startswith(f"the tracking store {file} is damaged (")
    assert "move the file away, and `ablate sync` makes it again from the trial folders" in str(error.value)
    assert "server" not in str(error.value)
    found = [check for check in check_tracking_store(settings) if check.level == "error"]
    assert [check.finding for check in found] == [str(error.value)]


def test_a_sound_database_has_no_such_finding(sound):
    settings = Settings.from_environment(sound.parent)
    assert [check for check in check_tracking_store(settings) if check.level == "error"] == []
