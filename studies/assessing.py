"""A network with weights from a file, tested on an image folder: what ``ablate evaluate`` tells."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from lightning_modules.data import DataError
from lightning_modules.folder import FolderPart
from lightning_modules.pretrained import IMAGENET_DEVIATION, IMAGENET_MEAN, Pretrained, pretrained
from lightning_modules.spec import Data, Mirroring, Scale, Setup, Test, TestMode
from lightning_modules.tally import TOP
from lightning_modules.testing import Looking, examine, multiply_adds, restored
from lightning_modules.values import InvalidValue
from studies.profiles import named

TORCHVISION_SIDE = 8 / 7  # of the crop: 256 pixels at 224, as its weights were tested


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """What a test on a folder gave.

    Attributes:
        sides: shorter sides to which images were rescaled, pixels.
        mirrored: whether all was looked at mirrored as well.
        top1_error, top5_error: percent; the latter ``None`` where there are no more than five classes.
        images_per_second: decoding counted.
        multiply_adds: of the whole test of one square image.
    """

    network: str
    weights: str
    mode: TestMode
    sides: tuple[int, ...]
    mirrored: bool
    images: int
    classes: int
    top1_error: float
    top5_error: float | None
    images_per_second: float
    multiply_adds: int


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be tested, and how.

    Attributes:
        network: a name of the catalogue, or an arm (``depth/E``).
        weights: a file, or torchvision's by name; see :func:`lightning_modules.pretrained.pretrained`.
        folder: with ``test/<class>/`` or ``val/<class>/``.
        sides: pixels; empty for those at which such weights were tested as they were trained.
        mean, deviation: of pixels from 0 to 255, per channel; empty for those of the training images.
    """

    network: str
    weights: str
    folder: Path
    mode: TestMode = "single"
    sides: tuple[int, ...] = ()
    mirrored: bool = True
    resolution: int = 224
    channels: int = 3
    width: float = 1.0
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()


def assess(asked: Asked, device: torch.device) -> Assessment:
    """Test a network on a folder.

    Raises:
        Misuse: for weights that do not fit the network or the folder's classes, and for a folder that cannot be read.
    """
    scale = Scale(resolution=asked.resolution, channels=asked.channels, width=asked.width)
    part = FolderPart(asked.folder, scale, device)
    scale = Scale(resolution=asked.resolution, channels=asked.channels, width=asked.width, classes=len(part.classes))
    found = pretrained(named(asked.network, scale).network, scale, asked.weights)
    setup = Setup(network=found.network, scale=scale, data=Data(source="folder"), test=_test(asked, found))
    part.normalise_by(*_statistics(asked, found, part))
    looking, scorer = Looking.of(setup), restored(setup, found.state, device)
    arithmetic = multiply_adds(setup)
    began = time.perf_counter()
    tally, _ = examine([scorer], looking, part, device)
    error = tally.error  # waits for the device
    seconds = time.perf_counter() - began
    return Assessment(
        network=asked.network,
        weights=asked.weights,
        mode=asked.mode,
        sides=looking.sides,
        mirrored=looking.mirrored and asked.mode != "single",
        images=tally.examples,
        classes=scale.classes,
        top1_error=error,
        top5_error=tally.top5_error if scale.classes > TOP else None,
        images_per_second=tally.examples / seconds,
        multiply_adds=arithmetic,
    )


def _test(asked: Asked, found: Pretrained) -> Test:
    smallest = min(asked.sides, default=asked.resolution)
    if smallest < asked.resolution:
        raise InvalidValue(
            f"a side of {smallest} pixels is asked for; expected {asked.resolution} or more, the side of a crop. For "
            "a network that was trained on smaller images give --resolution."
        )
    usual = (TORCHVISION_SIDE,) if found.is_foreign else (1.0,)
    mirroring: Mirroring = "as-trained" if asked.mode == "single" else "always" if asked.mirrored else "never"
    return Test(
        mode=asked.mode, sides=tuple(side / asked.resolution for side in asked.sides) or usual, mirroring=mirroring
    )


def _statistics(asked: Asked, found: Pretrained, part: FolderPart) -> tuple[Sequence[float], Sequence[float]]:
    """What pixels are normalised by: what was asked for, else what the weights were trained with, as far as known."""
    if bool(asked.mean) != bool(asked.deviation) or (asked.mean and len(asked.mean) != asked.channels):
        raise InvalidValue(
            f"mean is {list(asked.mean)} and deviation {list(asked.deviation)}; expected both, with a number per "
            f"channel, {asked.channels}."
        )
    if asked.mean:
        return asked.mean, asked.deviation
    if found.is_foreign:
        return IMAGENET_MEAN, IMAGENET_DEVIATION
    if not (asked.folder / "train").is_dir():
        raise DataError(
            f"{asked.folder} has no train/<class>/, and a network is tested on pixels that are normalised as those it "
            "was trained on. Give --mean and --deviation, of pixels from 0 to 255, a number per channel."
        )
    return part.statistics()
