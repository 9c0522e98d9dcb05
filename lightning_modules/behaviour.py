"""A network as it starts, in one digest: its weights, and what it gives for some images, training and not."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from lightning_modules.chance import Chance
from lightning_modules.initialise import initialised
from lightning_modules.spec import Network, Scale
from lightning_modules.tally import outputs

IMAGES = 4


def behaviour(network: Network, scale: Scale) -> str:
    """Equal for two networks that start alike and act alike, bit for bit, under one seed."""
    module = initialised(network, scale, seed=0)
    digest = hashlib.sha256()
    for tensor in module.state_dict().values():
        digest.update(tensor.contiguous().numpy().tobytes())
    with Chance(np.random.default_rng(0)), torch.no_grad():
        images = torch.randn(IMAGES, scale.channels, scale.resolution, scale.resolution)
        for training in (True, False):
            for logits in outputs(module.train(training)(images)):
                digest.update(logits.contiguous().numpy().tobytes())
    return digest.hexdigest()
