"""Writes reports of recorded studies into docs/results/: as Markdown, without figures and without this machine's paths.

Commands::

    python docs/results.py --runs DIR --protocol cifar10-cpu residual kernel_size lrn
    python docs/results.py --runs DIR --protocol digits --summary   # one table of every study that the store holds
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import click

import ablations
import reports
from reports.comparison.comparison import Comparison
from reports.renderers import markdown
from studies.tracking.errors import TrackingError

RESULTS = Path(__file__).parent / "results"


def published(comparison: Comparison) -> Comparison:
    """The comparison as anybody may read it: places on the machine that ran it are left out."""
    starts = tuple(
        replace(start, command=re.sub(r"--(data-root|runs|tracking-uri) \S+", r"--\1 ...", start.command))
        for start in comparison.starts
    )
    return replace(comparison, starts=starts, tracking_uri="the store of the machine that ran it")


def replace_verdicts(text: str, name: str, comparison: Comparison) -> str:
    """The page with the sentences between a study's two markers written anew from its verdicts.

    Raises:
        ValueError: where the page has no such markers.
    """
    start, end = f"<!-- verdicts: {name} -->", f"<!-- end: {name} -->"
    if text.count(start) != 1 or text.count(end) != 1:
        raise ValueError(f"the page has no section for {name}; add the lines {start} and {end} where it belongs.")
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    return "\n".join([before + start, *verdict_lines(comparison), end]) + after


def verdict_lines(comparison: Comparison) -> Iterator[str]:
    """One line per claim: its verdict, the claim, what decided, and the literature."""
    for claim in comparison.claims:
        agreement = f"; {claim.agreement}" if claim.agreement else ""
        words = f"{claim.sentence} {claim.reason[0].upper()}{claim.reason[1:]}{agreement}."
        yield f"- **{claim.word.capitalize()}**: {markdown.escape_text(words)}"
        yield from (f"  {markdown.escape_text(caveat)}" for caveat in claim.caveats)
    if not comparison.claims:
        yield "- No claim was registered."


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
            "|---|---|---|---|---|",
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
    readme = RESULTS / "README.md"
    page = readme.read_text(encoding="utf-8")
    texts = {}
    for name in names:
        comparison = published(reports.load(name, protocol, runs=runs).comparison)
        texts[f"{name}-{protocol}"] = markdown.render_report(comparison, ())
        page = replace_verdicts(page, f"{name}-{protocol}", comparison)
    readme.write_text(page, encoding="utf-8")
    if as_summary:
        texts[protocol] = summary(protocol, list(_recorded(protocol, runs)))
    for name, text in texts.items():
        file = RESULTS / f"{name}.md"
        file.write_text(text, encoding="utf-8")
        click.echo(file)


if __name__ == "__main__":
    main()
