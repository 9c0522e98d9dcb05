"""Reports of ablation studies: statistics, verdicts, tables, figures, pages. ``reports.load`` and ``reports.judge``
serve a notebook.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reports.comparison.comparison import unresolved
    from reports.external.judgement import judge
    from reports.pages.notebook import Report, load

__all__ = ["Report", "judge", "load", "unresolved"]


def __getattr__(name: str) -> Any:
    """Import a public name on first access: MLflow and pandas take seconds to load."""
    if name not in __all__:
        raise AttributeError(f"module 'reports' has no attribute {name!r}")
    if name == "unresolved":
        from reports.comparison import comparison

        return comparison.unresolved
    if name == "judge":
        from reports.external import judgement

        return judgement.judge
    from reports.pages import notebook

    return getattr(notebook, name)
