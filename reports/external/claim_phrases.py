"""Claims written as phrases: ``B helps over A``, ``accuracy rises with A, B, C``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

from ablations import AllOf, Claim, DoesNotHelp, FallsWith, Helps, HelpsBy, Metric, Reverses, SaturatesAt
from ablations import change_verbs as verbs_of
from lightning_modules.specs.errors import InvalidValue
from lightning_modules.specs.text import join_words
from reports.external.results_columns import ResultsError

PHRASES = (
    "B helps over A",
    "B does not help over A",
    "B helps over A by 0.5 +- 0.2",
    "falls with A, B, C",
    "falls up to B along A, B, C",
    "B is worse than A, and D is better than C",
)
_HELPS = r"(?:helps over|improves on|is better than)"
_HELPS_NOT = r"(?:does not help over|does not improve on)"
_NUMBER = r"([-+]?[0-9.]+(?:e[-+]?[0-9]+)?)"
_WORSE = r"is worse than"
_AND = r"(?:\s*,)?\s+and\s+|\s*;\s*"


def parse_claim(phrase: str, arms: Sequence[str], metric: Metric) -> Claim:
    """Parse a claim about a metric from a phrase; several simple claims joined by "and" are one conjunction.

    Args:
        phrase: one of :data:`PHRASES` with the names of arms, which may be quoted: ``"wide net" helps over A``.
        arms: all names; where one begins with another, the longer is meant.

    Raises:
        ResultsError: the phrase is none of these, names an unknown arm, or contradicts the direction of the metric.
    """
    text = " ".join(phrase.split()).rstrip(".")
    names = _name_pattern(arms)
    for pattern, make_claim in _grammar(names, metric):
        match = re.fullmatch(pattern, text)
        if match:
            return _check_claim(phrase, partial(make_claim, match))
    # After the whole phrases: a reversal has an "and" of its own.
    parts = _split_conjunction(text, names)
    if len(parts) > 1:
        claims = [parse_claim(part, arms, metric) for part in parts]
        if all(isinstance(claim, (Helps, DoesNotHelp, HelpsBy)) for claim in claims):
            simple = cast("list[Helps | DoesNotHelp | HelpsBy]", claims)
            return _check_claim(phrase, lambda: AllOf(endpoint=metric, parts=tuple(simple)))
    worse = re.fullmatch(rf"({names}) {_WORSE} ({names})", text)
    if worse:
        # Its own phrase only as half of a reversal: otherwise it is an improvement, told from the other side.
        raise ResultsError(
            f'The claim {phrase!r} tells of a worsening; expected an improvement: "{worse[2]} helps over {worse[1]}".'
        )
    known = join_words(arms, max_words=10)
    unknown = _find_unknown_arms(text, arms)
    if unknown:
        raise ResultsError(
            f"The claim {phrase!r} names {unknown[0]!r}, which is no arm of the table; expected {known}."
        )
    phrases = "; ".join(PHRASES)
    if metric.higher_is_better:
        phrases = phrases.replace("falls", "rises")
    raise ResultsError(
        f"The claim {phrase!r} is not understood; expected one of {phrases}, with names of the arms ({known})."
    )


def _find_unknown_arms(text: str, arms: Sequence[str]) -> list[str]:
    """Find what a phrase that is otherwise well formed has in the places of arms, and that is none."""
    names: list[str] = []
    for part in re.split(_AND, text):
        pair = re.fullmatch(rf"(.+?) (?:{_HELPS}|{_HELPS_NOT}|{_WORSE}) (.+?)(?: by {_NUMBER}.*)?", part)
        if pair:
            names += [pair[1], pair[2]]
    order = re.fullmatch(r"(?:.+ )?(?:falls|rises|improves) (?:up to (.+?),? along|with|along|from) (.+)", text)
    if order:
        names += [*([order[1]] if order[1] else []), *re.split(r"\s*(?:,|->| to )\s*", order[2])]
    return [name for name in map(_unquote, names) if name not in arms]


def _check_claim(phrase: str, make_claim: Callable[[], Claim]) -> Claim:
    try:
        return make_claim()
    except InvalidValue as error:
        raise ResultsError(f"The claim {phrase!r}: {error}") from error


def _grammar(names: str, metric: Metric) -> list[tuple[str, Callable[[re.Match[str]], Claim]]]:
    """Patterns of phrases, each with what makes the claim of a match."""
    order = rf"((?:{names})(?:(?:\s*,\s*|\s+to\s+|\s*->\s*)(?:{names}))+)"
    verb = r"(?:.+ )?(falls|rises|improves)"
    pair = rf"({names}) {_HELPS} ({names})"

    def read_order(text: str) -> tuple[str, ...]:
        return tuple(_unquote(match.group()) for match in re.finditer(names, text))

    def make_falls(match: re.Match[str]) -> Claim:
        _check_verb(match[1], metric)
        return FallsWith(endpoint=metric, order=read_order(match[2]))

    def make_saturates(match: re.Match[str]) -> Claim:
        _check_verb(match[1], metric)
        return SaturatesAt(endpoint=metric, arm=_unquote(match[2]), order=read_order(match[3]))

    def make_helps_by(match: re.Match[str]) -> Claim:
        by, within = _read_number(match[3]), _read_number(match[4])
        return HelpsBy(endpoint=metric, arm=_unquote(match[1]), over=_unquote(match[2]), by=by, within=within)

    def make_reverses(match: re.Match[str]) -> Claim:
        worse, base, better, other = (_unquote(match[index]) for index in range(1, 5))
        return Reverses(endpoint=metric, worse=(base, worse), better=(other, better))

    return [
        (pair, lambda match: Helps(endpoint=metric, arm=_unquote(match[1]), over=_unquote(match[2]))),
        (
            rf"({names}) {_HELPS_NOT} ({names})",
            lambda match: DoesNotHelp(endpoint=metric, arm=_unquote(match[1]), over=_unquote(match[2])),
        ),
        (rf"{pair} by {_NUMBER} ?(?:±|\+-|\+/-|within) ?{_NUMBER}", make_helps_by),
        (rf"{verb} (?:with|along|from) {order}", make_falls),
        (rf"{verb} up to ({names})(?: and is level beyond it)?,? along {order}", make_saturates),
        (rf"({names}) {_WORSE} ({names})(?:{_AND})({names}) {_HELPS} ({names})", make_reverses),
    ]


def _check_verb(verb: str, metric: Metric) -> None:
    better, worse = verbs_of(metric)
    if verb == worse:
        direction = "higher" if metric.higher_is_better else "lower"
        raise ResultsError(
            f"a claim tells of an improvement, and a {direction} {metric.name} is better; "
            f"expected {better!r} or 'improves'"
        )


def _name_pattern(arms: Sequence[str]) -> str:
    # Of the alternatives the first that fits is taken: `wide net` must stand before `wide`.
    longest_first = sorted(arms, key=len, reverse=True)
    plain = [re.escape(arm) for arm in longest_first]
    quoted = [rf"{quote}{name}{quote}" for name in plain for quote in ('"', "'")]
    return "(?:" + "|".join(quoted + plain) + ")"


def _unquote(name: str) -> str:
    # Two quotes alone hold no name.
    is_quoted = len(name) > 2 and name[0] == name[-1] and name[0] in "\"'"
    return name[1:-1] if is_quoted else name


def _split_conjunction(text: str, names: str) -> list[str]:
    """Split at each "and" after an arm's name or a number, where the next part begins with an arm's name."""
    return re.split(rf"(?:{_AND})(?={names} )", text)


def _read_number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ResultsError(f"{text!r} is not a number") from error
