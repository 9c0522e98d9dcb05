"""Batches that are cut on the device are those that the host makes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lightning_modules.data.datamodule import EpochLoader, InMemoryDataModule
from lightning_modules.distributed import DataParallelRank
from lightning_modules.specs.recipe import Augmentation, Remainder

CPU = torch.device("cpu")


def make_data(digits, small, **recipe):
    return InMemoryDataModule(digits, small.data, replace(small.recipe, **recipe), seed=2, device=CPU)


def epoch_of(data, number, dp_rank=None):
    return EpochLoader(data.train, data.recipe, 2, number, dp_rank)


def cut_all(epoch):
    epoch.load_draws()
    return [epoch.cut_batch(size) for size in epoch.batch_sizes]


@pytest.mark.parametrize("augmentation", ["none", "shift", "shift-flip"])
@pytest.mark.parametrize("remainder", ["keep", "drop", "join"])
def test_batches_and_hashes_are_the_same_bits(digits, small, augmentation: Augmentation, remainder: Remainder):
    data = make_data(digits, small, augmentation=augmentation, remainder=remainder, batch_size=100)
    for number in (0, 1):  # the second fills the buffers of the first
        made, cut = epoch_of(data, number), epoch_of(data, number)
        pairs = list(zip(made, cut_all(cut), strict=True))
        assert all(torch.equal(images, other) for (images, _), (other, _) in pairs)
        assert all(torch.equal(labels, other) for (_, labels), (_, other) in pairs)
        assert cut.order_hash.hexdigest() == made.order_hash.hexdigest()
        assert cut.augmentation_hash.hexdigest() == made.augmentation_hash.hexdigest()
        assert cut.num_examples_seen == made.num_examples_seen == sum(cut.batch_sizes)


@pytest.mark.parametrize("augmentation", ["crop-flip", "crop-flip-colour"])
def test_crops_differ_by_one_gray_level_at_most(digits, small, augmentation: Augmentation):
    data = make_data(digits, small, augmentation=augmentation, side_from=1.0, side_to=2.0)
    one_level = 1 / float(data.train.normalization.std)
    for (images, _), (other, _) in zip(epoch_of(data, 0), cut_all(epoch_of(data, 0)), strict=True):
        assert float((images - other).abs().max()) <= one_level * 1.001


def test_each_of_several_workers_cuts_its_share(digits, small):
    data = make_data(digits, small)
    whole = cut_all(epoch_of(data, 0))
    shares = [cut_all(epoch_of(data, 0, DataParallelRank(rank, 3))) for rank in range(3)]
    for index, (images, labels) in enumerate(whole):
        assert torch.equal(torch.cat([share[index][0] for share in shares]), images)
        assert all(torch.equal(share[index][1], labels) for share in shares)


def test_the_hashes_of_an_epoch_are_those_of_its_draws_batch_by_batch(digits, small):
    data = make_data(digits, small, batch_size=100, remainder="drop")
    epoch, hashed = epoch_of(data, 0), epoch_of(data, 0)
    list(epoch)
    for start in range(0, 400, 100):
        indices = hashed.order[start : start + 100]
        hashed.order_hash.update(indices.tobytes())
        hashed.augmentation_hash.update(*hashed.params.to_bytes(indices))
    assert len(np.unique(epoch.order)) == len(data.train)
    assert epoch.num_examples_seen == 400
    assert hashed.order_hash.hexdigest() == epoch.order_hash.hexdigest()
    assert hashed.augmentation_hash.hexdigest() == epoch.augmentation_hash.hexdigest()
