"""Runs the papers' studies under a protocol, in pieces of any length, and writes docs/results/ from their records.

Command: ``make evidence PROTOCOL=cifar10 MAX_TIME=12m``. Each call takes in the archives that earlier calls left, here
or on another machine, goes on where they stopped, and exports what is there now: results and predictions, no weights.
So a machine that is lent for a quarter of an hour at a time, and forgets, can run the whole of it.

Options that are not listed here are passed on to ``ablate run``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import click
import results

import reports
from studies.cli.common.budget_options import DurationParam
from studies.tracking.errors import TrackingError

# In the order of what a minute of training tells: the study whose verdict the replications leave in least doubt first.
STUDIES = ("residual", "depth", "degradation", "normalization", "kernel_size", "lrn", "head")
# Of a paired difference, points: public replications of these networks have SDs of 0.13 to 0.27 over seeds, and
# independent seeds of SD 0.2 differ by 0.28 (0.2 * sqrt(2)).
EXPECTED_SPREAD = 0.28
INTERRUPTED = 128  # the shell's first exit code of a command that a signal ended
STOPPED_AT_BUDGET = 3  # of `ablate run`: less time is left than a whole seed takes
ABLATE = [sys.executable, "-m", "studies.cli"]


def planned_seeds(study: str, protocol: str, spread: float, runs: Path) -> int:
    """Number of seeds that detect the smallest effect of interest with a power of 80%, by ``ablate plan``.

    Raises:
        ClickException: with what ``ablate plan`` says, where it refuses.
    """
    command = [*ABLATE, "plan", study, "--protocol", protocol, "--spread", f"{spread}", "--runs", f"{runs}", "--json"]
    planned = subprocess.run(command, check=False, capture_output=True, text=True)
    if planned.returncode:
        raise click.ClickException(planned.stderr.strip().removeprefix("Error: "))
    detection, *_ = json.loads(planned.stdout)["answers"]
    return int(detection["seeds"])


def import_archives(folder: Path, runs: Path) -> None:
    """Take in what earlier calls exported; what is here already stays."""
    for archive in sorted(folder.glob("*.zip")):
        subprocess.run([*ABLATE, "import", f"{archive}", "--runs", f"{runs}"], check=True)


def run_pieces(
    studies: tuple[str, ...], run_options: list[str], seeds_by_study: dict[str, str], seconds: float
) -> None:
    """Run one study after the other within a time; each stops at whole seeds.

    Args:
        seconds: for all of them together; infinite for as long as they take.

    Raises:
        SystemExit: with a study's exit code, if a signal ended it.
    """
    deadline = time.monotonic() + seconds
    for study in studies:
        left = deadline - time.monotonic()
        if left < 1:
            click.echo(f"The time is spent: {study} and what follows it wait for the next call.")
            return
        limit = [] if left == float("inf") else ["--max-time", f"{left:.0f}s"]
        command = [*ABLATE, "run", study, "--seeds", seeds_by_study[study], *run_options, *limit]
        code = subprocess.run(command, check=False).returncode
        if code < 0 or code >= INTERRUPTED:
            raise SystemExit(code)
        if code not in (0, STOPPED_AT_BUDGET):
            click.echo(f"{study} ended with exit code {code}; its record tells why.", err=True)


def publish_results(studies: tuple[str, ...], protocol: str, runs: Path, archives: Path, pages: Path) -> None:
    """Export every study that is recorded, and write its page and the index."""
    archives.mkdir(parents=True, exist_ok=True)
    for study in studies:
        try:
            comparison = reports.load(study, protocol, runs=runs).comparison
        except TrackingError:
            continue  # no seed of it fitted yet
        archive = archives / f"{study}-{protocol}.zip"
        names = [study, "--protocol", protocol, "--runs", f"{runs}", "-o", f"{archive}"]
        subprocess.run([*ABLATE, "export", *names], check=True)
        click.echo(results.write_page(comparison, pages))
    click.echo(results.write_index(pages))


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--protocol", default="cifar10", show_default=True, help="Conditions that all studies share.")
@click.option("--study", "studies", multiple=True, help=f"Study to run; repeatable.  [default: {', '.join(STUDIES)}]")
@click.option("--seeds", default="", help="Seeds of every study.  [default: as many as `ablate plan` asks for]")
@click.option(
    "--spread",
    type=click.FloatRange(min=0, min_open=True),
    default=EXPECTED_SPREAD,
    show_default=True,
    help="SD of a paired difference that the seeds are planned for, points.",
)
@click.option("--max-time", type=DurationParam(), help="Time for all studies together, such as 12m or 3h.")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Runs folder.")
@click.option("--archives", type=click.Path(path_type=Path), help="Folder of the archives.  [default: RUNS/evidence]")
@click.option("--pages", type=click.Path(path_type=Path), default=results.RESULTS, help="Folder of the pages.")
@click.argument("run_options", nargs=-1, type=click.UNPROCESSED)
def main(
    protocol: str,
    studies: tuple[str, ...],
    seeds: str,
    spread: float,
    max_time: float | None,
    runs: Path,
    archives: Path | None,
    pages: Path,
    run_options: tuple[str, ...],
) -> None:
    """Run the papers' studies in pieces, and write docs/results/ from their records."""
    studies = studies or STUDIES
    archives = archives or runs / "evidence"
    import_archives(archives, runs)
    seeds_by_study = {study: seeds or f"{planned_seeds(study, protocol, spread, runs)}" for study in studies}
    click.echo("seeds: " + ", ".join(f"{study} {number}" for study, number in seeds_by_study.items()))
    options = ["--protocol", protocol, "--runs", f"{runs}", *run_options]
    try:
        run_pieces(studies, options, seeds_by_study, float("inf") if max_time is None else max_time)
    finally:
        publish_results(studies, protocol, runs, archives, pages)


if __name__ == "__main__":
    main()
