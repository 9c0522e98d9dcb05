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
from lightning_modules.catalogue import VGG_B
from lightning_modules.spec import WarmStart
from studies import bucket as buckets
from studies import child, leases
from studies.bucket import Bucket, BucketFault
from studies.cli import main
from studies.fits import Fit
from studies.jobs import Job
from studies.machine import Machine
from studies.results import failed
from studies.settings import Settings, SettingsError
from studies.spool import Spool
from studies.tracking import Store
from studies.training import train
from tests.studies import s3
from tests.studies.conftest import ONE, SHORT

pytestmark = pytest.mark.xdist_group("one bucket")

ONE_THREAD = Machine(device="cpu", threads=1)
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
    return Bucket((tmp_path / "kept").as_uri())


def call(*arguments, code=0):
    shown = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert shown.exit_code == code, shown.output
    return " ".join(shown.output.split())


# -- what is a bucket, and what is none ----------------------------------------------------------------------------


def test_a_uri_is_a_bucket_and_trials_are_worked_on_in_the_runs_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ABLATE_STORAGE", "s3://key:secret@bucket/trials?region=x")
    settings = Settings.of(tmp_path)
    assert (settings.storage, settings.trials) == (None, tmp_path / "trials")
    assert Bucket(settings.bucket).address == "s3://bucket/trials"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("nope://x:y@z/trials", r"'nope://z/trials' cannot be read as a bucket's address; expected s3://bucket/folder"),
        ("file:///", r"'file:///' names no bucket; expected"),
        (
            "file:///dev/null/trials",
            r"the bucket file:///dev/null/trials fails: .* Expected a bucket that is there, and",
        ),
    ],
)
def test_what_is_no_bucket_is_one_line(address, words):
    with pytest.raises(SettingsError, match=words):
        Bucket(address).require_writable()


def test_a_bucket_out_of_reach_is_one_line_before_anything_is_trained(tmp_path):
    uri = f"s3://{s3.KEY}:{s3.SECRET}@kept/x?endpoint_override=127.0.0.1:1&scheme=http&region=us-east-1"
    shown = call("run", "depth", "--runs", tmp_path / "runs", "--storage", uri, code=2)
    assert shown.startswith("Error: the bucket s3://kept/x fails: ")
    assert "AWS Error NETWORK_CONNECTION" in shown
    assert "Give another one with --storage, or call again later." in shown
    assert s3.KEY not in shown
    assert not list((tmp_path / "runs").iterdir())


def test_files_are_written_read_listed_and_removed(uri, tmp_path):
    bucket, file = Bucket(uri), tmp_path / "file"
    bucket.require_writable()
    file.write_bytes(os.urandom(3 * 2**20))
    for name in ("trials/a/one", "trials/a/two", "trials/b/one"):
        bucket.write(name, file)
    assert {name: seen.size for name, seen in bucket.files("trials").items()} == {
        "a/one": 3 * 2**20, "a/two": 3 * 2**20, "b/one": 3 * 2**20,
    }  # fmt: skip
    assert b"".join(bucket.read("trials/a/two")) == file.read_bytes()
    assert bucket.folders("trials") == ["a", "b"]
    bucket.delete("trials/a/one")
    bucket.delete("trials/a/one")
    bucket.delete_folder("trials/b")
    bucket.delete_folder("trials/b")
    assert list(bucket.files("trials")) == ["a/two"]
    assert bucket.sizes(["trials/a/one", "trials/a/two"]) == [None, 3 * 2**20]
    assert bucket.files("nowhere") == {}
    with pytest.raises(FileNotFoundError):
        list(bucket.read("trials/a/one"))


def test_a_file_that_cannot_be_read_to_its_end_is_not_there(uri):
    torn = MagicMock()
    torn.open.return_value.__enter__.return_value.read.side_effect = [b"half", OSError(5, "the disk fails")]
    with pytest.raises(OSError, match="the disk fails"):
        Bucket(uri).write("trials/a/one", torn)
    assert Bucket(uri).files() == {}


# -- which of two is further ---------------------------------------------------------------------------------------


def attempted(folder, times, status=None, checkpoint=None):
    """A trial's folder: begun so often, perhaps ended, perhaps with a checkpoint."""
    spool = Spool(folder)
    for _ in range(times):
        spool.begin("somebody")
    if checkpoint:
        spool.checkpoint.write_text(checkpoint)
    if status:
        spool.weights.write_text(f"weights after {times}")
        spool.write(replace(failed("f", {}, "x"), status=status, error="", predictions=np.arange(times)))
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
        ((1, "failed", "mine"), (2, "diverged"), 2, True, None),
    ],
)
def test_the_trial_that_is_further_is_taken_up_here_and_there(kept, tmp_path, here, there, begun, ended, checkpoint):
    attempted(tmp_path / "elsewhere" / "trial", *there)
    if there[0]:
        kept.of_trial(tmp_path / "elsewhere" / "trial").settle()
    spool = attempted(tmp_path / "here" / "trial", *here)
    kept.of_trial(spool.folder).settle()
    there_now = Spool(tmp_path / "kept" / "trials" / "trial")
    for each in (spool, there_now):
        assert (each.attempts, each.has_ended) == (begun, ended)
        assert (each.checkpoint.read_text() if each.checkpoint.exists() else None) == checkpoint or each is there_now
        assert not ended or each.weights.read_text() == f"weights after {begun}"
        assert not (ended and each.checkpoint.exists())


def test_results_are_brought_without_weights_and_put_where_they_are_missing(kept, tmp_path):
    theirs = attempted(tmp_path / "elsewhere" / "theirs", 1, "finished")
    kept.of_trial(theirs.folder).settle()
    here = tmp_path / "here"
    mine = attempted(here / "mine", 1, "finished")
    kept.bring([here / "theirs", here / "mine", here / "nobody's"])
    assert Spool(here / "theirs").result() == theirs.result()
    assert not Spool(here / "theirs").weights.exists()
    assert not (here / "nobody's").exists()
    assert not kept.of_trial(mine.folder).has("result.json")
    kept.bring([mine.folder], both_ways=True)
    assert kept.of_trial(mine.folder).has("weights.pt")


# -- one trial on several machines ---------------------------------------------------------------------------------


class Killed(BaseException):
    """As a process that is ended: nothing is written after it."""


def machine(tmp_path, name, uri):
    return replace(Settings.of(tmp_path / name, storage=uri), checkpoint_seconds=0.0)


def job(settings, fit, **more):
    return Job(fit=fit, folder=settings.trials / "trial", digests=DIGESTS, **more)


def trained(settings, what, die_after=None):
    """Train as a trial's process does, on a machine of its own; perhaps ended from outside after an epoch."""

    def tell(message):
        if message.kind == "epoch" and message.values["epoch"] == die_after:
            raise Killed

    what.folder.mkdir(parents=True, exist_ok=True)
    lease = leases.acquire(what.folder)
    try:
        child.train_once(what, settings, ONE_THREAD, lease, tell)
    finally:
        lease.release()
    return Spool(what.folder).result()


@pytest.fixture(scope="module")
def undisturbed(small, digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    fit = Fit(arm="A", setup=replace(small, recipe=replace(small.recipe, epochs=4)), seed=0)
    return fit, folder, train(fit, digits, folder, digests=DIGESTS, machine=ONE_THREAD)


def test_a_trial_goes_on_from_the_buckets_checkpoint_on_another_machine_to_the_same_bits(uri, tmp_path, undisturbed):
    fit, folder, expected = undisturbed
    first, second, third = (machine(tmp_path, name, uri) for name in ("first", "second", "third"))
    with pytest.raises(Killed):
        trained(first, job(first, fit), die_after=2)
    assert sorted(Bucket(uri).files("trials/trial")) == ["attempts.jsonl", "checkpoint.ckpt"]
    shutil.rmtree(first.runs)
    found = trained(second, job(second, fit))
    assert found.metrics == expected.metrics
    assert found.predictions.tolist() == expected.predictions.tolist()
    assert (second.trials / "trial" / "weights.pt").read_bytes() == (folder / "weights.pt").read_bytes()
    spool = Spool(second.trials / "trial")
    assert (spool.attempts, len(found.times)) == (2, 4)
    assert {"checkpoint.ckpt", "classifier.npz"} == {*buckets.OF_A_TRIAL} - {
        *Bucket(uri).files("trials/trial"),
        "faults.jsonl",
    }
    again = trained(third, job(third, fit))  # it has ended: nothing is trained
    assert again == found
    assert Spool(third.trials / "trial").attempts == 2


def test_a_donors_weights_are_fetched(kept, tmp_path, small, undisturbed):
    donor, folder, _ = undisturbed
    settings = machine(tmp_path, "runs", kept.uri)
    start = WarmStart(network=donor.setup.network, layers=("stage1.conv1",))
    setup = replace(small, network=VGG_B, recipe=replace(small.recipe, epochs=1), start=start)
    kept.write("trials/donor/weights.pt", folder / "weights.pt")
    found = trained(settings, job(settings, Fit(arm="B", setup=setup, seed=0), donors=(settings.trials / "donor",)))
    assert found.evidence["copied"]


def test_a_bucket_that_fails_is_a_fault_of_the_machine_and_the_next_attempt_trains_nothing(
    kept, tmp_path, undisturbed, monkeypatch
):
    fit, _, expected = undisturbed
    settings, write = machine(tmp_path, "runs", kept.uri), Bucket.write
    told = []

    def fails(bucket, place, file):
        if place.endswith(("checkpoint.ckpt", "result.json")):
            raise BucketFault(bucket.uri, "AWS Error SLOW_DOWN")
        write(bucket, place, file)

    monkeypatch.setattr(Bucket, "write", fails)
    what = job(settings, fit)
    what.folder.mkdir(parents=True)
    lease = leases.acquire(what.folder)
    with pytest.raises(BucketFault, match=r"the bucket file://.*/kept fails: AWS Error SLOW_DOWN"):
        child.train_once(what, settings, ONE_THREAD, lease, told.append)
    notes = [message.text for message in told if message.kind == "note"]
    assert all("no checkpoint could be written" in note and "SLOW_DOWN" in note for note in notes)
    assert len(notes) == 3
    assert not kept.of_trial(what.folder).has("result.json")
    monkeypatch.setattr(Bucket, "write", write)
    lease.release()
    found = trained(settings, what)
    assert found.metrics == expected.metrics
    assert Spool(what.folder).attempts == 1
    assert kept.of_trial(what.folder).has("result.json")


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


def test_on_another_machine_nothing_is_trained_again(studied, tmp_path):
    _, uri, record = studied
    again, news = run(tmp_path, uri)
    assert "nothing to train: all 2 trials have ended; 2 logged that were trained before" in news
    assert results(again) == results(record)
    assert [trial.attempts for trial in again.trials] == [1, 1]


def test_a_study_is_synced_and_shown_on_another_machine(studied, tmp_path):
    _, uri, record = studied
    there = ("--runs", tmp_path / "runs", "--storage", uri)
    shown = json.loads(CliRunner().invoke(main, ["status", "lrn", "--json", *map(str, there)]).output)
    assert (shown["trials"], shown["ended"], shown["state"]) == (2, 2, "ended")
    assert "2 of 2 trials logged now" in call("sync", *there)
    assert results(Store(Settings.of(tmp_path / "runs")).read("lrn")) == results(record)
    assert "s3://kept/lrn can be listed, read, written and cleared" in call("doctor", *there)


def test_where_the_bucket_fails_the_status_is_of_what_is_known_here(studied):
    runs, *_ = studied
    shown = call("status", "lrn", "--runs", runs, "--storage", "nope://x/kept")
    assert "Error" not in shown
    assert "'nope://x/kept' cannot be read as a bucket's address" in shown
    assert "What is known here: lrn under digits: complete" in shown


def test_what_no_study_needs_of_a_bucket_is_freed_from_another_machine(studied, tmp_path):
    _, uri, _ = studied
    bucket, there = Bucket(uri), ("--runs", tmp_path / "runs", "--storage", uri)
    (tmp_path / "file").write_bytes(b"x" * 4000)
    ended, *_ = (folder for folder in bucket.folders("trials"))
    bucket.write(f"trials/{ended}/checkpoint.ckpt", tmp_path / "file")
    bucket.write("trials/0123456789abcdef-1-2-3/checkpoint.ckpt", tmp_path / "file")  # not a day old
    before = set(bucket.files("trials"))
    call("sync", *there)
    assert "its trial has ended; in the bucket 1 4.0 kB" in call("gc", *there)
    assert set(bucket.files("trials")) == before
    freed = json.loads(CliRunner().invoke(main, ["gc", "--yes", "--json", *map(str, there)]).output)
    assert [each["path"] for each in freed["found"]] == [f"s3://kept/lrn/trials/{ended}/checkpoint.ckpt"]
    assert before - set(bucket.files("trials")) == {f"{ended}/checkpoint.ckpt"}
    assert "nothing to free: studies need all that s3://kept/lrn holds" in call("gc", *there)


def test_keys_in_a_buckets_address_are_recorded_nowhere(studied):
    runs, uri, _ = studied
    files = [file for file in Path(runs).rglob("*") if file.is_file()]
    kept = [b"".join(Bucket(uri).read(name)) for name in Bucket(uri).files()]
    assert len(files) > 10
    assert len(kept) >= 11
    for secret in (s3.KEY.encode(), s3.SECRET.encode()):
        assert not [file for file in files if secret in file.read_bytes()]
        assert not [content for content in kept if secret in content]
