"""Prove that a setup's network trains on every size of batch that an epoch has, the remainder's included."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from lightning_modules.networks.build import build_meta_network
from lightning_modules.networks.custom import is_lightning_module
from lightning_modules.networks.initialization import build_initialized_network
from lightning_modules.networks.memory_layout import find_layout, random_images, set_layout
from lightning_modules.networks.outputs import extract_logits
from lightning_modules.rng import RngState
from lightning_modules.specs.data import ForeignData
from lightning_modules.specs.networks import Custom
from lightning_modules.specs.recipe import Remainder
from lightning_modules.specs.setup import Setup

REMEDIES: dict[Remainder, str] = {
    "drop": "`--set recipe.remainder=drop` leaves the remainder out, other images in every epoch",
    "join": "`--set recipe.remainder=join` adds it to the batch before",
}


class _BatchFailure(NamedTuple):
    """A size of batch on which a network fails, and the size of the microbatch in it, or its own."""

    batch_size: int
    step_size: int
    error: str


def describe_failing_batch(setup: Setup, num_examples: int, loader_batch_sizes: Collection[int] = ()) -> str:
    """Describe the first size of batch of an epoch on which a network that is to be trained fails.

    Args:
        num_examples: of the training split.
        loader_batch_sizes: those of a user's data module, whose batches are its own.

    Returns:
        A sentence with what to do; empty where the network runs on every size, in training mode.
    """
    recipe = setup.recipe
    if setup.epochs == 0:
        return ""
    failure = _find_failure(setup, loader_batch_sizes or recipe.batch_sizes(num_examples))
    if not failure:
        return ""
    if isinstance(setup.data, ForeignData):
        given = f"{setup.data.class_path}'s train_dataloader gives a batch of {failure.batch_size}"
    else:
        given = f"{num_examples:,} training images in batches of {recipe.batch_size}"
        if failure.batch_size != recipe.batch_size:
            given += f" have a last batch of {failure.batch_size}"
    if failure.step_size != failure.batch_size:
        given += f", in microbatches of {recipe.microbatch} the last one of {failure.step_size}"
    remedies = []
    for remainder, remedy in REMEDIES.items():
        other = replace(setup, recipe=replace(recipe, remainder=remainder))
        sizes = loader_batch_sizes or other.recipe.batch_sizes(num_examples)
        if remainder != recipe.remainder and not _find_failure(other, sizes):
            remedies.append(remedy)
    if failure.step_size != failure.batch_size:
        remedies = remedies[-1:]  # microbatches are joined under both
    elif isinstance(setup.data, ForeignData):
        remedies = ["give its DataLoader drop_last=True, or another batch_size"]
    else:
        remedies.append("another recipe.batch_size leaves another remainder")
    offer = "; ".join(remedies)
    return f"{given}, and {failure.error} For all arms alike: {offer}." if offer else f"{given}, and {failure.error}"


def describe_single_image_failure(setup: Setup) -> str:
    """Describe how the network fails on a batch of one image, in training mode; nothing if it runs."""
    failure = _find_failure(setup, [1]) if setup.epochs else None
    return failure.error if failure else ""


def is_self_training(setup: Setup) -> bool:
    """Whether a setup's network is a ``LightningModule`` with its own training."""
    return isinstance(setup.network, Custom) and is_lightning_module(build_meta_network(setup.network, setup.scale))


def _find_failure(setup: Setup, batch_sizes: Collection[int]) -> _BatchFailure | None:
    """Run the network on all sizes, small ones first, up to the first one on which it fails."""
    tried: set[int] = set()
    meta_module = build_meta_network(setup.network, setup.scale)
    trains_itself = is_lightning_module(meta_module)
    for batch_size in sorted(set(batch_sizes)):
        # Microbatches are made by this package's own training step.
        step_sizes = (batch_size,) if trains_itself else setup.recipe.microbatch_sizes(batch_size)
        for step_size in sorted(set(step_sizes) - tried):
            tried.add(step_size)
            # Without memory first: whole batches of large networks take seconds.
            if not _run_forward(meta_module, setup, step_size):
                continue
            error = _run_forward(_initialize(setup), setup, step_size)
            if error:
                sentence = f"{type(meta_module).__name__} fails on it in training: {error}"
                return _BatchFailure(batch_size, step_size, sentence)
    return None


def _initialize(setup: Setup) -> nn.Module:
    module = build_initialized_network(setup.network, setup.scale, seed=0)
    return set_layout(module, find_layout(module, setup.scale.image_shape))


def _run_forward(module: nn.Module, setup: Setup, num_images: int) -> str:
    """Run a network on random images in training mode; return the error's first line, or nothing."""
    tensors = (*module.parameters(), *module.buffers())
    device = tensors[0].device if tensors else torch.device("meta")
    uses_bfloat16 = setup.recipe.precision == "bfloat16" and device.type == "cpu"
    try:
        with RngState(np.random.default_rng(0)), torch.no_grad(), device:
            images = random_images(num_images, setup.scale.image_shape)
            with torch.autocast("cpu", torch.bfloat16, enabled=uses_bfloat16):
                logits = extract_logits(module.train()(images))[0]
    except Exception as error:  # whatever a user's network raises
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return lines[0].rstrip(".") + "."
    expected_shape = (num_images, setup.scale.classes)
    if tuple(logits.shape) != expected_shape:
        return f"it gives the shape {tuple(logits.shape)}; expected {expected_shape}."
    return ""
