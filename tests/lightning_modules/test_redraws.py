"""A placebo draws one stream anew, and shares the others with its seed."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from lightning_modules.data.datasets import prepare_dataset
from lightning_modules.data.inventory import make_data_module
from lightning_modules.modules.trainable import make_trainable
from lightning_modules.rng import RNG_STREAMS, redraw_seed, seeded_generator
from studies.protocols import load

SETUP = load("digits").setup


def draw(seed, stream, *keys):
    return seeded_generator(seed, stream, *keys).integers(2**62)


@pytest.mark.parametrize("redrawn", ["weights", "order", "augmentation"])
def test_only_the_redrawn_stream_is_another(redrawn):
    seed = redraw_seed(5, redrawn, "placebo")
    assert seed == 5
    for stream in RNG_STREAMS:
        assert bool(draw(seed, stream, 3) == draw(5, stream, 3)) is (stream != redrawn)
    assert draw(seed, redrawn) != draw(redraw_seed(6, redrawn, "placebo"), redrawn)
    assert draw(seed, redrawn) != draw(redraw_seed(5, redrawn, "second"), redrawn)
    assert draw(pickle.loads(pickle.dumps(seed)), redrawn) == draw(seed, redrawn)


def test_no_redrawn_stream_leaves_the_seed_as_it_is():
    assert type(redraw_seed(5, "none", "none")) is int


def first_batch(setup, tmp_path):
    data = make_data_module(setup, prepare_dataset(setup.data, setup.scale, tmp_path, tmp_path), 0, torch.device("cpu"))
    images, labels = next(iter(data.train_dataloader()))
    return data, images, labels


def test_a_trial_s_weights_order_and_augmentation_follow_its_setup(tmp_path):
    weights = {}
    for stream in ("none", "weights", "order"):
        setup = replace(SETUP, redraws=stream, redraw_name="placebo")
        weights[stream] = next(make_trainable(setup, 0).network.parameters()).detach()
    assert torch.equal(weights["none"], weights["order"])
    assert not torch.equal(weights["none"], weights["weights"])

    found = {stream: first_batch(replace(SETUP, redraws=stream), tmp_path) for stream in ("none", "weights", "order")}
    data, images, labels = found["none"]
    assert torch.equal(found["weights"][1], images)
    assert not torch.equal(found["order"][2], labels)
    assert np.array_equal(found["order"][0].validation_indices, data.validation_indices)
    _, shifted, same_labels = first_batch(replace(SETUP, redraws="augmentation"), tmp_path)
    assert torch.equal(same_labels, labels)
    assert not torch.equal(shifted, images)
