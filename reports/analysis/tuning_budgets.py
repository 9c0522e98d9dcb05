"""Tuning budgets: what every arm's search was given and spent, and whether the arms were treated equally.

A comparison under tuned recipes is fair only if every arm got the registered budget (Dodge et al. 2019); otherwise it
is refused, with reasons.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ablations import Difference
from lightning_modules.specs.text import format_count, join_words
from lightning_modules.specs.values import Leaf
from studies.design.tuning import Rung, TuningBudget
from studies.records.registration import Registration
from studies.records.study_record import RecordedCandidate, RecordedTuning, StudyRecord

MISSING_ERROR_PERCENT = 100.0  # validation error assigned to a candidate that is non-finite or failed


@dataclass(frozen=True, kw_only=True)
class ArmTuningSummary:
    """Budget, cost and result of one arm's search.

    Attributes:
        num_candidates: distinct candidates that were trained.
        assigned_epochs: epochs budgeted for them, over all rungs and tuning seeds.
        trained_epochs: epochs of those that actually ran.
        source_epochs: additional epochs of networks that the candidates start from.
        train_seconds: of training, source networks included.
        num_trials: trials of the candidates, over all rungs and tuning seeds.
        num_nonfinite, num_at_chance, num_failed: those of them with that outcome.
        num_restarted: trials of candidates that were started more than once.
        best_candidate: number of the chosen candidate; ``None`` where none was found.
        shared_recipe_error, best_error: validation error of the shared recipe and of the chosen one at full length,
            percent; NaN where it was not trained to full length.
        chosen_values: settings of the chosen candidate, by path.
        importance: of the settings, by path; sums to 1.
        expected_best_errors: on the first rung, expected error of the best of 1, 2, … candidates, percent; see
            :func:`expected_best_errors`.
    """

    arm: str
    num_candidates: int
    assigned_epochs: int
    trained_epochs: int
    source_epochs: int
    train_seconds: float
    num_trials: int
    num_nonfinite: int
    num_at_chance: int
    num_failed: int
    num_restarted: int
    best_candidate: int | None
    shared_recipe_error: float
    best_error: float
    chosen_values: Mapping[str, Leaf]
    importance: Mapping[str, float]
    expected_best_errors: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class TuningSummary:
    """Tuning of a whole study.

    Attributes:
        refusal_reasons: why there is no comparison under tuned recipes; empty where there is one.
        candidates: every trial of a candidate.
        untrained_arms: by arm, a sentence where no candidate that was trained to full length learned anything.
    """

    tuning: TuningBudget
    arms: tuple[ArmTuningSummary, ...]
    refusal_reasons: tuple[str, ...]
    candidates: tuple[RecordedCandidate, ...]
    untrained_arms: Mapping[str, str]


def summarize_tuning(registration: Registration, record: RecordedTuning) -> TuningSummary:
    """Summarize the tuning of every arm, and check it against the registered budget."""
    assert registration.tuning is not None
    tuning = registration.tuning
    arms = tuple(_summarize_arm_tuning(arm, registration, tuning, record) for arm in registration.arms)
    reasons = tuple(_find_refusal_reasons(registration, tuning, record))
    untrained_arms = {}
    for arm in registration.arms:
        sentence = _describe_untrained_candidates(arm, tuning, record)
        if sentence:
            untrained_arms[arm] = sentence
    return TuningSummary(
        tuning=tuning, arms=arms, refusal_reasons=reasons, candidates=record.candidates, untrained_arms=untrained_arms
    )


def _describe_untrained_candidates(arm: str, tuning: TuningBudget, record: RecordedTuning) -> str:
    """Say that the search of an arm found no recipe that trains; empty where it did, or has not ended."""
    states_by_number: dict[int, list[str]] = {}
    for trial in record.candidates:
        if trial.arm == arm and not trial.is_source and trial.rung == len(tuning.rung_schedule) - 1:
            states_by_number.setdefault(trial.number, []).append(trial.state)
    outcomes: Counter[str] = Counter()
    for states in states_by_number.values():
        if "running" in states or set(states) == {"finished"}:
            return ""
        # One seed that does not train loses the candidate; the worst outcome names it.
        outcomes[next(state for state in ("failed", "non-finite", "at chance") if state in states)] += 1
    if not outcomes:
        return ""
    counts = join_words(f"{count} {state}" for state, count in outcomes.items())
    return (
        f"Tuning found no recipe under which {arm} trains: of its "
        f"{format_count(outcomes.total(), 'candidate')} at full length, {counts}. Its best error is that of a network "
        "that learned nothing: too few epochs, or a search space without a good recipe?"
    )


def to_tuned_record(record: StudyRecord, tuning: RecordedTuning) -> StudyRecord:
    """Return the record of the arms under their tuned recipes.

    Tuned settings may differ from arm to arm; everything else is as registered.
    """
    registration = record.registration
    baseline = tuning.best_values[registration.baseline]
    changes = {}
    for arm in registration.arms[1:]:
        tuned_differences = _recipe_differences(baseline, tuning.best_values[arm])
        changes[arm] = (*registration.changes.get(arm, ()), *tuned_differences)
    held = {path: leaf for path, leaf in registration.held.items() if path not in baseline}
    # A tuned setting for which every arm chose the same value is held equal after all.
    for path, leaf in baseline.items():
        if all(tuning.best_values[arm][path] == leaf for arm in changes):
            held[path] = leaf
    return replace(
        record,
        registration=replace(
            registration,
            changes=changes,
            held=held,
            varies=(*registration.varies, *baseline),
            tuning=None,
        ),
        trials=tuning.trials,
        tuning=None,  # this record has one comparison only
    )


def expected_best_errors(errors: Sequence[float]) -> tuple[float, ...]:
    """Expected lowest error of 1, 2, … candidates drawn with replacement from those that were tried, if any.

    Source: Dodge et al. 2019, Sect. 3.
    """
    if not errors:
        return ()
    ordered, count = np.sort(np.asarray(errors, dtype=np.float64)), len(errors)
    share_worse = (count - np.arange(count + 1)) / count
    expected = []
    for num_draws in range(1, count + 1):
        # Probability that the lowest of the draws is the candidate at each rank.
        probabilities = share_worse[:-1] ** num_draws - share_worse[1:] ** num_draws
        expected.append(float(ordered @ probabilities))
    return tuple(expected)


def _recipe_differences(baseline: Mapping[str, Leaf], own: Mapping[str, Leaf]) -> Iterable[Difference]:
    for path, leaf in own.items():
        if leaf != baseline[path]:
            yield Difference(path=path, before=baseline[path], after=leaf)


def _summarize_arm_tuning(
    arm: str, registration: Registration, tuning: TuningBudget, record: RecordedTuning
) -> ArmTuningSummary:
    trials = [trial for trial in record.candidates if trial.arm == arm]
    candidates = [trial for trial in trials if not trial.is_source]
    first_rung_errors = _mean_errors_by_candidate(candidates, rung=0)
    # Only candidates on the last rung were trained to full length.
    full_errors = _mean_errors_by_candidate(candidates, rung=len(tuning.rung_schedule) - 1)
    shared_recipe_error, best_error = math.nan, math.nan
    if _starts_with_shared_recipe(candidates, registration, tuning):
        shared_recipe_error = full_errors.get(0, math.nan)
    best_candidate = record.best_candidates.get(arm)
    if best_candidate is not None:
        best_error = full_errors.get(best_candidate, math.nan)
    outcomes = Counter(trial.state for trial in candidates)
    return ArmTuningSummary(
        arm=arm,
        num_candidates=len({trial.number for trial in candidates}),
        assigned_epochs=sum(trial.epochs for trial in candidates),
        trained_epochs=sum(trial.epochs_trained for trial in candidates),
        source_epochs=sum(trial.epochs for trial in trials if trial.is_source),
        train_seconds=sum(trial.seconds for trial in trials),
        num_trials=len(candidates),
        num_nonfinite=outcomes["non-finite"],
        num_at_chance=outcomes["at chance"],
        num_failed=outcomes["failed"],
        num_restarted=sum(trial.num_attempts > 1 for trial in trials),
        best_candidate=best_candidate,
        shared_recipe_error=shared_recipe_error,
        best_error=best_error,
        chosen_values=record.best_values.get(arm, {}),
        importance=record.importance.get(arm, {}),
        expected_best_errors=_expected_errors(tuning, list(first_rung_errors.values())),
    )


def _expected_errors(tuning: TuningBudget, errors: list[float]) -> tuple[float, ...]:
    """Expected error of the best of 1, 2, … candidates.

    TPE proposes candidates from the results of earlier ones: they are not exchangeable, so for TPE this is the best so
    far, in the order of the search.
    """
    finite_errors = np.where(np.isfinite(errors), errors, MISSING_ERROR_PERCENT).tolist()
    if tuning.sampler != "tpe":
        return expected_best_errors(finite_errors)
    return tuple(map(float, np.minimum.accumulate(finite_errors)))


def _mean_errors_by_candidate(candidates: Iterable[RecordedCandidate], rung: int) -> dict[int, float]:
    """Mean validation error over tuning seeds, by candidate number, on one rung."""
    errors_by_candidate: dict[int, list[float]] = {}
    for trial in candidates:
        if trial.rung == rung:
            errors_by_candidate.setdefault(trial.number, []).append(trial.validation_error)
    return {number: sum(errors) / len(errors) for number, errors in sorted(errors_by_candidate.items())}


def _starts_with_shared_recipe(
    candidates: Sequence[RecordedCandidate], registration: Registration, tuning: TuningBudget
) -> bool:
    """Whether candidate 0 is the shared recipe: where the space contains it, unless it is a grid."""
    shared = registration.held
    is_in_space = all(
        dimension.contains(shared[dimension.path]) for dimension in tuning.space if dimension.path in shared
    )
    return is_in_space and tuning.sampler != "grid" and any(trial.number == 0 for trial in candidates)


def _find_refusal_reasons(registration: Registration, tuning: TuningBudget, record: RecordedTuning) -> Iterable[str]:
    """Reasons against a comparison under tuned recipes."""
    mismatches = []
    for arm in registration.arms:
        mismatch = _describe_budget_mismatch(arm, registration, tuning, record)
        if mismatch:
            mismatches.append(mismatch)
    if mismatches:
        yield (
            "The tuning budgets are not those that were registered, so there is no answer under tuned recipes: "
            f"{'; '.join(mismatches)}."
        )
    # A seed that chose the recipe and then judges it gives an optimistic error.
    shared_seeds = sorted({trial.seed for trial in record.candidates} & {*registration.seeds})
    if shared_seeds:
        yield f"Tuning and comparison share seed {shared_seeds[0]}, so there is no answer under tuned recipes."
    # Choosing a recipe by its test error would make the comparison optimistic.
    tested_arms = sorted({trial.arm for trial in record.candidates if trial.has_test_metrics})
    if tested_arms:
        yield (
            f"Candidates of {join_words(tested_arms)} were evaluated on the test split, so there is no answer under "
            "tuned recipes."
        )
    # Unequal budgets explain a missing recipe; without them it is a fault of its own.
    without_recipe = [arm for arm in registration.arms if arm not in record.best_values]
    if without_recipe and not mismatches:
        yield f"Tuning has found no recipe for {join_words(without_recipe)}, so there is no answer under tuned recipes."


def _describe_budget_mismatch(
    arm: str, registration: Registration, tuning: TuningBudget, record: RecordedTuning
) -> str:
    """Describe how an arm's budget differs from the registered one; empty where it does not."""
    full_epochs = _full_epochs(arm, registration)
    trials = [trial for trial in record.candidates if trial.arm == arm and not trial.is_source]
    num_rungs = len(tuning.rung_schedule)
    for index, rung in enumerate(tuning.rung_schedule):
        on_rung = [trial for trial in trials if trial.rung == index]
        num_candidates = len({trial.number for trial in on_rung})
        num_epochs = sum(trial.epochs for trial in on_rung)
        required_epochs = _rung_epochs(rung, tuning, full_epochs)
        # A running trial may still fail: the budget is not spent yet.
        is_running = any(trial.state == "running" for trial in on_rung)
        if is_running or (num_candidates, num_epochs) != (rung.num_candidates, required_epochs):
            rung_text = f" on rung {index + 1}" if num_rungs > 1 else ""
            candidates_text = f"{format_count(num_candidates, 'candidate')} of {rung.num_candidates}"
            epochs_text = f"{format_count(num_epochs, 'epoch')} of {required_epochs}"
            return f"{arm} has {candidates_text} and {epochs_text}{rung_text}"
    if any(trial.rung >= num_rungs for trial in trials):
        return f"{arm} has candidates beyond the last rung"
    return ""


def _rung_epochs(rung: Rung, tuning: TuningBudget, full_epochs: int) -> int:
    return rung.num_candidates * rung.epochs_per_candidate(full_epochs) * len(tuning.seeds)


def _full_epochs(arm: str, registration: Registration) -> int:
    """Epochs of an arm's trials at full length."""
    for change in registration.changes.get(arm, ()):
        if change.path == "recipe.epochs":
            return int(change.after or 0)
    held = registration.held.get("recipe.epochs")
    if held is not None:
        return int(held or 0)
    # Another arm changes the epochs, so they are not held: this arm has the baseline's.
    for changes in registration.changes.values():
        for change in changes:
            if change.path == "recipe.epochs":
                return int(change.before or 0)
    raise ValueError(f"the registration holds no recipe.epochs for {arm}.")
