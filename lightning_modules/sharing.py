"""One trial on several workers: each takes its part of every global batch, and all of them come to the same sums.

Whoever starts the workers (Ray Train, ``torchrun``) joins them in torch's default process group beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
Batch = tuple[torch.Tensor, torch.Tensor]  # images, and their labels
Told = TypeVar("Told")


class Share:
    """The place of a worker among those that train one trial together; by default it is alone.

    Attributes:
        total: examples of the global batch at hand, once :meth:`begin` has told.
    """

    def __init__(self, rank: int = 0, workers: int = 1) -> None:
        self.rank, self.workers, self.total = rank, workers, 0

    @classmethod
    def of_process(cls) -> Share:
        """That of this process in torch's default process group; alone where it is in none."""
        joined = distributed.is_available() and distributed.is_initialized()
        return cls(distributed.get_rank(), distributed.get_world_size()) if joined else cls()

    @property
    def alone(self) -> bool:
        """Whether there are no other workers."""
        return self.workers == 1

    @property
    def leads(self) -> bool:
        """Whether this worker is the one that writes and reports."""
        return self.rank == 0

    def part(self, examples: int) -> slice:
        """Which of some examples are this worker's: parts of equal size, but for one example."""
        return slice(self.rank * examples // self.workers, (self.rank + 1) * examples // self.workers)

    def begin(self, total: int) -> slice:
        """Note the size of a global batch, for the layers that must know it; tell this worker's part."""
        self.total = total
        return self.part(total)

    def add_up(self, *tensors: torch.Tensor) -> None:
        """Make each of some tensors the sum of what the workers have there; all workers get the same bits."""
        if self.alone or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        distributed.all_reduce(flat)
        start = 0
        for tensor in tensors:
            tensor.copy_(flat[start : start + tensor.numel()].view(tensor.shape))
            start += tensor.numel()

    def add_up_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Make every gradient the sum of the workers': that of the global batch, where each loss was its part of it."""
        if self.alone:
            return
        kinds: dict[tuple[torch.dtype, torch.device], list[torch.Tensor]] = {}
        for parameter in parameters:
            if parameter.grad is not None:
                kinds.setdefault((parameter.grad.dtype, parameter.grad.device), []).append(parameter.grad)
        for gradients in kinds.values():
            self.add_up(*gradients)

    def told_by_the_first(self, value: Told) -> Told:
        """What the first worker has there, on all workers."""
        if self.alone:
            return value
        told = [value]
        distributed.broadcast_object_list(told, src=0)
        return told[0]

    def require_same(self, value: int, meaning: str) -> None:
        """Prove that all workers found the same.

        Raises:
            RuntimeError: where they did not.
        """
        if self.alone:
            return
        found: list[int] = [0] * self.workers
        distributed.all_gather_object(found, value)
        if len(set(found)) > 1:
            raise RuntimeError(
                f"the {self.workers} workers of a trial found different {meaning}: {found}. Expected one folder of "
                "runs that all nodes see."
            )


def shared(network: nn.Module, share: Share) -> nn.Module:
    """The network, trained by several workers as by one: batch norms over the global batch, dropout by example.

    Parameters, buffers and their names stay. What draws or normalises in another way than by PyTorch's own batch norms
    and dropouts is left as it is.
    """
    if share.alone:
        return network
    on_nccl = distributed.get_backend() == "nccl"
    if on_nccl:
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    else:
        network = _replaced(network, NORMS, SharedNorm, share)
    return _replaced(network, DROPOUTS, SharedDropout, share)


def _replaced(
    module: nn.Module, kinds: tuple[type[nn.Module], ...], by: Callable[..., nn.Module], share: Share
) -> nn.Module:
    if type(module) in kinds:
        return by(module, share)
    for name, child in module.named_children():
        setattr(module, name, _replaced(child, kinds, by, share))
    return module


class SharedDropout(nn.Module):
    """Dropout of a part of a global batch: the mask is drawn for all of it, on every worker alike, and cut."""

    def __init__(self, dropout: nn.Module, share: Share) -> None:
        super().__init__()
        self.dropped = dropout.train().forward  # not a child: places stay as they are
        self.share, self.told = share, dropout.extra_repr()

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Values ``(part, ...)`` with the units dropped that one worker would have dropped."""
        if not self.training:
            return values
        mask: torch.Tensor = self.dropped(_ones(values, self.share.total))
        return values * mask[self.share.part(self.share.total)]

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return self.told


def _ones(values: torch.Tensor, total: int) -> torch.Tensor:
    """Ones for a global batch, laid out in memory as the values are: the order in which a mask is drawn."""
    last = values.dim() == 4 and values.is_contiguous(memory_format=torch.channels_last) and not values.is_contiguous()
    layout = torch.channels_last if last else torch.contiguous_format
    shape = (total, *values.shape[1:])
    return torch.empty(shape, dtype=values.dtype, device=values.device, memory_format=layout).fill_(1)


class SharedNorm(_BatchNorm):
    """A batch norm whose statistics are those of the global batch; for workers whose tensors are not on NCCL's devices.

    It adds up means first and squared deviations then, so that it loses no digits where the mean is large.
    """

    def __init__(self, norm: nn.BatchNorm2d, share: Share) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.share = share
        self._parameters.update(norm._parameters)
        self._buffers.update(norm._buffers)
        self.train(norm.training)

    def _check_input_dim(self, input: torch.Tensor) -> None:  # noqa: A002 - PyTorch's signature
        """Any shape ``(part, channels, ...)`` will do."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps ``(part, channels, ...)``, normalised by channel."""
        if not self.training:
            normalised: torch.Tensor = super().forward(maps)
            return normalised
        values, axes = maps.float(), [axis for axis in range(maps.dim()) if axis != 1]
        count = self.share.total * maps.shape[2:].numel()
        mean = self._added_up(values.sum(axes)) / count
        centred = values - _by_channel(mean, maps.dim())
        variance = self._added_up(centred.square().sum(axes)) / count
        self._remember(mean.detach(), variance.detach() * (count / max(1, count - 1)))
        centred = centred * _by_channel(torch.rsqrt(variance + self.eps), maps.dim())
        if self.affine:
            centred = centred * _by_channel(self.weight, maps.dim()) + _by_channel(self.bias, maps.dim())
        return centred.to(maps.dtype)

    def _added_up(self, values: torch.Tensor) -> torch.Tensor:
        added: torch.Tensor = _AddedUp.apply(values, self.share)
        return added

    def _remember(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        factor = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, factor)
        self.running_var.lerp_(variance, factor)


class _AddedUp(torch.autograd.Function):
    """The sum over the workers; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, share: Share) -> torch.Tensor:
        ctx.share = share
        added = values.clone()
        share.add_up(added)
        return added

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        added = gradient.clone()
        ctx.share.add_up(added)
        return added, None


def _by_channel(values: torch.Tensor, dimensions: int) -> torch.Tensor:
    return values.view(1, -1, *(1,) * (dimensions - 2))
