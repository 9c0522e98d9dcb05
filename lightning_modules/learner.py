"""Who trains: a network under this package's recipe, or a foreign ``LightningModule`` by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import pytorch_lightning as lightning
from torch import nn

from lightning_modules.classifier import Classifier
from lightning_modules.foreign import SelfTraining
from lightning_modules.initialise import initialised
from lightning_modules.networks import Custom
from lightning_modules.sharing import Share
from lightning_modules.spec import Setup
from lightning_modules.values import Misuse


class Learner(Protocol):
    """What a study wants of what it trains."""

    @property
    def module(self) -> lightning.LightningModule:
        """What the trainer trains; its ``forward`` maps images to logits."""

    @property
    def network(self) -> nn.Module:
        """Whose weights are kept, and compared layer by layer."""

    @property
    def watchers(self) -> tuple[lightning.Callback, ...]:
        """Callbacks that the trainer needs for it."""

    @property
    def steps(self) -> int:
        """How many the optimiser has made in this epoch."""

    def validated(self, error: float) -> None:
        """Hear of the validation error, in percent, as the epoch ends."""

    def curves(self) -> Mapping[str, float]:
        """What training gave in the epoch that ends, by name; what cannot be known is left out."""


def learner(setup: Setup, seed: int, share: Share | None = None) -> Learner:
    """What a setup trains, with its initial weights; by one of several workers where it has a share.

    Raises:
        Misuse: for several workers on a module that trains itself: what its losses are means of, only it knows; and
            for several workers on parts of a batch.
    """
    if share is not None and not share.alone and setup.recipe.microbatch:
        raise Misuse(
            f"Recipe.microbatch is {setup.recipe.microbatch}, and {share.workers} workers were given to one trial; "
            "expected one of the two: several workers divide a batch among them. Give --workers-per-trial 1, or "
            "`--set recipe.microbatch=0`."
        )
    network = initialised(setup.network, setup.scale, seed)
    if isinstance(network, lightning.LightningModule):
        if share is not None and not share.alone:
            raise Misuse(
                f"{type(network).__name__} trains itself, and {share.workers} workers were given to one trial; "
                "expected 1: how its losses and metrics add up over workers, only it knows. Give --workers-per-trial 1."
            )
        return SelfTraining(network)
    weight = setup.network.auxiliary_weight if isinstance(setup.network, Custom) else 0.0
    return Classifier(network, setup.recipe, weight, share)
