"""The interface of what a trial trains.

That is a network under a recipe, or a user's self-training ``LightningModule``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import pytorch_lightning as lightning
from torch import nn

from lightning_modules.distributed import Batch, DataParallelRank
from lightning_modules.modules.classifier import Classifier
from lightning_modules.modules.external import ExternalTrainable
from lightning_modules.modules.own_step import find_own_layout
from lightning_modules.networks.initialization import build_initialized_network
from lightning_modules.networks.memory_layout import MemoryLayout, find_layout
from lightning_modules.rng import redraw_seed
from lightning_modules.specs.errors import UserError
from lightning_modules.specs.networks import Custom
from lightning_modules.specs.setup import Setup


class Trainable(Protocol):
    """What a trial trains, and its metrics."""

    @property
    def module(self) -> lightning.LightningModule:
        """The module for the trainer; its ``forward`` maps images to logits."""

    @property
    def network(self) -> nn.Module:
        """The network whose weights are saved, and compared layer by layer."""

    @property
    def callbacks(self) -> tuple[lightning.Callback, ...]:
        """Callbacks that the trainer is to be given."""

    @property
    def layout(self) -> MemoryLayout:
        """Memory layout of the batches that the module is to be given."""

    @property
    def num_steps(self) -> int:
        """Steps of the optimizer in this epoch."""

    def seed_dropout(self, seed: int) -> None:
        """Seed the masks of dropout layers that have a generator of their own."""

    def transfer_batches(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Apply the module's own transfer hooks to the batches of an evaluation."""

    def observe_validation_error(self, error: float) -> None:
        """Take note of the validation error, percent, at the end of an epoch."""

    def epoch_metrics(self) -> Mapping[str, float]:
        """Return the epoch's training metrics by name; unknown ones are left out."""


def make_trainable(setup: Setup, seed: int, dp_rank: DataParallelRank | None = None) -> Trainable:
    """Make what a setup trains, with its initial weights.

    For one worker, or for a rank of a data-parallel trial.

    Raises:
        UserError: for several workers on a module that trains itself, as its losses may be means of anything; and for
            several workers together with microbatches.
    """
    if dp_rank is not None and not dp_rank.is_single_worker and setup.recipe.microbatch:
        raise UserError(
            f"Recipe.microbatch is {setup.recipe.microbatch}, and {dp_rank.world_size} workers were given to one "
            "trial; expected one of the two: several workers divide a batch among them. Give --workers-per-trial 1, or "
            "`--set recipe.microbatch=0`."
        )
    network = build_initialized_network(setup.network, setup.scale, redraw_seed(seed, setup.redraws, setup.redraw_name))
    if isinstance(network, lightning.LightningModule):
        if dp_rank is not None and not dp_rank.is_single_worker:
            raise UserError(
                f"{type(network).__name__} trains itself, and {dp_rank.world_size} workers were given to one trial; "
                "expected 1: only it knows how its losses and metrics add up over workers. Give --workers-per-trial 1."
            )
        return ExternalTrainable(network, find_own_layout(network, setup.scale))
    if not isinstance(setup.network, Custom):
        return Classifier(network, setup.recipe, dp_rank=dp_rank)
    layout = find_layout(network, setup.scale.image_shape)
    return Classifier(network, setup.recipe, setup.network.auxiliary_weight, dp_rank, layout)
