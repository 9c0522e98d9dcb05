"""Prove that a user's network trains: run a step as a trial does, and look at what it gives in evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lightning_modules.networks.build import build_network
from lightning_modules.networks.custom import is_lightning_module
from lightning_modules.networks.memory_layout import MemoryLayout, find_layout, random_images, set_layout
from lightning_modules.networks.outputs import extract_logits
from lightning_modules.rng import RngState, seeded_generator
from lightning_modules.specs.errors import UserError
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.setup import Setup

if TYPE_CHECKING:
    import pytorch_lightning as lightning

NUM_IMAGES = 2  # batch norm over a 1x1 map needs two for a variance
PROBABILITY_TOLERANCE = 1e-3  # of the sum of a row
# Beyond rounding: another order of sums in the same network differs by less.
RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 1e-3, 1e-5


def prove_training(setup: Setup) -> tuple[str, ...]:
    """Run a training step of a user's network on two images, with real weights, in the layout of training.

    The step of a module that trains itself needs the study's data: see :mod:`studies.design.first_step`.

    Returns:
        Sentences on what its user should know of it; none for most networks.

    Raises:
        UserError: where the step fails, as it would in every trial.
    """
    notes = []
    with RngState(seeded_generator(0, "weights")):
        seed = torch.initial_seed()
        module = build_network(setup.network, setup.scale)
        is_seeded_anew = torch.initial_seed() != seed
    if is_seeded_anew:
        notes.append(
            f"{type(module).__name__} seeds PyTorch's generator when it is built: the weights that it draws then are "
            "the same under every seed, and the spread over seeds is not that of initial weights. Leave out "
            "torch.manual_seed and seed_everything."
        )
    layout = _find_training_layout(module, setup.scale)
    set_layout(module, layout)
    if layout == "contiguous":
        notes.append(
            f"{type(module).__name__} fails on images in channels-last memory, so it is trained in PyTorch's default "
            "layout, which may be slower. With x.flatten(1) or x.reshape(...) for x.view(...) it takes both."
        )
    if not is_lightning_module(module):
        _run_step(module, setup)
    return (*notes, *_describe_evaluation(module.eval(), setup))


def _find_training_layout(module: nn.Module, scale: Scale) -> MemoryLayout:
    if not is_lightning_module(module):
        return find_layout(module, scale.image_shape)
    from lightning_modules.modules.own_step import find_own_layout  # imports Lightning, as the module has by now

    return find_own_layout(cast("lightning.LightningModule", module), scale)


def _run_step(module: nn.Module, setup: Setup) -> None:
    labels = torch.arange(NUM_IMAGES) % setup.scale.classes
    try:
        with RngState(np.random.default_rng(0)):
            images = random_images(NUM_IMAGES, setup.scale.image_shape)
            with torch.autocast("cpu", torch.bfloat16, enabled=setup.recipe.precision == "bfloat16"):
                logits = extract_logits(module.train()(images))[0]
            functional.cross_entropy(logits, labels).backward()  # type: ignore[no-untyped-call]
    except UserError:
        raise
    except Exception as error:  # it is the user's code, and may raise anything: the cause has the traceback
        lines = str(error).strip().splitlines() or [type(error).__name__]
        size = " x ".join(map(str, setup.scale.image_shape))
        if "does not require grad" in lines[0]:
            lines[0] = (
                "no weight takes part in its outputs. Look for layers that are no attributes of the module, and for "
                ".detach(), torch.no_grad() and .data in its forward."
            )
        raise UserError(
            f"{type(module).__name__} fails in a training step on {NUM_IMAGES} images of {size}: {lines[0]}"
        ) from error


def _describe_evaluation(module: nn.Module, setup: Setup) -> Iterator[str]:
    """Say what is unusual in a network's outputs in evaluation mode; nothing where it cannot be run."""
    with RngState(np.random.default_rng(0)), torch.no_grad():
        images = random_images(2 * NUM_IMAGES, setup.scale.image_shape)
        first, again = (extract_logits(module(images))[0] for _ in range(2))
        part = extract_logits(module(images[:NUM_IMAGES]))[0]
    name = type(module).__name__
    if not _are_close(first, again):
        yield (
            f"{name}: evaluations differ. Two of the same images, in evaluation mode, give different outputs, so its "
            "errors are partly chance. Functions such as F.dropout need training=self.training."
        )
    elif not _are_close(first[:NUM_IMAGES], part):
        yield (
            f"{name}: evaluations differ. In evaluation mode the outputs for an image depend on the others in its "
            "batch, as with batch norm without running statistics."
        )
    if _are_probabilities(first):
        yield (
            f"{name}: its outputs look like probabilities (positive, and each row sums to 1). Expected logits: the "
            "loss takes their softmax, and trains badly on probabilities. Leave out the last softmax."
        )
    elif bool(((first > 0) & (first < 1)).all()) and _stays_in_unit_interval(module, images):
        yield (
            f"{name}: its outputs look like probabilities (all between 0 and 1). Expected logits: the loss takes their "
            "softmax, and trains badly on probabilities. Leave out the last sigmoid."
        )


def _are_close(outputs: torch.Tensor, others: torch.Tensor) -> bool:
    return torch.allclose(outputs, others, RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE, equal_nan=True)


def _are_probabilities(outputs: torch.Tensor) -> bool:
    sums = outputs.sum(1)
    return bool((outputs >= 0).all()) and bool(((sums - 1).abs() < PROBABILITY_TOLERANCE).all())


def _stays_in_unit_interval(module: nn.Module, images: torch.Tensor) -> bool:
    """Whether even images of a hundred times the contrast give outputs from 0 to 1, as a sigmoid's do."""
    with RngState(np.random.default_rng(0)), torch.no_grad():
        outputs = extract_logits(module(100 * images))[0]
    return bool(((outputs >= 0) & (outputs <= 1)).all())
