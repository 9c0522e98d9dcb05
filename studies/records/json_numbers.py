"""Non-finite numbers in JSON, which has none: ``null`` stands for them in everything that is recorded."""

from __future__ import annotations

import math
from typing import Any


def nonfinite_to_null(value: Any) -> Any:
    """Replace NaN and infinity by ``None`` in nested dicts, lists and tuples; tuples become lists."""
    if isinstance(value, dict):
        return {key: nonfinite_to_null(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [nonfinite_to_null(item) for item in value]
    # Python writes NaN as ``NaN``, which is no JSON: other readers, a browser's among them, refuse the whole file.
    is_nonfinite = isinstance(value, float) and not math.isfinite(value)
    return None if is_nonfinite else value


def null_to_nan(value: float | None) -> float:
    """Read a number; infinity comes back as NaN, since ``null`` stands for both."""
    return math.nan if value is None else value
