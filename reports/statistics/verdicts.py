"""From claims and numbers to verdicts: a fixed table of what may be said, read from one family of intervals.

A verdict asserts statements about means over seeds, and is wrong exactly if one of them is false. Of the improvement of
``arm`` on ``over``, [L2, U2] is the two-sided 95% interval, L1 and U1 are the one-sided 95% bounds, and ε is the
smallest effect of interest. A claim gets the first word all of whose statements hold and may be made:

    claim          practically equivalent    supported                       contradicted
    Helps          L1 > -ε and U1 < ε        L2 > 0                          U2 < 0
    DoesNotHelp    L1 > -ε and U1 < ε        U1 < ε                          L2 > 0
    HelpsBy        (none)                    L1 > by - within and            U2 < by - within, or
                                             U1 < by + within                L2 > by + within
    FallsWith      (none)                    linear contrast L2 > 0, and     a step with U2 < 0
                                             L1 > -ε at every step
    SaturatesAt    (none)                    an earlier arm with L2 > 0,     a deeper arm with L2 > 0
                                             and every deeper equivalent     that is not equivalent
    Reverses       both parts equivalent     U2 < 0 from worse[0] to [1],    L2 > 0 in the first part,
                                             L2 > 0 from better[0] to [1]    or U2 < 0 in the second
    AllOf          every part equivalent     every part supported            a part contradicted

and *inconclusive* otherwise. Direction is read from two-sided intervals and margins from one-sided bounds, everywhere.
Bounds hold simultaneously for all contrasts that the claims on one endpoint read, save that a conjunction which is the
only claim on its endpoint is supported at each part's own level (intersection-union, Berger 1982). That protects one
claim; beside others a conjunction is read from the simultaneous bounds too.

Whatever the numbers, nothing is stated from one seed, or from a metric selected on the test split; no margin from two
pairs (their standard deviation is uncertain by a factor of 0.45 to 32); nothing in favour of the arm that lost more
seeds to divergence than the other, and no equivalence where they lost unequal numbers. A statement that may not be made
is passed over, with a note, and the next word of the row is tried.

Source: Dunnett 1955; Schuirmann 1987; Berger 1982; why, and the measured error rates: docs/statistics.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ablations import AllOf, Claim, DoesNotHelp, Endpoint, FallsWith, Helps, HelpsBy, Reverses, SaturatesAt
from reports.statistics.contrasts import Contrast
from reports.statistics.readers import ALPHA, Evidence, Measured, Reader, Statement, reader

Word = Literal["supported", "contradicted", "practically equivalent", "inconclusive"]
OWN_LEVEL = "every part holds at its own level, as a conjunction asks; the simultaneous intervals are wider"

Simple = Helps | DoesNotHelp | HelpsBy
Readers = Mapping[Endpoint, Reader]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the data say about one claim.

    Attributes:
        reason: one line: the numbers that decided, or what stood in the way.
        notes: what a reader must know beside it.
        contrasts: the differences that the claim reads; none for trainability, which is counted.
    """

    claim: Claim
    word: Word
    reason: str
    notes: tuple[str, ...] = ()
    contrasts: tuple[Contrast, ...] = ()


@dataclass(frozen=True)
class _Rung:
    """A word, and all the statements that it takes."""

    word: Word
    statements: tuple[Statement, ...]


def judge(
    claims: Sequence[Claim], arms: Sequence[str], evidence: Mapping[Endpoint, Evidence], *, alpha: float = ALPHA
) -> tuple[Verdict, ...]:
    """One verdict per claim, by the table of this module.

    Args:
        claims: all that the study registered: their contrasts on an endpoint make its family.
        arms: names of the rows of the evidence.
        evidence: by endpoint; a claim about an endpoint that is missing here is inconclusive.
        alpha: familywise level of each endpoint: what "95%" above stands for.

    Raises:
        ValueError: where a claim names an arm that is not among ``arms``, or the evidence has another number of rows.
    """
    stray = sorted({arm for claim in claims for arm in claim.arms} - set(arms))
    if stray:
        raise ValueError(f"the claims speak of {', '.join(stray)}; the arms are: {', '.join(arms)}.")
    parts = [part for claim in claims for part in _parts(claim)]
    readers = {
        endpoint: reader(
            endpoint,
            numbers,
            arms,
            [pair for part in parts if part.endpoint == endpoint for pair in part.contrasts],
            alpha=alpha,
        )
        for endpoint, numbers in evidence.items()
    }
    mentions = [endpoint for claim in claims for endpoint in _endpoints(claim)]
    alone = [all(mentions.count(endpoint) == 1 for endpoint in _endpoints(claim)) for claim in claims]
    return tuple(_judge(claim, readers, only) for claim, only in zip(claims, alone, strict=True))


def _judge(claim: Claim, readers: Readers, alone: bool) -> Verdict:
    absent = [endpoint.replace("_", " ") for endpoint in _endpoints(claim) if endpoint not in readers]
    if absent:
        return Verdict(claim=claim, word="inconclusive", reason=f"there is no evidence on {' and '.join(absent)}")
    parts = [(readers[part.endpoint], part.contrasts) for part in _parts(claim)]
    shown = tuple(dict.fromkeys(found for each, pairs in parts for found in each.shown(pairs)))
    notes = tuple(dict.fromkeys(note for each, pairs in parts for note in each.notes(pairs)))
    silence = next((each.silence() for each, _ in parts if each.silence()), "")
    if silence:
        return Verdict(claim=claim, word="inconclusive", reason=silence, notes=notes, contrasts=shown)
    several = len(claim.contrasts) > 1
    word, reason, passed_over = _climb(_rungs(claim, readers, alone), several)
    level = [OWN_LEVEL] if alone and several and word in ("supported", "practically equivalent") else []
    notes = (*level, *_remarks(claim, word, readers), *passed_over, *notes)
    return Verdict(claim=claim, word=word, reason=reason, notes=notes, contrasts=shown)


def _climb(rungs: Sequence[_Rung], several: bool) -> tuple[Word, str, tuple[str, ...]]:
    """The first word all of whose statements hold and may be made, its reason, and what was passed over on the way."""
    passed_over: list[str] = []
    for rung in rungs:
        if not all(statement.holds for statement in rung.statements):
            continue
        obstacles = list(dict.fromkeys(each.obstacle for each in rung.statements if each.obstacle))
        if not obstacles:
            return rung.word, _join(rung.statements, several), tuple(f"not {note}" for note in passed_over)
        passed_over.append(f"{rung.word}, although the intervals show it: {'; '.join(obstacles)}")
    if passed_over:
        obstacle = passed_over[0].partition(": ")[2]
        return "inconclusive", obstacle, tuple(f"not {note}" for note in passed_over)
    missed = _missed(rungs, "supported") + _missed(rungs, "practically equivalent")
    return "inconclusive", _join(missed, several), ()


def _missed(rungs: Sequence[_Rung], word: Word) -> list[Statement]:
    """What was lacking for a word, by the way that came nearest to it."""
    ways = [[each for each in rung.statements if not each.holds] for rung in rungs if rung.word == word]
    return min(ways, key=len, default=[])


def _join(statements: Sequence[Statement], several: bool) -> str:
    lines = (f"{each.about}: {each.text}" if several else each.text for each in statements)
    return "; ".join(dict.fromkeys(lines))


def _rungs(claim: Claim, readers: Readers, alone: bool) -> list[_Rung]:
    """The row of the table for one claim, from left to right."""
    if isinstance(claim, AllOf):
        return _all_of(claim, readers, alone)
    numbers = readers[claim.endpoint]
    if isinstance(claim, FallsWith):
        return _falls_with(claim, numbers, alone)
    if isinstance(claim, SaturatesAt):
        return _saturates_at(claim, numbers, alone)
    if isinstance(claim, Reverses):
        return _reverses(claim, numbers, alone)
    if isinstance(claim, (Helps, DoesNotHelp, HelpsBy)):
        return _simple(claim, numbers, own=False)
    raise TypeError(f"{type(claim).__name__} has no row in the table of verdicts; add one.")


def _simple(claim: Simple, numbers: Reader, *, own: bool) -> list[_Rung]:
    pair = (claim.over, claim.arm)
    if isinstance(claim, HelpsBy):
        low, high = claim.by - claim.within, claim.by + claim.within
        return [
            _Rung("supported", (numbers.between(pair, low, high, "neither", own=own),)),
            _Rung("contradicted", (numbers.beyond(pair, high=low),)),
            _Rung("contradicted", (numbers.beyond(pair, low=high),)),
        ]
    equivalent = _Rung("practically equivalent", (numbers.equivalent(pair, own=own),))
    if isinstance(claim, DoesNotHelp):
        supported = _Rung("supported", (numbers.not_better(pair, own=own),))
        return [equivalent, supported, _Rung("contradicted", (numbers.better(pair),))]
    supported = _Rung("supported", (numbers.better(pair, own=own),))
    return [equivalent, supported, _Rung("contradicted", (numbers.worse(pair),))]


def _all_of(claim: AllOf, readers: Readers, alone: bool) -> list[_Rung]:
    rows = [_simple(part, readers[part.endpoint], own=alone) for part in claim.parts]
    rungs = [rung for row in rows for rung in row]
    equivalent = [rung.statements for rung in rungs if rung.word == "practically equivalent"]
    together = [_Rung("practically equivalent", sum(equivalent, ()))] if len(equivalent) == len(rows) else []
    supported = sum((rung.statements for rung in rungs if rung.word == "supported"), ())
    return [*together, _Rung("supported", supported), *(rung for rung in rungs if rung.word == "contradicted")]


def _falls_with(claim: FallsWith, numbers: Reader, alone: bool) -> list[_Rung]:
    steps = [numbers.falling(pair) for pair in claim.contrasts]
    kept = tuple(numbers.not_worse(step, own=alone) for step in steps)
    supported = _Rung("supported", (numbers.falls(claim.order, own=alone), *kept))
    return [supported, *(_Rung("contradicted", (numbers.worse(step),)) for step in steps)]


def _saturates_at(claim: SaturatesAt, numbers: Reader, alone: bool) -> list[_Rung]:
    place = claim.order.index(claim.arm)
    earlier = [numbers.falling(pair) for pair in claim.contrasts[:place]]
    deeper = [numbers.falling(pair) for pair in claim.contrasts[place:]]
    plateau = tuple(numbers.equivalent(pair, own=alone) for pair in deeper)
    supported = [_Rung("supported", (numbers.better(pair), *plateau)) for pair in earlier]
    gains = [pair for pair, level in zip(deeper, plateau, strict=True) if not level.holds]
    return [*supported, *(_Rung("contradicted", (numbers.better(pair),)) for pair in gains)]


def _reverses(claim: Reverses, numbers: Reader, alone: bool) -> list[_Rung]:
    both = (numbers.worse(claim.worse, own=alone), numbers.better(claim.better, own=alone))
    equivalent = tuple(numbers.equivalent(pair, own=alone) for pair in claim.contrasts)
    return [
        _Rung("practically equivalent", equivalent),
        _Rung("supported", both),
        _Rung("contradicted", (numbers.better(claim.worse),)),
        _Rung("contradicted", (numbers.worse(claim.better),)),
    ]


def _remarks(claim: Claim, word: Word, readers: Readers) -> list[str]:
    """What the word alone does not say."""
    numbers = readers[_parts(claim)[0].endpoint]
    if isinstance(claim, (Helps, DoesNotHelp, HelpsBy)):
        return _remarks_on_one(claim, word, numbers)
    if isinstance(claim, SaturatesAt) and word == "inconclusive":
        deeper = [numbers.falling(pair) for pair in claim.contrasts[claim.order.index(claim.arm) :]]
        gain = max(numbers.bounds(pair, own=False).high_one_sided for pair in deeper)
        return [f"a plateau cannot be told from a further gain of up to {numbers.amount(gain)}"] * math.isfinite(gain)
    if isinstance(claim, Reverses) and isinstance(numbers, Measured):
        return [f"interaction, which alone proves no reversal: {numbers.interaction(claim.worse, claim.better)}"]
    return []


def _remarks_on_one(claim: Simple, word: Word, numbers: Reader) -> list[str]:
    pair, smallest = (claim.over, claim.arm), numbers.evidence.smallest_effect
    bounds = numbers.bounds(pair, own=False)
    margins = all(contrast.pairs > 2 for contrast in numbers.shown([pair]))  # two seeds show no margin
    if isinstance(claim, Helps) and word == "supported" and bounds.low > smallest and margins:
        return [f"by more than ε = {numbers.amount(smallest)}"]
    if isinstance(claim, Helps) and word == "contradicted" and bounds.high < -smallest and margins:
        return [f"worse by more than ε = {numbers.amount(smallest)}"]
    if isinstance(claim, DoesNotHelp) and word == "practically equivalent":
        return ["practical equivalence agrees with the claim"]
    if isinstance(claim, HelpsBy) and word == "inconclusive":
        place = "inside" if bounds.low <= claim.by <= bounds.high else "outside"
        return [f"{numbers.amount(claim.by)} is {place} the two-sided interval"]
    return []


def _parts(claim: Claim) -> tuple[Claim, ...]:
    """The claims whose contrasts are read, each on its own endpoint."""
    return claim.parts if isinstance(claim, AllOf) else (claim,)


def _endpoints(claim: Claim) -> tuple[Endpoint, ...]:
    return tuple(dict.fromkeys(part.endpoint for part in _parts(claim)))
