"""The options that a suggested command needs to find the same store."""

import pytest

from studies.settings import Settings


@pytest.fixture(autouse=True)
def working_folder(tmp_path, monkeypatch):
    for name in ("ABLATE_RUNS", "ABLATE_STORAGE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_suggested_command_needs_no_options_where_defaults_lead_to_the_same_store(monkeypatch):
    assert Settings.from_environment().command_options == ""
    monkeypatch.setenv("ABLATE_RUNS", "elsewhere")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert Settings.from_environment().command_options == ""


def test_a_suggested_command_carries_what_the_present_one_was_given(working_folder):
    given = Settings.from_environment(runs="my runs", storage="/shared", tracking_uri="http://me:secret@host:5000")
    assert given.store_options == " --runs 'my runs' --tracking-uri http://host:5000"
    assert given.command_options == f"{given.store_options} --storage /shared"
    assert Settings.from_environment(runs=working_folder.parent).store_options == f" --runs {working_folder.parent}"


def test_an_object_store_is_suggested_without_its_keys():
    given = Settings.from_environment(storage="s3://key:secret@bucket/studies")
    assert given.command_options == " --storage s3://bucket/studies"


def test_a_suggested_command_names_the_image_data_unless_it_finds_them_by_itself(monkeypatch):
    monkeypatch.delenv("ABLATE_DATA_ROOT", raising=False)
    assert Settings.from_environment().data_option == ""
    assert Settings.from_environment(data_root="my images").data_option == " --data-root 'my images'"
    assert Settings.from_environment(data_root="s3://k:x@bucket/a").data_option == " --data-root s3://bucket/a"
    monkeypatch.setenv("ABLATE_DATA_ROOT", "my images")
    assert Settings.from_environment().data_option == ""
