"""Tell faults of the machine from faults of the trial.

After the former a trial is tried again; the latter are its result.
"""

from __future__ import annotations

import errno

import torch

MACHINE_FAULT_ERRNOS = frozenset(
    (
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE),  # disk
        *(errno.ENOMEM, errno.EMFILE, errno.ENFILE),  # memory, file handles
    )
)

# PyTorch raises a plain RuntimeError for these, so only the text tells them from an error of the network.
OUT_OF_MEMORY_MESSAGES = ("can't allocate memory", "out of memory")  # on a CPU and on a GPU
LOST_WORKER_MESSAGES = (  # of the collectives' backends; without the first letter, which both cases occur with
    "gloo/transport",
    "NCCL",
    "onnection closed by peer",
    "onnection reset by peer",
)


def is_machine_fault(error: BaseException | None) -> bool:
    """Whether memory, a disk or another worker of the trial failed.

    Looks at the exception and at its causes.
    """
    if error is None:
        return False
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error.errno in MACHINE_FAULT_ERRNOS:
        return True
    if isinstance(error, torch.distributed.DistError):  # another data-parallel worker of the trial died
        return True
    if isinstance(error, RuntimeError):
        message = str(error)
        if any(text in message for text in (*OUT_OF_MEMORY_MESSAGES, *LOST_WORKER_MESSAGES)):
            return True
    return is_machine_fault(error.__cause__)
