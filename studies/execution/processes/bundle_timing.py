"""Measure steps of several networks that are trained at once on one GPU."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np
import torch

from lightning_modules.data.datamodule import DataSplit, EpochLoader
from lightning_modules.modules.classifier import Classifier
from lightning_modules.modules.step_rates import make_sgd
from lightning_modules.modules.trainable import make_trainable
from lightning_modules.specs.setup import Setup
from studies.execution.processes.best_size import BestSize

SIZES = (1, 2, 4, 8)
NUM_BATCHES = 4  # of random images; steps are taken in epochs of as many
WARM_UP_STEPS, TIMED_STEPS = 2 * NUM_BATCHES, 8 * NUM_BATCHES  # the first step of all is captured
WORTHWHILE_GAIN = 0.03  # of the time per network: below it the smaller bundle, which leaves memory, is taken
MEMORY_SHARE = 0.8  # of the GPU's memory; evaluations and fragmentation need the rest
MAX_SIZES_WITHOUT_GAIN = 2  # one pair may be noise, and its outcome would be kept for good


class BundleTiming(NamedTuple):
    """Measured steps of a bundle: seconds of one step of one of its networks, and peak memory of all."""

    seconds_per_step: float
    peak_bytes: float


def choose_size(timings: Mapping[int, BundleTiming], memory_bytes: float) -> int:
    """Return the smallest bundle that is about as fast per network as the fastest one that fits."""
    fitting = {size: timing for size, timing in timings.items() if timing.peak_bytes <= MEMORY_SHARE * memory_bytes}
    if not fitting:
        return 1
    fastest = min(timing.seconds_per_step for timing in fitting.values())
    return min(size for size, timing in fitting.items() if timing.seconds_per_step <= fastest * (1 + WORTHWHILE_GAIN))


def measure_bundle(setup: Setup, device_name: str, size: int) -> BundleTiming:
    """Time steps of several networks at once, each in a thread and on a CUDA stream of its own.

    Args:
        device_name: ``cuda`` or ``cpu``.
        size: number of networks.
    """
    device = torch.device(device_name)
    barrier = threading.Barrier(size + 1)
    errors: list[BaseException] = []

    def train() -> None:
        stream = torch.cuda.stream(torch.cuda.Stream()) if device.type == "cuda" else nullcontext()  # type: ignore[no-untyped-call]
        try:
            with stream:
                take_steps = _make_stepper(setup, device)
                take_steps(WARM_UP_STEPS)
                _wait_for_device(device)
                barrier.wait()
                take_steps(TIMED_STEPS)
                _wait_for_device(device)
        except BaseException as error:  # tells the others, which would wait forever
            errors.append(error)
            barrier.abort()

    if device.type == "cuda":
        torch.cuda.empty_cache()  # of the size before
        torch.cuda.reset_peak_memory_stats()
    threads = [threading.Thread(target=train) for _ in range(size)]
    for thread in threads:
        thread.start()
    with suppress(threading.BrokenBarrierError):  # the error of the thread that broke it is raised below
        barrier.wait()
    started_at = time.perf_counter()
    for thread in threads:
        thread.join()
    if errors:
        raise next((error for error in errors if not isinstance(error, threading.BrokenBarrierError)), errors[0])
    seconds = (time.perf_counter() - started_at) / (TIMED_STEPS * size)
    # Reserved, not allocated, memory: the pools of captured graphs are not free for others.
    return BundleTiming(seconds, float(torch.cuda.max_memory_reserved()) if device.type == "cuda" else 0.0)


def _make_stepper(setup: Setup, device: torch.device) -> Callable[[int], None]:
    """Make a function that takes some steps of a network on random images, as a trial does."""
    scale, batch_size = setup.scale, setup.recipe.batch_size
    random = np.random.default_rng(0)
    shape = (NUM_BATCHES * batch_size, scale.resolution, scale.resolution, scale.channels)
    images = torch.from_numpy(random.integers(0, 256, shape, dtype=np.uint8)).to(device)
    labels = torch.from_numpy(random.integers(0, scale.classes, len(images))).to(device)
    statistics = torch.full((scale.channels,), 128.0, device=device)
    epoch = EpochLoader(DataSplit(images, labels, statistics, statistics), setup.recipe, 0, 0)
    module = make_trainable(setup, seed=0).module
    assert isinstance(module, Classifier)
    module.to(device).train()
    module.prepare_steps(make_sgd(module.all_parameters, setup.recipe), NUM_BATCHES)

    def take_steps(count: int) -> None:
        for _ in range(math.ceil(count / NUM_BATCHES)):
            module.begin_epoch(0)
            module.training_step(epoch, 0)

    return take_steps


def _wait_for_device(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.current_stream().synchronize()


def measure_best_size(setup: Setup, device_name: str) -> BestSize:
    """Measure bundles of growing size until they gain nothing, or run out of memory."""
    memory_bytes = torch.cuda.get_device_properties(0).total_memory if device_name == "cuda" else math.inf
    timings: dict[int, BundleTiming] = {}
    figures: list[str] = []
    num_without_gain = 0
    for size in SIZES:
        previous = timings.get(size // 2)
        if previous and 2 * previous.peak_bytes > MEMORY_SHARE * memory_bytes:
            break
        try:
            timings[size] = measure_bundle(setup, device_name, size)
        except torch.OutOfMemoryError:
            figures.append(f"too much memory with {size}")
            break
        figures.append(f"{1000 * timings[size].seconds_per_step:.3g} ms with {size}")
        if previous and timings[size].seconds_per_step > previous.seconds_per_step * (1 - WORTHWHILE_GAIN):
            num_without_gain += 1
        if num_without_gain == MAX_SIZES_WITHOUT_GAIN:
            break
    description = f"a step takes each of them {', '.join(figures)}"
    return BestSize(choose_size(timings, memory_bytes), most_that_fit(timings, memory_bytes), description)


def most_that_fit(timings: Mapping[int, BundleTiming], memory_bytes: float) -> int:
    """Return how many networks fit, at the memory that each took in the largest bundle measured; at least 1."""
    if not timings:
        return 1
    size = max(timings)
    bytes_per_network = timings[size].peak_bytes / size
    if not bytes_per_network:  # on a CPU
        return size
    return max(1, int(MEMORY_SHARE * memory_bytes / bytes_per_network))


def send_best_size(setup: Setup, device_name: str, sender: Connection) -> None:
    """Measure in a child process, and send the best size with the figures, or the error in words."""
    try:
        sender.send(measure_best_size(setup, device_name))
    except Exception as error:  # whatever a network or a driver raises
        sender.send(BestSize(0, 0, f"{type(error).__name__}: {error}".splitlines()[0]))


def send_step_seconds(setup: Setup, device_name: str, sender: Connection) -> None:
    """Time a step of one network in a child process, and send its seconds, or 0 with the error in words."""
    try:
        sender.send((measure_bundle(setup, device_name, 1).seconds_per_step, ""))
    except Exception as error:  # whatever a network or a driver raises
        sender.send((0.0, f"{type(error).__name__}: {error}".splitlines()[0]))
