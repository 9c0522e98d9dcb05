"""Find, load and reject checkpoints; loading one executes no code."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from studies.records.results import RECORD_SCHEMA
from studies.storage.trial_folder import TrialFolder
from studies.training.progress import TrialCallbacks


def usable_checkpoint(trial_folder: TrialFolder, callbacks: TrialCallbacks) -> Path | None:
    """The checkpoint from which a fit can resume.

    An unusable one is deleted, and the fit starts over.
    """
    checkpoint = trial_folder.checkpoint
    if not checkpoint.exists():
        return None
    try:
        schema = load_checkpoint(checkpoint).get("schema")
        if schema == RECORD_SCHEMA:
            return checkpoint
        reason = f"it was written under schema {schema}, and this version reads {RECORD_SCHEMA}"
    # What torch.load raises: code to execute; a damaged archive; an empty file; no archive at all.
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
    callbacks.log(f"the checkpoint {checkpoint} cannot be used ({reason}): the trial starts over")
    trial_folder.delete_file(checkpoint)
    return None


def load_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """Lightning's checkpoint, on the CPU.

    Raises:
        pickle.UnpicklingError: where loading it would execute code.
    """
    with torch.serialization.safe_globals(safe_globals()):
        # Memory-mapped: a check of the schema reads no tensor.
        loaded: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    return loaded


def safe_globals() -> list[Any]:
    """NumPy's constructors of numbers and arrays; none executes code.

    A module's state may hold such values beside tensors.

    PyTorch's own list (``torch.serialization``) covers tensors and plain containers only.
    """
    # Taken from what pickling calls, since their modules' names differ between NumPy 1 and 2.
    reconstruct_scalar = np.float64(0).__reduce__()[0]
    reconstruct_array = np.zeros(0).__reduce__()[0]
    dtype_classes = {type(np.dtype(name)) for name in ("f4", "f8", "i4", "i8", "u1", "u2", "u4", "u8", "?")}
    return [reconstruct_scalar, reconstruct_array, np.ndarray, np.dtype, *dtype_classes]
