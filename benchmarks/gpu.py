"""A table, no claim: the GPU utilization of a trial, and the cost of the same arithmetic without the host's overhead.

Cost: about eight minutes on a GPU. Command: ``python benchmarks/gpu.py --device cuda [--parts trial,step] [--write]``.

Images are synthetic, of CIFAR-10's shape (32 pixels, 45,000 per training epoch). Networks have their full width,
batches have 128 images; bfloat16 autocast, channels-last. Parts:

- ``ceiling``: multiply-adds per second of a large bfloat16 matrix product. Every share below is of this rate, with
  three times a network's forward multiply-adds per training image.
- ``trial``: one trial of this project (:func:`studies.training.train.train_trial`).
- ``bundle``: several seeds of a network at once in one process, each a whole trial in a thread; time per network.
- ``profile``: kernel launches per step of such a trial, and the GPU's own time (GPU only).
- ``step``: a bare training step, eager; on a GPU also captured as one CUDA graph, and several networks as branches of
  one graph.
- ``compile``: the same step under ``torch.compile``, eager and captured (GPU only).
- ``large``: bare steps at 224 pixels.
- ``photographs``: whole epochs at 224 pixels, from JPEGs of 500 x 375 and from images in the device's memory.
- ``stock``: an ordinary Lightning script with a ``Dataset`` and worker processes, for comparison with ``trial``.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _gpu_sizes import BATCH, VALIDATION_FRACTION, Sizes, make_dataset, seconds_per_call
from _gpu_steps import measure_compiled, measure_large, measure_steps
from _gpu_stock import measure_stock
from _photographs import images_per_second
from _side_by_side import asked, keep, where

from lightning_modules.data.types import InMemoryDataset
from lightning_modules.profiling.profile import profile_spec
from lightning_modules.specs.catalogue import find_network
from lightning_modules.specs.data import Data
from lightning_modules.specs.recipe import Recipe
from lightning_modules.specs.setup import Setup
from studies.design.trial import Trial
from studies.hardware import Machine
from studies.training.train import train_trial

PARTS = ("ceiling", "trial", "bundle", "profile", "step", "compile", "large", "photographs", "stock")
DIGESTS = {"data": "made up", "code": "measured", "platform": "measured"}


def measure_ceiling(sizes: Sizes) -> float:
    """Multiply-adds per second of a bfloat16 matrix product (8192³ on a GPU)."""
    side = sizes.matrix_side
    left, right = (torch.randn(side, side, device=sizes.device, dtype=torch.bfloat16) for _ in range(2))
    torch.mm(left, right)
    return side**3 / seconds_per_call(lambda: torch.mm(left, right), 10)


def make_setup(name: str, epochs: int, sizes: Sizes) -> Setup:
    """A setup as the protocol ``cifar10`` has it, in bfloat16."""
    recipe = Recipe(
        epochs=epochs,
        batch_size=BATCH,
        learning_rate=0.05,
        warmup=0.05,
        clip_norm=0.0 if name.startswith("resnet") else 1.0,
        augmentation="shift-flip",
        precision="bfloat16",
    )
    data = Data(source="folder", validation_fraction=VALIDATION_FRACTION)
    return Setup(network=find_network(name), scale=sizes.scale(), recipe=recipe, data=data)


def run_trial(setup: Setup, dataset: InMemoryDataset, device: str, seed: int = 0) -> dict[str, Any]:
    """Train one trial; seconds of every epoch's training and of whole epochs, and the trial's peak memory."""
    training_seconds: list[float] = []
    ends: list[float] = []

    def record_epoch(values: Any) -> None:
        training_seconds.append(values["seconds"])
        ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        trial = Trial(arm="measured", setup=setup, seed=seed)
        machine = Machine(device=device)
        result = train_trial(trial, dataset, Path(folder), digests=DIGESTS, machine=machine, on_epoch=record_epoch)
        whole = time.perf_counter() - began
    if result.status == "failed":
        raise RuntimeError(result.error)
    return {
        "train_seconds": min(training_seconds[1:] or training_seconds),  # the first epoch loads kernels
        "epoch_seconds": (ends[-1] - ends[0]) / max(1, len(ends) - 1),
        "whole_seconds": whole,
        "peak_mebibytes": result.cost["peak_memory_bytes"] / 2**20,
    }


def measure_trials(sizes: Sizes, ceiling: float) -> list[dict[str, Any]]:
    """Trials of every network: time per epoch and step, images per second, share of the ceiling."""
    dataset = make_dataset(sizes.num_images)
    trained_images = (1 - VALIDATION_FRACTION) * sizes.num_images
    rows = []
    for name in sizes.networks:
        setup = make_setup(name, sizes.epochs, sizes)
        row = run_trial(setup, dataset, sizes.device)
        images_per_second = trained_images / row["train_seconds"]
        multiply_adds = profile_spec(setup.network, setup.scale).multiply_adds
        steps = np.ceil(trained_images / BATCH)
        row |= {
            "network": name,
            "step_ms": 1000 * row["train_seconds"] / steps,
            "images_per_second": images_per_second,
            "share_of_ceiling": 3 * multiply_adds * images_per_second / ceiling,
        }
        rows.append(row)
        print(
            f"trial    {name:<10} {row['step_ms']:8.2f} ms a step {images_per_second:10,.0f} images/s "
            f"{row['share_of_ceiling']:7.1%} of ceiling, whole epoch {row['epoch_seconds']:.2f} s, "
            f"whole trial {row['whole_seconds']:.1f} s, peak {row['peak_mebibytes']:,.0f} MiB",
            flush=True,
        )
    return rows


def run_bundle(setup: Setup, dataset: InMemoryDataset, device: str, size: int) -> list[dict[str, Any]]:
    """Train as many seeds at once as in a bundle's process: each in a thread."""
    with ThreadPoolExecutor(size) as threads:
        seeds = [threads.submit(run_trial, setup, dataset, device, seed) for seed in range(size)]
        return [seed.result() for seed in seeds]


def measure_bundles(sizes: Sizes, ceiling: float) -> list[dict[str, Any]]:
    """Time of a step and an epoch per network, by the number of seeds that train at once."""
    dataset = make_dataset(sizes.num_images)
    trained_images = (1 - VALIDATION_FRACTION) * sizes.num_images
    steps = np.ceil(trained_images / BATCH)
    rows: list[dict[str, Any]] = []
    for name in sizes.networks:
        setup = make_setup(name, sizes.epochs, sizes)
        multiply_adds = profile_spec(setup.network, setup.scale).multiply_adds
        for size in sizes.bundle_sizes:
            trials = run_bundle(setup, dataset, sizes.device, size)
            train_seconds = max(trial["train_seconds"] for trial in trials) / size
            epoch_seconds = max(trial["epoch_seconds"] for trial in trials) / size
            row = {
                "network": name,
                "size": size,
                "step_ms": 1000 * train_seconds / steps,
                "epoch_seconds": epoch_seconds,
                "whole_seconds": max(trial["whole_seconds"] for trial in trials) / size,
                "share_of_ceiling": 3 * multiply_adds * trained_images / train_seconds / ceiling,
            }
            rows.append(row)
            print(
                f"bundle   {name:<10} of {size}: {row['step_ms']:8.2f} ms a step and network "
                f"{row['share_of_ceiling']:7.1%} of ceiling, whole epoch {epoch_seconds:.2f} s, "
                f"whole trial {row['whole_seconds']:.1f} s",
                flush=True,
            )
    return rows


def profile_trial(sizes: Sizes) -> dict[str, Any]:
    """Kernel launches per step and the GPU's own time in a trial of one epoch of VGG-D."""
    from torch.profiler import ProfilerActivity, profile

    num_images = 12_800
    setup, dataset = make_setup("vgg-d", 1, sizes), make_dataset(num_images)
    steps = int(np.ceil((1 - VALIDATION_FRACTION) * num_images / BATCH))
    run_trial(setup, dataset, sizes.device)  # loads kernels
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        row = run_trial(setup, dataset, sizes.device)
    events: Any = profiler.key_averages()
    launches = sum(event.count for event in events if "LaunchKernel" in event.key)
    gpu_seconds = sum(event.self_device_time_total for event in events) / 1e6
    print(f"profile  vgg-d      {launches / steps:8.0f} launches a step, the GPU busy for {gpu_seconds:.2f} s "
          f"of {row['whole_seconds']:.2f} s", flush=True)  # fmt: skip
    print(events.table(sort_by="self_cpu_time_total", row_limit=14, max_name_column_width=60))
    return {"launches_per_step": launches / steps, "gpu_seconds": gpu_seconds, "whole_seconds": row["whole_seconds"]}


def measure_photographs(sizes: Sizes) -> dict[str, float]:
    """Images per second of VGG-D from files, and from images in the device's memory."""
    name = "vgg-a" if sizes.smallest else "vgg-d"
    rates = images_per_second(
        name,
        batch_size=sizes.large_batch,
        num_batches=2 if sizes.smallest else 24,
        width=sizes.width,
        device=torch.device(sizes.device),
        repeats=1 if sizes.smallest else 3,
    )
    print(
        f"photographs {name}, 224 px, batch {sizes.large_batch}: {rates['files']:,.0f} images/s from files, "
        f"{rates['memory']:,.0f} from memory: {rates['files'] / rates['memory']:.3f}  goal 0.95 or more",
        flush=True,
    )
    return rates


def main() -> None:
    """The parts that were asked for, in their order."""
    options = asked(__doc__, parts=PARTS)
    sizes = Sizes(options.device, smallest=options.smallest)
    ceiling = measure_ceiling(sizes)
    print(f"ceiling  {2 * ceiling / 1e12:,.1f} TFLOP/s, bfloat16, {where()['gpu'] or 'CPU'}", flush=True)
    found: dict[str, Any] = {"where": where(), "ceiling_multiply_adds_per_second": ceiling}
    measures: dict[str, Callable[[], Any]] = {
        "trial": lambda: measure_trials(sizes, ceiling),
        "bundle": lambda: measure_bundles(sizes, ceiling),
        "profile": lambda: profile_trial(sizes),
        "step": lambda: measure_steps(sizes, ceiling),
        "compile": lambda: measure_compiled(sizes, ceiling),
        "large": lambda: measure_large(sizes, ceiling),
        "photographs": lambda: measure_photographs(sizes),
        "stock": lambda: measure_stock(sizes),
    }
    for part, measure in measures.items():
        if part not in options.parts:
            continue
        if part in ("profile", "compile") and not sizes.on_gpu:
            print(f"{part:<8} needs a GPU: not measured", flush=True)
            continue
        found[part] = measure()
    keep("gpu", found, options)


if __name__ == "__main__":
    main()
