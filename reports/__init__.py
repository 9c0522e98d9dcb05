"""What came out: statistics, verdicts, tables, figures, the page. ``reports.load`` serves a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reports.comparison import unresolved
    from reports.loading import Report, load

__all__ = ["Report", "load", "unresolved"]


def __getattr__(name: str) -> Any:
    """Import what reads the store when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'reports' has no attribute {name!r}")
    from reports import comparison, loading

    return getattr(comparison if name == "unresolved" else loading, name)
