"""The dataclass of a protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lightning_modules.specs.notebook_html import describe_object
from lightning_modules.specs.setup import Setup
from lightning_modules.specs.text import format_points
from lightning_modules.specs.values import Leaf, edit_field, require_field


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The conditions that every arm of a study shares.

    Attributes:
        note: claim, cost and command; by convention the file's docstring.
        setup: the base setup, which an ablation's arms edit.
        families: per kind of network (``ResNet``), settings that replace those of the base setup by path. The kind of
            the baseline's network decides, for all arms of a study alike.
        seeds: default seeds.
        smallest_effect: smallest difference of interest in test error, percentage points.
    """

    name: str
    note: str
    setup: Setup
    seeds: tuple[int, ...]
    smallest_effect: float
    families: Mapping[str, Mapping[str, Leaf]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_field(len(self.seeds) >= 1, self, "seeds", "at least one seed")
        require_field(self.smallest_effect > 0, self, "smallest_effect", "points of error above 0")
        for kind in self.families:
            self.setup_for(kind)  # raises for a path or value that no setup admits

    def __repr__(self) -> str:
        setup = self.setup
        facts = [f"{setup.recipe.epochs} epochs", f"{len(self.seeds)} seeds", f"{setup.scale.resolution} px"]
        return describe_object(
            self, f"{self.name}: {', '.join(facts)}, smallest effect {format_points(self.smallest_effect)}"
        )

    def setup_for(self, kind: str) -> Setup:
        """Return the base setup for a kind of network, such as ``ResNet``."""
        setup = self.setup
        for path, value in self.families.get(kind, {}).items():
            setup = edit_field(setup, path, value)
        return setup
