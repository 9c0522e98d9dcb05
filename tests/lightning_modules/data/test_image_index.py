"""A folder shaped like ImageNet, with what such folders hold: looked at once, bad files named, decoded by threads."""

import io
import os
import random
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from lightning_modules.data import decoding
from lightning_modules.data import image_index as module
from lightning_modules.data.datamodule import EpochLoader
from lightning_modules.data.datasets import prepare_dataset
from lightning_modules.data.decoding import center_crop_start, decode_indexed_image
from lightning_modules.data.image_index import index_image_folder
from lightning_modules.data.inventory import load_dataset, make_data_module, make_inventory
from lightning_modules.data.normalization import channel_products, channel_statistics, compute_color_components
from lightning_modules.data.streaming import ImageFileDataModule, map_in_order, pixel_statistics
from lightning_modules.data.types import DataError
from lightning_modules.distributed import DataParallelRank
from lightning_modules.specs.data import Data
from lightning_modules.specs.recipe import Recipe
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.setup import Setup
from studies import protocols
from studies.design.trial import Trial
from studies.hardware import Machine
from studies.training.train import train_trial

CLASSES, EACH = 12, 4
DATA = Data(source="folder", keep="originals", validation_fraction=0.25)
SCALE = Scale(resolution=32, channels=3, classes=CLASSES)
RECIPE = Recipe(epochs=2, batch_size=10, augmentation="crop-flip-colour", side_from=8 / 7, side_to=16 / 7)
SIZES = ((100, 75), (75, 100), (48, 48), (180, 90))
CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """Real photographs cut to many sizes: JPEG in color, one class in gray, one in CMYK, one turned by its EXIF."""
    root, sources = tmp_path_factory.mktemp("whole"), [Image.fromarray(each) for each in load_sample_images().images]
    random = np.random.default_rng(0)
    for part, count in (("train", EACH), ("val", 2)):
        for label in range(CLASSES):
            folder = root / part / f"n{label:08}"
            folder.mkdir(parents=True)
            for index in range(count):
                width, height = SIZES[(label + index) % len(SIZES)]
                left, top = random.integers(0, 300), random.integers(0, 200)
                box = (left, top, left + 1.5 * width, top + 1.5 * height)
                picture = sources[index % 2].resize((width, height), Image.Resampling.BILINEAR, box=box)
                exif = Image.Exif()
                if label == 2:
                    exif[0x0112] = 6  # to be turned by a quarter
                mode = {0: "L", 1: "CMYK"}.get(label, "RGB")
                picture.convert(mode).save(folder / f"{index}.JPEG", quality=90, exif=exif)
    return root


@pytest.fixture
def folder(whole, tmp_path):
    """A copy of it that a test may spoil."""
    shutil.copytree(whole, tmp_path / "images")
    return tmp_path / "images"


@pytest.fixture
def spoiled(folder):
    """It, with a truncated file, a PNG and a text by the name of a JPEG, and a truncated one among the test images."""
    for file in (folder / "train" / "n00000003" / "0.JPEG", folder / "val" / "n00000004" / "1.JPEG"):
        file.write_bytes(file.read_bytes()[:-200])
    Image.new("RGB", (50, 50)).save(folder / "train" / "n00000005" / "1.JPEG", "PNG")
    (folder / "train" / "n00000006" / "2.JPEG").write_text("no image")
    return folder


def read(root, cache, **data):
    return index_image_folder(replace(DATA, **data), SCALE, root, cache)


def opened(root, cache, recipe=RECIPE, seed=0, **data):
    data = replace(DATA, **data)
    return ImageFileDataModule(index_image_folder(data, SCALE, root, cache), data, recipe, SCALE, seed, CPU)


# -- what is found -------------------------------------------------------------------------------------------------


def test_grey_cmyk_and_turned_files_are_fine(whole, tmp_path):
    found = read(whole, tmp_path)
    assert (len(found.train_files), len(found.test_files)) == (CLASSES * EACH, CLASSES * 2)
    assert np.bincount(found.train_labels).tolist() == [EACH] * CLASSES
    assert found.excluded_files == ()
    assert found.origin == "an image folder (JPEG), decoded at each use"
    for label, shape in ((0, (75, 100, 3)), (1, (100, 75, 3)), (2, (48, 48, 3)), (3, (90, 180, 3))):
        assert decode_indexed_image(found.train_files[label * EACH], SCALE, 1000).shape == shape
    assert decode_indexed_image(found.train_files[2 * EACH + 1], SCALE, 1000).shape == (
        180,
        90,
        3,
    )  # stored 180 wide, turned


def damage_scan(content: bytes) -> bytes:
    """Change one byte of a JPEG's coded pixels: libjpeg warns and decodes on."""
    place = len(content) * 3 // 4
    return content[:place] + b"\x11" + content[place + 1 :]


@pytest.mark.skipif(decoding.simplejpeg is None, reason="needs simplejpeg")
@pytest.mark.parametrize("side", [100, 300])
def test_a_damaged_jpeg_that_pillow_decodes_is_decoded_as_by_pillow(tmp_path, monkeypatch, side):
    file = tmp_path / "damaged.jpg"
    Image.fromarray(load_sample_images().images[0]).save(file, quality=90)
    file.write_bytes(damage_scan(file.read_bytes()))
    with pytest.raises(ValueError, match="Corrupt JPEG"):
        decoding.simplejpeg.decode_jpeg(file.read_bytes())
    pixels = decode_indexed_image(file, SCALE, side)
    monkeypatch.setattr(decoding, "simplejpeg", None)
    assert np.array_equal(decode_indexed_image(file, SCALE, side), pixels)


@pytest.mark.parametrize("side", [100, 300, 854])
def test_files_are_decoded_to_the_same_pixels_with_and_without_simplejpeg(whole, tmp_path, monkeypatch, side):
    Image.fromarray(load_sample_images().images[0]).resize((1281, 855)).save(tmp_path / "large.jpg", quality=90)
    files = [tmp_path / "large.jpg", *read(whole, tmp_path).train_files]
    fast = [decode_indexed_image(file, SCALE, side) for file in files]
    monkeypatch.setattr(decoding, "simplejpeg", None)
    for file, pixels in zip(files, fast, strict=True):
        assert np.array_equal(decode_indexed_image(file, SCALE, side), pixels)


def test_bad_files_are_refused_all_at_once_and_counted(spoiled, tmp_path):
    with pytest.raises(DataError) as error:
        read(spoiled, tmp_path / "cache")
    text = str(error.value)
    assert text.startswith(f"4 of {CLASSES * EACH + CLASSES * 2} images at {spoiled} are bad: ")
    assert "train/n00000003/0.JPEG: cannot be read (image file is truncated" in text
    assert "train/n00000005/1.JPEG: is a PNG by its content" in text
    assert "train/n00000006/2.JPEG: cannot be read (cannot identify image file" in text
    assert "val/n00000004/1.JPEG: cannot be read" in text
    assert text.endswith("Fix or remove them, or give `--set data.bad_files='leave out'`.")


def test_names_that_are_not_utf8_are_read_and_told_escaped(spoiled, tmp_path, monkeypatch):
    first, second = spoiled / "train" / "n00000003", spoiled / "train" / "n00000006"
    shutil.copy(first / "1.JPEG", first / "caf\udce9.JPEG")
    (second / "2.JPEG").rename(second / "no\udce9l.JPEG")
    found = read(spoiled, tmp_path / "cache", bad_files="leave out")
    assert r"train/n00000003/1.JPEG = train/n00000003/caf\xe9.JPEG" in found.origin
    assert any(text.startswith(r"train/n00000006/no\xe9l.JPEG: cannot be read") for text in found.excluded_files)
    assert "".join([found.origin, *found.excluded_files, *found.notices]).encode()
    monkeypatch.setattr(module.ImageIndex, "_inspect_file", None)  # no file is inspected a second time
    assert read(spoiled, tmp_path / "cache", bad_files="leave out").digest == found.digest


def test_a_class_whose_name_is_not_utf8_is_refused(folder, tmp_path):
    for split in ("train", "val"):
        (folder / split / "n00000003").rename(folder / split / "caf\udce9")
    with pytest.raises(DataError, match=r"a class folder whose name is not UTF-8: caf\\xe9\. Rename it"):
        read(folder, tmp_path / "cache")


def test_bad_files_that_are_left_out_are_named_in_form_inventory_and_a_file(spoiled, small, tmp_path):
    found = read(spoiled, tmp_path / "cache", bad_files="leave out")
    assert (len(found.train_files), len(found.test_files)) == (CLASSES * EACH - 3, CLASSES * 2 - 1)
    assert len(found.train_labels) == CLASSES * EACH - 3
    assert "4 bad files left out: train/n00000003/0.JPEG: cannot be read" in found.origin
    (listed,) = (tmp_path / "cache").rglob("bad_files-*.txt")
    assert listed.read_text().splitlines() == [f"{spoiled}/{error}" for error in found.excluded_files]
    data = replace(DATA, bad_files="leave out")
    setup = replace(small, scale=SCALE, data=data)
    told = make_inventory(setup, (0,), spoiled, tmp_path / "cache")
    assert told.excluded_files == found.excluded_files
    assert sum(told.split_sizes.values()) == CLASSES * EACH + CLASSES * 2 - 4


def test_the_list_of_bad_files_is_that_of_one_folder_and_goes_once_they_are_repaired(spoiled, whole, tmp_path):
    other = shutil.copytree(spoiled, tmp_path / "other")
    read(spoiled, tmp_path / "cache", bad_files="leave out")
    read(other, tmp_path / "cache", bad_files="leave out")
    assert len(list((tmp_path / "cache").rglob("bad_files-*.txt"))) == 2
    shutil.rmtree(spoiled)
    shutil.copytree(whole, spoiled)
    read(spoiled, tmp_path / "cache", bad_files="leave out")
    (remaining,) = (tmp_path / "cache").rglob("bad_files-*.txt")
    assert remaining.read_text().startswith(f"{other}/train/n00000003/0.JPEG: cannot be read")


def test_a_folder_of_which_no_test_image_can_be_read_is_refused(folder, tmp_path):
    for file in (folder / "val").rglob("*.JPEG"):
        file.write_text("no image")
    with pytest.raises(DataError, match=r"no test image at .* can be read: val/n00000000/0.JPEG: .*; and 14 more"):
        read(folder, tmp_path / "cache", bad_files="leave out")


def test_another_number_of_classes_is_refused(whole, tmp_path):
    with pytest.raises(DataError, match=r"has 12 classes, but the protocol says 3\. Give `--set scale.classes=12`"):
        index_image_folder(DATA, replace(SCALE, classes=3), whole, tmp_path)


def test_the_digest_names_the_bytes_and_not_the_place_or_the_time(whole, folder, tmp_path):
    digest = read(whole, tmp_path / "cache").digest
    (folder / "train" / "n00000004" / "1.JPEG").touch()
    assert read(folder, tmp_path / "cache").digest == digest
    file = folder / "train" / "n00000004" / "1.JPEG"
    Image.open(file).save(file, "JPEG", quality=50)
    assert read(folder, tmp_path / "cache").digest != digest
    assert read(whole, tmp_path / "cache", keep="resized").digest != digest


def test_a_second_look_reads_no_file_and_one_that_was_cut_off_goes_on(whole, tmp_path, monkeypatch):
    looked = []
    look_at = module.ImageIndex._inspect_file

    def cut_off(self, file, former):
        looked.append(file)
        if len(looked) == 30:
            raise KeyboardInterrupt
        return look_at(self, file, former)

    monkeypatch.setattr(module, "FILES_PER_COMMIT", 10)
    monkeypatch.setattr(module.ImageIndex, "_inspect_file", cut_off)
    with pytest.raises(KeyboardInterrupt):
        read(whole, tmp_path)
    before = len(looked)
    found = read(whole, tmp_path)
    total = CLASSES * EACH + CLASSES * 2
    assert before <= 30
    assert total - 20 <= len(looked) - before < total
    before = len(looked)
    assert read(whole, tmp_path).digest == found.digest
    assert len(looked) == before


def test_a_damaged_index_is_never_believed(whole, tmp_path):
    sound = read(whole, tmp_path)
    (database,) = tmp_path.glob("*/index.db")
    content, chance, lines = database.read_bytes(), random.Random(0), []
    damages = [content[:10_000], b"no database", b""]
    for _ in range(20):
        damaged = bytearray(content)
        for _ in range(200):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        damages.append(bytes(damaged))
    for damaged in damages:
        database.write_bytes(damaged)
        again = index_image_folder(replace(DATA), SCALE, whole, tmp_path, lines.append)
        assert again.digest == sound.digest
        assert again.excluded_files == ()
        assert (again.channel_sums == sound.channel_sums).all()
        assert (again.channel_products == sound.channel_products).all()
    assert any(f"{database} cannot be used (file is not a database)" in line for line in lines)


def test_a_forged_finding_is_inspected_again_and_an_index_of_an_earlier_version_is_read(whole, tmp_path, monkeypatch):
    sound = read(whole, tmp_path)
    (database,) = tmp_path.glob("*/index.db")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE files SET digest = 'f00' WHERE rowid = 3")
        connection.execute("UPDATE files SET moments = zeroblob(96) WHERE rowid = 4")
    again = read(whole, tmp_path)
    assert again.digest == sound.digest
    assert (again.channel_sums == sound.channel_sums).all()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("ALTER TABLE files DROP COLUMN checksum")
    monkeypatch.setattr(module, "decode_checked_file", None)
    assert read(whole, tmp_path).digest == sound.digest


def test_progress_is_told(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FILES_PER_COMMIT", 50)
    monkeypatch.setattr(module, "LOG_INTERVAL_SECONDS", 0.0)
    said = []
    index_image_folder(DATA, SCALE, whole, tmp_path, said.append)
    assert [text.partition(" images, ")[0] for text in said] == ["inspected 50 of 72", "inspected 72 of 72"]


def test_resized_copies_are_made_of_larger_files_and_made_again_where_they_are_gone(whole, tmp_path):
    found = read(whole, tmp_path, keep="resized")
    copies = [file for file in found.train_files if not file.is_relative_to(whole)]
    for original, file in zip(read(whole, tmp_path).train_files, found.train_files, strict=True):
        with Image.open(original) as before, Image.open(file) as after:
            assert min(after.size) == min(73, *before.size)  # 16/7 of 32 pixels
    assert len(copies) == 3 * CLASSES * EACH // 4
    assert "copies of a shorter side of 73, JPEG 95, of larger ones" in found.origin
    times = {file: file.stat().st_mtime_ns for file in copies}
    copies[0].unlink()
    assert read(whole, tmp_path, keep="resized").digest == found.digest
    assert {file: file.stat().st_mtime_ns for file in copies[1:]} == {file: times[file] for file in copies[1:]}
    assert copies[0].exists()
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("link_classes", [False, True])
def test_a_folder_of_links_is_inspected_once(whole, tmp_path, monkeypatch, link_classes):
    linked = tmp_path / "linked"
    for source in whole.glob("*/*" if link_classes else "*/*/*"):
        link = linked / source.relative_to(whole)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(source)
    first = read(linked, tmp_path / "cache")
    monkeypatch.setattr(module.ImageIndex, "_inspect_file", None)
    assert read(linked, tmp_path / "cache").digest == first.digest


def test_a_link_to_another_file_of_equal_size_and_time_is_inspected_again(whole, tmp_path):
    linked = shutil.copytree(whole, tmp_path / "linked")
    link = linked / "train" / "n00000004" / "0.JPEG"
    for name, color in (("a.bmp", "red"), ("b.bmp", "blue")):
        Image.new("RGB", (32, 32), color).save(tmp_path / name)
        os.utime(tmp_path / name, (0, 0))
    link.unlink()
    link = link.with_suffix(".bmp")
    link.symlink_to(tmp_path / "a.bmp")
    first = read(linked, tmp_path / "cache")
    link.unlink()
    link.symlink_to(tmp_path / "b.bmp")
    assert read(linked, tmp_path / "cache").digest != first.digest


def test_after_a_change_of_permissions_alone_nothing_is_decoded_again(whole, tmp_path, monkeypatch):
    root = shutil.copytree(whole, tmp_path / "copy")
    first = read(root, tmp_path / "cache")
    for file in root.glob("*/*/*"):
        file.chmod(0o400)
    monkeypatch.setattr(module, "decode_checked_file", None)
    assert read(root, tmp_path / "cache").digest == first.digest


# -- what is read --------------------------------------------------------------------------------------------------


def test_mean_deviation_and_components_are_those_of_the_same_images_in_memory(whole, tmp_path):
    found = read(whole, tmp_path)
    images = prepare_dataset(replace(DATA, keep="fitted"), SCALE, whole, tmp_path).train_images
    chosen = np.arange(0, len(images), 3)
    mean, deviation = channel_statistics(torch.from_numpy(images[chosen]))
    expected = (mean, deviation, compute_color_components(mean, channel_products(images, chosen)))
    for own, meant in zip(pixel_statistics(found, chosen, SCALE), expected, strict=True):
        np.testing.assert_allclose(own, meant, rtol=1e-9)


def shown(data, recipe=RECIPE, epoch=0):
    """Every example as one epoch shows it, in the order of the examples; and what the epoch tells of itself."""
    batches = EpochLoader(data.train, recipe, 0, epoch)
    images = torch.cat([images for images, _ in batches])
    return images[np.argsort(batches.order)], batches.augmentation_hash.hexdigest()


@pytest.mark.parametrize("augmentation", ["crop-flip-colour", "shift-flip"])
def test_threads_and_batches_change_no_bit(whole, tmp_path, augmentation):
    sides = {} if augmentation == "crop-flip-colour" else {"side_from": 0.0, "side_to": 0.0}
    recipe = replace(RECIPE, augmentation=augmentation, **sides)
    data = opened(whole, tmp_path, recipe)
    threads = torch.get_num_threads()
    try:
        found = []
        for count, size in ((1, 10), (3, 10), (2, 36)):
            torch.set_num_threads(count)
            found.append(shown(data, replace(recipe, batch_size=size)))
    finally:
        torch.set_num_threads(threads)
    for images, seen in found[1:]:
        assert torch.equal(images, found[0][0])
        assert seen == found[0][1]
    assert found[0][0].shape == (CLASSES * 3, 3, 32, 32)


def test_several_workers_decode_their_parts_of_the_same_batches(whole, tmp_path):
    data = opened(whole, tmp_path)
    alone, *parts = (
        list(EpochLoader(data.train, RECIPE, 0, 0, share))
        for share in (None, DataParallelRank(rank=0, world_size=2), DataParallelRank(1, 2))
    )
    for (images, labels), first, second in zip(alone, *parts, strict=True):
        assert torch.equal(torch.cat([first[0], second[0]]), images)
        assert torch.equal(first[1], labels)


def test_a_batch_is_the_crops_of_its_files_normalized_and_shifted_in_color(whole, tmp_path):
    data = opened(whole, tmp_path)
    epoch = EpochLoader(data.train, RECIPE, 0, 1)
    images, labels = next(iter(epoch))
    example = int(epoch.order[0])
    stored = decode_indexed_image(data.train.files[example], SCALE, int(epoch.params.sides[example]))
    pixels = torch.from_numpy(epoch.params.crop_image(stored, example, 32).astype(np.float32))
    known = data.train.normalization
    meant = (
        pixels - known.mean + known.color_components @ torch.from_numpy(epoch.params.color_coefficients[example])
    ) / known.std
    assert ((images[0] - meant.permute(2, 0, 1)).abs() * known.std[:, None, None]).max() < 0.01  # levels
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert data.train.files[example].parent.name == f"n{int(labels[0]):08}"


def test_files_are_validated_and_tested_on_in_their_own_order(whole, tmp_path):
    data = opened(whole, tmp_path)
    batches = list(data.test.evaluation_batches())
    assert torch.cat([labels for _, labels in batches]).tolist() == np.repeat(np.arange(CLASSES), 2).tolist()
    picture = Image.fromarray(decode_indexed_image(data.test.files[0], SCALE, 55))
    width, height = (round(length * 55 / 75) for length in (100, 75))
    whole_picture = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR)).astype(np.float32)
    top, left = center_crop_start(height, 32), center_crop_start(width, 32)
    assert (top, left) == (12, 20)  # half pixels are rounded to even
    center = whole_picture[top : top + 32, left : left + 32]
    normalization = data.test.normalization
    meant = (torch.from_numpy(center) - normalization.mean) / normalization.std
    assert (batches[0][0][0].permute(1, 2, 0) - meant).abs().max() <= 1.1 / float(normalization.std.min())


def test_whole_images_come_rescaled_in_batches_of_equal_shape(whole, tmp_path):
    data = opened(whole, tmp_path)
    batches = list(data.test.rescaled_batches(60))
    assert torch.cat([labels for _, labels in batches]).tolist() == data.test.labels.tolist()
    assert {min(images.shape[2:]) for images, _ in batches} == {60}
    assert {tuple(images.shape[2:]) for images, _ in batches} == {(60, 80), (80, 60), (60, 60), (60, 120), (120, 60)}
    sizes = [tuple(images.shape[2:]) for images, _ in batches]
    assert all(first != second for first, second in pairwise(sizes))


def test_whole_images_come_one_by_one_where_they_are_large(whole, tmp_path):
    sizes = [tuple(images.shape) for images, _ in opened(whole, tmp_path).test.rescaled_batches(1000)]
    assert {shape[0] for shape in sizes} == {1}
    assert {min(shape[2:]) for shape in sizes} == {1000}


def test_large_jpegs_are_decoded_at_a_part_of_their_size_and_look_the_same(whole, tmp_path):
    source = Image.fromarray(load_sample_images().images[0])
    source.resize((1280, 854)).save(tmp_path / "large.jpg", quality=95)
    small, full = (decode_indexed_image(tmp_path / "large.jpg", SCALE, side) for side in (100, 854))
    assert (small.shape, full.shape) == ((107, 160, 3), (854, 1280, 3))
    first, second = (
        np.asarray(Image.fromarray(each).resize((60, 40), Image.Resampling.BILINEAR)).astype(int)
        for each in (small, full)
    )
    assert np.abs(first - second).mean() < 2


def test_what_was_read_ahead_is_bounded_and_the_first_error_comes_through():
    begun = []

    def make(item):
        begun.append(item)
        if item == 50:
            raise ValueError("the fiftieth")
        return item

    found = map_in_order(range(100), make, max_pending=5)
    assert [next(found) for _ in range(20)] == list(range(20))
    assert len(begun) <= 26
    with pytest.raises(ValueError, match="the fiftieth"):
        list(found)


def test_a_file_that_vanishes_meanwhile_is_named(whole, folder, tmp_path):
    data = opened(folder, tmp_path / "cache")
    data.test.files[0].write_text("no image")
    with pytest.raises(DataError, match=r"cannot read the image .*0\.JPEG, which could be read before"):
        list(data.test.evaluation_batches())


def test_a_setup_says_by_keep_how_its_folder_is_read(whole, small, tmp_path):
    setup = Setup(network=small.network, scale=SCALE, recipe=replace(RECIPE, augmentation="crop-flip"), data=DATA)
    originals = make_data_module(setup, load_dataset(setup, whole, tmp_path), 0, CPU)
    fitted = replace(setup, data=replace(DATA, keep="fitted"))
    in_memory = make_data_module(fitted, load_dataset(fitted, whole, tmp_path), 0, CPU)
    assert originals.split_digest == in_memory.split_digest
    assert torch.equal(originals.train.labels, in_memory.train.labels)
    assert io.BytesIO(originals.train.files[0].read_bytes()).read(2) == b"\xff\xd8"


def test_a_spoiled_folder_goes_through_the_protocol_of_imagenet(spoiled, tmp_path):
    base = protocols.load("imagenet").setup
    setup = replace(
        base,
        scale=Scale(resolution=32, classes=CLASSES, width=1 / 16),
        recipe=replace(base.recipe, epochs=2, batch_size=16),
        data=replace(base.data, validation_fraction=0.25),
    )
    examples = load_dataset(setup, spoiled, tmp_path / "cache")
    fit, machine = Trial(arm="A", setup=setup, seed=0), Machine()
    result = train_trial(fit, examples, tmp_path / "trial", digests={}, machine=machine)
    assert result.status in ("finished", "non-finite", "at chance"), result.error
    assert len(result.predictions) == 2 * CLASSES - 1
    assert result.evidence["steps"] == 2 * 3
