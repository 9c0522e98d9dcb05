"""From a name to the record, through real Ray and real MLflow; and again, and after faults."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

import studies
from studies.execution.interrupts import run_last_actions
from studies.maintenance.sync import load_planned_result
from studies.runner import driver
from studies.runner.provenance import git_revision, make_study_start
from studies.runner.stage import StageRunner
from studies.settings import Settings, SettingsError
from studies.storage import lease as leases
from studies.storage import study_status
from studies.storage.manifest import read_manifest
from studies.storage.trial_folder import TrialFolder
from studies.tracking.errors import TrackingError
from studies.tracking.reader import StudyReader
from studies.tracking.store import open_store
from studies.tracking.writer import StudyWriter
from tests.studies.conftest import ONE, SHORT

pytestmark = [pytest.mark.xdist_group("one recorded study"), pytest.mark.usefixtures("one_ray")]
ROOT = Path(studies.__file__).parent.parent


def again(recorded, **keywords):
    news = []
    record = studies.run(
        "depth",
        seeds=keywords.pop("seeds", (0, 1)),
        overrides={**SHORT, **keywords.pop("overrides", {})},
        runs=recorded.runs,
        resources=ONE,
        quiet=True,
        say=news.append,
        **keywords,
    )
    return record, news


def children(recorded):
    client = recorded.store.runs.client
    experiment_id = client.get_run(recorded.record.run_id).info.experiment_id
    return [run for run in client.search_runs([experiment_id]) if run.data.tags["kind"] == "fit"]


def test_every_arm_is_recorded_under_every_seed(recorded):
    cells = {(trial.arm, trial.seed) for trial in recorded.record.trials}
    assert cells == {(arm, seed) for arm in "ABDE" for seed in (0, 1)}
    assert len(children(recorded)) == 8


def test_a_child_run_says_what_it_is(recorded):
    run = next(run for run in children(recorded) if (run.data.tags["arm"], run.data.tags["seed"]) == ("D", "1"))
    tags = run.data.tags
    expected = {"study": "depth", "protocol": "digits", "kind": "fit", "mlflow.parentRunId": recorded.record.run_id}
    assert {name: tags[name] for name in expected} == expected
    assert {"fingerprint", "data", "code", "platform", "revision", "status", "schema"} <= set(tags)
    assert run.data.params["recipe.epochs"] == "2"
    assert run.data.params["network.stages.2.convs.2.kernel"] == "3"
    assert {
        "test_error",
        "final_validation_error",
        "validation_error",
        "train_seconds",
        "images_per_second",
        "peak_memory_bytes",
    } <= set(run.data.metrics)


def test_curves_are_recorded_epoch_by_epoch(recorded):
    run = children(recorded)[0]
    history = recorded.store.runs.client.get_metric_history(run.info.run_id, "train_loss")
    assert [metric.step for metric in history][:2] == [0, 1]


def test_a_child_run_keeps_setup_result_and_predictions(recorded):
    run = children(recorded)[0]
    names = {file.path for file in recorded.store.runs.client.list_artifacts(run.info.run_id)}
    assert {"setup.json", "result.json", "predictions.npy"} <= names


def test_the_parent_run_keeps_registration_labels_and_packed_results(recorded):
    client, run_id = recorded.store.runs.client, recorded.record.run_id
    assert {"registration.json", "starts", "test_labels.npy", "results.parquet", "curves.parquet"} <= {
        file.path for file in client.list_artifacts(run_id)
    }
    path = mlflow.artifacts.download_artifacts(
        run_id=run_id, artifact_path="curves.parquet", tracking_uri=recorded.store.runs.settings.tracking_uri
    )
    curves = pd.read_parquet(path)
    assert set(curves["arm"]) == set("ABDE")
    assert len(curves[curves["metric"] == "train_loss"]) == 16


def test_what_is_read_back_is_what_the_trials_wrote(recorded):
    for trial in recorded.record.trials:
        folder = next((recorded.runs / "trials").glob(f"{trial.result.fingerprint}-*"))
        written = TrialFolder(folder).read_result()
        assert trial.result == written
        np.testing.assert_array_equal(trial.result.predictions, written.predictions)
        wrong = (trial.result.predictions != recorded.record.labels).mean()
        assert trial.result.metrics["test_error"] == pytest.approx(100 * wrong)


def test_the_registration_keeps_claims_and_smallest_effect(recorded):
    registration = recorded.record.registration
    assert [claim.sentence for claim in registration.claims] == ["Test error falls from A to B to D to E."]
    assert registration.smallest_effect == 0.5
    assert registration.reference.values["A"] == 29.6
    assert registration.properties["E"]["weight_layers"] == 19


@pytest.mark.parametrize("cut_off_at", ["log_file", "log_batch"])
def test_a_registration_that_was_cut_off_is_gone_on_with(copied, tmp_path, monkeypatch, cut_off_at):
    settings = Settings.from_environment(tmp_path / "other")
    settings.create_folders()
    store, registration = open_store(settings), copied.record.registration

    def gone(*_, **__):
        raise mlflow.exceptions.MlflowException("the server has gone away")

    tags = {"study": "depth", "protocol": "digits", "revision": "0"}
    with monkeypatch.context() as patched:
        patched.setattr(store.runs.client if cut_off_at == "log_batch" else type(store.runs), cut_off_at, gone)
        with pytest.raises(mlflow.exceptions.MlflowException):
            store.writer.register_study(registration, "c0", tags)
    (half,) = store.inspector.list_runs()
    assert store.writer.register_study(registration, "c0", tags) == half.run_id
    other = store.writer.register_study(registration, "c1", tags)
    assert sorted(run.kind for run in store.inspector.list_runs()) == ["study", "study"]
    assert store.writer.register_study(registration, "c1", tags) == other
    assert store.reader.read_study("depth", run_id=half.run_id).registration == registration


def test_a_second_run_trains_nothing_and_says_so(recorded):
    record, news = again(recorded)
    assert "nothing to train: all 8 trials have ended" in news
    assert [trial.result for trial in record.trials] == [trial.result for trial in recorded.record.trials]
    assert len(children(recorded)) == 8


def test_what_the_record_lost_is_logged_from_the_spool_without_training(copied):
    for run in children(copied)[:3]:
        copied.store.runs.client.delete_run(run.info.run_id)
    record, news = again(copied)
    assert "nothing to train: all 8 trials have ended; 3 logged that were trained before" in news
    assert {(trial.arm, trial.seed): trial.result for trial in record.trials} == {
        (trial.arm, trial.seed): trial.result for trial in copied.record.trials
    }


def test_a_run_that_was_cut_off_is_replaced_and_not_doubled(copied):
    run = children(copied)[0]
    copied.store.runs.client.set_tag(run.info.run_id, "status", "running")
    copied.store.runs.client.update_run(run.info.run_id, status="RUNNING")
    record, _ = again(copied)
    assert len(children(copied)) == 8
    assert all(trial.state != "running" for trial in record.trials)


def test_a_trial_of_another_study_is_taken_over_and_names_its_original(copied):
    store = copied.store
    store.runs.client.set_tag(copied.record.run_id, "study", "another study")
    shutil.rmtree(copied.runs / "trials")
    record, news = again(copied)
    assert any("8 reused from earlier trainings" in line for line in news)
    originals = {trial.run_id for trial in copied.record.trials}
    assert {trial.reused_from for trial in record.trials} == originals
    assert [trial.result for trial in record.trials] == [trial.result for trial in copied.record.trials]


def test_trials_that_were_taken_over_are_in_the_study_s_manifest(copied):
    """By the manifest alone, `ablate export`, `latency` and `sync` know the networks and results of a study."""
    copied.store.runs.client.set_tag(copied.record.run_id, "study", "another study")
    shutil.rmtree(copied.runs / "studies")
    _, news = again(copied)
    assert any("8 reused from earlier trainings" in line for line in news)
    (folder,) = (copied.runs / "studies").glob("depth-*")
    manifest = read_manifest(folder)
    trials = {(trial.arm, trial.seed) for trial in copied.record.trials}
    assert {(entry.trial.arm, entry.trial.seed) for entry in manifest.entries} == trials
    settings = Settings.from_environment(copied.runs)
    assert all(load_planned_result(entry, settings, manifest.labels) for entry in manifest.entries)
    written = (folder / "study.json").stat().st_mtime_ns
    again(copied)
    assert (folder / "study.json").stat().st_mtime_ns == written


def test_a_study_whose_experiment_was_renamed_is_found_and_recorded_once(copied):
    client = copied.store.runs.client
    client.rename_experiment(client.get_experiment_by_name("depth").experiment_id, "my favorite")
    record, news = again(copied)
    assert "nothing to train: all 8 trials have ended" in news
    assert record.run_id == copied.record.run_id
    assert len(children(copied)) == 8
    assert client.get_experiment_by_name("depth") is None


def test_a_study_that_is_not_there_is_said_with_what_is(recorded):
    with pytest.raises(TrackingError, match=r"holds no study 'dept'\. Did you mean 'depth'\? It holds: depth under"):
        recorded.store.reader.read_study("dept")
    with pytest.raises(TrackingError, match="under the protocol 'cifar10'"):
        recorded.store.reader.read_study("depth", "cifar10")


def command(*arguments, runs, **keywords):
    return [sys.executable, "-W", "ignore", "-m", "studies.cli", *arguments, "--runs", str(runs)]


def study_line(runs):
    arguments = ["run", "depth", "--seeds", "1", "--max-concurrent", "1"]
    for path, value in SHORT.items():
        arguments += ["--set", f"{path}={value}"]
    return command(*arguments, runs=runs)


def assert_same_bits(record, recorded):
    once = {(trial.arm, trial.seed): trial.result for trial in recorded.record.trials if trial.seed == 0}
    assert {(trial.arm, trial.seed) for trial in record.trials} == set(once)
    for trial in record.trials:
        assert trial.result.metrics == once[trial.arm, trial.seed].metrics
        assert trial.result.evidence == once[trial.arm, trial.seed].evidence


def test_an_interrupted_study_goes_on_from_there_with_the_same_bits(recorded, tmp_path):
    """Ctrl-C in mid-study: a clean end, whole trials kept; the next call trains the rest."""
    line = study_line(tmp_path / "runs")
    process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    spool = tmp_path / "runs" / "trials"
    deadline = time.monotonic() + 120
    while not list(spool.glob("*/result.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    seen = study_status.find_status(Settings.from_environment(tmp_path / "runs"), "depth")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "the same command resumes from there" in errors
    assert "Traceback" not in errors
    kept = {file: file.stat().st_mtime_ns for file in spool.glob("*/result.json")}
    assert 1 <= len(kept) < 4
    assert seen.state == "running"
    assert seen.owner.startswith(f"process {process.pid} on ")
    assert {"running", "finished", "non-finite", "at chance"} & {row.state for row in seen.trials}
    left = study_status.find_status(Settings.from_environment(tmp_path / "runs"), "depth")
    assert left.description == "not running; `ablate run` resumes it"
    assert sum(row.has_ended for row in left.trials) == len(kept)
    fingerprints = {file.parent.name.partition("-")[0] for file in kept}
    reader = open_store(Settings.from_environment(tmp_path / "runs")).reader
    late = len(kept) - len(reader.ended_trials(fingerprints))  # ended as the study did: logged now
    record, news = again(replace(recorded, runs=tmp_path / "runs"), seeds=(0,))
    told = f"; {late} logged that were trained before" if late else ""
    assert f"{4 - len(kept)} of 4 trials to train{told}" in news
    assert all(file.stat().st_mtime_ns == stamp for file, stamp in kept.items())
    assert_same_bits(record, recorded)


def test_a_trial_that_failed_is_tried_again_and_its_first_attempt_stays(copied):
    trial = copied.record.find_trial("B", 1)
    failed = replace(trial.result, status="failed", metrics={}, predictions=None, error="Traceback: out of luck")
    folder = next((copied.runs / "trials").glob(f"{failed.fingerprint}-*"))
    shutil.rmtree(folder)
    TrialFolder(folder).write_result(failed)
    copied.store.writer.end_trial(trial.run_id, failed)
    record, news = again(copied)
    assert "1 of 8 trials to train" in news
    assert record.find_trial("B", 1).result.metrics == trial.result.metrics
    attempts = [run for run in children(copied) if (run.data.tags["arm"], run.data.tags["seed"]) == ("B", "1")]
    assert sorted(run.data.tags["status"] for run in attempts) == sorted(["failed", trial.state])


def test_a_trial_that_another_process_ends_as_it_is_to_be_trained_is_recorded_with_its_curves(
    copied, monkeypatch, tmp_path
):
    trial = copied.record.find_trial("B", 1)
    folder = next((copied.runs / "trials").glob(f"{trial.result.fingerprint}-*"))
    copied.store.runs.client.delete_run(trial.run_id)
    theirs = shutil.move(folder, tmp_path / "theirs")
    train = StageRunner.train_trials

    def late(stage, *arguments, **keywords):
        shutil.copytree(theirs, folder, dirs_exist_ok=True)
        train(stage, *arguments, **keywords)

    monkeypatch.setattr(StageRunner, "train_trials", late)
    record, news = again(copied)
    assert "1 of 8 trials to train" in news
    found = record.find_trial("B", 1)
    assert found.result == trial.result
    history = copied.store.runs.client.get_metric_history(found.run_id, "train_loss")
    assert [each.value for each in history] == list(trial.result.curves["train_loss"])


def trial_processes(driver):
    """Processes that train: forked by a server of processes, below a driver."""
    parents, forking = {}, set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if b"fork_server.run_server(" in (folder / "cmdline").read_bytes():
                forking.add(int(folder.name))
        except OSError:
            continue
    for number in forking:
        ancestors, above = set(), number
        while above in parents:
            above = parents[above]
            ancestors.add(above)
        if driver in ancestors and parents[number] in forking:
            yield number


def test_a_driver_whose_study_was_taken_over_closes_nothing(copied, monkeypatch):
    """As one that was suspended for longer than a lease lasts: the runs are those of the new driver."""
    news = []

    def take_over(study_run, *_, **__):
        (lease,) = study_run.context.study_folder.glob("lease-*.json")
        number = int(lease.stem.partition("-")[2])
        shutil.copy(lease, lease.with_name(f"lease-{number + 1:06d}.json"))
        raise KeyboardInterrupt

    monkeypatch.setattr(driver, "_train_study", take_over)
    monkeypatch.setattr(StudyWriter, "close_study", lambda *_, **__: pytest.fail("closed"))
    with pytest.raises(KeyboardInterrupt):
        studies.run("depth", seeds=(0, 1), overrides=SHORT, runs=copied.runs, quiet=True, say=news.append)
    assert "another process has taken depth over and goes on with it" in news


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_study_that_is_closed_before_a_late_end_is_closed_once_and_not_called_taken_over(
    goes_on, copied, monkeypatch
):
    """The thread that waits for Ray may go on just after, with an interrupt or with an answer."""
    news, closed = [], []

    def end_late(*_, **__):
        run_last_actions()
        if not goes_on:
            raise KeyboardInterrupt

    monkeypatch.setattr(driver, "_train_study", end_late)
    monkeypatch.setattr(StudyWriter, "close_study", lambda *_, complete, **__: closed.append(complete) or ())
    with nullcontext() if goes_on else pytest.raises(KeyboardInterrupt):
        studies.run("depth", seeds=(0, 1), overrides=SHORT, runs=copied.runs, quiet=True, say=news.append)
    assert closed == [False]
    assert not [line for line in news if "taken" in line]


def test_a_second_run_of_the_same_study_at_the_same_time_is_refused(recorded):
    folder = next((recorded.runs / "studies").glob("depth-*"))
    lease = leases.acquire_lease(folder)
    try:
        with pytest.raises(SettingsError, match=r"depth is being run under the same conditions by process \d+ on"):
            again(recorded)
    finally:
        lease.release()


def test_the_next_ctrl_c_is_not_swallowed_by_what_tune_leaves_behind(recorded):
    assert not getattr(signal.getsignal(signal.SIGINT), "__module__", "").startswith("ray")


def test_the_workers_end_with_the_driver(recorded):
    assert list(trial_processes(os.getpid())) == []


def test_a_dry_run_writes_nothing(tmp_path):
    line = command("run", "depth", "--dry-run", "--json", runs=tmp_path / "runs")
    shown = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    assert len(json.loads(shown.stdout)["trials"]) == 32
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_tracking_server_that_does_not_answer_is_one_clear_line(tmp_path):
    line = command("run", "depth", "--tracking-uri", "http://127.0.0.1:9", runs=tmp_path / "runs")
    shown = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert shown.returncode == 1
    assert "the tracking store http://127.0.0.1:9 does not answer" in shown.stderr
    assert "Traceback" not in shown.stderr
    assert not (tmp_path / "runs" / "trials").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_run_folder_that_cannot_be_written_is_one_clear_line(tmp_path):
    tmp_path.chmod(0o500)
    line = command("run", "depth", runs=tmp_path / "runs")
    shown = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert shown.returncode == 2
    assert "cannot write to the run folder" in shown.stderr


def test_a_run_folder_that_is_a_file_is_one_clear_line(tmp_path):
    (tmp_path / "runs").write_text("")
    shown = subprocess.run(
        command("run", "depth", runs=tmp_path / "runs"), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert shown.returncode == 2
    assert "cannot write to the run folder" in shown.stderr


def test_a_store_that_goes_away_as_the_study_is_planned_is_one_clear_line(recorded, monkeypatch):
    def gone(*_):
        raise mlflow.exceptions.MlflowException("no answer") from ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(StudyReader, "ended_trials_below", gone)
    with pytest.raises(
        TrackingError, match=r"does not answer any more .*Connection refused.* What was trained is kept"
    ):
        again(recorded)


def test_a_run_says_how_its_trial_ended_only_when_everything_of_it_is_there(copied, monkeypatch):
    """Cut off before its last write it passes for one that runs: the next start removes it and logs the trial anew."""

    def cut_off(*_):
        raise KeyboardInterrupt

    trial, store = copied.record.find_trial("D", 1), copied.store
    store.runs.client.set_tag(trial.run_id, "status", "running")
    with monkeypatch.context() as patched:
        patched.setattr(mlflow.MlflowClient, "set_terminated", cut_off)
        with pytest.raises(KeyboardInterrupt):
            store.writer.end_trial(trial.run_id, trial.result)
    assert store.runs.client.get_run(trial.run_id).data.tags["status"] == "running"
    record, news = again(copied)
    assert "nothing to train: all 8 trials have ended; 1 logged that were trained before" in news
    assert record.find_trial("D", 1).result == trial.result
    assert len(children(copied)) == 8


def test_reading_leaves_no_copies_behind(recorded, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert recorded.store.reader.read_study("depth").labels is not None
    assert list(tmp_path.iterdir()) == []


def test_what_a_trial_met_is_in_its_record(copied):
    trial = copied.record.find_trial("D", 1)
    faults = ("the disk was full", "its worker died")
    copied.store.writer.end_trial(trial.run_id, trial.result, attempts=3, faults=faults)
    found = copied.store.reader.read_study("depth").find_trial("D", 1)
    assert (found.num_attempts, found.faults) == (3, ("the disk was full", "its worker died"))
    assert found.result == trial.result


@pytest.mark.slow
def test_what_the_store_does_not_take_is_kept_and_logged_by_the_next_run(recorded, tmp_path, monkeypatch):
    """The store fails whenever a trial ends, as if its server had gone away: training goes on, nothing is lost."""

    def gone(*_):
        raise mlflow.exceptions.MlflowException("the server has gone away")

    line = {"seeds": (0,), "overrides": SHORT, "runs": tmp_path / "runs", "resources": ONE, "quiet": True}
    with monkeypatch.context() as patched:
        patched.setattr(StudyWriter, "end_trial", gone)
        assert studies.run("depth", **line).trials == ()
    assert len(list((tmp_path / "runs" / "trials").glob("*/result.json"))) == 4
    news = []
    record = studies.run("depth", **line, say=news.append)
    assert "nothing to train: all 4 trials have ended; 4 logged that were trained before" in news
    once = {(trial.arm, trial.seed): trial.result for trial in recorded.record.trials}
    assert [trial.result.metrics for trial in record.trials] == [once[trial.arm, 0].metrics for trial in record.trials]


def test_what_the_store_refused_for_a_moment_is_logged_before_the_start_ends(recorded, tmp_path, monkeypatch):
    """As a database that another process holds locked while trials end."""
    end_trial, refused = StudyWriter.end_trial, []

    def refuse_once(*arguments, **options):
        if not refused:
            refused.append(arguments)
            raise mlflow.exceptions.MlflowException("database is locked")
        return end_trial(*arguments, **options)

    monkeypatch.setattr(StudyWriter, "end_trial", refuse_once)
    # Writes within ten seconds of a failure are put off as well: here, those of all trials after the first.
    line = {"seeds": (0,), "overrides": SHORT, "runs": tmp_path / "runs", "resources": ONE, "quiet": True}
    record = studies.run("depth", **line)
    assert len(refused) == 1
    once = {trial.arm: trial.result for trial in recorded.record.trials if trial.seed == 0}
    assert {trial.arm: trial.result.metrics for trial in record.trials} == {
        arm: result.metrics for arm, result in once.items()
    }
    for trial in record.trials:
        curves = trial.result.curves
        assert curves == {**once[trial.arm].curves, "seconds": curves["seconds"]}


def test_a_start_is_logged_before_its_trials_and_bears_what_is_known_then(recorded, copied):
    store, run_id = copied.store, copied.record.run_id
    (start,) = copied.record.starts
    assert start.code == copied.record.trials[0].result.digests["code"]
    assert start.user
    assert start.host
    assert start.claims == ("Test error falls from A to B to D to E.",)
    store.writer.log_start(run_id, replace(start, wall_seconds=None))  # as it is until it ends
    assert store.reader.read_study("depth").starts[0] == replace(start, wall_seconds=None)
    assert {trial.revision for trial in copied.record.trials} == {start.revision}


def test_two_starts_within_one_second_are_both_kept(copied):
    store, run_id = copied.store, copied.record.run_id
    first = make_study_start(1_700_000_000.25, git_revision(), "none", (0,))
    second = make_study_start(1_700_000_000.75, git_revision(), "none", (0, 1))
    store.writer.log_starts(run_id, [second, first])
    assert store.reader.read_study("depth").starts[:2] == (first, second)


def test_a_registration_that_is_gone_is_logged_again_from_the_runs_folder(copied):
    registration = copied.store.reader.read_registration(copied.record.run_id)
    assert registration.num_planned == 8
    assert registration.num_visible == 0
    for file in copied.runs.glob("artifacts/**/registration.json"):
        file.unlink()
    assert copied.store.reader.read_registration(copied.record.run_id) is None
    record, news = again(copied)
    assert any("registration.json of run" in line and "study.json" in line for line in news)
    assert record.registration == copied.record.registration
