"""Positions of dense evaluation, for the caveats of ablations that test on whole images."""

from __future__ import annotations


def dense_positions(resolution: int, relative_side: float) -> int:
    """Positions along a side at which a network with five poolings evaluates an image that is larger than its crop."""
    # The head, as a convolution, is as large as the last map of a crop: 7 at 224 pixels; an image of 256 gives 8.
    return round(relative_side * resolution) // 32 - resolution // 32 + 1
