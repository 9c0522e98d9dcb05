"""One finding of `ablate doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["ok", "warning", "error"]


@dataclass(frozen=True, kw_only=True)
class HealthCheck:
    """One checked item, what was found, and how to fix it.

    Attributes:
        area: ``installation``, ``devices``, ``data``, ``storage``, ``runs folder``, ``stored content``, ``record``,
            ``registration``, ``left over`` or ``cluster``.
        finding: what was found.
        advice: how to fix it; empty where nothing needs fixing.
    """

    area: str
    level: Severity
    finding: str
    advice: str = ""

    @property
    def text(self) -> str:
        """The check as one line of terminal output."""
        line = f"{self.level:8} {self.area}: {self.finding}"
        return f"{line} -> {self.advice}" if self.advice else line

    def to_json(self) -> dict[str, str]:
        """The check under the keys of `ablate doctor --json`."""
        return {"of": self.area, "level": self.level, "told": self.finding, "do": self.advice}
