"""`ablate export` and `ablate import`: a study in one file, whose content is checked."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import reports
import studies
from lightning_modules.stored_files import dump_json
from studies.cli.app import main
from studies.design.declare import declare
from studies.records.results import failed_result
from studies.records.study_record import StudyRecord
from studies.runner.context import prepare_study
from studies.runner.driver import register_study
from studies.settings import Settings, SettingsError
from studies.storage.copies.archive import MANIFEST_FILE, open_archive, read_archived_record
from studies.storage.lease import acquire_lease
from studies.storage.manifest import read_manifest
from studies.storage.trial_folder import TrialFolder
from studies.tracking.store import open_store
from tests.studies.conftest import ONE, SHORT

pytestmark = pytest.mark.xdist_group("one recorded study")


def call(*arguments, code=0):
    shown = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert shown.exit_code == code, shown.output
    return " ".join(shown.output.split())


@pytest.fixture(scope="module")
def exported(recorded, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("archive") / "depth.zip"
    call("export", "depth", "-o", file, "--runs", recorded.runs)
    return file


def rewritten(source: Path, target: Path, changes: dict[str, bytes | None]) -> Path:
    """A copy with some files replaced, added, or left out; its manifest stays."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        contents = {name: old.read(name) for name in old.namelist()} | changes
        for name, content in contents.items():
            if content is not None:
                new.writestr(name, content)
    return target


def results(record):
    return {(trial.arm, trial.seed): trial.result for trial in record.trials}


def test_an_archive_holds_the_record_as_it_was(recorded, exported):
    read, original = read_archived_record(exported), recorded.store.reader.read_study("depth")
    assert read.registration == original.registration
    assert read.starts == original.starts
    assert results(read) == results(original)
    assert np.array_equal(read.labels, original.labels)
    for trial in original.trials:
        assert np.array_equal(read.find_trial(trial.arm, trial.seed).result.predictions, trial.result.predictions)


def test_the_same_study_gives_the_same_bytes(recorded, exported, tmp_path):
    again = tmp_path / "again.zip"
    call("export", "depth", "-o", again, "--runs", recorded.runs)
    assert again.read_bytes() == exported.read_bytes()


def test_a_dry_run_says_the_size_and_writes_nothing(recorded, tmp_path):
    file = tmp_path / "depth.zip"
    small = call("export", "depth", "-o", file, "--dry-run", "--runs", recorded.runs)
    large = call("export", "depth", "-o", file, "--dry-run", "--weights", "--runs", recorded.runs)
    assert "before compression" in small
    assert int(large.split("would hold ")[1].split()[0]) == int(small.split("would hold ")[1].split()[0]) + 8
    assert not file.exists()


def test_an_archive_is_read_without_being_unpacked(exported, tmp_path, recorded):
    page = call("report", exported, "--runs", tmp_path)
    assert page == str(tmp_path / "reports" / "depth-digits-from-depth" / "index.html")
    assert not (tmp_path / "mlflow.db").exists()
    assert "depth under digits, as recorded" in call("status", exported, "--runs", tmp_path)
    assert reports.load(str(exported)).record.registration == recorded.record.registration


def test_an_imported_study_is_recorded_with_its_starts_and_trains_nothing_again(exported, tmp_path, recorded):
    assert "8 trials unpacked, 0 left" in call("import", exported, "--runs", tmp_path)
    record = open_store(Settings.from_environment(tmp_path)).reader.read_study("depth")
    assert results(record) == results(recorded.record)
    assert {start.time for start in recorded.record.starts} < {start.time for start in record.starts}
    again = call("import", exported, "--runs", tmp_path)
    assert "0 trials unpacked, 0 left" in again
    assert "nothing to log" in again


def register_depth(runs: Path, *seeds: int) -> StudyRecord:
    study = declare("depth", seeds=seeds, overrides=SHORT)
    return register_study(prepare_study(study, Settings.from_environment(runs), ONE, [].append))


def test_seeds_that_another_machine_trained_are_declared_in_an_amendment(exported, tmp_path):
    register_depth(tmp_path, 0)
    shown = call("import", exported, "--runs", tmp_path)
    assert "registration amended after 8 of 8 results: seed added: 1; digest" in shown
    reader = open_store(Settings.from_environment(tmp_path)).reader
    record = reader.read_study("depth")
    assert record.registration_check.finding == "amended after 8 of 8 results", record.registration_check.mismatches
    assert record.registration.seeds == (0, 1)
    call("import", exported, "--runs", tmp_path)
    assert reader.read_study("depth").registration_check == record.registration_check


def test_an_amendment_without_new_results_reaches_the_store_and_the_folder_that_lack_it(exported, copied, tmp_path):
    runs, elsewhere = copied.runs, tmp_path / "elsewhere"
    shutil.copytree(runs, elsewhere)
    before = copied.store.reader.read_study("depth").registration_check
    register_depth(elsewhere, 0, 1, 2)  # amends it there
    (theirs,), (ours,) = elsewhere.glob("studies/*"), runs.glob("studies/*")
    kept = (ours / "study.json").read_bytes()
    shutil.copy(theirs / "study.json", ours / "study.json")
    assert copied.store.reader.read_study("depth").registration_check.state == "does not match"
    call("sync", "depth", "--runs", runs)
    check = copied.store.reader.read_study("depth").registration_check
    assert (check.state, len(check.entries)) == ("amended", len(before.entries) + 1), check.mismatches
    (ours / "study.json").write_bytes(kept)  # the folder's copy is of before
    call("sync", "depth", "--runs", runs)
    assert copied.store.reader.read_study("depth").registration_check == check


def test_seeds_planned_in_a_folder_that_another_machine_registered_are_an_amendment(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    first = register_depth(there, 0).registration_check
    shutil.copytree(there / "studies", here / "studies")
    second = register_depth(here, 1)
    check = second.registration_check
    assert check.finding == "amended before any of 8 results", check.mismatches
    assert check.entries[0] == first.entries[0]
    assert second.registration.seeds == (0, 1)
    assert register_depth(here, 1).registration_check == check


def test_a_registration_that_was_edited_in_a_shared_folder_is_not_taken_up(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    declared = register_depth(there, 0).registration.smallest_effect
    (file,) = there.glob("studies/*/study.json")
    content = {name: value for name, value in json.loads(file.read_bytes()).items() if name != "checksum"}
    content["registration"]["smallest_effect"] = declared + 1
    file.write_bytes(dump_json(content))
    shutil.copytree(there / "studies", here / "studies")
    record = register_depth(here, 0)
    assert record.registration.smallest_effect == declared
    assert any("smallest effect from" in text for text in record.registration_check.mismatches)


def test_nothing_is_imported_into_a_study_that_is_running(exported, copied):
    (folder,) = copied.runs.glob("studies/*")
    lease = acquire_lease(folder)
    shown = call("import", exported, "--runs", copied.runs, code=2)
    lease.release()
    assert "depth is being run under the same conditions by" in shown


def test_an_archive_of_changed_settings_adds_its_starts_to_that_study_alone(exported, tmp_path, recorded):
    call("import", exported, "--runs", tmp_path)
    study = declare("depth", seeds=(0,), overrides={**SHORT, "recipe.epochs": 1})
    settings = Settings.from_environment(tmp_path)
    newest = register_study(prepare_study(study, settings, ONE, [].append))
    reader = open_store(settings).reader
    call("import", exported, "--runs", tmp_path)
    assert reader.read_study("depth", run_id=newest.run_id).starts == newest.starts


def plan_by_other_code(runs: Path) -> str:
    """Plan a recorded trial again, as after an edit of the code; returns the name of its folder, which is not made."""
    (folder,) = runs.glob("studies/*")
    plan = read_manifest(folder)
    first = plan.entries[0]
    again = replace(first, digests={**first.digests, "code": "f" * 16}, folder=first.folder + "-again")
    replace(plan, entries=(again,)).write(folder)
    return first.folder


def test_a_trial_that_was_planned_again_and_never_ended_is_exported_with_its_result(copied, tmp_path):
    plan_by_other_code(copied.runs)
    call("export", "depth", "-o", tmp_path / "depth.zip", "--runs", copied.runs)
    assert "8 trials unpacked" in call("import", tmp_path / "depth.zip", "--runs", tmp_path / "elsewhere")
    record = open_store(Settings.from_environment(tmp_path / "elsewhere")).reader.read_study("depth")
    assert results(record) == results(copied.record)
    assert "nothing to log: all 8 trials are logged" in call("sync", "depth", "--runs", copied.runs)


def test_a_lost_result_is_told_and_not_replaced_by_one_of_other_code(copied, tmp_path):
    name = plan_by_other_code(copied.runs)
    again = copied.runs / "trials" / f"{name}-again"
    shutil.copytree(copied.runs / "trials" / name, again)
    (again / "result.json").unlink()
    shown = call("export", "depth", "-o", tmp_path / "depth.zip", "--runs", copied.runs)
    assert f"left out: {again / 'result.json'} cannot be used: it is missing, though its predictions are here" in shown


def test_the_last_plan_of_a_trial_is_that_of_the_code_that_a_study_has_returned_to(copied):
    name = plan_by_other_code(copied.runs)
    shutil.copytree(copied.runs / "trials" / name, copied.runs / "trials" / f"{name}-again")
    studies.run("depth", seeds=(0, 1), overrides=SHORT, runs=copied.runs, quiet=True, say=[].append)
    (folder,) = copied.runs.glob("studies/*")
    plan = read_manifest(folder)
    assert plan.latest_entries == plan.recorded_entries(Settings.from_environment(copied.runs))
    assert name in {entry.folder for entry in plan.latest_entries}
    assert len(plan.latest_entries) == len(plan.entries) - 1 == 8


def test_a_result_that_differs_is_kept_and_named(exported, copied):
    file = next(copied.runs.glob("trials/*/result.json"))
    changed = json.loads(file.read_text()) | {"times": []}
    file.write_text(json.dumps(changed))
    shown = call("import", exported, "--runs", copied.runs)
    assert f"{file.parent.name}: the result here differs from the archive's, and is kept" in shown
    assert json.loads(file.read_text()) == changed


def test_a_failed_trial_takes_the_result_of_an_archive_where_it_ended(exported, copied):
    file = next(copied.runs.glob("trials/*/result.json"))
    expected = file.read_bytes()
    content = json.loads(expected)
    TrialFolder(file.parent).write_result(failed_result(content["fingerprint"], content["digests"], "out of memory"))
    assert not (file.parent / "predictions.npy").exists()
    assert "1 trial unpacked, 0 left" in call("import", exported, "--runs", copied.runs)
    assert file.read_bytes() == expected
    assert (file.parent / "predictions.npy").exists()


def test_a_failure_in_an_archive_never_replaces_a_result(recorded, copied, tmp_path):
    file = next(copied.runs.glob("trials/*/result.json"))
    content = json.loads(file.read_bytes())
    TrialFolder(file.parent).write_result(failed_result(content["fingerprint"], content["digests"], "out of memory"))
    call("export", "depth", "-o", tmp_path / "failed.zip", "--runs", copied.runs)
    shutil.copytree(recorded.runs, tmp_path / "whole")
    shown = call("import", tmp_path / "failed.zip", "--runs", tmp_path / "whole")
    assert f"{file.parent.name}: the result here differs from the archive's, and is kept" in shown


def test_files_that_an_interrupted_trial_left_are_replaced_by_those_of_the_imported_result(
    exported, tmp_path, recorded
):
    name = next(recorded.runs.glob("trials/*/result.json")).parent.name
    folder = tmp_path / "runs" / "trials" / name
    folder.mkdir(parents=True)
    np.save(folder / "predictions.npy", np.zeros(3, dtype=np.uint16))
    assert "8 trials unpacked, 0 left" in call("import", exported, "--runs", tmp_path / "runs")
    assert TrialFolder(folder).load_result() is not None
    assert results(open_store(Settings.from_environment(tmp_path / "runs")).reader.read_study("depth")) == results(
        recorded.record
    )


def test_an_interrupted_trials_files_that_the_archive_lacks_are_removed_and_its_logs_stay(exported, tmp_path, recorded):
    name = next(recorded.runs.glob("trials/*/result.json")).parent.name
    folder = tmp_path / "runs" / "trials" / name
    folder.mkdir(parents=True)
    left = ("weights.pt", "classifier.npz", "progress.json", "checkpoint.ckpt")
    for file in (*left, "faults.jsonl"):
        (folder / file).write_bytes(b"{}")
    call("import", exported, "--runs", tmp_path / "runs")
    with zipfile.ZipFile(exported) as archive:
        brought = {Path(path).name for path in archive.namelist() if path.startswith(f"trials/{name}/")}
    assert {file.name for file in folder.iterdir()} == brought | {"faults.jsonl"}
    assert not {"weights.pt", "classifier.npz", "checkpoint.ckpt"} & brought
    TrialFolder(folder).verify_file(folder / "predictions.npy")


def listing(changes: dict[str, bytes], source: Path, target: Path) -> Path:
    """A copy with some files replaced, whose manifest has their checksums."""
    with zipfile.ZipFile(source) as archive:
        manifest = json.loads(archive.read(MANIFEST_FILE))
    for path, content in changes.items():
        manifest["files"][path] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    return rewritten(source, target, {**changes, MANIFEST_FILE: json.dumps(manifest).encode()})


@pytest.mark.parametrize(
    ("schema", "remedy"), [(99, "newer than this version's, 1. Update this package."), (0, "older")]
)
def test_an_archive_of_another_version_says_which_to_use(schema, remedy, exported, tmp_path):
    with zipfile.ZipFile(exported) as archive:
        record = json.loads(archive.read("record/record.json")) | {"schema": schema}
    other = listing({"record/record.json": json.dumps(record).encode()}, exported, tmp_path / "other.zip")
    shown = call("report", other, "--runs", tmp_path / "runs", code=2)
    assert f"record/record.json in {other} was stored under schema {schema}" in shown
    assert remedy in shown
    assert "Copy the archive" not in shown
    assert "--runs" not in shown


def test_a_record_that_cannot_be_read_is_named(exported, tmp_path):
    cut = listing({"record/record.json": b'{"schema": 1'}, exported, tmp_path / "cut.zip")
    assert f"record/record.json in {cut} cannot be used" in call("report", cut, "--runs", tmp_path / "runs", code=1)


@pytest.mark.parametrize("path", ["record/record.json", "record/test_labels.npy", "report/index.html"])
def test_a_changed_file_is_refused_by_name_and_nothing_is_unpacked(path, exported, tmp_path):
    with zipfile.ZipFile(exported) as archive:
        content = bytearray(archive.read(path))
    content[len(content) // 2] ^= 1
    damaged = rewritten(exported, tmp_path / "damaged.zip", {path: bytes(content)})
    assert f"{path} in {damaged} is damaged" in call("import", damaged, "--runs", tmp_path / "runs", code=2)
    assert not list(tmp_path.rglob("result.json"))


def with_listed(source: Path, target: Path, path: str) -> Path:
    with zipfile.ZipFile(source) as archive:
        manifest = json.loads(archive.read(MANIFEST_FILE))
    manifest["files"][path] = {"sha256": "0" * 64, "bytes": 1}
    return rewritten(source, target, {path: b"x", MANIFEST_FILE: json.dumps(manifest).encode()})


@pytest.mark.parametrize("path", ["../evil", "/etc/evil", "trials/../../evil", "trials/a\\..\\evil", "other/x"])
def test_a_path_that_leads_out_of_the_folder_is_refused(path, exported, tmp_path):
    hostile = with_listed(exported, tmp_path / "hostile.zip", path)
    shown = call("import", hostile, "--runs", tmp_path / "runs", code=2)
    assert "whose path or size is not that of an archive" in shown
    assert not (tmp_path / "evil").exists()


def test_a_file_that_the_manifest_does_not_list_is_refused(exported, tmp_path):
    hostile = rewritten(exported, tmp_path / "more.zip", {"trials/x/weights.pt": b"x"})
    assert "trials/x/weights.pt is listed but missing, or not listed" in call("report", hostile, code=2)


def test_an_archive_that_would_unpack_to_far_more_is_refused(exported, tmp_path):
    bomb = rewritten(exported, tmp_path / "bomb.zip", {"report/zeros": bytes(300_000_000)})
    with pytest.raises(SettingsError, match="would unpack to"), open_archive(bomb):
        pass


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04" + bytes(100)])
def test_a_file_that_is_no_archive_is_one_clear_line(content, tmp_path):
    file = tmp_path / "depth.zip"
    file.write_bytes(content)
    assert "cannot be read as an archive of `ablate export`" in call("report", file, "--runs", tmp_path, code=2)
    file.unlink()
    assert f"there is no archive {file}" in call("report", file, "--runs", tmp_path, code=2)


@pytest.mark.parametrize("seed", range(60))
def test_no_random_damage_is_accepted_in_what_is_read(seed, exported, tmp_path, recorded):
    """A changed byte is refused, or lies where nothing is read: between the files, or in their names' second copy."""
    random = np.random.default_rng(seed)
    content = bytearray(exported.read_bytes())
    position = int(random.integers(len(content)))
    content[position] ^= 1 << int(random.integers(8))
    damaged = tmp_path / "depth.zip"
    damaged.write_bytes(content)
    refusal = ""
    try:
        with open_archive(damaged) as archive:
            archive.verify()
            record = archive.read_record()
    except SettingsError as error:
        refusal = str(error)
    assert str(damaged) in refusal or results(record) == results(recorded.record)


def test_a_study_without_trial_folders_is_exported_for_reading(recorded, tmp_path):
    runs = tmp_path / "runs"
    shutil.copytree(recorded.runs, runs, ignore=shutil.ignore_patterns("trials", "studies"))
    file = tmp_path / "depth.zip"
    assert "can be read, but not imported" in call("export", "depth", "-o", file, "--runs", runs)
    assert results(read_archived_record(file)) == results(recorded.record)
    assert "a record without trial folders" in call("import", file, "--runs", tmp_path / "other", code=2)
