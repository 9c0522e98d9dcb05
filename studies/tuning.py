"""Equal tuning budgets, as declared: one space, one number of candidates, one rule for every arm. Pure; no Optuna."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, get_args

from ablations import Times, touches
from lightning_modules.spec import Setup
from lightning_modules.values import InvalidValue, Leaf, annotation_at, check, describe, edit, flatten, parse, require

Sampler = Literal["random", "tpe", "grid"]
Pruning = Literal["none", "halving"]
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
PRUNINGS: tuple[Pruning, ...] = get_args(Pruning)
FIRST_TUNING_SEED = 1_000_000  # far from the seeds that people choose for a comparison
RUNGS = 3
TPE_BATCH = 4  # candidates asked at once: fixed, so that the number of workers decides nothing
DIGITS = 4  # significant, of what a sampler draws: enough for any rate, and readable in a table


@dataclass(frozen=True, kw_only=True)
class Range:
    """Numbers from ``low`` to ``high``, drawn evenly, or evenly in their logarithm.

    A bound may be a multiple of what the study's shared recipe says (``Times(0.2)``).
    """

    path: str
    low: float | Times
    high: float | Times
    log: bool = True

    def over(self, setup: Setup) -> Range:
        """The range in numbers, for a shared recipe.

        Raises:
            InvalidValue: where there is no number at the path, or the bounds are no range.
        """
        low, high = (
            bound.of(setup, self.path) if isinstance(bound, Times) else bound for bound in (self.low, self.high)
        )
        low, high = _short(low), _short(high)
        made = Range(path=self.path, low=low, high=high, log=self.log)
        if not low < high or (self.log and low <= 0):
            raise InvalidValue(
                f"the space of {self.path} runs from {low:g} to {high:g}; expected an upper bound above the lower one"
                f"{', and both above 0 on a logarithmic scale' if self.log else ''}."
            )
        for bound in (low, high):
            edit(setup, self.path, made.read(bound, setup))
        return made

    def holds(self, value: Leaf) -> bool:
        """Whether a value lies in a range that is given in numbers."""
        return isinstance(value, (int, float)) and self.bounds[0] <= value <= self.bounds[1]

    def read(self, value: float, setup: Setup) -> Leaf:
        """A drawn number as the recipe takes it: whole where its field is, else of few digits."""
        if annotation_at(setup, self.path) is int:
            return round(value)
        return _short(value)

    @property
    def bounds(self) -> tuple[float, float]:
        """Both bounds of a range that is given in numbers."""
        if isinstance(self.low, Times) or isinstance(self.high, Times):
            raise TypeError(f"the range of {self.path} is relative: call `over` first")
        return self.low, self.high

    def __str__(self) -> str:
        low, high = (f"{each.factor:g} ×" if isinstance(each, Times) else f"{each:g}" for each in (self.low, self.high))
        return f"{self.path} from {low} to {high}{', logarithmic' if self.log else ''}"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of several values."""

    path: str
    values: tuple[Leaf, ...]

    def over(self, setup: Setup) -> Choice:
        """The same choice, with every value proved to be one that the recipe takes.

        Raises:
            InvalidValue: where it takes one of them not, or there are fewer than two.
        """
        if len(set(self.values)) < 2:
            raise InvalidValue(f"the space of {self.path} has {len(set(self.values))} value; expected two or more.")
        for value in self.values:
            edit(setup, self.path, value)
        return self

    def holds(self, value: Leaf) -> bool:
        """Whether a value is among the choices."""
        return value in self.values

    def read(self, value: Leaf, setup: Setup) -> Leaf:
        """As it is."""
        del setup
        return value

    def __str__(self) -> str:
        return f"{self.path} among {', '.join(map(str, self.values))}"


Dimension = Range | Choice
DEFAULT_SPACE: tuple[Dimension, ...] = (
    Range(path="recipe.learning_rate", low=Times(0.2), high=Times(5)),
    Range(path="recipe.weight_decay", low=Times(0.1), high=Times(10)),
)


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A round of tuning: so many candidates, each trained for this share of its arm's epochs."""

    candidates: int
    share: float

    def epochs(self, whole: int) -> int:
        """Of an arm's full length, one at least."""
        return max(1, round(whole * self.share))


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """How every arm's recipe is tuned before the comparison: alike, on validation, under seeds of its own.

    The first candidate is the shared recipe itself, where the space holds it. With ``halving``, all candidates train
    for a share of the epochs, the better ones anew for a larger share, and so on to the full length: the sizes of the
    rungs are fixed beforehand, so that every arm gets the same trials and the same epochs whatever comes out.

    Attributes:
        trials: candidates per arm.
        space: what is tuned; paths of the recipe, not its epochs: those are the budget.
        sampler: ``random`` gives every arm the same candidates; ``tpe`` learns from an arm's earlier ones, in batches
            of four; ``grid`` takes every combination of a space of choices.
        pruning: ``none``, or synchronous successive ``halving``.
        rungs, reduction: of halving: how many rounds, and how many times fewer candidates from one to the next.
        seeds: under which candidates are trained; no study may compare its arms under them.

    Raises:
        InvalidValue: for what could not be run as declared.
    """

    trials: int
    space: tuple[Dimension, ...] = DEFAULT_SPACE
    sampler: Sampler = "random"
    pruning: Pruning = "none"
    rungs: int = RUNGS
    reduction: int = 2
    seeds: tuple[int, ...] = (FIRST_TUNING_SEED,)

    def __post_init__(self) -> None:
        check(self)
        require(self.trials >= 2, self, "trials", "two candidates or more: one is no search")
        require(len(self.space) >= 1, self, "space", "at least one dimension")
        require(len(set(self.seeds)) == len(self.seeds) >= 1, self, "seeds", "different seeds, at least one")
        require(self.rungs >= 2, self, "rungs", "two or more")
        require(self.reduction >= 2, self, "reduction", "two or more")
        paths = [dimension.path for dimension in self.space]
        if len(set(paths)) < len(paths):
            raise InvalidValue(f"the space names a path twice: {', '.join(paths)}.")
        for path in paths:
            if not path.startswith("recipe.") or path == "recipe.epochs":
                raise InvalidValue(
                    f"{path} cannot be tuned; expected a path of the recipe, such as recipe.learning_rate, and not "
                    "recipe.epochs: those are the budget, which is equal for every arm."
                )
        if self.sampler == "tpe" and self.pruning == "halving":
            raise InvalidValue(
                "tpe cannot go with halving, which draws all candidates before any has a result to learn from. Take "
                "the sampler random, or no pruning."
            )
        if self.sampler == "grid":
            self._require_a_whole_grid()

    def _require_a_whole_grid(self) -> None:
        loose = [each.path for each in self.space if isinstance(each, Range)]
        if loose:
            raise InvalidValue(f"a grid needs a space of choices; {loose[0]} is a range. Give it as path=a,b,c.")
        points = math.prod(len(each.values) for each in self.space if isinstance(each, Choice))
        require(self.trials == points, self, "trials", f"{points}, the points of the grid")

    @property
    def paths(self) -> tuple[str, ...]:
        """What is tuned."""
        return tuple(dimension.path for dimension in self.space)

    @property
    def schedule(self) -> tuple[Rung, ...]:
        """The rounds, from the first one to the full length."""
        if self.pruning == "none":
            return (Rung(candidates=self.trials, share=1.0),)
        return tuple(
            Rung(
                candidates=math.ceil(self.trials / self.reduction**number),
                share=1 / self.reduction ** (self.rungs - 1 - number),
            )
            for number in range(self.rungs)
        )

    @property
    def batch(self) -> int:
        """Candidates that are asked for before the next result is told."""
        return TPE_BATCH if self.sampler == "tpe" else self.trials

    def epochs(self, whole: int) -> int:
        """What one arm's candidates are trained for, all together, where its full length is ``whole`` epochs."""
        return len(self.seeds) * sum(rung.candidates * rung.epochs(whole) for rung in self.schedule)

    def for_study(self, setups: Mapping[str, Setup], varied: Iterable[str]) -> Tuning:
        """The declaration over a study's shared recipe: bounds in numbers, proved against what the study varies.

        Args:
            setups: of every arm, the baseline first.
            varied: paths in which the study's arms may differ.

        Raises:
            InvalidValue: where a path is what the study varies, or the recipe takes no value of the space.
        """
        baseline, *others = setups.values()
        for path in self.paths:
            stands = {flatten(setup).get(path) for setup in (baseline, *others)}
            if any(touches(path, each) for each in varied) or len(stands) > 1:
                raise InvalidValue(
                    f"{path} is what the study varies; it cannot be tuned as well. Leave it out of the space."
                )
            if stands == {None}:
                raise InvalidValue(f"{path} is no setting of the study's recipe.")
        for arm, setup in setups.items():
            self._require_growing_rungs(arm, setup.recipe.epochs)
        return replace(self, space=tuple(dimension.over(baseline) for dimension in self.space))

    def _require_growing_rungs(self, arm: str, whole: int) -> None:
        lengths = [rung.epochs(whole) for rung in self.schedule]
        if any(later <= earlier for earlier, later in pairwise(lengths)):
            raise InvalidValue(
                f"the {whole} epochs of {arm} are too few for {len(lengths)} rungs: these would have "
                f"{', '.join(map(str, lengths))} epochs. Expected more from rung to rung: take fewer rungs."
            )

    def without(self, varied: Iterable[str]) -> Tuning:
        """The declaration less the dimensions that a study varies itself: for a space that nobody chose for it.

        Raises:
            InvalidValue: where nothing is left.
        """
        varied = tuple(varied)
        left = tuple(each for each in self.space if not any(touches(each.path, path) for path in varied))
        if not left:
            raise InvalidValue(
                f"the study varies all that would be tuned ({', '.join(self.paths)}). Name another space, such as "
                "--space recipe.momentum=0.5..0.99:linear."
            )
        return replace(self, space=left)

    @property
    def words(self) -> str:
        """The budget in a sentence."""
        first, *further = (
            f"{rung.candidates} {{}}for {'all' if rung.share == 1 else f'{100 * rung.share:.3g}% of the'} epochs"
            for rung in self.schedule
        )
        rounds = ", then the best ".join((first.format("candidates "), *(each.format("") for each in further)))
        seeds = f", each under {len(self.seeds)} seeds" if len(self.seeds) > 1 else ""
        return f"{rounds}{seeds}; sampler {self.sampler}; {'; '.join(map(str, self.space))}"


TUNING_KINDS: dict[str, type] = {kind.__name__: kind for kind in (Tuning, Range, Choice, Times)}


def parse_dimension(text: str, setup: Setup) -> Dimension:
    """A dimension as a command line gives it.

    ``path=low..high`` is logarithmic, ``path=low..high:linear`` is not; a bound ``x0.2`` is a multiple of the shared
    recipe's; ``path=a,b,c`` is a choice.

    Raises:
        InvalidValue: for anything else.
    """
    path, _, told = text.partition("=")
    annotation = annotation_at(setup, path)
    body, _, scale = told.partition(":")
    low, dots, high = body.partition("..")
    try:
        if dots and scale in ("", "log", "linear"):
            return Range(path=path, low=_bound(low), high=_bound(high), log=scale != "linear")
        if not dots and not scale and "," in body:
            return Choice(path=path, values=tuple(parse(annotation, each.strip()) for each in body.split(",")))
    except ValueError as error:
        raise InvalidValue(f"the space {text!r} cannot be read: {error}") from None
    raise InvalidValue(
        f"the space {text!r} cannot be read; expected path=low..high, path=low..high:linear, bounds like x0.2 for "
        f"multiples of the shared recipe, or path=a,b,c for {describe(annotation)}."
    )


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _bound(text: str) -> float | Times:
    return Times(float(text[1:])) if text.startswith("x") else float(text)
