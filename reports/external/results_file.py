"""Results of other trainers as a data frame: CSV, Parquet, JSON lines, or an MLflow experiment."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from reports.external.results_columns import ResultsError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

MLFLOW_PREFIX = "mlflow:"
MAX_ROWS = 1_000_000  # beyond, the file is no table with one row per trained network
MAX_BYTES = 2**30
DELIMITERS = ",;\t"
PARENT_TAG = "mlflow.parentRunId"


def read_results(source: str, *, tracking_uri: str | None = None) -> pd.DataFrame:
    """Read a table of results with one row per trained network.

    Args:
        source: a file (``.csv``, ``.tsv``, ``.parquet``, ``.jsonl`` or ``.json``), or ``mlflow:EXPERIMENT``.
        tracking_uri: MLflow's store; ``None`` for that of its own variables.

    Raises:
        ResultsError: the file or the experiment is not there, cannot be read, or is empty.
    """
    if source.startswith(MLFLOW_PREFIX):
        return read_mlflow_runs(source.removeprefix(MLFLOW_PREFIX), tracking_uri=tracking_uri)
    path = Path(source)
    if not path.is_file():
        raise ResultsError(f"{source} is not there; expected a file of results, or {MLFLOW_PREFIX}EXPERIMENT.")
    if path.stat().st_size > MAX_BYTES:
        raise ResultsError(f"{source} is larger than 1 GiB; expected one row per trained network.")
    try:
        frame = _read_file(path)
    except ResultsError:
        raise
    except Exception as error:  # pandas and pyarrow raise many kinds; all mean that the file is not readable
        reason = " ".join(str(error).split())[:200]
        raise ResultsError(f"{source} cannot be read as {path.suffix.lower() or 'CSV'}: {reason}") from error
    if len(frame) > MAX_ROWS:
        raise ResultsError(f"{source} has {len(frame):,} rows; expected at most {MAX_ROWS:,}.")
    if frame.empty:
        raise ResultsError(f"{source} has no rows; expected one per arm and seed.")
    return frame


def _read_file(path: Path) -> pd.DataFrame:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return pd.read_parquet(path)
    if suffix in (".jsonl", ".ndjson"):
        return pd.read_json(path, lines=True, convert_dates=False, dtype=False)
    if suffix == ".json":
        return pd.read_json(path, orient="records", convert_dates=False, dtype=False)
    text = path.read_text(encoding="utf-8-sig")
    delimiter = _find_delimiter(text)
    # Only the empty cell is missing to start with: an arm may be named "None" or "NA".
    frame = pd.read_csv(
        io.StringIO(text), sep=delimiter, keep_default_na=False, na_values=[""], dtype=str, skipinitialspace=True
    )
    frame.columns = [str(name).strip() for name in frame.columns]
    for name in frame.columns:
        numbers = pd.to_numeric(frame[name], errors="coerce")
        if numbers.notna().sum() == frame[name].notna().sum():
            frame[name] = numbers
    return frame


def _find_delimiter(text: str) -> str:
    """The delimiter of a table, which is in its first line: a semicolon where decimals have commas."""
    first_line = text.split("\n", 1)[0]
    try:
        return csv.Sniffer().sniff(first_line, delimiters=DELIMITERS).delimiter
    except csv.Error:
        return ","


def read_mlflow_runs(experiment: str, *, tracking_uri: str | None = None) -> pd.DataFrame:
    """Read the runs of an MLflow experiment: one row per run, columns by the names of metrics, parameters and tags.

    A run that has not finished keeps its row, and is a result without a value where it has no metric.

    Raises:
        ResultsError: the store does not answer, or has no such experiment or no runs.
    """
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=tracking_uri)
    try:
        found = client.get_experiment_by_name(experiment)
        if found is None:
            names = sorted(item.name for item in client.search_experiments(max_results=20))
            raise ResultsError(f"There is no experiment {experiment!r} in MLflow; there are {', '.join(names)}.")
        runs = _search_runs(client, found.experiment_id)
    except mlflow.exceptions.MlflowException as error:
        raise ResultsError(f"MLflow does not answer at {tracking_uri or mlflow.get_tracking_uri()}: {error}") from error
    # A run with runs below it collects them: it trained no network.
    parents = {run.data.tags.get(PARENT_TAG, "") for run in runs}
    rows: list[dict[str, object]] = []
    for run in runs:
        if run.info.run_id not in parents:
            # A name that is both a metric and a parameter means the metric; MLflow's own tags are no results.
            tags = {name: value for name, value in run.data.tags.items() if not name.startswith("mlflow.")}
            rows.append({**tags, **run.data.params, **run.data.metrics})
    if not rows:
        raise ResultsError(f"The experiment {experiment!r} has no runs.")
    return pd.DataFrame(rows)


def _search_runs(client: MlflowClient, experiment_id: str) -> list[Run]:
    runs: list[Run] = []
    page_token: str | None = None
    while True:
        page = client.search_runs([experiment_id], max_results=1000, page_token=page_token)
        runs += page
        page_token = page.token
        if not page_token:
            return runs
