"""Run one step of a module's own training, in the surroundings that a trial gives it."""

from __future__ import annotations

import copy
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as lightning
import torch
from pytorch_lightning.utilities.exceptions import _TunerExitException
from torch.utils.data import DataLoader

from lightning_modules.distributed import Batch
from lightning_modules.networks.memory_layout import (
    NUM_PROBE_IMAGES,
    MemoryLayout,
    find_layout,
    make_contiguous,
    random_images,
    set_layout,
)
from lightning_modules.rng import RngState
from lightning_modules.specs.scale import Scale
from lightning_modules.user_code.logger import RecordingLogger
from lightning_modules.user_code.trainer import make_trainer, quiet_lightning, raise_interrupts


class _EndAfterFirstStep(lightning.Callback):
    """End a fit after its first batch in the way of Lightning's own tuners, with all hooks of an orderly end."""

    def on_train_batch_end(self, *_: object) -> None:
        raise _TunerExitException


def run_own_step(
    module: lightning.LightningModule,
    data: lightning.LightningDataModule | Batch,
    *,
    device: torch.device | None = None,
    max_epochs: int = 1,
) -> lightning.Trainer:
    """Run the first step of a module's own training, which changes its weights; the global random state stays.

    Args:
        data: of a trial, or one batch.
        max_epochs: that the module's trainer says.

    Returns:
        The trainer as the step left it.

    Raises:
        Exception: whatever the module raises.
    """
    with (
        tempfile.TemporaryDirectory(prefix="first-step-") as folder,
        RngState(np.random.default_rng(0)),
        quiet_lightning(),
        raise_interrupts(),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        logger = RecordingLogger(Path(folder), log=_ignore_line)
        trainer = make_trainer(max_epochs, device or torch.device("cpu"), [_EndAfterFirstStep()], logger)
        if isinstance(data, lightning.LightningDataModule):
            trainer.fit(module, datamodule=data)
        else:
            # No list, which Lightning takes for several loaders.
            loader: Any = DataLoader([data], batch_size=None)  # type: ignore[arg-type]
            trainer.fit(module, train_dataloaders=loader, val_dataloaders=loader)
        return trainer


def find_own_layout(module: lightning.LightningModule, scale: Scale) -> MemoryLayout:
    """Return the layout that a module's own training needs, found by a step of a copy of it on random images.

    As :func:`lightning_modules.networks.memory_layout.find_layout` does by ``forward`` alone. That decides where the
    step fails in both layouts, as one does that reads the user's data module, and where the module has no step.
    """
    layout = find_layout(module, scale.image_shape)
    if layout == "contiguous" or _has_step(module, "channels-last", scale):
        return layout
    return "contiguous" if _has_step(module, "contiguous", scale) else layout


def _has_step(module: lightning.LightningModule, layout: MemoryLayout, scale: Scale) -> bool:
    """Whether a step of the module's own training runs in a layout."""
    with RngState(np.random.default_rng(0)):
        images = random_images(NUM_PROBE_IMAGES, scale.image_shape)
    labels = torch.arange(NUM_PROBE_IMAGES) % scale.classes
    if layout == "contiguous":
        images = make_contiguous(images)
    try:
        trial_module = copy.deepcopy(module)
        set_layout(trial_module, layout)
        run_own_step(trial_module, (images, labels))
    except Exception:  # whatever a user's module raises: the proof of its first step tells
        return False
    return True


def _ignore_line(line: str) -> None:
    del line
