"""Confounds of a contrast: properties and settings that changed together with the one studied.

The rule (which property changed by more than 5%, and which of them confound) is that of the ablation's contract,
applied to the instantiated networks of two arms; this module puts it in words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ablations import (
    PROPERTIES,
    PROPERTY_LABELS,
    Difference,
    Property,
    PropertyChange,
    PropertyContrast,
    compare_properties,
    confounding_forced_paths,
)
from lightning_modules.specs.text import join_words
from reports.analysis.setting_changes import collapse_changes
from reports.formatting import format_fixed, format_significant
from studies.records.registration import Registration

NO_CHANGE_TEXT = "nothing by more than 5%"  # the contract's threshold


@dataclass(frozen=True, kw_only=True)
class UnknownProperties:
    """Properties that could not be measured on the networks of some arms."""

    arms: tuple[str, ...]
    properties: tuple[Property, ...]


@dataclass(frozen=True, kw_only=True)
class NetworkChanges:
    """Changes from one arm's network to another's.

    Attributes:
        contrast: the contract's comparison of the two.
        unknown_properties: properties without a measurement, by the arms that lack it.
        has_known_properties: whether any property is known of both networks.
        forced_settings: settings that differ because they had to change with what is studied, in words.
    """

    contrast: PropertyContrast
    unknown_properties: tuple[UnknownProperties, ...]
    has_known_properties: bool
    forced_settings: tuple[str, ...]

    @property
    def is_known_unconfounded(self) -> bool:
        """Whether the contrast is unconfounded and every property is known."""
        return self.contrast.is_unconfounded and not self.unknown_properties

    @property
    def confounding_status(self) -> str:
        """``unconfounded``, ``confounded``, or how far that is known."""
        if not self.contrast.is_unconfounded:
            return "confounded"
        if not self.has_known_properties:
            return "not known"
        return "unconfounded, as far as known" if self.unknown_properties else "unconfounded"

    @property
    def description(self) -> str:
        """Changed properties and forced settings with both values, then what is not known."""
        changes = [_describe_property_change(change) for change in self.contrast.changed]
        if not changes and self.has_known_properties:
            changes = [NO_CHANGE_TEXT]
        return "; ".join([*changes, *self.forced_settings, *self.unknown_notes])

    @property
    def confounds(self) -> tuple[str, ...]:
        """Names of everything that changed besides the property studied."""
        labels = [PROPERTY_LABELS[change.name] for change in self.contrast.confounders]
        return (*labels, *self.contrast.forced)

    @property
    def unknown_notes(self) -> tuple[str, ...]:
        """Unknown properties by arms: ``not known of X: receptive field``."""
        notes = []
        for unknown in self.unknown_properties:
            labels = [PROPERTY_LABELS[name] for name in unknown.properties]
            notes.append(f"not known of {join_words(unknown.arms)}: {join_words(labels)}")
        return tuple(notes)

    @property
    def summary(self) -> str:
        """Status and changes: ``confounded (weight layers 11 → 13; multiply-adds 7.60 G → 11.3 G)``."""
        return f"{self.confounding_status} ({self.description})"


def network_changes_between(registration: Registration, over: str, arm: str) -> NetworkChanges:
    """Compare the network of ``over`` with that of ``arm``."""
    before, after = registration.properties.get(over, {}), registration.properties.get(arm, {})
    # A setting that had to change with the one studied (the head's width, say) confounds like a property does.
    changed_settings = setting_differences(registration, over, arm)
    forced = confounding_forced_paths(changed_settings, registration.forced)
    forced_settings = []
    for change in collapse_changes(_differences_below(changed_settings, forced)):
        forced_settings.append(f"also {change.path} {change.before} → {change.after}")
    return NetworkChanges(
        contrast=compare_properties(before, after, registration.property_studied, forced=forced),
        unknown_properties=_unknown_properties({over: before, arm: after}),
        has_known_properties=any(name in before and name in after for name in PROPERTIES),
        forced_settings=tuple(forced_settings),
    )


def _unknown_properties(properties_by_arm: Mapping[str, Mapping[str, int]]) -> tuple[UnknownProperties, ...]:
    """Group the unknown properties by the arms of which they are unknown."""
    missing: dict[tuple[str, ...], list[Property]] = {}
    for name in PROPERTIES:
        arms = tuple(arm for arm, known in properties_by_arm.items() if name not in known)
        if arms:
            missing.setdefault(arms, []).append(name)
    return tuple(UnknownProperties(arms=arms, properties=tuple(names)) for arms, names in missing.items())


def setting_differences(registration: Registration, over: str, arm: str) -> tuple[Difference, ...]:
    """Leaves in which two arms differ, derived from what each changes of the baseline."""
    over_changes = {change.path: change for change in registration.changes.get(over, ())}
    arm_changes = {change.path: change for change in registration.changes.get(arm, ())}
    differences = []
    for path in dict.fromkeys((*over_changes, *arm_changes)):
        over_change, arm_change = over_changes.get(path), arm_changes.get(path)
        # An arm that does not change a leaf has the baseline's value, which the other arm's change holds as `before`.
        before = over_change.after if over_change else arm_changes[path].before
        after = arm_change.after if arm_change else over_changes[path].before
        if before != after:
            differences.append(Difference(path=path, before=before, after=after))
    return tuple(differences)


def _differences_below(differences: Iterable[Difference], paths: Sequence[str]) -> list[Difference]:
    """Differences at or below one of the paths."""
    below = []
    for difference in differences:
        # The added dot keeps `network.norm` from matching `network.norm_eps`.
        if any(f"{difference.path}.".startswith(f"{path}.") for path in paths):
            below.append(difference)
    return below


def _describe_property_change(change: PropertyChange) -> str:
    return f"{PROPERTY_LABELS[change.name]} {_format_amount(change.before)} → {_format_amount(change.after)}"


def _format_amount(count: int) -> str:
    """Format a count with three significant digits: ``11``, ``520 k``, ``7.60 G``; exact below 10,000."""
    if count >= 1e9:
        return format_significant(count / 1e9) + " G"
    if count >= 1e6:
        return format_significant(count / 1e6) + " M"
    if count >= 1e4:
        return format_significant(count / 1e3) + " k"
    return format_fixed(count, 0)
