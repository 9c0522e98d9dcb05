"""One seed, separate streams of random numbers: what one of them draws never moves another."""

from __future__ import annotations

import hashlib
from typing import Literal, get_args

import numpy as np

Stream = Literal["split", "weights", "order", "augmentation", "dropout"]
STREAMS: tuple[Stream, ...] = get_args(Stream)


def generator(seed: int, stream: Stream, *keys: int | str) -> np.random.Generator:
    """A generator that depends on the seed, the stream and the keys, and on nothing else.

    Keys say what is drawn: an epoch; a layer's place and shape. Text is hashed, so that any name will do.
    """
    words = [key if isinstance(key, int) else _hashed(key) for key in keys]
    sequence = np.random.SeedSequence([seed, STREAMS.index(stream), *words])
    return np.random.Generator(np.random.PCG64(sequence))


def _hashed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
