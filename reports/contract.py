"""What changed, and what was held: as declared, as built and as run."""

from __future__ import annotations

from ablations import PROPERTY_WORDS
from reports.built import parts
from reports.changes import compact, held_settings
from reports.comparison import Comparison
from reports.numbers import MISSING, arrow, listed, plural
from reports.sections import FOLDED_FROM, Cell, Column, Section, Table, text


def contract(comparison: Comparison) -> Section:
    """The section; tables without a row are left out."""
    registration = comparison.registration
    paragraph = (
        f"The arms may differ in {listed(registration.varies) or 'nothing'}, and in nothing else. "
        f"Held equal in all of them: {plural(len(registration.held), 'setting')}. {_subject(comparison)}"
    )
    points = [f"Forced with it, {path}: {reason}." for path, reason in sorted(registration.forced.items())]
    if registration.overrides:
        told = [f"{path} = {value}" for path, value in sorted(registration.overrides.items())]
        points.append(f"Set for every arm alike: {', '.join(told)}.")
    points += _alike(comparison)
    tables = (
        _changes(comparison), _built(comparison), _moved(comparison), _unknowns(comparison), _pairing(comparison),
        _held(comparison),
    )  # fmt: skip
    return Section(
        name="contract", title="What changed, and what was held", paragraphs=(paragraph,), points=tuple(points),
        tables=tuple(table for table in tables if table.rows),
    )  # fmt: skip


def _subject(comparison: Comparison) -> str:
    studied = comparison.registration.property_studied
    if studied is None:
        return "None of the properties that are measured on the networks is under study."
    return f"The property under study is {PROPERTY_WORDS[studied]}: it may move and leave a contrast clean."


def _alike(comparison: Comparison) -> list[str]:
    """Arms whose networks as built are the baseline's."""
    registration = comparison.registration
    alike = [arm for arm in registration.arms[1:] if registration.built.get(arm) == ()]
    if not alike:
        return []
    network = "network" if len(alike) == 1 else "networks"
    return [f"As built, the {network} of {listed(alike)} {'has' if len(alike) == 1 else 'have'} the modules of "
            f"{registration.baseline}, all alike."]  # fmt: skip


def _changes(comparison: Comparison) -> Table:
    registration = comparison.registration
    columns = (
        Column(title="Arm"),
        Column(title="Setting", kind="code"),
        Column(title=f"In {registration.baseline}", kind="code"),
        Column(title="In the arm", kind="code"),
        Column(title="Where"),
    )
    rows = tuple(
        (text(arm, "strong"), text(change.path), text(change.before), text(change.after), _where(change.where))
        for arm in registration.arms[1:]
        for change in compact(registration.changes.get(arm, ()))
    )
    note = "One line gathers equal changes; Where fills the stars of the setting, counted from 0."
    return Table(
        name="changes", caption="What each arm changes", columns=columns, rows=rows, notes=_starred(rows, note)
    )


def _built(comparison: Comparison) -> Table:
    """The modules in which an arm's network as built is not the baseline's."""
    registration = comparison.registration
    columns = (
        Column(title="Arm"),
        Column(title="Module", kind="code"),
        Column(title=f"In {registration.baseline}"),
        Column(title="In the arm"),
        Column(title="Where"),
    )
    rows = tuple(
        (text(arm, "strong"), text(part.path), text(part.before), text(part.after), _where(part.where))
        for arm in registration.arms[1:]
        for part in parts(registration.built.get(arm, ()))
    )
    note = (
        "Compared module by module after both networks were built, whatever was declared; Where fills the stars of the "
        "module's name. A convolution keeps the map's size and has a bias unless it says otherwise."
    )
    return Table(
        name="built", caption="In which modules the networks differ, as built", columns=columns, rows=rows,
        notes=(note,), folded=len(rows) > FOLDED_FROM,
    )  # fmt: skip


def _where(places: str) -> Cell:
    return text(places or MISSING)


def _starred(rows: tuple[tuple[Cell, ...], ...], note: str) -> tuple[str, ...]:
    """The note that explains stars, where there are any."""
    return (note,) if any(row[-1].text != MISSING for row in rows) else ()


def _moved(comparison: Comparison) -> Table:
    """Clean or a bundle: which measured properties moved with each contrast."""
    rows = tuple(
        (text(arrow(each.over, each.arm), "strong"), text(each.moved.kind), text(each.moved.told))
        for each in comparison.differences
    )
    columns = (Column(title="Contrast"), Column(title="Kind"), Column(title="Moved by more than 5%"))
    return Table(
        name="moved", caption="What moved in the networks as built", columns=columns, rows=rows,
        notes=(_rule(comparison),),
    )  # fmt: skip


def _rule(comparison: Comparison) -> str:
    studied = comparison.registration.property_studied
    beside = f" beside {PROPERTY_WORDS[studied]}" if studied else ""
    forced = ", and no setting was forced to change with it" if comparison.registration.forced else ""
    return (
        f"Clean: nothing moved{beside}, or one measured property moved alone{forced}. "
        "Bundle: the difference belongs to all that moved, not to one."
    )


def _unknowns(comparison: Comparison) -> Table:
    rows = tuple(
        (text(arm, "strong"), text(sentence))
        for arm, sentences in comparison.registration.unknowns.items()
        for sentence in sentences
    )
    columns = (Column(title="Arm"), Column(title="What is not known"))
    return Table(name="unknowns", caption="What is not known of foreign modules", columns=columns, rows=rows)


def _pairing(comparison: Comparison) -> Table:
    signs = {"kept": "✓", "declared": "✓", "in part": "≈", "broken": "✗", "unknown": "?"}
    rows = tuple(
        (
            text(check.what, "strong"),
            text(f"{signs[check.state]} {check.state}", "alert" if check.state == "broken" else ""),
            text(check.finding),
        )
        for check in comparison.pairing
    )
    columns = (Column(title="Shared under one seed"), Column(title="Pairing"), Column(title="As the trials logged it"))
    return Table(name="pairing", caption="What the paired trials really shared", columns=columns, rows=rows)


def _held(comparison: Comparison) -> Table:
    rows = tuple(
        (text(change.path + (f" ({change.where})" if change.where else "")), text(change.after))
        for change in held_settings(comparison.registration.held)
    )
    columns = (Column(title="Setting", kind="code"), Column(title="Value", kind="code"))
    return Table(name="held", caption="Held equal in every arm", columns=columns, rows=rows, folded=True)
