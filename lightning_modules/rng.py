"""Seeded random numbers: one seed, separate streams, so that draws from one stream never change another."""

from __future__ import annotations

import hashlib
import random
from typing import Any, Literal, NamedTuple, Self, get_args

import numpy as np
import torch

RngStream = Literal["split", "weights", "order", "augmentation", "dropout"]

# A stream is seeded by its index here: new ones go at the end, or every result changes.
RNG_STREAMS: tuple[RngStream, ...] = get_args(RngStream)
SEED_LIMITS = {"torch": 2**62, "numpy": 2**32}  # exclusive upper bounds of seeds


class RedrawnSeed(int):
    """A trial's seed of which one stream is drawn anew: a placebo's. The other streams are those of the seed."""

    stream: RngStream
    name: str

    def __new__(cls, seed: int, stream: RngStream, name: str) -> Self:
        """Make the seed; another name is another draw."""
        made = super().__new__(cls, seed)
        made.stream, made.name = stream, name
        return made

    def __getnewargs__(self) -> tuple[int, RngStream, str]:  # type: ignore[override]
        return int(self), self.stream, self.name


def seeded_generator(seed: int, stream: RngStream, *keys: int | str) -> np.random.Generator:
    """Make a generator that depends on the seed, the stream and the keys, and on nothing else.

    Args:
        seed: the trial's.
        stream: what the random numbers are for.
        keys: which draw it is within the stream: an epoch; a layer's path and shape.
    """
    words = [key if isinstance(key, int) else _hash_key(key) for key in keys]
    if isinstance(seed, RedrawnSeed) and seed.stream == stream:
        words.append(_hash_key(f"redrawn: {seed.name}"))
    sequence = np.random.SeedSequence([int(seed), RNG_STREAMS.index(stream), *words])
    return np.random.Generator(np.random.PCG64(sequence))


def redraw_seed(seed: int, stream: RngStream | Literal["none"], name: str) -> int:
    """Return a seed with one stream drawn anew under a name; the seed itself for no stream."""
    return seed if stream == "none" else RedrawnSeed(seed, stream, name)


def _hash_key(text: str) -> int:
    """64 bits of a text's SHA-256; Python's own ``hash`` differs from process to process."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


class RngState:
    """A private state of the global generators of torch (on the CPU), numpy and ``random``.

    Inside ``with rng_state:`` these generators have this state, which continues where the previous block ended; after
    it they have the process's state again. So the draws of a user's data loader, for example, do not change the dropout
    masks of a network.
    """

    def __init__(self, generator: np.random.Generator) -> None:
        process_state = _capture_state()
        seed = int(generator.integers(SEED_LIMITS["torch"]))
        torch.default_generator.manual_seed(seed)
        _seed_numpy_and_python(seed)
        self.own_state, self.process_state = _capture_state(), process_state
        _restore_state(process_state)

    def __enter__(self) -> RngState:
        self.process_state = _capture_state()
        _restore_state(self.own_state)
        return self

    def __exit__(self, *_: object) -> None:
        self.own_state = _capture_state()
        _restore_state(self.process_state)


def seed_everything(generator: np.random.Generator) -> int:
    """Seed the process's global generators for good, those of GPUs as well; returns torch's seed."""
    seed = int(generator.integers(SEED_LIMITS["torch"]))
    if torch.cuda.is_available():
        torch.manual_seed(seed)
    else:
        # `torch.manual_seed` would record a traceback for every kind of device, in case it is initialized later: 5 ms.
        torch.default_generator.manual_seed(seed)
    _seed_numpy_and_python(seed)
    return seed


def _seed_numpy_and_python(seed: int) -> None:
    np.random.seed(seed % SEED_LIMITS["numpy"])
    random.seed(seed)


class _GlobalRngState(NamedTuple):
    torch_state: torch.Tensor
    numpy_state: Any
    python_state: Any


def _capture_state() -> _GlobalRngState:
    return _GlobalRngState(torch.get_rng_state(), np.random.get_state(), random.getstate())


def _restore_state(state: _GlobalRngState) -> None:
    torch.set_rng_state(state.torch_state)
    np.random.set_state(state.numpy_state)
    random.setstate(state.python_state)
