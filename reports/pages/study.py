"""Files of a study's report.

The same record gives the same bytes, and a folder is replaced as a whole.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_modules.file_lock import exclusive_lock
from lightning_modules.specs.errors import InvalidValue
from lightning_modules.specs.text import join_words
from reports.calibration.rare_failures import rare_failure_cautions
from reports.calibration.recorded_trainings import read_calibration
from reports.comparison.comparison import Comparison, compare_arms
from reports.figures.study import report_figures
from reports.figures.style import Figure
from reports.renderers import csv, html, latex, markdown
from studies.records.study_record import StudyRecord

if TYPE_CHECKING:
    from studies.tracking.reader import StudyReader

PAGE_FILE = "index.html"
MAX_OVERRIDES_LENGTH = 80  # characters of a folder's name


def write_report(comparison: Comparison, folder: Path) -> Path:
    """Write the report in place of a folder; returns the page's path."""
    replace_folder(folder, report_files(comparison))
    return folder / PAGE_FILE


def report_name(record: StudyRecord, *, by_id: bool = False) -> str:
    """Name of the folder of a study's report.

    A quick try with ``--set`` changes, another user's run and a run that was asked for by its id have folders of their
    own: none replaces the report of the study as declared.

    Args:
        by_id: whether the run was asked for by its id.
    """
    registration = record.registration
    name = f"{registration.study}-{registration.protocol}"
    if registration.overrides:
        overrides = ",".join(f"{path}={value}" for path, value in registration.overrides.items())
        readable = re.sub(r"[^\w.,=+-]", "_", overrides)
        if readable != overrides or len(readable) > MAX_OVERRIDES_LENGTH:
            readable = f"{readable[:MAX_OVERRIDES_LENGTH]}-{hashlib.sha256(overrides.encode()).hexdigest()[:8]}"
        name += f"-with-{readable}"
    return f"{name}-run-{record.run_id[:8]}" if by_id or not record.is_own else name


def compare_recorded(record: StudyRecord, reader: StudyReader) -> Comparison:
    """Compare the arms of a study, with the cautions that the trainings of its calibration give.

    Args:
        reader: of the tracking store, which may hold a calibration of the study.
    """
    registration = record.registration

    def read_record(name: str) -> StudyRecord:
        return reader.read_study(name, registration.protocol, None, registration.overrides)

    calibration = read_calibration(registration.study, registration.overrides, read_record)
    return compare_arms(record, rare_failure_cautions(record, calibration) if calibration else ())


def report_files(comparison: Comparison) -> dict[str, bytes]:
    """Every file of the report by its path below the report's folder."""
    figures = report_figures(comparison)
    texts = {PAGE_FILE: html.render_report(comparison, figures), **render_documents(comparison, figures)}
    contents = {name: text.encode() for name, text in texts.items()}
    contents["trials.parquet"] = csv.trials_parquet(comparison)
    return contents | figure_files(figures)


def figure_files(figures: Iterable[Figure]) -> dict[str, bytes]:
    """Every panel as SVG and PDF, by its path below the report's folder."""
    contents = {}
    for figure in figures:
        for panel in figure.panels:
            contents[f"figures/{panel.name}.svg"] = panel.svg
            contents[f"figures/{panel.name}.pdf"] = panel.pdf
    return contents


def render_documents(comparison: Comparison, figures: Sequence[Figure]) -> dict[str, str]:
    """Render the report as Markdown, LaTeX and CSV, without its figures."""
    documents = {
        "report.md": markdown.render_report(comparison, figures),
        "report.tex": latex.render_report(comparison, figures),
        "arms.tex": latex.render_results_table(comparison),
        "arms.csv": csv.arms_csv(comparison),
        "trials.csv": csv.trials_csv(comparison),
    }
    if comparison.factorial_analyses:
        documents["effects.csv"] = csv.effects_csv(comparison)
    if comparison.components:
        documents["components.csv"] = csv.components_csv(comparison)
    if comparison.tuned:
        documents["tuning.csv"] = csv.tuning_csv(comparison)
    return documents


def write_into(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write a report into a folder that a user named; it may hold an earlier report, and nothing else.

    Raises:
        InvalidValue: where anything else is in it, or it is the current folder or a parent of that.
    """
    own_names = {Path(name).parts[0] for name in contents}
    others = sorted(entry.name for entry in folder.iterdir() if entry.name not in own_names) if folder.exists() else []
    if others:
        raise InvalidValue(
            f"{folder} holds {join_words(others, max_words=3)}, which the report would replace; name a folder of its "
            "own."
        )
    if Path.cwd().is_relative_to(folder.resolve()):
        raise InvalidValue(f"{folder} is the current folder or contains it; name a folder of the report's own.")
    replace_folder(folder, contents)


def replace_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Replace a folder's contents by these files, all at once.

    A reader never sees a mixture of two reports.
    """
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    # In the same parent folder, because a rename is only possible within one file system.
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, data in contents.items():
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        new.chmod(0o755)  # mkdtemp lets only its user read
        with exclusive_lock(folder.with_name(f".{folder.name}.lock")):  # two processes may compile the same report
            _swap_folders(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _swap_folders(new: Path, folder: Path) -> None:
    if not folder.exists():
        new.replace(folder)
        return
    # A rename cannot replace a folder that has files, so the old one is moved out of the way first.
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
    folder.replace(old)
    try:
        new.replace(folder)
    except OSError:
        old.replace(folder)  # better the old report than none
        raise
    shutil.rmtree(old, ignore_errors=True)
