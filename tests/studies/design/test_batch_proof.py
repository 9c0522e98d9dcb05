"""Every size of batch that an epoch has is tried before anything is trained, and what fails is offered a remedy."""

from dataclasses import replace

import pytest
import pytorch_lightning as lightning
import torch
from torch import nn

from lightning_modules.data.datamodule import EpochLoader
from lightning_modules.data.inventory import count_training_examples
from lightning_modules.modules.trainable import make_trainable
from lightning_modules.specs.catalogue import VGG_A
from lightning_modules.specs.data import Data, ForeignData
from lightning_modules.specs.networks import Custom
from lightning_modules.specs.recipe import Recipe
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.serialization import from_json, to_json
from lightning_modules.specs.setup import SPEC_KINDS, Setup
from lightning_modules.specs.values import flatten_fields
from studies.design.batch_proof import describe_failing_batch, describe_single_image_failure
from studies.design.preview import _describe_batches
from studies.design.trial import Trial

ARGUMENTS = {"channels": "$channels", "classes": "$classes"}


def pooled(channels, classes):
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(8), nn.Linear(8, classes)
    )


class Pairs(nn.Module):
    """A network that mixes the two halves of a batch."""

    def __init__(self, channels, classes):
        super().__init__()
        self.inner = pooled(channels, classes)

    def forward(self, images):
        if self.training:
            first, second = images.view(2, -1, *images.shape[1:])
            images = torch.cat((0.9 * first + 0.1 * second, second))
        return self.inner(images)


class Reading(nn.Module):
    """A network that reads a number, which has no value on the meta device."""

    def __init__(self, channels, classes):
        super().__init__()
        self.inner = pooled(channels, classes)

    def forward(self, images):
        return self.inner(images * float(images.mean().item() > -9))


class OwnTraining(lightning.LightningModule):
    def __init__(self, channels, classes):
        super().__init__()
        self.inner = pooled(channels, classes)

    def forward(self, images):
        return self.inner(images)


def setup(name, **recipe):
    network = Custom(class_path=f"{__name__}.{name}", init_args=ARGUMENTS)
    scale = Scale(resolution=8, channels=1, classes=10)
    return Setup(
        network=network, scale=scale, recipe=Recipe(**{"batch_size": 32, **recipe}), data=Data(source="digits")
    )


def test_an_epoch_is_cut_as_the_recipe_says():
    keep, drop, join = (Recipe(batch_size=32, remainder=name) for name in ("keep", "drop", "join"))
    assert [recipe.batch_sizes(65) for recipe in (keep, drop, join)] == [(32, 32, 1), (32, 32), (32, 33)]
    assert [recipe.batch_sizes(64) for recipe in (keep, drop, join)] == [(32, 32)] * 3
    assert [recipe.batch_sizes(5) for recipe in (keep, drop, join)] == [(5,)] * 3  # nothing else would be left
    assert replace(keep, microbatch=31).microbatch_sizes(32) == (31, 1)
    assert (
        replace(drop, microbatch=31).microbatch_sizes(32) == replace(join, microbatch=31).microbatch_sizes(32) == (32,)
    )
    assert replace(join, microbatch=8).microbatch_sizes(33) == (8, 8, 8, 9)


def test_batches_have_these_sizes_and_what_is_dropped_changes_with_the_epoch():
    class Split:
        labels, resolution, channels = torch.arange(65), 8, 1

        def __len__(self):
            return 65

        def augmented_images(self, index_batches, _):
            return (torch.zeros(len(indices), 1, 8, 8) for indices in index_batches)

    def labels_of(remainder, epoch):
        loader = EpochLoader(Split(), Recipe(batch_size=32, remainder=remainder, augmentation="none"), 0, epoch)
        batches = [labels for _, labels in loader]
        assert len(batches) == len(loader)
        return [len(batch) for batch in batches], set(torch.cat(batches).tolist())

    assert labels_of("keep", 0) == ([32, 32, 1], set(range(65)))
    assert labels_of("join", 0) == ([32, 33], set(range(65)))
    sizes, first = labels_of("drop", 0)
    assert sizes == [32, 32]
    assert first != labels_of("drop", 1)[1]


def test_the_default_leaves_fingerprints_and_records_as_they_were():
    given = Setup(network=VGG_A)
    assert Trial(arm="a", setup=given, seed=0).fingerprint == "fdf2347006e9ef1d"
    assert "recipe.remainder" not in flatten_fields(given)
    assert "remainder" not in to_json(given)["recipe"]
    dropping = replace(given, recipe=replace(given.recipe, remainder="drop"))
    assert flatten_fields(dropping)["recipe.remainder"] == "drop"
    assert from_json(to_json(dropping), SPEC_KINDS) == dropping
    assert from_json(to_json(given), SPEC_KINDS) == given


@pytest.mark.parametrize("name", ["pooled", "Reading", "OwnTraining"])
def test_a_last_batch_of_one_is_found_and_both_remedies_are_offered(name):
    failure = describe_failing_batch(setup(name), 33)
    assert failure.startswith("33 training images in batches of 32 have a last batch of 1, and ")
    assert "fails on it in training: Expected more than 1 value per channel" in failure
    assert "recipe.remainder=drop" in failure
    assert "recipe.remainder=join" in failure
    assert not describe_failing_batch(setup(name), 34)
    assert not describe_failing_batch(setup(name, remainder="drop"), 33)
    assert not describe_failing_batch(setup(name, remainder="join"), 33)


def test_microbatches_are_tried_and_only_what_helps_is_offered():
    failure = describe_failing_batch(setup("pooled", microbatch=31), 64)
    assert "in microbatches of 31 the last one of 1" in failure
    assert "remainder=join" in failure
    assert "remainder=drop" not in failure
    assert not describe_failing_batch(setup("pooled", microbatch=31, remainder="join"), 64)
    module = make_trainable(setup("pooled", microbatch=31, remainder="join"), seed=0).module
    assert [len(labels) for _, labels in module._split_microbatches(torch.zeros(33, 1), torch.zeros(33))] == [33]


def test_any_size_that_fails_is_found():
    failure = describe_failing_batch(setup("Pairs"), 35)
    assert "have a last batch of 3" in failure
    assert "remainder=drop" in failure
    assert "remainder=join" not in failure  # a batch of 35 is odd as well


def test_batches_of_a_users_loader_are_tried():
    foreign = replace(setup("pooled"), data=ForeignData(class_path="mine.Data"))
    failure = describe_failing_batch(foreign, 33, frozenset({32, 1}))
    assert failure.startswith("mine.Data's train_dataloader gives a batch of 1, and ")
    assert failure.endswith("For all arms alike: give its DataLoader drop_last=True, or another batch_size.")


def test_networks_of_this_package_are_tried_as_well():
    scale = Scale(resolution=32, width=0.0625)
    vgg = Setup(network=replace(VGG_A, norm="batch"), scale=scale, recipe=Recipe(batch_size=32))
    assert not describe_failing_batch(vgg, 33)  # its last maps have four places, so one image has four values


def test_show_counts_images_without_reading_them_and_otherwise_names_the_case(tmp_path):
    given = setup("pooled")
    assert count_training_examples(given, tmp_path) == 540
    assert "have a last batch of 1" in _describe_batches(replace(given, recipe=Recipe(batch_size=49)), tmp_path)[0]
    folder = replace(given, data=Data(source="folder", validation_fraction=0.2))
    failure, note = _describe_batches(folder, tmp_path)
    assert not failure
    assert "A last batch of a single image is possible" in note
    for split, name, count in (("train", "a", 21), ("train", "b", 20), ("test", "a", 1), ("test", "b", 1)):
        (tmp_path / split / name).mkdir(parents=True)
        for index in range(count):
            (tmp_path / split / name / f"{index}.png").touch()
    assert count_training_examples(folder, tmp_path) == 33
    assert "33 training images" in _describe_batches(folder, tmp_path)[0]
    failure, note = _describe_batches(replace(folder, network=setup("OwnTraining").network), tmp_path)
    assert not failure  # its training step may take care of such a batch
    assert "33 training images" in note


def test_what_trains_nothing_has_no_batches():
    assert not describe_single_image_failure(setup("pooled", trains="linear classifier"))
