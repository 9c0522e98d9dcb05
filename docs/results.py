"""Writes reports of recorded studies into docs/results/: as Markdown, without figures and without this machine's paths.

Command: ``python docs/results.py --runs DIR --protocol cifar10-cpu residual kernel_size lrn``
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import click

import reports
from reports import markdown
from reports.comparison import Comparison

RESULTS = Path(__file__).parent / "results"


def published(comparison: Comparison) -> Comparison:
    """The comparison as anybody may read it: places on the machine that ran it are left out."""
    starts = tuple(
        replace(start, command=re.sub(r"--(data-root|runs|tracking-uri) \S+", r"--\1 ...", start.command))
        for start in comparison.starts
    )
    return replace(comparison, starts=starts, tracking="the store of the machine that ran it")


@click.command()
@click.option("--runs", type=click.Path(exists=True), required=True)
@click.option("--protocol", required=True)
@click.argument("names", nargs=-1, required=True)
def main(runs: str, protocol: str, names: tuple[str, ...]) -> None:
    """Write a file for each study; print its path."""
    RESULTS.mkdir(exist_ok=True)
    for name in names:
        comparison = reports.load(name, protocol, runs=runs).comparison
        file = RESULTS / f"{name}-{protocol}.md"
        file.write_text(markdown.render(published(comparison), ()), encoding="utf-8")
        click.echo(file)


if __name__ == "__main__":
    main()
