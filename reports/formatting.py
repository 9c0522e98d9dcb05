"""Formatting of numbers: decimals by the width of the interval, a true minus sign, units that fit a column."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ablations import capitalize_first

MISSING = "–"  # a value that does not exist
MINUS = "−"  # U+2212, as wide as a plus sign
NO_BREAK_SPACE = "\u00a0"
MAX_DECIMALS = 6  # of a number in fixed notation
SCIENTIFIC = MAX_DECIMALS + 1  # a number of decimals with which smaller numbers are in scientific notation
MAX_FINDINGS = 5  # that a sentence or a list has room for
MAX_UNBROKEN_LENGTH = 20  # characters of a name that fit into a column without a line break
_SI_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_BYTE_UNITS = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))
_TIME_UNITS = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value with its 95% interval; the limits are NaN where there is none.

    Attributes:
        is_clipped: whether a limit was cut at what is possible.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    is_clipped: bool = False

    @property
    def half_width(self) -> float:
        """Half the width of the interval; of one that is cut at one side, its longer side."""
        if self.is_clipped:
            return max(self.high - self.value, self.value - self.low)
        return (self.high - self.low) / 2

    @property
    def is_bounded(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def reverse(self) -> Interval:
        """Return the interval of the same difference with its sign turned."""
        # 0 minus the number, because −0.0 would be exported as such.
        return replace(self, value=0 - self.value, low=0 - self.high, high=0 - self.low)


NO_INTERVAL = Interval(value=math.nan)


def clip_interval(interval: Interval, low: float, high: float) -> Interval:
    """Cut an interval at the least and the largest possible value; one without limits stays so."""
    if not interval.is_bounded or (low <= interval.low and interval.high <= high):
        return interval
    return replace(interval, low=max(interval.low, low), high=min(interval.high, high), is_clipped=True)


def choose_decimals(half_widths: Iterable[float], minimum: int = 0, maximum: int = 3) -> int:
    """Choose the decimals that give the median half-width two significant digits."""
    widths = sorted(width for width in half_widths if math.isfinite(width) and width > 0)
    if not widths:
        return min(maximum, max(minimum, 1))
    # The median: one wide interval must not take the digits from all others.
    typical = widths[len(widths) // 2]
    return min(maximum, max(minimum, 1 - math.floor(math.log10(typical))))


def format_fixed(value: float, num_decimals: int, *, sign: bool = False) -> str:
    """Format with fixed decimals and a true minus sign; ``–`` if not finite, never a negative zero.

    There are ``MAX_DECIMALS`` at most. Where more are asked for, a number that these show as 0 is in scientific
    notation, with two digits: ``2.1e−11``.
    """
    if not math.isfinite(value):
        return MISSING
    text = f"{value:,.{min(num_decimals, MAX_DECIMALS)}f}"
    if num_decimals > MAX_DECIMALS and value and not _has_nonzero_digit(text):
        text = f"{value:.1e}"
    return _typeset_number(text, sign=sign)


def decimals_off_zero(limits: Iterable[float], num_decimals: int, maximum: int = SCIENTIFIC) -> int:
    """The fewest decimals, from ``num_decimals`` to ``maximum``, with which no limit other than 0 is printed as 0."""
    for limit in limits:
        while limit and math.isfinite(limit) and num_decimals < maximum:
            if _has_nonzero_digit(format_fixed(limit, num_decimals)):
                break
            num_decimals += 1
    return num_decimals


def shared_decimals(values: Iterable[float], digits: int = 3) -> int:
    """Choose the decimals that show the smallest number of a column with ``digits`` significant digits."""
    magnitudes = _nonzero_magnitudes(values)
    if not magnitudes:
        return 0
    return max(0, digits - 1 - math.floor(math.log10(min(magnitudes))))


def format_significant(value: float, digits: int = 3) -> str:
    """Format with ``digits`` significant digits, never in scientific notation."""
    if not math.isfinite(value):
        return MISSING
    if value == 0:  # has no logarithm
        return "0"
    num_decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return _typeset_number(f"{value:,.{num_decimals}f}")


def _typeset_number(text: str, *, sign: bool = False) -> str:
    """A number with true minus signs, and with its own sign where one is asked for; what rounds to zero has none."""
    if not _has_nonzero_digit(text):
        return text.lstrip("-")
    is_positive = not text.startswith("-")
    return f"{'+' if sign and is_positive else ''}{text.replace('-', MINUS)}"


def _has_nonzero_digit(text: str) -> bool:
    return any(digit in "123456789" for digit in text)


def format_plus_minus(interval: Interval, num_decimals: int) -> str:
    """Format as ``27.31 ± 0.41``; the value alone where it has no interval; ``58 [0, 100]`` where that is clipped."""
    text = format_fixed(interval.value, num_decimals)
    if not interval.is_bounded:
        return text
    if interval.is_clipped:
        return f"{text} [{format_fixed(interval.low, num_decimals)}, {format_fixed(interval.high, num_decimals)}]"
    return f"{text} ± {format_fixed(interval.half_width, num_decimals)}"


def format_interval(interval: Interval, num_decimals: int) -> str:
    """Format as ``+0.42 [0.12, 0.72]``; the value alone where it has no interval."""
    text = format_fixed(interval.value, num_decimals, sign=True)
    if not interval.is_bounded:
        return text
    return f"{text} [{format_fixed(interval.low, num_decimals)}, {format_fixed(interval.high, num_decimals)}]"


def format_integer(value: float) -> str:
    """Format a count with thousands separators; ``–`` if not finite."""
    return format_fixed(value, 0)


def format_published(value: float) -> str:
    """Format a published value with all its digits, and at least one decimal."""
    text = f"{value:g}"
    return text if "." in text else f"{value:.1f}"


def metric_prefix(values: Iterable[float]) -> tuple[float, str]:
    """Return factor and SI prefix that bring the smallest value of a column above 1."""
    return _fitting_unit(values, _SI_PREFIXES)


def byte_unit(values: Iterable[float]) -> tuple[float, str]:
    """Return factor and name of the unit that fits a column of sizes in bytes."""
    return _fitting_unit(values, _BYTE_UNITS)


def time_unit(values: Iterable[float]) -> tuple[float, str]:
    """Return factor and name of the unit that fits a column of durations in seconds."""
    # Halved, so that the unit changes at two of it: 90 s stay seconds, 120 s become 2 min.
    return _fitting_unit((value / 2 for value in values), _TIME_UNITS)


def format_duration(seconds: float) -> str:
    """Format as ``41 s``, ``3.2 min`` or ``1.5 h``."""
    if not math.isfinite(seconds):
        return MISSING
    factor, unit = time_unit((seconds,))
    digits = 2 if seconds < 100 * factor else 3
    return f"{format_significant(seconds / factor, digits)} {unit}"


def typeset_minus_signs(sentence: str) -> str:
    """Replace hyphens before numbers by true minus signs."""
    # Not after a word, number or bracket, where it is a hyphen or a range: `VGG-16`, `3-5`.
    return re.sub(r"(?<![\w.)\]])-(?=\d)", MINUS, sentence)


def explain_finding(finding: str, reason: str) -> str:
    """The finding of a verdict in a sentence, then those clauses of its reason that the finding lacks."""
    return f"{finding}. {further_reason(reason, finding)}".rstrip()


def further_reason(reason: str, finding: str) -> str:
    """Those clauses of a verdict's reason that its finding lacks, as a sentence; empty where it has them all."""
    clauses = [clause for clause in reason.split("; ") if clause not in finding]
    return f"{capitalize_first('; '.join(clauses))}." if clauses else ""


def to_single_line(words: str) -> str:
    """Remove line breaks, repeated spaces and unprintable characters; no-break spaces stay."""
    printed = "".join(letter if letter.isprintable() or letter == NO_BREAK_SPACE else " " for letter in words)
    return re.sub(r" +", " ", printed).strip(" ")


def format_contrast(over: str, arm: str) -> str:
    """Format a contrast as ``over → arm``; names of several words allow a line break before the arrow."""
    if " " not in over + arm:
        return f"{over}{NO_BREAK_SPACE}→{NO_BREAK_SPACE}{arm}"
    return f"{_prevent_breaks(over)} →{NO_BREAK_SPACE}{_prevent_breaks(arm)}"


def _prevent_breaks(name: str) -> str:
    """Make the spaces of a short name unbreakable."""
    return name.replace(" ", NO_BREAK_SPACE) if len(name) <= MAX_UNBROKEN_LENGTH else name


def condense_findings(findings: Iterable[tuple[str, str]]) -> list[str]:
    """Write findings as ``subject: text``; more than five are grouped by their text and counted.

    A study of 40 arms has 39 differences or more, and a list of them all would hide what it says.

    Args:
        findings: subject and text; an empty subject is left out.
    """
    distinct = list(dict.fromkeys(findings))
    if len(distinct) <= MAX_FINDINGS:
        return [f"{subject}: {text}" if subject else text for subject, text in distinct]
    subjects_by_text: dict[str, list[str]] = {}
    for subject, text in distinct:
        subjects_by_text.setdefault(text, []).append(subject)
    condensed = []
    # The most frequent first: it says most about the study.
    for text, subjects in sorted(subjects_by_text.items(), key=lambda group: -len(group[1])):
        if len(subjects) > 1:
            condensed.append(f"{text} (in {len(subjects)} of {len(distinct)} cases)")
        else:
            condensed.append(f"{subjects[0]}: {text}" if subjects[0] else text)
    if len(condensed) > MAX_FINDINGS:
        num_hidden = len(condensed) - MAX_FINDINGS + 1
        condensed[MAX_FINDINGS - 1 :] = [f"{num_hidden} further findings: see the tables"]
    return condensed


def _fitting_unit(values: Iterable[float], units: tuple[tuple[float, str], ...]) -> tuple[float, str]:
    """Return the largest unit that is not above the smallest value."""
    smallest = min(_nonzero_magnitudes(values), default=1.0)
    for factor, name in units:
        if smallest >= factor:
            return factor, name
    return units[-1]


def _nonzero_magnitudes(values: Iterable[float]) -> list[float]:
    return [abs(value) for value in values if math.isfinite(value) and value]
