"""A table of results measured elsewhere: checked, and tabulated as arms x seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from ablations import Metric
from lightning_modules.specs.text import format_count, join_words
from reports.external.results_columns import (
    MAX_LISTED,
    Columns,
    ResultsError,
    decide_direction,
    describe_metric_name,
    find_columns,
    is_percentage,
    read_names,
    read_numbers,
)

Unit = Literal["", "percent", "fraction"]
UNIT_LIMITS: Mapping[Unit, float] = {"": math.inf, "percent": 100.0, "fraction": 1.0}
MAX_ARMS = 100  # beyond, the simultaneous critical value has no simulated check, and no page is readable
MAX_ROUNDED_DECIMALS = 6  # beyond, values were not rounded to be printed
DOUBLE_PRECISION, SINGLE_PRECISION = 1e-12, 2.0**-23  # relative

BASELINE_NAMES = ("baseline", "control", "reference", "vanilla")


@dataclass(frozen=True, kw_only=True, eq=False)
class ResultsTable:
    """Checked results of one metric.

    Attributes:
        source: file or experiment, as named by the user.
        arms: the baseline first.
        seeds: as written.
        values: arms x seeds, in the unit given; NaN where there is no finite value.
        lost: arms x seeds; true where a row has no finite value, as of a run that diverged or failed.
        resolution: step to which all values are rounded, or as given; 0 where they are not.
        cautions: what a reader must know of the data.
    """

    source: str
    metric: Metric
    unit: Unit
    arms: tuple[str, ...]
    seeds: tuple[str, ...]
    values: npt.NDArray[np.float64]
    lost: npt.NDArray[np.bool_]
    resolution: float
    cautions: tuple[str, ...]

    @property
    def baseline(self) -> str:
        """Name of the first arm."""
        return self.arms[0]

    @property
    def falling_values(self) -> npt.NDArray[np.float64]:
        """The values with a sign by which the smaller one is better."""
        return -self.values if self.metric.higher_is_better else self.values

    @property
    def difference_unit(self) -> str:
        """Unit of a difference, as printed."""
        return "points" if self.unit == "percent" else ""

    @property
    def largest_difference(self) -> float:
        """Largest possible difference; infinite where the unit does not tell."""
        return UNIT_LIMITS[self.unit]


def tabulate_results(
    frame: pd.DataFrame,
    columns: Columns | None = None,
    *,
    baseline: str = "",
    higher_is_better: bool | None = None,
    unit: Unit = "",
    resolution: float | None = None,
    source: str = "results",
) -> ResultsTable:
    """Check a data frame with one row per arm and seed, and tabulate its metric.

    Args:
        frame: any row order; other columns are ignored.
        columns: names of its columns.
        baseline: the arm that others are compared with; empty to take one named ``baseline``, ``control`` and so on, or
            the first row's.
        higher_is_better: ``None`` to decide by the metric's name.
        unit: label of the values; nothing is scaled. Empty to take values with percent signs as percentages.
        resolution: smallest step between two values; ``None`` for the rounding of the values.
        source: what to call the results in messages.

    Raises:
        ResultsError: a column is missing or ambiguous, a cell is no number, an arm and seed is repeated, no seed is
            shared, or the direction of the metric is unknown.
    """
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)  # a copy: the caller's keeps its names
    arm_column, seed_column, metric_column = find_columns(frame, columns or Columns())
    cautions: list[str] = []
    rows = pd.DataFrame(
        {
            "arm": read_names(frame[arm_column], arm_column),
            "seed": read_names(frame[seed_column], seed_column),
            "value": read_numbers(frame[metric_column], metric_column, cautions),
        }
    )
    if rows.empty:
        raise ResultsError(f"{source} has no rows; expected one per arm and seed.")
    rows = _drop_repeated_rows(rows, cautions)
    arms = _order_arms(list(dict.fromkeys(rows["arm"])), baseline)
    seeds = _sort_seeds(dict.fromkeys(rows["seed"]))
    values, lost = _tabulate_values(rows, arms, seeds)
    _check_shared_seeds(arms, values)
    metric = Metric(name=metric_column, higher_is_better=decide_direction(metric_column, higher_is_better, cautions))
    unit = _decide_unit(unit, frame[metric_column], metric_column, values, cautions)
    step = _rounding_step(values) if resolution is None else resolution
    cautions += _describe_data(arms, seeds, values, lost)
    cautions += describe_metric_name(metric_column)
    cautions += _describe_noise_limits(seed_column, values, step, is_given=resolution is not None)
    return ResultsTable(
        source=source,
        metric=metric,
        unit=unit,
        arms=arms,
        seeds=seeds,
        values=values,
        lost=lost,
        resolution=step,
        cautions=tuple(cautions),
    )


def _decide_unit(
    unit: Unit, column: pd.Series, name: str, values: npt.NDArray[np.float64], cautions: list[str]
) -> Unit:
    """Take a column written with percent signs as percentages, and refuse values that the unit cannot have."""
    if not unit and is_percentage(column, name) and not _exceeds_unit(values, "percent"):
        unit = "percent"
        cautions.append(f"Taken as percentages, as {name} is written with a percent sign.")
    _check_unit(values, unit)
    return unit


def _tabulate_values(
    rows: pd.DataFrame, arms: Sequence[str], seeds: Sequence[str]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """The values as arms x seeds, and where a row has no finite one."""
    values = np.full((len(arms), len(seeds)), np.nan)
    lost = np.zeros(values.shape, dtype=bool)
    row_index = {arm: row for row, arm in enumerate(arms)}
    column_index = {seed: column for column, seed in enumerate(seeds)}
    for arm, seed, value in rows.itertuples(index=False):
        cell = row_index[arm], column_index[seed]
        lost[cell] = not math.isfinite(value)
        values[cell] = value if math.isfinite(value) else math.nan
    return values, lost


def _describe_noise_limits(
    seed_column: str, values: npt.NDArray[np.float64], resolution: float, *, is_given: bool
) -> Iterable[str]:
    """Describe what makes intervals too narrow, or keeps them wide."""
    if seed_column.lower() == "fold":
        yield "Folds share training data, so their results are correlated: intervals over folds are too narrow."
    if resolution and np.nanstd(values) < 20 * resolution:
        origin = "As stated, the step between two values is" if is_given else "The values are rounded to"
        yield f"{origin} {resolution:g}: no interval is narrower than rounding makes it."


def _drop_repeated_rows(rows: pd.DataFrame, cautions: list[str]) -> pd.DataFrame:
    distinct = rows.drop_duplicates()
    repeated = distinct[distinct.duplicated(["arm", "seed"], keep=False)]
    if not repeated.empty:
        pairs = [
            f"{arm} with seed {seed}"
            for arm, seed in dict.fromkeys(zip(repeated["arm"], repeated["seed"], strict=True))
        ]
        raise ResultsError(
            f"Several values for {join_words(pairs, max_words=MAX_LISTED)}; expected one row per arm and seed: keep "
            "the one that was decided on before its value was known."
        )
    num_dropped = len(rows) - len(distinct)
    if num_dropped:
        cautions.append(
            f"{format_count(num_dropped, 'row')} repeated another and {'was' if num_dropped == 1 else 'were'} left out."
        )
    return distinct


# -- Arms and seeds ----------------------------------------------------------------------------------------------------


def _order_arms(arms: list[str], baseline: str) -> tuple[str, ...]:
    if len(arms) < 2:
        raise ResultsError(f"There is only one arm, {arms[0]!r}; expected two or more to compare.")
    if len(arms) > MAX_ARMS:
        raise ResultsError(
            f"There are {len(arms)} arms; expected at most {MAX_ARMS}. Is the column of arms the right one?"
        )
    if baseline and baseline not in arms:
        raise ResultsError(f"The baseline {baseline!r} is no arm; the arms are {join_words(arms, max_words=10)}.")
    usual = [arm for arm in arms if arm.lower() in BASELINE_NAMES]
    first = baseline or (usual[0] if usual else arms[0])
    return (first, *(arm for arm in arms if arm != first))


def _sort_seeds(seeds: Iterable[str]) -> tuple[str, ...]:
    """Sort numbers as numbers, before names."""
    return tuple(sorted(seeds, key=lambda seed: (not seed.isdecimal(), int(seed) if seed.isdecimal() else 0, seed)))


def _check_shared_seeds(arms: Sequence[str], values: npt.NDArray[np.float64]) -> None:
    finite = np.isfinite(values)
    if not finite.any():
        raise ResultsError("No row has a finite value.")
    has_pair = np.asarray((finite[:1] & finite[1:]).any(axis=1))
    alone = [arm for row, arm in enumerate(arms[1:]) if not has_pair[row]]
    if len(alone) == len(arms) - 1 and not (finite.sum(axis=0) > 1).any():
        raise ResultsError(
            "No seed has values of two arms, so nothing can be compared in pairs; expected every arm under the same "
            "seeds. Is the column of seeds the right one?"
        )


# -- The metric --------------------------------------------------------------------------------------------------------


def _check_unit(values: npt.NDArray[np.float64], unit: Unit) -> None:
    if _exceeds_unit(values, unit):
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        found = high if high > UNIT_LIMITS[unit] else low
        raise ResultsError(f"The unit is {unit}, but a value is {found:g}; expected 0 to {UNIT_LIMITS[unit]:g}.")


def _exceeds_unit(values: npt.NDArray[np.float64], unit: Unit) -> bool:
    return unit != "" and bool(np.nanmin(values) < 0 or np.nanmax(values) > UNIT_LIMITS[unit])


def _rounding_step(values: npt.NDArray[np.float64]) -> float:
    """Step to which all values are rounded: 0.01 for 91.23 and 90.1; 0 where they have more digits."""
    finite = values[np.isfinite(values)]
    largest = float(np.max(np.abs(finite)))
    for decimals in range(MAX_ROUNDED_DECIMALS + 1):
        rounded, step = np.round(finite, decimals), 10.0**-decimals
        if np.array_equal(rounded, finite):
            return step
        # Trackers export single precision with all its digits: 0.91 as 0.9100000262260437. A precision tells of
        # rounding only where it resolves the step: in single precision, 1e8 and 1e8 + 0.4 are one number.
        for precision in (DOUBLE_PRECISION, SINGLE_PRECISION):
            if precision * largest < step and np.allclose(rounded, finite, rtol=precision, atol=0):
                return step
    return 0.0


def _describe_data(
    arms: Sequence[str],
    seeds: Sequence[str],
    values: npt.NDArray[np.float64],
    lost: npt.NDArray[np.bool_],
) -> Iterable[str]:
    """Describe what is missing, lost or suspiciously equal, arm by arm."""
    for row, arm in enumerate(arms):
        is_absent = (np.isnan(values[row]) & ~lost[row]).tolist()
        absent = [seed for seed, is_missing in zip(seeds, is_absent, strict=True) if is_missing]
        if absent:
            names = join_words(absent, max_words=MAX_LISTED)
            yield f"{arm} has no row for {format_count(len(absent), 'seed')}: {names}."
        without_value = [seed for column, seed in enumerate(seeds) if lost[row, column]]
        if without_value:
            yield (
                f"{arm} has no finite value for {format_count(len(without_value), 'seed')} "
                f"({join_words(without_value, max_words=MAX_LISTED)}): taken as runs that did not train."
            )
        finite = values[row][np.isfinite(values[row])]
        if len(finite) >= 2 and np.ptp(finite) == 0:
            yield f"{arm} has the same value under all its {len(finite)} seeds: did the seed reach the training?"
    for row, arm in enumerate(arms):
        for other in range(row):
            both = np.isfinite(values[row]) & np.isfinite(values[other])
            if both.sum() >= 2 and np.array_equal(values[row][both], values[other][both]):
                yield f"{arms[other]} and {arm} have equal values under every common seed: is one a copy of the other?"
    finite_values = np.abs(values[np.isfinite(values)])
    if (finite_values <= 1).any() and (finite_values > 10).any():
        yield "Some values are at most 1 and others above 10: are fractions and percentages mixed?"
