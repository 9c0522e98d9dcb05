"""Columns of a table of results: which hold arms, seeds and the metric, and the cells in them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pandas as pd

from lightning_modules.specs.errors import InvalidValue
from lightning_modules.specs.text import join_words

MAX_LISTED = 5  # rows or names that a message lists
ARM_COLUMNS = ("arm", "variant", "config", "configuration", "condition", "treatment", "model", "method", "system")
SEED_COLUMNS = ("seed", "random_seed", "rng_seed", "replicate", "repetition", "repeat", "trial", "fold")
SUMMARY_COLUMNS = ("n", "std", "sd", "stdev", "stddev", "stderr", "sem", "se", "count", "num_seeds", "ci", "ci95")
# Words of a metric's name that tell which direction is better.
RISING_WORDS = frozenset(
    (
        "acc", "accuracy", "auc", "auroc", "f1", "iou", "miou", "map", "ap", "precision", "recall", "score",
        "bleu", "rouge", "r2", "psnr", "ssim", "dice", "reward", "return", "throughput",
    )
)  # fmt: skip
FALLING_WORDS = frozenset(
    (
        "err", "error", "loss", "nll", "time", "seconds", "latency", "memory", "perplexity", "ppl", "rmse", "mse",
        "mae", "wer", "cer", "fid", "flops", "brier", "ece",
    )
)  # fmt: skip
# Of both, those of shares: values up to 1 are fractions, and may be meant in percent.
RATE_WORDS = frozenset(
    (
        "acc", "accuracy", "auc", "auroc", "f1", "iou", "miou", "map", "ap", "precision", "recall", "dice",
        "err", "error", "wer", "cer",
    )
)  # fmt: skip
# Words that tell of a value chosen or averaged within a run, with what that does to a comparison.
SELECTION_WORDS = {
    "best": "the best of several values of one run flatters arms that vary more",
    "max": "the largest of several values of one run flatters arms that vary more",
    "min": "the least of several values of one run flatters arms that vary more",
    "ema": "an average over training steps hides the noise of a single step",
    "mean": "if each row is an average over seeds, its noise is not that of a seed",
    "avg": "if each row is an average over seeds, its noise is not that of a seed",
    "average": "if each row is an average over seeds, its noise is not that of a seed",
}

LARGEST_VALUE = 1e150  # the squares of larger ones overflow
EXTREME_WORDS = frozenset(("best", "max", "min"))


class ResultsError(InvalidValue):
    """Results that cannot be judged: what was found, and what was expected."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Names of the columns that hold arms, seeds and the metric; empty to find them by their usual names."""

    arm: str = ""
    seed: str = ""
    metric: str = ""


# -- Columns -----------------------------------------------------------------------------------------------------------


def find_columns(frame: pd.DataFrame, columns: Columns) -> tuple[str, str, str]:
    """Names of the columns of arms, seeds and the metric, as given or by their usual names."""
    names = [str(name) for name in frame.columns]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ResultsError(f"The column {repeated[0]!r} is there twice; expected every name once.")
    summary = [name for name in names if _words(name) and _words(name)[-1] in SUMMARY_COLUMNS]
    if summary and not columns.metric:
        raise ResultsError(
            f"The columns {', '.join(summary)} tell of averages over seeds; expected one row per arm and seed. "
            "If they are something else, name the metric with --metric."
        )
    hint = _describe_wide_table(frame)
    arm = _find_column(names, columns.arm, ARM_COLUMNS, "arm", hint)
    seed = _find_column(names, columns.seed, SEED_COLUMNS, "seed", hint)
    if arm == seed:
        raise ResultsError(f"The column {arm!r} cannot hold both arms and seeds; name another with --seed-column.")
    if columns.metric:
        return arm, seed, _find_column(names, columns.metric, (), "metric")
    others = [name for name in names if name not in (arm, seed)]
    # Numbers may be written as "91.2%" or "91,2". A single column without a value is told by whoever reads it.
    numeric = [name for name in others if _is_numeric(frame[name])]
    numeric = numeric or [name for name in others if _looks_numeric(frame[name])]
    numeric = numeric or (others if len(others) == 1 else [])
    if len(numeric) != 1:
        found = f"found {', '.join(numeric)}" if numeric else f"the columns are {', '.join(names)}"
        raise ResultsError(f"Name the column of the metric with --metric: {found}.")
    return arm, seed, numeric[0]


def _describe_wide_table(frame: pd.DataFrame) -> str:
    """What to do with a table that has a column per seed or per arm; empty where it can be none."""
    usual_names = (*ARM_COLUMNS, *SEED_COLUMNS)
    values = [name for name in frame.columns if str(name).lower() not in usual_names and _looks_numeric(frame[name])]
    # Columns of seeds are numbered; others are arms where there is a column of seeds, and no other text.
    are_numbered = all(re.search(r"\d", str(name)) for name in values)
    are_arms = len(values) == len(frame.columns) - 1 and any(
        str(name).lower() in SEED_COLUMNS for name in frame.columns
    )
    if len(values) < 2 or not (are_numbered or are_arms):
        return ""
    return (
        f" If {values[0]}, {values[1]} and so on are one arm or one seed each, first write a row per arm and seed: "
        "pandas.DataFrame.melt does that."
    )


def _find_column(names: Sequence[str], given: str, usual: Sequence[str], what: str, hint: str = "") -> str:
    if given:
        if given not in names:
            raise ResultsError(f"There is no column {given!r} for the {what}; the columns are {', '.join(names)}.")
        return given
    by_lower_name = {name.lower(): name for name in reversed(names)}
    for name in usual:
        if name in by_lower_name:
            return by_lower_name[name]
    # Without seeds rows cannot be paired, and row numbers would pair runs that share nothing.
    raise ResultsError(
        f"No column bears a usual name for the {what} ({', '.join(usual[:4])}, …); name it with --{what}-column. "
        f"The columns are {', '.join(names)}.{hint}"
    )


def _words(name: str) -> list[str]:
    """Words of a column's name in lower case: ``val/bestAcc_top1`` gives val, best, acc, top1."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", " ", name)
    return re.findall(r"[a-z0-9]+", spaced.lower())


# -- Cells -------------------------------------------------------------------------------------------------------------


def read_names(column: pd.Series, name: str) -> list[str]:
    """Read arms or seeds: texts without surrounding white space, whole numbers without decimals."""
    missing = [str(position + 1) for position, is_missing in enumerate(column.isna()) if is_missing]
    if missing:
        rows = join_words(missing, max_words=MAX_LISTED)
        raise ResultsError(f"The column {name!r} is empty in row {rows}; expected a name in every row.")
    return [_name_text(value) for value in column]


def _name_text(value: object) -> str:
    # A column of whole numbers with a gap elsewhere is read as floats: 3.0 is seed 3.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return " ".join(str(value).split())


def _is_numeric(column: pd.Series) -> bool:
    """Whether all cells of a column are plain numbers, of which there is one or more."""
    cells = column.dropna()
    if cells.empty or pd.api.types.is_bool_dtype(cells):
        return False
    return bool(pd.to_numeric(cells, errors="coerce").notna().all())


def _looks_numeric(column: pd.Series) -> bool:
    """Whether most cells are numbers: a word in one of them is a fault of that cell."""
    cells = list(column.dropna())
    return sum(_parse_number(cell) is not None for cell in cells) > len(cells) / 2


def read_numbers(column: pd.Series, name: str, cautions: list[str]) -> list[float]:
    """Read the metric, NaN where a cell is empty; percent signs and decimal commas are understood."""
    values: list[float] = []
    decimal_commas, percent_signs = 0, 0
    for position, cell in enumerate(column):
        number = math.nan if _is_missing(cell) else _parse_number(cell)
        if number is None:
            raise ResultsError(f"{name} is {cell!r} in row {position + 1}; expected a number.")
        if math.isfinite(number) and abs(number) > LARGEST_VALUE:
            raise ResultsError(f"{name} is {cell!r} in row {position + 1}; expected at most {LARGEST_VALUE:g}.")
        values.append(number)
        decimal_commas += isinstance(cell, str) and "," in cell
        percent_signs += isinstance(cell, str) and "%" in cell
    if decimal_commas:
        _require_decimal_commas(column, name)
        cautions.append(f"Commas in {name} were read as decimal points.")
    if percent_signs not in (0, sum(math.isfinite(value) for value in values)):
        raise ResultsError(f"{name} has a percent sign in {percent_signs} of {len(values)} rows; expected all or none.")
    return values


def _require_decimal_commas(column: pd.Series, name: str) -> None:
    """Refuse commas that may separate thousands: ``1,012`` in a file whose cells are separated by commas, or by 987.

    Where a semicolon separates the cells, the comma is a decimal one.
    """
    with_comma = [cell for cell in column if isinstance(cell, str) and "," in cell]
    whole = [cell for cell in column if isinstance(cell, str) and re.fullmatch(r"\s*[-−]?\d+\s*", cell)]
    may_be_thousands = all(re.fullmatch(r"\s*[-−]?[1-9]\d{0,2},\d{3}\s*", cell) for cell in with_comma)
    if may_be_thousands and (column.attrs.get("delimiter") == "," or whole):
        number = with_comma[0].strip()
        raise ResultsError(
            f"{name} is {number!r} in a row: {number.replace(',', '')} or {number.replace(',', '.')}? Write it without "
            "a comma."
        )


def is_rate_name(name: str) -> bool:
    """Whether a metric is a share of something by its name, so that values up to 1 are fractions."""
    return not RATE_WORDS.isdisjoint(_words(name))


def is_percentage(column: pd.Series, name: str) -> bool:
    """Whether a column's name or cells have a percent sign."""
    return "%" in name or any(isinstance(cell, str) and "%" in cell for cell in column)


def _is_missing(cell: object) -> bool:
    return cell is None or cell is pd.NA or (isinstance(cell, str) and cell.strip().lower() in ("", "nan", "na", "n/a"))


def _parse_number(cell: object) -> float | None:
    """Read a number: ``91.2``, ``"91.2%"``, ``"91,2"``; ``None`` where it is none, as of ``"1,234.5"``."""
    if isinstance(cell, bool | np.bool_):
        return None
    if isinstance(cell, int | float | np.integer | np.floating | Decimal):
        return float(cell)
    if not isinstance(cell, str):
        return None
    text = cell.strip().removesuffix("%").strip().replace("−", "-")
    if text.count(",") == 1 and "." not in text:
        text = text.replace(",", ".")
    try:
        return float(text) if "_" not in text else None
    except ValueError:
        return None


def decide_direction(name: str, given: bool | None, cautions: list[str]) -> bool:
    """Whether a higher value is better, as given, else by the words of the metric's name."""
    words = _words(name)
    rises, falls = bool(RISING_WORDS.intersection(words)), bool(FALLING_WORDS.intersection(words))
    guess = rises if rises != falls else None
    if given is None:
        if guess is None:
            raise ResultsError(
                f"Is a higher {name} better? Its name does not tell: give --higher-is-better or --lower-is-better."
            )
        cautions.append(f"Taken by its name: {'a higher' if guess else 'a lower'} {name} is better.")
        return guess
    if guess is not None and guess != given:
        cautions.append(
            f"As asked, {'a higher' if given else 'a lower'} {name} is better, although its name says otherwise."
        )
    return given


def is_best_test_value(name: str) -> bool:
    """Whether a metric's name says that it is the best of several test values of each run."""
    words = set(_words(name))
    return "test" in words and bool(words & EXTREME_WORDS)


def describe_metric_name(name: str) -> Iterable[str]:
    """Describe what the name of a metric says about how its values were chosen."""
    for word in _words(name):
        if word in SELECTION_WORDS:
            yield f"The metric is named {name}: {SELECTION_WORDS[word]}."
