"""The search for garbage, put off where much is made that stays: it takes a fifth of the time of large imports."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_garbage_sought() -> Iterator[None]:
    """Within this Python looks for no garbage; what it would find is found afterwards."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
