"""Bare training steps on a GPU: eager, compiled, and captured as CUDA graphs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from _gpu_sizes import BATCH, Sizes, Step, seconds_per_call
from _side_by_side import timed
from torch import nn
from torch.nn import functional

from lightning_modules.networks.initialization import build_initialized_network
from lightning_modules.profiling.profile import profile_spec
from lightning_modules.specs.catalogue import find_network
from lightning_modules.specs.scale import Scale


class BareStep:
    """A network, its optimizer and one batch that lies on the device: forward, backward, clipping, SGD."""

    def __init__(self, name: str, batch: int, scale: Scale, device: str, *, compiled: bool = False) -> None:
        network = build_initialized_network(find_network(name), scale, seed=0)
        self.network: nn.Module = network.to(device).to(memory_format=torch.channels_last).train()
        images = torch.randn(batch, scale.channels, scale.resolution, scale.resolution, device=device)
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.labels = torch.arange(batch, device=device) % scale.classes
        self.parameters = list(self.network.parameters())
        # A rate of the host is frozen into a captured graph: enough to time it, not to train by it.
        self.optimizer = torch.optim.SGD(self.parameters, lr=1e-3, momentum=0.9, weight_decay=5e-4, foreach=True)
        self.forward: Any = torch.compile(self.network) if compiled else self.network
        self.device = device

    def __call__(self) -> None:
        """One step."""
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device, torch.bfloat16):
            loss = functional.cross_entropy(self.forward(self.images), self.labels)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=True)
        self.optimizer.step()


def capture_steps(steps: Sequence[BareStep]) -> Step:
    """All steps as one CUDA graph; several networks as parallel branches of it."""
    warm_up: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    warm_up.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(warm_up):
        for step in steps:
            for _ in range(3):  # cuDNN's and cuBLAS's handles, autotuning, first allocations, momentum buffers
                step()
    torch.cuda.current_stream().wait_stream(warm_up)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    branches: list[Any] = [torch.cuda.Stream() for _ in steps]  # type: ignore[no-untyped-call]
    with torch.cuda.graph(graph):
        capturing = torch.cuda.current_stream()
        for branch, step in zip(branches, steps, strict=True):
            branch.wait_stream(capturing)
            with torch.cuda.stream(branch):
                step()
        for branch in branches:
            capturing.wait_stream(branch)
    return graph.replay


@contextmanager
def cudnn_flags(*, deterministic: bool = False, benchmark: bool = False) -> Iterator[None]:
    """Set two of cuDNN's flags for a while."""
    backend = torch.backends.cudnn
    before = backend.deterministic, backend.benchmark
    backend.deterministic, backend.benchmark = deterministic, benchmark
    try:
        yield
    finally:
        backend.deterministic, backend.benchmark = before


class StepTable:
    """Rows of bare steps: milliseconds per network, images per second, share of the ceiling."""

    def __init__(self, title: str, ceiling: float) -> None:
        self.title, self.ceiling = title, ceiling
        self.rows: list[dict[str, Any]] = []

    def add(self, name: str, scale: Scale, batch: int, way: str, seconds: float) -> None:
        """A row; ``seconds`` are those of one network's step."""
        multiply_adds = profile_spec(find_network(name), scale).multiply_adds
        share = 3 * multiply_adds * batch / seconds / self.ceiling
        self.rows.append(
            {"network": name, "pixels": scale.resolution, "batch": batch, "way": way, "seconds": seconds,
             "share_of_ceiling": share}
        )  # fmt: skip
        print(f"{self.title:<8} {name:<10} {scale.resolution} px, batch {batch:<4} {way:<22}{1000 * seconds:9.3f} ms "
              f"{batch / seconds:10,.0f} images/s {share:7.1%} of ceiling", flush=True)  # fmt: skip


def measure_steps(sizes: Sizes, ceiling: float) -> list[dict[str, Any]]:
    """Bare steps of every network: eager, captured, several networks at once, with cuDNN's flags."""
    table, scale = StepTable("step", ceiling), sizes.scale()
    for name in sizes.networks:
        for batch in (BATCH,) if sizes.smallest else (BATCH, 4 * BATCH):
            eager = BareStep(name, batch, scale, sizes.device)
            eager()
            table.add(name, scale, batch, "eager", seconds_per_call(eager, sizes.steps))
            if not sizes.on_gpu:
                continue

            def captured(count: int, name: str = name, batch: int = batch) -> float:
                steps = [BareStep(name, batch, scale, sizes.device) for _ in range(count)]
                return seconds_per_call(capture_steps(steps), sizes.steps) / count

            table.add(name, scale, batch, "one graph", captured(1))
            for count in (4, 8) if batch == BATCH else (4,):
                table.add(name, scale, batch, f"{count} in one graph", captured(count))
            with cudnn_flags(deterministic=True):
                table.add(name, scale, batch, "graph, deterministic", captured(1))
            with cudnn_flags(benchmark=True):
                table.add(name, scale, batch, "graph, benchmark", captured(1))
            torch.cuda.empty_cache()
    return table.rows


def measure_compiled(sizes: Sizes, ceiling: float) -> list[dict[str, Any]]:
    """VGG-D under ``torch.compile``: the first step, later ones, and captured."""
    table, scale = StepTable("compile", ceiling), sizes.scale()
    step = BareStep("vgg-d", BATCH, scale, sizes.device, compiled=True)
    table.add("vgg-d", scale, BATCH, "compiled, first step", timed(step))
    for _ in range(3):
        step()
    table.add("vgg-d", scale, BATCH, "compiled", seconds_per_call(step, sizes.steps))
    table.add("vgg-d", scale, BATCH, "compiled, one graph", seconds_per_call(capture_steps([step]), sizes.steps))
    return table.rows


def measure_large(sizes: Sizes, ceiling: float) -> list[dict[str, Any]]:
    """Bare steps at 224 pixels and 1,000 classes."""
    table, scale = StepTable("large", ceiling), sizes.scale(224, 1000)
    batch = sizes.large_batch
    for name in sizes.large_networks:
        step = BareStep(name, batch, scale, sizes.device)
        step()
        count = 1 if sizes.smallest else 5
        table.add(name, scale, batch, "eager", seconds_per_call(step, count))
        if sizes.on_gpu:
            table.add(name, scale, batch, "one graph", seconds_per_call(capture_steps([step]), count))
            del step
            torch.cuda.empty_cache()
            compiled = BareStep(name, batch, scale, sizes.device, compiled=True)
            compiled()
            table.add(name, scale, batch, "compiled", seconds_per_call(compiled, count))
            del compiled
            torch.cuda.empty_cache()
    return table.rows
