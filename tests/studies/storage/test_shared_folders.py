"""Several processes that start at once on an empty folder: each finds whole what one of them has made."""

import errno
import fcntl
import os

import numpy as np
import pytest
from PIL import Image

from lightning_modules import file_lock
from lightning_modules.data.datasets import prepare_dataset
from lightning_modules.data.image_index import index_image_folder
from lightning_modules.file_lock import make_folder_once
from lightning_modules.specs.data import Data
from lightning_modules.specs.scale import Scale
from reports.pages.study import replace_folder
from studies.settings import Settings
from studies.storage import lease
from studies.storage.dataset_download import with_local_data
from studies.tracking.store import open_store
from tests.server_processes import start_server

NUM_PROCESSES = 8
DIGITS = Scale(resolution=16, channels=1, classes=10)
FOLDER = Scale(resolution=32, channels=3, classes=2, width=0.0625)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two classes, two images each, in both parts."""
    root = tmp_path_factory.mktemp("images")
    random = np.random.Generator(np.random.PCG64(0))
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            (root / part / name).mkdir(parents=True)
            for number in range(2):
                pixels = random.integers(0, 255, (80, 80, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{number}.png")
    return root


def refuse_locks(*_):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def start_study(runs, images, with_locks, barrier, results):
    """What a start of a study makes in its runs folder."""
    if not with_locks:
        fcntl.flock = refuse_locks  # in this process alone
    try:
        barrier.wait(60)
        settings = Settings.from_environment(runs, data_root=images.as_uri())
        settings.create_folders()
        experiment = open_store(settings).runs.ensure_experiment("study") if with_locks else ""
        digits = prepare_dataset(Data(source="digits"), DIGITS, images, settings.cache_folder).digest
        local = with_local_data(settings).data_root
        folder = prepare_dataset(Data(source="folder"), FOLDER, local, settings.cache_folder).digest
        resized = Data(source="folder", keep="resized")
        index = index_image_folder(resized, FOLDER, local, settings.cache_folder).digest
        if with_locks:
            replace_folder(settings.report_folder("study"), {"index.html": b"page", "figures/a.svg": b"figure"})
        owned = lease.acquire_lease(settings.studies_folder / "study-0")
        barrier.wait(60)  # a lease is free again when its process has ended
        results.put(("", (experiment, digits, folder, index), owned is not None))
    except BaseException as error:
        results.put((repr(error), (), False))
        barrier.abort()
        raise


def start_at_once(folder, images, *, with_locks=True):
    """What each of the processes found: its error, the contents, and whether it got the study's lease."""
    context = start_server()
    barrier, results = context.Barrier(NUM_PROCESSES), context.Queue()
    arguments = (folder, images, with_locks, barrier, results)
    processes = [context.Process(target=start_study, args=arguments) for _ in range(NUM_PROCESSES)]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    return found


def assert_all_agree(found):
    assert [error for error, _, _ in found if error] == []
    assert len({contents for _, contents, _ in found}) == 1
    assert [owned for _, _, owned in found].count(True) == 1


def test_eight_processes_that_start_at_once_on_an_empty_folder_all_go_on(images, tmp_path):
    assert_all_agree(start_at_once(tmp_path / "runs", images))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(30))
def test_thirty_rounds_of_eight_processes_that_start_at_once(images, tmp_path, number):
    assert_all_agree(start_at_once(tmp_path / "runs", images))


@pytest.mark.parametrize("number", range(2))
def test_without_locks_the_first_gives_its_folder_the_name(images, tmp_path, number):
    # SQLite itself, and replacing a report, need locks.
    assert_all_agree(start_at_once(tmp_path / "runs", images, with_locks=False))


def test_what_another_process_made_meanwhile_is_kept(tmp_path):
    folder = tmp_path / "cache"

    def read(path):
        return (path / "content").read_text() if (path / "content").exists() else None

    def fill(partial):
        (partial / "content").write_text("mine")
        folder.mkdir()
        (folder / "content").write_text("of the first")

    assert make_folder_once(folder, read, fill) == "of the first"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache"]


def test_an_unreadable_folder_is_made_anew(tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "damaged").write_text("")

    def read(path):
        return (path / "content").read_text() if (path / "content").exists() else None

    assert make_folder_once(tmp_path / "cache", read, lambda partial: (partial / "content").write_text("new")) == "new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["cache", "content"]


def test_a_lock_of_another_user_is_taken_all_the_same(tmp_path, monkeypatch):
    file = tmp_path / ".lock"
    file.touch()
    real_open = os.open

    def refuse_writing(path, flags, *mode):
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real_open(path, flags, *mode)

    monkeypatch.setattr(file_lock.os, "open", refuse_writing)
    with file_lock.exclusive_lock(file) as is_exclusive:
        assert is_exclusive
