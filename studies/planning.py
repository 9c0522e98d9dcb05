"""What is left to do: a study's trials, less those that the record or the spool already hold. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from studies.fits import Fit
from studies.records import Ended, Identity

Reuse = Literal["matching", "any", "none"]
REUSES: tuple[Reuse, ...] = get_args(Reuse)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Every trial of a study in exactly one of the first four places.

    Attributes:
        recorded: already in this study's record.
        elsewhere: ended in another study, or by other code where the user asked to keep that; to be copied.
        spooled: ended, but not yet in any record; to be logged without training.
        train: to be trained.
        outdated: of those to be trained, the ones that a record holds as trained by other code, data or platform.
    """

    recorded: tuple[Fit, ...]
    elsewhere: tuple[tuple[Fit, Ended], ...]
    spooled: tuple[Fit, ...]
    train: tuple[Fit, ...]
    outdated: tuple[Fit, ...]


def plan(
    fits: Sequence[Fit],
    identity: Callable[[Fit], Identity],
    ended: Sequence[Ended],
    is_spooled: Callable[[Fit], bool],
    parent: str,
    reuse: Reuse = "matching",
) -> Plan:
    """Sort a study's trials by what is left to do.

    Args:
        fits: all trials of the study.
        identity: what must agree before an ended trial is used again.
        ended: every trial in the store that ended as finished or diverged, the oldest first.
        is_spooled: whether a trial's folder holds its result.
        parent: the study's own run.
        reuse: ``matching`` uses what agrees in code, data and platform; ``any`` what agrees in setup, seed, data and
            the user's own code; ``none`` nothing.
    """
    recorded, elsewhere, spooled, train, outdated = [], [], [], [], []
    for fit in fits:
        same_setup = [trial for trial in ended if trial.identity.fingerprint == fit.fingerprint]
        usable = _usable(same_setup, identity(fit), reuse)
        mine = [trial for trial in same_setup if trial.parent_id == parent]
        if mine and mine[-1] in usable:  # the newest is the one that a report reads
            recorded.append(fit)
        elif usable:
            elsewhere.append((fit, usable[-1]))
        elif reuse != "none" and is_spooled(fit):
            spooled.append(fit)
        else:
            train.append(fit)
            if same_setup and reuse == "matching":
                outdated.append(fit)
    return Plan(
        recorded=tuple(recorded),
        elsewhere=tuple(elsewhere),
        spooled=tuple(spooled),
        train=tuple(train),
        outdated=tuple(outdated),
    )


def merged(plans: Iterable[Plan]) -> Plan:
    """Plans of different trials as one."""
    plans = tuple(plans)
    return Plan(
        recorded=tuple(fit for each in plans for fit in each.recorded),
        elsewhere=tuple(item for each in plans for item in each.elsewhere),
        spooled=tuple(fit for each in plans for fit in each.spooled),
        train=tuple(fit for each in plans for fit in each.train),
        outdated=tuple(fit for each in plans for fit in each.outdated),
    )


def with_weights(todo: Plan, has_weights: Callable[[Fit], bool]) -> Plan:
    """The plan in which every donor of a trial to be done is trained again where its weights are not at hand."""
    wanted = {donor.fingerprint for fit in todo.train for donor in fit.donors}
    ended = (*todo.recorded, *(fit for fit, _ in todo.elsewhere), *todo.spooled)
    again = tuple(fit for fit in ended if fit.fingerprint in wanted and not has_weights(fit))
    if not again:
        return todo
    return with_weights(
        Plan(
            recorded=tuple(fit for fit in todo.recorded if fit not in again),
            elsewhere=tuple((fit, trial) for fit, trial in todo.elsewhere if fit not in again),
            spooled=tuple(fit for fit in todo.spooled if fit not in again),
            train=(*again, *todo.train),
            outdated=todo.outdated,
        ),
        has_weights,
    )


def _usable(same_setup: Sequence[Ended], wanted: Identity, reuse: Reuse) -> list[Ended]:
    if reuse == "none":
        return []
    if reuse == "any":
        return [trial for trial in same_setup if _is_same_but_for_versions(trial.identity, wanted)]
    return [trial for trial in same_setup if trial.identity == wanted]


def _is_same_but_for_versions(found: Identity, wanted: Identity) -> bool:
    return (found.data, found.user_code) == (wanted.data, wanted.user_code)
