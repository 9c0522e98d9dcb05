"""Combined report of several studies: claims, verdicts and arms."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from lightning_modules.specs.text import format_count, join_words
from reports.analysis.arms import ArmSummary
from reports.comparison.claims import VERDICT_ORDER
from reports.comparison.comparison import Comparison
from reports.content.report import VERDICT_SYMBOLS, describe_run
from reports.document import MISSING_CELL, Cell, Column, Section, Table, mean_cell, text_cell
from reports.formatting import choose_decimals, format_published
from reports.pages.study import PAGE_FILE, replace_folder
from reports.renderers import html, latex, markdown
from reports.renderers.csv import CsvValue, format_csv

StudyArm = tuple[Comparison, ArmSummary]


def write_summary(studies: Sequence[Comparison], folder: Path, pages: Sequence[Path] = ()) -> Path:
    """Write the combined report in place of a folder; returns its page.

    ``pages`` are those of the studies, in their order; the summary links to them, relative to its folder.
    """
    links = [_relative_link(page, folder) for page in pages]
    replace_folder(folder, summary_files(studies, links))
    return folder / PAGE_FILE


def summary_files(studies: Sequence[Comparison], links: Sequence[str] = ()) -> dict[str, bytes]:
    """Every file of the combined report by its path below the folder.

    ``links`` has one address per study, or none.
    """
    title, answer = _summary_title(studies), summarize_verdicts(studies)
    sections = _summary_sections(studies, links)
    page = html.load_template("summary.html.j2").render(
        title=title,
        answer=answer,
        studies=studies,
        sections=sections,
        symbols=VERDICT_SYMBOLS,
        links=links or [""] * len(studies),
    )
    blocks = [f"# {markdown.escape_text(title)}", f"**{markdown.escape_text(answer)}**"]
    article = [rf"\section*{{{latex.escape_text(title)}}}", rf"\textbf{{{latex.escape_text(answer)}}}"]
    claims = claims_table(studies)
    if claims.rows:
        blocks.append(markdown.render_table(claims))
        article += latex.render_pages(claims)
    for section in sections:
        blocks += markdown.render_section(section, {})
        article += latex.render_section(section, {})
    texts = {
        PAGE_FILE: page,
        "summary.md": markdown.join_blocks(blocks),
        "summary.tex": latex.render_article(article),
        "claims.csv": _claims_csv(studies),
    }
    return {name: content.encode() for name, content in texts.items()}


def summarize_verdicts(studies: Sequence[Comparison]) -> str:
    """Count all verdicts in a sentence."""
    counts: Counter[str] = Counter()
    for study in studies:
        counts.update(claim.word for claim in study.claims)
    if not counts:
        return "No claim was registered."
    verdicts = join_words(f"{counts[word]} {word}" for word in VERDICT_ORDER if counts[word])
    claims = format_count(sum(counts.values()), "claim")
    return f"{claims} in {format_count(len(studies), 'study', 'studies')}: {verdicts}."


def claims_table(studies: Sequence[Comparison]) -> Table:
    """Every registered claim with its verdict, study by study."""
    columns = tuple(Column(title=title) for title in ("Study", "Claim", "Verdict", "Finding and bounds", "Literature"))
    rows = []
    for study in studies:
        for claim in study.claims:
            rows.append(
                (
                    text_cell(_study_label(study), "strong"),
                    text_cell(claim.sentence),
                    text_cell(f"{VERDICT_SYMBOLS[claim.word]} {claim.word}"),
                    text_cell(" ".join([claim.explanation, *claim.caveats])),
                    text_cell(claim.agreement) if claim.agreement else MISSING_CELL,
                )
            )
    return Table(name="claims", caption="All claims and their verdicts", columns=columns, rows=tuple(rows))


def arms_table(studies: Sequence[Comparison]) -> Table:
    """Every arm once, even where several studies share its trials."""
    groups: dict[tuple[object, ...], list[StudyArm]] = {}
    for study in studies:
        for arm in study.arms:
            groups.setdefault(_arm_key(study, arm), []).append((study, arm))
    half_widths = []
    for study in studies:
        half_widths += [arm.mean_error.half_width for arm in study.arms]
    digits = choose_decimals(half_widths, minimum=1)
    columns = (
        Column(title="Arm"),
        Column(title="Studies"),
        Column(title="Test error", unit="%", kind="number"),
        Column(title="Completed", unit="of ended trials"),
        Column(title="Published", unit="%, other data", kind="number"),
    )
    rows = tuple(_arm_row(group, digits) for group in groups.values())
    note = (
        "Test error: mean over the finished seeds ± half-width of the arm's own 95% interval. Do not subtract values "
        "of this table: differences are paired by seed; see the report of each study."
    )
    return Table(
        name="arms",
        caption="Test error and outcomes of the trials",
        columns=columns,
        rows=rows,
        notes=(note, *_reference_notes(studies)),
    )


def _arm_row(group: Sequence[StudyArm], digits: int) -> tuple[Cell, ...]:
    _, arm = group[0]  # the others have the same trials
    labels: dict[str, None] = {}  # as an ordered set
    published = set()
    for study, arm_of_study in group:
        labels[_study_label(study)] = None
        if math.isfinite(arm_of_study.published_value):
            published.add(arm_of_study.published_value)
    published_cell = MISSING_CELL
    if published:  # studies may cite different sources for one arm
        published_cell = Cell(text=" / ".join(map(format_published, sorted(published))), sort=min(published))
    return (
        text_cell(arm.name, "strong"),
        text_cell(", ".join(labels)),
        mean_cell(arm.mean_error, digits),
        Cell(text=arm.describe_outcomes, sort=arm.num_finished),
        published_cell,
    )


def _arm_key(study: Comparison, arm: ArmSummary) -> tuple[object, ...]:
    """Identity of an arm's trials.

    An arm that lacks the result of a trial is its study's own.
    """
    own_key = (arm.name, id(study))
    identities = []
    for trial in study.trials:
        if trial.arm != arm.name:
            continue
        if trial.result is None:
            return own_key
        identities.append((trial.seed, trial.result.fingerprint, *sorted(trial.result.digests.items())))
    return (arm.name, *identities) if identities else own_key


def _reference_notes(studies: Sequence[Comparison]) -> tuple[str, ...]:
    notes: dict[str, None] = {}  # as an ordered set: studies often share a source
    for study in studies:
        reference = study.registration.reference
        if reference is not None:
            caveat = f" Caveat: {reference.caveat}." if reference.caveat else ""
            notes[f"Published: {reference.quantity}. Source: {reference.source}.{caveat}"] = None
    return tuple(notes)


def _relative_link(page_path: Path, folder: Path) -> str:
    return quote(Path(os.path.relpath(page_path.absolute(), folder.absolute())).as_posix())


def _summary_sections(studies: Sequence[Comparison], links: Sequence[str]) -> tuple[Section, ...]:
    cautions = []
    for study in studies:
        for caution in (*_digest_mismatches(study, studies[0]), *study.cautions):
            cautions.append(f"{_study_label(study)}: {caution}")
    paragraphs = () if cautions else ("Every planned trial of these studies finished, under the same code.",)
    report_links = []
    for study, link in zip(studies, links, strict=False):  # links are optional
        report_links.append((f"{_study_label(study)}, full report", link))
    questions = tuple(map(_question_and_answer, studies))
    return (
        Section(name="arms", title="All arms", tables=(arms_table(studies),)),
        Section(name="questions", title="Questions and answers", points=questions, links=tuple(report_links)),
        Section(name="cautions", title="Caveats", points=tuple(cautions), paragraphs=paragraphs),
    )


def _question_and_answer(study: Comparison) -> str:
    return f"{_study_label(study)}: {study.registration.question} {study.answer} Run {describe_run(study)}."


def _digest_mismatches(study: Comparison, first: Comparison) -> tuple[str, ...]:
    """Warn of code or data that differ from those of the first study."""
    warnings = []
    for kind in ("code", "data"):
        digests, first_digests = _trial_digests(study, kind), _trial_digests(first, kind)
        if digests and first_digests and digests != first_digests:
            warnings.append(
                f"{kind} digests differ from those of {_study_label(first)}: results of the two are not comparable."
            )
    return tuple(warnings)


def _trial_digests(study: Comparison, kind: str) -> set[str]:
    return {str(trial.result.digests.get(kind, "")) for trial in study.trials if trial.result}


def _study_label(study: Comparison) -> str:
    return f"{study.registration.study} ({study.registration.protocol})"


def _summary_title(studies: Sequence[Comparison]) -> str:
    if not studies:
        return "No studies"
    names = dict.fromkeys(study.registration.study for study in studies)  # once each, under however many protocols
    return f"{format_count(len(studies), 'study', 'studies')}: {join_words(names)}"


def _claims_csv(studies: Sequence[Comparison]) -> str:
    rows: list[dict[str, CsvValue]] = []
    for study in studies:
        for claim in study.claims:
            rows.append(
                {
                    "study": study.registration.study,
                    "protocol": study.registration.protocol,
                    "claim": claim.sentence,
                    "verdict": claim.word,
                    "finding": claim.finding,
                    "reason": claim.reason,
                    "caveat": " ".join(claim.caveats),
                    "source": claim.source,
                    "agreement": claim.agreement,
                }
            )
    return format_csv(rows)
