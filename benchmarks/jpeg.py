"""Claim: photographs for a GPU are loaded 1.5 times as fast, per core, as by torchvision's ordinary loader.

Cost: three minutes on two cores. Command: ``python benchmarks/jpeg.py [--quick] [--device cuda] [--write]``.

The photographs are synthetic: JPEG of quality 92, cut from the two that come with scikit-learn, with camera noise, of
500 x 375 pixels, ImageNet's usual size, and of 1280 x 960. Ordinary: torchvision's ``ImageFolder`` with
RandomResizedCrop, RandomHorizontalFlip, ToTensor and Normalize through a ``DataLoader`` without workers, since
workers cost additional processor time. Ours: the recipe of the VGG paper (a side drawn from 256 to 512, a crop of
224, mirrored, shifted in color), from the original files and from copies of a shorter side up to 512. It is measured
up to the input of a network on a CPU (float32), and up to the bytes sent to a GPU, which does the rest (uint8). All
run in one thread, in batches of 64: images per second of processor time. ``decoding alone`` is Pillow's time for it,
as in torchvision.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _side_by_side import asked, in_turn, keep, ratio, told, where
from PIL import Image
from torch.utils.data import DataLoader

from lightning_modules.data.datamodule import EpochLoader
from lightning_modules.data.inventory import load_dataset, make_data_module
from lightning_modules.specs.catalogue import VGG_A
from lightning_modules.specs.data import Data, ImageStorage
from lightning_modules.specs.recipe import Recipe
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.setup import Setup

IMAGES, QUICK, FEW = 512, 256, 32
BATCH, QUALITY = 64, 92
USUAL, LARGE = (500, 375), (1280, 960)
FEWER_LARGE = 4  # times
NOISE = 6.0  # levels
CLASSES = 4
PAPERS = Recipe(epochs=1, batch_size=BATCH, augmentation="crop-flip-colour", side_from=8 / 7, side_to=16 / 7)


def write_photographs(root: Path, images: int, size: tuple[int, int]) -> float:
    """An image folder of so many to train on; gives back the mean size of a file, bytes."""
    from sklearn.datasets import load_sample_images

    random = np.random.default_rng(0)
    sources = [Image.fromarray(each) for each in load_sample_images().images]
    for index in range(images + 2 * CLASSES):
        part = "train" if index < images else "test"
        folder = root / part / str(index % CLASSES)
        folder.mkdir(parents=True, exist_ok=True)
        source, share = sources[index % 2], random.uniform(0.75, 1)
        width, height = (share * length for length in USUAL)
        left, top = random.uniform(0, source.width - width), random.uniform(0, source.height - height)
        picture = source.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))
        noisy = np.asarray(picture) + random.normal(0, NOISE, (size[1], size[0], 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{index}.jpg", quality=QUALITY)
    sizes = [file.stat().st_size for file in (root / "train").rglob("*.jpg")]
    return sum(sizes) / len(sizes)


def per_second(images: int, work: Callable[[], object]) -> float:
    """Images per second of this process's processor time, all of its threads together."""
    began = time.process_time()
    work()
    return images / (time.process_time() - began)


def ordinary(root: Path) -> Callable[[], float]:
    """torchvision's, in this process: workers would add what passes between processes."""
    from torchvision import datasets, transforms

    steps = [
        transforms.RandomResizedCrop(224),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
    images = datasets.ImageFolder(str(root / "train"), transform=transforms.Compose(steps))
    loader: Any = DataLoader(images, BATCH, shuffle=True)

    def epoch() -> None:
        for _ in loader:
            pass

    return lambda: per_second(len(images), epoch)


def ours(root: Path, cache: Path, keep_as: ImageStorage, device: str, *, whole: bool = True) -> Callable[[], float]:
    """This package's; unless ``whole``, up to what is sent to the device."""
    setup = Setup(
        network=VGG_A, scale=Scale(classes=CLASSES), recipe=PAPERS,
        data=Data(source="folder", keep=keep_as, validation_fraction=0.1),
    )  # fmt: skip
    data: Any = make_data_module(setup, load_dataset(setup, root, cache), 0, torch.device(device))
    epochs = iter(range(1_000_000))

    def epoch() -> None:
        batches = EpochLoader(data.train, PAPERS, 0, next(epochs))
        cuts = [batches.order[start : start + BATCH] for start in range(0, len(data.train), BATCH)]
        for _ in batches if whole else data.train.cropped_images(cuts, batches.params):
            pass

    return lambda: per_second(len(data.train), epoch)


def decoding(root: Path, decode: Callable[[bytes], object]) -> Callable[[], float]:
    """Of the files' bytes, nothing but decoding."""
    files = [file.read_bytes() for file in sorted((root / "train").rglob("*.jpg"))]
    return lambda: per_second(len(files), lambda: [decode(content) for content in files])


def by_pillow(content: bytes) -> object:
    """As torchvision decodes."""
    return Image.open(BytesIO(content)).convert("RGB")


def main() -> None:
    """Write the photographs, look at them once, then measure in turn."""
    options = asked(__doc__)
    torch.set_num_threads(1)
    images = FEW if options.smallest else QUICK if options.quick else IMAGES
    with tempfile.TemporaryDirectory() as folder:
        rates, ratios, sizes = {}, {}, {}
        for name, size, count in (("usual", USUAL, images), ("large", LARGE, images // FEWER_LARGE)):
            root, cache = Path(folder) / name, Path(folder) / f"cache-{name}"
            sizes[name] = round(write_photographs(root, count, size))
            arms = {
                "ordinary": ordinary(root),
                "ours, originals": ours(root, cache, "originals", options.device),
                "ours, originals, uint8": ours(root, cache, "originals", options.device, whole=False),
                "ours, resized": ours(root, cache, "resized", options.device),
                "decoding alone": decoding(root, by_pillow),
            }
            for arm in arms.values():
                arm()
            found = in_turn(arms, options.repeats)
            print(f"{name}, files of {sizes[name] / 1000:.0f} kB")
            print({arm: [round(value) for value in values] for arm, values in found.items()})
            rates[name] = found
            ratios[name] = {arm: ratio(values, found["ordinary"]) for arm, values in found.items() if arm != "ordinary"}
            for label, values in ratios[name].items():
                goal = "1.5 or more" if label == "ours, originals, uint8" else ""
                print(told(f"{label} / ordinary", values, goal), flush=True)
    kept = {"where": where(), "bytes_per_file": sizes, "images_per_core_second": rates, "ratios": ratios}
    keep("jpeg", kept, options)


if __name__ == "__main__":
    main()
