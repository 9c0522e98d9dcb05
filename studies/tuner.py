"""From a declared budget to every arm's recipe: rounds of candidates, all arms together, and the best of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lightning_modules.spec import Setup
from lightning_modules.values import Leaf, edit_all
from studies.fits import Fit
from studies.results import Result
from studies.search import Candidate, Search
from studies.tuning import Rung, Tuning


@dataclass(frozen=True, kw_only=True)
class Round:
    """Fits that may be trained together, with the arm that each serves and the rung that they stand on."""

    rung: int
    arms: Mapping[Fit, str]


@dataclass(frozen=True, order=True)
class _Score:
    """What a candidate is ranked by on one rung: one that trained before one that diverged or failed, then the error,
    the loss where errors are equal, and the earlier candidate where all is.
    """

    lost: bool
    error: float
    loss: float
    number: int


class Tuner:
    """Runs every arm's search by one schedule. Who calls it trains the fits of a round before asking for the next."""

    def __init__(
        self,
        tuning: Tuning,
        setups: Mapping[str, Setup],
        searches: Mapping[str, Search],
        outcome: Callable[[Fit], Result],
    ) -> None:
        self.tuning, self.setups, self.searches, self.outcome = tuning, setups, searches, outcome
        self.scores: dict[str, list[dict[int, _Score]]] = {arm: [] for arm in setups}

    def rounds(self) -> Iterator[Round]:
        """The rounds, in their order."""
        first, *further = self.tuning.schedule
        self._new_rung()
        for start in range(0, first.candidates, self.tuning.batch):
            stop = min(start + self.tuning.batch, first.candidates)
            asked = {arm: search.candidates(stop)[start:] for arm, search in self.searches.items()}
            yield from self._round(0, first, asked)
            self._tell(asked)
        for number, rung in enumerate(further, 1):
            best = {arm: self._best(arm, rung.candidates) for arm in self.setups}
            self._new_rung()
            yield from self._round(number, rung, best)

    def chosen(self, arm: str) -> Candidate | None:
        """The best candidate of the last rung; ``None`` where none has a finite error."""
        (best,) = self._best(arm, 1)
        return best if math.isfinite(self.scores[arm][-1][best.number].error) else None

    def best_so_far(self, arm: str) -> tuple[float, ...]:
        """The lowest error after each candidate of the first rung, percent."""
        lowest, found = math.inf, []
        for _, score in sorted(self.scores[arm][0].items()):
            lowest = min(lowest, score.error)
            found.append(lowest)
        return tuple(found)

    def _round(self, number: int, rung: Rung, candidates: Mapping[str, Sequence[Candidate]]) -> Iterator[Round]:
        fits = {
            (arm, each.number, seed): self._fit(arm, each, rung, seed)
            for arm, several in candidates.items()
            for each in several
            for seed in self.tuning.seeds
        }
        yield Round(rung=number, arms={fit: arm for (arm, _, _), fit in fits.items()})
        for arm, several in candidates.items():
            for each in several:
                results = [self.outcome(fits[arm, each.number, seed]) for seed in self.tuning.seeds]
                self.scores[arm][-1][each.number] = _score(each.number, results)

    def _fit(self, arm: str, candidate: Candidate, rung: Rung, seed: int) -> Fit:
        setup = edit_all(self.setups[arm], candidate.values)
        recipe = replace(setup.recipe, epochs=rung.epochs(setup.recipe.epochs))
        return Fit(arm=arm, setup=replace(setup, recipe=recipe), seed=seed, candidate=candidate.number)

    def _new_rung(self) -> None:
        for scores in self.scores.values():
            scores.append({})

    def _tell(self, asked: Mapping[str, Sequence[Candidate]]) -> None:
        for arm, candidates in asked.items():
            for each in candidates:
                self.searches[arm].tell(each.number, self.scores[arm][0][each.number].error)

    def _best(self, arm: str, count: int) -> tuple[Candidate, ...]:
        ranked = sorted(self.scores[arm][-1].values())[:count]
        known = self.searches[arm].candidates(self.tuning.trials)
        return tuple(known[score.number] for score in ranked)


def _score(number: int, results: Sequence[Result]) -> _Score:
    """The mean over tuning seeds; where one of them is lost, so is the candidate."""
    lost = any(result.status != "finished" for result in results)
    errors, losses = (
        [_finite(result.metrics.get(name, math.inf)) for result in results]
        for name in ("validation_error", "validation_loss")
    )
    return _Score(lost, sum(errors) / len(errors), sum(losses) / len(losses), number)


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.inf


def values_of(candidate: Candidate | None) -> Mapping[str, Leaf]:
    """A candidate's values; empty where there is none."""
    return candidate.values if candidate else {}
