"""Results of other trainers as a data frame: CSV, Parquet, JSON lines, or an MLflow experiment."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections import Counter
from pathlib import Path

import pandas as pd

from reports.external.results_columns import ResultsError
from studies.settings import Settings
from studies.tracking.store import open_store
from studies.tracking.study_index import read_foreign_runs

MLFLOW_PREFIX = "mlflow:"
MAX_ROWS = 1_000_000  # beyond, the file is no table with one row per trained network
MAX_BYTES = 2**30
DELIMITERS = ",;\t"
NUM_SAMPLED_LINES = 20
SEPARATOR_LINE = re.compile(r'"?sep=([,;\t])"?[ ]*\n', re.IGNORECASE)  # of Excel, before the header
SPREADSHEET_SUFFIXES = (".xlsx", ".xlsm", ".xls", ".ods", ".numbers")


def read_results(source: str, settings: Settings | None = None) -> pd.DataFrame:
    """Read a table of results with one row per trained network.

    Args:
        source: a file (``.csv``, ``.tsv``, ``.parquet``, ``.jsonl`` or ``.json``), or ``mlflow:EXPERIMENT``.
        settings: which MLflow store to read an experiment from; ``None`` for those of the environment.

    Raises:
        ResultsError: the file is not there, cannot be read, or is empty.
        TrackingError: MLflow does not answer, or has no such experiment or no runs in it.
    """
    if source.startswith(MLFLOW_PREFIX):
        store = open_store(settings or Settings.from_environment(), create=False)
        return pd.DataFrame(read_foreign_runs(store.reader.runs, source.removeprefix(MLFLOW_PREFIX)))
    path = Path(source)
    if not path.is_file():
        raise ResultsError(f"{source} is not there; expected a file of results, or {MLFLOW_PREFIX}EXPERIMENT.")
    if path.stat().st_size > MAX_BYTES:
        raise ResultsError(f"{source} is larger than 1 GiB; expected one row per trained network.")
    try:
        frame = _read_file(path)
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
    if suffix in SPREADSHEET_SUFFIXES:
        raise ValueError("it is a spreadsheet; save the sheet as CSV UTF-8")
    text = _decode_text(path.read_bytes())
    if suffix in (".jsonl", ".ndjson"):
        return _rows_to_frame([json.loads(line) for line in text.splitlines() if line.strip()])
    if suffix == ".json":
        return _rows_to_frame(json.loads(text))
    separator_line = SEPARATOR_LINE.match(text)
    if separator_line:
        text = text[separator_line.end() :]
    delimiter = separator_line[1] if separator_line else _find_delimiter(text)
    header, *rows = _read_cells(text, delimiter)
    # Cells stay texts, because an arm named 1.10 is not 1.1; only the empty cell is missing to start with, because an
    # arm may be named "None" or "NA".
    repeated = [name for name, count in Counter(header).items() if name and count > 1]
    if repeated:
        raise ValueError(f"several columns are named {repeated[0]!r}")
    frame = pd.DataFrame(rows, columns=header, dtype=object).replace({"": None})
    frame = frame.drop(columns="", errors="ignore")  # row numbers, as pandas writes them
    frame.attrs["delimiter"] = delimiter
    return frame


def _decode_text(content: bytes) -> str:
    """Decode UTF-8, or UTF-16 where a byte order mark says so.

    Raises:
        ValueError: for any other encoding.
    """
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        name = "UTF-16" if is_utf16 else "UTF-8"
        raise ValueError(f"byte {error.start + 1} is no {name}; save it as CSV UTF-8") from error
    if "\0" in text:
        raise ValueError("it is no text, or in an encoding other than UTF-8; save it as CSV UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _read_cells(text: str, delimiter: str) -> list[list[str]]:
    """The header and the rows, of as many cells as the header has.

    Raises:
        ValueError: where a row has more cells, or there is none.
    """
    header: list[str] = []
    rows: list[list[str]] = []
    for row in csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True):
        cells = [cell.strip() for cell in row]
        if not any(cells):  # an empty line
            continue
        header = header or cells
        if any(cells[len(header) :]):
            raise ValueError(f"row {len(rows)} has {len(cells)} cells, and the header has {len(header)}")
        rows.append(cells[: len(header)] + [""] * (len(header) - len(cells)))
    if not rows:
        raise ValueError("the file is empty")
    return rows


def _rows_to_frame(rows: object) -> pd.DataFrame:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("expected objects with a value by column, one per row")
    return pd.DataFrame(rows)


def _find_delimiter(text: str) -> str:
    """The delimiter of a table: the one that cuts its first rows into the most cells, as many in each as in the header.

    Where none does, it is the one that gives the header the most cells.
    """
    lines = [line for line in text.split("\n", NUM_SAMPLED_LINES)[:NUM_SAMPLED_LINES] if line.strip()]

    def rank(delimiter: str) -> tuple[int, int]:
        rows = [row for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True) if any(row)]
        width = len(rows[0]) if rows else 0
        are_equal = all(len(row) >= width and not any(row[width:]) for row in rows)  # empty cells may follow
        return width if are_equal and width > 1 else 0, width

    return max(DELIMITERS, key=rank)  # the first one where all give a single cell
