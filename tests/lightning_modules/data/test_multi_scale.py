"""Images rescaled to drawn sides and cropped: what is drawn, what is shown; it belongs to the example alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from sklearn.datasets import load_sample_images
from torchvision.transforms.functional import center_crop

from lightning_modules.data.augmentation import CropParams, crop_batch, crop_by_matrices, sample_augmentation
from lightning_modules.data.datamodule import EpochLoader, InMemoryDataModule
from lightning_modules.data.datasets import split_train_validation
from lightning_modules.data.decoding import crop_square, crop_starts
from lightning_modules.data.inventory import make_data_module
from lightning_modules.data.normalization import (
    PixelNormalization,
    channel_products,
    channel_statistics,
    compute_color_components,
)
from lightning_modules.evaluation.inference import crop_corners
from lightning_modules.specs.data import Data, ForeignData
from lightning_modules.specs.errors import InvalidValue
from lightning_modules.specs.recipe import Recipe
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.setup import Setup, WarmStart
from lightning_modules.specs.values import edit_field

JITTERED = Recipe(epochs=2, batch_size=64, augmentation="crop-flip-colour", side_from=8 / 7, side_to=16 / 7)
FIXED = replace(JITTERED, side_to=8 / 7)
DIGITS = Data(source="digits", validation_fraction=0.2)
MANY = 20_000


def photograph(side=64, left=0):
    """A square of a photograph, rescaled: uint8, side x side x 3."""
    whole = Image.fromarray(load_sample_images().images[0])
    return np.array(whole.resize((side, side), Image.Resampling.BILINEAR, box=(left, 0, left + 400, 400)))


def uniform(counts):
    return stats.chisquare(counts).pvalue > 0.001


# -- draws ---------------------------------------------------------------------------------------------------------


def test_sides_are_uniform_in_whole_pixels_with_both_ends():
    drawn = sample_augmentation(JITTERED, 0, 0, MANY, 224, 3)
    assert (drawn.sides.min(), drawn.sides.max()) == (256, 512)
    assert uniform(np.bincount(drawn.sides - 256, minlength=257))


def test_a_fixed_side_is_that_of_the_paper():
    assert set(sample_augmentation(FIXED, 0, 0, 100, 224, 3).sides) == {256}
    assert set(sample_augmentation(replace(FIXED, side_from=12 / 7, side_to=12 / 7), 0, 0, 100, 224, 3).sides) == {384}


def test_every_place_of_a_crop_is_as_likely_in_rows_and_columns():
    drawn = sample_augmentation(FIXED, 1, 0, MANY, 224, 3)
    for axis in (0, 1):
        assert uniform(np.bincount(crop_starts(drawn.offsets[:, axis], drawn.sides, 224), minlength=33))
    assert stats.kstest(drawn.offsets.ravel(), "uniform").pvalue > 0.001
    assert abs(np.corrcoef(drawn.offsets.T)[0, 1]) < 0.03


def test_half_of_the_crops_are_mirrored_and_colors_are_normal_of_a_tenth():
    drawn = sample_augmentation(JITTERED, 2, 0, MANY, 224, 3)
    assert stats.binomtest(int(drawn.flips.sum()), MANY).pvalue > 0.001
    assert stats.kstest(drawn.color_coefficients.ravel(), "norm", (0, 0.1)).pvalue > 0.001


def test_without_color_no_coefficient_is_drawn_and_all_else_is_the_same():
    colored, plain = (
        sample_augmentation(replace(JITTERED, augmentation=name), 0, 3, 50, 32, 3)
        for name in ("crop-flip-colour", "crop-flip")
    )
    assert not plain.color_coefficients.any()
    assert plain.to_bytes(np.arange(50))[:3] == colored.to_bytes(np.arange(50))[:3]


def test_arms_of_other_sides_share_places_flips_and_colors():
    fixed, jittered = (sample_augmentation(recipe, 0, 3, 50, 32, 3) for recipe in (FIXED, JITTERED))
    assert fixed.to_bytes(np.arange(50))[1:] == jittered.to_bytes(np.arange(50))[1:]


@pytest.mark.parametrize("kind", ["sides", "offsets", "flips", "color_coefficients"])
def test_seeds_and_epochs_draw_anew(kind):
    first, epoch, seed = (
        getattr(sample_augmentation(JITTERED, *keys, 50, 32, 3), kind) for keys in ((0, 0), (0, 1), (1, 0))
    )
    assert not np.array_equal(first, epoch)
    assert not np.array_equal(first, seed)


# -- what is shown -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("stored", "resolution"), [(32, 32), (300, 32), (64, 64)])
def test_a_square_is_the_crop_of_the_whole_picture_rescaled(stored, resolution, flip):
    pixels = photograph(stored)
    for side, place in ((resolution + 5, (0.0, 0.999)), (2 * resolution, (0.31, 0.77)), (resolution, (0.5, 0.5))):
        whole = np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR)).astype(int)
        top, left = crop_starts(np.array(place), (side, side), resolution)
        meant = whole[top : top + resolution, left : left + resolution]
        shown = crop_square(pixels, side, place, flip=flip, resolution=resolution)
        off = np.abs(shown - (meant[:, ::-1] if flip else meant))
        assert off.max() <= 2
        assert (off > 0).mean() < 0.1


@pytest.mark.parametrize("shape", [(375, 500), (333, 250), (40, 90), (41, 41)])
def test_wherever_the_crop_begins_it_is_that_of_the_whole_picture_rescaled(shape):
    """Among them sides at which a window keeps its length, and such that begin at no whole stored pixel for long."""
    pixels = np.array(Image.fromarray(load_sample_images().images[0]).resize(shape[::-1]))
    random = np.random.default_rng(0)
    resolution = min(shape) * 2 // 3
    for side in random.integers(resolution, 2 * resolution, size=60).tolist():
        lengths = [int(side * length / min(shape)) for length in shape]
        whole = np.asarray(Image.fromarray(pixels).resize(lengths[::-1], Image.Resampling.BILINEAR)).astype(int)
        place = random.random(2)
        top, left = crop_starts(place, lengths, resolution)
        off = np.abs(
            crop_square(pixels, side, place, flip=False, resolution=resolution)
            - whole[top : top + resolution, left : left + resolution]
        )
        assert off.max() <= 4
        assert off.mean() < 0.3


def test_the_shorter_side_is_rescaled_and_the_longer_keeps_its_share():
    pixels = np.zeros((50, 100, 3), dtype=np.uint8)
    pixels[:, :50] = 255
    left, right = (crop_square(pixels, 40, (0.0, column), flip=False, resolution=40) for column in (0.0, 0.999))
    assert left[:, :39, 0].min() == 255  # 80 x 40 pixels: columns 0 to 39 are white, 40 to 79 black
    assert right[:, 1:, 0].max() == 0


def test_matrices_on_a_gpu_show_what_a_cpu_shows():
    images = torch.from_numpy(np.stack([photograph(48, left) for left in range(0, 120, 10)]))
    crops, chosen = sample_augmentation(JITTERED, 0, 0, 12, 32, 3), np.arange(12)
    drawn = {name: torch.from_numpy(array) for name, array in crops.device_arrays(32).items()}
    shown = crop_batch(images, crops, chosen, 32).float()
    gathered = crop_by_matrices(images, drawn["sides"], drawn["first_pixels"], drawn["flips"], 32)
    assert (shown - gathered).abs().max() <= 1
    assert (shown - gathered).abs().mean() < 0.3  # a CPU rounds after each of the two directions


def test_centers_are_those_of_torchvision_whatever_the_side():
    sides = np.arange(32, 64)
    crops = replace(CropParams.center_crops(0, len(sides), 3), sides=sides)
    for side, first in zip(sides, crops.device_arrays(32)["first_pixels"], strict=True):
        image = torch.arange(side * side).view(1, side, side)
        row, column = divmod(int(center_crop(image, [32, 32])[0, 0, 0]), int(side))
        assert first.tolist() == [row, column], side
        assert crop_corners("single", side, side, 32) == ((row, column),), side


def test_untrained_on_the_center_is_shown_at_the_mean_side():
    crops = CropParams.center_crops(48, 1, 3)
    image = photograph(48)
    assert np.array_equal(crops.crop_image(image, 0, 32), image[8:40, 8:40])
    assert JITTERED.mean_side * 224 == 384


# -- in batches ----------------------------------------------------------------------------------------------------


def module(digits, recipe=JITTERED, seed=0):
    return InMemoryDataModule(digits, DIGITS, recipe, seed, torch.device("cpu"))


def test_an_examples_crop_does_not_depend_on_its_batch(digits):
    data = module(digits)

    def shown(batch_size):
        epoch = EpochLoader(data.train, replace(JITTERED, batch_size=batch_size), 0, 1)
        images = torch.cat([images for images, _ in epoch])
        return images[np.argsort(epoch.order)]

    assert torch.equal(shown(64), shown(7))


def test_the_hash_of_an_epoch_covers_every_kind_of_draw(digits):
    data = module(digits)
    recipes = [
        JITTERED,
        replace(JITTERED, batch_size=7),
        replace(JITTERED, side_to=15 / 7),
        replace(JITTERED, augmentation="crop-flip"),
    ]

    def seen(recipe):
        epoch = EpochLoader(data.train, recipe, 0, 0)
        for _ in epoch:
            pass
        return epoch.augmentation_hash.hexdigest()

    whole, cut, sides, colors = map(seen, recipes)
    assert whole == cut
    assert len({whole, sides, colors}) == 3


def test_validation_sees_the_center_of_each_image_at_the_mean_side(digits):
    data = module(digits)
    (images, _), *_ = data.validation.evaluation_batches()
    picture = Image.fromarray(data.validation.images[0, ..., 0].numpy())
    center = np.asarray(picture.resize((55, 55), Image.Resampling.BILINEAR))[12:44, 12:44]
    meant = (torch.from_numpy(np.array(center)).float() - data.train.normalization.mean) / data.train.normalization.std
    assert images.shape[1:] == (1, 32, 32)
    assert (images[0, 0] - meant).abs().max() < 1.5 / float(data.train.normalization.std)


def test_principal_components_are_numpys_and_a_shift_goes_along_them():
    images = np.stack([photograph(32, left) for left in range(0, 200, 4)])
    chosen = np.arange(0, 50, 2)
    mean, deviation = channel_statistics(torch.from_numpy(images[chosen]))
    found = compute_color_components(mean, channel_products(images, chosen))
    covariance = np.cov(images[chosen].reshape(-1, 3).T / 255, bias=True)
    variances, directions = np.linalg.eigh(covariance)
    for column, place in enumerate((2, 1, 0)):  # the largest first
        along = directions[:, place] * variances[place] * 255
        assert min(np.abs(found[:, column] - along).max(), np.abs(found[:, column] + along).max()) < 1e-9
        assert found[np.abs(found[:, column]).argmax(), column] > 0
    pixels = PixelNormalization.on_device(mean, deviation, found, torch.device("cpu"))
    image = torch.from_numpy(images[:1])
    moved = pixels.normalize_with_color_shift(image, torch.tensor([[0.1, 0.0, 0.0]])) - pixels.normalize(image)
    meant = np.broadcast_to((0.1 * found[:, 0] / deviation)[:, None, None], (3, 32, 32))
    np.testing.assert_allclose(moved[0], meant, atol=1e-5)


def test_components_are_those_of_the_seeds_training_part(digits):
    used, _ = split_train_validation(digits.train_labels, DIGITS, 3)
    variance = (digits.train_images[used] / 255).var()
    assert float(module(digits, seed=3).train.normalization.color_components) == pytest.approx(255 * variance, rel=1e-5)


# -- what must agree -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edits", "text"),
    [
        (
            {"recipe.side_to": 2.0},
            r"side_from is 0 and Recipe.side_to is 2; expected both 0 \(images as stored\), or both 1",
        ),
        (
            {"recipe.side_from": 2.0, "recipe.side_to": 1.5},
            "side_from is 2 and Recipe.side_to is 1.5; .* side_from not above side_to",
        ),
        ({"recipe.augmentation": "crop-flip"}, "augmentation is 'crop-flip' and Recipe.side_to is 0; .* sides of 1"),
        ({"recipe.side_from": 1.2, "recipe.side_to": 1.2}, "augmentation is 'shift-flip' and Recipe.side_to is 1.2"),
        ({"data.source": "digits", "data.keep": "originals"}, "keep is 'originals' and Data.source is 'digits'"),
        (
            {
                "data": ForeignData(class_path="my_data.Digits"),
                "recipe.augmentation": "crop-flip",
                "recipe.side_to": 1.2,
                "recipe.side_from": 1.2,
            },
            "side_to is 1.2, and my_data.Digits loads its own images; expected sides of 0",
        ),
    ],
)
def test_what_does_not_agree_is_named_before_anything_is_read(small, edits, text):
    setup = Setup(network=small.network)
    for path, value in edits.items():
        setup = edit_field(setup, path, value)
    with pytest.raises(InvalidValue, match=text):
        make_data_module(setup, None, 0, torch.device("cpu"))


def test_a_side_below_the_resolution_is_refused_where_it_is_given():
    with pytest.raises(InvalidValue, match=r"Recipe.side_from is 0.5; expected 0 \(images as stored\), or 1 or more"):
        Recipe(side_from=0.5)


def test_a_donor_may_have_a_recipe_that_is_otherwise_by_some_fields(small):
    chain = WarmStart(network=small.network, layers=("stage1",), recipe={"learning_rate": 0.01, "side_to": 8 / 7})
    recipe = replace(FIXED, learning_rate=0.001, side_from=12 / 7, side_to=12 / 7)
    (donor,) = replace(small, recipe=recipe, start=chain).dependencies
    assert (donor.recipe.learning_rate, donor.recipe.side_to) == (0.01, 8 / 7)
    assert (donor.recipe.side_from, donor.recipe.epochs) == (12 / 7, 2)
    with pytest.raises(InvalidValue, match="Recipe has no field 'rate'"):
        WarmStart(network=small.network, layers=("stage1",), recipe={"rate": 0.1})


def test_sides_are_told_by_the_scale_so_that_one_recipe_serves_them_all():
    for resolution in (32, 64, 224):
        sides = sample_augmentation(JITTERED, 0, 0, 4000, resolution, 3).sides
        assert (sides.min(), sides.max()) == (round(8 / 7 * resolution), round(16 / 7 * resolution))
    assert Scale().resolution == 224
