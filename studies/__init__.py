"""Run ablations as studies: protocols, planning, training, execution and the record.

``studies.run`` trains what a study still lacks and returns its record; ``studies.declare`` only declares it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from studies.design.declare import declare
    from studies.execution.resources import Resources
    from studies.runner.driver import run

__all__ = ["Resources", "declare", "run"]

_MODULES_BY_NAME = {
    "run": "studies.runner.driver",
    "declare": "studies.design.declare",
    "Resources": "studies.execution.resources",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562).

    ``studies.run`` loads torch, Ray and MLflow, which takes seconds; ``ablate list`` needs none of them.
    """
    if name not in _MODULES_BY_NAME:
        raise AttributeError(f"module 'studies' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_MODULES_BY_NAME[name]), name)
