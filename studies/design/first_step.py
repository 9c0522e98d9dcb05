"""Prove that a module that trains itself can: run its first step on the study's data, as every trial begins."""

from __future__ import annotations

import torch

from lightning_modules.data.image_index import ImageFileDataset
from lightning_modules.data.inventory import make_data_module
from lightning_modules.data.types import InMemoryDataset
from lightning_modules.modules.own_step import run_own_step
from lightning_modules.modules.trainable import make_trainable
from lightning_modules.specs.errors import UserError
from lightning_modules.specs.setup import Setup
from lightning_modules.user_code.errors import locate_errors


def prove_first_step(
    arm: str, setup: Setup, dataset: InMemoryDataset | ImageFileDataset | None, device: torch.device
) -> str:
    """Run the first step of a module that trains itself, under seed 0; nothing of it is kept.

    Args:
        dataset: the setup's examples; ``None`` where a user's data module reads its own.

    Returns:
        A sentence on what its user should know of it; empty for most modules.

    Raises:
        UserError: where the step fails, with the arm and the place in the user's code.
    """
    trainable = make_trainable(setup, seed=0)
    data = make_data_module(setup, dataset, 0, device)
    data.layout = trainable.layout
    name = type(trainable.module).__name__
    try:
        with locate_errors(f"{name} trains itself, and its first step on the study's data"):
            trainer = run_own_step(trainable.module, data, device=device, max_epochs=setup.recipe.epochs)
    except UserError as error:
        raise UserError(f"{arm}: {error}") from error
    data.release()
    if any(group["params"] for optimizer in trainer.optimizers for group in optimizer.param_groups):
        return ""
    return f"{name} has no optimizer: its configure_optimizers returns None, so only its own code changes its weights."
