"""A Lightning trainer for what runs outside of a trial's fit: a data module's hooks, and a module's first step."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import pytorch_lightning as lightning
import torch
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.trainer.states import RunningStage, TrainerFn

LoaderName = Literal["train", "val", "test"]

STAGES = {
    "train": (TrainerFn.FITTING, RunningStage.TRAINING),
    "val": (TrainerFn.FITTING, RunningStage.VALIDATING),
    "test": (TrainerFn.TESTING, RunningStage.TESTING),
}


def make_trainer(
    max_epochs: int,
    device: torch.device,
    callbacks: Sequence[lightning.Callback] = (),
    logger: Logger | None = None,
) -> lightning.Trainer:
    """Make a trainer that has all attributes that a module or a data module may read, and writes nothing."""
    with quiet_lightning(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="GPU available but not used")
        return lightning.Trainer(
            max_epochs=max_epochs,
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=[torch.cuda.current_device()] if device.type == "cuda" else 1,
            callbacks=list(callbacks),
            logger=logger or False,
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence what Lightning tells at every trainer and fit, such as which accelerators there are."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def raise_interrupts() -> Iterator[None]:
    """Raise a Ctrl-C during a fit, of which Lightning makes a ``SystemExit`` of 1 while it ignores all further ones."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as end:
        if not isinstance(end.__context__, KeyboardInterrupt):  # the user's code has called `sys.exit`
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from end


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
