"""The file of a result: its shape, its checksum, and whether it can be true."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from lightning_modules.specs.errors import DamagedFileError
from lightning_modules.stored_files import NUMBER, NUMBER_OR_NULL, Shape, dump_json, parse_json
from studies.records.results import LOGGED_PREFIX, Result, ResultStatus, result_from_json, result_to_json
from studies.records.schema import require_schema

RESULT_REMEDY = "`ablate run` trains the trial again."
MAX_ERROR_PERCENT = 100.0

# Of half an example: the error of a sum over ranks or views is rounded, but never by as much.
ERROR_TOLERANCE_EXAMPLES = 0.5

_KNOWN_SHAPES: dict[str, Shape] = {
    "fingerprint": str,
    "digests": {"*": str},
    "status": str,
    "metrics": {"*": NUMBER_OR_NULL},
    "curves": {"*": [NUMBER_OR_NULL]},
    "times": [NUMBER],
    "cost": {"*": NUMBER_OR_NULL},
    "environment": {"*": (str, int)},
    "evidence": {"*": (str, int)},
    "error": str,
    "schema": int,
    "checksums": {"*": str},
}
_REQUIRED = ("fingerprint", "digests", "status", "metrics", "curves", "times")


def _result_shape() -> dict[str, Shape]:
    shape: dict[str, Shape] = {}
    for field in fields(Result):
        if field.name != "predictions":  # beside it, as a NumPy file
            # Fields that later versions added are optional: a result of before them is as good as it was.
            key = field.name if field.name in _REQUIRED else f"{field.name}?"
            shape[key] = _KNOWN_SHAPES.get(field.name, object)
    return shape


def dump_result(result: Result) -> bytes:
    """Serialize a result without its predictions, with a checksum of itself."""
    return dump_json(result_to_json(result), indent=1)


def parse_result(content: bytes, source: object, remedy: str = RESULT_REMEDY) -> Result:
    """Parse a result without its predictions.

    Args:
        source: path or address of the content, for the error.

    Raises:
        SchemaVersionError: where another version of this package wrote it.
        DamagedFileError: where it is damaged, or cannot be true.
    """
    data = parse_json(content, _result_shape(), source, remedy, require_schema)
    result = result_from_json(data)
    require_consistent(result, source, remedy)
    return result


def require_consistent(result: Result, source: object, remedy: str = RESULT_REMEDY, **known: Any) -> None:
    """Refuse a result that contradicts itself, or what is known of its trial.

    Args:
        known: arguments of :func:`find_contradictions`.

    Raises:
        DamagedFileError: with the first contradiction.
    """
    for contradiction in find_contradictions(result, **known):
        raise DamagedFileError(source, contradiction, remedy)


def find_contradictions(
    result: Result,
    *,
    fingerprint: str = "",
    digests: Mapping[str, str] | None = None,
    labels: npt.NDArray[Any] | None = None,
    num_classes: int = 0,
    max_epochs: int | None = None,
) -> Iterator[str]:
    """Find what cannot be true in a result: bounds, agreement with itself, and with what is known of its trial.

    Args:
        fingerprint: of the planned trial; empty where it is unknown.
        digests: of the planned trial; ``None`` where they are unknown.
        labels: true classes of the test examples, of shape ``(examples,)``.
        num_classes: of the task; 0 where it is unknown.
        max_epochs: of the recipe.
    """
    if fingerprint and result.fingerprint != fingerprint:
        yield f"it is the result of another trial, {result.fingerprint[:40]!r}; expected {fingerprint!r}"
    if digests is not None and dict(result.digests) != dict(digests):
        yield "its digests of data, code or platform are not those of its trial"
    if result.status not in get_args(ResultStatus):
        yield f"its status is {result.status[:40]!r}; expected one of {', '.join(get_args(ResultStatus))}"
    yield from _contradictions_in_numbers(result)
    yield from _contradictions_in_curves(result, max_epochs)
    if result.predictions is not None:
        yield from _contradictions_in_predictions(result, result.predictions, labels, num_classes)


def _contradictions_in_numbers(result: Result) -> Iterator[str]:
    for name, value in result.metrics.items():
        if math.isnan(value):
            if result.status == "finished":
                yield f"its status is finished, but {name} is no number"
        elif not _is_possible(name, value):
            yield f"{name} is {value:g}, which is out of range"
    for name, cost in result.cost.items():
        if cost is not None and not cost >= 0:
            yield f"{name} is {cost:g}; expected 0 or more"
    # Times are of the clock, seconds since 1970; a machine without one begins there.
    if any(time <= 0 for time in result.times):
        yield "a time is not after 1970"


def _is_possible(name: str, value: float) -> bool:
    """Whether a metric can have a value; errors are percentages."""
    if name.endswith("_error") and not name.startswith(LOGGED_PREFIX):
        # What a user's module logs may be called an error and be none of a classifier's.
        return 0 <= value <= MAX_ERROR_PERCENT
    return math.isfinite(value)


def _contradictions_in_curves(result: Result, max_epochs: int | None) -> Iterator[str]:
    num_epochs = len(result.times)
    # Fewer are possible: a trial that became non-finite stops, and a pruned candidate too.
    if max_epochs is not None and num_epochs > max_epochs:
        yield f"it has {num_epochs} epochs; its recipe has {max_epochs}"
    for name, values in result.curves.items():
        if len(values) != num_epochs:
            yield f"the curve {name} has {len(values)} values, and {num_epochs} epochs were trained"
        elif not all(math.isnan(value) or _is_possible(name, value) for value in values):
            yield f"the curve {name} has a value out of range"


def _contradictions_in_predictions(
    result: Result, predictions: npt.NDArray[Any], labels: npt.NDArray[Any] | None, num_classes: int
) -> Iterator[str]:
    if num_classes and len(predictions) and int(predictions.max()) >= num_classes:
        yield f"class {predictions.max()} is predicted; there are {num_classes} classes"
    error = result.metrics.get("test_error", math.nan)
    if labels is None:
        yield from _contradictions_in_counts(error, len(predictions))
        return
    if len(predictions) != len(labels):
        yield f"it has {len(predictions)} predictions; there are {len(labels)} test examples"
        return
    if math.isnan(error) or not len(labels):
        return
    num_wrong = int(np.count_nonzero(predictions != labels))
    if abs(error / 100 * len(labels) - num_wrong) > ERROR_TOLERANCE_EXAMPLES:
        yield (
            f"its test error is {error:.4g} %, but its predictions are wrong for {num_wrong} of {len(labels)} examples"
        )


def _contradictions_in_counts(error: float, num_examples: int) -> Iterator[str]:
    """An error that is no multiple of one example contradicts the number of predictions, whatever the labels are."""
    if math.isnan(error) or not num_examples:
        return
    num_wrong = error / 100 * num_examples
    if abs(num_wrong - round(num_wrong)) > 1e-3 * max(1.0, num_wrong):
        yield f"its test error is {error:.6g} %, which {num_examples} predictions cannot give"
