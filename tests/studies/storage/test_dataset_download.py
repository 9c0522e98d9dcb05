"""Image data at a URI: `--data-root s3://...`; fetched once, whole, and read as a folder is."""

import errno
import fcntl
import os
import time
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from lightning_modules import file_lock
from lightning_modules.data.datasets import prepare_dataset
from lightning_modules.data.types import DataError
from lightning_modules.specs.data import Data
from lightning_modules.specs.scale import Scale
from studies.cli.app import main
from studies.settings import Settings
from studies.storage import dataset_download
from studies.storage.dataset_download import ensure_local_data, with_local_data
from studies.storage.object_store import ObjectStore, ObjectStoreError
from tests.server_processes import start_server

SCALE = Scale(resolution=32, channels=3, classes=2, width=0.0625)


@pytest.fixture
def images(tmp_path):
    """Two classes, three images each, in both parts."""
    random = np.random.Generator(np.random.PCG64(0))
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            folder = tmp_path / "data" / part / name
            folder.mkdir(parents=True)
            for number in range(3):
                Image.fromarray(random.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(folder / f"{number}.png")
                os.utime(folder / f"{number}.png", (1e9, 1e9))  # as data are, older than the study
    return tmp_path / "data"


@pytest.fixture
def settings(images, tmp_path):
    return Settings.from_environment(tmp_path / "runs", data_root=images.as_uri())


@pytest.fixture
def reads(monkeypatch):
    """Places that were read, in their order."""
    read, seen = ObjectStore.read_chunks, []

    def counting(bucket, place):
        seen.append(place)
        return read(bucket, place)

    monkeypatch.setattr(ObjectStore, "read_chunks", counting)
    return seen


def fetched(settings):
    return [path for path in (settings.cache_folder / "fetched").iterdir() if path.is_dir()]


def test_it_is_fetched_once_and_has_the_digest_of_the_folder(images, settings, tmp_path, reads):
    news = []
    found = with_local_data(settings, news.append)
    assert news == [f"downloading {images.as_uri()}: 12 files, 0.1 MB, once for this machine"]
    assert with_local_data(settings, news.append) == found
    assert (len(news), len(reads)) == (1, 12)
    data = Data(source="folder", validation_fraction=0.4)
    there = prepare_dataset(data, SCALE, found.data_root, tmp_path / "cache-1")
    assert there.digest == prepare_dataset(data, SCALE, images, tmp_path / "cache-2").digest
    assert fetched(settings) == [found.data_root]


def test_a_copy_whose_files_were_changed_is_made_whole_again(images, settings, reads):
    found = with_local_data(settings).data_root
    files = [found / "train" / "cat" / "0.png", found / "test" / "dog" / "1.png", found / "train" / "dog" / "2.png"]
    files[0].write_bytes(files[0].read_bytes()[:-1])
    files[1].unlink()
    files[2].write_bytes(bytes(len(files[2].read_bytes())))
    stray = found / "train" / "cat" / "9.png"
    stray.write_bytes(files[0].read_bytes())
    news = []
    assert with_local_data(settings, news.append).data_root == found
    assert len(reads) == 12 + 3
    assert news[0] == f"removed {stray}: it is none of the files at {images.as_uri()}"
    assert news[1].startswith(f"3 files of {found} are missing or changed, such as ")
    assert len(news) == 2
    for file in found.rglob("*.png"):
        assert file.read_bytes() == (images / file.relative_to(found)).read_bytes()
    assert len(list(found.rglob("*"))) == 6 + 12


def test_another_machine_fetches_what_the_driver_settled_on(settings, tmp_path, reads):
    found = with_local_data(settings)
    node = replace(found, runs_folder=tmp_path / "node", data_root=tmp_path / "node" / "fetched" / found.data_root.name)
    beats = []
    ensure_local_data(node, lambda: beats.append(1))
    ensure_local_data(node)
    assert (len(reads), len(beats)) == (24, 12)
    assert sorted(path.name for path in node.data_root.rglob("*.png")) == sorted(["0.png", "1.png", "2.png"] * 4)


def test_data_that_changed_since_are_not_trained_on_and_are_fetched_anew_by_the_next_start(images, settings, tmp_path):
    found = with_local_data(settings)
    (images / "train" / "cat" / "2.png").unlink()
    node = replace(found, data_root=tmp_path / "node" / found.data_root.name)
    with pytest.raises(DataError, match=r"the data at file://.*/data have changed since the study was started\. Call"):
        ensure_local_data(node)
    again = with_local_data(settings)
    assert len(list(again.data_root.rglob("*.png"))) == 11
    assert len(list(found.data_root.rglob("*.png"))) == 12  # who reads it, goes on


def test_what_a_killed_process_left_is_not_used_and_cleared_away(settings, monkeypatch):
    def dies(source, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(file_lock.shutil, "rmtree", lambda *_, **__: None)  # as one that is killed leaves it
        patch.setattr(file_lock.Path, "rename", dies)
        with pytest.raises(KeyboardInterrupt):
            with_local_data(settings)
    (half,) = fetched(settings)
    (half / "train" / "cat" / "0.png").write_bytes(b"half")
    found = with_local_data(settings)
    assert fetched(settings) == [found.data_root]
    assert (found.data_root / "train" / "cat" / "0.png").stat().st_size > 100


def test_a_file_that_comes_in_part_is_a_fault_and_nothing_is_kept(settings, monkeypatch):
    monkeypatch.setattr(ObjectStore, "read_chunks", lambda *_: iter([b"half"]))
    with pytest.raises(DataError, match=r"cannot download the data: .* has 4 bytes, and \d+ when it was listed"):
        with_local_data(settings)
    assert fetched(settings) == []


def fetch_slowly(settings, counted, ready):
    read = ObjectStore.read_chunks

    def slow(bucket, place):
        counted.put(place)
        time.sleep(0.05)
        return read(bucket, place)

    ObjectStore.read_chunks = slow
    ready.wait()
    with_local_data(settings)


def test_of_two_processes_that_need_it_at_once_one_fetches(settings):
    context = start_server()
    counted, ready = context.Queue(), context.Barrier(2)
    both = [context.Process(target=fetch_slowly, args=(settings, counted, ready)) for _ in range(2)]
    for process in both:
        process.start()
    places = [counted.get(timeout=30) for _ in range(12)]
    for process in both:
        process.join(timeout=30)
    assert [process.exitcode for process in both] == [0, 0]
    assert counted.empty()
    assert len(set(places)) == 12


def test_on_a_file_system_without_locks_it_is_fetched_all_the_same(settings, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert with_local_data(settings).data_root.is_dir()


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        (
            "file:///nowhere/at/all",
            "there are no files at file:///nowhere/at/all. Expected a folder with train/<class>/",
        ),
        (
            "nope://key:secret@host/data",
            "cannot download the data: 'nope://host/data' cannot be read as a bucket's address",
        ),
    ],
)
def test_data_that_are_not_there_are_one_line(uri, words, tmp_path):
    arguments = ["run", "depth", "--protocol", "cifar10-cpu", "--data-root", uri, "--runs", str(tmp_path)]
    shown = CliRunner().invoke(main, arguments)
    assert shown.exit_code == 2, shown.output
    assert words in shown.output
    assert len(shown.output.strip().splitlines()) == 1, shown.output


def test_a_bucket_that_refuses_is_one_line(settings, monkeypatch):
    def refuses(*_):
        raise ObjectStoreError("s3://key:secret@bucket/data", "AWS Error ACCESS_DENIED")

    monkeypatch.setattr(ObjectStore, "list_files", refuses)
    with pytest.raises(
        DataError, match=r"cannot download the data: the bucket s3://bucket/data fails: AWS Error ACCESS"
    ):
        with_local_data(settings)


def test_names_that_lead_out_of_the_folder_are_refused(settings, monkeypatch):
    monkeypatch.setattr(ObjectStore, "list_files", lambda _: {"../../escaped": dataset_download.ObjectInfo(1, 1)})
    with pytest.raises(
        DataError, match=r"holds a file that lies outside of the folder \('\.\./\.\./escaped'\): remove it"
    ):
        with_local_data(settings)


def test_digits_fetch_nothing(tmp_path, reads):
    shown = CliRunner().invoke(
        main, ["doctor", "--protocol", "digits", "--data-root", "nope://x/y", "--runs", str(tmp_path)]
    )
    assert "ok       data: digits: 10 classes" in shown.output
    assert reads == []
