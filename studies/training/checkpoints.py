"""Find, load and reject checkpoints; loading one executes no code."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightning_modules.stored_files import CHUNK_BYTES, hash_file
from studies.records.results import RECORD_SCHEMA
from studies.storage.trial_folder import TrialFolder
from studies.training.faults import is_machine_fault
from studies.training.progress import TrialCallbacks

# A ZIP archive, as torch.save writes it, ends with a record of 22 bytes whose last two are the length of a comment. The
# checksum is that comment, so that both are renamed into place at once. (PKWARE APPNOTE 6.3.10, section 4.3.16)
END_RECORD_BYTES = 22
END_RECORD_SIGNATURE = b"PK\x05\x06"
COMMENT_PREFIX = b"sha256:"
COMMENT_BYTES = len(COMMENT_PREFIX) + 64
TRIAL_KEY = "trial"  # in the checkpoint: the fingerprint and digests of its trial


class CheckpointRejected(OSError):
    """A checkpoint that could not be restored; it is deleted, and the trial starts over.

    A fault of the machine to all else: with several workers, the trial is tried again as a whole.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EIO, reason)


def usable_checkpoint(trial_folder: TrialFolder, callbacks: TrialCallbacks) -> Path | None:
    """The checkpoint from which a fit can resume.

    An unusable one is deleted, and the fit starts over.
    """
    checkpoint = trial_folder.checkpoint
    if not checkpoint.exists():
        return None
    try:
        require_usable(checkpoint, trial_folder.folder.name)
    except Exception as error:  # whatever damaged content makes of its reader
        if isinstance(error, OSError) and is_machine_fault(error):  # the disk fails, which says nothing of the file
            raise
        drop_checkpoint(trial_folder, callbacks, error)
        return None
    return checkpoint


def drop_checkpoint(trial_folder: TrialFolder, callbacks: TrialCallbacks, error: BaseException) -> str:
    """Delete a checkpoint that cannot be used, and log why; returns the reason."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    reason = f"the checkpoint {trial_folder.checkpoint} cannot be used ({lines[0]}): the trial starts over"
    callbacks.log(reason)
    trial_folder.delete_file(trial_folder.checkpoint)
    return reason


def require_usable(checkpoint: Path, trial_name: str) -> None:
    """Verify a checkpoint's checksum, schema and trial.

    Args:
        trial_name: name of the folder of the trial that it must belong to.

    Raises:
        Exception: of any type, where it cannot be used.
    """
    has_checksum = verify_checksum(checkpoint)
    content = load_checkpoint(checkpoint)
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}")
    schema = content.get("schema")
    if schema != RECORD_SCHEMA:
        raise ValueError(f"it was written under schema {schema}, and this version reads {RECORD_SCHEMA}")
    trial = content.get(TRIAL_KEY)
    if trial is None:  # of an earlier version, which wrote neither
        return
    if not has_checksum:
        raise ValueError("its checksum is missing")
    if trial != trial_name:
        raise ValueError(f"it is the checkpoint of another trial, {trial}")


def append_checksum(checkpoint: Path) -> None:
    """Add a checksum of the archive as its comment."""
    with checkpoint.open("r+b") as file:
        file.seek(-END_RECORD_BYTES, os.SEEK_END)
        end_record = file.read()
        if not end_record.startswith(END_RECORD_SIGNATURE) or end_record[-2:] != b"\0\0":
            return  # not as torch.save ends an archive today: the checkpoint then goes without
        file.seek(-2, os.SEEK_END)
        file.write(COMMENT_BYTES.to_bytes(2, "little"))
    digest = hash_file(checkpoint)
    with checkpoint.open("ab") as file:
        file.write(COMMENT_PREFIX + digest.encode())


def verify_checksum(checkpoint: Path) -> bool:
    """Compare a checkpoint with its checksum; returns whether it has one.

    Raises:
        ValueError: where they disagree.
    """
    num_bytes = checkpoint.stat().st_size
    digest = hashlib.sha256()
    with checkpoint.open("rb") as file:
        remaining = max(0, num_bytes - COMMENT_BYTES)
        while remaining and (chunk := file.read(min(remaining, CHUNK_BYTES))):
            digest.update(chunk)
            remaining -= len(chunk)
        comment = file.read()
    if not comment.startswith(COMMENT_PREFIX):
        return False
    if comment != COMMENT_PREFIX + digest.hexdigest().encode():
        raise ValueError("its checksum does not match its content")
    return True


def load_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """Lightning's checkpoint, on the CPU.

    Raises:
        pickle.UnpicklingError: where loading it would execute code.
    """
    allow_number_types()
    # Memory-mapped: a check of the schema reads no tensor.
    loaded: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    return loaded


def allow_number_types() -> None:
    """Let PyTorch load NumPy's numbers and arrays from a checkpoint; none of their constructors executes code.

    A module's state may hold such values beside tensors. They stay allowed in this process: another thread may be
    loading one.

    PyTorch's own list (``torch.serialization``) covers tensors and plain containers only.
    """
    # Taken from what pickling calls, since their modules' names differ between NumPy 1 and 2.
    reconstruct_scalar: Any = np.float64(0).__reduce__()[0]
    reconstruct_array: Any = np.zeros(0).__reduce__()[0]
    dtype_classes = {type(np.dtype(name)) for name in ("f4", "f8", "i4", "i8", "u1", "u2", "u4", "u8", "?")}
    torch.serialization.add_safe_globals([reconstruct_scalar, reconstruct_array, np.ndarray, np.dtype, *dtype_classes])
