"""Data-parallel training: each worker takes its slice of every global batch, and sums are reduced over all workers.

The workers' launcher (Ray Train, ``torchrun``) initializes torch's default process group beforehand. One worker and
several train the same network, up to the rounding of sums: batch norms and dropout are synchronized.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_modules.networks.layers import Dropout

BATCH_NORM_TYPES = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
DROPOUT_TYPES = (Dropout, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
Batch = tuple[torch.Tensor, torch.Tensor]  # images, and their labels
T = TypeVar("T")


class DataParallelRank:
    """Rank of a worker among the workers of one trial; by default the only one.

    Attributes:
        rank: from 0 to ``world_size - 1``.
        world_size: number of workers.
        global_batch_size: examples in the current global batch, as set by :meth:`begin_global_batch`.
    """

    def __init__(self, rank: int = 0, world_size: int = 1) -> None:
        self.rank, self.world_size = rank, world_size
        self.global_batch_size = 0

    @classmethod
    def from_process_group(cls) -> DataParallelRank:
        """The rank of this process in torch's default process group; a single worker if there is no group."""
        if distributed.is_available() and distributed.is_initialized():
            return cls(distributed.get_rank(), distributed.get_world_size())
        return cls()

    @property
    def is_single_worker(self) -> bool:
        """Whether there are no other workers."""
        return self.world_size == 1

    @property
    def is_rank_zero(self) -> bool:
        """Whether this worker is the one that writes and reports."""
        return self.rank == 0

    def local_slice(self, num_examples: int) -> slice:
        """This worker's slice of some examples; the workers' slices differ in size by one example at most."""
        start = self.rank * num_examples // self.world_size
        stop = (self.rank + 1) * num_examples // self.world_size
        return slice(start, stop)

    def begin_global_batch(self, num_examples: int) -> slice:
        """Set the size of the next global batch, which synchronized layers read, and return this worker's slice."""
        self.global_batch_size = num_examples
        return self.local_slice(num_examples)

    def all_reduce(self, *tensors: torch.Tensor) -> None:
        """Replace each tensor by its sum over the workers, in place; all workers get the same bits."""
        if self.is_single_worker or not tensors:
            return
        # One message for all tensors: a network has many small ones, and each message has its latency.
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        distributed.all_reduce(flat)
        start = 0
        for tensor in tensors:
            tensor.copy_(flat[start : start + tensor.numel()].view(tensor.shape))
            start += tensor.numel()

    def all_reduce_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its sum over the workers.

        That is the global batch's gradient, since each worker's loss is divided by the size of the global batch.
        """
        if self.is_single_worker:
            return
        # Only tensors of one type on one device can be concatenated into one message.
        groups: dict[tuple[torch.dtype, torch.device], list[torch.Tensor]] = {}
        for parameter in parameters:
            gradient = parameter.grad
            if gradient is not None:
                groups.setdefault((gradient.dtype, gradient.device), []).append(gradient)
        for gradients in groups.values():
            self.all_reduce(*gradients)

    def broadcast(self, value: T) -> T:
        """Send the value of rank 0 to all workers, and return it."""
        if self.is_single_worker:
            return value
        message = [value]
        distributed.broadcast_object_list(message, src=0)
        return message[0]

    def require_same(self, value: int, description: str) -> None:
        """Check that all workers have the same value, such as the epoch that they resume from.

        Raises:
            RuntimeError: if they differ.
        """
        if self.is_single_worker:
            return
        values: list[int] = [0] * self.world_size
        distributed.all_gather_object(values, value)
        if len(set(values)) > 1:
            raise RuntimeError(
                f"the {self.world_size} workers of a trial have different {description}: {values}. Expected one runs "
                "folder that is shared by all nodes: put it on a shared file system."
            )


def synchronize_layers(network: nn.Module, dp_rank: DataParallelRank) -> nn.Module:
    """Replace PyTorch's batch norms and dropouts by layers that act on the global batch, as on a single worker.

    Parameters, buffers and their names stay. Other layers that normalize over examples or draw random numbers stay as
    they are.
    """
    if dp_rank.is_single_worker:
        return network
    # PyTorch's own SyncBatchNorm runs on GPUs only.
    if distributed.get_backend() == "nccl":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    else:
        network = _replace_layers(network, BATCH_NORM_TYPES, SyncedBatchNorm, dp_rank)
    return _replace_layers(network, DROPOUT_TYPES, SyncedDropout, dp_rank)


def _replace_layers(
    module: nn.Module,
    layer_types: tuple[type[nn.Module], ...],
    make_layer: Callable[..., nn.Module],
    dp_rank: DataParallelRank,
) -> nn.Module:
    if type(module) in layer_types:  # not `isinstance`: a subclass may compute something else
        return make_layer(module, dp_rank)
    for name, child in module.named_children():
        setattr(module, name, _replace_layers(child, layer_types, make_layer, dp_rank))
    return module


class SyncedDropout(nn.Module):
    """Dropout on a worker's slice of a global batch.

    Every worker draws the same mask for the global batch and applies its slice: the mask that a single worker would
    draw.
    """

    def __init__(self, dropout: nn.Module, dp_rank: DataParallelRank) -> None:
        super().__init__()
        self.apply_dropout = dropout.train().forward  # the method alone: a child would change the layer paths
        self.dp_rank, self.description = dp_rank, dropout.extra_repr()

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Drop units of values ``(local_batch, ...)``."""
        if not self.training:
            return values
        mask: torch.Tensor = self.apply_dropout(_global_batch_ones(values, self.dp_rank.global_batch_size))
        return values * mask[self.dp_rank.local_slice(self.dp_rank.global_batch_size)]

    def extra_repr(self) -> str:
        """Options shown by ``print``."""
        return self.description


def _global_batch_ones(values: torch.Tensor, global_batch_size: int) -> torch.Tensor:
    """Ones for a global batch, in the memory layout of the values, which is the order in which a mask is drawn."""
    is_channels_last = (
        values.dim() == 4 and values.is_contiguous(memory_format=torch.channels_last) and not values.is_contiguous()
    )
    memory_format = torch.channels_last if is_channels_last else torch.contiguous_format
    shape = (global_batch_size, *values.shape[1:])
    return torch.empty(shape, dtype=values.dtype, device=values.device, memory_format=memory_format).fill_(1)


class SyncedBatchNorm(_BatchNorm):
    """Batch norm over the global batch, for workers that do not communicate by NCCL.

    It reduces means first and squared deviations from them second: the mean of squares minus the squared mean would
    lose digits where the mean is large.
    """

    def __init__(self, norm: nn.BatchNorm2d, dp_rank: DataParallelRank) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.dp_rank = dp_rank
        # The same tensor objects, so that references to the network's parameters stay valid.
        self._parameters.update(norm._parameters)
        self._buffers.update(norm._buffers)
        self.train(norm.training)

    def _check_input_dim(self, input: torch.Tensor) -> None:  # noqa: A002 - PyTorch's signature
        """Accept any shape ``(local_batch, channels, ...)``."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Normalize maps ``(local_batch, channels, ...)`` by channel."""
        if not self.training:
            normalized: torch.Tensor = super().forward(maps)
            return normalized
        num_dims = maps.dim()
        values = maps.float()  # statistics in float32, whatever the precision of the maps
        all_but_channels = [axis for axis in range(num_dims) if axis != 1]
        count = self.dp_rank.global_batch_size * maps.shape[2:].numel()
        mean = self._sum_over_workers(values.sum(all_but_channels)) / count
        values = values - _view_by_channel(mean, num_dims)
        variance = self._sum_over_workers(values.square().sum(all_but_channels)) / count
        # As in PyTorch's batch norm, the running variance is the unbiased one.
        self._update_running_stats(mean.detach(), variance.detach() * (count / max(1, count - 1)))
        values = values * _view_by_channel(torch.rsqrt(variance + self.eps), num_dims)
        if self.affine:
            values = values * _view_by_channel(self.weight, num_dims) + _view_by_channel(self.bias, num_dims)
        return values.to(maps.dtype)

    def _sum_over_workers(self, values: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor = _AllReduceSum.apply(values, self.dp_rank)
        return total

    def _update_running_stats(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        # Without a momentum, PyTorch keeps the mean over all batches.
        weight = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(variance, weight)


class _AllReduceSum(torch.autograd.Function):
    """Sum over the workers. Its gradient is the sum of the workers' gradients, since each of them uses the sum."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, dp_rank: DataParallelRank) -> torch.Tensor:
        ctx.dp_rank = dp_rank
        total = values.clone()
        dp_rank.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        total = gradient.clone()
        ctx.dp_rank.all_reduce(total)
        return total, None


def _view_by_channel(values: torch.Tensor, num_dims: int) -> torch.Tensor:
    """One value per channel as ``(1, channels, 1, ...)``, to broadcast over maps."""
    return values.view(1, -1, *(1,) * (num_dims - 2))
