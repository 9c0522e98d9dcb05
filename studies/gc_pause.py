"""Pause the garbage collector while much is allocated that stays.

It takes a fifth of the time of large imports, whose modules and classes it visits again and again and never frees.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def pause_gc() -> Iterator[None]:
    """Disable the cyclic garbage collector within the block.

    Reference counting still frees most objects.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:  # an outer pause must stay in force
            gc.enable()
