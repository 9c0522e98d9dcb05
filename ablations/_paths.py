"""Relations between dotted setting paths, such as ``network.stages.0.width``."""

from __future__ import annotations


def is_below(path: str, ancestor: str) -> bool:
    """Whether a path lies strictly below another one: ``network.norm`` below ``network``, ``networks.norm`` not."""
    return path.startswith(f"{ancestor}.")


def is_within(path: str, ancestor: str) -> bool:
    """Whether a path equals another one or lies below it."""
    return path == ancestor or is_below(path, ancestor)


def paths_overlap(path: str, other: str) -> bool:
    """Whether one of two paths equals the other or lies below it."""
    return is_within(path, other) or is_within(other, path)
