"""How long trials and studies take on this machine, from a few timed steps. Nothing is read, and nothing is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch.nn import functional

from lightning_modules.learner import learner
from lightning_modules.profile import profile
from lightning_modules.spec import ForeignData, Setup, Test
from lightning_modules.tally import outputs
from lightning_modules.testing import Looking, multiply_adds

EXAMPLES = {
    "digits": (600, 1197),
    "cifar10": (50_000, 10_000),
    "cifar100": (50_000, 10_000),
    "folder": (50_000, 10_000),
}
TIMED_STEPS = 3
AROUND_A_TRIAL = 1.0  # seconds: a forked process, the data, the result
FITTING_PER_EXAMPLE = 3e-3  # seconds: linear classifiers of all strengths, on 512 activations of ten classes
AROUND_A_STUDY = 25.0  # imports, Ray's start and end, the record, the report


def seconds_per_trial(setup: Setup) -> float | None:
    """From a trial's start to its result, on one core; a test that trains nothing by its arithmetic.

    ``None`` where a foreign data module decides how many examples there are (nothing is read here), or where the step
    that is timed fails.
    """
    if isinstance(setup.data, ForeignData):
        return None
    read, test = EXAMPLES[setup.data.source]
    used = read * setup.data.train_fraction
    held = used * setup.data.validation_fraction
    timed = seconds_per_image(replace(setup, test=Test()))
    if timed is None:
        return None
    step, inference = timed
    if not setup.trains:
        crop = profile(setup.network, setup.scale).multiply_adds
        return AROUND_A_TRIAL + test * inference * multiply_adds(setup) / crop
    if setup.recipe.trains == "linear classifier":
        looking = Looking.of(setup)
        seen = sum((side / setup.scale.resolution) ** 2 for side in looking.sides) * (2 if looking.mirrored else 1)
        return AROUND_A_TRIAL + (used + test) * inference * seen + (used - held) * FITTING_PER_EXAMPLE
    epochs = setup.recipe.epochs
    return AROUND_A_TRIAL + epochs * (used - held) * step + (epochs * held + used + test) * inference


def seconds_per_study(of_arms: float, seeds: int, workers: int) -> float:
    """From the command to the report; ``of_arms`` is the time of one trial of every arm and donor."""
    return AROUND_A_STUDY + of_arms * seeds / workers


def seconds_per_image(setup: Setup) -> tuple[float, float] | None:
    """Of a training step (forward, backward, update) and of inference, on one core, per image.

    ``None`` where a step fails, as a batch norm does on a batch of one image: that is for training to say.
    """
    size = setup.recipe.batch_size
    module = learner(setup, seed=0).module
    shape = (size, setup.scale.channels, setup.scale.resolution, setup.scale.resolution)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0)).contiguous(
        memory_format=torch.channels_last
    )
    labels = torch.arange(size) % setup.scale.classes
    optimiser = torch.optim.SGD(module.parameters(), lr=0.0, momentum=0.9)

    def step() -> None:
        optimiser.zero_grad()
        functional.cross_entropy(outputs(module(images))[0], labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    try:
        with _on_one_core():
            training = _shortest(step)
            module.eval()
            with torch.no_grad():
                inference = _shortest(lambda: module(images))
    except Exception:  # whatever a user's network raises: an estimate is no proof
        return None
    return training / size, inference / size


def _shortest(work: Callable[[], object]) -> float:
    times = []
    for _ in range(1 + TIMED_STEPS):
        began = time.process_time()  # not what the process waits for a core that others use just now
        work()
        times.append(time.process_time() - began)
    return min(times[1:])


@contextmanager
def _on_one_core() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
