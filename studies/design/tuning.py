"""Equal tuning budgets, as declared: one space, one number of candidates and one pruning rule for every arm.

Values only: the search itself is ``studies.runner``'s, and Optuna is not imported here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise, product
from typing import Any, Literal, get_args

from ablations import Times, paths_overlap
from lightning_modules.specs.errors import InvalidValue
from lightning_modules.specs.notebook_html import describe_object
from lightning_modules.specs.serialization import from_json, to_json
from lightning_modules.specs.setup import Setup
from lightning_modules.specs.values import (
    Leaf,
    annotation_at,
    check_fields,
    describe_annotation,
    edit_field,
    edit_fields,
    flatten_fields,
    parse_leaf,
    require_field,
)

Sampler = Literal["random", "tpe", "grid"]
Pruning = Literal["none", "halving"]
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
PRUNINGS: tuple[Pruning, ...] = get_args(Pruning)
FIRST_TUNING_SEED = 1_000_000  # far from the seeds that a user chooses for a comparison
DEFAULT_NUM_RUNGS = 3
JOINTLY_CHECKED_PATHS = ("recipe.augmentation", "recipe.side_from", "recipe.side_to")  # by Setup.require_consistent

# Candidates that TPE proposes before it sees their results. A fixed size makes the candidates independent of the number
# of workers.
TPE_BATCH_SIZE = 4
SIGNIFICANT_DIGITS = 4  # of a sampled value: finer steps change no result, and four digits fit a table


@dataclass(frozen=True, kw_only=True)
class Range:
    """Numbers from ``low`` to ``high``, sampled uniformly or log-uniformly.

    A bound may be a multiple of the shared recipe's value (``Times(0.2)``).
    """

    path: str
    low: float | Times
    high: float | Times
    log: bool = True

    def resolve(self, setup: Setup) -> Range:
        """Replace relative bounds by numbers, given a shared recipe.

        Raises:
            InvalidValue: where the path holds no number, or the bounds do not form a range.
        """
        low = _resolve_bound(self.low, setup, self.path)
        high = _resolve_bound(self.high, setup, self.path)
        if not low < high or (self.log and low <= 0):
            positive = ", and both above 0 on a logarithmic scale" if self.log else ""
            raise InvalidValue(
                f"the space of {self.path} runs from {low:g} to {high:g}; expected an upper bound above the lower one"
                f"{positive}."
            )
        resolved = replace(self, low=low, high=high)
        for bound in (low, high):  # the field's own check: a momentum of 1.2 is refused here, not in the first trial
            edit_field(setup, self.path, resolved.cast_value(bound, setup))
        return resolved

    def contains(self, value: Leaf) -> bool:
        """Return whether a value lies in a resolved range, bounds included."""
        low, high = self.bounds
        return isinstance(value, (int, float)) and low <= value <= high

    def cast_value(self, value: float, setup: Setup) -> Leaf:
        """Round a sampled number to an integer for an integer field, else to four significant digits."""
        if annotation_at(setup, self.path) is int:
            return round(value)
        return _round_significant(value)

    @property
    def bounds(self) -> tuple[float, float]:
        """Both bounds of a resolved range."""
        if isinstance(self.low, Times) or isinstance(self.high, Times):
            raise TypeError(f"the range of {self.path} has relative bounds: call `resolve` first")
        return self.low, self.high

    def __str__(self) -> str:
        scale = ", logarithmic" if self.log else ""
        return f"{self.path} from {_format_bound(self.low)} to {_format_bound(self.high)}{scale}"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of several values of a field."""

    path: str
    values: tuple[Leaf, ...]

    def resolve(self, setup: Setup) -> Choice:
        """Return the choice itself after checking every value against the recipe's field.

        Raises:
            InvalidValue: where the field does not admit a value, or fewer than two values differ.
        """
        num_values = len(set(self.values))
        if num_values < 2:
            raise InvalidValue(f"the space of {self.path} has {num_values} value; expected two or more.")
        for value in self.values:
            edit_field(setup, self.path, value)
        return self

    def contains(self, value: Leaf) -> bool:
        """Return whether a value is among the choices."""
        return value in self.values

    def cast_value(self, value: Leaf, setup: Setup) -> Leaf:
        """Return the value unchanged; the signature is that of :meth:`Range.cast_value`."""
        del setup
        return value

    def __str__(self) -> str:
        return f"{self.path} among {', '.join(map(str, self.values))}"


Dimension = Range | Choice

# Bounds relative to the shared recipe: one default space serves every protocol and kind of network.
DEFAULT_SPACE: tuple[Dimension, ...] = (
    Range(path="recipe.learning_rate", low=Times(0.2), high=Times(5)),
    Range(path="recipe.weight_decay", low=Times(0.1), high=Times(10)),
)


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A round of tuning: a number of candidates, each trained for a fraction of its arm's epochs."""

    num_candidates: int
    epoch_fraction: float

    def epochs_per_candidate(self, full_epochs: int) -> int:
        """Return the rung's share of an arm's full number of epochs, at least 1."""
        # At least one: a candidate of no epoch has no validation error to be ranked by.
        return max(1, round(full_epochs * self.epoch_fraction))


@dataclass(frozen=True, kw_only=True)
class TuningBudget:
    """How every arm's recipe is tuned before the comparison: equally, on validation, under separate seeds.

    The first candidate is the shared recipe itself, where the space contains it. With ``halving``, all candidates train
    for a fraction of the epochs, the better ones are trained again from scratch for a larger fraction, and so on up to
    the full length. The sizes of the rungs are fixed beforehand: every arm gets the same number of trials and epochs,
    whatever their results (synchronous successive halving, Jamieson & Talwalkar 2016).

    Attributes:
        trials: candidates per arm.
        space: tuned paths of the recipe; never its epochs, which are the budget.
        sampler: ``random`` gives every arm the same candidates; ``tpe`` learns from an arm's earlier ones, in batches
            of four; ``grid`` takes every combination of a space of choices.
        pruning: ``none``, or synchronous successive ``halving``.
        rungs: number of rounds of halving.
        reduction: factor by which the number of candidates falls from one rung to the next.
        seeds: seeds of the candidates' trials; no study may compare its arms under them.

    Raises:
        InvalidValue: for a declaration that could not be run.
    """

    trials: int
    space: tuple[Dimension, ...] = DEFAULT_SPACE
    sampler: Sampler = "random"
    pruning: Pruning = "none"
    rungs: int = DEFAULT_NUM_RUNGS
    reduction: int = 2
    seeds: tuple[int, ...] = (FIRST_TUNING_SEED,)

    def __post_init__(self) -> None:
        check_fields(self)
        require_field(self.trials >= 2, self, "trials", "two candidates or more: one is no search")
        require_field(len(self.space) >= 1, self, "space", "at least one dimension")
        require_field(len(set(self.seeds)) == len(self.seeds) >= 1, self, "seeds", "different seeds, at least one")
        require_field(self.rungs >= 2, self, "rungs", "two or more")
        require_field(self.reduction >= 2, self, "reduction", "two or more")
        paths = [dimension.path for dimension in self.space]
        if len(set(paths)) < len(paths):
            raise InvalidValue(f"the space names a path twice: {', '.join(paths)}.")
        for path in paths:
            if not path.startswith("recipe.") or path == "recipe.epochs":
                raise InvalidValue(
                    f"{path} cannot be tuned; expected a path of the recipe, such as recipe.learning_rate, other than "
                    "recipe.epochs: the epochs are the budget, which is equal for every arm."
                )
        if self.sampler == "tpe" and self.pruning == "halving":
            raise InvalidValue(
                "the sampler tpe cannot be combined with halving, which draws all candidates before any result exists "
                "to learn from. Choose the sampler random, or the pruning none."
            )
        if self.sampler == "grid":
            self._require_full_grid()

    def _require_full_grid(self) -> None:
        """Check that the space consists of choices, and that the trials cover all their combinations."""
        num_points = 1
        for dimension in self.space:
            if isinstance(dimension, Range):
                raise InvalidValue(
                    f"a grid needs a space of choices; {dimension.path} is a range. Give it as path=a,b,c."
                )
            num_points *= len(dimension.values)
        require_field(self.trials == num_points, self, "trials", f"{num_points}, the points of the grid")

    def __repr__(self) -> str:
        return describe_object(self, f"of {self.trials} {self.sampler} candidates per arm: {', '.join(self.paths)}")

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths of the tuned settings."""
        return tuple(dimension.path for dimension in self.space)

    @property
    def rung_schedule(self) -> tuple[Rung, ...]:
        """Rounds of tuning, the last one at the full number of epochs."""
        if self.pruning == "none":
            return (Rung(num_candidates=self.trials, epoch_fraction=1.0),)
        schedule = []
        for number in range(self.rungs):
            # Rounded up, so that the last rung has a candidate however few there are.
            num_candidates = math.ceil(self.trials / self.reduction**number)
            epoch_fraction = 1 / self.reduction ** (self.rungs - 1 - number)
            schedule.append(Rung(num_candidates=num_candidates, epoch_fraction=epoch_fraction))
        return tuple(schedule)

    @property
    def ask_batch_size(self) -> int:
        """Number of candidates that the sampler proposes before it sees the next results."""
        # The other samplers learn from no result, and propose all candidates at once.
        return TPE_BATCH_SIZE if self.sampler == "tpe" else self.trials

    def total_epochs(self, full_epochs: int) -> int:
        """Return the epochs that all candidates of an arm train together, given its full number of epochs."""
        epochs = 0
        for rung in self.rung_schedule:
            epochs += rung.num_candidates * rung.epochs_per_candidate(full_epochs)
        return len(self.seeds) * epochs

    def resolve_for_study(self, setups: Mapping[str, Setup], varied_paths: Iterable[str]) -> TuningBudget:
        """Replace relative bounds by numbers, and check the space against a study.

        Args:
            setups: every arm's setup, the baseline first.
            varied_paths: paths in which the study's arms may differ.

        Raises:
            InvalidValue: where the study varies a tuned path, or an arm does not admit a candidate of the space.
        """
        varied_paths = tuple(varied_paths)
        for path in self.paths:
            values = {flatten_fields(setup, with_omitted=True).get(path) for setup in setups.values()}
            if _overlaps_any(path, varied_paths) or len(values) > 1:
                raise InvalidValue(
                    f"{path} is what the study varies; it cannot be tuned as well. Leave it out of the space."
                )
            if values == {None}:
                raise InvalidValue(f"{path} is no setting of the study's recipe.")
        baseline = next(iter(setups.values()))
        resolved = replace(self, space=tuple(dimension.resolve(baseline) for dimension in self.space))
        for arm, setup in setups.items():
            self._require_growing_rungs(arm, setup.recipe.epochs)
            resolved._require_consistent_candidates(arm, setup)
        return resolved

    def _require_consistent_candidates(self, arm: str, setup: Setup) -> None:
        """Check every combination of the settings that a setup checks together, ranges at their ends."""
        dimensions = [dimension for dimension in self.space if dimension.path in JOINTLY_CHECKED_PATHS]
        ends = [dimension.bounds if isinstance(dimension, Range) else dimension.values for dimension in dimensions]
        for values in product(*ends):
            leaves = {dimension.path: value for dimension, value in zip(dimensions, values, strict=True)}
            try:
                edit_fields(setup, leaves).require_consistent()
            except InvalidValue as error:
                raise InvalidValue(f"the space has candidates that {arm} does not admit: {error}") from None

    def _require_growing_rungs(self, arm: str, full_epochs: int) -> None:
        """Check that every rung trains longer than the one before: rounding may make two of them equal."""
        lengths = [rung.epochs_per_candidate(full_epochs) for rung in self.rung_schedule]
        if any(later <= earlier for earlier, later in pairwise(lengths)):
            raise InvalidValue(
                f"the {full_epochs} epochs of {arm} are too few for {len(lengths)} rungs: these would have "
                f"{', '.join(map(str, lengths))} epochs. Expected more from rung to rung: take fewer rungs."
            )

    def without_paths(self, excluded_paths: Iterable[str]) -> TuningBudget:
        """Drop the dimensions that a study varies itself; for a default space that nobody chose for the study.

        Raises:
            InvalidValue: where no dimension remains.
        """
        excluded_paths = tuple(excluded_paths)
        remaining = tuple(dimension for dimension in self.space if not _overlaps_any(dimension.path, excluded_paths))
        if not remaining:
            raise InvalidValue(
                f"the study varies all that would be tuned ({', '.join(self.paths)}). Name another space, such as "
                "--space recipe.momentum=0.5..0.99:linear."
            )
        return replace(self, space=remaining)

    @property
    def description(self) -> str:
        """The budget in a sentence, such as ``8 candidates for all epochs; sampler random; …``."""
        rounds: list[str] = []
        for rung in self.rung_schedule:
            noun = "" if rounds else "candidates "
            share = "all" if rung.epoch_fraction == 1 else f"{100 * rung.epoch_fraction:.3g}% of the"
            rounds.append(f"{rung.num_candidates} {noun}for {share} epochs")
        seeds = f", each under {len(self.seeds)} seeds" if len(self.seeds) > 1 else ""
        space = "; ".join(map(str, self.space))
        return f"{', then the best '.join(rounds)}{seeds}; sampler {self.sampler}; {space}"


# ``TuningBudget`` was called ``Tuning`` when the first tuned studies were recorded. JSON keeps that name: it is part of
# :meth:`studies.design.study.Study.conditions_digest`, so under another one no earlier record would be found again.
STORED_TUNING_KIND = "Tuning"

# Classes by the kind that the JSON of a budget names; the current class name is read as well.
TUNING_CLASSES: dict[str, type] = {
    STORED_TUNING_KIND: TuningBudget,
    "TuningBudget": TuningBudget,
    "Range": Range,
    "Choice": Choice,
    "Times": Times,
}


def tuning_to_json(tuning: TuningBudget | None) -> dict[str, Any] | None:
    """Return plain JSON data of a tuning budget, under the kind that earlier records have."""
    if tuning is None:
        return None
    data: dict[str, Any] = to_json(tuning)
    return data | {"kind": STORED_TUNING_KIND}


def tuning_from_json(data: Mapping[str, Any] | None) -> TuningBudget | None:
    """Invert :func:`tuning_to_json`."""
    tuning: TuningBudget | None = from_json(data, TUNING_CLASSES)
    return tuning


def parse_dimension(text: str, setup: Setup) -> Dimension:
    """Parse a dimension from the text of a command line.

    ``path=low..high`` is logarithmic, ``path=low..high:linear`` is not; a bound ``x0.2`` is a multiple of the shared
    recipe's value; ``path=a,b,c`` is a choice.

    Raises:
        InvalidValue: for any other text.
    """
    path, _, space_text = text.partition("=")
    annotation = annotation_at(setup, path)
    body, _, scale = space_text.partition(":")
    low, dots, high = body.partition("..")
    try:
        if dots and scale in ("", "log", "linear"):
            return Range(path=path, low=_parse_bound(low), high=_parse_bound(high), log=scale != "linear")
        if not dots and not scale and "," in body:
            values = [parse_leaf(annotation, value_text.strip()) for value_text in body.split(",")]
            return Choice(path=path, values=tuple(values))
    except ValueError as error:
        raise InvalidValue(f"the space {text!r} cannot be read: {error}") from None
    raise InvalidValue(
        f"the space {text!r} cannot be read; expected path=low..high, path=low..high:linear, bounds like x0.2 for "
        f"multiples of the shared recipe, or path=a,b,c for {describe_annotation(annotation)}."
    )


def _overlaps_any(path: str, other_paths: Iterable[str]) -> bool:
    return any(paths_overlap(path, other) for other in other_paths)


def _round_significant(value: float) -> float:
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")


def _resolve_bound(bound: float | Times, setup: Setup, path: str) -> float:
    return _round_significant(bound.resolve(setup, path) if isinstance(bound, Times) else bound)


def _parse_bound(text: str) -> float | Times:
    return Times(float(text[1:])) if text.startswith("x") else float(text)


def _format_bound(bound: float | Times) -> str:
    return f"{bound.factor:g} ×" if isinstance(bound, Times) else f"{bound:g}"
