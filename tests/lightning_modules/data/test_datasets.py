"""Reading images, and what is said where they cannot be read."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from lightning_modules.data.augmentation import ShiftFlipParams, shift_and_flip, shift_by_gathering
from lightning_modules.data.datamodule import EpochLoader, InMemoryDataModule
from lightning_modules.data.datasets import (
    find_unused_caches,
    prepare_dataset,
    split_train_validation,
    stratified_mask,
)
from lightning_modules.data.normalization import channel_statistics
from lightning_modules.data.types import DataError
from lightning_modules.specs.data import Data
from lightning_modules.specs.recipe import Recipe
from lightning_modules.specs.scale import Scale

FOLDER = Data(source="folder", validation_fraction=0.25)
SCALE = Scale(resolution=8, channels=3, classes=2)


def image_folder(root: Path, *, classes=("cat", "dog"), count=4, side=8, suffix="png") -> Path:
    """A folder of single-colored images: class by hue, example by brightness."""
    for part in ("train", "test"):
        for label, name in enumerate(classes):
            folder = root / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = np.zeros((side, side + 2 * index, 3), dtype=np.uint8)
                pixels[..., label % 3] = 50 + 20 * index + (part == "test")
                Image.fromarray(pixels).save(folder / f"{index}.{suffix}")
    return root


def test_an_image_folder_is_read_by_class(tmp_path):
    examples = prepare_dataset(FOLDER, SCALE, image_folder(tmp_path / "images"), tmp_path / "cache")
    assert examples.class_names == ("cat", "dog")
    assert examples.train_images.shape == (8, 8, 8, 3)
    assert examples.train_labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert examples.train_images[1, 4, 4].tolist() == [70, 0, 0]
    assert examples.origin == "an image folder (PNG)"


def test_a_second_reading_comes_from_the_cache_and_is_equal(tmp_path):
    root = image_folder(tmp_path / "images")
    first = prepare_dataset(FOLDER, SCALE, root, tmp_path / "cache")
    second = prepare_dataset(FOLDER, SCALE, root, tmp_path / "cache")
    assert first.digest == second.digest
    np.testing.assert_array_equal(first.train_images, second.train_images)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_cache_that_is_read_again_counts_as_used(tmp_path):
    root, cache = image_folder(tmp_path / "images"), tmp_path / "cache"
    prepare_dataset(FOLDER, SCALE, root, cache)
    (about,) = cache.glob("*/about.json")
    os.utime(about, (0, 0))
    assert list(find_unused_caches(cache, unused_seconds=60)) == [about.parent]
    prepare_dataset(FOLDER, SCALE, root, cache)
    assert list(find_unused_caches(cache, unused_seconds=60)) == []


def test_a_changed_image_is_read_again_and_changes_the_digest(tmp_path):
    root = image_folder(tmp_path / "images")
    before = prepare_dataset(FOLDER, SCALE, root, tmp_path / "cache").digest
    Image.new("RGB", (8, 8), (9, 9, 9)).save(root / "train" / "cat" / "0.png")
    assert prepare_dataset(FOLDER, SCALE, root, tmp_path / "cache").digest != before


def test_the_digest_names_the_pixels_not_the_place(tmp_path):
    one, other = (image_folder(tmp_path / name) for name in ("one", "other"))
    cache = tmp_path / "cache"
    assert prepare_dataset(FOLDER, SCALE, one, cache).digest == prepare_dataset(FOLDER, SCALE, other, cache).digest


def no_train(root: Path) -> Path:
    return root / "elsewhere"


def one_class(root: Path) -> Path:
    return image_folder(root / "single", classes=("cat",))


def empty_class(root: Path) -> Path:
    (image_folder(root / "images") / "train" / "eel").mkdir()
    return root / "images"


def broken_image(root: Path) -> Path:
    image_folder(root / "images")
    (root / "images" / "train" / "dog" / "1.png").write_bytes(b"no image")
    return root / "images"


def strange_class(root: Path) -> Path:
    image_folder(root / "images")
    (root / "images" / "test" / "eel").mkdir()
    return root / "images"


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (no_train, r"no folder .*train\. Expected train/<class>/ and test/<class>/"),
        (one_class, r"has 1 class \(cat\); expected two or more folders"),
        (empty_class, r"no images in .*train/eel"),
        (broken_image, r"1 of 16 images at .* are bad: train/dog/1\.png: cannot be read"),
        (strange_class, r"has classes that .*train has not: eel"),
    ],
)
def test_data_that_cannot_be_trained_on_is_named_and_leaves_no_cache(tmp_path, spoil, text):
    root = spoil(tmp_path)
    with pytest.raises(DataError, match=text):
        prepare_dataset(FOLDER, SCALE, root, tmp_path / "cache")
    assert list((tmp_path / "cache").glob("*")) == []


def test_another_number_of_classes_than_the_protocols_is_refused(tmp_path):
    root = image_folder(tmp_path / "images", classes=("a", "b", "c"))
    with pytest.raises(DataError, match=r"has 3 classes, but the protocol says 2.*scale\.classes=3"):
        prepare_dataset(FOLDER, SCALE, root, tmp_path / "cache")


def test_images_that_do_not_fit_into_memory_are_refused_before_they_are_read(tmp_path):
    root = image_folder(tmp_path / "images")
    with pytest.raises(DataError, match="more than half of"):
        prepare_dataset(FOLDER, replace(SCALE, resolution=100_000), root, tmp_path / "cache")


def test_digits_are_few_to_train_on_and_many_to_test_on(digits):
    assert digits.train_images.shape == (600, 32, 32, 1)
    assert digits.test_images.shape == (1197, 32, 32, 1)
    assert set(np.bincount(digits.train_labels)) == {60}


def test_a_stratified_draw_takes_the_same_share_of_every_class():
    labels = np.repeat([0, 1, 2], [100, 50, 2])
    chosen = stratified_mask(labels, 0.2, np.random.default_rng(0))
    assert np.bincount(labels[chosen]).tolist() == [20, 10, 1]


# -- parts, order, augmentation ------------------------------------------------------------------------------------


def data_module(digits, seed=0, **recipe):
    return InMemoryDataModule(
        digits,
        Data(source="digits", validation_fraction=0.2),
        Recipe(epochs=2, **{"batch_size": 64, "augmentation": "shift-flip", **recipe}),
        seed,
        torch.device("cpu"),
    )


def test_training_and_validation_share_no_example_and_leave_none_out(digits):
    data = data_module(digits)
    assert len(data.train) + len(data.validation) == 600
    assert len(data.validation) == 120
    rows = torch.cat([data.train.images, data.validation.images]).flatten(1)
    everything = torch.from_numpy(np.array(digits.train_images)).flatten(1)
    assert sorted(map(bytes, rows.numpy())) == sorted(map(bytes, everything.numpy()))


def test_the_split_belongs_to_the_seed(digits):
    digests = [data_module(digits, seed).split_digest for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]


def test_every_epoch_shows_every_example_once_in_an_order_of_its_own(digits):
    data = data_module(digits)
    first, second = (EpochLoader(data.train, data.recipe, 0, epoch) for epoch in (0, 1))
    assert sorted(first.order) == sorted(second.order) == list(range(480))
    assert first.order.tolist() != second.order.tolist()
    assert sum(len(labels) for _, labels in first) == 480


def test_an_examples_augmentation_does_not_depend_on_its_batch(digits):
    data = data_module(digits)

    def shown(batch_size):
        epoch = EpochLoader(data.train, replace(data.recipe, batch_size=batch_size), 0, 1)
        images = torch.cat([images for images, _ in epoch])
        return images[np.argsort(epoch.order)]

    assert torch.equal(shown(64), shown(7))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("margin", [0, 1, 4])
@pytest.mark.parametrize("size", [(32, 32), (8, 12)])
def test_windows_on_a_cpu_are_pixel_by_pixel_what_a_gpu_gathers_and_what_is_meant(size, margin, channels):
    random = np.random.default_rng(7)
    images = torch.from_numpy(random.integers(0, 256, (19, *size, channels), dtype=np.uint8))
    shifts, flips = random.integers(0, 2 * margin + 1, (19, 2)), random.random(19) < 0.5
    before = images.clone()
    fast = shift_and_flip(images, torch.from_numpy(shifts), torch.from_numpy(flips), margin)
    gathered = shift_by_gathering(images, torch.from_numpy(shifts), torch.from_numpy(flips), margin)
    padded = functional.pad(images, (0, 0, margin, margin, margin, margin))
    meant = [
        np.flip(window, 1) if flip else window
        for flip, window in (
            (flip, each[row : row + size[0], column : column + size[1]])
            for each, (row, column), flip in zip(padded.numpy(), shifts, flips, strict=True)
        )
    ]
    assert torch.equal(images, before)
    assert torch.equal(fast, gathered)
    assert np.array_equal(fast.numpy(), np.stack(meant))


def test_pixels_are_normalized_to_the_bits_of_the_formula(digits, small):
    data = InMemoryDataModule(digits, small.data, small.recipe, 0, torch.device("cpu"))
    images = data.train.images[:5]
    used, _ = split_train_validation(digits.train_labels, small.data, 0)
    statistics = channel_statistics(torch.from_numpy(digits.train_images[used]))
    mean, deviation = (torch.tensor(each, dtype=torch.float32) for each in statistics)
    assert torch.equal(data.train.normalize(images), ((images.float() - mean) / deviation).permute(0, 3, 1, 2))


def test_batches_are_normalized_and_channels_last(digits):
    data = data_module(digits, augmentation="none")
    images = torch.cat([images for images, _ in data.train.evaluation_batches()])
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert float(images.mean()) == pytest.approx(0, abs=0.02)
    assert float(images.std()) == pytest.approx(1, abs=0.02)


def test_no_augmentation_changes_no_pixel():
    images = torch.arange(2 * 4 * 4 * 3, dtype=torch.uint8).reshape(2, 4, 4, 3)
    draw = ShiftFlipParams.sample_epoch("none", 0, 0, 2, 4)
    shown = shift_and_flip(images, torch.from_numpy(draw.shifts), torch.from_numpy(draw.flips), draw.margin)
    assert torch.equal(shown, images)


def test_a_shift_and_a_flip_do_what_they_say():
    image = torch.zeros(1, 8, 8, 1, dtype=torch.uint8)
    image[0, 2, 3] = 200
    moved = shift_and_flip(image, torch.tensor([[0, 1]]), torch.tensor([False]), 1)
    assert moved[0, :, :, 0].nonzero().tolist() == [[3, 3]]
    mirrored = shift_and_flip(image, torch.tensor([[1, 1]]), torch.tensor([True]), 1)
    assert mirrored[0, :, :, 0].nonzero().tolist() == [[2, 4]]


def test_shifts_are_uniform_and_half_of_the_images_are_mirrored():
    draw = ShiftFlipParams.sample_epoch("shift-flip", 0, 0, 20_000, 32)
    counts = np.bincount(draw.shifts[:, 0], minlength=9)
    assert len(counts) == 9
    assert counts.min() > 2000
    assert draw.flips.mean() == pytest.approx(0.5, abs=0.02)


# -- what folders hold in practice ---------------------------------------------------------------------------------


def test_hidden_entries_are_skipped_and_other_files_counted(tmp_path):
    root = image_folder(tmp_path / "images")
    (root / "train" / ".ipynb_checkpoints").mkdir()
    (root / "train" / "cat" / "._0.png").write_bytes(b"of another system")
    (root / "train" / "cat" / "notes.txt").write_text("mine")
    examples = prepare_dataset(FOLDER, SCALE, root, tmp_path / "cache")
    assert examples.class_names == ("cat", "dog")
    ignored = "1 entry ignored: train/cat/notes.txt (not an image by its extension)"
    assert examples.notices == (ignored,)
    assert examples.origin == f"an image folder (PNG); {ignored}"


def test_a_linked_folder_is_followed_when_its_images_change(tmp_path):
    kept = image_folder(tmp_path / "kept")
    (tmp_path / "linked").mkdir()
    for part in ("train", "test"):
        (tmp_path / "linked" / part).symlink_to(kept / part)
    before = prepare_dataset(FOLDER, SCALE, tmp_path / "linked", tmp_path / "cache")
    (kept / "train" / "dog" / "3.png").unlink()
    after = prepare_dataset(FOLDER, SCALE, tmp_path / "linked", tmp_path / "cache")
    assert (len(before.train_labels), len(after.train_labels)) == (8, 7)


def test_files_that_appear_beside_the_images_do_not_make_them_read_again(tmp_path):
    root = image_folder(tmp_path / "images")
    for _ in range(2):
        prepare_dataset(FOLDER, SCALE, root, root / "runs" / "cache")
    assert len(list((root / "runs" / "cache").iterdir())) == 1


@pytest.mark.parametrize("spoil", [lambda file: file.write_text("{"), lambda file: file.unlink()])
@pytest.mark.parametrize("name", ["about.json", "train_images.npy"])
def test_a_cache_that_cannot_be_read_is_made_again(tmp_path, name, spoil):
    root = image_folder(tmp_path / "images")
    digest = prepare_dataset(FOLDER, SCALE, root, tmp_path / "cache").digest
    spoil(next((tmp_path / "cache").iterdir()) / name)
    assert prepare_dataset(FOLDER, SCALE, root, tmp_path / "cache").digest == digest
    assert len(list((tmp_path / "cache").iterdir())) == 1


def stored(tmp_path, image, suffix="png"):
    """The pixels of one image as trained on."""
    root = image_folder(tmp_path / "images")
    image.save(root / "train" / "cat" / f"0.{suffix}")
    if suffix != "png":
        (root / "train" / "cat" / "0.png").unlink()
    return prepare_dataset(FOLDER, SCALE, root, tmp_path / "cache").train_images[0]


def test_sixteen_bits_become_eight_over_their_whole_range(tmp_path):
    ramp = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    np.testing.assert_array_equal(stored(tmp_path, Image.fromarray(ramp))[..., 0], np.round(ramp / 257))


def test_what_is_transparent_is_black_whatever_color_it_hides(tmp_path):
    hidden = Image.new("RGBA", (8, 8), (200, 100, 50, 0))
    hidden.putpixel((0, 0), (200, 100, 50, 255))
    pixels = stored(tmp_path, hidden)
    assert pixels[0, 0].tolist() == [200, 100, 50]
    assert pixels[1:].max() == 0


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "LA"])
def test_images_of_other_modes_are_read(tmp_path, mode):
    image = Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode)
    suffix = "tif" if mode == "CMYK" else "png"
    assert stored(tmp_path, image, suffix).min() >= 250


def test_a_class_too_small_to_divide_is_refused_before_training(digits):
    with pytest.raises(DataError, match=r"class \d has 1 training example .*; expected 2 or more"):
        split_train_validation(digits.train_labels, Data(source="digits", train_fraction=0.01), 0)


def test_channel_statistics_are_the_mean_and_deviation():
    images = np.random.default_rng(0).integers(0, 256, size=(3000, 4, 4, 3), dtype=np.uint8)
    chosen = np.arange(0, 3000, 2)
    mean, deviation = channel_statistics(torch.from_numpy(images[chosen]))
    pixels = images[chosen].reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(mean, pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(deviation, pixels.std(0), rtol=1e-6)
