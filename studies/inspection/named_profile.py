"""A profile under a name, section by section: what networks and blocks have in common."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from lightning_modules.profiling.profile import Profile

BYTES_PER_WEIGHT = 4  # float32


@dataclass(frozen=True, kw_only=True)
class ProfileSection:
    """A top-level module of a network, such as ``stage3`` or ``head``, with its cost."""

    name: str
    parameters: int
    multiply_adds: int

    def add_cost(self, parameters: int, multiply_adds: int) -> ProfileSection:
        """The section with the cost of a further module."""
        return ProfileSection(
            name=self.name,
            parameters=self.parameters + parameters,
            multiply_adds=self.multiply_adds + multiply_adds,
        )


@dataclass(frozen=True, kw_only=True)
class NamedProfile:
    """The profile of a network or a block under a name."""

    name: str
    profile: Profile

    @property
    def sections(self) -> tuple[ProfileSection, ...]:
        """Top-level modules in the order in which they run, without those that cost nothing."""
        sections: dict[str, ProfileSection] = {}
        for layer in self.profile.layers:
            name = layer.place.partition(".")[0]
            section = sections.get(name, ProfileSection(name=name, parameters=0, multiply_adds=0))
            sections[name] = section.add_cost(layer.parameters, layer.multiply_adds)
        return tuple(section for section in sections.values() if section.parameters or section.multiply_adds)

    @property
    def weights_megabytes(self) -> float:
        """Size of the weights in float32, millions of bytes."""
        return self.profile.parameters * BYTES_PER_WEIGHT / 1e6

    def common_data(self) -> dict[str, Any]:
        """The keys of `ablate profile --json` that networks and blocks share."""
        return asdict(self.profile) | {
            "network": self.name,
            "parts": [asdict(section) for section in self.sections],
            "weights_megabytes": self.weights_megabytes,
        }
