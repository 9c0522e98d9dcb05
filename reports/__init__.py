"""Reports of ablation studies: statistics, verdicts, tables, figures, pages. ``reports.load`` serves a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reports.comparison.comparison import unresolved
    from reports.pages.notebook import Report, load

__all__ = ["Report", "load", "unresolved"]


def __getattr__(name: str) -> Any:
    """Import a public name on first access: MLflow and pandas take seconds to load."""
    if name not in __all__:
        raise AttributeError(f"module 'reports' has no attribute {name!r}")
    if name == "unresolved":
        from reports.comparison import comparison

        return comparison.unresolved
    from reports.pages import notebook

    return getattr(notebook, name)
