"""How many networks are best trained at once on a GPU, as it was measured."""

from __future__ import annotations

from typing import NamedTuple


class BestSize(NamedTuple):
    """Networks to train at once on a GPU.

    Attributes:
        size: about as fast per network as any; 0 where nothing could be measured.
        most: as many as fit its memory.
        description: the figures in words, or why there are none.
    """

    size: int
    most: int
    description: str
