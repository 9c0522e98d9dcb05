"""Contents of a report, section by section, from a comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from lightning_modules.specs.text import format_count, format_points, join_words
from reports.analysis.integrity import describe_restarts
from reports.comparison.comparison import Comparison
from reports.content.class_shares import class_shares_table, describe_constant_answer
from reports.content.contract import contract_section
from reports.content.costs import (
    costs_table,
    dependencies_table,
    has_evaluations,
    latency_table,
    networks_table,
)
from reports.content.designs import COMPONENTS_FIGURE, INTERACTION_FIGURE, components_section, factorial_section
from reports.content.paired_examples import examples_table
from reports.content.replications import replications_table
from reports.content.results import contrasts_table, results_table
from reports.content.sections.architectures import architectures_section
from reports.content.sections.citation import citation_section
from reports.content.sections.confusions import confusions_section
from reports.content.tuning import SEARCH_FIGURE, describe_tuning, tuning_section
from reports.document import (
    MAX_UNFOLDED_ROWS,
    Cell,
    Column,
    Row,
    Section,
    Table,
    interval_cell,
    nonempty_tables,
    text_cell,
)
from reports.figures.confusions import CONFUSIONS_FIGURE
from reports.figures.seeds import DECISIVE_FIGURE, error_decimals
from reports.figures.style import Figure
from reports.formatting import MISSING, format_contrast, format_duration, format_integer, format_significant
from studies.records.registration_log import RegistrationCheck
from studies.records.study_record import StudyStart, list_starters

VERDICT_SYMBOLS = {
    "supported": "✓",
    "contradicted": "✗",
    "practically equivalent": "≈",
    "inconclusive": "?",
    "no verdict": "–",
}

# Figures that are shown with the verdicts or in the section that they belong to, not among the others.
FIGURES_OF_SECTIONS = (CONFUSIONS_FIGURE, DECISIVE_FIGURE, COMPONENTS_FIGURE, INTERACTION_FIGURE, SEARCH_FIGURE)


def report_sections(comparison: Comparison, figures: Sequence[Figure]) -> tuple[Section, ...]:
    """All sections after the opening, in their order.

    A section that would be empty says so or is left out.
    """
    figure_names = [figure.name for figure in figures]
    sections = [_arms_section(comparison)]
    if comparison.tuned:
        sections.append(tuning_section(comparison, figure_names))
    if comparison.factorial_analyses:
        sections.append(factorial_section(comparison, figure_names))
    if comparison.components:
        sections.append(components_section(comparison, comparison.components, figure_names))
    # Each figure once: where it decides, or with what it belongs to, or else here.
    other_figures = tuple(name for name in figure_names if name not in FIGURES_OF_SECTIONS)
    sections += [
        contract_section(comparison),
        architectures_section(comparison.registration),
        Section(name="figures", title="Figures", figures=other_figures),
        confusions_section(comparison, figure_names),
        _sensitivity_section(comparison),
        _failures_section(comparison),
        _reproducibility_section(comparison),
        citation_section(comparison),
    ]
    return tuple(sections)


def study_facts(comparison: Comparison) -> tuple[tuple[str, str], ...]:
    """The study in a few numbers, for the opening."""
    registration = comparison.registration
    facts = [
        ("Arms", f"{len(registration.arms)}, baseline {registration.baseline}"),
        ("Seeds", f"{len(registration.seeds)} per arm, paired"),
        ("Completed", _count_completed(comparison)),
        ("Smallest effect of interest", format_points(registration.smallest_effect)),
    ]
    if comparison.interim_schedule:
        facts.append(("Interim analyses", comparison.interim_schedule.description))
    if comparison.tuned:
        facts.append(("Tuning", describe_tuning(comparison.tuned)))
    # The error of a network that has learned nothing: the scale on which all others are read.
    if comparison.constant_answer:
        facts.append(("Constant answer", describe_constant_answer(comparison.constant_answer)))
    facts += [("Data", _summarize_data(registration.data)), ("Protocol", registration.protocol)]
    facts.append(("Run", describe_run(comparison)))
    if comparison.registration_check:
        facts.append(("Registration", _summarize_registration(comparison.registration_check)))
    return tuple(facts)


def _summarize_registration(check: RegistrationCheck) -> str:
    """State and digest: what a reader compares with the digest that was published."""
    return f"{check.finding}; digest {check.digest}" if check.digest else check.finding


def describe_run(comparison: Comparison) -> str:
    """The study's run in the tracking store, and who started it."""
    starters = list_starters(comparison.starts)
    if not starters:  # older records do not tell
        return comparison.run_id
    description = f"{comparison.run_id}, started by {starters[0]}"
    others = starters[1:]
    return f"{description}, continued by {join_words(others, max_words=4)}" if others else description


def _count_completed(comparison: Comparison) -> str:
    registration, dependencies = comparison.registration, comparison.dependencies
    num_finished = sum(arm.num_finished for arm in comparison.arms)
    num_planned = len(registration.arms) * len(registration.seeds)
    completed = f"{num_finished} of {format_count(num_planned, 'trial')}"
    # Counted apart: they belong to no arm, and an arm whose source failed cannot finish.
    if dependencies:
        num_trained = [trial.state for trial in dependencies].count("finished")
        kind = "evaluated network" if has_evaluations(comparison.arms) else "source network"
        completed += f", {num_trained} of {format_count(len(dependencies), kind)}"
    return completed


def _summarize_data(data: Mapping[str, object]) -> str:
    sizes = []
    for split in ("train", "validation", "test"):
        if split in data:
            sizes.append(f"{format_integer(float(str(data[split])))} {split}")
    name = str(data.get("name", "unknown"))
    return f"{name} ({', '.join(sizes)})" if sizes else name


def claims_table(comparison: Comparison) -> Table:
    """The claims with their verdicts, for renderers that show them as a table."""
    columns = (
        Column(title="Claim"),
        Column(title="Verdict"),
        Column(title="Finding and bounds"),
        Column(title="Literature"),
    )
    rows = []
    for claim in comparison.claims:
        verdict, literature = text_cell(claim.word, "strong"), text_cell(claim.agreement or MISSING)
        rows.append((text_cell(claim.sentence), verdict, text_cell(claim.explanation), literature))
    return Table(name="claims", caption="Registered claims and their verdicts", columns=columns, rows=tuple(rows))


def _arms_section(comparison: Comparison) -> Section:
    registration = comparison.registration
    paragraph = (
        f"Every arm was planned with the same {format_count(len(registration.seeds), 'seed')}. Differences are paired "
        f"by seed, and are positive where the arm has a lower error than {registration.baseline}, the baseline."
    )
    tables = nonempty_tables(
        results_table(comparison),
        contrasts_table(comparison),
        replications_table(comparison),
        networks_table(comparison),
        costs_table(comparison),
        latency_table(comparison),
        dependencies_table(comparison),
        examples_table(comparison.paired_examples, registration.baseline),
        class_shares_table(comparison),
    )
    points = tuple(control.sentence for control in comparison.controls)
    return Section(name="arms", title="Results by arm", paragraphs=(paragraph,), points=points, tables=tables)


def _sensitivity_section(comparison: Comparison) -> Section:
    return Section(
        name="limits",
        title="Sensitivity: what these seeds could detect",
        paragraphs=() if comparison.sensitivity else ("Not available before a trial has finished.",),
        points=(*comparison.sensitivity, *_describe_image_sampling(comparison)),
        tables=nonempty_tables(_image_sampling_table(comparison)),
    )


def _describe_image_sampling(comparison: Comparison) -> tuple[str, ...]:
    """State where the test images widen no interval; their table is left out then."""
    measured = [difference for difference in comparison.differences if difference.seed_image_interval.is_bounded]
    # Said once in words, where a table would repeat the intervals that stand above it.
    if not measured or _image_sampling_table(comparison).rows:
        return ()
    return ("The test images as a second source of variance widen none of the intervals over seeds.",)


def _image_sampling_table(comparison: Comparison) -> Table:
    """The differences with the test images as a second source of variance; no rows where it widens no interval."""
    digits = error_decimals(comparison)
    rows = []
    num_wider = 0
    for difference in comparison.differences:
        if not difference.seed_image_interval.is_bounded:
            continue
        contrast = text_cell(format_contrast(difference.over, difference.arm), "strong")
        over_seeds = interval_cell(difference.estimate, digits)
        over_images = interval_cell(difference.seed_image_interval, digits)
        # Compared as printed: a reader sees no difference that rounding hides.
        if over_images.text == over_seeds.text:
            over_images = replace(over_images, text="as over seeds", tone="quiet")
        else:
            num_wider += 1
        rows.append((contrast, over_seeds, over_images))
    if not num_wider:
        rows = []
    columns = (
        Column(title="Contrast"),
        Column(title="Over seeds", unit="points", kind="number"),
        Column(title="Over seeds and images", unit="points", kind="number"),
    )
    note = (
        "Over seeds: for this test set, simultaneous for all differences of the family; verdicts use these intervals. "
        "Over seeds and images: for other images from the same source; the wider one of that over seeds and of the "
        "difference's own 95% interval, which is not simultaneous."
    )
    caption = "Differences on this test set, and on other images of its kind"
    return Table(
        name="crossed",
        caption=caption,
        columns=columns,
        rows=tuple(rows),
        notes=(note,),
        folded=len(rows) > MAX_UNFOLDED_ROWS,
    )


def _failures_section(comparison: Comparison) -> Section:
    table = _failures_table(comparison)
    not_started = [f"{arm.name} ({arm.num_not_started})" for arm in comparison.arms if arm.num_not_started]
    paragraphs = []
    if not_started:
        paragraphs.append(
            "Planned, but not in the tracking store (never started, or deleted): "
            + join_words(not_started, max_words=10)
            + "."
        )
    states = {failure.state for failure in comparison.failures}
    if states - {"cancelled"} or not_started:
        paragraphs.append(
            "No trial is excluded: those that are non-finite, at chance or failed count in the denominator, and no arm "
            "gets other seeds."
        )
    if "cancelled" in states:
        paragraphs.append(
            "A cancelled trial is not counted among those that ended, and the pairs of its seed are missing."
        )
    if not (states or not_started):
        paragraphs.append("None: every planned trial finished with a finite test error.")
    restarts = describe_restarts(comparison.trials)
    if restarts:
        paragraphs.append(restarts)
    return Section(name="failures", title="Failures", paragraphs=tuple(paragraphs), tables=nonempty_tables(table))


def _failures_table(comparison: Comparison) -> Table:
    rows = []
    for failure in comparison.failures:
        rows.append(
            (
                text_cell(failure.arm, "strong"),
                Cell(text=str(failure.seed), sort=failure.seed),
                text_cell(failure.state, "alert"),
                text_cell(failure.reason),
            )
        )
    columns = (
        Column(title="Arm"),
        Column(title="Seed", kind="number"),
        Column(title="State"),
        Column(title="Reason"),
    )
    return Table(
        name="failures",
        caption="Trials without a test error",
        columns=columns,
        rows=tuple(rows),
        folded=len(rows) > MAX_UNFOLDED_ROWS,
    )


def _reproducibility_section(comparison: Comparison) -> Section:
    registration = comparison.registration
    protocol_note = " ".join(registration.protocol_note.split())  # a docstring: its line breaks mean nothing here
    points = [
        f"Seeds: {', '.join(map(str, registration.seeds)) or 'none'}.",
        f"Data: {', '.join(f'{name} {value}' for name, value in registration.data.items())}.",
        f"Protocol {registration.protocol}: {protocol_note}",
        *_describe_registration(comparison.registration_check),
        *_describe_reused_trials(comparison),
        *_describe_gpu_hours(comparison),
        f"Read from run {comparison.run_id} of experiment {comparison.experiment_id} at {comparison.tracking_uri}.",
    ]
    tables = nonempty_tables(_starts_table(comparison.starts), _environment_table(comparison))
    return Section(name="reproduction", title="Reproducibility", points=tuple(points), tables=tables)


def _describe_registration(check: RegistrationCheck | None) -> Iterator[str]:
    """The registration and its amendments: who, when, and after which results."""
    if check is None:
        return
    for number, entry in enumerate(check.entries):
        # The first entry is the registration itself, which changed nothing.
        changes = "" if number == 0 else f" ({'; '.join(check.amendments[number - 1][1])})"
        yield (
            f"{'Amended' if number else 'Registered'} {entry.results_seen} by {entry.author} at {entry.time}{changes}: "
            f"digest {entry.digest}, training code {entry.code}."
        )
    yield f"Copies of the registration that were compared: {join_words(check.places)}."


def _describe_reused_trials(comparison: Comparison) -> tuple[str, ...]:
    runs = [trial.reused_from for trial in (*comparison.trials, *comparison.dependencies) if trial.reused_from]
    if not runs:
        return ()
    # Six are enough to find the studies that trained them.
    sources = join_words(sorted(set(runs)), max_words=6)
    return (f"{format_count(len(runs), 'trial')} reused from another study: runs {sources}.",)


def _describe_gpu_hours(comparison: Comparison) -> tuple[str, ...]:
    """GPU hours of all starts, and the trials per hour; not of a tuned study, whose hours candidates took as well."""
    gpu_hours = sum(start.gpu_hours or 0.0 for start in comparison.starts)
    if not gpu_hours:
        return ()
    text = f"GPU hours: {format_significant(gpu_hours, 3)}; trials that train at once in one process hold one GPU"
    own = [trial for trial in (*comparison.trials, *comparison.dependencies) if trial.result and not trial.reused_from]
    is_complete = all(start.wall_seconds is not None for start in comparison.starts)
    if own and is_complete and not comparison.registration.tuning:
        rate = format_significant(len(own) / gpu_hours, 3)
        text += f". {format_count(len(own), 'trial')} trained, {rate} per GPU hour"
    return (f"{text}.",)


def _starts_table(starts: Sequence[StudyStart]) -> Table:
    columns: tuple[Column, ...] = (
        Column(title="Started"),
        Column(title="Command", kind="code"),
        Column(title="Revision", kind="code"),
        Column(title="Working tree"),
        Column(title="Versions"),
        Column(title="Hardware"),
        Column(title="Wall time", kind="number"),
    )
    rows = tuple(map(_start_row, starts))
    if any(start.budget for start in starts):
        columns = (*columns, Column(title="Budget"))
        rows = tuple((*row, _budget_cell(start)) for row, start in zip(rows, starts, strict=True))
    return Table(name="starts", caption="Starts of this study", columns=columns, rows=rows)


def _start_row(start: StudyStart) -> Row:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(start.versions.items()))
    return (
        text_cell(start.time[:19].replace("T", " ")),  # to the second
        text_cell(start.command),
        text_cell(start.revision[:12]),
        text_cell("clean") if start.clean else text_cell("uncommitted changes", "alert"),
        text_cell(versions),
        text_cell(start.hardware),
        _wall_time_cell(start.wall_seconds),
    )


def _budget_cell(start: StudyStart) -> Cell:
    """What a start was allowed to spend, and what it spent."""
    if not start.budget:
        return text_cell("none")
    if start.wall_seconds is None:
        return text_cell(start.budget.describe())
    return text_cell(f"{start.budget.describe()}; spent: {start.budget.describe_spending(start.spent)}")


def _wall_time_cell(seconds: float | None) -> Cell:
    if seconds is None:
        return text_cell("no end recorded", "alert")
    return Cell(text=format_duration(seconds), sort=seconds)


def _environment_table(comparison: Comparison) -> Table:
    rows = tuple((text_cell(name), text_cell(value)) for name, value in comparison.environments)
    columns = (Column(title="Logged by the trials"), Column(title="Value"))
    return Table(name="environment", caption="Environment of the trials", columns=columns, rows=rows)
