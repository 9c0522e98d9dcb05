"""Batches that are sent ahead are those of a plain loader, in its order, at most two ahead."""

import threading
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_modules.data import streaming
from lightning_modules.data.datamodule import EpochLoader
from lightning_modules.data.normalization import PixelNormalization
from lightning_modules.data.streaming import ImageFileSplit
from lightning_modules.device_transfer import NUM_BATCHES_AHEAD, send_ahead
from lightning_modules.specs.recipe import Augmentation
from lightning_modules.specs.scale import Scale

CPU = torch.device("cpu")
SCALE = Scale(resolution=16, channels=3, classes=2)
NUM_IMAGES = 50


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """A split of small JPEG files of several shapes."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    files = [folder / f"{index}.jpg" for index in range(NUM_IMAGES)]
    for index, file in enumerate(files):
        pixels = random.integers(0, 256, (20 + index % 7, 24 + index % 5, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file)
    components = np.diag([3.0, 2.0, 1.0])
    normalization = PixelNormalization.on_device(np.full(3, 120.0), np.full(3, 60.0), components, CPU)
    return ImageFileSplit(files, np.arange(NUM_IMAGES) % 2, SCALE, normalization, 0, CPU)


def send_plainly(batches, device):
    """Make each batch when it is asked for, and send it then."""
    return (tuple(tensor.to(device) for tensor in tensors) for tensors in batches)


def read_epoch(split, recipe):
    epoch = EpochLoader(split, recipe, seed=3, epoch=1)
    batches = list(epoch)
    return batches, epoch.order_hash.hexdigest(), epoch.augmentation_hash.hexdigest(), epoch.num_examples_seen


def require_same_bits(batches, others):
    for batch, other in zip(batches, others, strict=True):
        assert [tensor.stride() for tensor in batch] == [tensor.stride() for tensor in other]
        assert all(torch.equal(tensor, expected) for tensor, expected in zip(batch, other, strict=True))


@pytest.mark.parametrize("augmentation", ["none", "shift", "shift-flip", "crop-flip", "crop-flip-colour"])
def test_an_epoch_of_image_files_has_the_bits_of_a_plain_loader(split, small, monkeypatch, augmentation: Augmentation):
    sides = {"side_from": 1.0, "side_to": 1.5} if augmentation.startswith("crop") else {}
    recipe = replace(small.recipe, augmentation=augmentation, batch_size=16, remainder="keep", **sides)
    sent, *sent_digests = read_epoch(split, recipe)
    evaluated = list(split.evaluation_batches())
    monkeypatch.setattr(streaming, "send_ahead", send_plainly)
    plain, *plain_digests = read_epoch(split, recipe)
    assert [len(labels) for _, labels in sent] == [16, 16, 16, 2]
    require_same_bits(sent, plain)
    require_same_bits(evaluated, split.evaluation_batches())
    assert sent_digests == plain_digests


def test_two_batches_are_made_ahead_by_a_thread_of_their_own():
    made, threads = threading.Semaphore(0), set()

    def batches():
        for number in count():
            threads.add(threading.current_thread())
            made.release()
            yield (torch.tensor(number),)

    sent = send_ahead(batches(), CPU)
    assert [int(next(sent)[0]) for _ in range(3)] == [0, 1, 2]
    for _ in range(3 + NUM_BATCHES_AHEAD):
        assert made.acquire(timeout=5)
    assert not made.acquire(timeout=0.2)
    sent.close()
    assert threading.current_thread() not in threads
    assert not any(thread.is_alive() for thread in threads)


def test_what_making_a_batch_raises_comes_in_its_place():
    def batches():
        yield (torch.tensor(0),)
        raise OSError("a file is gone")

    sent = send_ahead(batches(), CPU)
    assert int(next(sent)[0]) == 0
    with pytest.raises(OSError, match="a file is gone"):
        next(sent)


def test_no_batches_are_none():
    assert list(send_ahead(iter(()), CPU)) == []


def test_a_gpus_share_of_the_cores_decodes_for_it(split, monkeypatch):
    monkeypatch.setattr(streaming, "count_cores_per_gpu", lambda: torch.get_num_threads() + 7)
    assert split.num_threads == torch.get_num_threads()
    on_gpu = object.__new__(ImageFileSplit)
    on_gpu.device = torch.device("cuda")
    assert on_gpu.num_threads == torch.get_num_threads() + 7
