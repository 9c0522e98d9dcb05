"""What a report says, section by section, from a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence

from reports.arms import ArmRow
from reports.comparison import Comparison
from reports.conduct import repeated
from reports.contract import contract
from reports.costs import cost_table, costs_of_testing, donors_table, networks_table
from reports.drawing import Figure
from reports.examples import examples_table
from reports.factors import INTERACTION, crossed
from reports.figures import places
from reports.numbers import (
    MISSING,
    arrow,
    bracketed,
    duration,
    fixed,
    plural,
    plus_minus,
    printed,
    whole,
)
from reports.sections import Cell, Column, Section, Table, text
from reports.tuned import SEARCH, told_tuned, tuned_section

SYMBOLS = {"supported": "✓", "contradicted": "✗", "practically equivalent": "≈", "inconclusive": "?"}
NO_DIFFERENCE = "baseline"


def sections(comparison: Comparison, figures: Sequence[Figure]) -> tuple[Section, ...]:
    """All sections after the opening, in their order; one that would be empty says so or is left out."""
    drawn = [figure.name for figure in figures]
    return (
        _arms(comparison),
        *([tuned_section(comparison, drawn)] if comparison.tuned else []),
        *([crossed(comparison, drawn)] if comparison.effects else []),
        contract(comparison),
        Section(
            name="figures", title="Figures", figures=tuple(name for name in drawn if name not in (INTERACTION, SEARCH))
        ),
        _limits(comparison),
        _failures(comparison),
        _reproduction(comparison),
    )


def facts(comparison: Comparison) -> tuple[tuple[str, str], ...]:
    """The study in a few numbers, for its opening lines."""
    registration = comparison.registration
    finished, planned = sum(arm.finished for arm in comparison.arms), len(registration.arms) * len(registration.seeds)
    trained = f"{finished} of {plural(planned, 'trial')}"
    if comparison.donors:
        donors = sum(trial.state == "finished" for trial in comparison.donors)
        trained += f", {donors} of {plural(len(comparison.donors), 'donor')}"
    data = registration.data
    examples = ", ".join(
        f"{whole(float(data[part]))} {part}" for part in ("train", "validation", "test") if part in data
    )
    return (
        ("Arms", f"{len(registration.arms)}, baseline {registration.baseline}"),
        ("Seeds", f"{len(registration.seeds)} per arm, paired"),
        ("Trained", trained),
        ("Smallest effect of interest", f"{registration.smallest_effect:g} points"),
        *([("Looks", comparison.looks.words)] if comparison.looks else []),
        *([("Tuned", told_tuned(comparison.tuned))] if comparison.tuned else []),
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
        Column(
            title=f"Lower than {registration.baseline} by",
            unit="points",
            kind="number",
            about=f"{_DIFFERENCE_ABOUT} {comparison.level} interval",
        ),
        Column(title="Trained", unit="of run"),
    ]
    if reference:
        columns.append(
            Column(title="Published", unit="%, other data", kind="number", about="never mixed with the measured")
        )
    beside = [*_top5(comparison, digits), *costs_of_testing(comparison.arms)]
    columns[4:4] = [column for column, _ in beside]
    told = [_result(arm, digits, _published_digits(comparison)) for arm in comparison.arms]
    rows = tuple((*row[:4], *(cells[place] for _, cells in beside), *row[4:]) for place, row in enumerate(told))
    return Table(
        name="results", caption="Test error, and what became of the trials", columns=tuple(columns), rows=rows,
        notes=_result_notes(comparison),
    )  # fmt: skip


_DIFFERENCE_ABOUT = "positive: lower error than the baseline; simultaneous"


def _arms(comparison: Comparison) -> Section:
    registration = comparison.registration
    paragraphs = (
        f"Every arm was planned under the same {plural(len(registration.seeds), 'seed')}. Differences are taken seed "
        f"by seed, and are positive where the arm has the lower error than {registration.baseline}, the baseline.",
    )
    tables = (
        results_table(comparison), networks_table(comparison), cost_table(comparison), donors_table(comparison),
        examples_table(comparison.examples, registration.baseline),
    )  # fmt: skip
    return Section(
        name="arms", title="The arms", paragraphs=paragraphs, tables=tuple(table for table in tables if table.rows)
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


def _top5(comparison: Comparison, digits: int) -> list[tuple[Column, list[Cell]]]:
    """Nothing where no trial has counted it."""
    if not any(math.isfinite(arm.top5.value) for arm in comparison.arms):
        return []
    cells = [Cell(text=plus_minus(arm.top5, digits), sort=arm.top5.value) for arm in comparison.arms]
    about = "the right class is not among the five most likely ones"
    return [(Column(title="Top-5 error", unit="%", kind="number", about=about), cells)]


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
        f"of differences at once in {comparison.level} of studies."
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
    paragraphs += [repeated(comparison.trials)] if repeated(comparison.trials) else []
    return Section(name="failures", title="Failures", paragraphs=tuple(paragraphs), tables=(table,) if rows else ())


def _reproduction(comparison: Comparison) -> Section:
    registration = comparison.registration
    reused = [trial for trial in (*comparison.trials, *comparison.donors) if trial.reused_from]
    points = [f"Seeds: {', '.join(map(str, registration.seeds)) or 'none'}.", f"Data: {_data(registration.data)}."]
    points += [f"Protocol {registration.protocol}: {' '.join(registration.protocol_note.split())}"]
    if reused:
        runs = ", ".join(sorted({trial.reused_from for trial in reused}))
        points.append(f"{plural(len(reused), 'trial')} reused from another study: runs {runs}.")
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
