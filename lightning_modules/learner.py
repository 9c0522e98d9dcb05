"""Who trains: a network under this package's recipe, or a foreign ``LightningModule`` by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import pytorch_lightning as lightning
from torch import nn

from lightning_modules.build import build
from lightning_modules.chance import Chance
from lightning_modules.classifier import Classifier
from lightning_modules.foreign import SelfTraining
from lightning_modules.initialise import initialise
from lightning_modules.networks import Custom, Network
from lightning_modules.spec import Scale, Setup
from lightning_modules.streams import generator


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

    def curves(self) -> Mapping[str, float]:
        """What training gave in the epoch that ends, by name; what cannot be known is left out."""


def learner(setup: Setup, seed: int) -> Learner:
    """What a setup trains, with its initial weights."""
    network = initialised(setup.network, setup.scale, seed)
    if isinstance(network, lightning.LightningModule):
        return SelfTraining(network)
    weight = setup.network.auxiliary_weight if isinstance(setup.network, Custom) else 0.0
    return Classifier(network, setup.recipe, weight)


def initialised(network: Network, scale: Scale, seed: int) -> nn.Module:
    """The network with its initial weights: by (seed, place, shape); a custom one's own, from the seed's stream."""
    if isinstance(network, Custom):
        with Chance(generator(seed, "weights")):
            return build(network, scale)
    module = build(network, scale)
    initialise(module, network.init, seed)
    return module
