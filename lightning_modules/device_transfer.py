"""Copies of batches to the device, made ahead of their use while the device computes.

An ordinary copy waits until the device has nothing to do, and then the device waits for the host: a batch of 256 images
of 224 pixels has 39 MB.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch

NUM_BATCHES_AHEAD = 2  # on the device, or on their way, while an earlier one is used

Tensors = tuple[torch.Tensor, ...]


class _Transfer(NamedTuple):
    """A batch on the device, and the event after which it has arrived; ``None`` on a CPU."""

    tensors: Tensors
    arrival: Any

    def receive(self) -> Tensors:
        """Let the current stream wait for the batch, and return it."""
        if self.arrival is not None:
            stream = torch.cuda.current_stream()
            stream.wait_event(self.arrival)
            for tensor in self.tensors:
                tensor.record_stream(stream)  # its memory is given away only after what this stream does with it
        return self.tensors


def allocate_for_transfer(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Allocate memory of the host for a batch: for a GPU pinned, so that its copy runs beside other work."""
    return torch.empty(tuple(shape), dtype=dtype, pin_memory=device.type == "cuda")


def send_ahead(batches: Iterator[Tensors], device: torch.device) -> Iterator[Tensors]:
    """Yield batches on the device, in order: a thread makes and copies them ahead, on a stream of their own.

    On a CPU the thread makes them ahead, and nothing is copied.

    Args:
        batches: on the host; the thread alone asks for the next one.

    Raises:
        Exception: what making a batch raises, where that batch would come.
    """
    stream: Any = torch.cuda.Stream() if device.type == "cuda" else None  # type: ignore[no-untyped-call]
    pending = deque[Future[_Transfer | None]]()
    sender = ThreadPoolExecutor(1, thread_name_prefix="send-batches")
    try:
        for _ in range(NUM_BATCHES_AHEAD):
            pending.append(sender.submit(_send_next, batches, device, stream))
        while (transfer := pending.popleft().result()) is not None:
            pending.append(sender.submit(_send_next, batches, device, stream))
            yield transfer.receive()
    finally:
        sender.shutdown(cancel_futures=True)


def _send_next(batches: Iterator[Tensors], device: torch.device, stream: Any) -> _Transfer | None:
    """Make the next batch and start its copy; ``None`` after the last one."""
    with nullcontext() if stream is None else torch.cuda.stream(stream):
        tensors = next(batches, None)
        if tensors is None:
            return None
        sent = tuple(tensor.to(device, non_blocking=True) for tensor in tensors)
        return _Transfer(sent, None if stream is None else stream.record_event())
