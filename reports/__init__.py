"""Reports of ablation studies: statistics, verdicts, tables, figures, pages.

``reports.load`` reads a recorded study as data frames and figures, ``reports.plan`` plans its seeds, and
``reports.judge`` gives verdicts on results of any trainer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reports.comparison.comparison import unresolved
    from reports.pages.notebook import JudgementReport, Report, judge, load
    from reports.pages.seed_plan import SeedPlan, plan

__all__ = ["JudgementReport", "Report", "SeedPlan", "judge", "load", "plan", "unresolved"]

_MODULES_BY_NAME = {
    "Report": "reports.pages.notebook",
    "JudgementReport": "reports.pages.notebook",
    "load": "reports.pages.notebook",
    "judge": "reports.pages.notebook",
    "SeedPlan": "reports.pages.seed_plan",
    "plan": "reports.pages.seed_plan",
    "unresolved": "reports.comparison.comparison",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first access: MLflow and pandas take seconds to load."""
    if name not in _MODULES_BY_NAME:
        raise AttributeError(f"module 'reports' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_MODULES_BY_NAME[name]), name)


def __dir__() -> list[str]:
    """The names that users call; not the subpackages that importing them leaves here."""
    return __all__
