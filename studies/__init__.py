"""Run ablations as studies: protocols, planning, training, execution and the record.

``studies.run`` trains what a study still lacks and returns its record; ``studies.declare`` only declares it, and
``studies.show`` previews it: networks, changes, trials and time. ``studies.protocols`` names the protocols.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from studies import protocols
    from studies.design.declare import declare
    from studies.design.preview import show
    from studies.design.tuning import TuningBudget
    from studies.execution.resources import Resources
    from studies.runner.driver import run

__all__ = ["Resources", "TuningBudget", "declare", "protocols", "run", "show"]

_MODULES_BY_NAME = {
    "run": "studies.runner.driver",
    "declare": "studies.design.declare",
    "show": "studies.design.preview",
    "Resources": "studies.execution.resources",
    "TuningBudget": "studies.design.tuning",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562).

    ``studies.run`` loads torch, Ray and MLflow, which takes seconds; ``ablate list`` needs none of them.
    """
    import importlib

    if name == "protocols":
        return importlib.import_module("studies.protocols")
    if name not in _MODULES_BY_NAME:
        raise AttributeError(f"module 'studies' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES_BY_NAME[name]), name)


def __dir__() -> list[str]:
    """The names that users call; not the subpackages that importing them leaves here."""
    return __all__
