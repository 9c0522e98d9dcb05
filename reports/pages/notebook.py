"""Notebook API: a recorded study as verdicts, data frames and figures; results of other trainers likewise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from ablations import Claim, ablation_name
from lightning_modules.specs.notebook_html import render_line, render_list, render_table, render_view
from reports.comparison.comparison import Comparison, compare_arms
from reports.content.report import VERDICT_SYMBOLS, describe_run
from reports.content.results import results_table
from reports.document import Table, text_with_mark
from reports.external.judgement import Judgement
from reports.external.judgement import judge as judge_frame
from reports.external.results_columns import Columns
from reports.external.results_file import read_results
from reports.external.results_table import Unit
from reports.figures.notebook import NotebookFigure, draw_figure
from reports.figures.page_figures.judgement import judgement_figure
from reports.figures.study import report_figures
from reports.figures.style import Figure
from reports.pages.judgement import arms_table, judgement_title, summarize_judgement, verdict_sentence, write_judgement
from reports.pages.study import PAGE_FILE, compare_recorded, report_files, write_into
from reports.renderers import frames, markdown
from studies.protocols import DEFAULT_PROTOCOL
from studies.records.study_record import StudyRecord
from studies.settings import Settings
from studies.storage.copies.archive import is_archive_name, read_archived_record
from studies.tracking.store import open_store

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Report:
    """A study as recorded, and its comparison; a notebook shows verdicts, arms and the figure of every seed.

    Data frames name the units of their columns in ``frame.attrs["units"]``.
    """

    record: StudyRecord
    comparison: Comparison

    def verdicts(self) -> pd.DataFrame:
        """One row per registered claim: the claim, its verdict, what was found, and the bounds that decided."""
        return frames.verdicts_frame(self.comparison)

    def arms(self) -> pd.DataFrame:
        """One row per arm, the baseline first: test error (percent) with its interval, outcomes, network and cost."""
        return frames.arms_frame(self.comparison)

    def differences(self) -> pd.DataFrame:
        """One row per difference of two arms (percentage points), with its simultaneous interval.

        Positive where ``arm`` has the lower test error than ``over``.
        """
        return frames.differences_frame(self.comparison)

    def trials(self) -> pd.DataFrame:
        """One row per trial: arm, seed, state, final errors (percent) and losses (nats), cost, digests, run."""
        return frames.trials_frame(self.comparison)

    def curves(self, *, layers: bool = False) -> pd.DataFrame:
        """One row per trial and epoch, epochs from 1: losses, errors, learning rate, gradient norm, seconds.

        Args:
            layers: whether to add the gradient norm of every layer, as ``gradient_norm/<layer>``.
        """
        return frames.curves_frame(self.comparison, layers=layers)

    def plot(self, name: str = "seeds") -> NotebookFigure:
        """Draw a figure of the report as a matplotlib figure.

        Args:
            name: of a figure (``seeds``, ``learning``, ``costs``), or of one of its panels (``differences``);
                :attr:`plots` lists what there is.

        Raises:
            InvalidValue: for a figure that the report does not have; the text lists those that it has.
        """
        return draw_figure(self._figures, name)

    @property
    def plots(self) -> tuple[str, ...]:
        """Names of the figures, each followed by those of its panels."""
        names = []
        for figure in self._figures:
            names += [figure.name, *(panel.name for panel in figure.panels)]
        # A figure of one panel shares its name with it.
        return tuple(dict.fromkeys(names))

    def markdown(self) -> str:
        """The whole report as Markdown."""
        return markdown.render_report(self.comparison, self._figures)

    def write(self, folder: str | Path) -> Path:
        """Write the whole report to a folder: HTML, Markdown, LaTeX, CSV, figures; returns the page's path.

        Raises:
            InvalidValue: where the folder holds anything but an earlier report.
        """
        write_into(Path(folder), report_files(self.comparison))
        return Path(folder) / PAGE_FILE

    # Drawn once: a report with forty arms takes seconds to draw, and a notebook shows it in many cells.
    @cached_property
    def _figures(self) -> tuple[Figure, ...]:
        return report_figures(self.comparison)

    def __repr__(self) -> str:
        registration = self.comparison.registration
        return f"<Report {registration.study} under {registration.protocol}: {self.comparison.answer}>"

    def _repr_html_(self) -> str:
        comparison = self.comparison
        registration = comparison.registration
        claims = []
        for claim in comparison.claims:
            claims.append(
                (f"{VERDICT_SYMBOLS[claim.word]}\u00a0{claim.word}", claim.explanation, "; ".join(claim.all_notes))
            )
        return render_view(
            f"{registration.study} under {registration.protocol}: {comparison.answer}",
            render_line(registration.question, quiet=True),
            render_list(comparison.cautions),
            render_table(("verdict", "finding", "notes"), claims),
            _render_table(results_table(comparison)),
            _render_figure(self._figures[:1]),
            render_line(f"Run {describe_run(comparison)}. report.write(folder) writes the whole report.", quiet=True),
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class JudgementReport(Judgement):
    """Verdicts on results that were measured elsewhere, with their figure and page."""

    def plot(self) -> NotebookFigure:
        """Draw all results by seed, and the differences, as a matplotlib figure."""
        return draw_figure((judgement_figure(self),), "results")

    def write(self, folder: str | Path) -> Path:
        """Write the report to a folder: HTML, Markdown, LaTeX, CSV, the figure; returns the page's path."""
        return write_judgement(self, Path(folder))

    def __repr__(self) -> str:
        return f"<JudgementReport {judgement_title(self)}: {summarize_judgement(self)}>"

    def _repr_html_(self) -> str:
        verdicts = []
        for verdict in self.verdicts:
            word = f"{VERDICT_SYMBOLS[verdict.word]}\u00a0{verdict.word}"
            verdicts.append((word, verdict_sentence(verdict), "; ".join(verdict.notes)))
        return render_view(
            f"{judgement_title(self)}: {summarize_judgement(self)}",
            render_list(self.table.cautions),
            render_table(("verdict", "finding", "notes"), verdicts),
            _render_table(arms_table(self)),
            _render_figure((judgement_figure(self),)),
            *(render_line(sentence, quiet=True) for sentence in self.sensitivity),
        )


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
        name: of an ablation, or the path of its file or of an archive.
        runs: the runs folder; by default that of ``ABLATE_RUNS``, or ``runs``.
        tracking_uri: the tracking store; by default that of ``MLFLOW_TRACKING_URI``, or the runs folder's own.
        run: id of another run of the study, or its first characters.

    Raises:
        TrackingError: the tracking store does not answer, or has no such study.
        SettingsError: the archive cannot be read, or is damaged.
    """
    if is_archive_name(name):
        archived = read_archived_record(Path(name))
        return Report(archived, compare_arms(archived))
    store = open_store(Settings.from_environment(runs, None, tracking_uri), create=False)
    record = store.reader.read_study(ablation_name(name), protocol, run)
    return Report(record, compare_recorded(record, store.reader))


def judge(
    results: pd.DataFrame | str | Path,
    *,
    baseline: str = "",
    claims: Sequence[str | Claim] = (),
    columns: Columns | None = None,
    higher_is_better: bool | None = None,
    smallest_effect: float = 0.0,
    unit: Unit = "",
    resolution: float | None = None,
    chosen_without_test: bool = False,
    source: str = "",
) -> JudgementReport:
    """Judge results that were measured elsewhere, by the functions that judge a study.

    Args:
        results: one row per arm and seed; or a file of such rows (CSV, TSV, Parquet, JSON), or ``mlflow:EXPERIMENT``.
        source: what to call the results in messages; the file's name by default.
        baseline, claims, columns, higher_is_better, smallest_effect, unit, resolution, chosen_without_test: see
            :func:`reports.external.judgement.judge`.

    Raises:
        ResultsError: the results cannot be read or judged; the text says what is missing, row by row.
    """
    is_file = isinstance(results, (str, Path))
    frame = read_results(str(results)) if isinstance(results, (str, Path)) else results
    judgement = judge_frame(
        frame,
        baseline=baseline,
        claims=claims,
        columns=columns,
        higher_is_better=higher_is_better,
        smallest_effect=smallest_effect,
        unit=unit,
        resolution=resolution,
        chosen_without_test=chosen_without_test,
        source=source or (Path(str(results)).name if is_file else "results"),
    )
    # The judgement's own functions know no notebook; the view is added to what they return.
    return JudgementReport(**{field.name: getattr(judgement, field.name) for field in fields(judgement)})


def _render_table(table: Table) -> str:
    header = [f"{column.title}, {column.unit}" if column.unit else column.title for column in table.columns]
    # Numbers are aligned to the right, as in the report.
    numbers = [index for index, column in enumerate(table.columns) if column.kind == "number"]
    rows = [[text_with_mark(cell) for cell in row] for row in table.rows]
    return render_table(header, rows, numbers) + "".join(render_line(note, quiet=True) for note in table.footnotes)


def _render_figure(figures: Sequence[Figure]) -> str:
    """Render the panels of a figure side by side; empty without a figure."""
    panels = [panel for figure in figures for panel in figure.panels]
    drawings = "".join(
        f'<div role="img" aria-label="{escape(panel.alternative)}">{panel.inline}</div>' for panel in panels
    )
    return f'<div class="panels">{drawings}</div>' if drawings else ""
