"""Published figures that a report shows beside the measured ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lightning_modules.specs.notebook_html import describe_object


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Published figures to show beside the measured ones.

    Attributes:
        source: where they are printed: paper and table.
        quantity: what they measure, with the data and the unit.
        values: published value by arm name.
        caveat: why they cannot be compared directly with the measured ones; empty where they can.
    """

    source: str
    quantity: str
    values: Mapping[str, float]
    caveat: str = ""

    def __repr__(self) -> str:
        return describe_object(self, f"{self.source}: {self.quantity}, {len(self.values)} arms")
