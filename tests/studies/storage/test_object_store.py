"""Trials kept in a bucket: `--storage s3://...`; a folder in place of one, and a server of S3 where there is one."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
from click.testing import CliRunner

import studies
from lightning_modules.specs.catalogue import VGG_B
from lightning_modules.specs.setup import WarmStart
from studies.cli.app import main
from studies.design.trial import Trial
from studies.execution.jobs import TrialJob
from studies.execution.processes import trial_process
from studies.hardware import Machine
from studies.records.results import failed_result
from studies.settings import Settings, SettingsError
from studies.storage import lease as leases
from studies.storage import object_store
from studies.storage.object_store import ObjectStore, ObjectStoreError
from studies.storage.trial_folder import TrialFolder
from studies.tracking.store import open_store
from studies.training.train import train_trial
from tests.studies import s3
from tests.studies.conftest import ONE, SHORT

pytestmark = pytest.mark.xdist_group("one bucket")

ONE_THREAD = Machine(device="cpu", num_threads=1)
DIGESTS = {"data": "d", "code": "c", "platform": "p"}


@pytest.fixture(scope="module")
def server():
    if not s3.IS_INSTALLED:
        pytest.skip("moto[server], an S3 server for tests, is not installed")
    with s3.served("kept") as query:
        yield query


@pytest.fixture(params=["folder", "S3"])
def uri(request, tmp_path):
    """A bucket of either kind, empty."""
    if request.param == "folder":
        return (tmp_path / "kept").as_uri()
    query = request.getfixturevalue("server")
    return f"s3://{s3.KEY}:{s3.SECRET}@kept/{tmp_path.name}?{query}"


@pytest.fixture
def kept(tmp_path):
    """A folder in place of a bucket."""
    return ObjectStore((tmp_path / "kept").as_uri())


def call(*arguments, code=0):
    shown = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert shown.exit_code == code, shown.output
    return " ".join(shown.output.split())


# -- what is a bucket, and what is none ----------------------------------------------------------------------------


def test_a_uri_is_a_bucket_and_trials_are_worked_on_in_the_runs_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ABLATE_STORAGE", "s3://key:secret@bucket/trials?region=x")
    settings = Settings.from_environment(tmp_path)
    assert (settings.storage_folder, settings.trials_folder) == (None, tmp_path / "trials")
    assert ObjectStore(settings.object_store_uri).address == "s3://bucket/trials"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("nope://x:y@z/trials", r"'nope://z/trials' cannot be read as a bucket's address; expected s3://bucket/folder"),
        ("file:///", r"'file:///' names no bucket; expected"),
        (
            "file:///dev/null/trials",
            r"the bucket file:///dev/null/trials fails: .* Expected an existing bucket, and",
        ),
    ],
)
def test_what_is_no_bucket_is_one_line(address, words):
    with pytest.raises(SettingsError, match=words):
        ObjectStore(address).require_writable()


@pytest.mark.slow
def test_a_bucket_out_of_reach_is_one_line_before_anything_is_trained(tmp_path):
    uri = f"s3://{s3.KEY}:{s3.SECRET}@kept/x?endpoint_override=127.0.0.1:1&scheme=http&region=us-east-1"
    shown = call("run", "depth", "--runs", tmp_path / "runs", "--storage", uri, code=2)
    assert shown.startswith("Error: the bucket s3://kept/x fails: ")
    assert "AWS Error NETWORK_CONNECTION" in shown
    assert "Give another one with --storage, or try again later." in shown
    assert s3.KEY not in shown
    assert not list((tmp_path / "runs").iterdir())


def test_files_are_written_read_listed_and_removed(uri, tmp_path):
    bucket, file = ObjectStore(uri), tmp_path / "file"
    bucket.require_writable()
    file.write_bytes(os.urandom(3 * 2**20))
    for name in ("trials/a/one", "trials/a/two", "trials/b/one"):
        bucket.upload(name, file)
    assert {name: seen.num_bytes for name, seen in bucket.list_files("trials").items()} == {
        "a/one": 3 * 2**20, "a/two": 3 * 2**20, "b/one": 3 * 2**20,
    }  # fmt: skip
    assert b"".join(bucket.read_chunks("trials/a/two")) == file.read_bytes()
    assert bucket.list_folders("trials") == ["a", "b"]
    bucket.delete("trials/a/one")
    bucket.delete("trials/a/one")
    bucket.delete_folder("trials/b")
    bucket.delete_folder("trials/b")
    assert list(bucket.list_files("trials")) == ["a/two"]
    assert bucket.sizes(["trials/a/one", "trials/a/two"]) == [None, 3 * 2**20]
    assert bucket.list_files("nowhere") == {}
    with pytest.raises(FileNotFoundError):
        list(bucket.read_chunks("trials/a/one"))


def test_a_file_that_cannot_be_read_to_its_end_is_not_there(uri):
    torn = MagicMock()
    torn.open.return_value.__enter__.return_value.read.side_effect = [b"half", OSError(5, "the disk fails")]
    with pytest.raises(OSError, match="the disk fails"):
        ObjectStore(uri).upload("trials/a/one", torn)
    assert ObjectStore(uri).list_files() == {}


# -- which of two is further ---------------------------------------------------------------------------------------


def attempted(folder, times, status=None, checkpoint=None):
    """A trial's folder: begun so often, perhaps ended, perhaps with a checkpoint."""
    spool = TrialFolder(folder)
    for _ in range(times):
        spool.start_attempt("somebody")
    if checkpoint:
        spool.checkpoint.write_text(checkpoint)
    if status:
        spool.weights.write_text(f"weights after {times}")
        result = failed_result("f", {}, "x")
        predictions = np.arange(times, dtype=np.uint16)
        spool.write_result(replace(result, status=status, error="", predictions=predictions))
    return spool


@pytest.mark.parametrize(
    ("here", "there", "begun", "ended", "checkpoint"),
    [
        ((0,), (2, None, "theirs"), 2, False, "theirs"),
        ((1, None, "mine"), (2, None, "theirs"), 2, False, "theirs"),
        ((1, None, "mine"), (2,), 2, False, "mine"),
        ((2, None, "mine"), (1, None, "theirs"), 2, False, "mine"),
        ((2, None, "mine"), (2, None, "theirs"), 2, False, "mine"),
        ((1,), (1, None, "theirs"), 1, False, "theirs"),
        ((3, None, "mine"), (1, "finished"), 1, True, None),
        ((1, "finished"), (3, None, "theirs"), 1, True, None),
        ((1, "finished"), (0,), 1, True, None),
        ((1, "failed", "mine"), (2, "non-finite"), 2, True, None),
    ],
)
def test_the_trial_that_is_further_is_taken_up_here_and_there(kept, tmp_path, here, there, begun, ended, checkpoint):
    attempted(tmp_path / "elsewhere" / "trial", *there)
    if there[0]:
        kept.remote_trial(tmp_path / "elsewhere" / "trial").reconcile()
    spool = attempted(tmp_path / "here" / "trial", *here)
    kept.remote_trial(spool.folder).reconcile()
    there_now = TrialFolder(tmp_path / "kept" / "trials" / "trial")
    for each in (spool, there_now):
        assert (each.num_attempts, each.has_ended) == (begun, ended)
        assert (each.checkpoint.read_text() if each.checkpoint.exists() else None) == checkpoint or each is there_now
        assert not ended or each.weights.read_text() == f"weights after {begun}"
        assert not (ended and each.checkpoint.exists())


def test_results_are_brought_without_weights_and_put_where_they_are_missing(kept, tmp_path):
    theirs = attempted(tmp_path / "elsewhere" / "theirs", 1, "finished")
    kept.remote_trial(theirs.folder).reconcile()
    here = tmp_path / "here"
    mine = attempted(here / "mine", 1, "finished")
    kept.fetch_trials([here / "theirs", here / "mine", here / "nobody's"])
    assert TrialFolder(here / "theirs").read_result() == theirs.read_result()
    assert not TrialFolder(here / "theirs").weights.exists()
    assert not (here / "nobody's").exists()
    assert not kept.remote_trial(mine.folder).has_file("result.json")
    kept.fetch_trials([mine.folder], may_upload=True)
    assert kept.remote_trial(mine.folder).has_file("weights.pt")


# -- one trial on several machines ---------------------------------------------------------------------------------


class Killed(BaseException):
    """As a process that is ended: nothing is written after it."""


def machine(tmp_path, name, uri):
    return replace(Settings.from_environment(tmp_path / name, storage=uri), checkpoint_seconds=0.0)


def job(settings, fit, **more):
    return TrialJob(trial=fit, folder=settings.trials_folder / "trial", digests=DIGESTS, **more)


def trained(settings, what, die_after=None):
    """Train as a trial's process does, on a machine of its own; perhaps ended from outside after an epoch."""

    def tell(message):
        if message.kind == "epoch" and message.values["epoch"] == die_after:
            raise Killed

    what.folder.mkdir(parents=True, exist_ok=True)
    lease = leases.acquire_lease(what.folder)
    try:
        trial_process.train_job(what, settings, ONE_THREAD, lease, tell)
    finally:
        lease.release()
    return TrialFolder(what.folder).read_result()


@pytest.fixture(scope="module")
def undisturbed(small, digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    fit = Trial(arm="A", setup=replace(small, recipe=replace(small.recipe, epochs=4)), seed=0)
    return fit, folder, train_trial(fit, digits, folder, digests=DIGESTS, machine=ONE_THREAD)


def test_a_trial_goes_on_from_the_buckets_checkpoint_on_another_machine_to_the_same_bits(uri, tmp_path, undisturbed):
    fit, folder, expected = undisturbed
    first, second, third = (machine(tmp_path, name, uri) for name in ("first", "second", "third"))
    with pytest.raises(Killed):
        trained(first, job(first, fit), die_after=2)
    assert sorted(ObjectStore(uri).list_files("trials/trial")) == ["attempts.jsonl", "checkpoint.ckpt"]
    shutil.rmtree(first.runs_folder)
    found = trained(second, job(second, fit))
    assert found.metrics == expected.metrics
    assert found.predictions.tolist() == expected.predictions.tolist()
    assert (second.trials_folder / "trial" / "weights.pt").read_bytes() == (folder / "weights.pt").read_bytes()
    spool = TrialFolder(second.trials_folder / "trial")
    assert (spool.num_attempts, len(found.times)) == (2, 4)
    assert {"checkpoint.ckpt", "classifier.npz"} == {*object_store.TRIAL_FILES} - {
        *ObjectStore(uri).list_files("trials/trial"),
        "faults.jsonl",
    }
    again = trained(third, job(third, fit))  # it has ended: nothing is trained
    assert again == found
    assert TrialFolder(third.trials_folder / "trial").num_attempts == 2


def test_a_donors_weights_are_fetched(kept, tmp_path, small, undisturbed):
    donor, folder, _ = undisturbed
    settings = machine(tmp_path, "runs", kept.uri)
    start = WarmStart(network=donor.setup.network, layers=("stage1.conv1",))
    setup = replace(small, network=VGG_B, recipe=replace(small.recipe, epochs=1), start=start)
    kept.upload("trials/donor/weights.pt", folder / "weights.pt")
    found = trained(
        settings,
        job(settings, Trial(arm="B", setup=setup, seed=0), dependency_folders=(settings.trials_folder / "donor",)),
    )
    assert found.evidence["copied"]


def test_a_bucket_that_fails_is_a_fault_of_the_machine_and_the_next_attempt_trains_nothing(
    kept, tmp_path, undisturbed, monkeypatch
):
    fit, _, expected = undisturbed
    settings, write = machine(tmp_path, "runs", kept.uri), ObjectStore.upload
    told = []

    def fails(bucket, place, file):
        if place.endswith(("checkpoint.ckpt", "result.json")):
            raise ObjectStoreError(bucket.uri, "AWS Error SLOW_DOWN")
        write(bucket, place, file)

    monkeypatch.setattr(ObjectStore, "upload", fails)
    what = job(settings, fit)
    what.folder.mkdir(parents=True)
    lease = leases.acquire_lease(what.folder)
    with pytest.raises(ObjectStoreError, match=r"the bucket file://.*/kept fails: AWS Error SLOW_DOWN"):
        trial_process.train_job(what, settings, ONE_THREAD, lease, told.append)
    notes = [message.text for message in told if message.kind == "note"]
    assert all("no checkpoint could be written" in note and "SLOW_DOWN" in note for note in notes)
    assert len(notes) == 3
    assert not kept.remote_trial(what.folder).has_file("result.json")
    monkeypatch.setattr(ObjectStore, "upload", write)
    lease.release()
    found = trained(settings, what)
    assert found.metrics == expected.metrics
    assert TrialFolder(what.folder).num_attempts == 1
    assert kept.remote_trial(what.folder).has_file("result.json")


# -- a study ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def studied(server, tmp_path_factory, one_ray):
    """`lrn`, one seed, two epochs, its trials kept by a server; with keys in the address, which are to stay there."""
    runs = tmp_path_factory.mktemp("first") / "runs"
    uri = f"s3://{s3.KEY}:{s3.SECRET}@kept/lrn?{server}"
    return runs, uri, run(runs, uri)[0]


def run(runs, uri):
    news = []
    asked = {"seeds": (0,), "overrides": SHORT, "resources": ONE, "quiet": True, "say": news.append}
    return studies.run("lrn", **asked, runs=runs, storage=uri), news


def results(record):
    return {(trial.arm, trial.seed): trial.result for trial in record.trials}


@pytest.mark.slow
def test_on_another_machine_nothing_is_trained_again(studied, tmp_path):
    _, uri, record = studied
    again, news = run(tmp_path, uri)
    assert "nothing to train: all 2 trials have ended; 2 logged that were trained before" in news
    assert results(again) == results(record)
    assert [trial.num_attempts for trial in again.trials] == [1, 1]


@pytest.mark.slow
def test_a_study_is_synced_and_shown_on_another_machine(studied, tmp_path):
    _, uri, record = studied
    there = ("--runs", tmp_path / "runs", "--storage", uri)
    shown = json.loads(CliRunner().invoke(main, ["status", "lrn", "--json", *map(str, there)]).output)
    assert (shown["trials"], shown["ended"], shown["state"]) == (2, 2, "ended")
    assert "2 of 2 trials logged now" in call("sync", *there)
    assert results(open_store(Settings.from_environment(tmp_path / "runs")).reader.read_study("lrn")) == results(record)
    assert "s3://kept/lrn permits listing, reading, writing and deleting" in call("doctor", *there)


def test_where_the_bucket_fails_the_status_is_of_what_is_known_here(studied):
    runs, *_ = studied
    shown = call("status", "lrn", "--runs", runs, "--storage", "nope://x/kept")
    assert "Error" not in shown
    assert "'nope://x/kept' cannot be read as a bucket's address" in shown
    assert "Showing the local copies: lrn under digits: complete" in shown


def test_what_no_study_needs_of_a_bucket_is_freed_from_another_machine(studied, tmp_path):
    _, uri, _ = studied
    bucket, there = ObjectStore(uri), ("--runs", tmp_path / "runs", "--storage", uri)
    (tmp_path / "file").write_bytes(b"x" * 4000)
    ended, *_ = (folder for folder in bucket.list_folders("trials"))
    bucket.upload(f"trials/{ended}/checkpoint.ckpt", tmp_path / "file")
    bucket.upload("trials/0123456789abcdef-1-2-3/checkpoint.ckpt", tmp_path / "file")  # not a day old
    before = set(bucket.list_files("trials"))
    call("sync", *there)
    assert "its trial has ended; in the object store 1 4.0 kB" in call("gc", *there)
    assert set(bucket.list_files("trials")) == before
    freed = json.loads(CliRunner().invoke(main, ["gc", "--yes", "--json", *map(str, there)]).output)
    assert [each["path"] for each in freed["found"]] == [f"s3://kept/lrn/trials/{ended}/checkpoint.ckpt"]
    assert before - set(bucket.list_files("trials")) == {f"{ended}/checkpoint.ckpt"}
    assert "nothing to free: studies need everything in s3://kept/lrn" in call("gc", *there)


def test_keys_in_a_buckets_address_are_recorded_nowhere(studied):
    runs, uri, _ = studied
    files = [file for file in Path(runs).rglob("*") if file.is_file()]
    kept = [b"".join(ObjectStore(uri).read_chunks(name)) for name in ObjectStore(uri).list_files()]
    assert len(files) > 10
    assert len(kept) >= 11
    for secret in (s3.KEY.encode(), s3.SECRET.encode()):
        assert not [file for file in files if secret in file.read_bytes()]
        assert not [content for content in kept if secret in content]
