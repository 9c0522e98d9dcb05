"""A Lightning trainer for what runs outside of a fit: a data module's set-up, its loaders and its hooks."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import pytorch_lightning as lightning
import torch
from pytorch_lightning.trainer.states import RunningStage, TrainerFn

LoaderName = Literal["train", "val", "test"]

STAGES = {
    "train": (TrainerFn.FITTING, RunningStage.TRAINING),
    "val": (TrainerFn.FITTING, RunningStage.VALIDATING),
    "test": (TrainerFn.TESTING, RunningStage.TESTING),
}


def make_trainer(max_epochs: int, device: torch.device) -> lightning.Trainer:
    """Make a trainer that fits nothing, but has all attributes that a data module may read."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)  # a trainer tells which accelerators there are
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="GPU available but not used")
            return lightning.Trainer(
                max_epochs=max_epochs,
                accelerator="gpu" if device.type == "cuda" else "cpu",
                devices=[torch.cuda.current_device()] if device.type == "cuda" else 1,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
    finally:
        logger.setLevel(level)


@contextmanager
def running_stage(trainer: lightning.Trainer | None, loader_name: LoaderName) -> Iterator[None]:
    """Let ``trainer.training``, ``validating`` and ``testing`` say whose batches are read."""
    if trainer is None:
        yield
        return
    state = trainer.state
    before = state.fn, state.stage
    state.fn, state.stage = STAGES[loader_name]
    try:
        yield
    finally:
        state.fn, state.stage = before
