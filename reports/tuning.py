"""What tuning spent on every arm, whether that was equal, and the study as it stands under the tuned recipes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ablations import Difference
from lightning_modules.values import Leaf
from reports.numbers import listed, plural
from studies.records import CandidateRecord, Registration, StudyRecord, TuningRecord
from studies.tuning import Rung, Tuning

CERTAIN_CHANCE = 100.0  # percent: what a candidate without an error counts as


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What one arm's search was given, spent and found.

    Attributes:
        candidates: different ones that were trained.
        epochs: that they were given, all rungs and tuning seeds together; ``trained`` are those that ran.
        donor_epochs: of networks that the candidates start from, on top.
        seconds: of training, the donors' included.
        diverged, failed: fits that did.
        repeated: fits that were begun more than once.
        best: number of the chosen candidate; ``None`` where none was found.
        shared_error, best_error: of the shared recipe and of the chosen one on validation, at full length, percent;
            NaN where it was not trained so far.
        values: what was chosen, by path.
        importance: by path, shares of 1.
        expected: on the first rung, the error that the best of so many candidates has, percent; see
            :func:`expected_best`.
    """

    arm: str
    candidates: int
    epochs: int
    trained: int
    donor_epochs: int
    seconds: float
    diverged: int
    failed: int
    repeated: int
    best: int | None
    shared_error: float
    best_error: float
    values: Mapping[str, Leaf]
    importance: Mapping[str, float]
    expected: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Budgets:
    """The ledger of a study's tuning.

    Attributes:
        refused: why there is no comparison under tuned recipes; empty where there is one.
        fits: every fit that was spent.
    """

    tuning: Tuning
    arms: tuple[Budget, ...]
    refused: tuple[str, ...]
    fits: tuple[CandidateRecord, ...]


def budgets(registration: Registration, record: TuningRecord) -> Budgets:
    """What every arm was given, against what was registered for it."""
    assert registration.tuning is not None
    tuning = registration.tuning
    arms = tuple(_budget(arm, tuning, record) for arm in registration.arms)
    refused = tuple(_refused(registration, tuning, record))
    return Budgets(tuning=tuning, arms=arms, refused=refused, fits=record.candidates)


def as_tuned(record: StudyRecord, tuning: TuningRecord) -> StudyRecord:
    """The study of the arms under their own recipes: what was tuned may differ, everything else is as registered."""
    registration = record.registration
    baseline = tuning.chosen[registration.baseline]
    changes = {
        arm: (*registration.changes.get(arm, ()), *_chosen_otherwise(baseline, tuning.chosen[arm]))
        for arm in registration.arms[1:]
    }
    held = {path: leaf for path, leaf in registration.held.items() if path not in baseline}
    alike = {path: leaf for path, leaf in baseline.items() if all(tuning.chosen[arm][path] == leaf for arm in changes)}
    return replace(
        record,
        registration=replace(
            registration,
            changes=changes,
            held=held | alike,
            varies=(*registration.varies, *baseline),
            tuning=None,
        ),
        trials=tuning.trials,
        tuning=None,
    )


def expected_best(errors: Sequence[float]) -> tuple[float, ...]:
    """The expected lowest of 1, 2, … candidates drawn at random, with replacement, from those that were tried.

    Source: Dodge et al. 2019, Sect. 3.
    """
    ordered, count = np.sort(np.asarray(errors, dtype=np.float64)), len(errors)
    above = (count - np.arange(count + 1)) / count  # the share of candidates that are worse
    return tuple(float(ordered @ (above[:-1] ** draws - above[1:] ** draws)) for draws in range(1, count + 1))


def _chosen_otherwise(baseline: Mapping[str, Leaf], own: Mapping[str, Leaf]) -> Iterable[Difference]:
    for path, leaf in own.items():
        if leaf != baseline[path]:
            yield Difference(path=path, before=baseline[path], after=leaf)


def _budget(arm: str, tuning: Tuning, record: TuningRecord) -> Budget:
    fits = [fit for fit in record.candidates if fit.arm == arm]
    own, donors = ([fit for fit in fits if fit.of_donor == of_donor] for of_donor in (False, True))
    best, last = record.best.get(arm), len(tuning.schedule) - 1
    first_rung = _by_number(own, 0)
    return Budget(
        arm=arm,
        candidates=len({fit.number for fit in own}),
        epochs=sum(fit.epochs for fit in own),
        trained=sum(fit.trained for fit in own),
        donor_epochs=sum(fit.epochs for fit in donors),
        seconds=sum(fit.seconds for fit in fits),
        diverged=sum(fit.state == "diverged" for fit in own),
        failed=sum(fit.state == "failed" for fit in own),
        repeated=sum(fit.attempts > 1 for fit in fits),
        best=best,
        shared_error=_by_number(own, last).get(0, math.nan) if _begins_shared(own, tuning) else math.nan,
        best_error=_by_number(own, last).get(-1 if best is None else best, math.nan),
        values=record.chosen.get(arm, {}),
        importance=record.importance.get(arm, {}),
        expected=_expected(tuning, list(first_rung.values())),
    )


def _expected(tuning: Tuning, errors: list[float]) -> tuple[float, ...]:
    """Of candidates drawn independently; of those that learn from one another, the best so far, in their order."""
    known = [error if math.isfinite(error) else CERTAIN_CHANCE for error in errors]
    if tuning.sampler == "tpe":
        return tuple(float(each) for each in np.minimum.accumulate(known)) if known else ()
    return expected_best(known)


def _by_number(fits: Iterable[CandidateRecord], rung: int) -> dict[int, float]:
    """Mean validation error over tuning seeds of every candidate on a rung, in the order of their numbers."""
    errors: dict[int, list[float]] = {}
    for fit in fits:
        if fit.rung == rung:
            errors.setdefault(fit.number, []).append(fit.error)
    return {number: sum(found) / len(found) for number, found in sorted(errors.items())}


def _begins_shared(fits: Sequence[CandidateRecord], tuning: Tuning) -> bool:
    """Whether candidate 0 is the shared recipe: of a grid it is any point."""
    return tuning.sampler != "grid" and any(fit.number == 0 for fit in fits)


def _refused(registration: Registration, tuning: Tuning, record: TuningRecord) -> Iterable[str]:
    """What forbids a comparison under tuned recipes."""
    unequal = [told for arm in registration.arms if (told := _unequal(arm, registration, tuning, record))]
    if unequal:
        yield (
            "The tuning budgets are not those that were registered, so there is no answer under tuned recipes: "
            f"{'; '.join(unequal)}."
        )
    mixed = sorted({fit.seed for fit in record.candidates} & {*registration.seeds})
    if mixed:
        yield f"Tuning and comparison share seed {mixed[0]}, so there is no answer under tuned recipes."
    tested = sorted({fit.arm for fit in record.candidates if fit.tested})
    if tested:
        yield f"Candidates of {listed(tested)} were tested on the test part: no answer under tuned recipes."
    lost = [arm for arm in registration.arms if arm not in record.chosen]
    if lost and not unequal:
        yield f"Tuning has found no recipe for {listed(lost)}, so there is no answer under tuned recipes."


def _unequal(arm: str, registration: Registration, tuning: Tuning, record: TuningRecord) -> str:
    """In what an arm's budget is not the registered one; empty where it is."""
    whole = _whole_length(arm, registration)
    fits = [fit for fit in record.candidates if fit.arm == arm and not fit.of_donor]
    for number, rung in enumerate(tuning.schedule):
        on_rung = [fit for fit in fits if fit.rung == number]
        given = len({fit.number for fit in on_rung}), sum(fit.epochs for fit in on_rung)
        wanted = rung.candidates, _epochs_of(rung, tuning, whole)
        if given != wanted or any(fit.state == "running" for fit in on_rung):
            where = f" on rung {number + 1}" if len(tuning.schedule) > 1 else ""
            return (
                f"{arm} has {plural(given[0], 'candidate')} of {wanted[0]} and {plural(given[1], 'epoch')} of "
                f"{wanted[1]}{where}"
            )
    return "" if all(fit.rung < len(tuning.schedule) for fit in fits) else f"{arm} has candidates beyond the last rung"


def _epochs_of(rung: Rung, tuning: Tuning, whole: int) -> int:
    return rung.candidates * rung.epochs(whole) * len(tuning.seeds)


def _whole_length(arm: str, registration: Registration) -> int:
    """Epochs of an arm's own fits."""
    own = [change.after for change in registration.changes.get(arm, ()) if change.path == "recipe.epochs"]
    held = registration.held.get("recipe.epochs")
    before = [
        change.before
        for changes in registration.changes.values()
        for change in changes
        if change.path == "recipe.epochs"
    ]
    return int(next(iter((*own, *([held] if held is not None else []), *before))) or 0)
