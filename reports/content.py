"""What a report says, section by section, from a comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from reports.arms import ArmRow
from reports.changes import Change, compact, held_settings
from reports.comparison import Comparison
from reports.drawing import Figure
from reports.figures import places
from reports.numbers import (
    MISSING,
    arrow,
    bracketed,
    byte_unit,
    duration,
    fixed,
    listed,
    metric_unit,
    plural,
    plus_minus,
    printed,
    shared_decimals,
    time_unit,
    whole,
)
from reports.sections import Cell, Column, Section, Table, text

SYMBOLS = {"supported": "✓", "contradicted": "✗", "practically equivalent": "≈", "inconclusive": "?"}
NO_DIFFERENCE = "baseline"


def sections(comparison: Comparison, figures: Sequence[Figure]) -> tuple[Section, ...]:
    """All sections after the opening, in their order; one that would be empty says so or is left out."""
    return (
        _arms(comparison),
        _contract(comparison),
        Section(name="figures", title="Figures", figures=tuple(figure.name for figure in figures)),
        _limits(comparison),
        _failures(comparison),
        _reproduction(comparison),
    )


def facts(comparison: Comparison) -> tuple[tuple[str, str], ...]:
    """The study in a few numbers, for its opening lines."""
    registration = comparison.registration
    finished, planned = sum(arm.finished for arm in comparison.arms), len(registration.arms) * len(registration.seeds)
    data = registration.data
    examples = ", ".join(
        f"{whole(float(data[part]))} {part}" for part in ("train", "validation", "test") if part in data
    )
    return (
        ("Arms", f"{len(registration.arms)}, baseline {registration.baseline}"),
        ("Seeds", f"{len(registration.seeds)} per arm, paired"),
        ("Trained", f"{finished} of {planned} trials"),
        ("Smallest effect of interest", f"{registration.smallest_effect:g} points"),
        ("Data", f"{data.get('name', 'unknown')}{f' ({examples})' if examples else ''}"),
        ("Protocol", registration.protocol),
    )


def claims_table(comparison: Comparison) -> Table:
    """The claims with their verdicts, for renderers that show them as a table."""
    columns = (Column(title="Claim"), Column(title="Verdict"), Column(title="Why"), Column(title="Literature"))
    rows = tuple(
        (text(claim.sentence), text(claim.word, "strong"), text(claim.reason), text(claim.agreement or MISSING))
        for claim in comparison.claims
    )
    return Table(name="claims", caption="Registered claims and their verdicts", columns=columns, rows=rows)


def results_table(comparison: Comparison) -> Table:
    """Error, difference, trained of run and the published figure, arm by arm."""
    registration, reference = comparison.registration, comparison.registration.reference
    digits = places(comparison)
    columns = [
        Column(title="Arm"),
        Column(title="Test error", unit="%", kind="number", about="mean over seeds ± half-width of its 95% interval"),
        Column(title=f"Lower than {registration.baseline} by", unit="points", kind="number", about=_DIFFERENCE_ABOUT),
        Column(title="Trained", unit="of run"),
    ]
    if reference:
        columns.append(
            Column(title="Published", unit="%, other data", kind="number", about="never mixed with the measured")
        )
    rows = tuple(_result(arm, digits, _published_digits(comparison)) for arm in comparison.arms)
    return Table(
        name="results", caption="Test error, and what became of the trials", columns=tuple(columns), rows=rows,
        notes=_result_notes(comparison),
    )  # fmt: skip


def cost_table(comparison: Comparison) -> Table:
    """What was built, as measured on the networks, and what training it took."""
    arms = comparison.arms
    columns, cells = zip(
        _plain(arms, "Weight layers", "weight_layers"),
        _scaled(arms, "Parameters", "parameters"),
        _scaled(arms, "Multiply-adds", "multiply_adds"),
        _plain(arms, "Receptive field", "receptive_field", "px"),
        _plain(arms, "Non-linearities", "nonlinearities"),
        _measured("Training", [arm.train_seconds for arm in arms], time_unit),
        _measured("Throughput", [arm.images_per_second for arm in arms], lambda _: (1.0, "images/s")),
        _measured("Peak memory", [arm.peak_memory_bytes or math.nan for arm in arms], byte_unit),
        strict=True,
    )
    return Table(
        name="cost",
        caption="What was built, and what it cost per trial",
        columns=(Column(title="Arm"), *columns),
        rows=tuple((text(arm.name, "strong"), *row) for arm, row in zip(arms, zip(*cells, strict=True), strict=True)),
        notes=(
            "Multiply-adds: one forward pass of one image. Receptive field: of the last feature map before the head. "
            "Training, throughput, memory: means over the finished trials, on the hardware named under Reproduction.",
        ),
    )


_DIFFERENCE_ABOUT = "positive: lower error than the baseline; simultaneous 95% interval"


def _arms(comparison: Comparison) -> Section:
    registration = comparison.registration
    paragraphs = (
        f"Every arm was planned under the same {plural(len(registration.seeds), 'seed')}. Differences are taken seed "
        f"by seed, and are positive where the arm has the lower error than {registration.baseline}, the baseline.",
    )
    return Section(
        name="arms", title="The arms", paragraphs=paragraphs, tables=(results_table(comparison), cost_table(comparison))
    )


def _result(arm: ArmRow, digits: int, published_digits: int | None) -> tuple[Cell, ...]:
    difference = arm.difference
    told = NO_DIFFERENCE if difference is None else bracketed(difference.estimate, digits)
    exploratory = difference is not None and not difference.registered and math.isfinite(difference.estimate.value)
    complete = arm.finished == arm.ended and not arm.running + arm.absent + arm.without_figure
    cells = (
        text(arm.name, "strong"),
        Cell(text=plus_minus(arm.error, digits), sort=arm.error.value),
        Cell(
            text=told,
            mark="°" * exploratory,
            sort=difference.estimate.value if difference else 0.0,
            tone="" if difference else "quiet",
        ),
        Cell(text=arm.trained, sort=arm.finished, tone="" if complete else "alert"),
    )
    if published_digits is None:
        return cells
    return (*cells, Cell(text=fixed(arm.published, published_digits), sort=arm.published))


def _published_digits(comparison: Comparison) -> int | None:
    """Decimals with which the source prints its figures; ``None`` where there is no source."""
    if comparison.registration.reference is None:
        return None
    figures = [printed(arm.published) for arm in comparison.arms if math.isfinite(arm.published)]
    return max((len(figure.partition(".")[2]) for figure in figures), default=0)


def _result_notes(comparison: Comparison) -> tuple[str, ...]:
    notes = ["Test error: mean over the finished seeds ± half-width of the arm's own 95% t interval."]
    notes.append(
        "Differences: mean over the pairs of seeds that both finished, with an interval that covers its whole family "
        "of differences at once in 95% of studies."
    )
    if any(not each.registered for each in comparison.differences):
        notes.append("° exploratory: no registered claim reads this difference, so it has no verdict.")
    partial = [each for each in comparison.differences if each.pairs < each.planned]
    if partial:
        told = ", ".join(f"{arrow(each.over, each.arm)} {each.pairs} of {each.planned}" for each in partial)
        notes.append(f"Complete pairs of seeds: {told}.")
    reference = comparison.registration.reference
    if reference:
        caveat = f" Caveat: {reference.caveat}." if reference.caveat else ""
        notes.append(f"Published: {reference.quantity}. Source: {reference.source}.{caveat}")
    return tuple(notes)


def _plain(arms: Sequence[ArmRow], title: str, name: str, unit: str = "") -> tuple[Column, list[Cell]]:
    values = [float(arm.properties.get(name, math.nan)) for arm in arms]
    return Column(title=title, unit=unit, kind="number"), [Cell(text=whole(value), sort=value) for value in values]


def _scaled(arms: Sequence[ArmRow], title: str, name: str) -> tuple[Column, list[Cell]]:
    values = [float(arm.properties.get(name, math.nan)) for arm in arms]
    return _measured(title, values, metric_unit)


def _measured(
    title: str, values: Sequence[float], unit: Callable[[Sequence[float]], tuple[float, str]]
) -> tuple[Column, list[Cell]]:
    factor, name = unit(values)
    digits = shared_decimals([value / factor for value in values])
    cells = [Cell(text=fixed(value / factor, digits), sort=value) for value in values]
    return Column(title=title, unit=name, kind="number"), cells


def _contract(comparison: Comparison) -> Section:
    registration = comparison.registration
    paragraph = (
        f"The arms may differ in {listed(registration.varies) or 'nothing'}, and in nothing else. "
        f"Held equal in all of them: {plural(len(registration.held), 'setting')}."
    )
    points = [f"Forced with it, {path}: {reason}." for path, reason in sorted(registration.forced.items())]
    if registration.overrides:
        told = [f"{path} = {value}" for path, value in sorted(registration.overrides.items())]
        points.append(f"Set for every arm alike: {', '.join(told)}.")
    tables = (_changes(comparison), _moved(comparison), _pairing(comparison), _held(comparison))
    return Section(
        name="contract", title="What changed, and what was held", paragraphs=(paragraph,), points=tuple(points),
        tables=tuple(table for table in tables if table.rows),
    )  # fmt: skip


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
        (text(arm, "strong"), text(change.path), text(change.before), text(change.after), text(_where(change)))
        for arm in registration.arms[1:]
        for change in compact(registration.changes.get(arm, ()))
    )
    note = "One line gathers equal changes; Where fills the stars of the setting, counted from 0."
    notes = (note,) if any(row[4].text != MISSING for row in rows) else ()
    return Table(name="changes", caption="What each arm changes", columns=columns, rows=rows, notes=notes)


def _where(change: Change) -> str:
    return ", ".join(change.places) if change.places else MISSING


def _moved(comparison: Comparison) -> Table:
    """Clean or a bundle: how many measured properties moved with each contrast."""
    rows = tuple(
        (
            text(arrow(each.over, each.arm), "strong"),
            text("bundle" if len(each.moved) > 1 else "clean"),
            text("; ".join(each.moved) or "nothing by more than 5%"),
        )
        for each in comparison.differences
    )
    columns = (Column(title="Contrast"), Column(title="Kind"), Column(title="Moved by more than 5%"))
    note = "Clean: one measured property moved at most. Bundle: the difference belongs to all that moved, not to one."
    return Table(name="moved", caption="What moved in the networks as built", columns=columns, rows=rows, notes=(note,))


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
        (text(change.path + (f" ({', '.join(change.places)})" if change.places else "")), text(change.after))
        for change in held_settings(comparison.registration.held)
    )
    columns = (Column(title="Setting", kind="code"), Column(title="Value", kind="code"))
    return Table(name="held", caption="Held equal in every arm", columns=columns, rows=rows, folded=True)


def _limits(comparison: Comparison) -> Section:
    table = _over_images(comparison)
    return Section(
        name="limits",
        title="What these seeds could and could not have shown",
        paragraphs=() if comparison.limits else ("Nothing can be said before a trial has finished.",),
        points=comparison.limits,
        tables=(table,) if table.rows else (),
    )


def _over_images(comparison: Comparison) -> Table:
    """The differences with the test images as a second source of chance."""
    digits = places(comparison)
    rows = tuple(
        (
            text(arrow(each.over, each.arm), "strong"),
            Cell(text=bracketed(each.estimate, digits), sort=each.estimate.value),
            Cell(text=bracketed(each.crossed, digits), sort=each.crossed.value),
        )
        for each in comparison.differences
        if each.crossed.bounded
    )
    columns = (
        Column(title="Contrast"),
        Column(title="Over seeds", unit="points", kind="number"),
        Column(title="Over seeds and images", unit="points", kind="number"),
    )
    note = (
        "Over seeds: on this test set, all differences of the family at once; verdicts are read from these. Over seeds "
        "and images: as it would turn out with other images of this kind as well; never narrower than over seeds alone."
    )
    return Table(name="crossed", caption="This test set, and images like it", columns=columns, rows=rows, notes=(note,))


def _failures(comparison: Comparison) -> Section:
    rows = tuple(
        (text(each.arm, "strong"), Cell(text=str(each.seed), sort=each.seed), text(each.state, "alert"), text(each.why))
        for each in comparison.failures
    )
    columns = (
        Column(title="Arm"),
        Column(title="Seed", kind="number"),
        Column(title="State"),
        Column(title="What happened"),
    )
    table = Table(name="failures", caption="Trials without a figure", columns=columns, rows=rows)
    absent = [f"{arm.name} ({arm.absent})" for arm in comparison.arms if arm.absent]
    paragraphs = [f"Planned, and not in the store (never started, or deleted): {', '.join(absent)}."] if absent else []
    if not rows and not absent:
        paragraphs.append("None: every planned trial finished with a finite test error.")
    else:
        paragraphs.append(
            "Nothing is dropped: diverged and failed trials stay in the denominator, and no arm gets seeds of its own."
        )
    return Section(name="failures", title="Failures", paragraphs=tuple(paragraphs), tables=(table,) if rows else ())


def _reproduction(comparison: Comparison) -> Section:
    registration = comparison.registration
    reused = sorted({trial.reused_from for trial in comparison.trials if trial.reused_from})
    points = [f"Seeds: {', '.join(map(str, registration.seeds)) or 'none'}.", f"Data: {_data(registration.data)}."]
    points += [f"Protocol {registration.protocol}: {' '.join(registration.protocol_note.split())}"]
    if reused:
        count = sum(bool(trial.reused_from) for trial in comparison.trials)
        points.append(f"{plural(count, 'trial')} reused from another study: runs {', '.join(reused)}.")
    points.append(
        f"Read from run {comparison.run_id} of experiment {comparison.experiment_id} at {comparison.tracking}."
    )
    tables = (_starts(comparison), _environments(comparison))
    shown = tuple(table for table in tables if table.rows)
    return Section(name="reproduction", title="Reproduction", points=tuple(points), tables=shown)


def _data(data: object) -> str:
    items = dict(data.items()) if hasattr(data, "items") else {}
    return ", ".join(f"{name} {value}" for name, value in items.items())


def _starts(comparison: Comparison) -> Table:
    columns = (
        Column(title="Started"),
        Column(title="Command", kind="code"),
        Column(title="Revision", kind="code"),
        Column(title="Tree"),
        Column(title="Versions"),
        Column(title="Hardware"),
        Column(title="Wall time", kind="number"),
    )
    rows = tuple(
        (
            text(start.time[:19].replace("T", " ")),
            text(start.command),
            text(start.revision[:12]),
            text("clean", "") if start.clean else text("uncommitted changes", "alert"),
            text(", ".join(f"{name} {version}" for name, version in sorted(start.versions.items()))),
            text(start.hardware),
            Cell(text=duration(start.wall_seconds), sort=start.wall_seconds),
        )
        for start in comparison.starts
    )
    return Table(name="starts", caption="Every start of this study", columns=columns, rows=rows)


def _environments(comparison: Comparison) -> Table:
    rows = tuple((text(name), text(value)) for name, value in comparison.environments)
    columns = (Column(title="As the trials logged it"), Column(title="Value"))
    return Table(name="environment", caption="What the trials ran on", columns=columns, rows=rows)
