"""Several studies on one page: all claims with their verdicts, and every arm in one table with the published figure."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from reports import latex, markdown, page
from reports.arms import ArmRow
from reports.comparison import WORDS, Comparison, compare
from reports.compile import PAGE, replace_folder
from reports.content import SYMBOLS
from reports.csv_tables import Value, written
from reports.numbers import decimals, listed, plural, plus_minus, printed
from reports.sections import MISSING_CELL, Cell, Column, Section, Table, text
from studies.records import StudyRecord

Measured = tuple[Comparison, ArmRow]


def write_summary(records: Sequence[StudyRecord], folder: Path, pages: Sequence[Path] = ()) -> Path:
    """Write the combined report into a folder, replacing what was there; returns the page's path.

    ``pages`` are the studies' own, in the order of the records: the summary links to them, relative to its folder.
    """
    replace_folder(folder, summary_files(records, [_address(page, folder) for page in pages]))
    return folder / PAGE


def summary_files(records: Sequence[StudyRecord], links: Sequence[str] = ()) -> dict[str, bytes]:
    """Every file of the combined report by its path below the folder; ``links``: one address per record, or none."""
    studies = tuple(compare(record) for record in records)
    title, answer, parts = _title(studies), answer_of(studies), _sections(studies, links)
    lead = [claims_table(studies)] if any(study.claims for study in studies) else []
    html = page.template("summary.html.j2").render(
        title=title, answer=answer, studies=studies, sections=parts, symbols=SYMBOLS, links=links or [""] * len(studies)
    )
    blocks = [f"# {markdown.escape(title)}", f"**{markdown.escape(answer)}**", *map(markdown.table, lead)]
    article = [rf"\section*{{{latex.escape(title)}}}", rf"\textbf{{{latex.escape(answer)}}}", *map(latex.table, lead)]
    for part in parts:
        blocks += markdown.section(part, {})
        article += latex.section(part, {})
    texts = {
        PAGE: html,
        "summary.md": markdown.joined(blocks),
        "summary.tex": latex.article(article),
        "claims.csv": _claims_csv(studies),
    }
    return {name: content.encode() for name, content in texts.items()}


def answer_of(studies: Sequence[Comparison]) -> str:
    """All verdicts in a sentence."""
    counts = Counter(claim.word for study in studies for claim in study.claims)
    if not counts:
        return "No claim was registered."
    told = [f"{counts[word]} {word}" for word in WORDS if counts[word]]
    return f"{plural(sum(counts.values()), 'claim')} in {plural(len(studies), 'study', 'studies')}: {listed(told)}."


def claims_table(studies: Sequence[Comparison]) -> Table:
    """Every registered claim with its verdict, study by study."""
    columns = tuple(Column(title=title) for title in ("Study", "Claim", "Verdict", "Why", "Literature"))
    rows = tuple(
        (
            text(_name(study), "strong"),
            text(claim.sentence),
            text(f"{SYMBOLS[claim.word]} {claim.word}"),
            text(". ".join([claim.reason, *claim.caveats])),
            text(claim.agreement) if claim.agreement else MISSING_CELL,
        )
        for study in studies
        for claim in study.claims
    )
    return Table(name="claims", caption="All claims and their verdicts", columns=columns, rows=rows)


def arms_table(studies: Sequence[Comparison]) -> Table:
    """Every arm once: an arm whose very trials serve several studies is one row that names them all."""
    groups: dict[tuple[object, ...], list[Measured]] = {}
    for study in studies:
        for arm in study.arms:
            groups.setdefault(_identity(study, arm), []).append((study, arm))
    digits = decimals((arm.error.half_width for study in studies for arm in study.arms), least=1)
    columns = (
        Column(title="Arm"),
        Column(title="Studies"),
        Column(title="Test error", unit="%", kind="number"),
        Column(title="Trained", unit="of run"),
        Column(title="Published", unit="%, other data", kind="number"),
    )
    rows = tuple(_arm_row(group, digits) for group in groups.values())
    note = (
        "Test error: mean over the finished seeds ± half-width of the arm's own 95% interval. No difference is to be "
        "read off this table: differences are paired by seed, and stand in each study's report."
    )
    return Table(name="arms", caption="Every arm", columns=columns, rows=rows, notes=(note, *_sources(studies)))


def _arm_row(group: Sequence[Measured], digits: int) -> tuple[Cell, ...]:
    (_, arm), *_ = group
    published = {row.published for _, row in group if math.isfinite(row.published)}
    told = " / ".join(printed(value) for value in sorted(published))
    return (
        text(arm.name, "strong"),
        text(", ".join(dict.fromkeys(_name(study) for study, _ in group))),
        Cell(text=plus_minus(arm.error, digits), sort=arm.error.value),
        Cell(text=arm.trained, sort=arm.finished),
        Cell(text=told, sort=min(published)) if published else MISSING_CELL,
    )


def _identity(study: Comparison, arm: ArmRow) -> tuple[object, ...]:
    """The trials behind an arm; an arm without results is its study's own."""
    trials = [trial for trial in study.trials if trial.arm == arm.name]
    results = [(trial.seed, trial.result) for trial in trials if trial.result]
    prints = [(seed, result.fingerprint, *sorted(result.digests.items())) for seed, result in results]
    return (arm.name, *prints) if len(prints) == len(trials) > 0 else (arm.name, id(study))


def _sources(studies: Sequence[Comparison]) -> tuple[str, ...]:
    references = dict.fromkeys(
        (reference.quantity, reference.source, reference.caveat)
        for study in studies
        if (reference := study.registration.reference) is not None
    )
    return tuple(
        f"Published: {quantity}. Source: {source}." + (f" Caveat: {caveat}." if caveat else "")
        for quantity, source, caveat in references
    )


def _address(page: Path, folder: Path) -> str:
    return quote(Path(os.path.relpath(page.absolute(), folder.absolute())).as_posix())


def _sections(studies: Sequence[Comparison], links: Sequence[str]) -> tuple[Section, ...]:
    cautions = tuple(
        f"{_name(study)}: {caution}" for study in studies for caution in (*_across(study, studies[0]), *study.cautions)
    )
    own = tuple((f"{_name(study)}, its own report", link) for study, link in zip(studies, links, strict=False))
    return (
        Section(name="arms", title="Every arm in one table", tables=(arms_table(studies),)),
        Section(
            name="questions", title="The questions", points=tuple(_question(study) for study in studies), links=own
        ),
        Section(
            name="cautions",
            title="What to know beside it",
            points=cautions,
            paragraphs=() if cautions else ("Every planned trial of these studies finished, under the same code.",),
        ),
    )


def _question(study: Comparison) -> str:
    return f"{_name(study)}: {study.registration.question} {study.answer}"


def _across(study: Comparison, first: Comparison) -> tuple[str, ...]:
    """Whether a study was trained by other code, or on other data, than the first one."""
    return tuple(
        f"its {kind} digests are not those of {_name(first)}: figures of the two must not be compared."
        for kind in ("code", "data")
        if _digests(study, kind) and _digests(first, kind) and _digests(study, kind) != _digests(first, kind)
    )


def _digests(study: Comparison, kind: str) -> set[str]:
    return {str(trial.result.digests.get(kind, "")) for trial in study.trials if trial.result}


def _name(study: Comparison) -> str:
    return f"{study.registration.study} ({study.registration.protocol})"


def _title(studies: Sequence[Comparison]) -> str:
    names = [study.registration.study for study in studies]
    return f"{plural(len(studies), 'study', 'studies')}: {listed(dict.fromkeys(names))}" if names else "No studies"


def _claims_csv(studies: Sequence[Comparison]) -> str:
    rows: list[dict[str, Value]] = [
        {
            "study": study.registration.study,
            "protocol": study.registration.protocol,
            "claim": claim.sentence,
            "verdict": claim.word,
            "reason": claim.reason,
            "caveat": " ".join(claim.caveats),
            "source": claim.source,
            "agreement": claim.agreement,
        }
        for study in studies
        for claim in study.claims
    ]
    return written(rows)
