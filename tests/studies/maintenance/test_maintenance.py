"""`ablate sync`, `ablate doctor` and `ablate gc`: what they find, what they do, and what they leave alone."""

import json
import os
import shutil
import sqlite3
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from lightning_modules.stored_files import dump_json
from studies.cli.app import main
from studies.maintenance import environment, runs_folder
from studies.settings import Settings
from studies.storage import lease as leases
from studies.storage import manifest
from studies.storage.trial_folder import TrialFolder
from studies.storage.trial_requests import Cancellation
from studies.tracking.runs import CHECKSUM_TAG
from studies.tracking.store import open_store

pytestmark = pytest.mark.xdist_group("one recorded study")


def call(*arguments, code=0):
    shown = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert shown.exit_code == code, shown.output
    return " ".join(shown.output.split())


def folder_of_study(copied):
    return manifest.list_study_folders(Settings.from_environment(copied.runs))[0]


def entries(copied):
    return manifest.read_manifest(folder_of_study(copied)).entries


def runs_of(copied):
    return {(run.run_id, run.name, run.status, run.is_open) for run in copied.store.inspector.list_runs()}


def results(record):
    return {(trial.arm, trial.seed): trial.result for trial in record.trials}


def dead_holder():
    return replace(leases.LeaseHolder.of_this_process(), born="1")


def leave_lease(folder, holder):
    folder.mkdir(exist_ok=True)
    (folder / "lease-000001.json").write_text(json.dumps(vars(holder)))


# -- sync ----------------------------------------------------------------------------------------------------------


def test_a_store_that_was_lost_is_made_again_from_the_folders(copied):
    (copied.runs / "mlflow.db").unlink()
    assert "depth under digits: 8 of 8 trials logged now" in call("sync", "depth", "--runs", copied.runs)
    record = copied.store.reader.read_study("depth", "digits")
    assert results(record) == results(copied.record)
    assert np.array_equal(record.trials[0].result.predictions, copied.record.trials[0].result.predictions)
    assert record.registration == copied.record.registration
    assert record.starts[0].hardware == "none: it logged, and trained nothing"
    before = runs_of(copied)
    assert "nothing to log: all 8 trials are logged" in call("sync", "--runs", copied.runs)
    assert runs_of(copied) == before
    assert len(copied.store.reader.read_study("depth").starts) == 1


def test_what_a_killed_driver_left_open_is_logged_and_closed_and_no_other_study_comes_to_the_front(copied):
    parent = copied.record.run_id
    tag = copied.store.runs.client.get_run(parent).data.tags["started"]
    half = copied.record.trials[2]
    copied.store.runs.client.set_tag(half.run_id, "status", "running")
    for run_id in (half.run_id, parent):
        copied.store.runs.client.update_run(run_id, status="RUNNING")
    shown = call("sync", "depth", "--runs", copied.runs)
    assert "1 of 8 trials logged now, 7 were logged before" in shown
    assert results(copied.store.reader.read_study("depth")) == results(copied.record)
    assert copied.store.runs.client.get_run(parent).data.tags["started"] == tag
    assert not any(run.is_open for run in copied.store.inspector.list_runs())


def test_a_trial_that_has_not_ended_is_said_and_the_study_stays_open_for_it(copied):
    lost = entries(copied)[3].trial_folder(Settings.from_environment(copied.runs))
    shutil.rmtree(lost.folder)
    (copied.runs / "mlflow.db").unlink()
    shown = call("sync", "--runs", copied.runs)
    settings = " ".join(f"--set {path}={value}" for path, value in copied.record.registration.overrides.items())
    command = f"ablate run depth --protocol digits {settings} --seeds 2 --runs {copied.runs}"
    assert f"7 of 8 trials logged now; 1 of 8 have not ended: `{command}` trains them" in shown
    parent = copied.store.reader.read_study("depth").run_id
    assert copied.store.runs.client.get_run(parent).info.status == "KILLED"


def test_of_a_trial_that_was_planned_twice_the_later_plan_is_logged(copied):
    """Code changed between two starts: what the older code gave must not come out on top."""
    old, folder = entries(copied)[0], folder_of_study(copied)
    newer = replace(old, digests={**old.digests, "code": "ffffffffffffffff"}, folder=f"{old.folder}-newer")
    ledger = replace(manifest.read_manifest(folder), entries=(newer,))
    spool = old.trial_folder(Settings.from_environment(copied.runs))
    result = replace(
        spool.read_result(), digests=newer.digests, metrics={**spool.read_result().metrics, "test_loss": 1.5}
    )
    newer.trial_folder(Settings.from_environment(copied.runs)).write_result(result)
    ledger.write(folder)
    assert len(manifest.read_manifest(folder).latest_entries) == 8
    (copied.runs / "mlflow.db").unlink()
    call("sync", "--runs", copied.runs)
    logged = copied.store.reader.read_study("depth").find_trial(old.trial.arm, old.trial.seed)
    assert logged.result.metrics["test_loss"] == 1.5


def test_a_study_that_is_being_run_is_left_to_who_runs_it(copied):
    lease = leases.acquire_lease(folder_of_study(copied))
    before = runs_of(copied)
    assert f"process {os.getpid()} on " in call("sync", "--runs", copied.runs)
    assert runs_of(copied) == before
    lease.release()


def test_a_study_that_was_never_run_here_is_one_clear_line(copied, tmp_path):
    assert "holds no study 'dept'. Did you mean 'depth'?" in call("sync", "dept", "--runs", copied.runs, code=2)
    assert "nothing has been run with this folder yet" in call("sync", "--runs", tmp_path / "none", code=2)


@pytest.mark.parametrize(("schema", "words"), [(2, "newer than this version's, 1. Update this"), (0, "is older than")])
def test_a_plan_of_another_schema_is_said_and_nothing_is_logged_or_freed(copied, schema, words):
    file = folder_of_study(copied) / "study.json"
    plan = json.loads(file.read_text())
    del plan["checksum"]
    file.write_bytes(
        dump_json(plan | {"schema": schema})
    )  # whole: with a checksum that no longer matches, it is damaged
    assert words in call("sync", "--runs", copied.runs, code=2)
    shown = call("gc", "--yes", "--weights", "--runs", copied.runs)
    assert words in shown
    assert "Until this is fixed, trial folders and weights are kept." in shown
    assert len(list(copied.runs.glob("trials/*/weights.pt"))) == 8
    assert words in call("doctor", "--runs", copied.runs, code=1)


# -- doctor --------------------------------------------------------------------------------------------------------


def told(copied, *arguments, code=0):
    return json.loads(CliRunner().invoke(main, ["doctor", "--json", "--runs", str(copied.runs), *arguments]).output)


def alarms(copied):
    return [(check["level"], check["told"], check["do"]) for check in told(copied) if check["level"] != "ok"]


def test_where_all_is_well_the_doctor_says_so_and_changes_nothing(recorded):
    before = runs_of(recorded)
    shown = call("doctor", "--runs", recorded.runs, "--protocol", "digits")
    for text in ("ok installation: Python", "CPU cores", "digits: 10 classes", "8 trials", "nothing to free"):
        assert text in shown
    assert "warning" not in shown
    assert runs_of(recorded) == before


def test_a_fresh_machine_is_no_error(tmp_path):
    shown = call("doctor", "--runs", tmp_path / "runs")
    assert "the first `ablate run` creates it" in shown
    assert not (tmp_path / "runs").exists()


def test_versions_outside_the_supported_range_are_errors(monkeypatch):
    version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "1.0" if name == "mlflow" else version(name))
    errors = [check for check in environment.check_installation() if check.level == "error"]
    assert [check.finding for check in errors] == ["mlflow 1.0 is installed; supported: <4,>=3.10"]
    assert errors[0].advice == "pip install 'mlflow<4,>=3.10'"


def test_data_that_are_missing_are_said_and_not_downloaded_and_those_that_are_wrong_are_an_error(tmp_path):
    arguments = ("--protocol", "cifar10", "--data-root", tmp_path / "data", "--runs", tmp_path / "runs")
    shown = call("doctor", *arguments)
    assert f"warning data: cifar10 is not in {tmp_path / 'data'} -> the first `ablate run` downloads it" in shown
    (tmp_path / "data" / "train").mkdir(parents=True)
    assert "error data: " in call("doctor", *arguments, code=1)


def test_a_driver_that_died_and_what_it_left_half_are_found(copied):
    leave_lease(folder_of_study(copied), dead_holder())
    half = copied.record.trials[0]
    copied.store.runs.client.set_tag(half.run_id, "status", "running")
    copied.store.runs.client.update_run(copied.record.run_id, status="RUNNING")
    texts = [text for _, text, _ in alarms(copied)]
    assert "the driver of depth died during the run" in texts
    name = "depth under digits (recipe.epochs=2, recipe.batch_size=64, scale.width=0.0625)"
    assert f"{name} is marked as running, but " in " ".join(texts)
    assert any(text.startswith("1 trial logged in part, such as depth: ") for text in texts)
    assert "not in the tracking store: 1 ended trial of depth" in texts
    call("sync", "--runs", copied.runs)
    assert alarms(copied) == []


def test_a_study_whose_run_was_deleted_is_found_and_logged_again_from_its_folder(copied):
    copied.store.runs.client.delete_run(copied.record.run_id)
    assert "`ablate sync` logs its trials again: ablate sync depth" in call(
        "report", "depth", "--runs", copied.runs, code=2
    )
    findings = " ".join(finding for _, finding, _ in alarms(copied))
    assert "depth under digits has no run in the tracking store" in findings
    assert any("`ablate sync depth`" in action for _, _, action in alarms(copied))
    call("sync", "depth", "--runs", copied.runs)
    assert not alarms(copied)
    client = copied.store.runs.client
    client.set_tag(copied.store.reader.read_study("depth").run_id, "schema", "99")
    assert "has no run" not in str(alarms(copied))  # it has one, of another version


@pytest.mark.parametrize("tag", ["arm", "seed", "fingerprint"])
def test_a_cancelled_trial_that_lost_a_tag_is_named_and_the_study_is_read_without_it(copied, tag):
    client, run = copied.store.runs.client, next(run for run in copied.store.inspector.list_runs() if run.kind == "fit")
    client.set_tag(run.run_id, "kind", "cancelled")
    client.delete_tag(run.run_id, f"{CHECKSUM_TAG}tags")
    assert copied.store.reader.cancelled_trials(copied.record.run_id)
    client.delete_tag(run.run_id, tag)
    assert not copied.store.reader.cancelled_trials(copied.record.run_id)
    record = copied.store.reader.read_study("depth")
    assert f"it lacks the tag {tag}" in " ".join(record.damages)
    assert f"it lacks the tag {tag}" in json.dumps(told(copied, "--deep"))


def test_a_cancellation_is_withdrawn_with_those_of_its_dependents_and_with_no_others(copied):
    withdrawn, other = (
        Cancellation(arm="A", seed=0, reason="", user="me"),
        Cancellation(arm="A", seed=1, reason="", user="me"),
    )
    reasons = [
        withdrawn.describe(),
        other.describe(),
        withdrawn.describe_for_dependents(),
        other.describe_for_dependents(),
    ]
    assert reasons[0] == reasons[1]  # cancelled by one user within one minute
    client, runs = copied.store.runs.client, [run for run in copied.store.inspector.list_runs() if run.kind == "fit"]
    for run, reason in zip(runs, reasons, strict=False):
        client.set_tag(run.run_id, "kind", "cancelled")
        client.set_tag(run.run_id, "reason", reason)
    fingerprint = client.get_run(runs[0].run_id).data.tags["fingerprint"]
    copied.store.writer.withdraw_cancellation(copied.record.run_id, fingerprint, withdrawn.describe_for_dependents())
    left = {run.run_id for run in copied.store.inspector.list_runs()}
    assert [run.run_id in left for run in runs[:4]] == [False, True, False, True]


def test_a_living_driver_is_no_alarm(copied):
    lease = leases.acquire_lease(folder_of_study(copied))
    copied.store.runs.client.update_run(copied.record.run_id, status="RUNNING")
    assert alarms(copied) == []
    lease.release()


def test_files_that_are_gone_and_folders_that_nobody_lists_are_found(copied):
    shutil.rmtree(copied.runs / "studies")
    copied.store.runs.client.delete_run(copied.record.trials[0].run_id)
    folder = copied.runs / "gone"
    with sqlite3.connect(copied.runs / "mlflow.db") as database:
        database.execute("UPDATE runs SET artifact_uri = ?", (folder.as_uri(),))
    found = alarms(copied)
    assert ("error", f"7 of the last 7 trials have no result.json, such as in {folder.as_uri()}") in [
        each[:2] for each in found
    ]
    assert any("no study here lists 8 of the trial folders" in text for _, text, _ in found)


@pytest.mark.parametrize(("schema", "words"), [("2", "newer"), ("0", "older")])
def test_runs_of_another_schema_are_counted_and_a_report_of_them_is_refused(copied, schema, words):
    for trial in copied.record.trials[:3]:
        copied.store.runs.client.set_tag(trial.run_id, "schema", schema)
    assert any(f"3 runs have schema {schema}, {words} than this version's, 1" in text for _, text, _ in alarms(copied))
    shown = call("report", "depth", "--runs", copied.runs, code=1)
    assert f"was recorded under schema {schema}, which is {words} than this version's, 1" in shown


def test_a_database_of_another_mlflow_is_an_error_with_the_command_that_mends_it(copied):
    with sqlite3.connect(copied.runs / "mlflow.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '0584bdc529eb'")
    (alarm,) = [each for each in alarms(copied) if each[0] == "error"]
    assert alarm[2] == f"back it up, then run `mlflow db upgrade sqlite:///{copied.runs}/mlflow.db`"


def test_a_database_that_is_no_database_is_an_error(copied):
    (copied.runs / "mlflow.db").write_bytes(b"nothing of SQLite" * 1000)
    assert any(level == "error" and "is damaged (file is not a database)" in text for level, text, _ in alarms(copied))


def test_the_file_system_under_the_record_is_known():
    mounts = runs_folder.file_system_type(Path("/proc/self"))
    assert mounts == "proc"


# -- gc ------------------------------------------------------------------------------------------------------------


def old(path):
    then = time.time() - 3 * 86400
    for each in (path, *path.glob("*")) if path.is_dir() else (path,):
        os.utime(each, (then, then))


def spools(copied):
    return [entry.trial_folder(Settings.from_environment(copied.runs)) for entry in entries(copied)]


def test_what_the_dead_left_is_shown_first_and_freed_on_request(copied):
    first, second, *_ = spools(copied)
    first.checkpoint.write_bytes(b"x" * 4000)
    (first.folder / "weights.pt.abc.partial").write_bytes(b"y" * 500)
    old(first.folder / "weights.pt.abc.partial")
    (first.folder / "result.json.def.partial").write_bytes(b"z")  # may still be written
    leave_lease(second.folder, dead_holder())
    stray = copied.runs / "trials" / "0123456789abcdef-1-2-3"
    stray.mkdir()
    (stray / "checkpoint.ckpt").write_bytes(b"w" * 3000)
    old(stray)
    shown = call("gc", "--runs", copied.runs)
    for text in ("checkpoint its trial has ended 1 4.0 kB", "partially written 1 500 B", "no study lists it 1 3.0 kB"):
        assert text in shown
    assert "would be freed; nothing was" in shown
    assert stray.exists()
    assert first.checkpoint.exists()
    assert "7.7 kB freed" in call("gc", "--yes", "--runs", copied.runs)
    assert not stray.exists()
    assert not first.checkpoint.exists()
    assert not list(second.folder.glob("lease*"))
    assert (first.folder / "result.json.def.partial").exists()
    assert all(spool.read_result() and spool.weights.exists() for spool in spools(copied))
    assert "nothing to free" in call("gc", "--yes", "--runs", copied.runs)


def test_a_folder_whose_lease_is_alive_is_not_touched(copied):
    first, *_ = spools(copied)
    first.checkpoint.write_bytes(b"x")
    (first.folder / "a.partial").write_bytes(b"y")
    old(first.folder / "a.partial")
    stray = copied.runs / "trials" / "0123456789abcdef-1-2-3"
    held = [leases.acquire_lease(first.folder), leases.acquire_lease(stray)]
    shown = call("gc", "--yes", "--weights", "--runs", copied.runs)
    assert "freed" in shown  # the weights of the other folders
    assert first.checkpoint.exists()
    assert (first.folder / "a.partial").exists()
    assert first.weights.exists()
    assert stray.exists()
    for lease in held:
        lease.release()


def test_while_a_study_runs_no_folder_and_no_weights_are_freed(copied):
    lease = leases.acquire_lease(folder_of_study(copied))
    shown = call("gc", "--yes", "--weights", "--runs", copied.runs)
    assert "is running a study: trial folders and weights are kept" in shown
    assert all(spool.weights.exists() for spool in spools(copied))
    lease.release()


def test_weights_are_freed_on_request_where_they_are_recorded_and_a_rerun_trains_nothing(copied):
    copied.store.runs.client.delete_run(copied.record.trials[0].run_id)
    unrecorded = copied.record.trials[0].result.fingerprint
    call("gc", "--yes", "--weights", "--runs", copied.runs)
    left = [spool.folder.name for spool in spools(copied) if spool.weights.exists()]
    assert [name.partition("-")[0] for name in left] == [unrecorded]
    assert "1 of 8 trials logged now" in call("sync", "--runs", copied.runs)
    assert results(copied.store.reader.read_study("depth")) == results(copied.record)


def test_a_trial_trained_again_by_other_code_frees_the_older_folder_once_it_has_ended(copied):
    entry, folder = entries(copied)[0], folder_of_study(copied)
    settings = Settings.from_environment(copied.runs)
    newer = replace(entry, digests={**entry.digests, "code": "f" * 16}, folder=f"{entry.folder}-newer")
    replace(manifest.read_manifest(folder), entries=(newer,)).write(folder)
    assert "nothing to free" in call("gc", "--yes", "--runs", copied.runs)
    newer.trial_folder(settings).write_result(
        replace(entry.trial_folder(settings).read_result(), digests=newer.digests)
    )
    assert "trained since by other code, data or platform 1" in call("gc", "--yes", "--runs", copied.runs)
    assert not entry.trial_folder(settings).folder.exists()
    assert newer.trial_folder(settings).read_result()


def test_decoded_images_that_nothing_reads_any_more_are_freed(copied):
    used, unused = copied.runs / "cache" / "folder-0123456789abcdef", copied.runs / "cache" / "folder-fedcba9876543210"
    for folder, days in ((used, 29), (unused, 31)):
        folder.mkdir(parents=True)
        (folder / "train_images.npy").write_bytes(b"x" * 5000)
        (folder / "about.json").write_text("{}")
        read_at = time.time() - days * 86400
        os.utime(folder / "about.json", (read_at, read_at))
    assert "unused for 30 days 1" in call("gc", "--yes", "--runs", copied.runs)
    assert used.exists()
    assert not unused.exists()


def test_who_comes_for_a_folder_as_it_is_freed_waits_and_then_begins_anew(copied):
    """Freeing holds the lease; the folder then goes at once, so nobody ever finds half a trial."""
    from studies.maintenance import cleanup

    stray = copied.runs / "trials" / "0123456789abcdef-1-2-3"
    stray.mkdir()
    old(stray)
    settings = Settings.from_environment(copied.runs)
    found = cleanup.find_garbage(settings, open_store(settings), log=print)
    lease = leases.acquire_lease(stray)
    assert cleanup.free_garbage(found, settings) == 0
    assert stray.exists()
    lease.release()
    cleanup.free_garbage(found, settings)
    assert not stray.exists()
    assert TrialFolder(stray).read_result() is None


@pytest.mark.slow
def test_a_logged_model_goes_once_its_trial_was_trained_again_by_other_code(copied, small):
    from lightning_modules.networks.build import build_network

    store, settings = copied.store, Settings.from_environment(copied.runs)
    entry = entries(copied)[0]
    study_run = copied.record.run_id

    def log_model():
        runs = store.writer.find_runs_without_model(study_run)
        run = next(run for run in runs if run.data.tags["fingerprint"] == entry.trial.fingerprint)
        store.writer.log_model(run, build_network(small.network, small.scale), small.scale.image_shape)
        return run.info.run_id

    older = log_model()
    assert "logged model" not in call("gc", "--dry-run", "--runs", copied.runs)
    key = replace(entry.key, code="another")
    registration = copied.record.registration
    run_id = store.writer.start_trial(study_run, entry.trial, key, entry.tags, registration)
    store.writer.end_trial(run_id, replace(entry.trial_folder(settings).read_result(), digests={"code": "another"}))
    newer = log_model()
    assert newer == run_id != older

    models = {model.source_run_id: model for model in store.runs.iterate_models()}
    files = Path(models[older].artifact_location.removeprefix("file://"))
    size = sum(file.stat().st_size for file in files.rglob("*") if file.is_file())
    listed = json.loads(CliRunner().invoke(main, ["gc", "--dry-run", "--json", "--runs", str(copied.runs)]).stdout)
    (found,) = [row for row in listed["found"] if row["kind"] == "logged model"]
    assert (found["size"], found["why"]) == (size, "trained since by other code, data or platform")
    assert files.exists()
    assert "logged model trained since by other code, data or platform 1" in call("gc", "--yes", "--runs", copied.runs)
    assert not files.exists()
    assert [model.source_run_id for model in store.runs.iterate_models()] == [newer]
    assert "logged model" not in call("gc", "--dry-run", "--runs", copied.runs)


def test_a_repair_after_a_killed_driver_replaces_what_is_damaged(copied):
    store, run_id = copied.store, copied.record.run_id
    store.writer.set_run_status(run_id, "RUNNING")  # as a driver that was killed leaves it
    file = next((copied.runs / "artifacts").glob("depth/*/artifacts/predictions.npy"))
    file.write_bytes(b"damaged")
    assert "1 damaged run repaired" in call("sync", "depth", "--repair", "--runs", copied.runs)
    assert copied.store.reader.read_study("depth").damages == ()
