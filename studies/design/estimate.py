"""Estimate the time of trials and studies on this machine from a few timed steps; no data are read or written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional

from lightning_modules.evaluation.inference import ViewScheme
from lightning_modules.modules.trainable import make_trainable
from lightning_modules.networks.memory_layout import random_images
from lightning_modules.networks.outputs import extract_logits
from lightning_modules.profiling.evaluation_cost import inference_multiply_adds
from lightning_modules.profiling.profile import profile_spec
from lightning_modules.rng import RngState
from lightning_modules.specs.data import ForeignData
from lightning_modules.specs.errors import UserError
from lightning_modules.specs.setup import Setup
from lightning_modules.specs.test import Test

# Examples to read and to test, before any split or fraction. Of an image folder nothing is known before it is listed;
# CIFAR's size stands in for it.
NUM_EXAMPLES = {
    "digits": (600, 1197),
    "cifar10": (50_000, 10_000),
    "cifar100": (50_000, 10_000),
    "folder": (50_000, 10_000),
}

NUM_TIMED_STEPS = 3  # after one that warms up; the shortest counts
TRIAL_OVERHEAD_SECONDS = 1.0  # a forked process, the data, the result

# Logistic regressions of all strengths, measured on 512 activations and ten classes.
PROBE_FIT_SECONDS_PER_EXAMPLE = 3e-3
STUDY_OVERHEAD_SECONDS = 25.0  # imports, start and end of Ray, tracking, the report


def estimate_trial_seconds(setup: Setup, seconds_per_image: tuple[float, float] | None = None) -> float | None:
    """Estimate the time from a trial's start to its result.

    ``None`` for a user's data module, whose number of examples is unknown until it is read.

    Args:
        seconds_per_image: of a training step and of inference; measured on one core where they are not given.

    Raises:
        UserError: where a timed step fails.
    """
    if isinstance(setup.data, ForeignData):
        return None
    num_read, num_test = NUM_EXAMPLES[setup.data.source]
    num_used = num_read * setup.data.train_fraction
    num_validation = num_used * setup.data.validation_fraction
    num_train = num_used - num_validation
    measured = seconds_per_image or measure_seconds_per_image(replace(setup, test=Test()))
    train_seconds, inference_seconds = measured
    if not setup.has_training:
        # Not timed: the multiply-adds of the whole test of an image, in units of one forward pass of one crop.
        crop_multiply_adds = profile_spec(setup.network, setup.scale).multiply_adds
        test_seconds = num_test * inference_seconds * inference_multiply_adds(setup) / crop_multiply_adds
        return TRIAL_OVERHEAD_SECONDS + test_seconds
    if setup.recipe.trains == "linear classifier":
        scheme = ViewScheme.from_setup(setup)
        relative_areas = [(side / setup.scale.resolution) ** 2 for side in scheme.sides]
        passes_per_image = sum(relative_areas) * (2 if scheme.is_mirrored else 1)
        feature_seconds = (num_used + num_test) * inference_seconds * passes_per_image
        return TRIAL_OVERHEAD_SECONDS + feature_seconds + num_train * PROBE_FIT_SECONDS_PER_EXAMPLE
    epochs = setup.recipe.epochs
    # Validation after every epoch; at the end all training examples once more, for the final training error.
    num_evaluated = epochs * num_validation + num_used + num_test
    return TRIAL_OVERHEAD_SECONDS + epochs * num_train * train_seconds + num_evaluated * inference_seconds


def estimate_seconds_per_seed(setups: Iterable[Setup], log: Callable[[str], None]) -> float | None:
    """Estimate the time of one trial of every setup, on one core of this machine; ``None`` where one's is unknown.

    Args:
        log: receives why a time is unknown.
    """
    total = 0.0
    for setup in setups:
        try:
            seconds = estimate_trial_seconds(setup)
        except UserError as error:
            log(f"time unknown: {error}")
            return None
        if seconds is None:
            return None
        total += seconds
    return total


def estimate_study_seconds(trial_seconds: float, num_workers: int) -> float:
    """Estimate the time from the command to the report.

    Args:
        trial_seconds: time of all trials one after the other.
        num_workers: trials that run at the same time.
    """
    return STUDY_OVERHEAD_SECONDS + trial_seconds / num_workers


def measure_seconds_per_image(setup: Setup) -> tuple[float, float]:
    """Time a training step (forward, backward, update) and inference on one core, in seconds per image.

    Raises:
        UserError: where a step fails, as batch norm does on a batch of one image.
    """
    batch_size = setup.recipe.batch_size
    module = make_trainable(setup, seed=0).module
    with RngState(np.random.default_rng(0)):
        images = random_images(batch_size, setup.scale.image_shape)
    labels = torch.arange(batch_size) % setup.scale.classes
    # A rate of 0: the weights stay as they are, so that no step overflows and slows the next one down.
    optimizer = torch.optim.SGD(module.parameters(), lr=0.0, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(extract_logits(module(images))[0], labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    try:
        with _single_threaded():
            train_seconds = _shortest_duration(step)
            module.eval()
            with torch.no_grad():
                inference_seconds = _shortest_duration(lambda: module(images))
    except Exception as error:  # whatever a user's network raises
        lines = str(error).strip().splitlines() or [type(error).__name__]
        size = " x ".join(map(str, setup.scale.image_shape))
        raise UserError(f"a training step on {batch_size} images of {size} fails: {lines[0]}") from error
    return train_seconds / batch_size, inference_seconds / batch_size


def _shortest_duration(function: Callable[[], object]) -> float:
    times = []
    for _ in range(1 + NUM_TIMED_STEPS):
        started_at = time.process_time()  # CPU time: waiting for a busy core does not count
        function()
        times.append(time.process_time() - started_at)
    return min(times[1:])  # the first call allocates and warms caches


@contextmanager
def _single_threaded() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
