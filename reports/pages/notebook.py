"""Notebook API: read a recorded study, show its report or write it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reports.comparison.comparison import Comparison, compare_arms
from reports.figures.study import report_figures
from reports.pages.study import write_report
from reports.renderers import markdown
from studies.protocols import DEFAULT_PROTOCOL
from studies.records.study_record import StudyRecord
from studies.settings import Settings
from studies.storage.copies.archive import is_archive_name, read_archived_record
from studies.tracking.store import open_store


@dataclass(frozen=True)
class Report:
    """A study as recorded, and its comparison."""

    record: StudyRecord
    comparison: Comparison

    def frame(self) -> pd.DataFrame:
        """One row per trial: arm, seed, state, final metrics and cost."""
        rows: list[dict[str, object]] = []
        for trial in self.record.trials:
            row: dict[str, object] = {"arm": trial.arm, "seed": trial.seed, "state": trial.state}
            if trial.result:
                row |= dict(trial.result.metrics) | dict(trial.result.cost)
            rows.append(row)
        return pd.DataFrame(rows)

    def markdown(self) -> str:
        """The whole report as Markdown."""
        return markdown.render_report(self.comparison, report_figures(self.comparison))

    def write(self, folder: str | Path) -> Path:
        """Write the whole report to a folder; returns the page's path."""
        return write_report(self.record, Path(folder))

    def _repr_markdown_(self) -> str:
        return self.markdown()


def load(
    name: str,
    protocol: str = DEFAULT_PROTOCOL,
    *,
    runs: str | Path | None = None,
    tracking_uri: str | None = None,
    run: str | None = None,
) -> Report:
    """Load the report of a study under a protocol, or of an archive (``depth.zip``).

    Of several runs of a study, those of the runs folder come before those of others, those as declared before those
    with overridden settings, and the one started last before earlier ones. ``record.is_own`` tells whose it is.

    Args:
        run: id of another run of the study, or its first characters.

    Raises:
        TrackingError: the tracking store does not answer, or has no such study.
        SettingsError: the archive cannot be read, or is damaged.
    """
    if is_archive_name(name):
        archived = read_archived_record(Path(name))
        return Report(archived, compare_arms(archived))
    store = open_store(Settings.from_environment(runs, None, tracking_uri), create=False)
    record = store.reader.read_study(name, protocol, run)
    return Report(record, compare_arms(record))
