"""An image folder is read alike in every way to read it: what is ignored, bad or suspicious is named."""

import os
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps
from torchvision.transforms import functional

from lightning_modules.data import image_folder
from lightning_modules.data.datasets import prepare_dataset
from lightning_modules.data.decoding import (
    array_to_image,
    center_crop_start,
    decode_image,
    decode_indexed_image,
    rescaled_lengths,
    resize_and_center_crop,
)
from lightning_modules.data.image_folder import IMAGE_SUFFIXES, file_stamp, list_image_folder
from lightning_modules.data.inventory import Inventory, make_inventory
from lightning_modules.data.streaming import ImageFolderSplit
from lightning_modules.data.types import DataError
from lightning_modules.specs.data import Data
from lightning_modules.specs.scale import Scale

SCALE = Scale(resolution=8, channels=3, classes=2)
STORAGE = ("fitted", "originals", "resized")


def save_noise(file: Path, seed: int, size: tuple[int, int] = (8, 8), **options) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, **options)


@pytest.fixture
def root(tmp_path) -> Path:
    """Two classes, four training images and two test images each, all of them different."""
    seed = 0
    for split, count in (("train", 4), ("test", 2)):
        for name in ("cat", "dog"):
            for index in range(count):
                save_noise(tmp_path / "images" / split / name / f"{index}.png", seed := seed + 1)
    return tmp_path / "images"


def read(root: Path, small, keep: str, bad_files: str = "leave out") -> Inventory:
    data = Data(source="folder", keep=keep, bad_files=bad_files, validation_fraction=0.25)
    return make_inventory(replace(small, scale=SCALE, data=data), (0,), root, root.parent / "cache")


def split_sizes(inventory: Inventory) -> tuple[int, int]:
    sizes = inventory.split_sizes
    return sizes["train"] + sizes["validation"], sizes["test"]


@pytest.mark.parametrize("keep", STORAGE)
def test_a_clean_folder_has_no_findings(root, small, keep):
    inventory = read(root, small, keep)
    assert split_sizes(inventory) == (8, 4)
    assert inventory.notices == inventory.excluded_files == ()


def add_broken_link(root: Path) -> None:
    (root / "train" / "cat" / "gone.png").symlink_to(root / "nowhere.png")


def add_text(root: Path) -> None:
    (root / "train" / "cat" / "text.jpg").write_text("no image")


def add_png_named_jpg(root: Path) -> None:
    save_noise(root / "train" / "cat" / "other.jpg", 99, format="PNG")


BAD_FILES = [
    (add_broken_link, "train/cat/gone.png: cannot be read (No such file or directory)"),
    (add_text, "train/cat/text.jpg: cannot be read (cannot identify image file)"),
    (add_png_named_jpg, "train/cat/other.jpg: is a PNG by its content"),
]


@pytest.mark.parametrize("keep", STORAGE)
@pytest.mark.parametrize(("spoil", "text"), BAD_FILES)
def test_bad_files_are_left_out_and_named_however_the_folder_is_read(root, small, keep, spoil, text):
    spoil(root)
    inventory = read(root, small, keep)
    assert inventory.excluded_files == (text,)
    assert f"1 bad files left out: {text}" in inventory.origin
    assert split_sizes(inventory) == (8, 4)


@pytest.mark.parametrize("keep", STORAGE)
@pytest.mark.parametrize(("spoil", "text"), BAD_FILES)
def test_bad_files_are_refused_with_their_names_however_the_folder_is_read(root, small, keep, spoil, text):
    spoil(root)
    read(root, small, keep)  # an index or cache that leaves the file out does not stand for one that refuses it
    with pytest.raises(DataError) as error:
        read(root, small, keep, bad_files="refuse")
    assert str(error.value).startswith(f"1 of 13 images at {root} are bad: {text}")


@pytest.mark.parametrize("keep", STORAGE)
@pytest.mark.parametrize("name", ["cat", "dog"])
def test_a_class_without_a_readable_training_image_is_refused_by_its_name(root, small, keep, name):
    for file in (root / "train" / name).iterdir():
        file.write_bytes(b"")
    with pytest.raises(DataError, match=f"no training image of class {name} at .* can be read: train/{name}/0.png: "):
        read(root, small, keep)


@pytest.mark.parametrize("keep", STORAGE)
def test_a_class_too_small_to_divide_is_named(root, small, keep):
    for file in sorted((root / "train" / "dog").iterdir())[1:]:
        file.unlink()
    with pytest.raises(DataError, match="class dog has 1 training example to divide into training and validation"):
        read(root, small, keep)


@pytest.mark.parametrize("keep", STORAGE)
def test_bad_files_that_are_left_out_are_no_duplicates(root, small, keep):
    for split in ("train", "test"):
        (root / split / "cat" / "empty.png").write_bytes(b"")
    inventory = read(root, small, keep)
    assert len(inventory.excluded_files) == 2
    assert inventory.notices == ()


@pytest.mark.parametrize("keep", STORAGE)
def test_a_file_of_an_extreme_shape_is_bad(root, small, keep):
    Image.new("RGB", (8, 800)).save(root / "train" / "cat" / "narrow.png")
    Image.new("RGB", (801, 8)).save(root / "train" / "cat" / "wide.png")
    reason = "cannot be read (one side is more than 100 times the other: 801 x 8)"
    assert read(root, small, keep).excluded_files == (f"train/cat/wide.png: {reason}",)


def link_images(root: Path, linked: Path, classes: dict[str, str]) -> None:
    """Make a folder of links to the images of another one, each class under another name."""
    shutil.rmtree(linked, ignore_errors=True)
    for split in ("train", "test"):
        for name, source in classes.items():
            (linked / split / name).mkdir(parents=True)
            for file in (root / split / source).iterdir():
                (linked / split / name / file.name).symlink_to(file)


@pytest.mark.parametrize("keep", STORAGE)
def test_links_under_other_labels_are_read_with_these(root, tmp_path, small, keep):
    linked = tmp_path / "linked"
    link_images(root, linked, {"a": "cat", "b": "dog"})
    first = read(linked, small, keep)
    link_images(root, linked, {"a": "dog", "b": "cat"})
    assert read(linked, small, keep).digest != first.digest
    link_images(root, linked, {"a": "cat", "b": "dog"})
    moved = linked / "train" / "a" / "3.png"
    moved.rename(linked / "train" / "b" / "-3.png")  # the first of b in place of the last of a: the order stays
    assert read(linked, small, keep).class_counts["b"]["train"] == 4  # of five, one is for validation


@pytest.mark.parametrize("keep", STORAGE)
def test_a_linked_class_folder_of_another_name_is_another_class(root, tmp_path, small, keep):
    linked = tmp_path / "linked"
    for split in ("train", "test"):
        (linked / split).mkdir(parents=True)
        for name in ("cat", "dog"):
            (linked / split / name).symlink_to(root / split / name)
    assert list(read(linked, small, keep).class_counts) == ["cat", "dog"]
    for split in ("train", "test"):
        (linked / split / "cat").rename(linked / split / "apple")
    assert list(read(linked, small, keep).class_counts) == ["apple", "dog"]


def add_val(root: Path) -> None:
    save_noise(root / "val" / "cat" / "0.png", 99)


def add_folder_named_png(root: Path) -> None:
    (root / "train" / "cat" / "x.png").mkdir()


def add_nested_folder(root: Path) -> None:
    save_noise(root / "test" / "dog" / "deep" / "0.png", 99)


def add_image_beside_classes(root: Path) -> None:
    save_noise(root / "train" / "0.png", 99)


def add_copy_across_splits(root: Path) -> None:
    (root / "train" / "cat" / "copy.png").write_bytes((root / "test" / "cat" / "0.png").read_bytes())


def add_copy_under_other_label(root: Path) -> None:
    (root / "train" / "dog" / "copy.png").write_bytes((root / "train" / "cat" / "0.png").read_bytes())


def add_copy_within_class(root: Path) -> None:
    (root / "train" / "dog" / "copy.png").write_bytes((root / "train" / "dog" / "0.png").read_bytes())


@pytest.mark.parametrize("keep", STORAGE)
@pytest.mark.parametrize(
    ("change", "text"),
    [
        (add_val, "1 entry ignored: val/ (test/ is the test split, and validation images are drawn from train/)"),
        (add_folder_named_png, "1 entry ignored: train/cat/x.png/ (a folder within a class)"),
        (add_nested_folder, "1 entry ignored: test/dog/deep/ (a folder within a class)"),
        (add_image_beside_classes, "1 entry ignored: train/0.png (not in a class folder)"),
        (add_copy_across_splits, "1 image in both train/ and test/: train/cat/copy.png = test/cat/0.png"),
        (add_copy_under_other_label, "1 image under two labels: train/cat/0.png = train/dog/copy.png"),
        (add_copy_within_class, "1 image repeated within a class: train/dog/0.png = train/dog/copy.png"),
    ],
)
def test_what_is_ignored_or_suspicious_is_named_however_the_folder_is_read(root, small, keep, change, text):
    change(root)
    for _ in range(2):  # the second time from the cache or the index
        inventory = read(root, small, keep)
        assert inventory.notices == (text,)
        assert text in inventory.origin


def test_images_in_nested_folders_alone_are_told_as_such(root):
    for file in list((root / "train" / "cat").iterdir()):
        file.unlink()
    save_noise(root / "train" / "cat" / "deep" / "0.png", 99)
    with pytest.raises(DataError, match=r"no images in .*train/cat; folders within a class are not read; expected"):
        list_image_folder(root)


@pytest.mark.parametrize("keep", STORAGE)
@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_every_listed_extension_is_read(root, small, keep, suffix):
    format_name = "JPEG" if suffix in (".jpe", ".jfif") else None
    format_name = "PPM" if suffix == ".pnm" else format_name
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8))
    if suffix == ".pbm":
        pixels = pixels.convert("1")
    pixels.save(root / "train" / "cat" / f"more{suffix}", format=format_name)
    assert split_sizes(read(root, small, keep, bad_files="refuse")) == (9, 4)


@pytest.mark.parametrize("keep", STORAGE)
def test_another_number_of_classes_is_refused_before_a_file_is_decoded(root, small, keep, monkeypatch):
    monkeypatch.setattr(Path, "read_bytes", lambda file: pytest.fail(f"{file} was read"))
    scale = replace(SCALE, classes=3)
    setup = replace(small, scale=scale, data=Data(source="folder", keep=keep))
    with pytest.raises(DataError, match=r"has 2 classes, but the protocol says 3\. Give `--set scale\.classes=2`"):
        make_inventory(setup, (0,), root, root.parent / "cache")


@pytest.mark.parametrize(("source", "num_classes"), [("digits", 10), ("cifar10", 10), ("cifar100", 100)])
def test_another_number_of_classes_is_refused_before_a_download(tmp_path, source, num_classes):
    with pytest.raises(DataError, match=f"{source} has {num_classes} classes, but the protocol says 3"):
        prepare_dataset(Data(source=source), replace(SCALE, classes=3), tmp_path / "data", tmp_path / "cache")
    assert not list(tmp_path.iterdir())


# -- labels --------------------------------------------------------------------------------------------------------


def test_an_evaluated_folder_labels_by_the_names_of_the_training_classes(tmp_path):
    seed = 0
    for split, names in (("train", ("cat", "dog", "eel")), ("test", ("cat", "dog", "eel"))):
        for name in names:
            save_noise(tmp_path / split / name / "0.png", seed := seed + 1)
    split = ImageFolderSplit(tmp_path, SCALE, torch.device("cpu"))
    assert split.class_names == ("cat", "dog", "eel")
    (tmp_path / "test" / "cat").rename(tmp_path / "test" / "zebra")
    with pytest.raises(DataError, match=r"test has classes that .*train has not: zebra"):
        ImageFolderSplit(tmp_path, SCALE, torch.device("cpu"))


# -- the rule of rescaling and cropping ------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [(375, 500), (333, 250), (97, 131), (224, 225), (301, 224), (511, 767)])
@pytest.mark.parametrize("resolution", [32, 224])
def test_images_of_any_size_are_fitted_as_by_torchvision(lengths, resolution):
    pixels = np.random.default_rng(0).integers(0, 256, (*lengths, 3), dtype=np.uint8)
    image = array_to_image(pixels)
    expected = functional.center_crop(functional.resize(image, resolution), [resolution, resolution])
    scale = Scale(resolution=resolution, channels=3)
    np.testing.assert_array_equal(resize_and_center_crop(image, scale), np.asarray(expected))


def test_lengths_and_center_crops_are_rounded_as_by_torchvision():
    for length in range(224, 264):
        image = torch.arange(length).repeat(224, 1)[None].float()
        (first, *_), *_ = functional.center_crop(image, [224, 224])[0]
        assert center_crop_start(length, 224) == int(first), length
        resized = functional.resize(torch.zeros(1, 224, length), 97)
        assert rescaled_lengths(97, (224, length)) == tuple(resized.shape[1:]), length


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_by_pillow(tmp_path, suffix, orientation):
    file = tmp_path / f"turned.{suffix}"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    save_noise(file, 0, size=(24, 40), exif=exif)
    with Image.open(file) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(decode_image(file, SCALE), expected)
    np.testing.assert_array_equal(decode_indexed_image(file, SCALE, 24), expected)


def test_a_photograph_with_a_malformed_exif_entry_is_turned_all_the_same(tmp_path):
    save_noise(tmp_path / "plain.jpg", 0, size=(24, 40))
    entries = [struct.pack(">HHI4s", 0x0112, 3, 1, b"\0\6\0\0"), struct.pack(">HHI4s", 0x011A, 2, 4, b"72\0\0")]
    exif = b"Exif\0\0MM\0*\0\0\0\10" + struct.pack(">H", len(entries)) + b"".join(entries) + b"\0\0\0\0"
    save_noise(tmp_path / "malformed.jpg", 0, size=(24, 40), exif=exif)
    with Image.open(tmp_path / "malformed.jpg") as image, pytest.raises(TypeError):
        ImageOps.exif_transpose(image)
    plain = decode_image(tmp_path / "plain.jpg", SCALE)
    np.testing.assert_array_equal(decode_image(tmp_path / "malformed.jpg", SCALE), np.rot90(plain, -1))


def test_a_file_that_cannot_be_examined_has_a_stamp_of_its_own(tmp_path):
    assert file_stamp(tmp_path / "none.png") == "unreadable"


def swap(first: Path, second: Path) -> None:
    first.rename(first.with_name("swapped"))
    second.rename(first)
    first.with_name("swapped").rename(second)


def swap_files(train: Path) -> None:
    swap(train / "cat" / "0.bmp", train / "dog" / "0.bmp")


def swap_classes(train: Path) -> None:
    swap(train / "cat", train / "dog")


def rewrite_in_place(train: Path) -> None:
    (train / "cat" / "0.bmp").write_bytes((train / "cat" / "1.bmp").read_bytes())
    os.utime(train / "cat" / "0.bmp", (0, 0))


@pytest.mark.parametrize("keep", STORAGE)
@pytest.mark.parametrize("change", [swap_files, swap_classes, rewrite_in_place])
def test_a_change_that_keeps_names_sizes_and_times_is_noticed(tmp_path, small, keep, change):
    root = tmp_path / "images"
    for index, (split, name) in enumerate((split, name) for split in ("train", "test") for name in ("cat", "dog")):
        for number in range(4):
            save_noise(file := root / split / name / f"{number}.bmp", 4 * index + number)
            os.utime(file, (0, 0))
    digest = read(root, small, keep).digest
    change(root / "train")
    changed = read(root, small, keep).digest
    assert changed != digest
    assert read(root, small, keep).digest == changed


def test_on_a_file_system_that_makes_inodes_up_they_do_not_count(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("a")
    inode = str((tmp_path / "a").stat().st_ino)
    assert file_stamp(tmp_path / "a").endswith(f"|{inode}")
    monkeypatch.setattr(image_folder, "FILE_SYSTEMS_OF_UNSTABLE_INODES", ("",))
    image_folder._has_stable_inodes.cache_clear()
    try:
        assert file_stamp(tmp_path / "a").endswith("|")
    finally:
        image_folder._has_stable_inodes.cache_clear()
