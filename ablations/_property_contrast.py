"""Which measured properties differ between two instantiated networks, and whether their contrast is confounded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Property = Literal[
    "weight_layers", "parameters", "conv_parameters", "multiply_adds", "receptive_field", "nonlinearities"
]

PROPERTIES: tuple[Property, ...] = get_args(Property)

PROPERTY_LABELS: dict[Property, str] = {
    "weight_layers": "weight layers",
    "parameters": "parameters",
    "conv_parameters": "convolutional parameters",
    "multiply_adds": "multiply-adds",
    "receptive_field": "receptive field",
    "nonlinearities": "non-linearities",
}

# Share of the value before. Small side effects, such as a norm's few parameters, do not confound a contrast.
UNCONFOUNDED_TOLERANCE = 0.05


@dataclass(frozen=True, kw_only=True)
class PropertyChange:
    """A measured property that differs by more than 5% between two networks."""

    name: Property
    before: int
    after: int


@dataclass(frozen=True, kw_only=True)
class PropertyContrast:
    """The differences between two instantiated networks.

    Attributes:
        changed: measured properties that differ by more than 5%.
        property_studied: the property that the ablation is about, if it is a measured one; it may change.
        unmeasured: properties that could not be measured on both networks.
        forced: forced paths that differ together with the subject: more than one thing changes.
    """

    changed: tuple[PropertyChange, ...]
    property_studied: Property | None = None
    unmeasured: tuple[Property, ...] = ()
    forced: tuple[str, ...] = ()

    @property
    def is_unconfounded(self) -> bool:
        """Whether at most one thing changes, or nothing but the property studied."""
        # A single changed property other than the one studied is still a single change.
        return not self.forced and (not self.confounders or len(self.changed) == 1)

    @property
    def confounders(self) -> tuple[PropertyChange, ...]:
        """Changed properties other than the one studied."""
        return tuple(change for change in self.changed if change.name != self.property_studied)


def compare_properties(
    before: Mapping[str, int],
    after: Mapping[str, int],
    property_studied: Property | None = None,
    forced: Sequence[str] = (),
) -> PropertyContrast:
    """Compare two networks by the properties measured on them.

    Args:
        before: values by property, of the baseline's network.
        after: those of the other network.
        property_studied: the ablation's subject, if it is a measured property.
        forced: forced paths that differ as well; see :func:`confounding_forced_paths`.
    """
    changes: dict[Property, PropertyChange] = {}
    unmeasured: list[Property] = []
    for name in PROPERTIES:
        if name not in before or name not in after:
            unmeasured.append(name)
        elif abs(after[name] - before[name]) > UNCONFOUNDED_TOLERANCE * abs(before[name]):
            changes[name] = PropertyChange(name=name, before=before[name], after=after[name])
    # Parameters of convolutions count only if a large head hides them in the sum; otherwise both are one change.
    if "parameters" in changes:
        changes.pop("conv_parameters", None)
    return PropertyContrast(
        changed=tuple(changes.values()),
        property_studied=property_studied,
        unmeasured=tuple(unmeasured),
        forced=tuple(forced),
    )
