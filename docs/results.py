"""Writes reports of recorded studies into docs/results/: as Markdown, without figures and without this machine's paths.

The index, docs/results/README.md, is made of the heads of the pages: no sentence in it says more than its verdict.

Commands::

    python docs/results.py --runs DIR --protocol cifar10-cpu residual kernel_size lrn
    python docs/results.py --runs DIR --protocol digits --summary   # one table of every study that the store holds
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import click

import ablations
import reports
from reports.comparison.comparison import Comparison
from reports.content.contract import OVERRIDES_LABEL
from reports.renderers import markdown
from studies.tracking.errors import TrackingError

RESULTS = Path(__file__).parent / "results"
INDEX_FACTS = (
    "- Seeds: ",
    "- Trained: ",
    "- Completed: ",
    "- Data: ",
)  # what the index repeats
OVERRIDE_LABELS = (OVERRIDES_LABEL, "Set for every arm alike:")  # the latter on pages of earlier revisions
CAUTION_TITLES = ("**Caveats**", "**Before you read on**")  # the latter on pages of earlier revisions
INTRODUCTION = (
    "Written by `python docs/results.py` from the heads of the pages: every sentence is a verdict, its reason, or a",
    "caution of the report. Each page names its commands, versions and hardware; a page that an earlier revision wrote",
    "lacks what reports have gained since. `make evidence PROTOCOL=cifar10 MAX_TIME=12m` runs the papers' studies with",
    "as many seeds as `ablate plan` asks for, in pieces of any length, and writes their pages.",
)


def published(comparison: Comparison) -> Comparison:
    """The comparison as anybody may read it: places on the machine that ran it are left out."""
    starts = tuple(
        replace(start, command=re.sub(r"--(data-root|runs|tracking-uri) \S+", r"--\1 ...", start.command))
        for start in comparison.starts
    )
    return replace(comparison, starts=starts, tracking_uri="the store of the machine that ran it")


@dataclass(frozen=True, kw_only=True)
class PageHead:
    """What the index of the results says of a study: the head of its page, and nothing else.

    Attributes:
        question: the study's question.
        study: its name.
        protocol: name of the protocol.
        answer: how many claims have which verdict.
        facts: lines on seeds, trials, data, and settings that differ from the protocol's.
        claims: rows of the table of claims: claim, verdict, why, literature.
        cautions: what a reader is to know first.
    """

    question: str
    study: str
    protocol: str
    answer: str
    facts: tuple[str, ...]
    claims: tuple[tuple[str, ...], ...]
    cautions: tuple[str, ...]


def read_head(text: str) -> PageHead | None:
    """The head of a study's page; ``None`` for a page of another kind."""
    head, _, _ = text.partition("\n## ")
    blocks = [block for block in head.split("\n\n") if block]
    names = re.fullmatch(r"\*Ablation study · (\S+) · protocol (\S+)\*", blocks[1]) if len(blocks) > 2 else None
    if names is None:
        return None
    lists_by_title = {title: block.splitlines() for title, block in pairwise(blocks)}
    (facts,) = [block.splitlines() for block in blocks if block.startswith("- Arms: ")]
    repeated_facts = [line for line in facts if line.startswith(INDEX_FACTS)]
    beginnings = tuple(f"- {label} " for label in OVERRIDE_LABELS)
    overrides = [line for line in text.splitlines() if line.startswith(beginnings)]
    claims = lists_by_title.get("**Registered claims and their verdicts**", [])
    return PageHead(
        question=blocks[0].removeprefix("# "),
        study=names[1],
        protocol=names[2],
        answer=blocks[2].strip("*"),
        facts=tuple(line.removeprefix("- ") for line in (*repeated_facts, *overrides)),
        claims=tuple(_split_row(line) for line in claims[2:]),
        cautions=tuple(line for title in CAUTION_TITLES for line in lists_by_title.get(title, ())),
    )


def _split_row(line: str) -> tuple[str, ...]:
    """The cells of a row of a Markdown table, in which a bar of the text is escaped."""
    return tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|")))


def results_index(texts_by_name: Mapping[str, str]) -> str:
    """The index of the results, made of the heads of their pages.

    Args:
        texts_by_name: the pages' Markdown, by name of the file without its ending.
    """
    studies_by_protocol: dict[str, list[str]] = {}
    others = []
    for name, text in sorted(texts_by_name.items()):
        head = read_head(text)
        if head is None:
            title, *blocks = [block.strip() for block in text.split("\n\n") if block.strip()]
            # The page of a calibration begins with its answer, in bold.
            is_answered = bool(blocks) and blocks[0].startswith("**") and blocks[0].endswith("**")
            answer = f": {blocks[0].strip('*')}" if is_answered else ""
            others.append(f"- [{title.removeprefix('# ')}]({name}.md){answer}")
        else:
            studies_by_protocol.setdefault(head.protocol, []).extend(_index_entry(name, head))
    lines = ["# Results", "", *INTRODUCTION, "", *others, ""]
    for protocol, entries in studies_by_protocol.items():
        lines += [f"## Protocol `{protocol}`", "", *entries]
    return "\n".join(lines).rstrip() + "\n"


def _index_entry(name: str, head: PageHead) -> Iterator[str]:
    yield f"### [{head.study}]({name}.md): {head.question}"
    yield ""
    yield f"{head.answer} {'; '.join(head.facts).rstrip('.')}."
    yield ""
    for sentence, word, reason, *literature in head.claims:
        agreement = "".join(f"; {words}" for words in literature if words not in ("", "–"))
        because = reason.removesuffix(".")
        yield f"- **{word.capitalize()}**: {sentence} {because[0].upper()}{because[1:]}{agreement}."
    if not head.claims:
        yield "- No claim was registered."
    yield from (f"- Caution: {caution.removeprefix('- ')}" for caution in head.cautions)
    yield ""


def write_index(folder: Path = RESULTS) -> Path:
    """Write the index anew from the pages that lie beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    index = folder / "README.md"
    texts_by_name = {page.stem: page.read_text(encoding="utf-8") for page in folder.glob("*.md") if page != index}
    index.write_text(results_index(texts_by_name), encoding="utf-8")
    return index


def write_page(comparison: Comparison, folder: Path = RESULTS) -> Path:
    """Write a study's page, without figures and without this machine's paths."""
    registration = comparison.registration
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{registration.study}-{registration.protocol}.md"
    file.write_text(markdown.render_report(published(comparison), ()), encoding="utf-8")
    return file


def summary(protocol: str, comparisons: Iterable[Comparison]) -> str:
    """Every claim of every study with its verdict, and what the study took."""
    rows = [row for comparison in comparisons for row in _rows(comparison)]
    return "\n".join(
        [
            f"# Every study under `{protocol}`",
            "",
            f"Made by `python docs/results.py --protocol {protocol} --summary`. Trained: in this study, of those it",
            "needs; the others were taken over from studies before it in this table. Minutes: from the command to the",
            "record, everything included but the report.",
            "",
            "| study | trained | minutes | claim | verdict |",
            "|---|---|---:|---|---|",
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
            *_machine(comparisons),
            "",
        ]
    )


def _rows(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    minutes = sum(start.wall_seconds for start in comparison.starts) / 60
    own = sum(not trial.reused_from for trial in comparison.trials)
    told = (f"`{comparison.registration.study}`", f"{own} of {len(comparison.trials)}", f"{minutes:.1f}")
    for number, claim in enumerate(comparison.claims):
        yield (*(told if number == 0 else ("", "", "")), claim.sentence, claim.word)


def _machine(comparisons: Iterable[Comparison]) -> Iterator[str]:
    starts = [start for comparison in comparisons for start in comparison.starts]
    for words in sorted({start.hardware for start in starts}):
        yield f"- Hardware: {words}."
    for versions in sorted({", ".join(f"{name} {it}" for name, it in start.versions.items()) for start in starts}):
        yield f"- Versions: {versions}."
    yield f"- Revisions: {', '.join(sorted({start.revision for start in starts}))}."


def _recorded(protocol: str, runs: str) -> Iterator[Comparison]:
    """The studies of this package that the store holds, in the order in which they were run."""
    found = []
    for name in ablations.names():
        try:
            found.append(reports.load(name, protocol, runs=runs).comparison)
        except TrackingError:
            continue
    ended = [comparison for comparison in found if comparison.starts]
    yield from sorted(ended, key=lambda comparison: comparison.starts[0].time)


@click.command()
@click.option("--runs", type=click.Path(exists=True), required=True)
@click.option("--protocol", required=True)
@click.option("--summary", "as_summary", is_flag=True)
@click.argument("names", nargs=-1)
def main(runs: str, protocol: str, as_summary: bool, names: tuple[str, ...]) -> None:
    """Write a file for each study, or one for all; print its path."""
    RESULTS.mkdir(exist_ok=True)
    for name in names:
        click.echo(write_page(reports.load(name, protocol, runs=runs).comparison))
    if as_summary:
        file = RESULTS / f"{protocol}.md"
        file.write_text(summary(protocol, list(_recorded(protocol, runs))), encoding="utf-8")
        click.echo(file)
    click.echo(write_index())


if __name__ == "__main__":
    main()
