"""Pause the garbage collector while much is allocated that stays.

It takes a fifth of the time of large imports, whose modules and classes it visits again and again and never frees.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def pause_gc(*, keep_allocated: bool = False) -> Iterator[None]:
    """Disable the cyclic garbage collector within the block.

    Reference counting still frees most objects.

    Args:
        keep_allocated: whether later collections, too, pass over what is alive at the end of the block, so that cycles
            among it are never freed. Torch, Lightning, Ray and MLflow are a million objects: the first collections
            after their imports take a second. Garbage of before the block is collected first.
    """
    was_enabled = gc.isenabled()
    if keep_allocated:
        gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if keep_allocated:
            gc.freeze()
        if was_enabled:  # an outer pause must stay in force
            gc.enable()
