"""Pause the garbage collector while much is allocated that stays.

It takes a fifth of the time of large imports, whose modules and classes it visits again and again and never frees.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def pause_gc(*, exempt: bool = False) -> Iterator[None]:
    """Disable the cyclic garbage collector within the block.

    Reference counting still frees most objects.

    Args:
        exempt: whether to exempt what is alive at the end from later collections, after one that frees the garbage.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if exempt:
            gc.collect()
            exempt_from_gc()
        if was_enabled:  # an outer pause must stay in force
            gc.enable()


def exempt_from_gc() -> None:
    """Exempt all objects from later collections, garbage in cycles included: imports leave next to none.

    Torch, Lightning, Ray and MLflow are a million objects: the first collections after their imports take a second.
    """
    gc.freeze()
