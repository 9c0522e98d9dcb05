"""What came out: statistics, verdicts, tables, figures, the page. ``reports.load`` serves a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reports.loading import Report, load

__all__ = ["Report", "load"]


def __getattr__(name: str) -> Any:
    """Import what reads the store when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'reports' has no attribute {name!r}")
    from reports import loading

    return getattr(loading, name)
