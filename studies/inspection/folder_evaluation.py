"""Evaluate a network with weights from a file on an image folder (`ablate evaluate`)."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from lightning_modules.data.streaming import ImageFolderSplit
from lightning_modules.data.types import DataError
from lightning_modules.evaluation.inference import ViewScheme, default_test_side, evaluate_scorers, restore_scorer
from lightning_modules.modules.metrics import TOP_K
from lightning_modules.networks.pretrained import PretrainedNetwork, load_pretrained
from lightning_modules.profiling.evaluation_cost import inference_multiply_adds
from lightning_modules.specs.data import Data
from lightning_modules.specs.errors import DamagedFileError, InvalidValue, UserError
from lightning_modules.specs.recipe import Recipe
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.setup import Setup
from lightning_modules.specs.test import Mirroring, Test, TestMode
from studies.inspection.network_profiles import resolve_setup
from studies.storage.manifest import read_manifest
from studies.storage.trial_folder import TrialFolder


@dataclass(frozen=True, kw_only=True)
class FolderEvaluation:
    """Errors and cost of a network on an image folder.

    Attributes:
        sides: shorter sides to which images were rescaled, pixels.
        mirrored: whether every view was evaluated mirrored as well.
        images: number of images.
        classes: number of classes.
        top1_error: percent.
        top5_error: percent; ``None`` where there are no more than five classes.
        images_per_second: throughput, decoding included.
        multiply_adds: of the evaluation of one square image, all views together.
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
class EvaluationRequest:
    """A network, its weights, an image folder, and the mode of evaluation.

    Attributes:
        network: a name of the catalogue, or an arm (``depth/E``).
        weights: a file, or torchvision's by name; see
            :func:`lightning_modules.networks.pretrained.load_pretrained`.
        folder: folder with ``test/<class>/`` or ``val/<class>/``.
        sides: shorter sides of the images, pixels; empty for the side at which such weights are evaluated in training.
        mirrored: whether to add mirrored views; a single crop is never mirrored.
        resolution: side of a crop, pixels.
        mean: of pixels from 0 to 255, per channel; empty for that of the training images.
        std: standard deviation of the same.
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
    std: tuple[float, ...] = ()


def _verify_trial_weights(weights: str) -> None:
    """Compare weights in a trial's folder with the checksum in its result; others have no checksum."""
    file = Path(weights)
    if file.is_file() and (file.parent / "result.json").is_file():
        TrialFolder(file.parent).verify_file(file)


def find_trial_setup(weights: str) -> Setup | None:
    """Find the setup of the trial in whose folder weights lie, in the manifests of the studies beside it.

    ``None`` for weights from elsewhere.
    """
    trial_folder = Path(weights).resolve().parent
    if not (trial_folder / "result.json").is_file():
        return None
    for file in sorted((trial_folder.parent.parent / "studies").glob("*/study.json")):
        with suppress(UserError, DamagedFileError):  # of another study, as far as this trial is concerned
            for entry in read_manifest(file.parent).entries:
                if entry.folder == trial_folder.name:
                    return entry.trial.setup
    return None


def evaluate_folder(request: EvaluationRequest, device: torch.device) -> FolderEvaluation:
    """Evaluate a network on an image folder.

    Weights in a trial's folder are evaluated as in the trial: in its precision, and at its side unless others are
    requested.

    Raises:
        UserError: if the weights do not fit the network or the folder's classes, or the folder cannot be read.
        DamagedFileError: if the weights lie in a trial's folder, and are not those that its result names.
    """
    # The number of classes is the folder's, which only reading it tells.
    scale = Scale(resolution=request.resolution, channels=request.channels, width=request.width)
    split = ImageFolderSplit(request.folder, scale, device)
    num_classes = len(split.class_names)
    scale = Scale(resolution=request.resolution, channels=request.channels, width=request.width, classes=num_classes)
    _verify_trial_weights(request.weights)
    pretrained = load_pretrained(resolve_setup(request.network, scale).network, scale, request.weights)
    trained = find_trial_setup(request.weights)
    test = _make_test(request, pretrained, trained)
    precision = trained.recipe.precision if trained else Recipe().precision
    setup = Setup(
        network=pretrained.network,
        scale=scale,
        recipe=Recipe(precision=precision),
        data=Data(source="folder"),
        test=test,
    )
    split.set_normalization(*_pixel_statistics(request, pretrained, split))
    views = ViewScheme.from_setup(setup)
    scorer = restore_scorer(setup, pretrained.state_dict, device)
    multiply_adds = inference_multiply_adds(setup)
    started_at = time.perf_counter()
    metrics, _ = evaluate_scorers([scorer], views, split, device)
    top1_error = metrics.error  # synchronizes with the device, so it must come before the clock is read
    seconds = time.perf_counter() - started_at
    if not math.isfinite(metrics.mean_loss):
        raise UserError(
            f"with {request.weights}, {request.network} gives outputs that are not finite numbers for images of "
            f"{request.folder}, so that it has no error. Expected weights of a training that did not diverge, and the "
            "--mean and --std that it was trained with."
        )
    return FolderEvaluation(
        network=request.network,
        weights=request.weights,
        mode=request.mode,
        sides=views.sides,
        mirrored=views.is_mirrored and request.mode != "single",
        images=metrics.num_examples,
        classes=num_classes,
        top1_error=top1_error,
        top5_error=metrics.top5_error if num_classes > TOP_K else None,
        images_per_second=metrics.num_examples / seconds,
        multiply_adds=multiply_adds,
    )


def _make_test(request: EvaluationRequest, pretrained: PretrainedNetwork, trained: Setup | None) -> Test:
    smallest = min(request.sides, default=request.resolution)
    if smallest < request.resolution:
        raise InvalidValue(
            f"--sides has a side of {smallest} pixels; expected {request.resolution} or more, the side of a crop. "
            "For a network that was trained on smaller images give --resolution."
        )
    if len(set(request.sides)) < len(request.sides):
        raise InvalidValue(f"--sides is {list(request.sides)}; expected sides that differ from each other, pixels.")
    default_ratio = default_test_side(trained) if trained else 1.0
    if pretrained.preprocessing:
        default_ratio = pretrained.preprocessing.side_ratio
    # A spec states sides relative to the crop, so that it holds at every resolution.
    ratios = tuple(side / request.resolution for side in request.sides)
    mirroring: Mirroring = "always" if request.mirrored else "never"
    if request.mode == "single":  # the mode that trials are evaluated with
        mirroring = "as-trained"
    return Test(mode=request.mode, sides=ratios or (default_ratio,), mirroring=mirroring)


def _pixel_statistics(
    request: EvaluationRequest, pretrained: PretrainedNetwork, split: ImageFolderSplit
) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation per channel: as requested, else of the training images as far as they are known."""
    if bool(request.mean) != bool(request.std) or (request.mean and len(request.mean) != request.channels):
        raise InvalidValue(
            f"--mean is {list(request.mean)} and --std is {list(request.std)}; expected both, with one number per "
            f"channel, {request.channels}."
        )
    if request.mean:
        _require_usable_statistics(request.mean, request.std)
        return request.mean, request.std
    if pretrained.preprocessing:
        return pretrained.preprocessing.mean, pretrained.preprocessing.std
    if not (request.folder / "train").is_dir():
        raise DataError(
            f"{request.folder} has no train/<class>/, and a network must be evaluated with the normalization that it "
            "was trained with. Give --mean and --std of the training images: pixels from 0 to 255, one number per "
            "channel."
        )
    return split.training_statistics()


def _require_usable_statistics(mean: Sequence[float], std: Sequence[float]) -> None:
    if not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise InvalidValue(
            f"--mean is {list(mean)} and --std is {list(std)}; expected finite numbers, and standard deviations above "
            "0: pixels are divided by them."
        )
