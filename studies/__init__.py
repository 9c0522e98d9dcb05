"""How an ablation is run: protocols, planning, training, dispatch and the record. ``studies.run`` does it all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from studies.declaring import declare
    from studies.resources import Resources
    from studies.running import run

__all__ = ["Resources", "declare", "run"]

_HOMES = {"run": "studies.running", "declare": "studies.declaring", "Resources": "studies.resources"}


def __getattr__(name: str) -> Any:
    """Import the engines when they are first asked for: listing ablations needs none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module 'studies' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
