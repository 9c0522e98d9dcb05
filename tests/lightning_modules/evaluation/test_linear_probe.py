"""What a linear classifier reads of a network, and how its strength is chosen."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from lightning_modules import spec
from lightning_modules.data.datamodule import InMemoryDataModule, rescale_images
from lightning_modules.evaluation.dense import FullyConvolutional
from lightning_modules.evaluation.inference import Scorer, ViewScheme
from lightning_modules.evaluation.linear_probe import (
    INVERSE_PENALTIES,
    FeatureSet,
    extract_features,
    fit_linear_classifier,
)
from lightning_modules.networks.initialization import build_initialized_network
from lightning_modules.specs.catalogue import RESNET_20, VGG_A
from lightning_modules.specs.networks import Head
from lightning_modules.specs.scale import Scale

CPU = torch.device("cpu")
NETWORKS = {"A": VGG_A, "a residual one": RESNET_20, "A of one layer": replace(VGG_A, head=Head(widths=()))}


def nothing():
    return


@pytest.fixture(scope="module")
def parts(small, digits):
    """The small setup's network, and its data."""
    scorer = Scorer(build_initialized_network(small.network, small.scale, 0), small.network, small.recipe).eval()
    return scorer, InMemoryDataModule(digits, small.data, small.recipe, 0, CPU)


@pytest.mark.parametrize(("name", "network"), NETWORKS.items())
def test_the_features_of_a_crop_are_what_the_last_layer_reads(name, network):
    module = build_initialized_network(network, Scale(resolution=32, classes=7, width=1 / 8), seed=0).eval()
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    last = list(module.head)[-1]
    with torch.no_grad():
        features = FullyConvolutional(module, network).features(images)
        assert features.shape == (3, last.in_features)
        torch.testing.assert_close(last(features), module(images), msg=name)


@torch.no_grad()
def test_features_are_averaged_over_positions_then_mirror_images_then_sides_and_scaled_to_length_one(small, parts):
    scorer, data = parts
    recipe = replace(small.recipe, augmentation="shift-flip")
    test = spec.Test(mode="dense", sides=(1.0, 2.0))
    found = extract_features(
        scorer, ViewScheme.from_setup(replace(small, recipe=recipe, test=test)), data.validation, nothing
    )
    stored = data.validation.images[:5].permute(0, 3, 1, 2).float()
    by_side = []
    for side in (32, 64):
        images = data.validation.normalize(rescale_images(stored, side).round().permute(0, 2, 3, 1))
        maps = [scorer.network[:-2](view) for view in (images, images.flip(3))]  # a dense map has one place, or four
        of_views = []
        for each in maps:
            places = [each[:, :, [row], [column]] for row in range(each.shape[2]) for column in range(each.shape[3])]
            of_views.append(torch.stack([scorer.network.head[:6](place.flatten(1)) for place in places]).mean(0))
        by_side.append((of_views[0] + of_views[1]) / 2)
    expected = functional.normalize(((by_side[0] + by_side[1]) / 2).double(), dim=1)
    np.testing.assert_allclose(found.features[:5], expected.numpy(), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found.features, axis=1), 1)
    assert list(found.labels) == data.validation.labels.tolist()


def pixels(digits, classes, chosen):
    """Some digits of the first classes, by their pixels."""
    some = np.flatnonzero(digits.train_labels < classes)[chosen]
    rows = digits.train_images[some, ::4, ::4, 0].reshape(len(some), -1).astype(np.float64)
    return FeatureSet(rows / np.linalg.norm(rows, axis=1, keepdims=True), digits.train_labels[some])


@pytest.mark.parametrize("classes", [2, 10])
def test_scores_and_choice_are_scikit_learns(digits, classes):
    from sklearn.linear_model import LogisticRegression

    train, held = pixels(digits, classes, slice(0, None, 3)), pixels(digits, classes, slice(1, None, 3))
    found = fit_linear_classifier(train, held, 1, nothing)
    errors = []
    for strength in INVERSE_PENALTIES:
        model = LogisticRegression(C=strength, max_iter=5000).fit(train.features, train.labels)
        errors.append(100 * float((model.predict(held.features) != held.labels).mean()))
        if strength == found.inverse_penalty:
            posteriors = torch.from_numpy(found.logits(held.features)).softmax(1).numpy()
            np.testing.assert_allclose(
                posteriors, model.predict_proba(held.features), atol=0.03
            )  # both stop at a slope of 1e-4
    assert found.evaluate(held)[0].error == pytest.approx(min(errors))
    assert found.inverse_penalty == INVERSE_PENALTIES[int(np.argmin(errors))]  # of equal errors, the strongest penalty
    assert found.weight.shape == (classes, 64)


def test_it_is_the_same_to_the_bit_every_time(digits):
    train, held = pixels(digits, 10, slice(0, None, 3)), pixels(digits, 10, slice(1, None, 3))
    first, second = (fit_linear_classifier(train, held, 1, nothing) for _ in range(2))
    assert np.array_equal(first.weight, second.weight)
    assert (first.inverse_penalty, first.num_iterations, first.has_converged) == (
        second.inverse_penalty,
        second.num_iterations,
        True,
    )
