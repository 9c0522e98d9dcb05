"""Digest an untrained network: weights, and outputs in both modes."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from lightning_modules.networks.initialization import build_initialized_network
from lightning_modules.networks.outputs import extract_logits
from lightning_modules.rng import RngState
from lightning_modules.specs.networks import Network
from lightning_modules.specs.scale import Scale

NUM_IMAGES = 4  # more than one, so that batch normalization has a variance


def behavior_digest(network: Network, scale: Scale) -> str:
    """Return a digest of a network's initial weights and outputs.

    Equal for networks that are bit-for-bit equal in both under one seed.
    """
    module = build_initialized_network(network, scale, seed=0)
    digest = hashlib.sha256()
    for tensor in module.state_dict().values():
        digest.update(tensor.contiguous().numpy().tobytes())
    with RngState(np.random.default_rng(0)), torch.no_grad():
        images = torch.randn(NUM_IMAGES, *scale.image_shape)
        for training in (True, False):
            for logits in extract_logits(module.train(training)(images)):
                digest.update(logits.contiguous().numpy().tobytes())
    return digest.hexdigest()
