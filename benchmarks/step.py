"""A table, no claim: the cost of one training step by precision, memory format, compilation and number of seeds.

Cost: five minutes on two cores, ten on a GPU. Command: ``python benchmarks/step.py [--quick] [--device cuda]
[--write]``.

A step is forward, cross-entropy, backward and SGD with momentum, on synthetic images in the device's memory. Shapes:
VGG-A and VGG-D, an eighth of their width or all of it, at 32 and at 224 pixels, batches of 64, 128 and 256; on a CPU
those that take less than seconds. Variants, in turn: ``float32`` in PyTorch's default layout; ``channels-last``; the
same with ``bfloat16`` autocast; ``compiled``; on a GPU ``graph``, the whole step captured; ``4 seeds``, networks of
four seeds at once by ``torch.func``, per network. A variant that is not available prints the reason. ``of ceiling``:
share of the rate of a large bfloat16 (on a CPU float32) matrix product measured in the same run, with multiply-adds
counted three times per step.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from _side_by_side import asked, keep, ratio, timed, where
from torch import nn
from torch.nn import functional

from lightning_modules.networks.initialization import build_initialized_network
from lightning_modules.profiling.profile import profile_spec
from lightning_modules.specs.catalogue import VGG_A, VGG_D
from lightning_modules.specs.scale import Scale

NETWORKS = {"A": VGG_A, "D": VGG_D}
SEEDS, STEPS, WARM = 4, 5, 2

Step = Callable[[], object]


def shapes(device: str, *, quick: bool) -> list[tuple[str, float, int, int]]:
    """Network, width, resolution, batch."""
    if device == "cpu":
        batches = (128,) if quick else (64, 128, 256)
        return [(name, 0.125, 32, batch) for name in NETWORKS for batch in batches] + [("A", 1.0, 32, 64)]
    batches = (128,) if quick else (64, 128, 256)
    return [(name, width, pixels, batch)
            for name in NETWORKS for width in (0.125, 1.0) for pixels in (32, 224) for batch in batches]  # fmt: skip


class Case:
    """A network, images and labels on the device, and the ways to make a step of them."""

    def __init__(self, name: str, width: float, pixels: int, batch: int, device: str) -> None:
        scale = Scale(resolution=pixels, channels=3, classes=10, width=width)
        self.network = build_initialized_network(NETWORKS[name], scale, seed=0).to(device).train()
        self.images = torch.randn(batch, 3, pixels, pixels, device=device)
        self.labels = torch.arange(batch, device=device) % 10
        self.device, self.batch = device, batch
        self.multiply_adds = profile_spec(NETWORKS[name], scale).multiply_adds

    def eager(self, *, last: bool = False, low: bool = False, compiled: bool = False) -> Step:
        """One step after another, each launched from Python."""
        form: Any = torch.channels_last if last else torch.contiguous_format
        network: nn.Module = copy.deepcopy(self.network).to(memory_format=form)
        images = self.images.contiguous(memory_format=form)
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
        forward: Any = torch.compile(network) if compiled else network

        def step() -> object:
            optimizer.zero_grad()
            with torch.autocast(self.device, torch.bfloat16, enabled=low):
                loss = functional.cross_entropy(forward(images), self.labels)
            torch.autograd.backward(loss)
            optimizer.step()
            return loss

        return step

    def graph(self) -> Step:
        """The same kernels as channels-last with bfloat16, launched all at once."""
        step = self.eager(last=True, low=True)
        stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream):
            for _ in range(WARM + 1):
                step()
        torch.cuda.current_stream().wait_stream(stream)
        captured = torch.cuda.CUDAGraph()
        with torch.cuda.graph(captured):
            step()
        return captured.replay

    def seeds(self) -> Step:
        """Four networks of one shape, each on images of its own."""
        networks = [copy.deepcopy(self.network) for _ in range(SEEDS)]
        parameters, buffers = torch.func.stack_module_state(networks)
        bare = copy.deepcopy(self.network).to("meta")
        images = torch.stack([self.images] * SEEDS)

        def loss(own: Any, held: Any, pixels: torch.Tensor) -> torch.Tensor:
            return functional.cross_entropy(torch.func.functional_call(bare, (own, held), (pixels,)), self.labels)

        gradients = torch.func.vmap(torch.func.grad(loss), randomness="different")
        momenta = {name: torch.zeros_like(tensor) for name, tensor in parameters.items()}

        def step() -> object:
            found = gradients(parameters, buffers, images)
            with torch.no_grad():
                for name, tensor in parameters.items():
                    tensor.sub_(momenta[name].mul_(0.9).add_(found[name]), alpha=1e-3)
            return found

        return step

    def ways(self) -> dict[str, Callable[[], Step]]:
        """By name; made when they are measured."""
        found: dict[str, Callable[[], Step]] = {
            "float32": self.eager,
            "channels-last": lambda: self.eager(last=True),
            "bfloat16": lambda: self.eager(last=True, low=True),
            "compiled": lambda: self.eager(last=True, low=self.device == "cuda", compiled=True),
        }
        if self.device == "cuda":
            found["graph"] = self.graph
        return found | {f"{SEEDS} seeds": self.seeds}


def ceiling(device: str) -> float:
    """Multiply-adds per second of a large matrix product."""
    side, kind = (8192, torch.bfloat16) if device == "cuda" else (1024, torch.float32)
    left, right = (torch.randn(side, side, device=device, dtype=kind) for _ in range(2))

    def product() -> None:
        for _ in range(STEPS):
            torch.mm(left, right)

    product()
    return STEPS * side**3 / min(timed(product) for _ in range(3))


def measured(case: Case, repeats: int, but: str = "") -> tuple[dict[str, list[float]], dict[str, str]]:
    """Seconds per step and network of every way, in turn; and why a way cannot be had."""
    steps: dict[str, Step] = {}
    absent: dict[str, str] = {}
    for name, made in case.ways().items():
        if name == but:
            continue
        try:
            step = made()
            for _ in range(WARM):
                step()
            steps[name] = step
        except (RuntimeError, ImportError, NotImplementedError) as error:
            absent[name] = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"[:120]
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            number = SEEDS if "seeds" in name else 1

            def several(step: Step = step) -> None:
                for _ in range(STEPS):
                    step()

            seconds[name].append(timed(several) / STEPS / number)
    return seconds, absent


def main() -> None:
    """Every shape, every way."""
    options = asked(__doc__)
    if options.device == "cpu":
        torch.set_num_threads(1)  # as a trial on a CPU core
    torch.set_float32_matmul_precision("high")
    top, rows = ceiling(options.device), []
    print(f"a large matrix product: {top / 1e9:,.1f} thousand million multiply-adds a second")
    titles = f"{'network':<8}{'width':>6}{'pixels':>7}{'batch':>6}  {'way':<14}"
    print(f"{titles}{'ms a step':>10}{'to float32':>11}{'of ceiling':>11}")
    every = shapes(options.device, quick=options.quick)
    for name, width, pixels, batch in [("A", 0.0625, 32, 8)] if options.smallest else every:
        case = Case(name, width, pixels, batch, options.device)
        seconds, absent = measured(case, options.repeats, "compiled" if options.smallest else "")
        for way, values in seconds.items():
            faster, least = ratio(seconds["float32"], values), min(values)
            share = 3 * case.multiply_adds * batch / least / top
            print(f"{name:<8}{width:>6}{pixels:>7}{batch:>6}  {way:<14}{1000 * least:>10.2f}"
                  f"{faster['median']:>10.2f}x{share:>11.0%}", flush=True)  # fmt: skip
            rows.append({"network": name, "width": width, "pixels": pixels, "batch": batch, "way": way,
                         "seconds": values, "faster_than_float32": faster, "of_ceiling": round(share, 3)})  # fmt: skip
        for way, reason in absent.items():
            print(f"{name:<8}{width:>6}{pixels:>7}{batch:>6}  {way:<14}cannot be had here ({reason})", flush=True)
    keep("step", {"where": where(), "ceiling_multiply_adds_per_second": round(top), "rows": rows}, options)


if __name__ == "__main__":
    main()
