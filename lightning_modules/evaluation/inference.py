"""Evaluate networks on crops or whole images, at one or more scales."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from lightning_modules.data.decoding import center_crop_start
from lightning_modules.distributed import DataParallelRank
from lightning_modules.evaluation.dense import FullyConvolutional
from lightning_modules.modules.metrics import RunningMetrics
from lightning_modules.networks.build import build_network
from lightning_modules.networks.custom import is_lightning_module
from lightning_modules.networks.memory_layout import find_layout, set_layout
from lightning_modules.networks.outputs import extract_logits
from lightning_modules.specs.data import ForeignData
from lightning_modules.specs.networks import Custom, Network
from lightning_modules.specs.recipe import Recipe
from lightning_modules.specs.setup import Setup
from lightning_modules.specs.test import TestMode

if TYPE_CHECKING:  # Lightning takes two seconds to import, and counting the multiply-adds of a test does not need it
    from lightning_modules.data.trial_data import ReadableSplit

CROPS_PER_SIDE = 5  # crops along each side of an image (Simonyan & Zisserman 2015, Sect. 4.5)
CropCorner = tuple[int, int]  # row and column of a crop's upper left pixel


def _no_heartbeat() -> None:
    return


class Scorer(nn.Module):
    """A trained network in evaluation, in its training precision."""

    def __init__(self, network: nn.Module, spec: Network, recipe: Recipe) -> None:
        super().__init__()
        self.network, self.spec = network, spec
        # A user's LightningModule chooses its precision itself.
        self.is_bfloat16 = recipe.precision == "bfloat16" and not is_lightning_module(network)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits ``(N, classes)`` of crops, float32."""
        return self._compute_logits(self.network, images)

    def score_densely(self, images: torch.Tensor) -> torch.Tensor:
        """Return scores ``(N, classes)`` of whole images, float32."""
        return self._compute_logits(FullyConvolutional(self.network, self.spec), images)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return penultimate activations ``(N, features)``, float32.

        Images are whole.
        """
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.is_bfloat16):
            return FullyConvolutional(self.network, self.spec).features(images)

    def _compute_logits(self, network: nn.Module, images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.is_bfloat16):
            return extract_logits(network(images))[0]


def restore_scorer(setup: Setup, state_dict: Mapping[str, torch.Tensor], device: torch.device) -> Scorer:
    """Build a setup's network with trained weights, in evaluation mode."""
    network = build_network(setup.network, setup.scale)
    network.load_state_dict(state_dict)
    layout = find_layout(network, setup.scale.image_shape) if isinstance(setup.network, Custom) else "channels-last"
    network = set_layout(network.to(device), layout)
    return Scorer(network, setup.network, setup.recipe).eval()


@dataclass(frozen=True, kw_only=True)
class ViewScheme:
    """The views of every image that a test averages over.

    Lengths are in pixels.

    Attributes:
        sides: shorter sides to which each image is rescaled.
        is_mirrored: whether mirrored views are added; to a single crop never.
        crop_side: side of a crop.
    """

    mode: TestMode
    sides: tuple[int, ...]
    is_mirrored: bool
    crop_side: int

    @classmethod
    def from_setup(cls, setup: Setup) -> ViewScheme:
        """Make the scheme of a setup's test.

        Its sides are given in units of the crop's.
        """
        test, crop_side = setup.test, setup.scale.resolution
        relative_sides = test.sides or (default_test_side(setup),)
        was_trained_mirrored = not isinstance(setup.data, ForeignData) and "flip" in setup.recipe.augmentation
        return cls(
            mode=test.mode,
            sides=tuple(round(side * crop_side) for side in relative_sides),
            is_mirrored=test.mirroring == "always" or (test.mirroring == "as-trained" and was_trained_mirrored),
            crop_side=crop_side,
        )

    def posteriors(self, scorer: Scorer, images: torch.Tensor) -> torch.Tensor:
        """Return class posteriors ``(N, classes)``, averaged over views.

        Images are ``(N, channels, height, width)``.
        """
        # Averaged per mode first: with mode "both", dense views weigh as much as crops, however few they are.
        return torch.stack([self._mode_posteriors(scorer, images, mode) for mode in self.modes]).mean(0)

    def _mode_posteriors(self, scorer: Scorer, images: torch.Tensor, mode: TestMode) -> torch.Tensor:
        score = scorer.score_densely if mode == "dense" else scorer
        views = [score(view).softmax(1) for view in self.views(images, mode)]
        return torch.stack(views).mean(0)

    @property
    def modes(self) -> tuple[TestMode, ...]:
        """The modes whose posteriors are averaged."""
        return ("dense", "multi-crop") if self.mode == "both" else (self.mode,)

    def views(self, images: torch.Tensor, mode: TestMode) -> Iterator[torch.Tensor]:
        """Yield a mode's views of images.

        The whole images, or crop after crop; mirrored ones after the others.
        """
        orientations = [images]
        if self.is_mirrored and mode != "single":
            orientations.append(images.flip(3))
        for oriented in orientations:
            if mode == "dense":
                yield oriented
                continue
            for top, left in crop_corners(mode, images.shape[2], images.shape[3], self.crop_side):
                yield oriented[:, :, top : top + self.crop_side, left : left + self.crop_side]


def default_test_side(setup: Setup) -> float:
    """Return the shorter side of images in validation, in units of the crop's."""
    if isinstance(setup.data, ForeignData):
        return 1.0
    return setup.recipe.mean_side or 1.0  # 0: the recipe does not rescale


def crop_corners(mode: TestMode, height: int, width: int, crop_side: int) -> tuple[CropCorner, ...]:
    """Return the corners of a mode's crops, row by row.

    Mirrored crops are not listed.
    """
    last_row, last_column = height - crop_side, width - crop_side
    center = (center_crop_start(height, crop_side), center_crop_start(width, crop_side))
    if mode == "single":
        return (center,)
    if mode == "ten-crop":  # corners and center, mirrored as well (Krizhevsky et al. 2012, Sect. 4.1)
        return (*product((0, last_row), (0, last_column)), center)
    return tuple(product(_regular_grid(last_row), _regular_grid(last_column)))


def _regular_grid(last: int) -> list[int]:
    return [round(step * last / (CROPS_PER_SIDE - 1)) for step in range(CROPS_PER_SIDE)]


def average_over_sides(
    view_scheme: ViewScheme,
    split: ReadableSplit,
    evaluate_batch: Callable[[torch.Tensor], torch.Tensor],
    heartbeat: Callable[[], None],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Evaluate a split at every side, and average over the sides.

    Args:
        evaluate_batch: maps the images of a batch to values ``(images, ...)``.
        heartbeat: called at every batch.

    Returns:
        Mean values ``(examples, ...)`` and labels ``(examples,)``, in the order of the split.
    """
    side_values: list[torch.Tensor] = []
    labels = torch.empty(0)
    for side in view_scheme.sides:
        batch_values: list[torch.Tensor] = []
        batch_labels: list[torch.Tensor] = []
        for images, image_labels in split.rescaled_batches(side):
            heartbeat()
            batch_values.append(evaluate_batch(images))
            batch_labels.append(image_labels)
        side_values.append(torch.cat(batch_values))
        labels = torch.cat(batch_labels)  # the same at every side: a split has one order
    return torch.stack(side_values).mean(0), labels


@torch.no_grad()
def evaluate_scorers(
    scorers: Sequence[Scorer],
    view_scheme: ViewScheme,
    split: ReadableSplit,
    device: torch.device,
    dp_rank: DataParallelRank | None = None,
    heartbeat: Callable[[], None] = _no_heartbeat,
) -> tuple[RunningMetrics, torch.Tensor]:
    """Evaluate an ensemble on a split.

    Returns metrics and predicted classes ``(examples,)``.

    Posteriors are averaged over views, then networks, then sides; the loss is the mean negative logarithm of the
    average, nats. Each rank evaluates its share of every batch; all of them return the results of the whole.

    Args:
        scorers: the networks whose posteriors are averaged, in evaluation mode.
        heartbeat: called at every batch, to show that the process is alive.
    """
    dp_rank = dp_rank or DataParallelRank()
    posteriors, labels = average_over_sides(
        view_scheme, split, lambda images: _batch_posteriors(scorers, view_scheme, images, dp_rank), heartbeat
    )
    dp_rank.all_reduce(posteriors)
    metrics = RunningMetrics(device)
    # A posterior that underflows to 0 has a large loss, not an infinite one.
    log_posteriors = posteriors.clamp_min(torch.finfo(posteriors.dtype).tiny).log()
    metrics.update(functional.nll_loss(log_posteriors, labels), posteriors, labels)
    metrics.update_top5(posteriors, labels)
    classes = posteriors.argmax(1)
    metrics.count_classes(classes, labels)
    return metrics, classes


def _batch_posteriors(
    scorers: Sequence[Scorer], view_scheme: ViewScheme, images: torch.Tensor, dp_rank: DataParallelRank
) -> torch.Tensor:
    """Return a batch's posteriors ``(N, classes)``.

    Those of other ranks' examples are zeros.
    """
    share = dp_rank.local_slice(len(images))
    # A rank without a share evaluates one image all the same, for the number of classes.
    local_images = images[share] if share.start < share.stop else images[:1]
    mean = torch.stack([view_scheme.posteriors(scorer, local_images) for scorer in scorers]).mean(0)
    posteriors = mean.new_zeros(len(images), mean.shape[1])
    posteriors[share] = mean[: share.stop - share.start]
    return posteriors
