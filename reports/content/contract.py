"""Section on what changed between the arms.

As declared, as instantiated and as run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from ablations import PROPERTY_LABELS, Difference
from lightning_modules.specs.text import format_count, join_words
from reports.analysis.setting_changes import SettingChange, collapse_changes, collapse_held_settings
from reports.comparison.comparison import Comparison
from reports.content.sections.layer_labels import module_differences
from reports.document import MAX_UNFOLDED_ROWS, Column, Row, Section, Table, nonempty_tables, text_cell
from reports.formatting import MISSING, format_contrast
from studies.records.registration import Registration

OVERRIDES_LABEL = "Overridden in every arm:"  # by which docs/results.py finds the line
PAIRING_SYMBOLS = {"kept": "✓", "declared": "✓", "in part": "≈", "broken": "✗", "unknown": "?"}


def contract_section(comparison: Comparison) -> Section:
    """The section; tables without a row are left out."""
    registration = comparison.registration
    paragraph = (
        f"The arms may differ only in {join_words(registration.varies) or 'nothing'}. "
        f"Held constant in all of them: {format_count(len(registration.held), 'setting')}. "
        f"{_describe_studied_property(registration)}"
    )
    tables = nonempty_tables(
        _setting_changes_table(registration),
        _module_differences_table(registration),
        _confounds_table(comparison),
        _unknowns_table(registration),
        _pairing_table(comparison),
        _held_settings_table(registration),
    )
    return Section(
        name="contract",
        title="What changed, and what was held",
        paragraphs=(paragraph,),
        points=_contract_points(registration),
        tables=tables,
    )


def _contract_points(registration: Registration) -> tuple[str, ...]:
    points = []
    for path, reason in sorted(registration.forced.items()):
        points.append(f"Forced change of {path}: {reason}.")
    if registration.overrides:
        overrides = ", ".join(f"{path} = {value}" for path, value in sorted(registration.overrides.items()))
        points.append(f"{OVERRIDES_LABEL} {overrides}.")
    return (*points, *_identical_networks(registration))


def _describe_studied_property(registration: Registration) -> str:
    studied = registration.property_studied
    if studied is None:
        return "None of the properties that are measured on the networks is under study."
    return f"The property under study is {PROPERTY_LABELS[studied]}: a change in it does not confound a contrast."


def _identical_networks(registration: Registration) -> tuple[str, ...]:
    """Name the arms whose instantiated networks are the baseline's."""
    # An empty tuple says that the networks were compared and are equal; a missing entry, that they were not compared.
    identical = [arm for arm in registration.arms[1:] if registration.built.get(arm) == ()]
    if not identical:
        return ()
    subject, verb = ("network", "has") if len(identical) == 1 else ("networks", "have")
    arms = join_words(identical, max_words=6)
    return (f"The instantiated {subject} of {arms} {verb} exactly the modules of {registration.baseline}.",)


def _change_rows(
    registration: Registration,
    differences: Mapping[str, tuple[Difference, ...]],
    collapse: Callable[[Iterable[Difference]], Iterable[SettingChange]],
) -> tuple[Row, ...]:
    """One row per group of equal changes, arm by arm."""
    rows = []
    for arm in registration.arms[1:]:
        for change in collapse(differences.get(arm, ())):
            rows.append(
                (
                    text_cell(arm, "strong"),
                    text_cell(change.path),
                    text_cell(change.before),
                    text_cell(change.after),
                    text_cell(change.location_text or MISSING),
                )
            )
    return tuple(rows)


def _setting_changes_table(registration: Registration) -> Table:
    columns = (
        Column(title="Arm"),
        Column(title="Setting", kind="code"),
        Column(title=f"In {registration.baseline}", kind="code"),
        Column(title="In the arm", kind="code"),
        Column(title="Where"),
    )
    rows = _change_rows(registration, registration.changes, collapse_changes)
    notes: tuple[str, ...] = ()
    if any(location.text != MISSING for *_, location in rows):  # only then a setting's path has an asterisk
        notes = ("Equal changes share a line: Where gives the indices that the asterisks stand for, counted from 0.",)
    return Table(
        name="changes",
        caption="Settings changed by each arm",
        columns=columns,
        rows=rows,
        notes=notes,
        folded=len(rows) > MAX_UNFOLDED_ROWS,
    )


def _module_differences_table(registration: Registration) -> Table:
    """Modules in which an arm's network differs from the baseline's."""
    columns = (
        Column(title="Arm"),
        Column(title="Module", kind="code"),
        Column(title=f"In {registration.baseline}"),
        Column(title="In the arm"),
        Column(title="Where"),
    )
    rows = _change_rows(registration, registration.built, module_differences)
    note = (
        "The instantiated networks are compared module by module, independently of the declared settings; Where gives "
        "the numbers that the asterisks stand for. Unless noted, a convolution preserves the map's size and has a bias."
    )
    return Table(
        name="built",
        caption="Modules that differ in the instantiated networks",
        columns=columns,
        rows=rows,
        notes=(note,),
        folded=len(rows) > MAX_UNFOLDED_ROWS,
    )


def _confounds_table(comparison: Comparison) -> Table:
    """Which measured properties changed with each contrast."""
    rows = []
    for difference in comparison.differences:
        changes = difference.network_changes
        contrast = format_contrast(difference.over, difference.arm)
        rows.append(
            (text_cell(contrast, "strong"), text_cell(changes.confounding_status), text_cell(changes.description))
        )
    columns = (Column(title="Contrast"), Column(title="Status"), Column(title="Changed by more than 5%"))
    return Table(
        name="moved",
        caption="Measured properties that changed between networks",
        columns=columns,
        rows=tuple(rows),
        notes=(_confounding_rule(comparison.registration),),
        folded=len(rows) > MAX_UNFOLDED_ROWS,
    )


def _confounding_rule(registration: Registration) -> str:
    studied = registration.property_studied
    besides = f" besides {PROPERTY_LABELS[studied]}" if studied else ""
    forced = ", and no setting was forced to change with it" if registration.forced else ""
    return (
        f"Unconfounded: nothing changed{besides}, or exactly one measured property changed{forced}. "
        "Confounded: the difference is due to all changes together and cannot be attributed to one."
    )


def _unknowns_table(registration: Registration) -> Table:
    rows = []
    for arm, sentences in registration.unknowns.items():
        for sentence in sentences:
            rows.append((text_cell(arm, "strong"), text_cell(sentence)))
    columns = (Column(title="Arm"), Column(title="Unknown"))
    return Table(name="unknowns", caption="Unknown properties of external modules", columns=columns, rows=tuple(rows))


def _pairing_table(comparison: Comparison) -> Table:
    rows = []
    for check in comparison.integrity_checks:
        state = f"{PAIRING_SYMBOLS[check.state]} {check.state}"
        state_cell = text_cell(state, "alert" if check.state == "broken" else "")
        rows.append((text_cell(check.subject, "strong"), state_cell, text_cell(check.finding)))
    columns = (Column(title="Shared within a seed"), Column(title="Pairing"), Column(title="Logged by the trials"))
    return Table(name="pairing", caption="Verification of the pairing", columns=columns, rows=tuple(rows))


def _held_settings_table(registration: Registration) -> Table:
    rows = []
    for setting in collapse_held_settings(registration.held):
        path = f"{setting.path} ({setting.location_text})" if setting.location_text else setting.path
        rows.append((text_cell(path), text_cell(setting.after)))
    columns = (Column(title="Setting", kind="code"), Column(title="Value", kind="code"))
    # Folded: long, and of interest only to a reader who looks for a particular setting.
    return Table(
        name="held", caption="Settings held constant in every arm", columns=columns, rows=tuple(rows), folded=True
    )
