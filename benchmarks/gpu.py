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

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as lightning
import torch
from _photographs import images_per_second
from _side_by_side import asked, keep, timed, where
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from lightning_modules.data.types import InMemoryDataset
from lightning_modules.networks.initialization import build_initialized_network
from lightning_modules.profiling.profile import profile_spec
from lightning_modules.specs.catalogue import find_network
from lightning_modules.specs.data import Data
from lightning_modules.specs.recipe import Recipe
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.setup import Setup
from studies.design.trial import Trial
from studies.hardware import Machine
from studies.training.train import train_trial

PARTS = ("ceiling", "trial", "bundle", "profile", "step", "compile", "large", "photographs", "stock")
NETWORKS = ("vgg-a", "vgg-d", "resnet-20", "resnet-56")
LARGE_NETWORKS = ("vgg-a", "vgg-d", "resnet-50")
BATCH = 128
CLASSES = 10
VALIDATION_FRACTION = 0.1
DIGESTS = {"data": "made up", "code": "measured", "platform": "measured"}

Step = Callable[[], object]


class Sizes:
    """How much is measured: on a GPU the real thing, with ``--smallest`` just enough to show that a part runs."""

    def __init__(self, device: str, *, smallest: bool) -> None:
        self.device, self.smallest = device, smallest
        self.on_gpu = device == "cuda"
        self.num_images = 600 if smallest else 50_000
        self.width = 0.0625 if smallest else 1.0
        self.networks = NETWORKS[:1] if smallest else NETWORKS
        self.bundle_sizes = (1, 2) if smallest else (1, 2, 4, 8)
        self.large_networks = LARGE_NETWORKS[:1] if smallest else LARGE_NETWORKS
        self.large_batch = 1 if smallest else 256
        self.epochs = 2 if smallest else 4
        self.steps = 1 if smallest else 20
        self.matrix_side = 8192 if self.on_gpu else 512

    def scale(self, pixels: int = 32, classes: int = CLASSES) -> Scale:
        """Colour images of this side, networks of this width."""
        return Scale(resolution=pixels, channels=3, classes=classes, width=self.width)


def seconds_per_call(work: Step, count: int, repeats: int = 3) -> float:
    """The shortest mean time of ``count`` calls over the repeats."""

    def several() -> None:
        for _ in range(count):
            work()

    return min(timed(several) / count for _ in range(repeats))


def measure_ceiling(sizes: Sizes) -> float:
    """Multiply-adds per second of a bfloat16 matrix product (8192³ on a GPU)."""
    side = sizes.matrix_side
    left, right = (torch.randn(side, side, device=sizes.device, dtype=torch.bfloat16) for _ in range(2))
    torch.mm(left, right)
    return side**3 / seconds_per_call(lambda: torch.mm(left, right), 10)


# -- a trial of this project ------------------------------------------------------------------------------------------


def make_dataset(num_images: int) -> InMemoryDataset:
    """Random images of CIFAR-10's shape; a fifth as many to test on."""
    random = np.random.default_rng(0)
    num_test = num_images // 5
    return InMemoryDataset(
        train_images=random.integers(0, 256, (num_images, 32, 32, 3), dtype=np.uint8),
        train_labels=np.arange(num_images, dtype=np.int64) % CLASSES,
        test_images=random.integers(0, 256, (num_test, 32, 32, 3), dtype=np.uint8),
        test_labels=np.arange(num_test, dtype=np.int64) % CLASSES,
        class_names=tuple(map(str, range(CLASSES))),
        origin="made up",
        digest="made up",
    )


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


# -- bare steps -------------------------------------------------------------------------------------------------------


class BareStep:
    """A network, its optimiser and one batch that lies on the device: forward, backward, clipping, SGD."""

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


# -- an ordinary Lightning script -------------------------------------------------------------------------------------


class StockDataset(Dataset[tuple[torch.Tensor, int]]):
    """Images and labels through torchvision's transforms, one image at a time."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: Any) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), int(self.labels[index])


class StockModule(lightning.LightningModule):
    """What most scripts look like: ``self.log`` in every step, SGD."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.epoch_ends: list[float] = []

    def shared_step(self, batch: tuple[torch.Tensor, torch.Tensor], stage: str) -> torch.Tensor:
        """Loss and error of a batch, logged."""
        images, labels = batch
        logits = self.network(images)
        loss = functional.cross_entropy(logits, labels)
        self.log(f"{stage}_loss", loss)
        self.log(f"{stage}_error", (logits.argmax(1) != labels).float().mean())
        return loss

    def training_step(self, batch: Any) -> torch.Tensor:
        """The loss of a training batch."""
        return self.shared_step(batch, "train")

    def validation_step(self, batch: Any) -> None:
        """Log a validation batch."""
        self.shared_step(batch, "validation")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with momentum."""
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)

    def on_train_epoch_end(self) -> None:
        """Note the time; Lightning validates before it calls this."""
        self.epoch_ends.append(time.perf_counter())


def measure_stock(sizes: Sizes) -> list[dict[str, Any]]:
    """Seconds per epoch of VGG-D, validation included, by the number of loading processes."""
    cores = len(os.sched_getaffinity(0))
    rows = []
    for workers in (0,) if sizes.smallest else sorted({max(1, cores // 2), max(1, cores - 1)}):
        fit = fit_stock("vgg-d", sizes, workers)
        rows.append({"network": "vgg-d", "workers": workers, "epoch_seconds": fit["epoch_seconds"]})
        print(f"stock    vgg-d      {workers:3} loading processes {fit['epoch_seconds']:8.2f} s an epoch, "
              "validation included", flush=True)  # fmt: skip
    return rows


def fit_stock(name: str, sizes: Sizes, workers: int) -> dict[str, float]:
    """Fit a network by an ordinary Lightning script; seconds of an epoch, and all seconds beside its epochs."""
    from torchvision import transforms

    began = time.perf_counter()

    dataset = make_dataset(sizes.num_images)
    split = int((1 - VALIDATION_FRACTION) * sizes.num_images)
    normalize = transforms.Normalize((0.5,) * 3, (0.25,) * 3)
    augmented = transforms.Compose(
        [transforms.ToPILImage(), transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(),
         transforms.ToTensor(), normalize]
    )  # fmt: skip
    plain = transforms.Compose([transforms.ToTensor(), normalize])
    training = StockDataset(dataset.train_images[:split], dataset.train_labels[:split], augmented)
    validation = StockDataset(dataset.train_images[split:], dataset.train_labels[split:], plain)
    options: dict[str, Any] = {
        "num_workers": workers, "pin_memory": sizes.on_gpu, "persistent_workers": workers > 0
    }  # fmt: skip
    module = StockModule(build_initialized_network(find_network(name), sizes.scale(), seed=0))
    with tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(
            max_epochs=2 if sizes.smallest else 3,
            accelerator="gpu" if sizes.on_gpu else "cpu",
            precision="bf16-mixed",
            gradient_clip_val=1.0,
            default_root_dir=folder,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
        )
        trainer.fit(
            module,
            DataLoader(training, BATCH, shuffle=True, **options),
            DataLoader(validation, BATCH, **options),
        )
    epoch_seconds = float(min(np.diff(module.epoch_ends)))
    whole_seconds = time.perf_counter() - began
    return {
        "epoch_seconds": epoch_seconds,
        "fixed_seconds": max(0.0, whole_seconds - len(module.epoch_ends) * epoch_seconds),
    }


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
