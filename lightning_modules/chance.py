"""The process's own generators of random numbers, from which foreign code draws: seeded, set apart, put back."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import numpy as np
import torch

LARGEST = {"torch": 2**62, "numpy": 2**32}


class Chance:
    """A state of the generators of torch (on the CPU), numpy and ``random``, for what runs inside of it alone.

    ``with chance:`` puts it in the place of the process's, which is put back afterwards; the next block goes on from
    where the last one ended. So what a data loader draws never moves what a network's dropout draws.
    """

    def __init__(self, seeds: np.random.Generator) -> None:
        outside = _state()
        seed = int(seeds.integers(LARGEST["torch"]))
        torch.default_generator.manual_seed(seed)
        _seed_others(seed)
        self.inside, self.outside = _state(), outside
        _put(outside)

    def __enter__(self) -> Chance:
        self.outside = _state()
        _put(self.inside)
        return self

    def __exit__(self, *_: object) -> None:
        self.inside = _state()
        _put(self.outside)


def seed_everything(seeds: np.random.Generator) -> None:
    """Seed the process's generators, those of GPUs as well, for good."""
    seed = int(seeds.integers(LARGEST["torch"]))
    if torch.cuda.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)  # the other one notes a traceback for each kind of device, 5 ms
    _seed_others(seed)


def _seed_others(seed: int) -> None:
    np.random.seed(seed % LARGEST["numpy"])
    random.seed(seed)


class _State(NamedTuple):
    of_torch: torch.Tensor
    of_numpy: Any
    of_random: Any


def _state() -> _State:
    return _State(torch.get_rng_state(), np.random.get_state(), random.getstate())


def _put(state: _State) -> None:
    torch.set_rng_state(state.of_torch)
    np.random.set_state(state.of_numpy)
    random.setstate(state.of_random)
