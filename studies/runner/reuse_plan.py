"""Plan a study: which trials are recorded, which ended ones are reused or logged, and which must be trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:  # the options of the command line, which import this module, need no NumPy
    from studies.design.trial import Trial
    from studies.records.identity import EndedTrial, TrialKey

ReusePolicy = Literal["matching", "any", "none"]
REUSE_POLICIES: tuple[ReusePolicy, ...] = get_args(ReusePolicy)


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """Every trial of a study, in exactly one of the first four lists.

    Attributes:
        recorded: logged in this study already.
        reusable: ended in another study, or by other code where the user allows that; its result is copied.
        unlogged: ended, but not in the tracking store; logged without training.
        to_train: all others.
        outdated: those of ``to_train`` that ended under other code, data or platform.
    """

    recorded: tuple[Trial, ...]
    reusable: tuple[tuple[Trial, EndedTrial], ...]
    unlogged: tuple[Trial, ...]
    to_train: tuple[Trial, ...]
    outdated: tuple[Trial, ...]


def plan_trials(
    trials: Sequence[Trial],
    key_of: Callable[[Trial], TrialKey],
    ended_trials: Sequence[EndedTrial],
    has_stored_result: Callable[[Trial], bool],
    parent_run_id: str,
    reuse: ReusePolicy = "matching",
) -> StudyPlan:
    """Sort trials by what is left to do.

    Args:
        trials: with a common parent run.
        key_of: what must agree before an ended trial is reused.
        ended_trials: all trials in the tracking store that ended, the oldest first; of the common parent run, those
            that failed as well.
        has_stored_result: whether a trial's folder holds its result.
        parent_run_id: of the study, or of an arm's search.
        reuse: ``matching`` reuses what agrees in code, data and platform; ``any`` what agrees in setup, seed, data and
            the user's own code; ``none`` nothing.
    """
    recorded, reusable, unlogged, to_train, outdated = [], [], [], [], []
    for trial in trials:
        runs = [ended for ended in ended_trials if ended.key.fingerprint == trial.fingerprint]
        own = [ended for ended in runs if ended.parent_run_id == parent_run_id]
        # A failed trial is tried again; a candidate is not.
        same_setup = [ended for ended in runs if ended.status != "failed" or trial.is_candidate]
        candidates = find_reusable(same_setup, key_of(trial), reuse)
        if own and own[-1] in candidates:  # a report reads the newest run of a trial
            recorded.append(trial)
        elif candidates:
            # The newest, as everywhere: where two agree in all that decides their bits, either would do.
            reusable.append((trial, candidates[-1]))
        elif reuse != "none" and has_stored_result(trial):
            unlogged.append(trial)  # the store failed, or the driver was killed before it logged
        else:
            to_train.append(trial)
            # Said only where the user did not ask for it: under ``none``, all is trained again on purpose.
            if same_setup and reuse == "matching":
                outdated.append(trial)
    return StudyPlan(
        recorded=tuple(recorded),
        reusable=tuple(reusable),
        unlogged=tuple(unlogged),
        to_train=tuple(to_train),
        outdated=tuple(outdated),
    )


def merge_plans(plans: Iterable[StudyPlan]) -> StudyPlan:
    """Merge plans of different trials."""
    merged = StudyPlan(recorded=(), reusable=(), unlogged=(), to_train=(), outdated=())
    for plan in plans:
        merged = StudyPlan(
            recorded=merged.recorded + plan.recorded,
            reusable=merged.reusable + plan.reusable,
            unlogged=merged.unlogged + plan.unlogged,
            to_train=merged.to_train + plan.to_train,
            outdated=merged.outdated + plan.outdated,
        )
    return merged


def retrain_missing_weights(plan: StudyPlan, has_weights: Callable[[Trial], bool]) -> StudyPlan:
    """Add the source networks of trials to be trained whose own weights are missing.

    Recursive: a source network that is trained again needs the weights of those that it starts from.
    """
    needed = {source.fingerprint for trial in plan.to_train for source in trial.dependencies}
    # Weights are optional (`ablate gc` removes them), so that an ended trial may have none left.
    ended = (*plan.recorded, *(trial for trial, _ in plan.reusable), *plan.unlogged)
    retrained = tuple(trial for trial in ended if trial.fingerprint in needed and not has_weights(trial))
    if not retrained:
        return plan
    extended_plan = StudyPlan(
        recorded=tuple(trial for trial in plan.recorded if trial not in retrained),
        reusable=tuple((trial, original) for trial, original in plan.reusable if trial not in retrained),
        unlogged=tuple(trial for trial in plan.unlogged if trial not in retrained),
        to_train=(*retrained, *plan.to_train),
        outdated=plan.outdated,
    )
    return retrain_missing_weights(extended_plan, has_weights)


def describe_plan(plan: StudyPlan) -> str:
    """Summarize a plan in a sentence."""
    total = len(plan.recorded) + len(plan.reusable) + len(plan.unlogged) + len(plan.to_train)
    if plan.to_train:
        description = f"{len(plan.to_train)} of {total} trials to train"
    else:
        description = f"nothing to train: all {total} trials have ended"
    if plan.reusable:
        description += f"; {len(plan.reusable)} reused from earlier trainings"
    if plan.unlogged:
        description += f"; {len(plan.unlogged)} logged that were trained before"
    if plan.outdated:
        description += (
            f"; {len(plan.outdated)} of them are recorded as trained by other code, data or platform, "
            "and are trained again (--reuse any keeps those whose data and your own code are the same)"
        )
    return description


def find_reusable(same_setup: Sequence[EndedTrial], key: TrialKey, reuse: ReusePolicy) -> list[EndedTrial]:
    """Those of some ended trials of a setup and seed whose results count for a key."""
    if reuse == "none":
        return []
    if reuse == "any":
        return [ended for ended in same_setup if _matches_data_and_user_code(ended.key, key)]
    return [ended for ended in same_setup if ended.key == key]


def _matches_data_and_user_code(ended_key: TrialKey, key: TrialKey) -> bool:
    return (ended_key.data, ended_key.user_code) == (key.data, key.user_code)
