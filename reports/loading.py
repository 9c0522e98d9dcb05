"""A study's report for a notebook: read from the record, compared, shown or written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reports import markdown
from reports.comparison import Comparison, compare
from reports.compile import write
from reports.figures import figures
from studies.protocols import DEFAULT
from studies.records import StudyRecord
from studies.settings import Settings
from studies.tracking import Store


@dataclass(frozen=True)
class Report:
    """A study as recorded, and what may be said of it."""

    record: StudyRecord
    comparison: Comparison

    def frame(self) -> pd.DataFrame:
        """One row per trial: arm, seed, state, final metrics and cost."""
        rows = [
            {"arm": trial.arm, "seed": trial.seed, "state": trial.state}
            | (dict(trial.result.metrics) | dict(trial.result.cost) if trial.result else {})
            for trial in self.record.trials
        ]
        return pd.DataFrame(rows)

    def markdown(self) -> str:
        """The whole report as Markdown."""
        return markdown.render(self.comparison, figures(self.comparison))

    def write(self, folder: str | Path) -> Path:
        """Write page, Markdown, LaTeX, CSV, Parquet and figures into a folder; returns the page's path."""
        return write(self.record, Path(folder))

    def _repr_markdown_(self) -> str:
        return self.markdown()


def load(
    name: str, protocol: str = DEFAULT, *, runs: str | Path | None = None, tracking_uri: str | None = None
) -> Report:
    """The report of the study of that name that was started last under a protocol.

    Raises:
        TrackingError: where the store does not answer, or holds no such study.
    """
    record = Store(Settings.of(runs, None, tracking_uri), create=False).read(name, protocol)
    return Report(record, compare(record))
