"""From a record to the files of its report: the same record gives the same bytes, and nobody sees half a report."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from reports import csv_tables, latex, markdown, page
from reports.comparison import Comparison, compare
from reports.drawing import Figure
from reports.figures import figures
from studies.records import StudyRecord

PAGE = "index.html"


def write(record: StudyRecord, folder: Path) -> Path:
    """Write the report into a folder, replacing what was there; returns the page's path."""
    replace_folder(folder, files(record))
    return folder / PAGE


def files(record: StudyRecord) -> dict[str, bytes]:
    """Every file of the report by its path below the report's folder."""
    comparison = compare(record)
    drawn = figures(comparison)
    texts = {PAGE: page.render(comparison, drawn)} | documents(comparison, drawn)
    pictures = {
        f"figures/{panel.name}.{form}": data
        for figure in drawn
        for panel in figure.panels
        for form, data in (("svg", panel.svg), ("pdf", panel.pdf))
    }
    trials = {"trials.parquet": csv_tables.trials_parquet(comparison)}
    return {name: text.encode() for name, text in texts.items()} | trials | pictures


def documents(comparison: Comparison, drawn: Sequence[Figure]) -> dict[str, str]:
    """The report as Markdown, LaTeX and CSV; they name the figures' files, and draw none."""
    effects = {"effects.csv": csv_tables.effects_table(comparison)} if comparison.effects else {}
    tuning = {"tuning.csv": csv_tables.tuning_table(comparison)} if comparison.tuned else {}
    return {
        "report.md": markdown.render(comparison, drawn),
        "report.tex": latex.render(comparison, drawn),
        "arms.tex": latex.results(comparison),
        "arms.csv": csv_tables.arms_table(comparison),
        "trials.csv": csv_tables.trials_table(comparison),
        **effects,
        **tuning,
    }


def replace_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Make a folder hold exactly these files: written beside it first, then put in its place."""
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, data in contents.items():
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        new.chmod(0o755)
        _swap(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _swap(new: Path, folder: Path) -> None:
    if not folder.exists():
        new.replace(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
    folder.replace(old)
    try:
        new.replace(folder)
    except OSError:
        old.replace(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
