"""Looking a trained network: whole images, crops, several sizes, several networks; and what it costs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from lightning_modules import spec
from lightning_modules.data.datamodule import MAX_EVALUATION_PIXELS, DataSplit, InMemoryDataModule, rescale_images
from lightning_modules.distributed import DataParallelRank
from lightning_modules.evaluation.dense import FullyConvolutional
from lightning_modules.evaluation.inference import Scorer, ViewScheme, crop_corners, default_test_side, evaluate_scorers
from lightning_modules.modules.metrics import RunningMetrics, evaluate_network
from lightning_modules.networks.build import build_network
from lightning_modules.networks.initialization import build_initialized_network
from lightning_modules.profiling.evaluation_cost import inference_multiply_adds
from lightning_modules.profiling.profile import profile_spec
from lightning_modules.specs.catalogue import NETWORKS, RESNET_18, VGG_A, VGG_D, vgg_stages
from lightning_modules.specs.errors import InvalidValue, UserError
from lightning_modules.specs.networks import Custom, Head
from lightning_modules.specs.recipe import Recipe
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.serialization import from_json, to_json
from lightning_modules.specs.setup import SPEC_KINDS, Setup
from lightning_modules.specs.values import flatten_fields

THIN = Scale(resolution=224, classes=7, width=1 / 32)
OWN = {name: network for name, network in NETWORKS.items() if not isinstance(network, Custom)}
VARIANTS = {
    "average pooling": replace(VGG_A, pooling="average"),
    "strided": replace(VGG_A, pooling="strided"),
    "LRN everywhere": replace(VGG_A, norm="lrn"),
    "batch norm": replace(VGG_A, norm="batch"),
    "group norm": replace(VGG_A, norm="group"),
    "averaged map": replace(VGG_A, head=Head(pooling="average", widths=())),
    "7x7 stem": replace(VGG_A, stem="7x7", stages=VGG_A.stages[:3]),
}
CPU = torch.device("cpu")


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("name", "network"), {**OWN, **VARIANTS}.items())
def test_dense_on_a_crop_is_the_ordinary_forward(name, network):
    residual = isinstance(network, spec.ResNet)  # its map is averaged, whatever its side
    scale = replace(THIN, resolution=64 if residual else 224)
    module = build_initialized_network(network, scale, seed=0).eval()
    images = random(1 if residual else 2, 3, scale.resolution, scale.resolution)
    with torch.no_grad():
        ordinary, dense = module(images), FullyConvolutional(module, network)(images)
    assert float(ordinary.std()) > 0
    torch.testing.assert_close(dense, ordinary, rtol=1e-4, atol=1e-5 * float(ordinary.abs().max()), msg=name)


@pytest.mark.parametrize("side", [224, 256, 288, 384, 512])
def test_the_class_score_map_of_vgg_has_the_papers_side(side):
    with torch.device("meta"):
        module = build_network(VGG_D, THIN)
        scores = FullyConvolutional(module, VGG_D).score_map(torch.empty(1, 3, side, side))
    assert tuple(scores.shape) == (1, 7, side // 32 - 6, side // 32 - 6)


def test_the_score_map_of_an_oblong_image_is_oblong():
    module = build_initialized_network(VGG_A, THIN, seed=0).eval()
    with torch.no_grad():
        assert tuple(FullyConvolutional(module, VGG_A).score_map(random(1, 3, 256, 320)).shape) == (1, 7, 2, 4)


def test_where_no_padding_reaches_every_place_of_the_map_is_an_explicit_crop():
    network = replace(VGG_A, stages=vgg_stages((1,), (1, 1), (1,), widths=(16, 32, 64)))  # 1 × 1: nothing to pad
    scale = Scale(resolution=32, classes=5, width=0.5)
    module = build_initialized_network(network, scale, seed=1).eval()
    images = random(3, 3, 48, 56)
    with torch.no_grad():
        scores = FullyConvolutional(module, network).score_map(images)
        for row in range(3):
            for column in range(4):
                crop = images[:, :, 8 * row : 8 * row + 32, 8 * column : 8 * column + 32]
                torch.testing.assert_close(scores[:, :, row, column], module(crop), rtol=1e-4, atol=1e-5)
    assert tuple(scores.shape) == (3, 5, 3, 4)


def test_in_the_interior_of_its_map_a_3x3_network_sees_the_crop_as_it_sees_the_whole_image():
    network = replace(VGG_A, stages=VGG_A.stages[:2])
    module = build_initialized_network(network, Scale(resolution=64, width=0.125), seed=0).eval()
    features = nn.Sequential(*(part for name, part in module.named_children() if name.startswith("stage")))
    images = random(1, 3, 96, 96)
    with torch.no_grad():
        whole, crop = features(images), features(images[:, :, 16:80, 16:80])
    inner = slice(2, 14)  # of 16: two places are within the padding's reach on each side
    torch.testing.assert_close(whole[:, :, 4:20, 4:20][:, :, inner, inner], crop[:, :, inner, inner])
    assert not torch.allclose(whole[:, :, 4:20, 4:20], crop)


def test_the_weights_of_the_convolutions_are_the_fully_connected_layers_own():
    module = build_initialized_network(VGG_A, THIN, seed=0).eval()
    dense, images = FullyConvolutional(module, VGG_A), random(1, 3, 224, 224)
    with torch.no_grad():
        module.head.fc3.weight.zero_()
        module.head.fc3.bias.copy_(torch.arange(7.0))
        assert dense(images)[0].tolist() == list(range(7))
    assert sum(each.numel() for each in dense.parameters()) == sum(each.numel() for each in module.parameters())


def test_a_custom_network_is_not_tested_densely_and_is_told_what_can_be_done():
    alexnet = NETWORKS["alexnet"]
    text = r"torchvision\.models\.alexnet cannot be tested densely: .* Expected test\.mode single, multi-crop or ten-"
    with pytest.raises(UserError, match=text):
        FullyConvolutional(nn.Identity(), alexnet)
    with pytest.raises(UserError, match=text):
        inference_multiply_adds(Setup(network=alexnet, test=spec.Test(mode="both")))


def looking(mode="multi-crop", sides=(36,), mirrored=True, crop=32):
    return ViewScheme(mode=mode, sides=sides, is_mirrored=mirrored, crop_side=crop)


def test_three_sides_give_exactly_the_papers_150_crops():
    setup = Setup(network=VGG_D, test=spec.Test(mode="multi-crop", sides=(8 / 7, 12 / 7, 16 / 7)))
    found = ViewScheme.from_setup(setup)
    assert found.sides == (256, 384, 512)
    images = {side: torch.arange(float(side * side)).view(1, 1, side, side) for side in found.sides}
    views = {side: list(found.views(images[side], "multi-crop")) for side in found.sides}
    assert [len(views[side]) for side in found.sides] == [50, 50, 50]
    for side, seen in views.items():
        grid = [round(step * (side - 224) / 4) for step in range(5)]
        corners = [(top, left) for top in grid for left in grid]
        assert [divmod(int(view[0, 0, 0, 0]), side) for view in seen[:25]] == corners
        assert all(view.shape == (1, 1, 224, 224) for view in seen)
        rights = [(int(view[0, 0, 0, -1]) // side, int(view[0, 0, 0, -1]) % side) for view in seen[25:]]
        assert sorted(rights) == sorted((top, side - 224 - left) for top, left in corners)


def test_ten_crops_are_the_corners_and_the_center_and_their_mirror_images():
    assert crop_corners("ten-crop", 256, 300, 224) == ((0, 0), (0, 76), (32, 0), (32, 76), (16, 38))
    image = random(1, 1, 36, 40)
    views = list(looking("ten-crop").views(image, "ten-crop"))
    assert len(views) == 10
    assert torch.equal(views[4], image[:, :, 2:34, 4:36])
    assert torch.equal(views[5], image.flip(3)[:, :, :32, :32])


def test_a_single_crop_is_the_center_and_never_mirrored():
    image = random(1, 1, 37, 40)
    (view,) = looking("single").views(image, "single")
    assert torch.equal(view, image[:, :, 2:34, 4:36])


class Pixel(nn.Module):
    """A network of two classes whose logits are 0 and what it sees in the upper left corner."""

    def forward(self, images):
        return torch.stack([torch.zeros(len(images)), images[:, 0, 0, 0]], 1)


class PixelScorer(Scorer):
    """Its dense score is the sum of all pixels."""

    def __init__(self, factor=1.0):
        super().__init__(Pixel(), VGG_A, Recipe())
        self.factor = factor

    def forward(self, images):
        return self.factor * super().forward(images)

    def score_densely(self, images):
        return torch.stack([torch.zeros(len(images)), self.factor * images.sum((1, 2, 3))], 1)


class Given:
    """A part of one example per batch, whose pixels depend on the side that is asked for."""

    def __init__(self, images):
        self.images = images

    def evaluation_batches(self):
        yield from self.rescaled_batches(0)

    def rescaled_batches(self, side):
        for image in self.images[side]:
            yield image[None], torch.tensor([1])


def sigmoid(value):
    return 1 / (1 + np.exp(-value))


def found_loss(given, mode, sides, scorers=None, mirrored=True):
    found = ViewScheme(mode=mode, sides=sides, is_mirrored=mirrored, crop_side=1)
    return np.exp(-evaluate_scorers(scorers or [PixelScorer()], found, Given(given), CPU)[0].mean_loss)


def test_posteriors_are_averaged_as_the_hand_computes_it():
    """Images of one row: 1 × 2 pixels at one side, 1 × 3 at the other; the posterior is that of the right class."""
    given = {1: [torch.tensor([[[0.5, 2.0]]])], 2: [torch.tensor([[[-1.0, 0.25, 3.0]]])]}
    columns_1, columns_2 = [round(step / 4) for step in range(5)], [round(step * 2 / 4) for step in range(5)]
    crop_1 = np.mean(
        [sigmoid([0.5, 2.0][column]) for column in columns_1] + [sigmoid([2.0, 0.5][c]) for c in columns_1]
    )
    crop_2 = np.mean(
        [sigmoid([-1.0, 0.25, 3.0][c]) for c in columns_2] + [sigmoid([3.0, 0.25, -1.0][c]) for c in columns_2]
    )
    dense_1, dense_2 = sigmoid(2.5), sigmoid(2.25)
    assert found_loss(given, "single", (1,)) == pytest.approx(sigmoid(0.5), rel=1e-5)
    assert found_loss(given, "dense", (1,)) == pytest.approx(dense_1, rel=1e-5)
    assert found_loss(given, "multi-crop", (1,)) == pytest.approx(crop_1, rel=1e-5)
    assert found_loss(given, "dense", (1, 2)) == pytest.approx((dense_1 + dense_2) / 2, rel=1e-5)
    assert found_loss(given, "both", (1, 2)) == pytest.approx((dense_1 + dense_2 + crop_1 + crop_2) / 4, rel=1e-5)
    pair = [PixelScorer(), PixelScorer(-2.0)]
    assert found_loss(given, "single", (1,), pair) == pytest.approx((sigmoid(0.5) + sigmoid(-1.0)) / 2, rel=1e-5)


def digits_part(digits, count=64):
    statistics = torch.tensor([100.0]), torch.tensor([90.0])
    images, labels = (torch.from_numpy(np.array(each[:count])) for each in (digits.test_images, digits.test_labels))
    return DataSplit(images, labels, *statistics)


def test_one_crop_at_the_stored_side_is_the_evaluation_itself(digits, small):
    part, module = digits_part(digits), build_initialized_network(VGG_A, small.scale, seed=0).eval()
    counted, classes = evaluate_network(module, part.evaluation_batches(), CPU)
    scorer = Scorer(module, VGG_A, small.recipe)
    found, again = evaluate_scorers([scorer], looking("single", (32,)), part, CPU)
    assert torch.equal(classes, again)
    assert (found.error, found.top5_error) == (counted.error, counted.top5_error)
    assert found.mean_loss == pytest.approx(counted.mean_loss, rel=1e-5)


class OneOfTwo(DataParallelRank):
    """The share of one of two workers that do not meet: it keeps what it would add up."""

    def all_reduce(self, *tensors):
        self.told = [tensor.clone() for tensor in tensors]


def test_two_workers_find_together_what_one_finds(digits, small):
    part = digits_part(digits, 33)
    scorer = Scorer(build_initialized_network(VGG_A, small.scale, seed=0).eval(), VGG_A, small.recipe)
    _, alone = evaluate_scorers([scorer], looking("dense", (32, 64)), part, CPU)
    shares = [OneOfTwo(rank, 2) for rank in range(2)]
    for share in shares:
        evaluate_scorers([scorer], looking("dense", (32, 64)), part, CPU, share)
    first, second = (share.told[0] for share in shares)
    assert torch.equal((first + second).argmax(1), alone)
    assert not bool(((first > 0) & (second > 0)).any())


def test_the_top_5_error_counts_whose_class_is_not_among_the_five_best():
    logits = torch.tensor([[9.0, 8, 7, 6, 5, 4, 3], [9.0, 8, 7, 6, 5, 4, 3], [1.0, 2, 3, 4, 5, 6, 7]])
    tally = RunningMetrics(CPU)
    labels = torch.tensor([4, 5, 1])
    tally.update(torch.tensor(0.0), logits, labels)
    tally.update_top5(logits, labels)
    assert tally.top5_error == pytest.approx(100 * 2 / 3)


def test_images_are_rescaled_in_order_in_batches_whose_pixels_are_bounded(digits):
    part = digits_part(digits, 70)
    batches = list(part.rescaled_batches(256))
    assert {tuple(images.shape[1:]) for images, _ in batches} == {(1, 256, 256)}
    assert all(images.numel() <= MAX_EVALUATION_PIXELS for images, _ in batches)
    assert torch.equal(torch.cat([labels for _, labels in batches]), part.labels)
    whole = torch.cat([images for images, _ in part.rescaled_batches(37)])
    stored = part.images.permute(0, 3, 1, 2).float()
    expected = nn.functional.interpolate(stored, (37, 37), mode="bilinear", antialias=True).round()
    torch.testing.assert_close(whole, (expected - 100) / 90)


def test_one_crop_at_the_recipes_own_side_is_what_is_shown_while_training_to_one_grey_level(digits, small):
    recipe = replace(small.recipe, augmentation="crop-flip", side_from=8 / 7, side_to=8 / 7)
    part = InMemoryDataModule(digits, small.data, recipe, 0, CPU).test
    (shown, _), looked = next(part.evaluation_batches()), looking("single", (37,))
    (seen,) = looked.views(torch.cat([images for images, _ in part.rescaled_batches(37)]), "single")
    assert float(((seen[: len(shown)] - shown) * part.normalization.std).abs().max()) <= 1.01


def test_an_image_is_rescaled_by_its_shorter_side_without_aliasing():
    image = torch.ones(1, 1, 60, 91)
    image[:, :, :, ::2] = -1.0
    assert tuple(rescale_images(image, 30).shape) == (1, 1, 30, 45)
    assert float(rescale_images(image, 15)[:, :, :, 2:-2].abs().max()) < 0.2  # stripes of a pixel vanish


@pytest.mark.parametrize(
    ("setup", "expected"),
    [
        (Setup(network=VGG_D), ViewScheme(mode="single", sides=(224,), is_mirrored=True, crop_side=224)),
        (
            Setup(network=VGG_D, recipe=Recipe(augmentation="shift"), test=spec.Test(mode="dense", sides=(8 / 7,))),
            ViewScheme(mode="dense", sides=(256,), is_mirrored=False, crop_side=224),
        ),
        (
            Setup(
                network=VGG_D,
                scale=Scale(resolution=32),
                test=spec.Test(mode="both", sides=(8 / 7, 1), mirroring="never"),
            ),
            ViewScheme(mode="both", sides=(37, 32), is_mirrored=False, crop_side=32),
        ),
    ],
)
def test_a_test_is_told_in_pixels_and_mirrors_where_training_did(setup, expected):
    assert ViewScheme.from_setup(setup) == expected
    assert default_test_side(setup) == 1


def test_without_sides_a_test_looks_at_images_as_training_does():
    recipe = Recipe(augmentation="crop-flip", side_from=8 / 7, side_to=16 / 7)
    setup = Setup(network=VGG_D, recipe=recipe, test=spec.Test(mode="dense"))
    assert ViewScheme.from_setup(setup) == ViewScheme(mode="dense", sides=(384,), is_mirrored=True, crop_side=224)


def cost(**test):
    return inference_multiply_adds(Setup(network=VGG_D, scale=THIN, test=spec.Test(**test)))


def test_what_a_test_costs_is_the_sum_of_its_views():
    crop = profile_spec(VGG_D, THIN).multiply_adds
    assert cost() == cost(sides=(16 / 7,)) == crop
    assert cost(mode="multi-crop", sides=(8 / 7, 12 / 7, 16 / 7)) == 150 * crop
    assert cost(mode="ten-crop", mirroring="never") == 5 * crop
    assert cost(mode="dense") == 2 * crop
    dense = cost(mode="dense", sides=(8 / 7,))
    assert 2 * crop < dense < 2 * crop * (256 / 224) ** 2 * 2
    assert cost(mode="both", sides=(8 / 7,)) == dense + 50 * crop
    other = profile_spec(RESNET_18, THIN).multiply_adds
    assert cost(mode="ten-crop", members=(RESNET_18,)) == 10 * (crop + other)


def test_a_test_is_a_value_that_survives_json_and_flattens():
    test = spec.Test(mode="both", sides=(1, 12 / 7), mirroring="always", members=(VGG_A,))
    assert from_json(to_json(test), SPEC_KINDS) == test
    assert flatten_fields(test)["sides.0"] == 1.0
    assert isinstance(test.sides[0], float)
    assert flatten_fields(spec.Test()) == {"mode": "single", "mirroring": "as-trained"}


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"mode": "dens"}, r"Test\.mode is 'dens'; expected one of .* Did you mean 'dense'\?"),
        ({"sides": (0.9,)}, r"Test\.sides is \(0\.9,\); expected factors of 1 or more on the side of the crop\."),
        ({"sides": (1, 1.0)}, r"Test\.sides is \(1, 1\.0\); expected factors that differ from each other\."),
        ({"mirroring": "always"}, r"Test\.mirroring is 'always'; expected 'as-trained': a single crop is never mirror"),
    ],
)
def test_what_cannot_be_tested_is_refused_where_it_is_declared(wrong, text):
    with pytest.raises(InvalidValue, match=text):
        spec.Test(**wrong)


def test_a_setup_that_only_tests_has_the_same_setup_with_the_default_test_as_donor():
    setup = Setup(network=VGG_D, test=spec.Test(mode="dense", members=(VGG_A,)))
    assert not setup.has_training
    assert setup.dependencies == (Setup(network=VGG_D), Setup(network=VGG_A))
    assert Setup(network=VGG_D).has_training
    assert Setup(network=VGG_D).dependencies == ()
